//! Vectors of `tests/vectors/msgpack`, and what holds for every value.

use std::fs;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::Value;

use super::super::json::tests::json;
use super::super::{fuzz, packet};
use super::*;

/// Cases that the file holds at least; fewer means that the runner has lost some.
const CASES_MIN: usize = 45;

const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/msgpack/packets.txt");

fn bytes_of(digits: &str) -> Bytes {
    let pairs = digits.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

fn encoded(text: &str, attachments: &[Bytes]) -> Bytes {
    let mut out = b"before".to_vec();
    let attachments: Vec<&[u8]> = attachments.iter().map(|bytes| &bytes[..]).collect();
    encode(&mut out, text, &attachments).unwrap();
    Bytes::from(out).slice(6..)
}

#[test]
fn every_vector_is_what_it_says_and_survives_the_way_back() {
    let text = fs::read_to_string(VECTORS).unwrap();
    let mut count = 0;
    for paragraph in text.split("\n\n").filter(|paragraph| paragraph.contains("name:")) {
        let lines = || paragraph.lines().filter_map(|line| line.split_once(':'));
        let field = |wanted: &str| lines().find(|(key, _)| *key == wanted).map(|(_, value)| value.trim());
        let (name, input) = (field("name").unwrap(), bytes_of(field("in").unwrap()));
        let decoded = decode(&input);
        count += 1;
        if let Some(refused) = field("refused") {
            let error = decoded.expect_err(name);
            let shown = match error {
                MsgpackError::Packet(error) => format!("{error:?}"),
                _ => format!("{error:?}"),
            };
            assert_eq!(shown, refused, "{name}");
            continue;
        }
        let message = decoded.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let text = field("text").unwrap();
        assert_eq!(message.packet(), packet::split(text).unwrap(), "{name}");
        let with: Vec<Bytes> =
            lines().filter(|(key, _)| *key == "with").map(|(_, digits)| bytes_of(digits.trim())).collect();
        assert_eq!(message.attachments, with, "{name}");
        assert_eq!(decode(&encoded(text, &with)), Ok(message), "{name}");
        for cut in 0..input.len() {
            assert!(decode(&input.slice(..cut)).is_err(), "{name}, cut at {cut}");
        }
    }
    assert!(count >= CASES_MIN, "only {count} cases");
}

#[test]
fn half_a_character_goes_on_as_the_escape_of_a_json_client() {
    // "b\ud83d" in the bytes that its number would have, as an argument, as a key and as a namespace.
    let decoded =
        decode(&bytes_of("83a47479706502a46461746193a161a462eda0bd81a3eda0bd01a36e7370a12f")).unwrap();
    assert_eq!(decoded.payload, r#"["a","b\ud83d",{"\ud83d":1}]"#);
    let packed = encoded(&format!("2{}", decoded.payload), &[]);
    assert_eq!(decode(&packed).unwrap().payload, "[\"a\",\"b\u{fffd}\",{\"\u{fffd}\":1}]");
    let namespace = decode(&bytes_of("82a47479706500a36e7370a42feda0bd")).unwrap().namespace;
    assert_eq!(namespace, "/\u{fffd}");
    let cut = decode(&bytes_of("83a47479706502a46461746192a161a2eda0a36e7370a12f"));
    assert_eq!(cut, Err(MsgpackError::StringNotUtf8));
}

#[test]
fn what_the_server_sends_is_what_notepack_writes() {
    let rows = [
        (r#"0{"sid":"a"}"#, "83a47479706500a36e7370a12fa46461746181a3736964a161"),
        (r#"4/n,{"message":"no"}"#, "83a47479706504a36e7370a22f6ea46461746181a76d657373616765a26e6f"),
        ("1/n,", "82a47479706501a36e7370a22f6e"),
        (
            r#"27["a",1.5,-33,128,null]"#,
            "84a47479706502a36e7370a12fa2696407a46461746195a161cb3ff8000000000000d0dfcc80c0",
        ),
    ];
    for (text, expected) in rows {
        assert_eq!(encoded(text, &[]), bytes_of(expected), "{text}");
    }
    let blob = Bytes::from(vec![7; 256]);
    let text = r#"52-["a",{"_placeholder":true,"num":1},{"num":0,"_placeholder":true}]"#;
    let mut expected = bytes_of("83a47479706502a36e7370a12fa46461746193a161c50100").to_vec();
    expected.extend_from_slice(&blob);
    expected.extend_from_slice(&[0xc4, 1, 9]);
    assert_eq!(encoded(text, &[Bytes::from_static(&[9]), blob]), expected);
}

#[test]
fn a_lone_surrogate_is_replaced_and_the_rest_of_its_string_kept() {
    for (quoted, expected) in [
        (r#""a\ud800b\n\"\u00e9""#, "a\u{fffd}b\n\"é"),
        (r#""\udc00\ud83d\ude00""#, "\u{fffd}😀"),
        (r#""\\ud800\ud800""#, "\\ud800\u{fffd}"),
    ] {
        let message = decode(&encoded(&format!("2[\"a\",{quoted}]"), &[])).unwrap();
        let payload: Value = serde_json::from_str(&message.payload).unwrap();
        assert_eq!(payload[1], expected, "{quoted}");
    }
}

#[test]
fn depth_and_the_number_of_binary_values_are_limited_exactly() {
    let nested = |levels: usize| {
        let mut bytes = bytes_of("82a36e7370a12f").to_vec();
        bytes[0] = 0x83;
        bytes.extend_from_slice(&bytes_of("a47479706502a46461746192a161"));
        bytes.extend(vec![0x91; levels - 2]);
        bytes.push(0x90);
        decode(&Bytes::from(bytes)).map(drop)
    };
    assert_eq!(nested(128), Ok(()));
    assert_eq!(nested(129), Err(MsgpackError::TooDeep));
    assert_eq!(nested(500_000), Err(MsgpackError::TooDeep));
    let binaries = |count: usize| {
        let mut bytes = bytes_of("83a36e7370a12fa47479706503a464617461dc").to_vec();
        bytes.extend_from_slice(&(count as u16).to_be_bytes());
        bytes.extend([0xc4, 0].repeat(count));
        decode(&Bytes::from(bytes)).map(|message| message.attachments.len())
    };
    assert_eq!(binaries(BINARIES_MAX), Ok(BINARIES_MAX));
    assert_eq!(binaries(BINARIES_MAX + 1), Err(MsgpackError::TooManyBinaries));
}

#[test]
fn an_announced_length_makes_no_room() {
    for digits in ["ddffffffff", "dfffffffff", "c6ffffffff", "dbffffffff", "c9ffffffff00"] {
        let input = bytes_of(&format!("83a36e7370a12fa47479706503a464617461{digits}"));
        assert_eq!(decode(&input), Err(MsgpackError::Truncated), "{digits}");
    }
}

proptest! {
    #[test]
    fn any_json_comes_back_as_the_same_value(items in prop::collection::vec(json(), 0..5), id in 0..1_u64 << 53) {
        let text = format!("3{id}[{}]", items.join(" , "));
        let payload: Result<Value, _> = serde_json::from_str(&text[1 + id.to_string().len()..]);
        // Lone surrogates and numbers beyond a double are valid here and not to serde_json.
        if let Ok(payload) = payload {
            let message = decode(&encoded(&text, &[])).unwrap();
            prop_assert_eq!(message.id, Some(id));
            prop_assert_eq!(serde_json::from_str::<Value>(&message.payload).unwrap(), payload);
        }
    }

    #[test]
    fn any_bytes_return(input in prop::collection::vec(any::<u8>(), 0..200)) {
        fuzz::msgpack(&input);
    }

    #[test]
    fn packets_with_a_flaw_return(
        items in prop::collection::vec(json(), 0..5),
        flaws in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let name = "\"name\"".to_owned();
        let text = format!("27[{}]", [vec![name], items].concat().join(","));
        let mut input = encoded(&text, &[]).to_vec();
        for (place, value) in flaws {
            let place = place.index(input.len());
            input[place] = value;
        }
        fuzz::msgpack(&input);
    }
}
