//! A broker for the processes of one machine: one of them serves it by a Unix socket, and it keeps nothing (`unix:PATH`).
//!
//! What its client and its server (`driver/local_queue.rs`) say to each other: frames, each of four bytes with a length, a word in
//! postcard's encoding, and the body of the message if the word has one. Does no IO.

pub(crate) mod client;

use bytes::{Buf, Bytes, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Channel;

/// Slots of rooms, as the broker in memory has them, which is what stands behind the socket.
pub(crate) const SLOTS: u32 = super::memory::SLOTS;

/// Bytes of a frame. The largest message that can be configured has less.
pub(crate) const UNIX_FRAME_BYTES_MAX: usize = 80 * 1024 * 1024;

/// Bytes of messages that wait in a process that has received them: its connection ends beyond, and is made anew.
pub(crate) const UNIX_WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes before each frame.
const LENGTH_BYTES: usize = 4;

/// What a process says to the broker.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// The first word: which version of this, and which of the configured channels is meant.
    Hello { version: u8, channel: Box<str> },
    /// Hear these, and those no longer.
    Subscribe { add: Vec<Channel>, remove: Vec<Channel> },
    /// Give the body to all who hear the channel.
    Publish(Channel),
    /// Say `Done` when all before this is done.
    Sync,
}

/// What the broker says.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Told {
    Done,
    /// The body was published.
    Delivery(Channel),
    /// What was asked cannot be; the connection ends.
    Refused(Box<str>),
}

/// Of the words above.
pub(crate) const VERSION: u8 = 1;

/// Why a connection must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameFault {
    TooLarge,
    /// It is no word, or none of this version.
    NoWord,
}

impl std::fmt::Display for FrameFault {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            FrameFault::TooLarge => "a frame of more than UNIX_FRAME_BYTES_MAX",
            FrameFault::NoWord => {
                "a frame that is none: do all processes have the same release of shardcast?"
            }
        })
    }
}

/// Writes a frame.
pub(crate) fn push(out: &mut Vec<u8>, word: &impl Serialize, body: &[u8]) {
    let start = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    let mut written = postcard::to_extend(word, std::mem::take(out))
        .expect("memory takes whatever is written, and every length is known");
    written.extend_from_slice(body);
    let length = (written.len() - start - LENGTH_BYTES) as u32;
    written[start..start + LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
    *out = written;
}

/// Takes the next frame off what was received: its word and its body; nothing if it has not come whole.
pub(crate) fn take<W: DeserializeOwned>(received: &mut BytesMut) -> Result<Option<(W, Bytes)>, FrameFault> {
    let Some(length) = received.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let length = u32::from_le_bytes(*length) as usize;
    if length > UNIX_FRAME_BYTES_MAX {
        return Err(FrameFault::TooLarge);
    }
    if received.len() < LENGTH_BYTES + length {
        received.reserve(LENGTH_BYTES + length - received.len());
        return Ok(None);
    }
    received.advance(LENGTH_BYTES);
    let frame = received.split_to(length).freeze();
    let (word, body) = postcard::take_from_bytes(&frame).map_err(|_| FrameFault::NoWord)?;
    let body = frame.slice_ref(body);
    Ok(Some((word, body)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::NodeTag;

    #[test]
    fn a_frame_is_read_whole_at_every_cut() {
        let words = [
            (Ask::Hello { version: VERSION, channel: "chat".into() }, &b""[..]),
            (Ask::Publish(Channel::Slot(131_071)), b"body"),
            (Ask::Publish(Channel::Node(NodeTag([1, 2, 3]))), b""),
            (Ask::Subscribe { add: vec![Channel::All, Channel::Python], remove: vec![] }, b""),
            (Ask::Sync, b""),
        ];
        let mut written = Vec::new();
        words.iter().for_each(|(word, body)| push(&mut written, word, body));
        for cut in 0..=written.len() {
            let mut received = BytesMut::from(&written[..cut]);
            let mut read = Vec::new();
            for rest in [&[][..], &written[cut..]] {
                received.extend_from_slice(rest);
                while let Some((word, body)) = take::<Ask>(&mut received).expect("frames") {
                    read.push((word, body));
                }
            }
            assert_eq!(read.len(), words.len(), "cut at {cut}");
            for ((word, body), (expected, bytes)) in read.iter().zip(&words) {
                assert_eq!((word, &body[..]), (expected, *bytes), "cut at {cut}");
            }
        }
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        let mut huge = BytesMut::from(&u32::MAX.to_le_bytes()[..]);
        assert_eq!(take::<Ask>(&mut huge), Err(FrameFault::TooLarge));
        let mut unknown = BytesMut::from(&[1, 0, 0, 0, 99][..]);
        assert_eq!(take::<Ask>(&mut unknown), Err(FrameFault::NoWord));
        let mut empty = BytesMut::from(&[0, 0, 0, 0][..]);
        assert_eq!(take::<Told>(&mut empty), Err(FrameFault::NoWord));
    }
}
