//! Bodies for fuzzing and for tests of revision 3's payloads and of JSONP: nothing panics, nothing hangs, and lengths are
//! counted as JavaScript counts them.
//!
//! Built for tests and for the fuzzer only. Does not make inputs.

use super::packet::{Packet, PacketError};
use super::{jsonp, payload3};

/// The fuzzer's entry: the body of a POST, read in each form.
pub(crate) fn body(input: &[u8]) {
    bytes(input);
    let Ok(text) = std::str::from_utf8(input) else { return };
    let packets: Vec<_> = payload3::packets(text).collect();
    faults_are_last(&packets);
    assert_eq!(packets.iter().all(Result::is_ok), is_sound(text), "{text:?}");
    drop(jsonp::decode(text));
    form(text);
}

/// The XHR2 form: what was understood is written as it was read, but for zeros before a length.
fn bytes(input: &[u8]) {
    let packets: Vec<_> = payload3::binary_packets(input).collect();
    faults_are_last(&packets);
    let mut encoded = Vec::new();
    for packet in &packets {
        match packet {
            Ok(Packet::Binary(message)) => {
                let mut typed = Vec::new();
                payload3::append_typed(&mut typed, message);
                payload3::append_binary(&mut encoded, true, &typed);
            }
            Ok(Packet::Message(text)) => {
                payload3::append_binary(&mut encoded, false, format!("4{text}").as_bytes());
            }
            _ => return,
        }
    }
    let again: Vec<_> = payload3::binary_packets(&encoded).collect();
    assert_eq!(again, packets, "what is written is read");
    assert!(encoded.len() <= input.len());
}

fn faults_are_last(packets: &[Result<Packet<'_>, PacketError>]) {
    let faults = packets.iter().filter(|packet| packet.is_err()).count();
    assert!(faults <= 1 && (faults == 0 || packets.last().is_some_and(Result::is_err)));
}

/// Whether a body is right, decided by its code units one at a time, as a JavaScript client would.
fn is_sound(body: &str) -> bool {
    let units: Vec<u16> = body.encode_utf16().collect();
    let mut rest = units.as_slice();
    while let Some(colon) = rest.iter().position(|unit| *unit == u16::from(b':')) {
        let digits = String::from_utf16_lossy(&rest[..colon]);
        if digits.len() > 10 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
            return false;
        }
        let Ok(length) = digits.parse::<usize>() else { return false };
        let Some((packet, after)) = rest[colon + 1..].split_at_checked(length) else { return false };
        let Ok(packet) = String::from_utf16(packet) else { return false };
        if !packet.is_empty() && payload3::decode(&packet).is_err() {
            return false;
        }
        rest = after;
    }
    rest.is_empty() && !units.is_empty()
}

/// What a client's form makes of a text comes back, and a script holds no line end.
fn form(text: &str) {
    let escaped = text.replace("\\n", "\\\n").replace('\n', "\\n");
    let form = format!("d={}", crate::protocol::http::query::encode(&escaped));
    // A backslash before a line end is lost on the way, in stock clients too. JSON has none.
    if !text.contains("\\\n") {
        assert_eq!(jsonp::decode(&form).as_deref(), Some(text));
    }
    let script =
        String::from_utf8(jsonp::encode(jsonp::Callback::parse("1"), text)).expect("a script is text");
    assert!(!script.contains(['\n', '\r', '\u{2028}', '\u{2029}']));
    let json = script.strip_prefix("___eio[1](").and_then(|rest| rest.strip_suffix(");"));
    let back: Option<String> = json.and_then(|json| serde_json::from_str(json).ok());
    assert_eq!(back.as_deref(), Some(text));
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_returns(text in "\\PC{0,60}") {
            body(text.as_bytes());
        }

        #[test]
        fn any_bytes_return(bytes in vec(prop_oneof![Just(0_u8), Just(1), Just(0xff), 0_u8..10, any::<u8>()], 0..60)) {
            body(&bytes);
        }

        #[test]
        fn lengths_near_the_truth_return(
            packets in vec(("[0-7b]?[a4=😀é€\\\\n\n]{0,6}", 0_usize..3), 0..6),
        ) {
            let mut text = String::new();
            for (packet, off) in packets {
                let units = (packet.encode_utf16().count() + off).saturating_sub(1);
                text.push_str(&format!("{units}:{packet}"));
            }
            body(text.as_bytes());
        }

        #[test]
        fn what_is_written_is_read_in_either_form(
            messages in vec(prop_oneof!["[a😀é€:0-9]{0,30}".prop_map(Ok), vec(any::<u8>(), 0..40).prop_map(Err)], 1..9),
        ) {
            let (mut text, mut bytes) = (Vec::new(), Vec::new());
            for message in &messages {
                match message {
                    Ok(message) => {
                        payload3::append_text(&mut text, &format!("4{message}"));
                        payload3::append_binary(&mut bytes, false, format!("4{message}").as_bytes());
                    }
                    Err(message) => {
                        let mut typed = Vec::new();
                        payload3::append_typed(&mut typed, message);
                        payload3::append_base64(&mut text, &typed);
                        payload3::append_binary(&mut bytes, true, &typed);
                    }
                }
            }
            let value = |packet: Result<Packet<'_>, PacketError>| match packet {
                Ok(Packet::Message(text)) => Ok(text.to_owned()),
                Ok(Packet::Binary(bytes)) => Err(bytes.to_vec()),
                Ok(Packet::Base64(text)) => Err(super::super::payload::decode_base64(text).expect("it is ours")),
                other => panic!("{other:?}"),
            };
            let text = String::from_utf8(text).expect("a text body");
            prop_assert_eq!(payload3::packets(&text).map(value).collect::<Vec<_>>(), messages.clone());
            prop_assert_eq!(payload3::binary_packets(&bytes).map(value).collect::<Vec<_>>(), messages);
        }
    }
}
