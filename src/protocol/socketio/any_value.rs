//! A value of whatever a client can send: JSON, with bytes where they stand.
//!
//! What [`serde_json::Value`] is to JSON. Bytes are attachments on the wire (`binary`); within this type they are values like others.
//! Does not keep the order of an object's members, nor the text of what came: `RawJson` and `OwnedArgs` do.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Index, IndexMut};

use bytes::Bytes;
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Number, Value};

use super::binary::{self, Binary};

/// Any value that a client can send, with bytes wherever they stand: [`serde_json::Value`] with one kind more.
///
/// It is an argument, a reply, and what an emit takes; it may stand within other types; and it reads and writes whatever serde does.
/// On the wire its bytes are attachments, of which a client can send ten with one event. They are not copied. What came by the msgpack
/// parser, or from clients of Socket.IO 2, is read alike. Nested as deep as a packet may be: 128 levels.
///
/// ```
/// use shardcast::testing::TestServer;
/// use shardcast::{AnyValue, Binary, Config, Context, Server};
///
/// let server = Server::new(Config::default()).namespace("/", |io| {
///     // Gives back what came, pictures and all.
///     io.on("echo", |_: &mut Context, value: AnyValue| value);
///     io.on("save", |cx: &mut Context, mut value: AnyValue| {
///         let len = value["files"][0]["data"].as_bytes().map_or(0, |bytes| bytes.len());
///         value["saved"] = AnyValue::from(len);
///         cx.broadcast().emit("saved", &value);
///         len
///     });
/// });
/// let server = TestServer::new(server).unwrap();
/// let client = server.connect("/").unwrap();
/// let file = AnyValue::from_iter([("name", AnyValue::from("a.png")), ("data", AnyValue::from(Binary::from(vec![1, 2, 3])))]);
/// let value = AnyValue::from_iter([("files", AnyValue::from(vec![file]))]);
/// assert_eq!(client.call("echo", &value).unwrap().first::<AnyValue>().unwrap(), value);
/// assert_eq!(client.call("save", &value).unwrap().first::<usize>().unwrap(), 3);
/// ```
///
/// Outside of an emit or an acknowledgement its bytes are written as base64 texts, as those of [`Binary`] are, and JSON that is read
/// there has none.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum AnyValue {
    /// `null`.
    #[default]
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, an integer if it was written as one.
    Number(Number),
    /// A text.
    String(String),
    /// A list.
    Array(Vec<AnyValue>),
    /// An object, or a dictionary.
    Object(BTreeMap<String, AnyValue>),
    /// A `Buffer`, an `ArrayBuffer`, or Python's `bytes`.
    Bytes(Bytes),
}

/// What a value that is not there is.
static NULL: AnyValue = AnyValue::Null;

impl AnyValue {
    /// Whether it is `null`.
    pub fn is_null(&self) -> bool {
        matches!(self, AnyValue::Null)
    }

    /// `true` or `false`, if it is that.
    pub fn as_bool(&self) -> Option<bool> {
        if let AnyValue::Bool(value) = self { Some(*value) } else { None }
    }

    /// The number, if it is an integer that fits.
    pub fn as_i64(&self) -> Option<i64> {
        self.as_number()?.as_i64()
    }

    /// The number, if it is an integer that fits.
    pub fn as_u64(&self) -> Option<u64> {
        self.as_number()?.as_u64()
    }

    /// The number, if it is one.
    pub fn as_f64(&self) -> Option<f64> {
        self.as_number()?.as_f64()
    }

    fn as_number(&self) -> Option<&Number> {
        if let AnyValue::Number(number) = self { Some(number) } else { None }
    }

    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        if let AnyValue::String(text) = self { Some(text) } else { None }
    }

    /// The bytes, if it is such. To clone them copies a pointer.
    pub fn as_bytes(&self) -> Option<&Bytes> {
        if let AnyValue::Bytes(bytes) = self { Some(bytes) } else { None }
    }

    /// The list, if it is one.
    pub fn as_array(&self) -> Option<&Vec<AnyValue>> {
        if let AnyValue::Array(items) = self { Some(items) } else { None }
    }

    /// The list, to change it.
    pub fn as_array_mut(&mut self) -> Option<&mut Vec<AnyValue>> {
        if let AnyValue::Array(items) = self { Some(items) } else { None }
    }

    /// The object, if it is one.
    pub fn as_object(&self) -> Option<&BTreeMap<String, AnyValue>> {
        if let AnyValue::Object(members) = self { Some(members) } else { None }
    }

    /// The object, to change it.
    pub fn as_object_mut(&mut self) -> Option<&mut BTreeMap<String, AnyValue>> {
        if let AnyValue::Object(members) = self { Some(members) } else { None }
    }

    /// A member of an object.
    ///
    /// ```
    /// use shardcast::AnyValue;
    ///
    /// let value = AnyValue::from(serde_json::json!({ "a": [1, 2] }));
    /// assert_eq!(value.get("a"), Some(&AnyValue::from(vec![1, 2])));
    /// assert_eq!(value.get("b"), None);
    /// ```
    pub fn get(&self, key: &str) -> Option<&AnyValue> {
        self.as_object()?.get(key)
    }

    /// Takes the value out, and leaves `null`.
    pub fn take(&mut self) -> AnyValue {
        std::mem::take(self)
    }

    /// Whether bytes stand in it anywhere.
    pub fn has_bytes(&self) -> bool {
        match self {
            AnyValue::Bytes(_) => true,
            AnyValue::Array(items) => items.iter().any(AnyValue::has_bytes),
            AnyValue::Object(members) => members.values().any(AnyValue::has_bytes),
            _ => false,
        }
    }
}

/// A member of an object; `null` if it has none of that name, or is no object.
impl Index<&str> for AnyValue {
    type Output = AnyValue;

    fn index(&self, key: &str) -> &AnyValue {
        self.get(key).unwrap_or(&NULL)
    }
}

/// A member of an object, which is made if there is none; whatever is no object becomes one.
impl IndexMut<&str> for AnyValue {
    fn index_mut(&mut self, key: &str) -> &mut AnyValue {
        if !matches!(self, AnyValue::Object(_)) {
            *self = AnyValue::Object(BTreeMap::new());
        }
        let AnyValue::Object(members) = self else { unreachable!("it was just made one") };
        members.entry(key.to_owned()).or_default()
    }
}

/// An element of a list; `null` if there are not so many, or it is no list.
impl Index<usize> for AnyValue {
    type Output = AnyValue;

    fn index(&self, index: usize) -> &AnyValue {
        self.as_array().and_then(|items| items.get(index)).unwrap_or(&NULL)
    }
}

macro_rules! from_plain {
    ($($type:ty: $value:ident => $any:expr;)*) => {$(
        impl From<$type> for AnyValue {
            fn from($value: $type) -> AnyValue {
                $any
            }
        }
    )*};
}

from_plain! {
    bool: value => AnyValue::Bool(value);
    i8: value => AnyValue::Number(value.into());
    i16: value => AnyValue::Number(value.into());
    i32: value => AnyValue::Number(value.into());
    i64: value => AnyValue::Number(value.into());
    isize: value => AnyValue::Number(value.into());
    u8: value => AnyValue::Number(value.into());
    u16: value => AnyValue::Number(value.into());
    u32: value => AnyValue::Number(value.into());
    u64: value => AnyValue::Number(value.into());
    usize: value => AnyValue::Number(value.into());
    f32: value => AnyValue::from(f64::from(value));
    // As in JSON, a number that is not finite is null.
    f64: value => Number::from_f64(value).map_or(AnyValue::Null, AnyValue::Number);
    &str: value => AnyValue::String(value.to_owned());
    String: value => AnyValue::String(value);
    Bytes: value => AnyValue::Bytes(value);
    Binary: value => AnyValue::Bytes(value.0);
}

/// A list. A `Vec<u8>` is a list of numbers, as everywhere in serde; as bytes it is given as [`Binary`].
impl<T: Into<AnyValue>> From<Vec<T>> for AnyValue {
    fn from(items: Vec<T>) -> AnyValue {
        items.into_iter().collect()
    }
}

/// `None` is `null`.
impl<T: Into<AnyValue>> From<Option<T>> for AnyValue {
    fn from(value: Option<T>) -> AnyValue {
        value.map_or(AnyValue::Null, Into::into)
    }
}

/// A list.
impl<T: Into<AnyValue>> FromIterator<T> for AnyValue {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> AnyValue {
        AnyValue::Array(items.into_iter().map(Into::into).collect())
    }
}

/// An object, of its keys and values.
impl<K: Into<String>, V: Into<AnyValue>> FromIterator<(K, V)> for AnyValue {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(members: I) -> AnyValue {
        AnyValue::Object(members.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }
}

impl From<Value> for AnyValue {
    fn from(value: Value) -> AnyValue {
        match value {
            Value::Null => AnyValue::Null,
            Value::Bool(value) => AnyValue::Bool(value),
            Value::Number(number) => AnyValue::Number(number),
            Value::String(text) => AnyValue::String(text),
            Value::Array(items) => items.into_iter().collect(),
            Value::Object(members) => members.into_iter().collect(),
        }
    }
}

/// Why an [`AnyValue`] is no JSON: bytes stand in it.
///
/// ```
/// use shardcast::{AnyValue, Binary};
///
/// let value = AnyValue::from(vec![Binary::from(vec![1])]);
/// assert_eq!(serde_json::Value::try_from(value).unwrap_err().to_string(), "bytes stand in the value, and JSON has none");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HasBytes;

impl fmt::Display for HasBytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("bytes stand in the value, and JSON has none")
    }
}

impl std::error::Error for HasBytes {}

impl TryFrom<AnyValue> for Value {
    type Error = HasBytes;

    fn try_from(value: AnyValue) -> Result<Value, HasBytes> {
        Ok(match value {
            AnyValue::Null => Value::Null,
            AnyValue::Bool(value) => Value::Bool(value),
            AnyValue::Number(number) => Value::Number(number),
            AnyValue::String(text) => Value::String(text),
            AnyValue::Array(items) => {
                Value::Array(items.into_iter().map(Value::try_from).collect::<Result<_, _>>()?)
            }
            AnyValue::Object(members) => {
                let members = members.into_iter().map(|(key, value)| Ok((key, Value::try_from(value)?)));
                Value::Object(members.collect::<Result<_, HasBytes>>()?)
            }
            AnyValue::Bytes(_) => return Err(HasBytes),
        })
    }
}

impl Serialize for AnyValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            AnyValue::Null => serializer.serialize_unit(),
            AnyValue::Bool(value) => serializer.serialize_bool(*value),
            AnyValue::Number(number) => number.serialize(serializer),
            AnyValue::String(text) => serializer.serialize_str(text),
            AnyValue::Array(items) => items.serialize(serializer),
            AnyValue::Object(members) => members.serialize(serializer),
            AnyValue::Bytes(bytes) => binary::serialize(bytes, serializer),
        }
    }
}

impl<'de> Deserialize<'de> for AnyValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<AnyValue, D::Error> {
        deserializer.deserialize_any(AnyVisitor)
    }
}

struct AnyVisitor;

impl<'de> Visitor<'de> for AnyVisitor {
    type Value = AnyValue;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any value")
    }

    fn visit_unit<E: Error>(self) -> Result<AnyValue, E> {
        Ok(AnyValue::Null)
    }

    fn visit_none<E: Error>(self) -> Result<AnyValue, E> {
        Ok(AnyValue::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<AnyValue, D::Error> {
        AnyValue::deserialize(inner)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<AnyValue, D::Error> {
        AnyValue::deserialize(inner)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<AnyValue, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<AnyValue, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<AnyValue, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<AnyValue, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<AnyValue, E> {
        Ok(text.into())
    }

    fn visit_string<E: Error>(self, text: String) -> Result<AnyValue, E> {
        Ok(text.into())
    }

    /// JSON has no bytes; other formats do.
    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<AnyValue, E> {
        Ok(AnyValue::Bytes(Bytes::copy_from_slice(bytes)))
    }

    fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<AnyValue, E> {
        Ok(AnyValue::Bytes(bytes.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<AnyValue, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(AnyValue::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<AnyValue, A::Error> {
        let mut members = BTreeMap::new();
        while let Some(key) = map.next_key()? {
            match key {
                Key::Text(key) => {
                    members.insert(key, map.next_value()?);
                }
                Key::Placeholder => return binary::read_placeholder(map).map(AnyValue::Bytes),
            }
        }
        Ok(AnyValue::Object(members))
    }
}

/// The key of an object's member. Where an attachment stands the key is bytes: see `attached`.
enum Key {
    Text(String),
    Placeholder,
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Key, D::Error> {
        deserializer.deserialize_any(KeyVisitor)
    }
}

struct KeyVisitor;

impl Visitor<'_> for KeyVisitor {
    type Value = Key;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a text as a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Key, E> {
        Ok(Key::Text(key.to_owned()))
    }

    fn visit_string<E: Error>(self, key: String) -> Result<Key, E> {
        Ok(Key::Text(key))
    }

    fn visit_bytes<E: Error>(self, key: &[u8]) -> Result<Key, E> {
        match std::str::from_utf8(key) {
            Ok(binary::PLACEHOLDER_KEY) => Ok(Key::Placeholder),
            Ok(key) => self.visit_str(key),
            Err(_) => Err(E::custom("a key is no text")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::encode::{self, EncodeError};
    use super::super::event::{Args, ArgsError};
    use super::super::msgpack;
    use super::super::packet;
    use super::*;

    fn bytes(value: &[u8]) -> AnyValue {
        AnyValue::Bytes(Bytes::copy_from_slice(value))
    }

    /// What a client would get, and whether it reads as what was sent: by the JSON parser and by msgpack's.
    fn assert_comes_back(value: &AnyValue) -> Result<(), EncodeError> {
        let (mut text, mut attachments) = (Vec::new(), Vec::new());
        encode::encode_event(&mut text, "/", None, "a", &(value, 7), &mut attachments)?;
        let text = String::from_utf8(text).unwrap();
        let payload = &text[text.find('[').unwrap()..];
        assert_eq!(attachments.is_empty(), !value.has_bytes());
        let event = super::super::event::Event::decode(payload, &attachments).unwrap();
        assert_eq!(event.args.read::<AnyValue>(0).as_ref(), Ok(value), "{payload}");
        let mut reader = event.args.reader();
        assert_eq!((reader.next::<AnyValue>().as_ref(), reader.next::<u8>()), (Ok(value), Ok(7)));
        let packet = packet::split(&text).unwrap();
        if packet::check(&packet).is_ok() {
            let mut packed = Vec::new();
            let slices: Vec<&[u8]> = attachments.iter().map(AsRef::as_ref).collect();
            msgpack::encode(&mut packed, &text, &slices).unwrap();
            let message = msgpack::decode(&packed.into()).unwrap();
            let packet = message.packet();
            let event = super::super::event::Event::decode(packet.payload, &message.attachments).unwrap();
            assert_eq!(event.args.read::<AnyValue>(0).as_ref(), Ok(value));
        }
        Ok(())
    }

    #[test]
    fn bytes_are_read_where_they_stand() {
        let attachments = [Bytes::from_static(b"x"), Bytes::from_static(b"yz")];
        let read = |element: &str| Args::of_elements(element, &attachments).read::<AnyValue>(0);
        assert_eq!(read(r#"{"_placeholder":true,"num":1}"#), Ok(bytes(b"yz")));
        assert_eq!(read(r#" {"num":0, "_placeholder":true}"#), Ok(bytes(b"x")));
        let value =
            read(r#"[1,{"a":{"_placeholder":true,"num":1},"b":[null,{"_placeholder":true,"num":0}]}]"#);
        let expected = AnyValue::from(vec![
            AnyValue::from(1),
            AnyValue::from_iter([("a", bytes(b"yz")), ("b", vec![AnyValue::Null, bytes(b"x")].into())]),
        ]);
        assert_eq!(value, Ok(expected));
        for data in
            [json!({ "_placeholder": false, "num": 1 }), json!({ "num": 1 }), json!({ "_placeholder": 1 })]
        {
            assert_eq!(read(&data.to_string()), Ok(AnyValue::from(data)));
        }
        let value: Result<AnyValue, ArgsError> =
            Args::of_elements(r#"{"_placeholder":true,"num":0}"#, &[]).read(0);
        assert_eq!(
            value,
            Ok(json!({ "_placeholder": true, "num": 0 }).into()),
            "without attachments it is data"
        );
        assert_eq!(Args::default().read::<AnyValue>(0), Ok(AnyValue::Null));
    }

    #[test]
    fn it_stands_within_other_types() {
        #[derive(Debug, PartialEq, Deserialize)]
        #[serde(untagged)]
        enum Either {
            Number(u8),
            Any(AnyValue),
        }
        #[derive(Debug, PartialEq, Deserialize)]
        struct Outer {
            name: String,
            #[serde(flatten)]
            rest: BTreeMap<String, AnyValue>,
        }
        let attachments = [Bytes::from_static(b"x")];
        let raw =
            r#"[{"_placeholder":true,"num":0},7],{"name":"n","a":{"_placeholder":true,"num":0},"b":[2]}"#;
        let args = Args::of_elements(raw, &attachments);
        assert_eq!(args.read::<Vec<Either>>(0), Ok(vec![Either::Any(bytes(b"x")), Either::Number(7)]));
        let rest = BTreeMap::from([("a".to_owned(), bytes(b"x")), ("b".to_owned(), AnyValue::from(vec![2]))]);
        assert_eq!(args.read::<Outer>(1), Ok(Outer { name: "n".to_owned(), rest }));
        assert_eq!(args.read::<Option<Vec<AnyValue>>>(0), Ok(Some(vec![bytes(b"x"), 7.into()])));
    }

    #[test]
    fn json_is_a_value_and_a_value_without_bytes_is_json() {
        let value = json!({ "a": [1, -2, 2.5, "x", null, true], "b": { "c": {} } });
        let any = AnyValue::from(value.clone());
        assert_eq!(serde_json::from_value::<AnyValue>(value.clone()).unwrap(), any);
        assert_eq!(serde_json::to_value(&any).unwrap(), value);
        assert_eq!(Value::try_from(any.clone()), Ok(value));
        assert_eq!(Value::try_from(AnyValue::from_iter([("a", vec![any, bytes(b"x")])])), Err(HasBytes));
        assert_eq!(serde_json::to_string(&bytes(b"x")).unwrap(), "\"eA==\"", "outside of an emit");
    }

    #[test]
    fn parts_are_had_and_changed_by_name_and_place() {
        let mut value = AnyValue::from(json!({ "a": [1, "x", 2.5], "b": true }));
        assert_eq!(
            (value["a"][0].as_i64(), value["a"][0].as_u64(), value["a"][1].as_str(), value["a"][2].as_f64()),
            (Some(1), Some(1), Some("x"), Some(2.5))
        );
        assert_eq!(
            (value["b"].as_bool(), value["b"][3]["c"].is_null(), value.get("c")),
            (Some(true), true, None)
        );
        value["c"]["d"] = Binary::from(vec![9]).into();
        value["a"].as_array_mut().unwrap().push(None::<u8>.into());
        assert_eq!(
            (value["c"]["d"].as_bytes().map(|bytes| bytes[0]), value["a"].as_array().unwrap().len()),
            (Some(9), 4)
        );
        assert!(
            value.has_bytes() && value.as_object_mut().unwrap().remove("c").is_some() && !value.has_bytes()
        );
        assert_eq!((value["a"][1].clone().take(), AnyValue::from(f64::NAN)), ("x".into(), AnyValue::Null));
    }

    #[test]
    fn what_would_pass_for_an_attachment_is_refused_beside_bytes() {
        let poison = AnyValue::from(json!({ "_placeholder": true, "num": 0 }));
        assert_eq!(assert_comes_back(&poison), Ok(()));
        assert_eq!(assert_comes_back(&vec![poison, bytes(b"x")].into()), Err(EncodeError::Placeholder));
    }

    fn any_value() -> impl Strategy<Value = AnyValue> {
        let leaf = prop_oneof![
            Just(AnyValue::Null),
            any::<bool>().prop_map(AnyValue::from),
            any::<i64>().prop_map(AnyValue::from),
            any::<u64>().prop_map(AnyValue::from),
            (-1e9..1e9_f64).prop_map(AnyValue::from),
            "\\PC{0,12}".prop_map(AnyValue::from),
            prop::collection::vec(any::<u8>(), 0..20).prop_map(|value| bytes(&value)),
        ];
        leaf.prop_recursive(5, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(AnyValue::Array),
                prop::collection::btree_map("[a-z_]{0,4}|num|\\PC{0,3}", inner, 0..5)
                    .prop_map(AnyValue::Object),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_tree_comes_back_as_it_was(value in any_value()) {
            prop_assert_eq!(assert_comes_back(&value), Ok(()));
        }
    }
}
