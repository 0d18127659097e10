//! Node's formats as the hub speaks them: one server more among those that use a Redis adapter.

use std::borrow::Cow;
use std::collections::VecDeque;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::base::ids::{ShardId, Sid};
use crate::base::time::Time;
use crate::bus;
use crate::bus::nodejs::answers::{Asked, Asking, Gathered, Owed, Question, answers_of};
use crate::bus::nodejs::{Answer, Broadcast, Format, Message, Payload, Uid, Wants};
use crate::bus::{Channel, Delivery, Foreign, Post, Told};
use crate::mesh::link::Said;
use crate::message::inquiry::{AnswerText, Ask, Findings, Inquiry};
use crate::message::names::Names;
use crate::message::target::{Reach, SocketChange, SocketCommand, Target};
use crate::protocol::socketio::frames::FramedEvent;

/// Namespaces that are heard at most: those that were registered, and those of patterns that have members.
const NAMESPACES_MAX: usize = 1024;

/// The speaker of one format of one link.
pub(crate) struct Node {
    format: Format,
    asked: Asked,
    owed: Owed,
    /// What is asked for each ticket of ours that is not paid: the kind of answer.
    owing: FxHashMap<u64, Kind>,
    /// What is heard: registered namespaces for good, others while they have members, by the number of shards that have some.
    namespaces: FxHashMap<String, u32>,
    registered: FxHashSet<String>,
    /// Rooms with members, by the number of shards that have some; for the format that has a channel for each.
    rooms: FxHashMap<(String, String), u32>,
    add: Vec<Channel>,
    remove: Vec<Channel>,
    /// Node servers of each namespace, as last counted.
    servers: FxHashMap<String, u64>,
    /// The id that a question was for, if it was for one.
    asked_sids: FxHashMap<u64, Sid>,
}

/// What is owed.
#[derive(Clone, Copy)]
enum Kind {
    Clients,
    Sockets,
    Ids,
    Rooms,
}

impl Node {
    pub(crate) fn new(format: Format, uid: Uid, registered: impl IntoIterator<Item = String>) -> Node {
        Node {
            format,
            asked: Asked::new(uid),
            owed: Owed::default(),
            owing: FxHashMap::default(),
            namespaces: FxHashMap::default(),
            registered: registered.into_iter().collect(),
            rooms: FxHashMap::default(),
            add: Vec::new(),
            remove: Vec::new(),
            servers: FxHashMap::default(),
            asked_sids: FxHashMap::default(),
        }
    }

    /// Writes a message; what the format cannot say is not for Node.
    fn write(&self, namespace: &str, message: &Message, posts: &mut VecDeque<Post>) -> bool {
        let post = self.format.write(namespace, message);
        let is_written = post.is_ok();
        posts.extend(post);
        is_written
    }

    /// A namespace, or one of its rooms, has members on one shard more, or on one less.
    fn note(&mut self, namespace: &str, room: Option<&str>, is_held: bool) {
        let (is_change, channels) = match room {
            Some(room) => {
                let Some(channel) = self.format.room_channel(namespace, room) else { return };
                let key = (namespace.to_owned(), room.to_owned());
                (step(&mut self.rooms, key, is_held), vec![channel])
            }
            None if self.registered.contains(namespace) => return,
            None if is_held && self.namespaces.len() >= NAMESPACES_MAX => return,
            None => {
                let channels = self.format.channels(namespace);
                (step(&mut self.namespaces, namespace.to_owned(), is_held), channels)
            }
        };
        if is_change {
            if is_held { &mut self.add } else { &mut self.remove }.extend(channels);
        }
    }

    fn change(&self, command: &SocketCommand, posts: &mut VecDeque<Post>) -> Told {
        let target = command.target.clone();
        let rooms = |room: &String| std::iter::once(room.as_str()).collect::<Names>();
        let message = match &command.change {
            SocketChange::Join(room) => Message::Join { target, rooms: rooms(room) },
            SocketChange::Leave(room) => Message::Leave { target, rooms: rooms(room) },
            SocketChange::Disconnect { close_session } => {
                Message::Disconnect { target, close: *close_session }
            }
        };
        if self.write(command.namespace.name(), &message, posts) { Told::Said } else { Told::Nothing }
    }

    fn ask(&mut self, inquiry: &Inquiry, number: u64, now: Time, posts: &mut VecDeque<Post>) -> Told {
        let namespace = inquiry.namespace.name();
        let servers = self.servers.get(namespace).copied().unwrap_or_default() as usize;
        let question = match &inquiry.ask {
            Ask::Answers { .. } => Question::Clients,
            Ask::Sockets | Ask::Ids | Ask::Count => Question::Sockets,
            // Node says which rooms there are, and not how many are in them.
            Ask::Rooms | Ask::Census => return Told::Nothing,
        };
        let Asking::As(request) = self.asked.ask(question, servers, now + inquiry.timeout, number) else {
            return Told::Nothing;
        };
        let target = inquiry.target.clone();
        let message = match &inquiry.ask {
            Ask::Answers { frame, .. } => {
                let Ok(event) = FramedEvent::split(frame) else { return self.not_asked(number) };
                let wants = Some(Wants { request, timeout: inquiry.timeout });
                Message::Broadcast(Broadcast { target, event: Payload::of_event(&event), wants })
            }
            _ => Message::Fetch { request, target },
        };
        if !self.write(namespace, &message, posts) {
            return self.not_asked(number);
        }
        let mut rooms = inquiry.target.rooms.iter();
        if let (Some(room), None) = (rooms.next(), rooms.next())
            && let Some(sid) = Sid::parse(room)
        {
            self.asked_sids.insert(number, sid);
        }
        Told::Asked
    }

    fn not_asked(&mut self, number: u64) -> Told {
        self.asked.forget(number);
        Told::Nothing
    }

    /// What Node's servers have found out, in our words.
    fn found(&mut self, gathered: Gathered) -> bus::Heard {
        // Node does not say whose answer it is.
        let nobody = Sid::new(ShardId(0), [0; 13]);
        let sid = self.asked_sids.remove(&gathered.ticket).unwrap_or(nobody);
        let text = |payload: Option<Payload>| {
            let Payload { json, attachments } = payload.unwrap_or_default();
            (sid, AnswerText { json, attachments })
        };
        let findings = Findings {
            answers: gathered.answers.into_iter().map(text).collect(),
            ids: gathered.sockets.iter().map(|socket| socket.sid).collect(),
            count: gathered.sockets.len() as u64,
            sockets: gathered.sockets,
            is_cut: gathered.is_cut,
            processes_missing: vec!["a Node server".to_owned(); gathered.servers_missing],
            ..Findings::default()
        };
        bus::Heard::Found { question: gathered.ticket, findings, is_last: true }
    }

    fn hear_message(
        &mut self,
        heard: super::Heard,
        now: Time,
        out: &mut Vec<bus::Heard>,
    ) -> Result<(), Cow<'static, str>> {
        let due = self.owed.owe(&heard, now);
        let is_asking = heard.is_asking();
        let super::Heard { namespace, message, .. } = heard;
        let changes = |namespace: &str, target: &Target, rooms: &Names, of: fn(String) -> SocketChange| {
            let change = |room: &str| bus::Heard::Change {
                namespace: namespace.to_owned(),
                target: here(target.clone()),
                change: of(room.to_owned()),
            };
            rooms.iter().map(change).collect::<Vec<_>>()
        };
        let (target, ask, kind) = match message {
            Message::Broadcast(Broadcast { target, event, wants }) => {
                let mut frame = Vec::new();
                event.append_frames(&mut frame, &namespace).map_err(|fault| Cow::Borrowed(fault.reason()))?;
                if wants.is_none() {
                    out.push(bus::Heard::Emit { namespace, target: here(target), frame });
                    return Ok(());
                }
                (target, Ask::Answers { id: 0, frame: frame.into() }, Kind::Clients)
            }
            Message::Join { target, rooms } => {
                out.extend(changes(&namespace, &target, &rooms, SocketChange::Join));
                return Ok(());
            }
            Message::Leave { target, rooms } => {
                out.extend(changes(&namespace, &target, &rooms, SocketChange::Leave));
                return Ok(());
            }
            Message::Disconnect { target, close } => {
                let change = SocketChange::Disconnect { close_session: close };
                out.push(bus::Heard::Change { namespace, target: here(target), change });
                return Ok(());
            }
            Message::Reply(reply) => {
                if let Some(gathered) = self.asked.receive(reply) {
                    let found = self.found(gathered);
                    out.push(found);
                }
                return Ok(());
            }
            Message::Fetch { target, .. } => (target, Ask::Sockets, Kind::Sockets),
            Message::Ids { target, .. } => (target, Ask::Ids, Kind::Ids),
            Message::AllRooms { .. } => {
                (Target { is_everyone: true, ..Target::default() }, Ask::Rooms, Kind::Rooms)
            }
            Message::ServerSide { .. } => return Ok(()),
        };
        let Some(due) = due else {
            debug_assert!(is_asking, "what is not asked is done above");
            return Err("more answers are owed to Node already than are kept".into());
        };
        self.owing.insert(due.number, kind);
        let timeout = Some(due.patience);
        out.push(bus::Heard::Ask { namespace, target: here(target), ask, timeout, ticket: due.number });
        Ok(())
    }
}

impl Foreign for Node {
    fn name(&self) -> &'static str {
        "Node servers"
    }

    fn is_of(&self, channel: &Channel) -> bool {
        self.format.has(channel)
    }

    fn connected(&mut self) -> Vec<Channel> {
        (self.add, self.remove) = (Vec::new(), Vec::new());
        let namespaces = self.registered.iter().chain(self.namespaces.keys());
        let mut channels: Vec<Channel> = namespaces.flat_map(|name| self.format.channels(name)).collect();
        let rooms = self.rooms.keys();
        channels.extend(rooms.filter_map(|(namespace, room)| self.format.room_channel(namespace, room)));
        channels
    }

    fn take_changes(&mut self, add: &mut Vec<Channel>, remove: &mut Vec<Channel>) {
        // What came and went meanwhile is not heard in the end, whichever of the two is done first.
        let gone: FxHashSet<Channel> = self.remove.iter().cloned().collect();
        add.extend(self.add.drain(..).filter(|channel| !gone.contains(channel)));
        remove.append(&mut self.remove);
    }

    fn counted(&self) -> Vec<Channel> {
        self.registered
            .iter()
            .chain(self.namespaces.keys())
            .map(|name| self.format.count_channel(name))
            .collect()
    }

    fn count(&mut self, counts: &[u64], own: u64) {
        let names = self.registered.iter().chain(self.namespaces.keys()).cloned();
        self.servers = names.zip(counts).map(|(name, count)| (name, count.saturating_sub(own))).collect();
    }

    fn say(&mut self, said: &Said, question: Option<u64>, now: Time, posts: &mut VecDeque<Post>) -> Told {
        match said {
            Said::Emit(broadcast) => {
                let Ok(event) = FramedEvent::split(&broadcast.frame) else { return Told::Nothing };
                let (target, event) = (broadcast.target.clone(), Payload::of_event(&event));
                let message = Message::Broadcast(Broadcast { target, event, wants: None });
                if self.write(broadcast.namespace.name(), &message, posts) {
                    Told::Said
                } else {
                    Told::Nothing
                }
            }
            Said::Change(command) => self.change(command, posts),
            Said::Ask(inquiry) => match question {
                Some(number) => self.ask(inquiry, number, now, posts),
                None => Told::Nothing,
            },
            Said::Room { namespace, room, is_held } => {
                self.note(namespace.name(), room.as_deref(), *is_held);
                Told::Nothing
            }
        }
    }

    fn hear(
        &mut self,
        delivery: &Delivery,
        now: Time,
        _posts: &mut VecDeque<Post>,
        heard: &mut Vec<bus::Heard>,
    ) -> Result<(), Cow<'static, str>> {
        match self.format.read(delivery) {
            Ok(Some(message)) => self.hear_message(message, now, heard),
            Ok(None) => Ok(()),
            Err(fault) => Err(fault.to_string().into()),
        }
    }

    fn answer(&mut self, ticket: u64, findings: Findings, posts: &mut VecDeque<Post>) {
        let Some(kind) = self.owing.remove(&ticket) else { return };
        let names = |texts: &mut dyn Iterator<Item = &str>| texts.collect::<Names>();
        let answers = match kind {
            Kind::Clients => answers_of(findings),
            Kind::Sockets => vec![Answer::Sockets(findings.sockets)],
            Kind::Ids => vec![Answer::Ids(names(&mut findings.ids.iter().map(Sid::as_str)))],
            Kind::Rooms => vec![Answer::Rooms(names(&mut findings.rooms.keys().map(String::as_str)))],
        };
        let Some(payment) = self.owed.pay(ticket, answers, true) else { return };
        for reply in &payment.replies {
            posts.extend(self.format.reply(&payment.namespace, &payment.to, reply));
        }
    }

    fn forget(&mut self, question: u64) {
        self.asked.forget(question);
        self.asked_sids.remove(&question);
    }

    fn next_timeout(&self) -> Time {
        self.asked.next_timeout().unwrap_or(Time::NEVER)
    }

    fn handle_timeout(&mut self, now: Time, _posts: &mut VecDeque<Post>, heard: &mut Vec<bus::Heard>) {
        for gathered in self.asked.handle_timeout(now) {
            let found = self.found(gathered);
            heard.push(found);
        }
        // A ticket that is late has nobody who waits for it.
        self.owed.forget_late(now);
    }
}

/// The same sockets, of this process only.
fn here(target: Target) -> Target {
    Target { reach: Reach::Process, ..target }
}

/// Counts one more or one less; true if it is the first or the last.
fn step<K: std::hash::Hash + Eq>(counts: &mut FxHashMap<K, u32>, key: K, is_held: bool) -> bool {
    if is_held {
        let count = counts.entry(key).or_default();
        *count += 1;
        return *count == 1;
    }
    let Some(count) = counts.get_mut(&key) else { return false };
    *count -= 1;
    let is_last = *count == 0;
    if is_last {
        counts.remove(&key);
    }
    is_last
}
