//! Bodies for fuzzing and for tests: the same bytes give the same events, however they are cut.
//!
//! Built for tests and for the fuzzer only. Does not make inputs.

use super::deflate::{InflateLimits, Inflater};
use super::frame::FrameError;
use super::message::{Incoming, MessageDecoder, MessageLimits};

/// Inputs up to this length are cut at every place; longer ones near both ends and now and then between.
const EVERY_CUT_BYTES_MAX: usize = 512;

/// What became of some bytes, free of borrows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
    Fragment,
    Refused(FrameError),
    /// The input ends within a frame.
    Incomplete,
}

/// The fuzzer's entry. The first byte chooses the limits, the others are what the peer sends.
pub(crate) fn messages(input: &[u8]) {
    let Some((&choice, bytes)) = input.split_first() else { return };
    let payload_bytes_max = [0, 16, 1_000, 100_000][usize::from(choice >> 1) % 4];
    let (must_be_masked, may_be_compressed) = (choice & 1 == 0, choice & 8 != 0);
    let fragments_max = [1, 2, 1_000, usize::MAX][usize::from(choice >> 4) % 4];
    let limits = MessageLimits { payload_bytes_max, fragments_max, must_be_masked, may_be_compressed };
    events_at_every_cut(bytes, limits);
}

/// The fuzzer's entry for one compressed payload: a limit holds, and changes nothing for what keeps to it.
pub(crate) fn inflate(input: &[u8]) {
    const BYTES_MAX: usize = 100_000;
    let limits = InflateLimits::bytes;
    let mut inflater = Inflater::default();
    let mut bytes = Vec::new();
    let Ok(_) = inflater.message(false, input, limits(BYTES_MAX), &mut bytes) else { return };
    assert!(bytes.len() <= BYTES_MAX);
    let mut again = Vec::new();
    assert!(inflater.message(false, input, limits(bytes.len()), &mut again).is_ok());
    assert!(again == bytes, "nothing is kept between two messages");
    if let Some(too_small) = bytes.len().checked_sub(1) {
        let refused = inflater.message(false, input, limits(too_small), &mut Vec::new()).map(drop);
        assert_eq!(refused, Err(FrameError::TooBig));
    }
}

/// Decodes the bytes whole, byte by byte and cut in two, asserts that the events agree, and returns them.
pub(crate) fn events_at_every_cut(bytes: &[u8], limits: MessageLimits) -> Vec<Event> {
    let whole = events(std::iter::once(bytes), limits);
    assert_eq!(events(bytes.chunks(1), limits), whole, "byte by byte differs from whole");
    for cut in cuts(bytes.len()) {
        let (head, tail) = bytes.split_at(cut);
        assert_eq!(events([head, tail].into_iter(), limits), whole, "cut at {cut} differs from whole");
    }
    whole
}

fn cuts(len: usize) -> impl Iterator<Item = usize> {
    let is_short = len <= EVERY_CUT_BYTES_MAX;
    (0..=len).filter(move |&cut| is_short || cut < 32 || len - cut < 16 || cut % 16_381 == 0)
}

/// What a connection does with its read buffer: append, decode while there is a frame, keep the rest.
fn events<'a>(reads: impl Iterator<Item = &'a [u8]>, limits: MessageLimits) -> Vec<Event> {
    let mut decoder = MessageDecoder::default();
    let mut buffer = Vec::new();
    let mut events = Vec::new();
    for read in reads {
        buffer.extend_from_slice(read);
        let mut consumed = 0;
        loop {
            let frame = decoder.next(&mut buffer[consumed..], limits);
            match frame {
                Ok(None) => break,
                Ok(Some((incoming, frame_len))) => {
                    events.push(Event::new(incoming, limits));
                    consumed += frame_len;
                }
                Err(error) => events.push(Event::Refused(error)),
            }
            if matches!(events.last(), Some(Event::Close(_) | Event::Refused(_))) {
                return events;
            }
        }
        buffer.drain(..consumed);
    }
    if !buffer.is_empty() {
        events.push(Event::Incomplete);
    }
    events
}

impl Event {
    fn new(incoming: Incoming<'_>, limits: MessageLimits) -> Event {
        match incoming {
            Incoming::Text(text) => Event::Text(text.into_owned()),
            Incoming::Binary(bytes) => Event::Binary(bytes.into_owned()),
            Incoming::Compressed { is_text, payload } => {
                let mut out = Vec::new();
                let inflated = Inflater::default().message(
                    is_text,
                    &payload,
                    InflateLimits::bytes(limits.payload_bytes_max),
                    &mut out,
                );
                inflated.map_or_else(Event::Refused, |incoming| Event::new(incoming, limits))
            }
            Incoming::Ping(bytes) => Event::Ping(bytes.to_vec()),
            Incoming::Pong(bytes) => Event::Pong(bytes.to_vec()),
            Incoming::Close(close) => Event::Close(close.map(|close| (close.code, close.reason.to_owned()))),
            Incoming::Fragment => Event::Fragment,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::client;
    use super::super::frame::Opcode;
    use super::*;

    /// Frames that are mostly legal in mostly legal order.
    fn frame() -> impl Strategy<Value = (Opcode, bool, Vec<u8>, [u8; 4])> {
        let opcode = prop_oneof![
            4 => Just(Opcode::Continuation),
            2 => Just(Opcode::Text),
            2 => Just(Opcode::Binary),
            1 => Just(Opcode::Ping),
            1 => Just(Opcode::Pong),
            1 => Just(Opcode::Close),
        ];
        let payload = prop_oneof!["\\PC{0,40}".prop_map(String::into_bytes), vec(any::<u8>(), 0..125)]
            .prop_filter("a control frame must hold it", |payload| payload.len() <= 125);
        (opcode, any::<bool>(), payload, any::<[u8; 4]>())
    }

    proptest! {
        #[test]
        fn any_bytes_give_the_same_events_however_cut(input in vec(any::<u8>(), 0..200)) {
            messages(&input);
        }

        #[test]
        fn frames_with_a_flaw_give_the_same_events_however_cut(
            choice in any::<u8>(),
            frames in vec(frame(), 1..6),
            flaw in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
        ) {
            let mut input = vec![choice];
            for (opcode, is_final, payload, key) in &frames {
                let is_final = *is_final || opcode.is_control();
                client::append_fragment(&mut input, (*opcode, is_final), payload, *key);
            }
            if let Some((place, value)) = flaw {
                let place = place.index(input.len());
                input[place] = value;
            }
            messages(&input);
        }

        #[test]
        fn s5_4_a_message_survives_any_fragmentation(
            text in "\\PC{0,100}",
            cuts in vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let bytes = text.as_bytes();
            let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            places.extend([0, bytes.len()]);
            places.sort_unstable();
            let mut input = Vec::new();
            for (place, part) in places.windows(2).enumerate() {
                let opcode = if place == 0 { Opcode::Text } else { Opcode::Continuation };
                let is_final = place + 2 == places.len();
                let payload = &bytes[part[0]..part[1]];
                client::append_fragment(&mut input, (opcode, is_final), payload, [9, 8, 7, 6]);
            }
            let limits = MessageLimits {
                payload_bytes_max: bytes.len(),
                fragments_max: places.len(),
                must_be_masked: true,
                may_be_compressed: false,
            };
            let mut expected = vec![Event::Fragment; places.len() - 2];
            expected.push(Event::Text(text.clone()));
            prop_assert_eq!(events_at_every_cut(&input, limits), expected);
        }
    }
}
