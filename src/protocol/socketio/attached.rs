//! Reads a type from arguments that have attachments: bytes stand where a placeholder was.
//!
//! Wraps serde_json's deserializer. A type that takes anything at all ([`serde_json::Value`]) or any map would take a placeholder
//! for an object of the client's: it is told that it has no room for bytes. `AnyValue` has, and `Binary`, also within an enum that serde keeps until
//! it knows for whom, and `RawJson` get what they always got. Only for packets with attachments: others hold no placeholders.

use std::cell::Cell;
use std::fmt;

use bytes::Bytes;
use serde::de::value::{self, BytesDeserializer};
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, EnumAccess, Error, IgnoredAny, IntoDeserializer, MapAccess,
    SeqAccess, VariantAccess, Visitor,
};
use serde_json::Value;

use super::binary;
use super::each_method::each_method;

/// The names of newtypes that read serde_json's text themselves.
pub(super) const READS_TEXT: [&str; 2] = [binary::NAME, "$serde_json::private::RawValue"];

/// What a type without room for bytes is told.
const NO_ROOM: &str = "a binary attachment stands here: read it as shardcast::Binary, a value that it may stand in as shardcast::AnyValue, or keep \
     the text as shardcast::RawJson";

/// What comes after the beginning of a placeholder is kept as a [`Value`] and read from there. Within what is kept the same may
/// begin, and is kept again: so often at most, since each time costs as much as all that is within.
const KEPT_DEPTH_MAX: u32 = 4;

/// What a client is told that nests what looks like placeholders.
const TOO_DEEP: &str = "objects with the keys of an attachment's placeholder are nested too deep";

thread_local! {
    /// How many kept values surround what is being read.
    static KEPT_DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Reads from a value that was kept.
fn within_kept<R>(read: impl FnOnce() -> R) -> R {
    struct Restore(u32);

    impl Drop for Restore {
        fn drop(&mut self) {
            KEPT_DEPTH.set(self.0);
        }
    }

    let _restore = Restore(KEPT_DEPTH.get());
    KEPT_DEPTH.set(KEPT_DEPTH.get() + 1);
    read()
}

/// A type that is read within arguments that have attachments.
pub(super) struct AmongAttachments<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for AmongAttachments<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(Attached(deserializer)).map(AmongAttachments)
    }
}

/// An argument that is an attachment as a whole, for what takes bytes: `Binary`, `AnyValue`, `&[u8]`, an `Option` of them. Other types
/// are read elsewhere.
pub(super) struct Alone<'e, 't> {
    pub(super) num: usize,
    pub(super) bytes: &'e Bytes,
    /// This is within [`with_incoming`](binary::with_incoming): what is kept and looked at later finds the attachment, too.
    pub(super) is_surrounded: bool,
    /// Set when the attachment was asked for: a type that asks for nothing is read elsewhere, too.
    pub(super) is_taken: &'t mut bool,
}

/// Says that the type is another, to who knows that already.
#[derive(Debug)]
pub(super) struct NotBytes;

impl fmt::Display for NotBytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("no binary attachment is asked for")
    }
}

impl std::error::Error for NotBytes {}

impl Error for NotBytes {
    fn custom<T: fmt::Display>(_: T) -> NotBytes {
        NotBytes
    }
}

macro_rules! refused {
    ($($method:ident($($name:ident: $type:ty),*);)*) => {$(
        fn $method<V: Visitor<'de>>(self, $(_: $type,)* _: V) -> Result<V::Value, NotBytes> {
            Err(NotBytes)
        }
    )*};
}

impl<'de> Deserializer<'de> for Alone<'de, '_> {
    type Error = NotBytes;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NotBytes> {
        if !self.is_surrounded {
            return Err(NotBytes);
        }
        *self.is_taken = true;
        visitor.visit_map(Marker { num: self.num, entries_left: 2 }).map_err(|_| NotBytes)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NotBytes> {
        *self.is_taken = true;
        visitor.visit_borrowed_bytes(self.bytes)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NotBytes> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NotBytes> {
        visitor.visit_some(self)
    }

    each_method!(refused);

    refused! {
        deserialize_ignored_any();
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, NotBytes> {
        if name != binary::NAME {
            return Err(NotBytes);
        }
        *self.is_taken = true;
        binary::hand_over(self.bytes.clone(), visitor)
    }
}

/// A deserializer, or an access to its parts, within arguments that have attachments.
pub(super) struct Attached<T>(pub(super) T);

macro_rules! forward {
    ($($method:ident($($name:ident: $type:ty),*);)*) => {$(
        fn $method<V: Visitor<'de>>(self, $($name: $type,)* visitor: V) -> Result<V::Value, D::Error> {
            self.0.$method($($name,)* Within { visitor, takes_anything: false })
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Attached<D> {
    type Error = D::Error;

    each_method!(forward);

    forward! {
        deserialize_option();
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_any(Within { visitor, takes_anything: true })
    }

    /// Bytes are a list of numbers, a text, or an attachment.
    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_any(Within { visitor, takes_anything: false })
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_any(Within { visitor, takes_anything: false })
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_ignored_any(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        match READS_TEXT.contains(&name) {
            true => self.0.deserialize_newtype_struct(name, visitor),
            false => self.0.deserialize_newtype_struct(name, Within { visitor, takes_anything: false }),
        }
    }

    fn is_human_readable(&self) -> bool {
        self.0.is_human_readable()
    }
}

/// A visitor whose parts are read within arguments that have attachments.
struct Within<V> {
    visitor: V,
    takes_anything: bool,
}

macro_rules! plain_values {
    ($($method:ident($type:ty);)*) => {$(
        fn $method<E: Error>(self, value: $type) -> Result<V::Value, E> {
            self.visitor.$method(value)
        }
    )*};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Within<V> {
    type Value = V::Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(formatter)
    }

    plain_values! {
        visit_bool(bool);
        visit_i64(i64);
        visit_i128(i128);
        visit_u64(u64);
        visit_u128(u128);
        visit_f64(f64);
        visit_char(char);
        visit_str(&str);
        visit_borrowed_str(&'de str);
        visit_string(String);
        visit_bytes(&[u8]);
        visit_borrowed_bytes(&'de [u8]);
        visit_byte_buf(Vec<u8>);
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_unit()
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_none()
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.visitor.visit_some(Attached(inner))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.visitor.visit_newtype_struct(Attached(inner))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_seq(Attached(items))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, variant: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_enum(Attached(variant))
    }

    /// An object that is a placeholder is bytes for whoever takes them.
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        let Within { visitor, takes_anything } = self;
        let read = match Looked::at(map)? {
            Looked::Object(object) => return visitor.visit_map(object),
            Looked::Attachment(num, _) if takes_anything => {
                visitor.visit_map(Marker { num, entries_left: 2 })
            }
            Looked::Attachment(_, bytes) => visitor.visit_byte_buf::<value::Error>(bytes.into()),
        };
        read.map_err(|_| A::Error::custom(NO_ROOM))
    }
}

/// What an object turned out to be after its first entries.
enum Looked<A> {
    Attachment(usize, Bytes),
    Object(Object<A>),
}

/// An object of which some entries have been read already.
struct Object<A> {
    /// The entries that have been read, the last one first.
    entries: Vec<(String, Value)>,
    value: Option<Value>,
    /// The key after them, whose value is still to be read.
    key: Option<String>,
    rest: A,
}

impl<'de, A: MapAccess<'de>> Looked<A> {
    /// Reads on as long as it may be a placeholder: its keys come first, in whichever order. Stock clients write no others.
    fn at(mut rest: A) -> Result<Looked<A>, A::Error> {
        let mut entries = Vec::new();
        let (mut key, mut is_placeholder, mut num) = (None, false, None);
        while let Some(next) = rest.next_key::<String>()? {
            let is_its_own = next == binary::PLACEHOLDER_KEY || next == binary::NUM_KEY;
            if !is_its_own && !is_placeholder {
                key = Some(next);
                break;
            }
            let value = rest.next_value::<Value>()?;
            if (value.is_array() || value.is_object()) && KEPT_DEPTH.get() >= KEPT_DEPTH_MAX {
                return Err(A::Error::custom(TOO_DEEP));
            }
            match next.as_str() {
                binary::PLACEHOLDER_KEY => is_placeholder = value == Value::Bool(true),
                binary::NUM_KEY => num = value.as_u64().map(|num| num as usize),
                _ => {}
            }
            entries.push((next, value));
        }
        let attachment = num.filter(|_| is_placeholder).and_then(|num| Some((num, binary::incoming(num)?)));
        Ok(match attachment {
            Some((num, bytes)) => Looked::Attachment(num, bytes),
            None => {
                entries.reverse();
                Looked::Object(Object { entries, value: None, key, rest })
            }
        })
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Object<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        let key = match self.entries.pop() {
            Some((key, value)) => {
                self.value = Some(value);
                Some(key)
            }
            None => self.key.take(),
        };
        match key {
            Some(key) => {
                let alone = Value::Object(std::iter::once((key, Value::Null)).collect());
                alone.deserialize_map(OneKey(seed)).map(Some).map_err(A::Error::custom)
            }
            None => self.rest.next_key_seed(seed),
        }
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, A::Error> {
        match self.value.take() {
            Some(value) => within_kept(|| seed.deserialize(Attached(value))).map_err(A::Error::custom),
            None => self.rest.next_value_seed(Seed(seed)),
        }
    }
}

/// Gives a placeholder back as an object, for types of serde that keep a value until they know what it becomes (untagged enums). Its keys are bytes: `Binary` reads those, and
/// `serde_json::Value` does not.
struct Marker {
    num: usize,
    entries_left: u8,
}

impl<'de> MapAccess<'de> for Marker {
    type Error = value::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, value::Error> {
        let key = match self.entries_left {
            2 => binary::PLACEHOLDER_KEY,
            1 => binary::NUM_KEY,
            _ => return Ok(None),
        };
        seed.deserialize(BytesDeserializer::new(key.as_bytes())).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, value::Error> {
        self.entries_left = self.entries_left.saturating_sub(1);
        match self.entries_left {
            1 => seed.deserialize(true.into_deserializer()),
            _ => seed.deserialize(self.num.into_deserializer()),
        }
    }
}

/// Reads the one key of an object: as a number too, which serde_json does for the keys of its maps.
struct OneKey<K>(K);

impl<'de, K: DeserializeSeed<'de>> Visitor<'de> for OneKey<K> {
    type Value = K::Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object with one key")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<K::Value, A::Error> {
        let key = map.next_key_seed(self.0)?;
        map.next_value::<IgnoredAny>()?;
        key.ok_or_else(|| A::Error::custom("an object without a key"))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Attached<A> {
    type Error = A::Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, A::Error> {
        self.0.next_element_seed(Seed(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, A: EnumAccess<'de>> EnumAccess<'de> for Attached<A> {
    type Error = A::Error;
    type Variant = Attached<A::Variant>;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self::Variant), A::Error> {
        self.0.variant_seed(seed).map(|(value, variant)| (value, Attached(variant)))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Attached<A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.0.unit_variant()
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, A::Error> {
        self.0.newtype_variant_seed(Seed(seed))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        self.0.tuple_variant(len, Within { visitor, takes_anything: false })
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        self.0.struct_variant(fields, Within { visitor, takes_anything: false })
    }
}

/// A seed that is planted within arguments that have attachments.
struct Seed<T>(T);

impl<'de, T: DeserializeSeed<'de>> DeserializeSeed<'de> for Seed<T> {
    type Value = T::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<T::Value, D::Error> {
        self.0.deserialize(Attached(inner))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::super::binary::Binary;
    use super::super::event::{Args, ArgsError};
    use super::super::raw_json::RawJson;
    use super::*;

    const PLACEHOLDER: &str = r#"{"_placeholder":true,"num":1}"#;

    fn read<T: serde::de::DeserializeOwned>(element: &str) -> Result<T, ArgsError> {
        let attachments = [Bytes::from_static(b"x"), Bytes::from_static(b"yz")];
        Args::of_ack(&format!("[{element}]"), &attachments).read(0)
    }

    fn wrapped(element: &str) -> [String; 5] {
        [
            element.to_owned(),
            format!("[1,{element}]"),
            format!("{{\"num\":{element}}}"),
            format!("{{\"other\":[{{\"k\":{element}}}]}}"),
            format!("{{\"_placeholder\":false,\"num\":1,\"k\":{element}}}"),
        ]
    }

    #[test]
    fn a_value_has_no_room_for_bytes_and_says_what_has() {
        #[derive(Debug, Deserialize)]
        struct Picture {
            #[expect(dead_code, reason = "it is only read")]
            data: Value,
        }
        let orders =
            [PLACEHOLDER, r#"{"num":1,"_placeholder":true}"#, r#"{"num":1,"_placeholder":true,"a":[]}"#];
        for placeholder in orders {
            for element in wrapped(placeholder).iter().take(4) {
                let error = read::<Value>(element).unwrap_err().to_string();
                assert!(error.contains("shardcast::Binary"), "{element}: {error}");
            }
            let error = read::<Picture>(&format!("{{\"data\":{placeholder}}}")).unwrap_err().to_string();
            assert!(error.contains("shardcast::Binary"), "{error}");
            let error = read::<BTreeMap<String, Value>>(&format!("{{\"a\":{placeholder}}}")).unwrap_err();
            assert!(error.to_string().contains("shardcast::Binary"), "{error}");
            assert!(read::<Option<Value>>(placeholder).is_err());
        }
    }

    #[test]
    fn what_is_no_placeholder_is_read_as_it_is() {
        let texts = [
            r#"{"_placeholder":false,"num":1}"#,
            r#"{"num":5}"#,
            r#"{"num":[1,{"num":"x"}],"_placeholder":"true","b":{"c":null}}"#,
            r#"{"a":{"num":1},"_placeholder":1}"#,
            "{}",
            r#"[1,-2,3.5,"x",null,true,{"num":{"_placeholder":null}}]"#,
        ];
        for text in texts {
            for element in wrapped(text) {
                let expected: Value = serde_json::from_str(&element).unwrap();
                assert_eq!(read::<Value>(&element), Ok(expected), "{element}");
            }
        }
        assert_eq!(read::<BTreeMap<u8, u8>>(r#"{"1":2}"#), Ok(BTreeMap::from([(1, 2)])));
        #[derive(Debug, PartialEq, Deserialize)]
        struct Frame {
            num: u8,
            rest: Option<(u8, String)>,
        }
        let frame = Frame { num: 3, rest: Some((4, "a".to_owned())) };
        assert_eq!(read::<Frame>(r#"{"num":3,"rest":[4,"a"]}"#), Ok(frame));
    }

    #[test]
    fn what_looks_like_a_placeholder_is_kept_a_few_times_only() {
        let nested = |levels: u32, begin: &str| {
            let levels = levels as usize;
            format!("{}[1]{}", begin.repeat(levels), "}".repeat(levels))
        };
        for begin in [r#"{"num":"#, r#"{"_placeholder":"#, r#"{"_placeholder":true,"a":"#, r#"{"a":1,"b":"#] {
            let few = nested(KEPT_DEPTH_MAX, begin);
            assert_eq!(read::<Value>(&few), Ok(serde_json::from_str(&few).unwrap()), "{few}");
            let many = read::<Value>(&nested(100, begin)).map_err(|error| error.to_string());
            assert_eq!(many.is_err(), !begin.contains("\"b\""), "{begin}");
            assert!(many.err().is_none_or(|error| error.contains(TOO_DEEP)), "{begin}");
            assert_eq!(KEPT_DEPTH.get(), 0);
        }
        let beside = format!("[{}]", vec![nested(KEPT_DEPTH_MAX, r#"{"num":"#); 50].join(","));
        assert!(read::<Value>(&beside).is_ok(), "beside each other they cost nothing");
    }

    #[test]
    fn bytes_go_where_there_is_room_for_them() {
        #[derive(Debug, PartialEq, Deserialize)]
        #[serde(untagged)]
        enum TextOrBytes {
            Text(String),
            Bytes(Binary),
        }
        #[derive(Debug, PartialEq, Deserialize)]
        #[serde(untagged)]
        enum NumberOrAny {
            Number(u8),
            Any(Value),
        }
        #[derive(Debug, PartialEq, Deserialize)]
        #[serde(tag = "kind")]
        enum Message {
            File { data: Binary },
        }
        #[derive(Debug, PartialEq, Deserialize)]
        enum Named {
            File(Binary),
            Two(Binary, u8),
            Both { one: Binary },
        }
        #[derive(Debug, PartialEq, Deserialize)]
        struct Flat {
            #[serde(flatten)]
            rest: BTreeMap<String, Binary>,
        }
        let bytes = || Binary::from(b"yz".to_vec());
        assert_eq!(read(PLACEHOLDER), Ok(TextOrBytes::Bytes(bytes())));
        assert!(read::<NumberOrAny>(PLACEHOLDER).is_err(), "a value has no room for bytes there either");
        assert_eq!(read("\"a\""), Ok(TextOrBytes::Text("a".to_owned())));
        assert_eq!(
            read(&format!("{{\"kind\":\"File\",\"data\":{PLACEHOLDER}}}")),
            Ok(Message::File { data: bytes() })
        );
        assert_eq!(read(&format!("{{\"File\":{PLACEHOLDER}}}")), Ok(Named::File(bytes())));
        assert_eq!(read(&format!("{{\"Two\":[{PLACEHOLDER},7]}}")), Ok(Named::Two(bytes(), 7)));
        assert_eq!(
            read(&format!("{{\"Both\":{{\"one\":{PLACEHOLDER}}}}}")),
            Ok(Named::Both { one: bytes() })
        );
        let flat = Flat { rest: BTreeMap::from([("a".to_owned(), bytes())]) };
        assert_eq!(read(&format!("{{\"a\":{PLACEHOLDER}}}")), Ok(flat));
        assert_eq!(read::<Option<Binary>>(PLACEHOLDER), Ok(Some(bytes())));
        let raw: (RawJson, Binary) = read(&format!("[{PLACEHOLDER},{PLACEHOLDER}]")).unwrap();
        assert_eq!((raw.0.as_str(), raw.1), (PLACEHOLDER, bytes()));
        assert!(read::<Binary>(r#"{"_placeholder":true,"num":2}"#).is_err(), "there is none");
    }
}
