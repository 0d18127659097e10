//! Half characters in JSON text: `"\ud83d"`, an escape of one UTF-16 surrogate without the other (RFC 8259 §8.2).
//!
//! A JavaScript client makes one when it cuts a text within an emoji, Python's `json` too. The text is valid and is passed
//! on as it came; but no Rust string holds half a character, so whoever reads a type of it gets U+FFFD there. Does not look
//! at a text before serde_json has refused it.

use serde::de::DeserializeOwned;

/// Bytes of `\uXXXX`.
const ESCAPE_BYTES: usize = 6;

/// Reads a type from JSON, with U+FFFD for each half character.
///
/// # Errors
/// What serde_json says of the text.
pub(crate) fn read_json<T: DeserializeOwned>(text: &str) -> serde_json::Result<T> {
    serde_json::from_str(text).or_else(|error| match mend(text) {
        Some(mended) => serde_json::from_str(&mended),
        None => Err(error),
    })
}

/// The same for whatever reads from a text and failed: the text with U+FFFD for each half character, if it has any.
#[cold]
pub(crate) fn mend(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut mended: Option<Vec<u8>> = None;
    let mut at = 0;
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr::memchr(b'\\', rest)) {
        at += found;
        match unit_at(text, at) {
            None => at += 2,
            Some(0xd800..=0xdbff) if matches!(unit_at(text, at + ESCAPE_BYTES), Some(0xdc00..=0xdfff)) => {
                at += 2 * ESCAPE_BYTES;
            }
            Some(0xd800..=0xdfff) => {
                let mended = mended.get_or_insert_with(|| bytes.to_vec());
                if let Some(digits) = mended.get_mut(at + 2..at + ESCAPE_BYTES) {
                    digits.copy_from_slice(b"fffd");
                }
                at += ESCAPE_BYTES;
            }
            Some(_) => at += ESCAPE_BYTES,
        }
    }
    String::from_utf8(mended?).ok()
}

/// Bytes that are UTF-8 but for half characters, each in the three bytes that its number would have: the text before the
/// first half, the half, and what follows it. `None` if they are something else.
pub(crate) fn split_at_half(bytes: &[u8]) -> Option<(&str, Option<u16>, &[u8])> {
    let valid_len = match std::str::from_utf8(bytes) {
        Ok(text) => return Some((text, None, &[])),
        Err(error) => error.valid_up_to(),
    };
    let (text, rest) = bytes.split_at_checked(valid_len)?;
    let (&[0xed, second @ 0xa0..=0xbf, third @ 0x80..=0xbf], rest) = rest.split_first_chunk()? else {
        return None;
    };
    let unit = 0xd000 | u16::from(second & 0x3f) << 6 | u16::from(third & 0x3f);
    Some((std::str::from_utf8(text).ok()?, Some(unit), rest))
}

/// The UTF-16 unit that the escape at this place stands for, if it is one of that kind.
fn unit_at(text: &str, at: usize) -> Option<u16> {
    let digits = text.get(at..at + ESCAPE_BYTES)?.strip_prefix("\\u")?;
    u16::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_half_character_is_read_as_the_replacement_character() {
        let rows = [
            (r#""abc\ud83d""#, "abc\u{fffd}"),
            (r#""\ud83d\ude00""#, "\u{1f600}"),
            (r#""\ud83d\ud83d\ude00""#, "\u{fffd}\u{1f600}"),
            (r#""\ude00\ud83d""#, "\u{fffd}\u{fffd}"),
            (r#""\uD83D x""#, "\u{fffd} x"),
            (r#""\\ud83d\ud83d""#, "\\ud83d\u{fffd}"),
            (r#""\ud83d\n\u0041""#, "\u{fffd}\nA"),
            (r#""\ud83dA""#, "\u{fffd}A"),
            (r#""\ud83dé""#, "\u{fffd}é"),
        ];
        for (text, expected) in rows {
            assert_eq!(read_json::<String>(text).unwrap(), expected, "{text}");
            assert_eq!(read_json::<Value>(text).unwrap(), Value::String(expected.to_owned()), "{text}");
            let in_a_list = format!("[{{\"k\":{text}}}]");
            let list: Vec<BTreeMap<String, String>> = read_json(&in_a_list).unwrap();
            assert_eq!(list[0]["k"], expected);
        }
        let map: BTreeMap<String, u8> = read_json(r#"{"\ud83d":1}"#).unwrap();
        assert_eq!(map["\u{fffd}"], 1);
    }

    #[test]
    fn other_faults_stay_faults() {
        assert_eq!(mend(r#"{"a":"\u0041\ud83d\ude00\\ud83d"}"#), None);
        assert!(read_json::<u8>(r#""\ud83d""#).is_err_and(|error| error.to_string().contains("string")));
        assert!(read_json::<String>("\"\\ud83d").is_err());
        for text in ["\\", "\"\\u", "\\ud8", "\\ud83d\\u", "\\ud83d\\"] {
            let _ = mend(text);
        }
    }

    #[test]
    fn halves_in_bytes_are_split_off() {
        assert_eq!(split_at_half(b"plain"), Some(("plain", None, &b""[..])));
        assert_eq!(split_at_half(b"a\xed\xa0\xbdb"), Some(("a", Some(0xd83d), &b"b"[..])));
        assert_eq!(split_at_half(b"\xed\xbf\xbf"), Some(("", Some(0xdfff), &b""[..])));
        for bytes in [&b"\xff"[..], b"\xed\xa0", b"\xed\x9f\xff", b"a\xc0\x80", b"\xed\xa0\xc0"] {
            assert_eq!(split_at_half(bytes), None, "{bytes:x?}");
        }
    }

    proptest! {
        #[test]
        fn utf_16_of_any_kind_reads_as_its_lossy_text(
            units in prop::collection::vec(
                prop_oneof![Just(0xd83d_u16), Just(0xde00), Just(0x5c), Just(0x75), any::<u16>()], 0..12
            )
        ) {
            let escaped: String = units.iter().map(|unit| format!("\\u{unit:04x}")).collect();
            let read: String = read_json(&format!("\"{escaped}\"")).unwrap();
            prop_assert_eq!(read, String::from_utf16_lossy(&units));
        }
    }
}
