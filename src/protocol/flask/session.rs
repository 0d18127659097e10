//! The session in a cookie: tagged JSON, compressed when that is shorter (Flask's `TaggedJSONSerializer`).

use std::fmt::Write as _;
use std::io::{Read, Write};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::protocol::surrogates::read_json;

/// A session's JSON, unpacked: a small cookie must not become a large allocation.
const JSON_BYTES_MAX: usize = 64 * 1024;

/// The keys by which Flask marks what JSON does not have: each alone in its object.
const TAGS: [&str; 6] = [" di", " t", " b", " m", " u", " d"];

/// What follows a dictionary's own key that would be taken for a tag.
const ESCAPE: &str = "__";

/// A session: names and values, as Flask's `session` is a dictionary.
///
/// Python's values arrive as what JSON has: a tuple as an array; bytes as base64, a UUID, a date and Markup as text. What is
/// not touched goes back as it came.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Session {
    /// With Flask's tags.
    tagged: Map<String, Value>,
}

impl Session {
    /// An empty session.
    pub fn new() -> Session {
        Session::default()
    }

    /// A value, if it is there and of this type.
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        serde_json::from_value(untag(self.tagged.get(name)?)).ok()
    }

    /// Sets a value. False when it is no JSON, and nothing is set.
    pub fn insert(&mut self, name: impl Into<String>, value: impl Serialize) -> bool {
        let Ok(value) = serde_json::to_value(value) else { return false };
        self.tagged.insert(name.into(), tag(value));
        true
    }

    /// Removes a value; false when there was none.
    pub fn remove(&mut self, name: &str) -> bool {
        self.tagged.remove(name).is_some()
    }

    /// Whether the browser is to keep it when it is closed: Flask's `session.permanent`.
    pub fn is_permanent(&self) -> bool {
        self.flag("_permanent")
    }

    /// Sets `session.permanent`.
    pub fn set_permanent(&mut self, is_permanent: bool) {
        self.tagged.insert("_permanent".to_owned(), is_permanent.into());
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.tagged.is_empty()
    }

    /// All of it.
    pub fn to_value(&self) -> Value {
        Value::Object(self.tagged.iter().map(|(name, value)| (name.clone(), untag(value))).collect())
    }

    /// Reads a cookie's payload.
    pub(super) fn decode(payload: &str) -> Option<Session> {
        let json = match payload.strip_prefix('.') {
            None => URL_SAFE_NO_PAD.decode(payload).ok()?,
            Some(packed) => {
                let packed = URL_SAFE_NO_PAD.decode(packed).ok()?;
                let mut json = Vec::new();
                let mut unpacked = ZlibDecoder::new(packed.as_slice()).take(JSON_BYTES_MAX as u64 + 1);
                unpacked.read_to_end(&mut json).ok()?;
                json
            }
        };
        if json.len() > JSON_BYTES_MAX {
            return None;
        }
        let tagged: Map<String, Value> = read_json(std::str::from_utf8(&json).ok()?).ok()?;
        Some(Session { tagged })
    }

    /// Writes a cookie's payload.
    pub(super) fn encode(&self) -> String {
        let json = ascii(&Value::Object(self.tagged.clone()).to_string());
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        let packed = encoder.write_all(json.as_bytes()).and_then(|()| encoder.finish()).ok();
        match packed.filter(|packed| packed.len() + 1 < json.len()) {
            Some(packed) => format!(".{}", URL_SAFE_NO_PAD.encode(packed)),
            None => URL_SAFE_NO_PAD.encode(json),
        }
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.tagged.get(name)?.as_str()
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        self.tagged.get(name).and_then(Value::as_bool).unwrap_or(false)
    }
}

/// The value without Flask's tags.
fn untag(value: &Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.iter().map(untag).collect()),
        Value::Object(object) => match sole_entry(object) {
            Some((" di", Value::Object(inner))) => match sole_entry(inner) {
                Some((key, value)) if key.ends_with(ESCAPE) => {
                    let key = key[..key.len() - ESCAPE.len()].to_owned();
                    Value::Object(Map::from_iter([(key, untag(value))]))
                }
                _ => untag(&object[" di"]),
            },
            Some((key, value)) if TAGS.contains(&key) => untag(value),
            _ => Value::Object(object.iter().map(|(key, value)| (key.clone(), untag(value))).collect()),
        },
        plain => plain.clone(),
    }
}

/// A value that is not Flask's, made safe from being read as a tag.
fn tag(value: Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.into_iter().map(tag).collect()),
        Value::Object(object) => {
            let is_like_a_tag = sole_entry(&object).is_some_and(|(key, _)| TAGS.contains(&key));
            let escape = if is_like_a_tag { ESCAPE } else { "" };
            let tagged = object.into_iter().map(|(key, value)| (key + escape, tag(value))).collect();
            if is_like_a_tag {
                Value::Object(Map::from_iter([(" di".to_owned(), Value::Object(tagged))]))
            } else {
                Value::Object(tagged)
            }
        }
        plain => plain,
    }
}

fn sole_entry(object: &Map<String, Value>) -> Option<(&str, &Value)> {
    let (key, value) = object.iter().next().filter(|_| object.len() == 1)?;
    Some((key, value))
}

/// JSON with nothing but ASCII in it, as Python writes it. Other characters are within strings only.
fn ascii(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for char in json.chars() {
        if char.is_ascii() {
            out.push(char);
            continue;
        }
        for unit in char.encode_utf16(&mut [0; 2]) {
            write!(out, "\\u{unit:04x}").expect("a String takes everything");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::protocol::flask::signer::{CookieError, CookieSigner};

    #[test]
    fn a_payload_is_packed_only_when_that_is_shorter_and_never_grows_without_bound() {
        let mut session = Session::new();
        session.insert("a", 1);
        assert_eq!(session.encode(), URL_SAFE_NO_PAD.encode(r#"{"a":1}"#));
        session.insert("long", "x".repeat(1000));
        assert!(session.encode().starts_with('.'));
        session.insert("long", "x".repeat(JSON_BYTES_MAX));
        assert_eq!(Session::decode(&session.encode()), None);
    }

    #[test]
    fn objects_that_look_like_tags_survive() {
        for value in [json!({ " t": [1] }), json!({ " di": { " b": 1 } }), json!({ "a": [{ " u": "x" }] })] {
            let mut session = Session::new();
            session.insert("v", &value);
            assert_eq!(session.get::<Value>("v"), Some(value));
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let key =
            prop_oneof![Just(" t".to_owned()), Just(" di".to_owned()), Just(" t__".to_owned()), ".{0,4}"];
        let leaf = prop_oneof![
            any::<i64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
            any::<bool>().prop_map(Value::from)
        ];
        leaf.prop_recursive(3, 24, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(key.clone(), inner, 0..3)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(value in value(), now in any::<u64>(), secret in prop::collection::vec(any::<u8>(), 1..64)) {
            let signer = CookieSigner::new(&secret);
            let mut session = Session::new();
            session.insert("v", &value);
            let cookie = signer.write(&session, now);
            prop_assert!(cookie.is_ascii());
            if cookie.len() < 8000 {
                let read = signer.read(&cookie, now).expect("our own cookie");
                prop_assert_eq!(read.get::<Value>("v"), Some(value));
                prop_assert_eq!(CookieSigner::new([&secret[..], b"!"].concat()).read(&cookie, now), Err(CookieError::BadSignature));
            }
        }
    }
}
