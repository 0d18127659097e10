//! The polling half of a client (Engine.IO, HTTP long-polling): one connection on which a GET always waits,
//! one for POSTs, and the packets that wait for their turn.
//!
//! At most one POST is under way, so packets stay in order; while it is, more packets gather for the next.
//! What packets mean is in `client.rs`.

use std::borrow::Cow;

use super::clock::Moment;
use super::error::{Fault, quote};
use super::limits::{KEEP_ALIVE_IDLE_MAX, PACKETS_PER_POST_MAX};
use super::options::Revision;
use super::packet::push_number;
use super::target::Target;
use super::wire::{Net, Token, Wire, WireKind};

/// Between two packets of a payload.
pub(super) const SEPARATOR: u8 = 0x1E;

/// A session's polling transport.
pub(super) struct Polling {
    client: u32,
    revision: Revision,
    /// Empty until the handshake has been answered.
    pub(super) sid: String,
    /// What one POST may hold.
    pub(super) payload_bytes_max: usize,
    /// The connection of the polls.
    pub(super) get: Option<Wire>,
    /// The connection of the POSTs.
    pub(super) post: Option<Wire>,
    /// A poll waits.
    pub(super) is_polling: bool,
    /// A POST waits for its answer.
    pub(super) is_posting: bool,
    /// Packets that are not posted, with separators between them.
    outbox: Vec<u8>,
    post_used: Moment,
}

impl Polling {
    /// A transport that has not sent anything.
    pub(super) fn new(client: u32, revision: Revision) -> Self {
        Self {
            client,
            revision,
            sid: String::new(),
            payload_bytes_max: usize::MAX,
            get: None,
            post: None,
            is_polling: false,
            is_posting: false,
            outbox: Vec::new(),
            post_used: Moment::default(),
        }
    }

    /// Appends a packet for the next POST.
    pub(super) fn push(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        if !self.outbox.is_empty() {
            self.outbox.push(SEPARATOR);
        }
        encode(&mut self.outbox);
    }

    /// Sends the next GET. Without a session it is the handshake.
    pub(super) fn poll(&mut self, net: &mut Net, target: &Target) -> Result<(), Fault> {
        let token = Token { client: self.client, kind: WireKind::Get };
        let wire = match &mut self.get {
            Some(wire) => wire,
            none => none.insert(Wire::open(net, token)?),
        };
        let sid = (!self.sid.is_empty()).then_some(self.sid.as_str());
        target.encode_polling(wire.out(), self.client, sid, None);
        self.is_polling = true;
        Ok(())
    }

    /// Sends the next POST if packets wait and none is under way.
    pub(super) fn post(&mut self, net: &mut Net, target: &Target, now: Moment) -> Result<(), Fault> {
        if self.is_posting || self.outbox.is_empty() || self.sid.is_empty() {
            return Ok(());
        }
        if now.since(self.post_used) > KEEP_ALIVE_IDLE_MAX {
            self.post = None;
        }
        let token = Token { client: self.client, kind: WireKind::Post };
        let wire = match &mut self.post {
            Some(wire) => wire,
            none => none.insert(Wire::open(net, token)?),
        };
        let len = payload_len(&self.outbox, self.payload_bytes_max);
        let body = self.outbox.get(..len).unwrap_or_default();
        target.encode_polling(wire.out(), self.client, Some(&self.sid), Some(&payload(body, self.revision)));
        // The separator behind the last packet of this POST belongs to none.
        self.outbox.drain(..self.outbox.len().min(len + 1));
        self.post_used = now;
        self.is_posting = true;
        Ok(())
    }

    /// Posts the Engine.IO close packet at once, behind whatever is under way. The answer is not waited for.
    pub(super) fn say_goodbye(&mut self, net: &mut Net, target: &Target) -> Result<(), Fault> {
        if self.sid.is_empty() {
            return Ok(());
        }
        let token = Token { client: self.client, kind: WireKind::Post };
        let wire = match &mut self.post {
            Some(wire) => wire,
            none => none.insert(Wire::open(net, token)?),
        };
        wire.mute(net, false)?;
        target.encode_polling(wire.out(), self.client, Some(&self.sid), Some(&payload(b"1", self.revision)));
        wire.flush(net)
    }

    /// The packets that were not posted, for the transport that takes over.
    pub(super) fn take_outbox(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.outbox)
    }

    /// Sends what the wires owe.
    pub(super) fn flush(&mut self, net: &Net) -> Result<(), Fault> {
        for wire in [&mut self.get, &mut self.post].into_iter().flatten() {
            wire.flush(net)?;
        }
        Ok(())
    }
}

/// Packets with separators between them as the body of a POST.
fn payload(packets: &[u8], revision: Revision) -> Cow<'_, [u8]> {
    if revision == Revision::Four {
        return Cow::Borrowed(packets);
    }
    let mut body = Vec::with_capacity(packets.len() + 8);
    for packet in packets.split(|&byte| byte == SEPARATOR) {
        let len: usize = String::from_utf8_lossy(packet).chars().map(char::len_utf16).sum();
        push_number(&mut body, len as u64);
        body.push(b':');
        body.extend_from_slice(packet);
    }
    Cow::Owned(body)
}

/// The packets of a poll's body: between separators, or in revision 3 each behind its length, which counts as JavaScript does.
pub(super) fn packets(body: &[u8], revision: Revision) -> impl Iterator<Item = Result<&[u8], Fault>> {
    let mut rest = Some(body);
    std::iter::from_fn(move || {
        let body = rest.take()?;
        if revision == Revision::Four {
            let end = memchr::memchr(SEPARATOR, body);
            rest = end.and_then(|end| body.get(end + 1..));
            return body.get(..end.unwrap_or(body.len())).map(Ok);
        }
        if body.is_empty() {
            return None;
        }
        let Some((packet, behind)) = split_packet3(body) else {
            return Some(Err(Fault::Packet(quote(body))));
        };
        rest = Some(behind);
        Some(Ok(packet))
    })
}

fn split_packet3(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr::memchr(b':', body)?;
    let mut units: usize = std::str::from_utf8(body.get(..colon)?).ok()?.parse().ok()?;
    let text = body.get(colon + 1..)?;
    let mut len = 0;
    while units > 0 {
        // By its first byte a character has so many bytes, and those of four count twice.
        let (bytes, counted) = match text.get(len)? {
            0x00..=0x7F => (1, 1),
            0x80..=0xDF => (2, 1),
            0xE0..=0xEF => (3, 1),
            _ => (4, 2),
        };
        len += bytes;
        units = units.checked_sub(counted)?;
    }
    text.split_at_checked(len)
}

/// How much of `outbox` goes into one POST: whole packets, within the server's bounds in bytes and number. A
/// packet that is larger than the bound goes alone, for the server to refuse.
fn payload_len(outbox: &[u8], bytes_max: usize) -> usize {
    let mut len = 0;
    let ends = memchr::memchr_iter(SEPARATOR, outbox).chain([outbox.len()]);
    for end in ends.take(PACKETS_PER_POST_MAX) {
        if end > bytes_max && len > 0 {
            break;
        }
        len = end;
    }
    len
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox(packets: &[&str]) -> Polling {
        let mut polling = Polling::new(0, Revision::Four);
        for packet in packets {
            polling.push(|out| out.extend_from_slice(packet.as_bytes()));
        }
        polling
    }

    #[test]
    fn packets_are_separated_and_never_cut() {
        let rows: [(&[&str], usize, &str); 5] = [
            (&["4a"], 100, "4a"),
            (&["4a", "4b", "4c"], 100, "4a\u{1e}4b\u{1e}4c"),
            (&["4a", "4b", "4c"], 5, "4a\u{1e}4b"),
            (&["4a", "4b", "4c"], 4, "4a"),
            (&["4abcdef", "4b"], 3, "4abcdef"),
        ];
        for (packets, bytes_max, expected) in rows {
            let outbox = outbox(packets).take_outbox();
            assert_eq!(
                &outbox[..payload_len(&outbox, bytes_max)],
                expected.as_bytes(),
                "{packets:?} {bytes_max}"
            );
        }
    }

    #[test]
    fn bodies_of_both_revisions_come_apart_as_they_were_put_together() {
        let rows = [
            ("4a", "4a", "2:4a"),
            ("4a\u{1e}2\u{1e}4bc", "4a\u{1e}2\u{1e}4bc", "2:4a1:23:4bc"),
            (
                "4\u{e9}\u{20ac}\u{1e}4\u{1f600}",
                "4\u{e9}\u{20ac}\u{1e}4\u{1f600}",
                "3:4\u{e9}\u{20ac}3:4\u{1f600}",
            ),
        ];
        for (packets_in, of_4, of_3) in rows {
            let expected: Vec<&[u8]> = packets_in.as_bytes().split(|&byte| byte == SEPARATOR).collect();
            for (revision, body) in [(Revision::Four, of_4), (Revision::Three, of_3)] {
                assert_eq!(&*payload(packets_in.as_bytes(), revision), body.as_bytes());
                let read: Result<Vec<&[u8]>, Fault> = packets(body.as_bytes(), revision).collect();
                assert_eq!(read, Ok(expected.clone()), "{body}");
            }
        }
        for wrong in ["4a", "x:4a", "3:4a", "1:\u{1f600}", "-1:4", ":"] {
            let read: Result<Vec<&[u8]>, Fault> = packets(wrong.as_bytes(), Revision::Three).collect();
            assert!(read.is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_post_holds_no_more_packets_than_python_servers_take() {
        let outbox = outbox(&["4a"; 40]).take_outbox();
        let len = payload_len(&outbox, usize::MAX);
        let count = outbox[..len].split(|&byte| byte == SEPARATOR).count();
        assert_eq!(count, PACKETS_PER_POST_MAX);
    }
}
