//! Values to JSON text: what serde_json's compact form gives, byte for byte, in fewer steps.
//!
//! Strings are copied in runs instead of byte by byte, and on the way it is seen whether a key could pass for that of an
//! attachment's placeholder, so that what was written need not be read again. Numbers with a fraction are written by serde_json.
//! Does not know packets.

use serde::Serialize;
use serde::ser::{
    Error, Impossible, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use super::binary::{OWN_PLACEHOLDER, PLACEHOLDER_KEY};
use super::encode::EncodeError;
use super::json::{plain_len, short_plain};

/// Structs in which serde_json hides text that is written as it is: raw values, and numbers with its `arbitrary_precision`.
const HOLD_TEXT: [&str; 2] = ["$serde_json::private::RawValue", "$serde_json::private::Number"];

/// Bytes that fit into 128 bits with two quotes.
const SHORT_TEXT_BYTES: usize = 14;

/// Digits of the largest `u64`.
const DECIMAL_DIGITS_MAX: usize = 20;

const HEX_DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Appends one value to `out`; what it notes is kept from value to value.
#[derive(Debug)]
pub(super) struct JsonWriter<'a> {
    pub(super) out: &'a mut Vec<u8>,
    /// How many placeholders [`Binary`](super::binary::Binary) values have written.
    pub(super) placeholders: usize,
    /// Something else may be a placeholder, too: a key of that name, or text that was taken as it is.
    pub(super) is_suspect: bool,
}

impl<'a> JsonWriter<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>) -> JsonWriter<'a> {
        JsonWriter { out, placeholders: 0, is_suspect: false }
    }

    fn push_key(&mut self, key: &str) {
        self.is_suspect |= key == PLACEHOLDER_KEY;
        push_string(self.out, key);
    }

    fn push_raw(&mut self, text: &str) {
        self.is_suspect = true;
        self.out.extend_from_slice(text.as_bytes());
    }

    /// Opens `{"variant":`, for what stands in an enum's variant.
    fn open_variant(&mut self, variant: &'static str) {
        self.out.push(b'{');
        self.push_key(variant);
        self.out.push(b':');
    }
}

/// Appends a text as a JSON string.
#[inline]
pub(super) fn push_string(out: &mut Vec<u8>, text: &str) {
    match quoted_short(text.as_bytes()) {
        Some((quoted, len)) => {
            let end = out.len() + len;
            out.extend_from_slice(&quoted.to_le_bytes());
            out.truncate(end);
        }
        None => push_long_string(out, text),
    }
}

/// A short text without escapes, in quotes: its bytes from the lowest on, and how many they are. Keys and most values are such: this
/// way they are written by one store of constant size, where a copy of any size is a call.
#[inline]
fn quoted_short(bytes: &[u8]) -> Option<(u128, usize)> {
    let len = bytes.len();
    if len > SHORT_TEXT_BYTES {
        return None;
    }
    let word = short_plain(bytes)?;
    let quote = u128::from(b'"');
    Some((quote | word << 8 | quote << (8 * (len + 1)), len + 2))
}

fn push_long_string(out: &mut Vec<u8>, text: &str) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    let mut rest = text.as_bytes();
    loop {
        let (plain, special) = rest.split_at(plain_len(rest));
        out.extend_from_slice(plain);
        let Some((&byte, after)) = special.split_first() else { break };
        push_escape(out, byte);
        rest = after;
    }
    out.push(b'"');
}

#[cold]
fn push_escape(out: &mut Vec<u8>, byte: u8) {
    let letter = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        b'\t' => b't',
        b'\n' => b'n',
        0x0c => b'f',
        b'\r' => b'r',
        _ => {
            let [high, low] = [byte >> 4, byte & 0x0f].map(|digit| HEX_DIGITS[usize::from(digit)]);
            return out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
        }
    };
    out.extend_from_slice(&[b'\\', letter]);
}

/// Appends a number in digits.
pub(super) fn push_decimal(out: &mut Vec<u8>, number: u64) {
    if number < 10 {
        return out.push(b'0' + number as u8);
    }
    let mut digits = [0; DECIMAL_DIGITS_MAX];
    let mut rest = number;
    let mut start = DECIMAL_DIGITS_MAX;
    for (place, digit) in digits.iter_mut().enumerate().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
        start = place;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(start..).unwrap_or_default());
}

fn push_signed(out: &mut Vec<u8>, number: i64) {
    if number < 0 {
        out.push(b'-');
    }
    push_decimal(out, number.unsigned_abs());
}

/// A number that has a fraction, or is too wide for 64 bits: rare, and serde_json knows how.
fn push_number(out: &mut Vec<u8>, number: impl Serialize) -> Result<(), EncodeError> {
    serde_json::to_writer(out, &number).map_err(EncodeError::custom)
}

macro_rules! integers {
    ($($method:ident($type:ty) by $push:ident;)*) => {$(
        #[inline]
        fn $method(self, value: $type) -> Result<(), EncodeError> {
            $push(self.out, value.into());
            Ok(())
        }
    )*};
}

impl<'w, 'a> Serializer for &'w mut JsonWriter<'a> {
    type Ok = ();
    type Error = EncodeError;
    type SerializeSeq = Parts<'w, 'a>;
    type SerializeTuple = Parts<'w, 'a>;
    type SerializeTupleStruct = Parts<'w, 'a>;
    type SerializeTupleVariant = Parts<'w, 'a>;
    type SerializeMap = Parts<'w, 'a>;
    type SerializeStruct = Parts<'w, 'a>;
    type SerializeStructVariant = Parts<'w, 'a>;

    integers! {
        serialize_i8(i8) by push_signed;
        serialize_i16(i16) by push_signed;
        serialize_i32(i32) by push_signed;
        serialize_i64(i64) by push_signed;
        serialize_u8(u8) by push_decimal;
        serialize_u16(u16) by push_decimal;
        serialize_u32(u32) by push_decimal;
        serialize_u64(u64) by push_decimal;
    }

    fn serialize_bool(self, value: bool) -> Result<(), EncodeError> {
        match value {
            true => self.out.extend_from_slice(b"true"),
            false => self.out.extend_from_slice(b"false"),
        }
        Ok(())
    }

    fn serialize_i128(self, value: i128) -> Result<(), EncodeError> {
        push_number(self.out, value)
    }

    fn serialize_u128(self, value: u128) -> Result<(), EncodeError> {
        push_number(self.out, value)
    }

    fn serialize_f32(self, value: f32) -> Result<(), EncodeError> {
        push_number(self.out, value)
    }

    fn serialize_f64(self, value: f64) -> Result<(), EncodeError> {
        push_number(self.out, value)
    }

    fn serialize_char(self, value: char) -> Result<(), EncodeError> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    #[inline]
    fn serialize_str(self, value: &str) -> Result<(), EncodeError> {
        push_string(self.out, value);
        Ok(())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), EncodeError> {
        self.collect_seq(value)
    }

    #[inline]
    fn serialize_none(self) -> Result<(), EncodeError> {
        self.serialize_unit()
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), EncodeError> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), EncodeError> {
        self.out.extend_from_slice(b"null");
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), EncodeError> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), EncodeError> {
        self.serialize_str(variant)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        self.open_variant(variant);
        value.serialize(&mut *self)?;
        self.out.push(b'}');
        Ok(())
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Parts<'w, 'a>, EncodeError> {
        Ok(Parts::open(self, b'[', b"]"))
    }

    fn serialize_tuple(self, _: usize) -> Result<Parts<'w, 'a>, EncodeError> {
        Ok(Parts::open(self, b'[', b"]"))
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Parts<'w, 'a>, EncodeError> {
        Ok(Parts::open(self, b'[', b"]"))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Parts<'w, 'a>, EncodeError> {
        self.open_variant(variant);
        Ok(Parts::open(self, b'[', b"]}"))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Parts<'w, 'a>, EncodeError> {
        Ok(Parts::open(self, b'{', b"}"))
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Parts<'w, 'a>, EncodeError> {
        if HOLD_TEXT.contains(&name) {
            return Ok(Parts { writer: self, is_first: true, close: b"", what: What::Text });
        }
        let is_own = name == OWN_PLACEHOLDER;
        self.placeholders += usize::from(is_own);
        let what = if is_own { What::OwnPlaceholder } else { What::Values };
        Ok(Parts { what, ..Parts::open(self, b'{', b"}") })
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Parts<'w, 'a>, EncodeError> {
        self.open_variant(variant);
        Ok(Parts::open(self, b'{', b"}}"))
    }
}

/// What is in the parts of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Values,
    /// Of a `Binary` value.
    OwnPlaceholder,
    /// One text, which is written as it is.
    Text,
}

/// The elements of a list or the members of an object that is being written.
#[derive(Debug)]
pub(super) struct Parts<'w, 'a> {
    writer: &'w mut JsonWriter<'a>,
    is_first: bool,
    close: &'static [u8],
    what: What,
}

impl<'w, 'a> Parts<'w, 'a> {
    #[inline]
    fn open(writer: &'w mut JsonWriter<'a>, open: u8, close: &'static [u8]) -> Parts<'w, 'a> {
        writer.out.push(open);
        Parts { writer, is_first: true, close, what: What::Values }
    }

    #[inline]
    fn push_comma(&mut self) {
        if !std::mem::replace(&mut self.is_first, false) {
            self.writer.out.push(b',');
        }
    }

    #[inline]
    fn push_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.push_comma();
        value.serialize(&mut *self.writer)
    }

    #[inline]
    fn push_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), EncodeError> {
        match self.what {
            What::Text => return value.serialize(Text { writer: self.writer, is_key: false }),
            What::OwnPlaceholder => {
                // Its two keys need no escapes.
                let quote: &[u8] = if std::mem::replace(&mut self.is_first, false) { b"\"" } else { b",\"" };
                self.writer.out.extend_from_slice(quote);
                self.writer.out.extend_from_slice(key.as_bytes());
                self.writer.out.push(b'"');
            }
            What::Values => {
                self.push_comma();
                self.writer.push_key(key);
            }
        }
        self.writer.out.push(b':');
        value.serialize(&mut *self.writer)
    }

    #[inline]
    fn finish(self) -> Result<(), EncodeError> {
        match self.close {
            [byte] => self.writer.out.push(*byte),
            close => self.writer.out.extend_from_slice(close),
        }
        Ok(())
    }
}

macro_rules! parts {
    ($($part:ident: $method:ident($($key:ident: $type:ty)?) by $push:ident;)*) => {$(
        impl $part for Parts<'_, '_> {
            type Ok = ();
            type Error = EncodeError;

            #[inline]
            fn $method<T: Serialize + ?Sized>(&mut self, $($key: $type,)? value: &T) -> Result<(), EncodeError> {
                self.$push($($key,)? value)
            }

            #[inline]
            fn end(self) -> Result<(), EncodeError> {
                self.finish()
            }
        }
    )*};
}

parts! {
    SerializeSeq: serialize_element() by push_element;
    SerializeTuple: serialize_element() by push_element;
    SerializeTupleStruct: serialize_field() by push_element;
    SerializeTupleVariant: serialize_field() by push_element;
    SerializeStruct: serialize_field(key: &'static str) by push_field;
    SerializeStructVariant: serialize_field(key: &'static str) by push_field;
}

impl SerializeMap for Parts<'_, '_> {
    type Ok = ();
    type Error = EncodeError;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), EncodeError> {
        self.push_comma();
        key.serialize(Text { writer: self.writer, is_key: true })
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.writer.out.push(b':');
        value.serialize(&mut *self.writer)
    }

    #[inline]
    fn end(self) -> Result<(), EncodeError> {
        self.finish()
    }
}

/// Takes a map's key, or text that is written as it is.
struct Text<'w, 'a> {
    writer: &'w mut JsonWriter<'a>,
    is_key: bool,
}

impl Text<'_, '_> {
    fn push(self, text: &str) -> Result<(), EncodeError> {
        match self.is_key {
            true => self.writer.push_key(text),
            false => self.writer.push_raw(text),
        }
        Ok(())
    }

    /// A key that is a number is written in quotes.
    fn push_quoted(self, value: impl Serialize) -> Result<(), EncodeError> {
        if !self.is_key {
            return Err(key_refused());
        }
        self.writer.out.push(b'"');
        value.serialize(&mut *self.writer)?;
        self.writer.out.push(b'"');
        Ok(())
    }

    fn push_float(self, value: f64, written: impl Serialize) -> Result<(), EncodeError> {
        if value.is_finite() {
            self.push_quoted(written)
        } else {
            Err(EncodeError::custom("float key must be finite (got NaN or +/-inf)"))
        }
    }
}

/// In serde_json's words.
#[cold]
fn key_refused() -> EncodeError {
    EncodeError::custom("key must be a string")
}

macro_rules! quoted {
    ($($method:ident($type:ty);)*) => {$(
        fn $method(self, value: $type) -> Result<(), EncodeError> {
            self.push_quoted(value)
        }
    )*};
}

macro_rules! refused {
    ($($method:ident($($value:ty),*) -> $ok:ty;)*) => {$(
        fn $method(self, $(_: $value),*) -> Result<$ok, EncodeError> {
            Err(key_refused())
        }
    )*};
}

impl Serializer for Text<'_, '_> {
    type Ok = ();
    type Error = EncodeError;
    type SerializeSeq = Impossible<(), EncodeError>;
    type SerializeTuple = Impossible<(), EncodeError>;
    type SerializeTupleStruct = Impossible<(), EncodeError>;
    type SerializeTupleVariant = Impossible<(), EncodeError>;
    type SerializeMap = Impossible<(), EncodeError>;
    type SerializeStruct = Impossible<(), EncodeError>;
    type SerializeStructVariant = Impossible<(), EncodeError>;

    quoted! {
        serialize_bool(bool);
        serialize_i8(i8);
        serialize_i16(i16);
        serialize_i32(i32);
        serialize_i64(i64);
        serialize_i128(i128);
        serialize_u8(u8);
        serialize_u16(u16);
        serialize_u32(u32);
        serialize_u64(u64);
        serialize_u128(u128);
    }

    refused! {
        serialize_bytes(&[u8]) -> ();
        serialize_none() -> ();
        serialize_unit() -> ();
        serialize_unit_struct(&'static str) -> ();
        serialize_seq(Option<usize>) -> Self::SerializeSeq;
        serialize_tuple(usize) -> Self::SerializeTuple;
        serialize_tuple_struct(&'static str, usize) -> Self::SerializeTupleStruct;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Self::SerializeTupleVariant;
        serialize_map(Option<usize>) -> Self::SerializeMap;
        serialize_struct(&'static str, usize) -> Self::SerializeStruct;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Self::SerializeStructVariant;
    }

    fn serialize_f32(self, value: f32) -> Result<(), EncodeError> {
        self.push_float(value.into(), value)
    }

    fn serialize_f64(self, value: f64) -> Result<(), EncodeError> {
        self.push_float(value, value)
    }

    fn serialize_char(self, value: char) -> Result<(), EncodeError> {
        self.push(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<(), EncodeError> {
        self.push(value)
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), EncodeError> {
        self.push(variant)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), EncodeError> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), EncodeError> {
        Err(key_refused())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::ser::SerializeMap as _;
    use serde_json::Value;
    use serde_json::value::RawValue;

    use super::super::json::tests::json;
    use super::*;

    fn written(value: &(impl Serialize + ?Sized)) -> Result<String, String> {
        let mut out = Vec::new();
        value.serialize(&mut JsonWriter::new(&mut out)).map_err(|error| match error {
            EncodeError::Json(message) => message,
            other => other.to_string(),
        })?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[track_caller]
    fn assert_agrees(value: &(impl Serialize + ?Sized)) {
        assert_eq!(written(value), serde_json::to_string(value).map_err(|error| error.to_string()));
    }

    #[derive(Serialize)]
    struct Unit;

    #[derive(Serialize)]
    struct New<T>(T);

    #[derive(Serialize)]
    struct Pair<T>(T, T);

    #[derive(Serialize)]
    struct Named<T> {
        one: T,
        #[serde(skip_serializing_if = "Option::is_none")]
        two: Option<u8>,
        three: [u8; 2],
    }

    #[derive(Serialize)]
    struct Flat<'a> {
        own: u8,
        #[serde(flatten)]
        rest: Named<&'a str>,
    }

    #[derive(PartialEq, Eq, PartialOrd, Ord, Serialize)]
    enum Kinds {
        Bare,
        Newtype(u8),
        Tuple(u8, String),
        Struct { a: u8, b: () },
    }

    struct ByBytes<'a>(&'a [u8]);

    impl Serialize for ByBytes<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_bytes(self.0)
        }
    }

    struct ByDisplay;

    impl Serialize for ByDisplay {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_str(&format_args!("a\"{}\n", 7))
        }
    }

    struct Fails;

    impl Serialize for Fails {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(S::Error::custom("a user's words"))
        }
    }

    /// A map with one key of any kind.
    struct Keyed<K>(K);

    impl<K: Serialize> Serialize for Keyed<K> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut map = serializer.serialize_map(Some(1))?;
            map.serialize_entry(&self.0, "value")?;
            map.end()
        }
    }

    #[test]
    fn every_kind_of_value_is_written_as_by_serde_json() {
        assert_agrees(&(
            (),
            Unit,
            New(1),
            Pair("a", "b"),
            true,
            false,
            'ä',
            '"',
            '\n',
            None::<u8>,
            Some("x"),
        ));
        assert_agrees(&(0_u8, u8::MAX, i8::MIN, u16::MAX, i16::MIN, u32::MAX, i32::MIN, u64::MAX, i64::MIN));
        assert_agrees(&(i64::MAX, -1_i64, u128::MAX, i128::MIN, 10_u64, 99_u64, 100_u64));
        assert_agrees(&(0.0_f64, -0.0_f64, 1.5_f32, 0.1_f32, 0.1_f64, 1e300, f64::MIN_POSITIVE, 1e21, 1e-7));
        assert_agrees(&(f64::NAN, f64::INFINITY, f32::NEG_INFINITY));
        assert_agrees(&(ByBytes(b""), ByBytes(b"\x00\xff7"), ByDisplay));
        assert_agrees(&Named { one: [Some(1), None], two: None, three: [1, 2] });
        assert_agrees(&Flat { own: 1, rest: Named { one: "x", two: Some(3), three: [0, 0] } });
        let tuple = Kinds::Tuple(1, "x".to_owned());
        assert_agrees(&[Kinds::Bare, Kinds::Newtype(7), tuple, Kinds::Struct { a: 1, b: () }]);
        assert_agrees(&(Vec::<u8>::new(), BTreeMap::<u8, u8>::new(), BTreeMap::from([(1, [2]), (3, [4])])));
        assert_agrees(&RawValue::from_string(" {\"a\" : 1.0} ".to_owned()).unwrap());
        assert_agrees(
            &(0..=0x20_u8).map(char::from).chain(['\u{7f}', '\u{2028}', '\\', '/']).collect::<String>(),
        );
        assert_agrees("0123456789abcdef\"0123456789abcde\\0123456\n");
    }

    #[test]
    fn keys_are_written_or_refused_as_by_serde_json() {
        assert_agrees(&(
            Keyed("a\"b"),
            Keyed('ä'),
            Keyed(true),
            Keyed(Kinds::Bare),
            Keyed(New("x")),
            Keyed(ByDisplay),
        ));
        assert_agrees(&(Keyed(-7_i8), Keyed(u64::MAX), Keyed(i128::MIN), Keyed(1.5_f32), Keyed(0.1_f64)));
        assert_agrees(&(Keyed(New(7)), Keyed(Some("x"))));
        assert_agrees(&Keyed(f64::NAN));
        assert_agrees(&Keyed(f32::INFINITY));
        assert_agrees(&Keyed(()));
        assert_agrees(&Keyed(None::<&str>));
        assert_agrees(&Keyed((1, 2)));
        assert_agrees(&Keyed(ByBytes(b"a")));
        assert_agrees(&Keyed(Kinds::Newtype(1)));
        assert_agrees(&Keyed(BTreeMap::from([(1, 2)])));
        assert_agrees(&Keyed(Unit));
        assert_agrees(&Keyed(Named { one: 1, two: None, three: [0, 0] }));
    }

    #[test]
    fn a_users_error_keeps_its_words() {
        assert_agrees(&[Fails]);
        assert_agrees(&Keyed(Fails));
        assert_eq!(written(&Fails), Err("a user's words".to_owned()));
    }

    #[test]
    fn what_may_pass_for_a_placeholder_is_noticed() {
        let suspect = |value: &Value| {
            let mut out = Vec::new();
            let mut writer = JsonWriter::new(&mut out);
            value.serialize(&mut writer).unwrap();
            writer.is_suspect
        };
        assert!(suspect(&serde_json::json!([{ "a": { "_placeholder": 1 } }])));
        assert!(!suspect(&serde_json::json!({ "num": 1, "_placeholders": true, "a": "_placeholder" })));
        let mut out = Vec::new();
        let mut writer = JsonWriter::new(&mut out);
        RawValue::from_string("1".to_owned()).unwrap().serialize(&mut writer).unwrap();
        assert!(writer.is_suspect, "nobody has looked into it");
    }

    proptest! {
        #[test]
        fn any_value_is_written_as_by_serde_json(text in json()) {
            let text = crate::protocol::surrogates::mend(&text).unwrap_or(text);
            if let Ok(value) = serde_json::from_str::<Value>(&text) {
                prop_assert_eq!(written(&value).unwrap(), serde_json::to_string(&value).unwrap());
            }
        }

        #[test]
        fn any_text_is_written_as_by_serde_json(text in "([\\PC]|[a-z]{7,20}|[\"\\\\/\u{0}-\u{1f}]){0,12}") {
            prop_assert_eq!(written(&text).unwrap(), serde_json::to_string(&text).unwrap());
        }

        #[test]
        fn any_number_is_written_as_by_serde_json(float in any::<f64>(), single in any::<f32>(), signed in any::<i64>(), wide in any::<i128>()) {
            let numbers = (float, single, signed, signed as u64, signed as i32, signed as u8, wide, wide as u128);
            prop_assert_eq!(written(&numbers).unwrap(), serde_json::to_string(&numbers).unwrap());
        }
    }
}
