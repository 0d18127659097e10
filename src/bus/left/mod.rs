//! Sockets whose process is gone: what of them is with the broker, by which name, and what of its stream they have missed.
//!
//! Values without IO: `bus/hub/left.rs` decides what to ask of the broker, and `bus/run.rs` asks.

pub(crate) mod log;

use std::fmt::Write;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::base::ids::Sid;
use crate::bus::own::NodeId;
use crate::message::address::Address;
use crate::message::left::LeftSocket;

/// How a record begins: `sl`, and its version. A record of another version is one that is not there.
const MAGIC: [u8; 3] = [b's', b'l', 1];

/// What of the broker a process makes use of to go on with sockets of processes that are gone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeftLimits {
    /// How long the broker keeps a socket.
    pub(crate) keep: Duration,
    /// What a client may have missed, in events and in bytes: what a socket keeps for itself.
    pub(crate) events_max: usize,
    pub(crate) bytes_max: usize,
    /// Rooms of a socket.
    pub(crate) rooms_max: usize,
}

/// What the broker keeps of one socket.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The process that has left it.
    pub(crate) process: NodeId,
    pub(crate) socket: LeftSocket,
}

/// What a record is called: a digest, from which the private id is not to be had. Two that differ in a character differ everywhere, so how
/// long it takes to look one up says nothing about another.
pub(crate) fn name_of(pid: &Sid, namespace: &Address) -> String {
    let mut digest = Sha256::new();
    digest.update(pid.as_str());
    digest.update([0]);
    digest.update(namespace.endpoint().unwrap_or_default());
    digest.update([0]);
    digest.update(namespace.name());
    digest.finalize().iter().fold(String::with_capacity(64), |mut name, byte| {
        // Writing to a text never fails.
        let _ = write!(name, "{byte:02x}");
        name
    })
}

pub(crate) fn write(record: &Record) -> Vec<u8> {
    postcard::to_extend(record, MAGIC.to_vec())
        .expect("memory takes whatever is written, and every length is known")
}

/// Reads what the broker kept; nothing if that is no record of this version.
pub(crate) fn read(bytes: &[u8]) -> Option<Record> {
    let rest = bytes.strip_prefix(&MAGIC)?;
    let (record, rest) = postcard::take_from_bytes(rest).ok()?;
    rest.is_empty().then_some(record)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::ids::{NodeTag, ShardId};
    use crate::message::far::OffsetText;
    use crate::message::left::{LeftEvent, Passed};
    use crate::message::recovery::{EventId, Offset, Position};

    fn record() -> Record {
        let offset =
            Offset { node: Some(NodeTag([1, 2, 3])), origin: ShardId(1), number: 9, is_local: false };
        let event = |id, frame| LeftEvent { offset: OffsetText::new(offset), id, age_millis: 300, frame };
        let socket = LeftSocket {
            endpoint: Some("/x/".to_owned()),
            namespace: "/chat".to_owned(),
            node: NodeTag([1, 2, 3]),
            sid: Sid::new(ShardId(3), [7; 13]),
            rooms: vec!["a".to_owned(), "é".to_owned()],
            data: Some("{}".into()),
            let_go: Some(OffsetText::new(offset)),
            events: vec![event(None, None), event(Some(EventId(7, 8)), Some(b"\x81\x0242".to_vec()))],
            passed: Passed { numbers: vec![0, u64::MAX], position: Some(Position(1, 2)) },
        };
        Record { process: [5; 16], socket }
    }

    #[test]
    fn a_record_is_read_whole_or_not_at_all() {
        let bytes = write(&record());
        assert_eq!(read(&bytes), Some(record()));
        for cut in 0..bytes.len() {
            assert_eq!(read(&bytes[..cut]), None, "{cut}");
        }
        assert_eq!(read(&[&bytes[..], b"x"].concat()), None);
        let mut newer = bytes;
        newer[2] += 1;
        assert_eq!(read(&newer), None);
    }

    #[test]
    fn a_name_is_of_one_private_id_in_one_namespace_and_does_not_show_it() {
        let [one, two] = [7, 8].map(|fill| Sid::new(ShardId(3), [fill; 13]));
        let chat = Address::new(None, "/chat");
        let name = name_of(&one, &chat);
        assert_eq!((name.len(), name.contains(one.as_str())), (64, false));
        for (pid, namespace) in
            [(&two, chat.clone()), (&one, Address::new(None, "/")), (&one, Address::new(Some("/chat"), ""))]
        {
            assert_ne!(name_of(pid, &namespace), name);
        }
        assert_eq!(name_of(&one, &Address::new(None, "/chat")), name);
    }

    proptest! {
        #[test]
        fn nothing_that_a_broker_gives_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), is_ours: bool) {
            if is_ours {
                bytes.splice(0..0, MAGIC);
            }
            let _ = read(&bytes);
        }
    }
}
