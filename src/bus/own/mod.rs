//! What shardcast processes say to each other: our own format, which nobody else reads.
//!
//! Two bytes `sc`, the version, then an [`Envelope`] in postcard's encoding, read without copying. An event travels as the frame that
//! clients get, so nothing is parsed on the other side but its outline. A version that is not known is skipped and counted: a change to
//! anything below, to what it holds of [`message`](crate::message), or to which slot a room has, is a new version.

use serde::{Deserialize, Serialize};

use crate::message::address::Address;
use crate::message::far::FarWord;
use crate::message::inquiry::Findings;
use crate::message::recovery::EventId;
use crate::message::server_event::ServerEvent;
use crate::message::state::StateWord;
use crate::message::target::{Reach, Receipt, SocketChange, Target, WhenBehind};

/// Which process: chosen at random when it starts.
pub(crate) type NodeId = [u8; 16];

const MAGIC: [u8; 3] = [b's', b'c', VERSION];

/// Of this format.
const VERSION: u8 = 3;

/// One message.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Envelope<'a> {
    pub(crate) from: NodeId,
    /// Counts what the process says, so that what arrives twice is known. The same message to several channels has one number. A hello
    /// is not counted: it has 0.
    pub(crate) sequence: u64,
    #[serde(borrow)]
    pub(crate) word: Word<'a>,
}

/// What is said.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Word<'a> {
    /// Deliver a frame to your sockets.
    Emit {
        #[serde(borrow)]
        to: To<'a>,
        frame: Raw<'a>,
        /// What it is called by whoever may be given it twice.
        id: Option<EventId>,
    },
    /// Change your sockets.
    Change { to: To<'a>, change: ChangeWord<'a> },
    /// Find out about your sockets, and report.
    Ask { question: Asked, to: To<'a>, ask: AskWord<'a>, timeout_millis: u64 },
    /// What was found out.
    Report { question: u64, findings: Findings },
    /// I am here.
    Hello(Hello<'a>),
    /// I go.
    Bye,
    /// Have your server do something.
    Server(ServerWord<'a>),
    /// Something of a state room.
    State(RoomWord<'a>),
    /// About a socket that comes back to another process.
    Far(FarWord),
}

/// A question, and where its answer is heard: the process that asks may not have said hello yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Asked {
    pub(crate) number: u64,
    pub(crate) by: [u8; 3],
}

/// Whose sockets are meant.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct To<'a> {
    pub(crate) endpoint: Option<&'a str>,
    pub(crate) namespace: &'a str,
    pub(crate) is_everyone: bool,
    #[serde(borrow)]
    pub(crate) rooms: Vec<&'a str>,
    pub(crate) except: Vec<&'a str>,
    pub(crate) is_uncompressed: bool,
    pub(crate) when_behind: BehindWord<'a>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum BehindWord<'a> {
    Rule,
    Volatile,
    Latest(&'a str),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum ChangeWord<'a> {
    Join(&'a str),
    Leave(&'a str),
    Disconnect { close_session: bool },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum AskWord<'a> {
    /// The frame has an id, in place of which the asked process puts one of its own.
    Answers {
        #[serde(borrow)]
        frame: Raw<'a>,
    },
    Sockets,
    Ids,
    Count,
    Rooms,
    /// Report once you have made this change, which was told in the message of that number, and made by whoever has not heard that.
    Settled {
        change: ChangeWord<'a>,
        sequence: u64,
    },
}

/// An event for a handler of the server.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ServerWord<'a> {
    pub(crate) endpoint: Option<&'a str>,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    /// Elements of an array, without its brackets.
    pub(crate) json: &'a str,
    #[serde(borrow)]
    pub(crate) attachments: Vec<Raw<'a>>,
    /// Report what the handler answers.
    pub(crate) question: Option<Asked>,
}

/// What is said of a state room.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RoomWord<'a> {
    pub(crate) endpoint: Option<&'a str>,
    pub(crate) namespace: &'a str,
    pub(crate) room: &'a str,
    pub(crate) what: StateWord,
}

/// Who a process is, said every second and to whoever is new.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Hello<'a> {
    /// For people: host and process number.
    pub(crate) name: &'a str,
    pub(crate) tag: [u8; 3],
    /// When it started, in milliseconds since 1970: two processes with one id differ in it.
    pub(crate) started: u64,
    /// How many sockets it has, by endpoint and namespace.
    #[serde(borrow)]
    pub(crate) sockets: Vec<(Option<&'a str>, &'a str, u64)>,
    /// It has heard nobody yet on its connection, and wants to know who is there.
    pub(crate) is_new: bool,
    /// Sockets have come back to other processes than their ids name.
    pub(crate) have_moved: bool,
}

/// Bytes that are read without copying.
#[derive(Debug, PartialEq)]
pub(crate) struct Raw<'a>(pub(crate) &'a [u8]);

impl Serialize for Raw<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Raw<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Raw<'a>, D::Error> {
        Deserialize::deserialize(deserializer).map(Raw)
    }
}

/// Why bytes are no message of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// Of a version that this process does not know.
    Version(u8),
    /// Of somebody else, or broken.
    Garbage,
}

/// Writes a message.
pub(crate) fn write(envelope: &Envelope<'_>) -> Vec<u8> {
    let bytes = MAGIC.to_vec();
    postcard::to_extend(envelope, bytes).expect("memory takes whatever is written, and every length is known")
}

/// Reads a message.
pub(crate) fn read(bytes: &[u8]) -> Result<Envelope<'_>, Unreadable> {
    match bytes {
        [b's', b'c', VERSION, rest @ ..] => {
            let (envelope, rest) = postcard::take_from_bytes(rest).map_err(|_| Unreadable::Garbage)?;
            if rest.is_empty() { Ok(envelope) } else { Err(Unreadable::Garbage) }
        }
        [b's', b'c', version, ..] => Err(Unreadable::Version(*version)),
        _ => Err(Unreadable::Garbage),
    }
}

impl<'a> To<'a> {
    pub(crate) fn new(namespace: &'a Address, target: &'a Target) -> To<'a> {
        To {
            endpoint: namespace.endpoint(),
            namespace: namespace.name(),
            is_everyone: target.is_everyone,
            rooms: target.rooms.iter().collect(),
            except: target.except.iter().collect(),
            is_uncompressed: target.is_uncompressed,
            when_behind: match &target.when_behind {
                WhenBehind::Rule => BehindWord::Rule,
                WhenBehind::Volatile => BehindWord::Volatile,
                WhenBehind::Latest(key) => BehindWord::Latest(key),
            },
        }
    }

    pub(crate) fn address(&self) -> Address {
        Address::new(self.endpoint, self.namespace)
    }

    /// The same sockets, of this process only.
    pub(crate) fn target(&self) -> Target {
        Target {
            reach: Reach::Process,
            is_everyone: self.is_everyone,
            rooms: self.rooms.iter().copied().collect(),
            except: self.except.iter().copied().collect(),
            is_uncompressed: self.is_uncompressed,
            when_behind: match self.when_behind {
                BehindWord::Rule => WhenBehind::Rule,
                BehindWord::Volatile => WhenBehind::Volatile,
                BehindWord::Latest(key) => WhenBehind::Latest(key.to_owned()),
            },
            receipt: Receipt::default(),
        }
    }
}

impl<'a> ServerWord<'a> {
    pub(crate) fn new(event: &'a ServerEvent, question: Option<Asked>) -> ServerWord<'a> {
        ServerWord {
            endpoint: event.namespace.endpoint(),
            namespace: event.namespace.name(),
            name: &event.name,
            json: &event.args.json,
            attachments: event.args.attachments.iter().map(|bytes| Raw(bytes)).collect(),
            question,
        }
    }
}

impl<'a> From<&'a SocketChange> for ChangeWord<'a> {
    fn from(change: &'a SocketChange) -> ChangeWord<'a> {
        match change {
            SocketChange::Join(room) => ChangeWord::Join(room),
            SocketChange::Leave(room) => ChangeWord::Leave(room),
            SocketChange::Disconnect { close_session } => {
                ChangeWord::Disconnect { close_session: *close_session }
            }
        }
    }
}

impl From<ChangeWord<'_>> for SocketChange {
    fn from(change: ChangeWord<'_>) -> SocketChange {
        match change {
            ChangeWord::Join(room) => SocketChange::Join(room.to_owned()),
            ChangeWord::Leave(room) => SocketChange::Leave(room.to_owned()),
            ChangeWord::Disconnect { close_session } => SocketChange::Disconnect { close_session },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::ids::{NodeTag, ShardId, Sid};
    use crate::base::slab::Key;
    use crate::message::far::{FarAsker, FarKept, FarSaid, OffsetText};
    use crate::message::recovery::{Asker, LostSocket, NotKept, Offset};
    use crate::message::state::{Stamp, StateEntry};

    fn to<'a>() -> To<'a> {
        To {
            endpoint: None,
            namespace: "/chat",
            is_everyone: false,
            rooms: vec!["a", "é"],
            except: vec!["b"],
            is_uncompressed: true,
            when_behind: BehindWord::Latest("k"),
        }
    }

    fn words<'a>() -> Vec<Word<'a>> {
        let sid = Sid::new(ShardId(3), [7; 13]);
        let offset = Offset { node: Some(NodeTag([4; 3])), origin: ShardId(3), number: 500, is_local: false };
        let had = vec![EventId(1, 2)];
        let lost = LostSocket { pid: sid, sid, rooms: vec!["r".to_owned()], data: Some("{}".into()), had };
        let asker = Asker { node: None, shard: ShardId(2), socket: Key { index: 7, generation: 9 } };
        let asker = FarAsker::new(NodeTag([9; 3]), asker);
        let far = |said| Word::Far(FarWord::new(&Address::new(Some("/x/"), "/chat"), asker, said));
        let everyone = || To { is_everyone: true, endpoint: Some("/x/"), rooms: Vec::new(), ..to() };
        let room = |what| RoomWord { endpoint: None, namespace: "/", room: "board", what };
        let stamp = Stamp { counter: 300, process: u64::MAX };
        vec![
            Word::Emit { to: to(), frame: Raw(b"\x81\x05hello"), id: Some(EventId(u64::MAX, 7)) },
            Word::Emit { to: everyone(), frame: Raw(b""), id: None },
            Word::Change { to: to(), change: ChangeWord::Join("r") },
            Word::Change { to: to(), change: ChangeWord::Disconnect { close_session: true } },
            Word::Ask {
                question: Asked { number: u64::MAX, by: [255; 3] },
                to: to(),
                ask: AskWord::Answers { frame: Raw(b"x") },
                timeout_millis: 5,
            },
            Word::Ask {
                question: Asked { number: 0, by: [0; 3] },
                to: everyone(),
                ask: AskWord::Rooms,
                timeout_millis: 0,
            },
            Word::Ask {
                question: Asked { number: 7, by: [1; 3] },
                to: to(),
                ask: AskWord::Settled { change: ChangeWord::Leave("r"), sequence: u64::MAX },
                timeout_millis: 4000,
            },
            Word::Hello(Hello {
                name: "host:1",
                tag: [1, 2, 3],
                started: 9,
                sockets: vec![(None, "/", 3), (Some("/x/"), "/y", 0)],
                is_new: true,
                have_moved: false,
            }),
            Word::Bye,
            far(FarSaid::Ask { pid: sid, offset: Some(OffsetText::new(offset)) }),
            far(FarSaid::Found { keeper: NodeTag([1, 2, 3]), shard: 1, lost }),
            far(FarSaid::NotFound(NotKept::TooOld)),
            far(FarSaid::GiveUp { pid: sid, shard: 1 }),
            far(FarSaid::Missed(Some(vec![FarKept {
                offset: OffsetText::new(offset),
                id: offset.event_id(),
                frame: vec![0x81, 2, b'4', b'2'],
            }]))),
            far(FarSaid::Missed(None)),
            far(FarSaid::Release { pid: sid, shard: u16::MAX }),
            Word::Server(ServerWord {
                endpoint: Some("/x/"),
                namespace: "/",
                name: "purge",
                json: "1,{}",
                attachments: vec![Raw(b""), Raw(b"\xff")],
                question: Some(Asked { number: 3, by: [1, 2, 3] }),
            }),
            Word::State(room(StateWord::Digest(u64::MAX))),
            Word::State(room(StateWord::Want)),
            Word::State(room(StateWord::Entries(vec![
                StateEntry { key: "a".into(), value: Some("1".into()), stamp },
                StateEntry { key: "b".into(), value: None, stamp },
            ]))),
        ]
    }

    #[test]
    fn what_is_written_is_read() {
        for word in words() {
            let envelope = Envelope { from: [7; 16], sequence: 300, word };
            let bytes = write(&envelope);
            assert_eq!(read(&bytes), Ok(envelope));
        }
    }

    #[test]
    fn the_bytes_are_what_they_are() {
        let word = Word::Emit {
            to: To {
                rooms: vec!["r"],
                except: Vec::new(),
                when_behind: BehindWord::Rule,
                is_uncompressed: false,
                ..to()
            },
            frame: Raw(b"\x81\x0242"),
            id: None,
        };
        let bytes = write(&Envelope { from: [0xab; 16], sequence: 128, word });
        let mut expected = b"sc\x03".to_vec();
        expected.extend([0xab; 16]);
        expected.extend(b"\x80\x01\x00\x00\x05/chat\x00\x01\x01r\x00\x00\x00\x04\x81\x0242\x00");
        assert_eq!(bytes, expected);
    }

    #[test]
    fn what_is_not_ours_or_not_whole_is_refused() {
        for word in words() {
            let bytes = write(&Envelope { from: [7; 16], sequence: 300, word });
            for cut in 0..bytes.len() {
                assert!(read(&bytes[..cut]).is_err(), "{cut}");
            }
            let longer = [&bytes[..], b"x"].concat();
            assert_eq!(read(&longer), Err(Unreadable::Garbage));
        }
        for (bytes, expected) in [
            (&b""[..], Unreadable::Garbage),
            (b"sc", Unreadable::Garbage),
            (b"sc\x01anything", Unreadable::Version(1)),
            (b"sc\x02anything", Unreadable::Version(2)),
            (b"sc\x04anything", Unreadable::Version(4)),
            (b"{\"method\": \"emit\"}", Unreadable::Garbage),
        ] {
            assert_eq!(read(bytes), Err(expected), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_arrives_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), is_ours: bool) {
            if is_ours {
                bytes.splice(0..0, MAGIC);
            }
            let _ = read(&bytes);
        }
    }
}
