//! Node's formats as the hub speaks them: one server more among those that use a Redis adapter.
//!
//! How many of Node's servers there are is known by counting: subscribers of the format's channel, less those of a second one
//! that shardcast processes hear with it. As long as that is not known, Node is not asked. A server-side event that asks for an
//! answer gets one at once, empty if there is no handler for it here: a Node server without a handler lets the asker wait in vain.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rustc_hash::{FxHashMap, FxHashSet};

use crate::base::ids::{ShardId, Sid};
use crate::base::time::Time;
use crate::bus;
use crate::bus::nodejs::answers::{Asked, Asking, Gathered, Owed, Payment, Question};
use crate::bus::nodejs::{Broadcast, Format, Message, Payload, Uid, Wants};
use crate::bus::{Channel, Delivery, Foreign, Post, Told};
use crate::mesh::link::Said;
use crate::message::inquiry::{AckError, AnswerText, Ask, Findings, Inquiry};
use crate::message::names::Names;
use crate::message::target::{Reach, SocketChange, SocketCommand, Target};
use crate::protocol::socketio::frames::FramedEvent;

/// Namespaces that are heard at most: those that were registered, and those of patterns that have members.
const NAMESPACES_MAX: usize = 1024;

/// Namespaces whose servers are counted, the first by name. In others Node is not asked.
const NAMESPACES_COUNTED_MAX: usize = 1024;

/// Clients of Node that have not answered, of which the asker is told: their number is another server's word.
const MISSING_MAX: u64 = 64 * 1024;

/// Why a question of Node's is not answered.
const TOO_MANY_OWED: &str = "more answers are owed to Node already than are kept";

/// What of an asker's time Node's servers have to describe sockets: the hub waits a little longer, the shard that asks longer still.
const FACTS_SHARE: (u32, u32) = (8, 10);

/// The speaker of one format of one link.
pub(crate) struct Node {
    format: Format,
    asked: Asked,
    owed: Owed,
    /// What is heard: registered namespaces for good, others while they have members, by the number of shards that have some.
    namespaces: BTreeMap<String, u32>,
    registered: BTreeSet<String>,
    /// Rooms with members, by the number of shards that have some; for the format that has a channel for each.
    rooms: BTreeMap<(String, String), u32>,
    add: FxHashSet<Channel>,
    remove: FxHashSet<Channel>,
    /// Node servers of each namespace, as last counted.
    servers: FxHashMap<String, u64>,
    /// The id that a question was for, if it was for one.
    asked_sids: FxHashMap<u64, Sid>,
}

impl Node {
    pub(crate) fn new(format: Format, uid: Uid, registered: impl IntoIterator<Item = String>) -> Node {
        Node {
            format,
            asked: Asked::new(uid),
            owed: Owed::default(),
            namespaces: BTreeMap::new(),
            registered: registered.into_iter().collect(),
            rooms: BTreeMap::new(),
            add: FxHashSet::default(),
            remove: FxHashSet::default(),
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

    /// What is heard for a namespace besides its rooms; the mark first, so that this process is not taken for Node.
    fn channels(&self, namespace: &str) -> Vec<Channel> {
        let mut channels = vec![self.format.mark_channel(namespace)];
        channels.extend(self.format.channels(namespace));
        channels
    }

    /// All namespaces that are heard.
    fn heard(&self) -> impl Iterator<Item = &String> {
        self.registered.iter().chain(self.namespaces.keys())
    }

    fn hears(&self, namespace: &str) -> bool {
        self.registered.contains(namespace) || self.namespaces.contains_key(namespace)
    }

    /// A namespace, or one of its rooms, has members on one shard more, or on one less.
    fn note(&mut self, namespace: &str, room: Option<&str>, is_held: bool) {
        let is_known = self.namespaces.contains_key(namespace);
        let (is_change, channels) = match room {
            Some(room) => {
                let Some(channel) = self.format.room_channel(namespace, room) else { return };
                let key = (namespace.to_owned(), room.to_owned());
                (step(&mut self.rooms, key, is_held), vec![channel])
            }
            None if self.registered.contains(namespace) => return,
            None if is_held && !is_known && self.namespaces.len() >= NAMESPACES_MAX => return,
            None => {
                let channels = self.channels(namespace);
                (step(&mut self.namespaces, namespace.to_owned(), is_held), channels)
            }
        };
        if !is_change {
            return;
        }
        let (to, from) = match is_held {
            true => (&mut self.add, &mut self.remove),
            false => (&mut self.remove, &mut self.add),
        };
        for channel in channels {
            // What comes and goes between two looks is no change.
            if !from.remove(&channel) {
                to.insert(channel);
            }
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
            Ask::Servers(_) => Question::Server,
            // Node says which rooms there are, and not how many are in them; and not when a change is made.
            Ask::Rooms | Ask::Census | Ask::Overview(_) | Ask::Settled(_) => return Told::Nothing,
        };
        let deadline = match question {
            Question::Clients => now + inquiry.timeout,
            _ => now + inquiry.timeout * FACTS_SHARE.0 / FACTS_SHARE.1,
        };
        let Asking::As(request) = self.asked.ask(question, servers, deadline, number) else {
            return Told::Nothing;
        };
        let target = inquiry.target.clone();
        let message = match &inquiry.ask {
            Ask::Answers { frame, .. } => {
                let Ok(event) = FramedEvent::split(frame) else { return self.not_asked(number) };
                let wants = Some(Wants { request, timeout: inquiry.timeout });
                Message::Broadcast(Broadcast { target, event: Payload::of_event(&event), wants })
            }
            Ask::Servers(event) => {
                Message::ServerSide { request: Some(request), event: Payload::of_server_event(event) }
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
            AnswerText { json, attachments }
        };
        let (servers, clients) = match gathered.question {
            Question::Server => (gathered.answers, Vec::new()),
            _ => (Vec::new(), gathered.answers),
        };
        let silent = gathered.clients.saturating_sub(clients.len() as u64).min(MISSING_MAX);
        let findings = Findings {
            missing: vec![(sid, AckError::Timeout); silent as usize],
            answers: clients.into_iter().map(|answer| (sid, text(answer))).collect(),
            servers: servers.into_iter().map(|answer| ("a Node server".to_owned(), text(answer))).collect(),
            ids: gathered.sockets.iter().map(|socket| socket.sid).collect(),
            count: gathered.sockets.len() as u64,
            sockets: gathered.sockets,
            is_cut: gathered.is_cut,
            processes_missing: vec![
                "a Node server".to_owned();
                gathered.servers_missing.min(MISSING_MAX as usize)
            ],
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
        let (target, ask) = match message {
            Message::Broadcast(Broadcast { target, event, wants }) => {
                let mut frame = Vec::new();
                event.append_frames(&mut frame, &namespace).map_err(|fault| Cow::Borrowed(fault.reason()))?;
                if wants.is_none() {
                    out.push(bus::Heard::Emit { namespace, target: here(target), frame });
                    return Ok(());
                }
                (target, Ask::Answers { id: 0, frame: frame.into() })
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
            Message::Fetch { target, .. } => (target, Ask::Sockets),
            Message::Ids { target, .. } => (target, Ask::Ids),
            Message::AllRooms { .. } => (Target { is_everyone: true, ..Target::default() }, Ask::Rooms),
            Message::ServerSide { request, event } => {
                let ticket = due.map(|due| due.number);
                if request.is_some() && ticket.is_none() {
                    return Err(TOO_MANY_OWED.into());
                }
                let (name, args) =
                    event.into_server_event().map_err(|fault| Cow::Borrowed(fault.reason()))?;
                out.push(bus::Heard::ServerEvent { namespace, name, args, ticket });
                return Ok(());
            }
        };
        let Some(due) = due else {
            debug_assert!(is_asking, "what is not asked is done above");
            return Err(TOO_MANY_OWED.into());
        };
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
        (self.add, self.remove) = (FxHashSet::default(), FxHashSet::default());
        let mut channels: Vec<Channel> = self.heard().flat_map(|name| self.channels(name)).collect();
        let rooms = self.rooms.keys();
        channels.extend(rooms.filter_map(|(namespace, room)| self.format.room_channel(namespace, room)));
        channels
    }

    fn take_changes(&mut self, add: &mut Vec<Channel>, remove: &mut Vec<Channel>) {
        add.extend(self.add.drain());
        remove.extend(self.remove.drain());
    }

    fn counted(&self) -> Vec<Channel> {
        let pair = |name: &String| [self.format.count_channel(name), self.format.mark_channel(name)];
        self.heard().take(NAMESPACES_COUNTED_MAX).flat_map(pair).collect()
    }

    /// Not all of our processes hear all namespaces, so their number says too little.
    fn count(&mut self, counts: &[u64], _own: u64) {
        // Since they were counted a namespace may have come or gone; and some brokers do not tell.
        if counts.len() != self.counted().len() {
            return;
        }
        let pairs = counts.chunks_exact(2).map(|pair| pair[0].saturating_sub(pair[1]));
        self.servers = self.heard().cloned().zip(pairs).collect();
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
            Said::Change(told) => self.change(&told.command, posts),
            Said::Ask(inquiry) => match question {
                Some(number) => self.ask(inquiry, number, now, posts),
                None => Told::Nothing,
            },
            Said::ServerEvent(event) => {
                let message = Message::ServerSide { request: None, event: Payload::of_server_event(event) };
                if self.write(event.namespace.name(), &message, posts) { Told::Said } else { Told::Nothing }
            }
            Said::State(_) => Told::Nothing,
            Said::Room { namespace, room, is_held } => {
                self.note(namespace.name(), room.as_deref(), *is_held);
                Told::Nothing
            }
            Said::Far { .. } | Said::Left { .. } => Told::Nothing,
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
            Ok(Some(message)) if self.hears(&message.namespace) => self.hear_message(message, now, heard),
            // A stream has the messages of all namespaces.
            Ok(_) => Ok(()),
            Err(fault) => Err(fault.to_string().into()),
        }
    }

    fn answer(&mut self, ticket: u64, findings: Findings, posts: &mut VecDeque<Post>) {
        let Some(Payment { namespace, to, replies }) = self.owed.settle(ticket, findings) else { return };
        posts.extend(replies.iter().filter_map(|reply| self.format.reply(&namespace, &to, reply).ok()));
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
fn step<K: Ord>(counts: &mut BTreeMap<K, u32>, key: K, is_held: bool) -> bool {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use crate::base::ids::NodeTag;
    use crate::base::slab::Key;
    use crate::bus::Body;
    use crate::config::queue::NODE_KEY_DEFAULT;
    use crate::config::queue::formats::QueueFormat;
    use crate::message::address::Address;
    use crate::message::server_event::ServerEvent;
    use crate::message::target::Broadcast as Emit;

    use super::super::vectors::{classic, messages, sockets, streams};
    use super::super::{Answer, Reply, RequestId};
    use super::*;
    use crate::message::target::ToldChange;

    const TAG: NodeTag = NodeTag([0x0a, 0x1b, 0x2c]);

    fn node(format: QueueFormat) -> Node {
        let uid = Uid::new(TAG);
        Node::new(Format::new(format, NODE_KEY_DEFAULT, uid.clone()).unwrap(), uid, ["/".to_owned()])
    }

    fn hear(node: &mut Node, post: Post) -> Result<Vec<bus::Heard>, Cow<'static, str>> {
        let delivery = Delivery { channel: post.channel, body: post.body, offset: None };
        let (mut posts, mut heard) = (VecDeque::new(), Vec::new());
        let result = node.hear(&delivery, Time(0), &mut posts, &mut heard);
        assert!(posts.is_empty());
        result.map(|()| heard)
    }

    fn say(node: &mut Node, said: &Said) -> Vec<Post> {
        let mut posts = VecDeque::new();
        node.say(said, None, Time(0), &mut posts);
        posts.into()
    }

    fn room(namespace: &str, room: Option<&str>, is_held: bool) -> Said {
        Said::Room { namespace: Address::new(None, namespace), room: room.map(str::to_owned), is_held }
    }

    fn changes(node: &mut Node) -> (FxHashSet<Channel>, FxHashSet<Channel>) {
        let (mut add, mut remove) = (Vec::new(), Vec::new());
        node.take_changes(&mut add, &mut remove);
        (add.into_iter().collect(), remove.into_iter().collect())
    }

    #[test]
    fn namespaces_and_rooms_are_heard_while_they_have_members_on_a_shard() {
        let mut node = node(QueueFormat::NodeSharded);
        let of = |name: &str| Channel::Sharded(name.into());
        let root =
            [of("shardcast.node.socket.io#/#"), of("socket.io#/#shardcast-0a1b2c#"), of("socket.io#/#")];
        assert_eq!(node.connected(), root);
        assert_eq!(node.counted(), [of("socket.io#/#"), of("shardcast.node.socket.io#/#")]);
        let game =
            [of("shardcast.node.socket.io#/g#"), of("socket.io#/g#shardcast-0a1b2c#"), of("socket.io#/g#")];
        for (said, added, removed) in [
            (room("/g", None, true), &game[..], &[][..]),
            (room("/g", None, true), &[], &[]),
            (room("/g", Some("r"), true), &[of("socket.io#/g#r#")], &[]),
            (room("/g", Some("r"), true), &[], &[]),
            (room("/g", Some("twenty-letters-long-"), true), &[], &[]),
            (room("/g", Some("r"), false), &[], &[]),
            (room("/g", Some("r"), false), &[], &[of("socket.io#/g#r#")]),
            (room("/g", None, false), &[], &[]),
            (room("/g", None, false), &[], &game),
            (room("/", None, true), &[], &[]),
            (room("/", None, false), &[], &[]),
        ] {
            assert_eq!(say(&mut node, &said), []);
            let set = |channels: &[Channel]| channels.iter().cloned().collect::<FxHashSet<_>>();
            assert_eq!(changes(&mut node), (set(added), set(removed)), "{said:?}");
        }
        // What comes and goes between two looks is nothing.
        say(&mut node, &room("/g", None, true));
        say(&mut node, &room("/g", None, false));
        assert_eq!(changes(&mut node), Default::default());
        // Left and entered again, a room is heard on.
        say(&mut node, &room("/", Some("x"), true));
        changes(&mut node);
        say(&mut node, &room("/", Some("x"), false));
        say(&mut node, &room("/", Some("x"), true));
        assert_eq!(changes(&mut node), Default::default());
        say(&mut node, &room("/", Some("r"), true));
        assert_eq!(node.connected().len(), root.len() + 2);
        assert_eq!(changes(&mut node), Default::default(), "a connection hears them already");
    }

    #[test]
    fn what_is_said_goes_to_node_and_what_node_says_comes() {
        let mut node = node(QueueFormat::NodeStreams);
        let theirs = streams("296ae2935bf7a997");
        let namespace = Address::new(None, "/");
        for (name, message) in messages() {
            let post = theirs.write("/", &message);
            let heard = post.map(|post| hear(&mut node, post).unwrap()).unwrap_or_default();
            let said = match (&message, &*heard) {
                (Message::Broadcast(event), [bus::Heard::Emit { target, frame, .. }]) => {
                    assert_eq!(*target, here(event.target.clone()), "{name}");
                    let (namespace, target) = (namespace.clone(), target.clone());
                    let frame = Arc::new(frame.clone());
                    Said::Emit(Arc::new(Emit { namespace, target, frame, ..Emit::default() }))
                }
                (Message::Join { .. }, changes) => {
                    assert_eq!(changes.len(), 2, "one for each room");
                    continue;
                }
                (
                    Message::Leave { .. } | Message::Disconnect { .. },
                    [bus::Heard::Change { target, change, .. }],
                ) => {
                    let (namespace, target, change) = (namespace.clone(), target.clone(), change.clone());
                    Said::Change(ToldChange::new(SocketCommand { namespace, target, change }))
                }
                (
                    Message::ServerSide { request: None, .. },
                    [bus::Heard::ServerEvent { name, args, ticket: None, .. }],
                ) => {
                    let (namespace, name, args) = (namespace.clone(), name.clone(), args.clone());
                    Said::ServerEvent(Arc::new(ServerEvent { namespace, name, args }))
                }
                (Message::ServerSide { .. }, heard) => {
                    assert!(matches!(heard, [bus::Heard::ServerEvent { ticket: Some(_), .. }]), "{name}");
                    continue;
                }
                (Message::Broadcast(Broadcast { wants: Some(_), .. }) | Message::Fetch { .. }, heard) => {
                    assert!(matches!(heard, [bus::Heard::Ask { .. }]), "{name}: {heard:?}");
                    continue;
                }
                (_, heard) => {
                    assert!(heard.is_empty(), "{name}: {heard:?}");
                    continue;
                }
            };
            let posts = say(&mut node, &said);
            let expected = node.format.write("/", &message).unwrap();
            assert_eq!(posts, std::slice::from_ref(&expected), "{name}");
            assert!(hear(&mut node, expected).unwrap().is_empty(), "{name}: the others of ours leave it");
        }
        let elsewhere = theirs.write("/other", &messages()[0].1).unwrap();
        assert!(hear(&mut node, elsewhere).unwrap().is_empty(), "a namespace that is not here");
        let garbage = Body::Fields(vec![(Cow::Borrowed("nsp"), bytes::Bytes::from_static(b"/"))]);
        let garbage = Post { channel: Channel::Stream("socket.io".into()), body: garbage, may_repeat: false };
        assert_eq!(hear(&mut node, garbage).map(drop), Err("no type".into()));
    }

    fn inquiry(ask: Ask) -> Said {
        let timeout = Duration::from_secs(5);
        let target = Target { is_everyone: true, ..Target::default() };
        let number = Key { index: 0, generation: 0 };
        let namespace = Address::new(None, "/");
        Said::Ask(Arc::new(Inquiry { namespace, target, ask, timeout, home: ShardId(0), number }))
    }

    /// Asks, and gives the id that the servers answer to.
    fn ask(node: &mut Node, ask: Ask, number: u64) -> RequestId {
        let mut posts = VecDeque::new();
        assert_eq!(node.say(&inquiry(ask), Some(number), Time(0), &mut posts), Told::Asked);
        assert_eq!(posts.len(), 1);
        format!("shardcast-0a1b2c-{:x}", number - 1).into()
    }

    fn answered(node: &mut Node, request: &RequestId, answer: Answer) -> Option<Findings> {
        let reply = Reply { request: request.clone(), answer };
        let post = classic("S2a_99").reply("/", "shardcast-0a1b2c", &reply).unwrap();
        match hear(node, post).unwrap().pop() {
            Some(bus::Heard::Found { findings, is_last: true, .. }) => Some(findings),
            None => None,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn node_is_asked_once_its_servers_have_been_counted() {
        let mut node = node(QueueFormat::Node);
        let mut posts = VecDeque::new();
        for counts in [&[][..], &[3, 3], &[2, 9], &[3, 1, 7]] {
            node.count(counts, 1);
            assert_eq!(
                node.say(&inquiry(Ask::Sockets), Some(1), Time(0), &mut posts),
                Told::Nothing,
                "{counts:?}"
            );
        }
        // Two are of ours.
        node.count(&[4, 2], 1);
        for (number, kind) in [(1, Ask::Sockets), (2, Ask::Ids), (3, Ask::Count)] {
            let request = ask(&mut node, kind, number);
            assert_eq!(node.next_timeout(), Time(4000));
            assert_eq!(answered(&mut node, &request, sockets()), None, "of two");
            let findings = answered(&mut node, &request, sockets()).unwrap();
            let found = (findings.sockets.len(), findings.ids.len(), findings.count);
            assert_eq!((found, findings.processes_missing.len()), ((2, 2, 2), 0));
        }
        assert_eq!(node.say(&inquiry(Ask::Rooms), Some(4), Time(0), &mut posts), Told::Nothing);
        assert_eq!(node.next_timeout(), Time::NEVER);
    }

    #[test]
    fn clients_of_node_answer_and_who_does_not_is_missing() {
        let mut node = node(QueueFormat::Node);
        node.count(&[2, 1], 1);
        let mut frame = Vec::new();
        let event = Payload { json: "[\"ask\",1]".to_owned(), attachments: Vec::new() };
        event.append_frames(&mut frame, "/").unwrap();
        let request = ask(&mut node, Ask::Answers { id: 7, frame: frame.into() }, 1);
        let value = |json: &str| Some(Payload { json: json.to_owned(), attachments: Vec::new() });
        assert_eq!(answered(&mut node, &request, Answer::Count(3)), None);
        assert_eq!(answered(&mut node, &request, Answer::Ack(value("\"a\""))), None);
        assert_eq!(answered(&mut node, &request, Answer::Ack(None)), None);
        let (mut posts, mut heard) = (VecDeque::new(), Vec::new());
        node.handle_timeout(Time(4999), &mut posts, &mut heard);
        assert!(heard.is_empty());
        node.handle_timeout(Time(5000), &mut posts, &mut heard);
        let Some(bus::Heard::Found { question: 1, findings, is_last: true }) = heard.pop() else {
            panic!("{heard:?}")
        };
        let unknown = Sid::parse("AAAAAAAAAAAAAAAAAAAA").unwrap();
        let text = |json: &str| AnswerText { json: json.to_owned(), attachments: Vec::new() };
        assert_eq!(findings.answers, [(unknown, text("\"a\"")), (unknown, text(""))]);
        assert_eq!(findings.missing, [(unknown, AckError::Timeout)]);
        assert!(findings.processes_missing.is_empty(), "the server has counted");
        // One that says nothing at all.
        ask(&mut node, Ask::Count, 2);
        node.handle_timeout(Time(4000), &mut posts, &mut heard);
        assert!(matches!(&heard[..], [bus::Heard::Found { question: 2, findings, .. }]
            if findings.processes_missing == ["a Node server"]));
        let late = ask(&mut node, Ask::Count, 3);
        node.forget(3);
        assert_eq!(answered(&mut node, &late, sockets()), None);
    }

    #[test]
    fn servers_ask_each_other() {
        let mut node = node(QueueFormat::Node);
        node.count(&[2, 1], 1);
        let text = |json: &str| AnswerText { json: json.to_owned(), attachments: Vec::new() };
        let value = |json: &str| Payload { json: json.to_owned(), attachments: Vec::new() };
        let namespace = Address::new(None, "/");
        let event = ServerEvent { namespace, name: "ask".to_owned(), args: text("\"x\"") };
        let request = ask(&mut node, Ask::Servers(Arc::new(event)), 1);
        let findings = answered(&mut node, &request, Answer::ServerSide(Some(value("5")))).unwrap();
        assert_eq!(findings.servers, [("a Node server".to_owned(), text("5"))]);
        assert!(findings.answers.is_empty());

        let handler = Findings { servers: vec![(String::new(), text("\"yes\",2"))], ..Findings::default() };
        let no_handler = Findings { shards_late: 1, ..Findings::default() };
        for (findings, expected) in [(handler, Some(value("\"yes\""))), (no_handler, None)] {
            let message =
                Message::ServerSide { request: Some("theirs".into()), event: value("[\"ask\",\"x\"]") };
            let heard = hear(&mut node, classic("S2a_99").write("/", &message).unwrap()).unwrap();
            let [bus::Heard::ServerEvent { name, args, ticket: Some(ticket), .. }] = &heard[..] else {
                panic!("{heard:?}")
            };
            assert_eq!((name.as_str(), args), ("ask", &text("\"x\"")));
            let mut posts = VecDeque::new();
            node.answer(*ticket, findings, &mut posts);
            let reply = Reply { request: "theirs".into(), answer: Answer::ServerSide(expected) };
            assert_eq!(posts, [node.format.reply("/", "S2a_99", &reply).unwrap()]);
        }
    }

    #[test]
    fn what_node_asks_is_answered_with_what_the_shards_find() {
        let mut node = node(QueueFormat::Node);
        let theirs = classic("S2a_99");
        let (_, asking) = messages().into_iter().find(|(name, _)| *name == "asking").unwrap();
        let target = Target { is_everyone: true, ..Target::default() };
        let fetch = Message::Fetch { request: "theirs".into(), target };
        let Answer::Sockets(described) = sockets() else { return };
        let sid = described[0].sid;
        let answer = AnswerText { json: "\"ok\",2".to_owned(), attachments: Vec::new() };
        let ok = Payload { json: "\"ok\"".to_owned(), attachments: Vec::new() };
        let rows = [
            (
                fetch,
                Findings { sockets: described.clone(), ..Findings::default() },
                vec![Answer::Sockets(described)],
            ),
            (
                asking,
                Findings { answers: vec![(sid, answer)], ..Findings::default() },
                vec![Answer::Count(1), Answer::Ack(Some(ok))],
            ),
        ];
        for (message, findings, expected) in rows {
            let heard = hear(&mut node, theirs.write("/", &message).unwrap()).unwrap();
            let [bus::Heard::Ask { ticket, timeout: Some(timeout), .. }] = &heard[..] else {
                panic!("{heard:?}")
            };
            assert!(*timeout < Duration::from_secs(5));
            let mut posts = VecDeque::new();
            node.answer(*ticket, findings, &mut posts);
            let request = match &message {
                Message::Fetch { request, .. } => request.clone(),
                _ => "shardcast-0a1b2c-7".into(),
            };
            let replies = expected.into_iter().map(|answer| Reply { request: request.clone(), answer });
            let expected: Vec<Post> =
                replies.map(|reply| node.format.reply("/", "S2a_99", &reply).unwrap()).collect();
            assert_eq!(Vec::from(posts), expected);
        }
    }
}
