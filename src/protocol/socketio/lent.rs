//! Reads types that borrow from the arguments: `&str`, `&[u8]`, structs with such fields.
//!
//! A text without escapes is lent from the packet, an attachment from its message. A text with escapes is in no place as it is
//! meant, so it is put into a [`Scratch`] and lent from there. Owned types are read here as everywhere else.

use std::cell::{Cell, OnceCell};
use std::fmt;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use crate::protocol::surrogates;

use super::attached::{Attached, READS_TEXT};
use super::binary;
use super::each_method::each_method;

/// Texts and bytes that arguments are lent from, beside their packet. Allocates for the first of them.
#[derive(Default)]
pub(crate) struct Scratch {
    texts: Arena<Box<str>>,
    bytes: Arena<Box<[u8]>>,
}

impl Scratch {
    fn keep_text(&self, text: impl Into<Box<str>>) -> &str {
        self.texts.keep(text.into())
    }

    fn keep_bytes(&self, bytes: impl Into<Box<[u8]>>) -> &[u8] {
        self.bytes.keep(bytes.into())
    }
}

impl fmt::Debug for Scratch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Scratch").field("texts", &self.texts.len.get()).finish_non_exhaustive()
    }
}

/// How many values the first block has room for; each further block has twice as many as the one before.
const BLOCK_LEN_FIRST: usize = 8;

/// Values that stay where they are until all of them go.
struct Arena<T> {
    len: Cell<usize>,
    first: OnceCell<Box<Block<T>>>,
}

struct Block<T> {
    values: Box<[OnceCell<T>]>,
    next: OnceCell<Box<Block<T>>>,
}

impl<T> Default for Arena<T> {
    fn default() -> Arena<T> {
        Arena { len: Cell::new(0), first: OnceCell::new() }
    }
}

impl<T> Block<T> {
    fn with_room(len: usize) -> Box<Block<T>> {
        let values = std::iter::repeat_with(OnceCell::new).take(len).collect();
        Box::new(Block { values, next: OnceCell::new() })
    }
}

impl<T> Arena<T> {
    fn keep(&self, value: T) -> &T {
        let mut place = self.len.replace(self.len.get() + 1);
        let mut block = self.first.get_or_init(|| Block::with_room(BLOCK_LEN_FIRST));
        while place >= block.values.len() {
            place -= block.values.len();
            block = block.next.get_or_init(|| Block::with_room(2 * block.values.len()));
        }
        block.values[place].get_or_init(|| value)
    }
}

/// Reads a type that may borrow from the text, from the attachments, or from what had to be unescaped.
///
/// # Errors
/// What serde_json says of the text.
#[inline]
pub(super) fn read_lent<'e, T: Deserialize<'e>>(
    element: &'e str,
    attachments: &'e [Bytes],
    scratch: &'e Scratch,
) -> serde_json::Result<T> {
    match attachments {
        [] => serde_json::from_str(element).or_else(|error| {
            let read = |text| read_unescaped(text, scratch);
            again(element, scratch, error, read)
        }),
        _ => binary::with_incoming(attachments, || {
            read_with_attachments(element, attachments).or_else(|error| {
                let read = |text| read_unescaped_attached(text, scratch);
                // Bytes within a struct are lent from the scratch, too.
                match read(element) {
                    Ok(value) => Ok(value),
                    Err(_) => again(element, scratch, error, read),
                }
            })
        }),
    }
}

/// What cannot be lent as it stands may be so once it is unescaped, with U+FFFD for half characters.
#[cold]
fn again<'e, T>(
    element: &'e str,
    scratch: &'e Scratch,
    error: serde_json::Error,
    read: impl FnOnce(&'e str) -> serde_json::Result<T>,
) -> serde_json::Result<T> {
    if memchr::memchr(b'\\', element.as_bytes()).is_none() {
        return Err(error);
    }
    match surrogates::mend(element) {
        Some(mended) => read(scratch.keep_text(mended)),
        None => read(element).map_err(|_| error),
    }
}

fn read_unescaped<'e, T: Deserialize<'e>>(text: &'e str, scratch: &'e Scratch) -> serde_json::Result<T> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = T::deserialize(Lent { inner: &mut deserializer, scratch })?;
    deserializer.end().map(|()| value)
}

fn read_unescaped_attached<'e, T: Deserialize<'e>>(
    text: &'e str,
    scratch: &'e Scratch,
) -> serde_json::Result<T> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = T::deserialize(Lent { inner: Attached(&mut deserializer), scratch })?;
    deserializer.end().map(|()| value)
}

#[inline(never)]
fn read_with_attachments<'e, T: Deserialize<'e>>(
    element: &'e str,
    attachments: &'e [Bytes],
) -> serde_json::Result<T> {
    let mut deserializer = serde_json::Deserializer::from_str(element);
    let mut rest = true;
    let whole = Whole { element, attachments, inner: Attached(&mut deserializer), rest: &mut rest };
    let value = T::deserialize(whole)?;
    if rest { deserializer.end().map(|()| value) } else { Ok(value) }
}

/// A whole argument, of which whoever asks for bytes gets an attachment as it came.
struct Whole<'e, 'r, D> {
    element: &'e str,
    attachments: &'e [Bytes],
    inner: D,
    /// Set to false when the text was not read by `inner`.
    rest: &'r mut bool,
}

impl<'e, D: Deserializer<'e>> Whole<'e, '_, D> {
    /// The attachment that the argument is.
    fn attachment(&self) -> Option<&'e [u8]> {
        let num = binary::placeholder(self.element)?;
        self.attachments.get(num).map(AsRef::as_ref)
    }
}

macro_rules! forward_whole {
    ($($method:ident($($name:ident: $type:ty),*);)*) => {$(
        fn $method<V: Visitor<'e>>(self, $($name: $type,)* visitor: V) -> Result<V::Value, D::Error> {
            self.inner.$method($($name,)* visitor)
        }
    )*};
}

impl<'e, D: Deserializer<'e>> Deserializer<'e> for Whole<'e, '_, D> {
    type Error = D::Error;

    each_method!(forward_whole);

    forward_whole! {
        deserialize_any();
        deserialize_ignored_any();
    }

    fn deserialize_newtype_struct<V: Visitor<'e>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_newtype_struct(name, visitor)
    }

    fn deserialize_bytes<V: Visitor<'e>>(self, visitor: V) -> Result<V::Value, D::Error> {
        match self.attachment() {
            Some(bytes) => {
                *self.rest = false;
                visitor.visit_borrowed_bytes(bytes)
            }
            None => self.inner.deserialize_bytes(visitor),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'e>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'e>>(self, visitor: V) -> Result<V::Value, D::Error> {
        match self.element {
            "null" => self.inner.deserialize_option(visitor),
            _ => visitor.visit_some(self),
        }
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

/// A deserializer, or an access to its parts, whose texts and bytes can be borrowed in any case.
struct Lent<'e, T> {
    inner: T,
    scratch: &'e Scratch,
}

macro_rules! forward_lent {
    ($($method:ident($($name:ident: $type:ty),*);)*) => {$(
        fn $method<V: Visitor<'e>>(self, $($name: $type,)* visitor: V) -> Result<V::Value, D::Error> {
            self.inner.$method($($name,)* Lent { inner: visitor, scratch: self.scratch })
        }
    )*};
}

impl<'e, D: Deserializer<'e>> Deserializer<'e> for Lent<'e, D> {
    type Error = D::Error;

    each_method!(forward_lent);

    forward_lent! {
        deserialize_any();
        deserialize_ignored_any();
    }

    forward_lent! {
        deserialize_bytes();
        deserialize_byte_buf();
        deserialize_option();
    }

    fn deserialize_newtype_struct<V: Visitor<'e>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        match READS_TEXT.contains(&name) {
            true => self.inner.deserialize_newtype_struct(name, visitor),
            false => {
                let visitor = Lent { inner: visitor, scratch: self.scratch };
                self.inner.deserialize_newtype_struct(name, visitor)
            }
        }
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

macro_rules! plain_values {
    ($($method:ident($type:ty);)*) => {$(
        fn $method<E: Error>(self, value: $type) -> Result<V::Value, E> {
            self.inner.$method(value)
        }
    )*};
}

/// A visitor that is lent what it would otherwise only be shown.
impl<'e, V: Visitor<'e>> Visitor<'e> for Lent<'e, V> {
    type Value = V::Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(formatter)
    }

    plain_values! {
        visit_bool(bool);
        visit_i64(i64);
        visit_i128(i128);
        visit_u64(u64);
        visit_u128(u128);
        visit_f64(f64);
        visit_char(char);
        visit_borrowed_str(&'e str);
        visit_borrowed_bytes(&'e [u8]);
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<V::Value, E> {
        self.inner.visit_borrowed_str(self.scratch.keep_text(text))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<V::Value, E> {
        self.inner.visit_borrowed_str(self.scratch.keep_text(text))
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<V::Value, E> {
        self.inner.visit_borrowed_bytes(self.scratch.keep_bytes(bytes))
    }

    fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<V::Value, E> {
        self.inner.visit_borrowed_bytes(self.scratch.keep_bytes(bytes))
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_some<D: Deserializer<'e>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.inner.visit_some(Lent { inner, scratch: self.scratch })
    }

    fn visit_newtype_struct<D: Deserializer<'e>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.inner.visit_newtype_struct(Lent { inner, scratch: self.scratch })
    }

    fn visit_seq<A: SeqAccess<'e>>(self, items: A) -> Result<V::Value, A::Error> {
        self.inner.visit_seq(Lent { inner: items, scratch: self.scratch })
    }

    fn visit_map<A: MapAccess<'e>>(self, map: A) -> Result<V::Value, A::Error> {
        self.inner.visit_map(Lent { inner: map, scratch: self.scratch })
    }

    fn visit_enum<A: EnumAccess<'e>>(self, variant: A) -> Result<V::Value, A::Error> {
        self.inner.visit_enum(Lent { inner: variant, scratch: self.scratch })
    }
}

impl<'e, T: DeserializeSeed<'e>> DeserializeSeed<'e> for Lent<'e, T> {
    type Value = T::Value;

    fn deserialize<D: Deserializer<'e>>(self, inner: D) -> Result<T::Value, D::Error> {
        self.inner.deserialize(Lent { inner, scratch: self.scratch })
    }
}

impl<'e, A: SeqAccess<'e>> SeqAccess<'e> for Lent<'e, A> {
    type Error = A::Error;

    fn next_element_seed<T: DeserializeSeed<'e>>(&mut self, seed: T) -> Result<Option<T::Value>, A::Error> {
        self.inner.next_element_seed(Lent { inner: seed, scratch: self.scratch })
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'e, A: MapAccess<'e>> MapAccess<'e> for Lent<'e, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'e>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        self.inner.next_key_seed(Lent { inner: seed, scratch: self.scratch })
    }

    fn next_value_seed<T: DeserializeSeed<'e>>(&mut self, seed: T) -> Result<T::Value, A::Error> {
        self.inner.next_value_seed(Lent { inner: seed, scratch: self.scratch })
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'e, A: EnumAccess<'e>> EnumAccess<'e> for Lent<'e, A> {
    type Error = A::Error;
    type Variant = Lent<'e, A::Variant>;

    fn variant_seed<T: DeserializeSeed<'e>>(self, seed: T) -> Result<(T::Value, Self::Variant), A::Error> {
        let scratch = self.scratch;
        let (value, inner) = self.inner.variant_seed(Lent { inner: seed, scratch })?;
        Ok((value, Lent { inner, scratch }))
    }
}

impl<'e, A: VariantAccess<'e>> VariantAccess<'e> for Lent<'e, A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.inner.unit_variant()
    }

    fn newtype_variant_seed<T: DeserializeSeed<'e>>(self, seed: T) -> Result<T::Value, A::Error> {
        self.inner.newtype_variant_seed(Lent { inner: seed, scratch: self.scratch })
    }

    fn tuple_variant<V: Visitor<'e>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        self.inner.tuple_variant(len, Lent { inner: visitor, scratch: self.scratch })
    }

    fn struct_variant<V: Visitor<'e>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        self.inner.struct_variant(fields, Lent { inner: visitor, scratch: self.scratch })
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::collections::BTreeMap;

    use serde_json::Value;

    use super::super::binary::Binary;
    use super::super::raw_json::RawJson;
    use super::*;

    const PLACEHOLDER: &str = r#"{"_placeholder":true,"num":1}"#;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Move<'a> {
        name: &'a str,
        #[serde(borrow)]
        note: Option<Cow<'a, str>>,
        to: (i32, i32),
    }

    #[derive(Debug, PartialEq, Deserialize)]
    enum Shape<'a> {
        Unit,
        One(&'a str),
        Two(&'a str, Vec<&'a str>),
        Named { name: &'a str },
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(untagged)]
    enum Either<'a> {
        Number(i64),
        Text(&'a str),
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Picture<'a> {
        name: &'a str,
        data: &'a [u8],
        same: Binary,
    }

    /// Reads without attachments and with some that are not meant: nothing else may depend on that.
    fn read<'e, T>(element: &'e str, scratch: &'e Scratch, attachments: &'e [Bytes], expected: &T)
    where
        T: Deserialize<'e> + PartialEq + fmt::Debug,
    {
        for attachments in [&[], attachments] {
            let read: T =
                read_lent(element, attachments, scratch).unwrap_or_else(|error| panic!("{element}: {error}"));
            assert_eq!(read, *expected, "{element}");
        }
    }

    fn attachments() -> [Bytes; 2] {
        [Bytes::from_static(b"x"), Bytes::from_static(b"yz")]
    }

    #[test]
    fn texts_are_lent_with_escapes_and_without() {
        let rows = [
            (r#""plain""#, "plain"),
            (r#""""#, ""),
            (r#""ä\u00e4""#, "ää"),
            (r#""a\nb\"c\\""#, "a\nb\"c\\"),
            (r#""\ud83d\ude00""#, "\u{1f600}"),
            (r#""half \ud83d""#, "half \u{fffd}"),
        ];
        let (scratch, attachments) = (Scratch::default(), attachments());
        for (element, expected) in rows {
            read::<&str>(element, &scratch, &attachments, &expected);
            read::<Option<&str>>(element, &scratch, &attachments, &Some(expected));
            read::<&[u8]>(element, &scratch, &attachments, &expected.as_bytes());
            read::<String>(element, &scratch, &attachments, &expected.to_owned());
            read::<Value>(element, &scratch, &attachments, &Value::from(expected));
            read::<Cow<'_, str>>(element, &scratch, &attachments, &Cow::Borrowed(expected));
        }
        read::<Option<&str>>("null", &scratch, &attachments, &None);
        let text = r#""as it came""#;
        let lent: &str = read_lent(text, &[], &scratch).unwrap();
        assert_eq!(lent.as_ptr(), text[1..].as_ptr(), "nothing is copied");
    }

    #[test]
    fn what_is_built_of_texts_is_lent_too() {
        let (scratch, attachments) = (Scratch::default(), attachments());
        for name in ["Ada", "A\\nda", "\\ud83d"] {
            let element = format!(r#"{{"more":["\t"],"name":"{name}","note":"{name}","to":[1,2]}}"#);
            let name = match name {
                "Ada" => "Ada",
                "A\\nda" => "A\nda",
                _ => "\u{fffd}",
            };
            let scratch = Scratch::default();
            let expected = Move { name, note: Some(name.into()), to: (1, 2) };
            read(&element, &scratch, &attachments, &expected);
        }
        read(r#"["a","\n",{}]"#, &scratch, &attachments, &("a", "\n", BTreeMap::<&str, &str>::new()));
        read(r#"{"\u006b":"\t"}"#, &scratch, &attachments, &BTreeMap::from([("k", "\t")]));
        read(r#""Unit""#, &scratch, &attachments, &Shape::Unit);
        read(r#"{"\u004fne":"\t"}"#, &scratch, &attachments, &Shape::One("\t"));
        read(r#"{"Two":["\t",["\n"]]}"#, &scratch, &attachments, &Shape::Two("\t", vec!["\n"]));
        read(r#"{"Named":{"name":"\t"}}"#, &scratch, &attachments, &Shape::Named { name: "\t" });
        read(r#""\t""#, &scratch, &attachments, &Either::Text("\t"));
        read("7", &scratch, &attachments, &Either::Number(7));
        read(r#"["\t"]"#, &scratch, &attachments, &(RawJson::new(r#""\t""#).unwrap(),));
    }

    #[test]
    fn attachments_are_lent() {
        let (scratch, attachments) = (Scratch::default(), attachments());
        let bytes: &[u8] = read_lent(PLACEHOLDER, &attachments, &scratch).unwrap();
        assert_eq!((bytes, bytes.as_ptr()), (&b"yz"[..], attachments[1].as_ptr()), "nothing is copied");
        let bytes: Option<&[u8]> = read_lent(PLACEHOLDER, &attachments, &scratch).unwrap();
        assert_eq!(bytes.map(<[u8]>::as_ptr), Some(attachments[1].as_ptr()), "nor within an Option");
        let binary: Binary = read_lent(PLACEHOLDER, &attachments, &scratch).unwrap();
        assert_eq!(binary.0.as_ptr(), attachments[1].as_ptr());
        for name in ["Ada", "A\\u0064a"] {
            let element = format!(r#"{{"name":"{name}","data":{PLACEHOLDER},"same":{PLACEHOLDER}}}"#);
            let picture: Picture<'_> = read_lent(&element, &attachments, &scratch).unwrap();
            let expected = Picture { name: "Ada", data: b"yz", same: Binary(attachments[1].clone()) };
            assert_eq!(picture, expected);
        }
        for element in [r#"{"_placeholder":true,"num":2}"#, "7", "{}", r#"{"_placeholder":false,"num":1}"#] {
            assert!(read_lent::<&[u8]>(element, &attachments, &scratch).is_err(), "{element}");
        }
        assert!(read_lent::<&str>(PLACEHOLDER, &attachments, &scratch).is_err(), "bytes are no text");
        assert!(read_lent::<Value>(PLACEHOLDER, &attachments, &scratch).is_err(), "and no JSON");
    }

    #[test]
    fn faults_are_told_as_for_owned_types() {
        let scratch = Scratch::default();
        for element in ["7", "[]", "null", "{}", r#"["\n"]"#] {
            let lent = read_lent::<&str>(element, &[], &scratch).unwrap_err().to_string();
            assert!(lent.contains("expected a borrowed string"), "{element}: {lent}");
        }
        let lent = read_lent::<Move<'_>>(r#"{"name":"\n"}"#, &[], &scratch).unwrap_err().to_string();
        assert!(lent.contains("invalid type") || lent.contains("missing field `to`"), "{lent}");
    }

    #[test]
    fn many_escaped_texts_stay_where_they_are() {
        let scratch = Scratch::default();
        let texts: Vec<String> = (0..10_000).map(|number| format!("{number}\n")).collect();
        let element = serde_json::to_string(&texts).unwrap();
        let lent: Vec<&str> = read_lent(&element, &[], &scratch).unwrap();
        assert_eq!(lent, texts);
    }
}
