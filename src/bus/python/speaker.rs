//! Python's format as the hub speaks it: which of our words Python has, and which of its words are ours.
//!
//! Python knows single sockets and rooms. What we say of rooms it hears as emits; joins, leaves and ends it hears of sockets that are
//! named by their ids, and of whole rooms that are closed. Exceptions are sockets there, so a room that is excepted is not.

use std::borrow::Cow;
use std::collections::VecDeque;

use bytes::Bytes;
use rustc_hash::FxHashMap;

use crate::base::ids::{ShardId, Sid};
use crate::base::time::Time;
use crate::bus::python::{Callback, Emit, Membership, Message, Options, Rooms, host_of, read, write};
use crate::bus::{Body, Channel, Delivery, Foreign, Heard, Post, Told};
use crate::mesh::link::Said;
use crate::message::inquiry::{AnswerText, Ask, Findings, Inquiry};
use crate::message::target::{Broadcast, Reach, SocketChange, SocketCommand, Target};
use crate::protocol::socketio::frames::FramedEvent;

/// How our processes are known to each other in this format: they have said it in their own as well.
const HOST_MARK: &str = "shardcast-";

/// A UUID in hexadecimal.
const OLD_ID_BYTES: usize = 32;

/// Python's answers that are awaited, and ours that Python awaits.
const CALLBACKS_MAX: usize = 4096;

/// The speaker of one link.
pub(crate) struct Python {
    host: String,
    options: Options,
    /// Who of Python waits for what this process' clients answer.
    owed: FxHashMap<u64, Owed>,
    tickets: u64,
    /// Questions of this process that Python may answer, with the one that was asked.
    asked: FxHashMap<u64, String>,
}

/// Where an answer goes.
struct Owed {
    host: String,
    callback: Callback<'static>,
}

impl Python {
    /// `id` is of this process; others do not have it.
    pub(crate) fn new(id: &str, options: Options) -> Python {
        let host = format!("{HOST_MARK}{id}");
        Python { host, options, owed: FxHashMap::default(), tickets: 0, asked: FxHashMap::default() }
    }

    fn post(&self, message: &Message<'_>) -> Post {
        let mut bytes = Vec::new();
        write(message, &mut bytes);
        Post { channel: Channel::Python, body: Body::Bytes(Bytes::from(bytes)), may_repeat: false }
    }

    fn emit(&self, broadcast: &Broadcast, posts: &mut VecDeque<Post>) -> Told {
        // Frames of this process are events.
        let Ok(event) = FramedEvent::split(&broadcast.frame) else { return Told::Nothing };
        let target = &broadcast.target;
        let emit = Emit {
            rooms: rooms_of(target),
            skip: target.except.iter().map(Cow::Borrowed).collect(),
            host_id: Some(Cow::Borrowed(&self.host)),
            ..Emit::of_event(event)
        };
        posts.push_back(self.post(&Message::Emit(emit)));
        Told::Said
    }

    fn change(&self, command: &SocketCommand, posts: &mut VecDeque<Post>) -> Told {
        let namespace = Cow::Borrowed(command.namespace.name());
        let host_id = Some(Cow::Borrowed(self.host.as_str()));
        if let SocketChange::Leave(room) = &command.change
            && !command.target.is_everyone
            && command.target.rooms.iter().eq([room.as_str()])
            && command.target.except.iter().next().is_none()
        {
            let message = Message::CloseRoom { room: Cow::Borrowed(room), namespace, host_id };
            posts.push_back(self.post(&message));
            return Told::Said;
        }
        let before = posts.len();
        for sid in command.target.rooms.iter().filter(|room| is_id(room)) {
            let sid = Cow::Borrowed(sid);
            let membership = |room: &'_ str| Membership {
                sid: sid.clone(),
                room: Cow::Owned(room.to_owned()),
                namespace: namespace.clone(),
                host_id: host_id.clone(),
            };
            let message = match &command.change {
                SocketChange::Join(room) => Message::EnterRoom(membership(room)),
                SocketChange::Leave(room) => Message::LeaveRoom(membership(room)),
                SocketChange::Disconnect { .. } => Message::Disconnect {
                    sid: sid.clone(),
                    namespace: namespace.clone(),
                    host_id: host_id.clone(),
                },
            };
            posts.push_back(self.post(&message));
        }
        if posts.len() > before { Told::Said } else { Told::Nothing }
    }

    /// Python answers for one socket. How many of its sockets are in a room it does not say, so a room is not asked.
    fn ask(&mut self, inquiry: &Inquiry, question: u64, posts: &mut VecDeque<Post>) -> Told {
        let Ask::Answers { frame, .. } = &inquiry.ask else { return Told::Nothing };
        let target = &inquiry.target;
        let mut rooms = target.rooms.iter();
        let (Some(sid), None, false) = (rooms.next(), rooms.next(), target.is_everyone) else {
            return Told::Nothing;
        };
        // An old server answers with a pickle, if at all: it is not waited for where that is not read.
        let may_answer = Sid::parse(sid).is_some() || (self.options.pickle && is_old_id(sid));
        if !may_answer || self.asked.len() >= CALLBACKS_MAX {
            return Told::Nothing;
        }
        let Ok(event) = FramedEvent::split(frame) else { return Told::Nothing };
        let callback = Callback {
            room: Cow::Borrowed(sid),
            is_number: false,
            namespace: Cow::Borrowed(inquiry.namespace.name()),
            id: question,
        };
        let emit = Emit {
            rooms: Rooms::Of(vec![Cow::Borrowed(sid)]),
            callback: Some(callback),
            host_id: Some(Cow::Borrowed(&self.host)),
            ..Emit::of_event(event)
        };
        posts.push_back(self.post(&Message::Emit(emit)));
        self.asked.insert(question, sid.to_owned());
        Told::Asked
    }

    fn hear_emit(&mut self, emit: Emit<'_>) -> Result<Heard, Cow<'static, str>> {
        let frame = emit.to_frames().map_err(|fault| Cow::Borrowed(fault.reason()))?;
        let namespace = emit.namespace.into_owned();
        let mut target = Target { reach: Reach::Process, ..Target::default() };
        match &emit.rooms {
            Rooms::Everybody => target.is_everyone = true,
            Rooms::Of(rooms) => rooms.iter().for_each(|room| target.rooms.push(room)),
        }
        emit.skip.iter().for_each(|sid| target.except.push(sid));
        let (Some(callback), Some(host)) = (emit.callback, emit.host_id) else {
            return Ok(Heard::Emit { namespace, target, frame });
        };
        if self.owed.len() >= CALLBACKS_MAX {
            return Err("more answers are owed to Python already than are kept".into());
        }
        self.tickets += 1;
        let Callback { room, is_number, namespace: callback_namespace, id } = callback;
        let callback = Callback {
            room: Cow::Owned(room.into_owned()),
            is_number,
            namespace: Cow::Owned(callback_namespace.into_owned()),
            id,
        };
        self.owed.insert(self.tickets, Owed { host: host.into_owned(), callback });
        let ask = Ask::Answers { id: 0, frame: frame.into() };
        Ok(Heard::Ask { namespace, target, ask, timeout: None, ticket: self.tickets })
    }

    fn hear_callback(
        &mut self,
        callback: &Callback<'_>,
        args: &str,
        attachments: &[Cow<'_, [u8]>],
    ) -> Option<Heard> {
        let sid = self.asked.get(&callback.id).filter(|sid| **sid == callback.room)?;
        let answer = AnswerText {
            json: args.to_owned(),
            attachments: attachments.iter().map(|bytes| Bytes::copy_from_slice(bytes)).collect(),
        };
        // An id of the old form is known to whoever has asked.
        let sid = Sid::parse(sid).unwrap_or_else(|| Sid::new(ShardId(0), [0; 13]));
        let answers = vec![(sid, answer)];
        let findings = Findings { answers, ..Findings::default() };
        Some(Heard::Found { question: callback.id, findings, is_last: true })
    }
}

impl Foreign for Python {
    fn name(&self) -> &'static str {
        "python-socketio"
    }

    fn is_of(&self, channel: &Channel) -> bool {
        *channel == Channel::Python
    }

    fn connected(&mut self) -> Vec<Channel> {
        // What was asked on the last connection is answered no more: who waited for the shards went with it.
        self.owed.clear();
        vec![Channel::Python]
    }

    fn take_changes(&mut self, _add: &mut Vec<Channel>, _remove: &mut Vec<Channel>) {}

    fn say(&mut self, said: &Said, question: Option<u64>, _now: Time, posts: &mut VecDeque<Post>) -> Told {
        match said {
            Said::Emit(broadcast) => self.emit(broadcast, posts),
            Said::Change(told) => self.change(&told.command, posts),
            Said::Ask(inquiry) => match question {
                Some(question) => self.ask(inquiry, question, posts),
                None => Told::Nothing,
            },
            // It knows no such thing.
            Said::Room { .. }
            | Said::Far { .. }
            | Said::Left { .. }
            | Said::ServerEvent(_)
            | Said::State(_) => Told::Nothing,
        }
    }

    fn hear(
        &mut self,
        delivery: &Delivery,
        _now: Time,
        _posts: &mut VecDeque<Post>,
        heard: &mut Vec<Heard>,
    ) -> Result<(), Cow<'static, str>> {
        let Body::Bytes(bytes) = &delivery.body else { return Ok(()) };
        let is_ours = |host: &str| host.starts_with(HOST_MARK);
        if host_of(bytes).is_some_and(is_ours) {
            return Ok(());
        }
        let message = read(bytes, self.options).map_err(|fault| Cow::Owned(fault.to_string()))?;
        let change = |namespace: Cow<'_, str>, of: &str, change| Heard::Change {
            namespace: namespace.into_owned(),
            target: Target {
                reach: Reach::Process,
                rooms: std::iter::once(of).collect(),
                ..Target::default()
            },
            change,
        };
        match message {
            Message::Emit(Emit { host_id: Some(host), .. })
            | Message::Disconnect { host_id: Some(host), .. }
            | Message::EnterRoom(Membership { host_id: Some(host), .. })
            | Message::LeaveRoom(Membership { host_id: Some(host), .. })
            | Message::CloseRoom { host_id: Some(host), .. }
                if is_ours(&host) => {}
            Message::Emit(emit) => heard.push(self.hear_emit(emit)?),
            Message::Callback { host_id, callback, args, attachments } => {
                if host_id == self.host {
                    heard.extend(self.hear_callback(&callback, &args, &attachments));
                }
            }
            Message::Disconnect { sid, namespace, .. } => {
                heard.push(change(namespace, &sid, SocketChange::Disconnect { close_session: false }));
            }
            Message::EnterRoom(Membership { sid, room, namespace, .. }) => {
                heard.push(change(namespace, &sid, SocketChange::Join(room.into_owned())));
            }
            Message::LeaveRoom(Membership { sid, room, namespace, .. }) => {
                heard.push(change(namespace, &sid, SocketChange::Leave(room.into_owned())));
            }
            Message::CloseRoom { room, namespace, .. } => {
                heard.push(change(namespace, &room, SocketChange::Leave(room.to_string())));
            }
        }
        Ok(())
    }

    fn answer(&mut self, ticket: u64, findings: Findings, posts: &mut VecDeque<Post>) {
        let Some(Owed { host, callback }) = self.owed.remove(&ticket) else { return };
        for (_, answer) in findings.answers {
            let message = Message::Callback {
                host_id: Cow::Borrowed(&host),
                callback: callback.clone(),
                args: Cow::Borrowed(&answer.json),
                attachments: answer.attachments.iter().map(|bytes| Cow::Borrowed(&bytes[..])).collect(),
            };
            posts.push_back(self.post(&message));
        }
    }

    fn forget(&mut self, question: u64) {
        self.asked.remove(&question);
    }

    fn next_timeout(&self) -> Time {
        Time::NEVER
    }

    fn handle_timeout(&mut self, _now: Time, _posts: &mut VecDeque<Post>, _heard: &mut Vec<Heard>) {}
}

/// Whether a room's name is a socket's id at one of Python's servers.
fn is_id(room: &str) -> bool {
    Sid::parse(room).is_some() || is_old_id(room)
}

/// Whether it is one of python-engineio before version 4, as Flask-SocketIO 4 has: a UUID in hexadecimal.
fn is_old_id(room: &str) -> bool {
    room.len() == OLD_ID_BYTES && room.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn rooms_of(target: &Target) -> Rooms<'_> {
    if target.is_everyone {
        Rooms::Everybody
    } else {
        Rooms::Of(target.rooms.iter().map(Cow::Borrowed).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::base::slab::Key;
    use crate::message::address::Address;

    use super::*;
    use crate::message::target::ToldChange;

    const OLD: &str = "00112233445566778899aabbccddeeff";
    const NEW: &str = "qu6x9d3Zy3p4LoxoAAAB";

    fn python(pickle: bool) -> Python {
        Python::new("0a", Options { pickle, bytes_max: 1 << 20 })
    }

    fn said(python: &mut Python, said: &Said, question: Option<u64>) -> (Told, Vec<String>) {
        let mut posts = VecDeque::new();
        let told = python.say(said, question, Time(0), &mut posts);
        let text = |post: Post| match post.body {
            Body::Bytes(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
            Body::Fields(fields) => panic!("{fields:?}"),
        };
        (told, posts.into_iter().map(text).collect())
    }

    #[test]
    fn sockets_are_changed_by_ids_of_both_forms_and_rooms_are_not() {
        for (room, is_told) in [(OLD, true), (NEW, true), ("blue", false), (&OLD[1..], false)] {
            let target = Target { rooms: [room].into_iter().collect(), ..Target::default() };
            let command = SocketCommand {
                namespace: Address::new(None, "/"),
                target,
                change: SocketChange::Disconnect { close_session: false },
            };
            let expected = format!(
                "{{\"method\": \"disconnect\", \"sid\": \"{room}\", \"namespace\": \"/\", \"host_id\": \"shardcast-0a\"}}"
            );
            let (told, posts) = said(&mut python(false), &Said::Change(ToldChange::new(command)), None);
            assert_eq!((told == Told::Said, posts == [expected]), (is_told, is_told), "{room}");
        }
    }

    #[test]
    fn what_python_asked_on_a_connection_that_broke_is_owed_no_more() {
        let mut python = python(false);
        let message = Message::Emit(Emit {
            callback: Some(Callback { room: NEW.into(), is_number: false, namespace: "/".into(), id: 1 }),
            host_id: Some("abc".into()),
            rooms: Rooms::Of(vec![NEW.into()]),
            ..Emit::of_event(FramedEvent::split(b"\x81\x0942[\"ask\"]").unwrap())
        });
        let Post { channel, body, .. } = python.post(&message);
        let delivery = Delivery { channel, body, offset: None };
        let mut posts = VecDeque::new();
        for connection in 0..3 {
            python.connected();
            let mut heard = Vec::new();
            for _ in 0..CALLBACKS_MAX {
                python.hear(&delivery, Time(0), &mut posts, &mut heard).unwrap();
            }
            assert_eq!(heard.len(), CALLBACKS_MAX, "connection {connection}");
            assert!(python.hear(&delivery, Time(0), &mut posts, &mut heard).is_err(), "no more are kept");
        }
        // An answer for the first connection that comes late is nobody's.
        python.answer(1, Findings::default(), &mut posts);
        assert!(posts.is_empty());
    }

    #[test]
    fn one_socket_is_asked_if_its_answer_can_be_read() {
        for (room, pickle, is_asked) in
            [(NEW, false, true), (OLD, true, true), (OLD, false, false), ("blue", true, false)]
        {
            let inquiry = Inquiry {
                namespace: Address::new(None, "/"),
                target: Target { rooms: [room].into_iter().collect(), ..Target::default() },
                ask: Ask::Answers { id: 7, frame: b"\x81\x0942[\"ask\"]".to_vec().into() },
                timeout: Duration::from_secs(1),
                home: ShardId(0),
                number: Key { index: 0, generation: 0 },
            };
            let mut python = python(pickle);
            let (told, posts) = said(&mut python, &Said::Ask(inquiry.into()), Some(3));
            assert_eq!((told == Told::Asked, posts.len()), (is_asked, usize::from(is_asked)), "{room}");
            let callback = format!(
                "{{\"method\": \"callback\", \"host_id\": \"shardcast-0a\", \"sid\": \"{room}\", \"namespace\": \"/\", \"id\": 3, \"args\": [\"yes\"]}}"
            );
            let delivery = Delivery {
                channel: Channel::Python,
                body: Body::Bytes(callback.into_bytes().into()),
                offset: None,
            };
            let mut heard = Vec::new();
            python.hear(&delivery, Time(0), &mut VecDeque::new(), &mut heard).unwrap();
            let is_found = matches!(&heard[..], [Heard::Found { question: 3, findings, is_last: true }]
                if findings.answers[0].1.json == "\"yes\"");
            assert_eq!(is_found, is_asked, "{room}");
        }
    }
}
