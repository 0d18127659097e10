//! Bodies for fuzzing and for tests: no text makes the decoder panic, and what it accepts can be passed on.
//!
//! Built for tests and for the fuzzer only. Does not make inputs.

use bytes::Bytes;
use serde_json::Value;

use super::binary::Binary;
use super::encode::encode_event_raw;
use super::event::{Args, Event};
use super::msgpack;
use super::packet::{self, Packet, PacketKind};
use super::raw_json::RawJson;

/// The fuzzer's entry: the text of one packet from a client.
pub(crate) fn packet(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    let Ok(packet) = packet::decode(text) else { return };
    let attachments = vec![Bytes::from_static(b"attachment"); packet.attachments];
    match packet.kind {
        PacketKind::Event | PacketKind::BinaryEvent if !packet.payload.is_empty() => {
            let event = Event::decode(packet.payload, &attachments).expect("it has passed decoding");
            read_all(event.args);
            assert_survives_relay(&packet, &event);
        }
        PacketKind::Ack | PacketKind::BinaryAck => read_all(Args::of_ack(packet.payload, &attachments)),
        _ => {}
    }
}

/// The fuzzer's entry for the other parser: what is accepted is written as something that is read as the same.
pub(crate) fn msgpack(input: &[u8]) {
    let Ok(message) = msgpack::decode(&Bytes::copy_from_slice(input)) else { return };
    let packet = message.packet();
    let count = if packet.attachments > 0 { format!("{}-", packet.attachments) } else { String::new() };
    let id = packet.id.map(|id| id.to_string()).unwrap_or_default();
    let kind = packet.kind.number();
    let text = format!("{kind}{count}{},{id}{}", packet.namespace, packet.payload);
    assert_eq!(packet::split(&text), Ok(packet), "{text}");
    let attachments: Vec<&[u8]> = message.attachments.iter().map(|bytes| &bytes[..]).collect();
    let mut out = Vec::new();
    msgpack::encode(&mut out, &text, &attachments).expect("what was read is JSON");
    let again = msgpack::decode(&Bytes::from(out)).expect("what is written can be read");
    // A client may write an object that looks like a placeholder: it gets an attachment in its place.
    let is_plain = packet.payload.matches("_placeholder").count() == packet.attachments;
    if is_plain && !packet.payload.contains('\\') {
        assert_eq!(again, message, "{text}");
    }
}

/// An event that is passed on as it came arrives as the same event.
fn assert_survives_relay(packet: &Packet<'_>, event: &Event<'_>) {
    let mut out = Vec::new();
    encode_event_raw(&mut out, packet.namespace, packet.id, &event.name, event.args.raw());
    let text = String::from_utf8(out).expect("an encoder writes text");
    let again = packet::decode(&text).expect("what was accepted once is accepted again");
    assert_eq!((again.kind, again.namespace, again.id), (PacketKind::Event, packet.namespace, packet.id));
    let again = Event::decode(again.payload, &[]).expect("it has passed decoding");
    assert_eq!((&again.name, again.args.raw()), (&event.name, event.args.raw()), "{text}");
}

/// Each argument can be read alone and in turn, and all of them are JSON.
fn read_all(args: Args<'_>) {
    let mut reader = args.reader();
    for index in 0..args.len() {
        let raw = args.get(index).expect("there are as many as it says");
        assert_eq!(reader.next::<RawJson>().expect("an element is JSON").as_str(), raw);
        // These may well be refused: what matters is that they return.
        let _ = (args.read::<Value>(index), args.read::<Binary>(index), args.read::<Vec<String>>(index));
    }
    assert!(reader.next::<Option<u8>>().is_ok_and(|value| value.is_none()), "the reader is at its end");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::json::tests::json;
    use super::*;

    proptest! {
        #[test]
        fn any_text_returns(text in "\\PC{0,60}") {
            packet(text.as_bytes());
        }

        #[test]
        fn packets_of_any_json_return(
            head in "[0-6]([0-9]{1,2}-)?(/[a-z?]{0,3},)?[0-9]{0,3}",
            items in prop::collection::vec(json(), 0..4),
        ) {
            packet(format!("{head}[{}]", items.join(",")).as_bytes());
        }

        #[test]
        fn events_return(
            head in "(2|5[1-3]-)(/[a-z]{0,3},)?[0-9]{0,3}",
            name in "\\PC{0,10}",
            items in prop::collection::vec(
                prop_oneof![4 => json(), 1 => "\\{\"_placeholder\":(true|false),\"num\":[0-2]\\}"],
                0..4,
            ),
            flaw in prop::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>())),
        ) {
            let name = serde_json::to_string(&name).unwrap();
            let mut input = format!("{head}[{}]", [vec![name], items].concat().join(" , ")).into_bytes();
            if let Some((place, value)) = flaw {
                let place = place.index(input.len());
                input[place] = value;
            }
            packet(&input);
        }
    }
}
