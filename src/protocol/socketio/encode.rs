//! Packets to text, appended to a buffer that may be warm: text events allocate nothing then.
//!
//! Socket.IO protocol 5, "Packet encoding". Arguments are written straight into the buffer, by `writer`;
//! `ArgsSerializer` takes the brackets off their list. Does not write Engine.IO's leading `4`.

use std::fmt;

use bytes::Bytes;
use serde::Serialize;
use serde::ser::{Impossible, SerializeSeq, SerializeTuple, SerializeTupleStruct, Serializer};

pub(crate) use super::packet::is_reserved_event;

use super::binary;
use super::raw_json::RawJson;
use super::writer::{JsonWriter, push_decimal, push_string};

/// Why something cannot be emitted.
///
/// ```
/// use shardcast::{EncodeError, Emitted};
///
/// # fn example(socket: shardcast::Socket) {
/// match socket.emit("disconnect", ()) {
///     Emitted::Refused(EncodeError::ReservedEvent(name)) => println!("{name} is reserved"),
///     emitted => println!("{emitted:?}"),
/// }
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError {
    /// Only the library itself emits events of this name.
    ReservedEvent(String),
    /// An argument has no JSON; what serde says.
    Json(String),
    /// The arguments are neither a tuple nor a list.
    NotArgs,
    /// Beside binary attachments stands an object whose `_placeholder` is `true`, somewhere in the arguments: that is how the
    /// protocol marks where an attachment belongs, so receivers would put one there, or hang up if there is none. A client can
    /// bring such an object into what a server relays. It can be sent without attachments, where it is data like any other.
    Placeholder,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EncodeError::ReservedEvent(name) => write!(f, "the event name {name:?} is reserved, use another"),
            EncodeError::Json(message) => write!(f, "an argument cannot be written as JSON: {message}"),
            EncodeError::NotArgs => {
                f.write_str("arguments must be a tuple or a list; one argument is written `(value,)`")
            }
            EncodeError::Placeholder => f.write_str(
                "an argument holds an object whose `_placeholder` is true, which receivers would take for one of the binary \
                 attachments: leave that member out, or send the bytes in an event of their own",
            ),
        }
    }
}

impl std::error::Error for EncodeError {}

impl serde::ser::Error for EncodeError {
    fn custom<T: fmt::Display>(message: T) -> EncodeError {
        EncodeError::Json(message.to_string())
    }
}

/// Appends an event: `2["name",...]`, or `5N-["name",...]` if the arguments held N `Binary` values, whose
/// bytes are appended to `attachments`.
///
/// `args` is a tuple or a list. Numbers that are not finite become `null`.
///
/// # Errors
/// The name is reserved, the arguments have no JSON, or they hold what would be taken for an attachment. `out` and `attachments`
/// are as before then.
#[expect(clippy::too_many_arguments, reason = "the packet's own fields, and the two buffers that it goes to")]
pub(crate) fn encode_event<A: Serialize + ?Sized>(
    out: &mut Vec<u8>,
    namespace: &str,
    id: Option<u64>,
    name: &str,
    args: &A,
    attachments: &mut Vec<Bytes>,
) -> Result<(), EncodeError> {
    if is_reserved_event(name) {
        return Err(EncodeError::ReservedEvent(name.to_owned()));
    }
    let start = out.len();
    push_header(out, b'2', namespace, id);
    let payload_start = out.len();
    out.push(b'[');
    push_string(out, name);
    finish_with_args(out, (start, payload_start), args, attachments)
}

/// Appends an event whose arguments are valid JSON already, with commas between them and without brackets.
///
/// For events that are passed on; their names were checked where they came from.
pub(crate) fn encode_event_raw(
    out: &mut Vec<u8>,
    namespace: &str,
    id: Option<u64>,
    name: &str,
    raw_args: &str,
) {
    push_header(out, b'2', namespace, id);
    out.push(b'[');
    push_string(out, name);
    if !raw_args.is_empty() {
        out.push(b',');
        out.extend_from_slice(raw_args.as_bytes());
    }
    out.push(b']');
}

/// Appends an acknowledgement: `3ID[...]`, or `6N-ID[...]` as in [`encode_event`].
///
/// # Errors
/// The arguments have no JSON. `out` and `attachments` are as before then.
pub(crate) fn encode_ack<A: Serialize + ?Sized>(
    out: &mut Vec<u8>,
    namespace: &str,
    id: u64,
    args: &A,
    attachments: &mut Vec<Bytes>,
) -> Result<(), EncodeError> {
    let start = out.len();
    push_header(out, b'3', namespace, Some(id));
    let payload_start = out.len();
    out.push(b'[');
    finish_with_args(out, (start, payload_start), args, attachments)
}

/// The same as [`encode_event`] for values in which there is no `Binary`.
///
/// # Errors
/// As there.
pub(crate) fn encode_plain_event<A: Serialize + ?Sized>(
    out: &mut Vec<u8>,
    namespace: &str,
    id: Option<u64>,
    name: &str,
    args: &A,
) -> Result<(), EncodeError> {
    if is_reserved_event(name) {
        return Err(EncodeError::ReservedEvent(name.to_owned()));
    }
    let start = out.len();
    push_header(out, b'2', namespace, id);
    out.push(b'[');
    push_string(out, name);
    finish_plain(out, start, args)
}

/// The same as [`encode_ack`] for values in which there is no `Binary`.
///
/// # Errors
/// As there.
pub(crate) fn encode_plain_ack<A: Serialize + ?Sized>(
    out: &mut Vec<u8>,
    namespace: &str,
    id: u64,
    args: &A,
) -> Result<(), EncodeError> {
    let start = out.len();
    push_header(out, b'3', namespace, Some(id));
    out.push(b'[');
    finish_plain(out, start, args)
}

/// Appends arguments that are without attachments, and the bracket.
#[inline]
fn finish_plain<A: Serialize + ?Sized>(out: &mut Vec<u8>, start: usize, args: &A) -> Result<(), EncodeError> {
    let mut writer = JsonWriter::new(out);
    let result = args.serialize(ArgsSerializer { writer: &mut writer });
    debug_assert_eq!(writer.placeholders, 0, "nobody collects what it stands for");
    match result {
        Ok(()) => out.push(b']'),
        Err(_) => out.truncate(start),
    }
    result
}

/// Appends an acknowledgement whose arguments are valid JSON already.
pub(crate) fn encode_ack_raw(out: &mut Vec<u8>, namespace: &str, id: u64, raw_args: &str) {
    push_header(out, b'3', namespace, Some(id));
    out.push(b'[');
    out.extend_from_slice(raw_args.as_bytes());
    out.push(b']');
}

/// Appends the answer to a `CONNECT`: `0{"sid":"..."}`, with `pid` if the session can be recovered.
pub(crate) fn encode_connect(out: &mut Vec<u8>, namespace: &str, sid: &str, pid: Option<&str>) {
    push_header(out, b'0', namespace, None);
    out.extend_from_slice(b"{\"sid\":");
    push_string(out, sid);
    if let Some(pid) = pid {
        out.extend_from_slice(b",\"pid\":");
        push_string(out, pid);
    }
    out.push(b'}');
}

/// Appends the refusal of a `CONNECT`: `4/ns,{"message":"...","data":...}`.
pub(crate) fn encode_connect_error(
    out: &mut Vec<u8>,
    namespace: &str,
    message: &str,
    data: Option<&RawJson>,
) {
    push_header(out, b'4', namespace, None);
    out.extend_from_slice(b"{\"message\":");
    push_string(out, message);
    if let Some(data) = data {
        out.extend_from_slice(b",\"data\":");
        out.extend_from_slice(data.as_str().as_bytes());
    }
    out.push(b'}');
}

/// Appends the answer to a `CONNECT` for clients of Socket.IO 1 and 2: `0`, or `0/ns,`.
pub(crate) fn encode_connect3(out: &mut Vec<u8>, namespace: &str) {
    push_header(out, b'0', namespace, None);
}

/// Appends a refusal for clients of Socket.IO 1 and 2: `4/ns,` and the data, or the message if there are none.
pub(crate) fn encode_error3(out: &mut Vec<u8>, namespace: &str, message: &str, data: Option<&RawJson>) {
    push_header(out, b'4', namespace, None);
    match data {
        Some(data) => out.extend_from_slice(data.as_str().as_bytes()),
        None => push_string(out, message),
    }
}

/// Appends `1`, or `1/ns,`.
pub(crate) fn encode_disconnect(out: &mut Vec<u8>, namespace: &str) {
    push_header(out, b'1', namespace, None);
}

/// Appends the arguments and the bracket; on an error takes back all that was appended since `start`.
fn finish_with_args<A: Serialize + ?Sized>(
    out: &mut Vec<u8>,
    (start, payload_start): (usize, usize),
    args: &A,
    attachments: &mut Vec<Bytes>,
) -> Result<(), EncodeError> {
    let attachments_start = attachments.len();
    let mut writer = JsonWriter::new(out);
    let mut result =
        binary::with_collector(attachments, || args.serialize(ArgsSerializer { writer: &mut writer }));
    let JsonWriter { placeholders, is_suspect, .. } = writer;
    out.push(b']');
    let count = attachments.len() - attachments_start;
    if result.is_ok() && count > 0 && (is_suspect || placeholders != count) {
        result = check_written(out.get(payload_start..).unwrap_or_default(), count);
    }
    if let Err(error) = result {
        out.truncate(start);
        attachments.truncate(attachments_start);
        return Err(error);
    }
    if count > 0 {
        make_binary(out, start, count);
    }
    Ok(())
}

/// No object of a user's may pass for an attachment.
#[cold]
fn check_written(payload: &[u8], attachments: usize) -> Result<(), EncodeError> {
    let payload = std::str::from_utf8(payload).unwrap_or_default();
    if binary::holds_placeholders(payload, attachments) { Ok(()) } else { Err(EncodeError::Placeholder) }
}

/// Turns `2` or `3` at `start` into `5N-` or `6N-`: the number is known only now.
pub(crate) fn make_binary(out: &mut Vec<u8>, start: usize, count: usize) {
    if let Some(kind) = out.get_mut(start) {
        *kind += 3;
    }
    let len = out.len();
    push_decimal(out, count as u64);
    out.push(b'-');
    // What was just written belongs before the rest.
    let written = out.len() - len;
    out.get_mut(start + 1..).unwrap_or_default().rotate_right(written);
}

fn push_header(out: &mut Vec<u8>, kind: u8, namespace: &str, id: Option<u64>) {
    out.push(kind);
    if namespace != "/" {
        out.extend_from_slice(namespace.as_bytes());
        out.push(b',');
    }
    if let Some(id) = id {
        push_decimal(out, id);
    }
}

/// Writes the elements of a tuple or a list with commas between them, to a buffer that ends with the
/// bracket or with another element; refuses whatever is not such a list.
struct ArgsSerializer<'w, 'a> {
    writer: &'w mut JsonWriter<'a>,
}

impl ArgsSerializer<'_, '_> {
    #[inline]
    fn push<T: Serialize + ?Sized>(&mut self, element: &T) -> Result<(), EncodeError> {
        // No value ends with this bracket, so only the first argument of an acknowledgement follows it.
        if self.writer.out.last() != Some(&b'[') {
            self.writer.out.push(b',');
        }
        element.serialize(&mut *self.writer)
    }
}

impl SerializeSeq for ArgsSerializer<'_, '_> {
    type Ok = ();
    type Error = EncodeError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, element: &T) -> Result<(), EncodeError> {
        self.push(element)
    }

    fn end(self) -> Result<(), EncodeError> {
        Ok(())
    }
}

impl SerializeTuple for ArgsSerializer<'_, '_> {
    type Ok = ();
    type Error = EncodeError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, element: &T) -> Result<(), EncodeError> {
        self.push(element)
    }

    fn end(self) -> Result<(), EncodeError> {
        Ok(())
    }
}

impl SerializeTupleStruct for ArgsSerializer<'_, '_> {
    type Ok = ();
    type Error = EncodeError;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, element: &T) -> Result<(), EncodeError> {
        self.push(element)
    }

    fn end(self) -> Result<(), EncodeError> {
        Ok(())
    }
}

/// Methods of `Serializer` that refuse their values.
macro_rules! not_args {
    ($($method:ident($($value:ty),*) -> $ok:ty;)*) => {$(
        fn $method(self, $(_: $value),*) -> Result<$ok, EncodeError> {
            Err(EncodeError::NotArgs)
        }
    )*};
}

impl Serializer for ArgsSerializer<'_, '_> {
    type Ok = ();
    type Error = EncodeError;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Impossible<(), EncodeError>;
    type SerializeMap = Impossible<(), EncodeError>;
    type SerializeStruct = Impossible<(), EncodeError>;
    type SerializeStructVariant = Impossible<(), EncodeError>;

    fn serialize_unit(self) -> Result<(), EncodeError> {
        Ok(())
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self, EncodeError> {
        Ok(self)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, EncodeError> {
        Ok(self)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, EncodeError> {
        Ok(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        value.serialize(self)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<(), EncodeError> {
        Err(EncodeError::NotArgs)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), EncodeError> {
        Err(EncodeError::NotArgs)
    }

    not_args! {
        serialize_bool(bool) -> ();
        serialize_i8(i8) -> ();
        serialize_i16(i16) -> ();
        serialize_i32(i32) -> ();
        serialize_i64(i64) -> ();
        serialize_u8(u8) -> ();
        serialize_u16(u16) -> ();
        serialize_u32(u32) -> ();
        serialize_u64(u64) -> ();
        serialize_f32(f32) -> ();
        serialize_f64(f64) -> ();
        serialize_char(char) -> ();
        serialize_str(&str) -> ();
        serialize_bytes(&[u8]) -> ();
        serialize_none() -> ();
        serialize_unit_struct(&'static str) -> ();
        serialize_unit_variant(&'static str, u32, &'static str) -> ();
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Self::SerializeTupleVariant;
        serialize_map(Option<usize>) -> Self::SerializeMap;
        serialize_struct(&'static str, usize) -> Self::SerializeStruct;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Self::SerializeStructVariant;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::binary::Binary;
    use super::*;

    #[derive(Serialize)]
    struct Point(u8, u8);

    #[derive(Serialize)]
    struct Wrapped<T>(T);

    fn event<A: Serialize + ?Sized>(args: &A) -> Result<String, EncodeError> {
        let mut out = Vec::new();
        encode_event(&mut out, "/", None, "a", args, &mut Vec::new())?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn the_elements_of_the_list_are_the_arguments() {
        assert_eq!(event(&()).unwrap(), r#"2["a"]"#);
        assert_eq!(event(&(1,)).unwrap(), r#"2["a",1]"#);
        assert_eq!(event(&("x", [1, 2], None::<u8>)).unwrap(), r#"2["a","x",[1,2],null]"#);
        assert_eq!(event(&[1, 2]).unwrap(), r#"2["a",1,2]"#);
        assert_eq!(event(&vec!["["; 2]).unwrap(), r#"2["a","[","["]"#);
        assert_eq!(event(&Vec::<u8>::new()).unwrap(), r#"2["a"]"#);
        assert_eq!(event(&Point(1, 2)).unwrap(), r#"2["a",1,2]"#);
        assert_eq!(event(&Wrapped((1, 2))).unwrap(), r#"2["a",1,2]"#);
        assert_eq!(event(&(f64::NAN, f32::INFINITY, 1.0)).unwrap(), r#"2["a",null,null,1.0]"#);
        assert_eq!(event(&("ä\u{2028}\n\"",)).unwrap(), "2[\"a\",\"ä\u{2028}\\n\\\"\"]");
        assert_eq!(event(&(RawJson::new("{\"b\" : 1}").unwrap(),)).unwrap(), r#"2["a",{"b" : 1}]"#);
    }

    #[test]
    fn other_types_are_no_arguments() {
        let map = BTreeMap::from([("a", 1)]);
        let raw = RawJson::new("[1]").unwrap();
        let results = [
            event(&1),
            event("a"),
            event(&map),
            event(&Some((1,))),
            event(&None::<u8>),
            event(&true),
            event(&raw),
        ];
        assert!(results.iter().all(|result| *result == Err(EncodeError::NotArgs)), "{results:?}");
    }

    #[test]
    fn an_error_leaves_both_buffers_as_they_were() {
        let mut out = b"before".to_vec();
        let mut attachments = vec![Bytes::from_static(b"before")];
        let bytes = Binary::from(vec![1]);
        let bad = BTreeMap::from([((1, 2), 3)]);
        let result = encode_event(&mut out, "/", None, "a", &(&bytes, &bad), &mut attachments);
        assert!(matches!(result, Err(EncodeError::Json(_))), "{result:?}");
        let result = encode_ack(&mut out, "/", 1, &(&bytes, &bad), &mut attachments);
        assert!(matches!(result, Err(EncodeError::Json(_))), "{result:?}");
        let result = encode_event(&mut out, "/", None, "disconnect", &(&bytes,), &mut attachments);
        assert_eq!(result, Err(EncodeError::ReservedEvent("disconnect".to_owned())));
        assert_eq!((out.as_slice(), attachments.len()), (&b"before"[..], 1));
    }

    #[test]
    fn binary_values_are_numbered_from_the_packet_on() {
        let mut out = b"x".to_vec();
        let mut attachments = vec![Bytes::from_static(b"before")];
        let args = (Binary::from(vec![1]), BTreeMap::from([("b", [Binary::from(vec![2])])]));
        encode_event(&mut out, "/n", Some(7), "a", &args, &mut attachments).unwrap();
        encode_ack(&mut out, "/", 7, &args, &mut attachments).unwrap();
        let list = r#"{"_placeholder":true,"num":0},{"b":[{"_placeholder":true,"num":1}]}]"#;
        assert_eq!(String::from_utf8(out).unwrap(), format!("x52-/n,7[\"a\",{list}62-7[{list}"));
        assert_eq!(attachments, ["before".as_bytes(), &[1], &[2], &[1], &[2]]);
    }

    #[test]
    fn what_a_user_gave_never_passes_for_an_attachment() {
        let bytes = || Binary::from(vec![1]);
        let raw = |text: &str| RawJson::new(text).unwrap();
        for poison in [
            r#"{"_placeholder":true,"num":7}"#,
            r#"{"_placeholder":true,"num":0}"#,
            r#"{ "num" : 0, "_placeholder" : true }"#,
            r#"{"_placeholder":true}"#,
            r#"{"_placehol\u0064er":true,"num":0}"#,
            r#"{"_placeholder":false,"_placeholder":true,"num":0}"#,
            r#"[{"a":[{"_placeholder":true,"num":"x"}]}]"#,
        ] {
            let value: serde_json::Value = serde_json::from_str(poison).unwrap();
            let results = [
                event(&(raw(poison), bytes())),
                event(&(bytes(), &value)),
                event(&[BTreeMap::from([("k", (&value, bytes()))])]),
            ];
            assert!(results.iter().all(|result| *result == Err(EncodeError::Placeholder)), "{poison}");
            let (mut out, mut attachments) = (b"before".to_vec(), Vec::new());
            let ack = encode_ack(&mut out, "/", 1, &(raw(poison), bytes()), &mut attachments);
            assert_eq!(
                (ack, &out[..], attachments.len()),
                (Err(EncodeError::Placeholder), &b"before"[..], 0)
            );
            // Alone it is data: receivers look for placeholders in binary packets only.
            assert_eq!(event(&(raw(poison),)), Ok(format!("2[\"a\",{poison}]")));
        }
        let around = BTreeMap::from([("_placeholder", raw("true")), ("x", RawJson::new("1").unwrap())]);
        #[derive(Serialize)]
        struct Around {
            _placeholder: bool,
            num: u8,
            inner: Binary,
        }
        assert_eq!(event(&(&around, bytes())), Err(EncodeError::Placeholder));
        let nested = Around { _placeholder: true, num: 0, inner: bytes() };
        assert_eq!(event(&(&nested,)), Err(EncodeError::Placeholder));
        for harmless in [
            r#"{"_placeholder":false,"num":7}"#,
            r#"{"_placeholder":1}"#,
            r#"{"_placeholder":true,"_placeholder":0}"#,
            r#""{\"_placeholder\":true,\"num\":7}""#,
            r#"["_placeholder",true]"#,
        ] {
            let expected = format!(r#"51-["a",{harmless},{{"_placeholder":true,"num":0}}]"#);
            assert_eq!(event(&(raw(harmless), bytes())), Ok(expected));
        }
    }

    #[test]
    fn a_warm_buffer_is_not_grown_by_text() {
        let mut out = Vec::with_capacity(64);
        let before = out.as_ptr();
        let mut attachments = Vec::new();
        encode_event(&mut out, "/n", Some(u64::MAX), "name", &("text", 1, 2.5), &mut attachments).unwrap();
        assert_eq!(out, br#"2/n,18446744073709551615["name","text",1,2.5]"#);
        assert_eq!((out.as_ptr(), attachments.capacity()), (before, 0));
    }
}
