//! Binary values within arguments: `{"_placeholder":true,"num":N}` stands for attachment N.
//!
//! Socket.IO protocol 5, "BINARY_EVENT" and "BINARY_ACK". Serde has no way to hand a (de)serializer's
//! surroundings to one nested type, so the attachments of the call that is running are thread-local; a
//! guard puts back what was there before, also when a user's code panics. Does not read or write packets.

use std::cell::{Cell, RefCell};
use std::sync::LazyLock;
use std::{fmt, mem};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use memchr::memmem::Finder;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smallvec::SmallVec;

use crate::base::limits::JSON_DEPTH_MAX;

use super::json::{self, Elements, Scanner};
use super::packet::PacketError;

/// The member that makes an object a placeholder if it is `true`.
pub(crate) const PLACEHOLDER_KEY: &str = "_placeholder";

/// How an encoder writes the first attachment.
pub(crate) const PLACEHOLDER_FIRST: &str = r#"{"_placeholder":true,"num":0}"#;

/// The member that says which attachment it stands for.
pub(crate) const NUM_KEY: &str = "num";

/// The name by which `Binary` asks a deserializer for an attachment.
pub(super) const NAME: &str = "shardcast::Binary";

/// The name of the struct that a `Binary` value writes, and what users give does not have: see `writer`.
pub(super) const OWN_PLACEHOLDER: &str = "$shardcast::Placeholder";

/// Levels of a server's own payload that are looked through: each takes some stack. `msgpack` writes as many.
pub(crate) const WRITTEN_DEPTH_MAX: usize = 4 * JSON_DEPTH_MAX;

/// Most packets have one attachment.
type Incoming = SmallVec<[Bytes; 1]>;

thread_local! {
    /// The attachments of the `Args` that are being read; none outside.
    static INCOMING: RefCell<Incoming> = const { RefCell::new(SmallVec::new_const()) };
    /// An attachment that is an argument as a whole, on its way to the `Binary` that asks for it; none outside.
    static ALONE: Cell<Option<Bytes>> = const { Cell::new(None) };
    /// Where the running encoder collects attachments; `None` outside.
    static COLLECTOR: RefCell<Option<Collector>> = const { RefCell::new(None) };
}

/// Bytes that travel as a binary attachment instead of as JSON.
///
/// May be nested anywhere in the arguments of an event or of an acknowledgement: in structs, lists, maps
/// and options. A JavaScript client sees an `ArrayBuffer` or a `Buffer` there.
///
/// Bytes that may stand anywhere in a value of any shape are read as [`AnyValue`](crate::AnyValue).
///
/// Received attachments are not copied. Serialized outside of an emit or an acknowledgement, it is a base64
/// string (RFC 4648 §4, padded); it deserializes only within [`Args`](super::event::Args).
///
/// ```
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Picture {
///     name: String,
///     data: shardcast::Binary,
/// }
///
/// # fn example(cx: &mut shardcast::Context<'_>, args: shardcast::Args<'_>) -> Result<(), shardcast::ArgsError> {
/// let picture: Picture = args.read(0)?;
/// cx.emit("picture", &picture);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Binary(pub Bytes);

impl AsRef<[u8]> for Binary {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Bytes> for Binary {
    fn from(bytes: Bytes) -> Binary {
        Binary(bytes)
    }
}

impl From<Vec<u8>> for Binary {
    fn from(bytes: Vec<u8>) -> Binary {
        Binary(Bytes::from(bytes))
    }
}

impl From<&'static [u8]> for Binary {
    fn from(bytes: &'static [u8]) -> Binary {
        Binary(Bytes::from_static(bytes))
    }
}

impl Serialize for Binary {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize(&self.0, serializer)
    }
}

/// Writes bytes as an attachment within an encoder, else as a base64 text.
pub(super) fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    let num = COLLECTOR.with_borrow_mut(|collector| Some(collector.as_mut()?.push(bytes.clone())));
    match num {
        Some(num) => Placeholder { is_placeholder: true, num }.serialize(serializer),
        None => serializer.serialize_str(&STANDARD.encode(bytes)),
    }
}

/// The attachment that a placeholder stands for whose first key has been read: see `attached`.
pub(super) fn read_placeholder<'de, A: MapAccess<'de>>(mut map: A) -> Result<Bytes, A::Error> {
    map.next_value::<IgnoredAny>()?;
    let num = match map.next_key::<IgnoredAny>()? {
        Some(_) => map.next_value::<usize>()?,
        None => return Err(A::Error::custom("a placeholder without a number")),
    };
    incoming(num).ok_or_else(|| A::Error::custom(format_args!("no binary attachment {num}")))
}

impl<'de> Deserialize<'de> for Binary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Binary, D::Error> {
        deserializer.deserialize_newtype_struct(NAME, BinaryVisitor)
    }
}

struct BinaryVisitor;

impl<'de> Visitor<'de> for BinaryVisitor {
    type Value = Binary;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a binary attachment")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Binary, D::Error> {
        deserializer.deserialize_any(PlaceholderVisitor)
    }

    /// From [`hand_over`]. No JSON is read as a number of 128 bits here.
    fn visit_u128<E: Error>(self, num: u128) -> Result<Binary, E> {
        let bytes = ALONE.take();
        bytes.map(Binary).ok_or_else(|| E::custom(format_args!("no binary attachment {num}")))
    }
}

struct PlaceholderVisitor;

impl<'de> Visitor<'de> for PlaceholderVisitor {
    type Value = Binary;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        BinaryVisitor.expecting(formatter)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Binary, A::Error> {
        let placeholder = Placeholder::deserialize(MapAccessDeserializer::new(map))?;
        if !placeholder.is_placeholder {
            return Err(A::Error::custom("expected a binary attachment"));
        }
        incoming(placeholder.num)
            .map(Binary)
            .ok_or_else(|| A::Error::custom(format_args!("no binary attachment {}", placeholder.num)))
    }
}

/// Gives an attachment to the visitor of a `Binary`, without the ceremony of [`with_incoming`].
pub(super) fn hand_over<'de, V: Visitor<'de>, E: Error>(bytes: Bytes, visitor: V) -> Result<V::Value, E> {
    ALONE.set(Some(bytes));
    let read = visitor.visit_u128(0);
    // Another visitor may not have asked for it.
    drop(ALONE.take());
    read
}

/// An attachment of the `Args` that are being read.
pub(super) fn incoming(num: usize) -> Option<Bytes> {
    INCOMING.with_borrow(|incoming| incoming.get(num).cloned())
}

/// Which attachment a text stands for, if it is a placeholder and nothing else.
pub(super) fn placeholder(text: &str) -> Option<usize> {
    let placeholder: Placeholder = serde_json::from_str(text).ok()?;
    placeholder.is_placeholder.then_some(placeholder.num)
}

#[derive(Deserialize, Serialize)]
#[serde(rename = "$shardcast::Placeholder", expecting = "a binary attachment")]
struct Placeholder {
    #[serde(rename = "_placeholder")]
    is_placeholder: bool,
    num: usize,
}

/// Attachments of one encoder, which may have begun with those of others.
struct Collector {
    attachments: Vec<Bytes>,
    /// What placeholder 0 refers to.
    start: usize,
}

impl Collector {
    fn push(&mut self, bytes: Bytes) -> usize {
        self.attachments.push(bytes);
        self.attachments.len() - 1 - self.start
    }
}

/// Runs `read` so that `Binary` values take these attachments.
pub(super) fn with_incoming<R>(attachments: &[Bytes], read: impl FnOnce() -> R) -> R {
    struct Restore(Incoming);

    impl Drop for Restore {
        fn drop(&mut self) {
            INCOMING.set(mem::take(&mut self.0));
        }
    }

    let _restore = Restore(INCOMING.replace(SmallVec::from(attachments)));
    read()
}

/// Runs `write` so that `Binary` values append their bytes to `attachments`.
pub(super) fn with_collector<R>(attachments: &mut Vec<Bytes>, write: impl FnOnce() -> R) -> R {
    struct Restore<'a> {
        attachments: &'a mut Vec<Bytes>,
        before: Option<Collector>,
    }

    impl Drop for Restore<'_> {
        fn drop(&mut self) {
            if let Some(collector) = COLLECTOR.replace(self.before.take()) {
                *self.attachments = collector.attachments;
            }
        }
    }

    let start = attachments.len();
    let collector = Collector { attachments: mem::take(attachments), start };
    let _restore = Restore { before: COLLECTOR.replace(Some(collector)), attachments };
    write()
}

/// Runs `write` so that `Binary` values are base64, even within an encoder.
pub(super) fn without_collector<R>(write: impl FnOnce() -> R) -> R {
    struct Restore(Option<Collector>);

    impl Drop for Restore {
        fn drop(&mut self) {
            COLLECTOR.set(self.0.take());
        }
    }

    let _restore = Restore(COLLECTOR.take());
    write()
}

/// Checks that each placeholder names one of the attachments. `packet::decode` has called it already.
///
/// # Errors
/// A placeholder's `num` is missing, is no integer or is out of range.
pub(crate) fn check_placeholders(payload: &str, attachments: usize) -> Result<(), PacketError> {
    let may_hold_key = keys_in(payload) > 0 || memchr::memchr(b'\\', payload.as_bytes()).is_some();
    if may_hold_key { Placeholders::count(payload, attachments, JSON_DEPTH_MAX).map(drop) } else { Ok(()) }
}

/// Checks a payload that attachments follow, in one pass: that it is JSON, and that each placeholder names one of them.
///
/// # Errors
/// Those of `json::validate` and of [`check_placeholders`].
pub(super) fn validate(payload: &str, attachments: usize) -> Result<(), PacketError> {
    // One level less than is allowed: what is deeper takes the long way, which counts exactly.
    match Placeholders::whole(payload, attachments, JSON_DEPTH_MAX - 1) {
        true => Ok(()),
        false => {
            json::validate(payload)?;
            check_placeholders(payload, attachments)
        }
    }
}

/// Whether a text that an encoder has written has this many objects that are placeholders: its own, and nothing that a user
/// gave and receivers would take for one. A packet without attachments is free of that: there they look for none.
pub(crate) fn holds_placeholders(payload: &str, attachments: usize) -> bool {
    // As a rule the word stands there once for each, and nothing is escaped.
    let is_plain = memchr::memchr(b'\\', payload.as_bytes()).is_none();
    is_plain && keys_in(payload) == attachments
        || Placeholders::count(payload, attachments, WRITTEN_DEPTH_MAX) == Ok(attachments)
}

/// Arguments with base64 texts where placeholders were: for those who have no attachments.
///
/// They are elements of a valid JSON array, without its brackets.
#[cfg_attr(not(feature = "bus"), allow(dead_code, reason = "only formats of the bus lack attachments"))]
pub(crate) fn inline_attachments(args: &str, attachments: &[impl AsRef<[u8]>]) -> String {
    let mut out = String::with_capacity(args.len());
    for element in Elements::new(args) {
        if !out.is_empty() {
            out.push(',');
        }
        let scanner = Scanner::new(element);
        let (attachments_len, spans) = (attachments.len(), Some(Vec::new()));
        let mut found = Placeholders {
            scanner,
            attachments: attachments_len,
            depth_max: JSON_DEPTH_MAX,
            count: 0,
            spans,
        };
        let spans = found.value(0).ok().and(found.spans).unwrap_or_default();
        let mut at = 0;
        for Span { start, end, num } in spans {
            out.push_str(element.get(at..start).unwrap_or_default());
            let bytes = attachments.get(num).map_or(&[][..], AsRef::as_ref);
            out.push('"');
            STANDARD.encode_string(bytes, &mut out);
            out.push('"');
            at = end;
        }
        out.push_str(element.get(at..).unwrap_or_default());
    }
    out
}

/// The attachment that the first of these elements stands for, and the elements behind it; if it is written as stock clients do, and
/// one of the first ten.
pub(super) fn split_placeholder(elements: &str) -> Option<(usize, Elements<'_>)> {
    let (num, behind) = split_plain_placeholder(elements)?;
    let behind = if behind.is_empty() { behind } else { behind.strip_prefix(',')? };
    Some((num, Elements::new(behind)))
}

/// A placeholder of one of the first ten attachments, as stock clients write it, at the beginning of a text; and what is behind it.
#[inline]
fn split_plain_placeholder(text: &str) -> Option<(usize, &str)> {
    let rest = text.strip_prefix(r#"{"_placeholder":true,"num":"#)?;
    match rest.as_bytes() {
        [digit @ b'0'..=b'9', b'}', ..] => Some((usize::from(digit - b'0'), rest.get("0}".len()..)?)),
        _ => None,
    }
}

/// Bytes of such a placeholder.
const PLAIN_PLACEHOLDER_BYTES: usize = PLACEHOLDER_FIRST.len();

fn keys_in(payload: &str) -> usize {
    static KEY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(PLACEHOLDER_KEY));
    KEY.find_iter(payload.as_bytes()).count()
}

/// A walk through a payload that counts its placeholders.
struct Placeholders<'a> {
    scanner: Scanner<'a>,
    attachments: usize,
    depth_max: usize,
    count: usize,
    /// Where they are, if that is asked; one within another is not a place of its own.
    spans: Option<Vec<Span>>,
}

/// A placeholder in its text, and its attachment.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: usize,
    end: usize,
    num: usize,
}

/// A key of an object, by what it says of a placeholder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Placeholder,
    Num,
    Other,
}

impl Key {
    /// From its text with the quotes.
    fn of(quoted: &str) -> Key {
        match quoted {
            "\"_placeholder\"" => Key::Placeholder,
            "\"num\"" => Key::Num,
            _ if memchr::memchr(b'\\', quoted.as_bytes()).is_none() => Key::Other,
            _ => match json::unescape(quoted).as_deref() {
                Some(PLACEHOLDER_KEY) => Key::Placeholder,
                Some(NUM_KEY) => Key::Num,
                _ => Key::Other,
            },
        }
    }
}

impl Placeholders<'_> {
    fn count(payload: &str, attachments: usize, depth_max: usize) -> Result<usize, PacketError> {
        let scanner = Scanner::new(payload);
        let mut placeholders = Placeholders { scanner, attachments, depth_max, count: 0, spans: None };
        placeholders.value(0)?;
        Ok(placeholders.count)
    }

    /// Whether the text is one value of these levels, and each of its placeholders names an attachment.
    fn whole(payload: &str, attachments: usize, depth_max: usize) -> bool {
        let scanner = Scanner::new(payload);
        let mut placeholders = Placeholders { scanner, attachments, depth_max, count: 0, spans: None };
        let is_valid = placeholders.value(0).is_ok();
        placeholders.scanner.skip_white_space();
        is_valid && placeholders.scanner.at == payload.len()
    }

    /// Goes past one value. Recursion is safe because the depth is limited.
    fn value(&mut self, depth: usize) -> Result<(), PacketError> {
        if depth > self.depth_max {
            return Err(PacketError::PayloadTooDeep);
        }
        self.scanner.skip_white_space();
        match self.scanner.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            _ => Ok(self.scanner.scalar()?),
        }
    }

    fn array(&mut self, depth: usize) -> Result<(), PacketError> {
        if self.is_empty(b']') {
            return Ok(());
        }
        loop {
            self.value(depth + 1)?;
            match self.scanner.take() {
                Some(b',') => {}
                Some(b']') => return Ok(()),
                _ => return Err(PacketError::PayloadNotJson),
            }
        }
    }

    /// The last of equal keys counts, as in JavaScript.
    fn object(&mut self, depth: usize) -> Result<(), PacketError> {
        let object_start = self.scanner.at;
        if let Some((num, _)) = split_plain_placeholder(self.scanner.rest_text())
            && num < self.attachments
        {
            self.scanner.at += PLAIN_PLACEHOLDER_BYTES;
            self.found(object_start, num);
            return Ok(());
        }
        if self.is_empty(b'}') {
            return Ok(());
        }
        let (mut is_placeholder, mut in_range) = (false, None);
        loop {
            let key = Key::of(self.scanner.key()?);
            self.scanner.skip_white_space();
            let start = self.scanner.at;
            self.value(depth + 1)?;
            let value = self.scanner.since(start);
            match key {
                Key::Placeholder => is_placeholder = value == "true",
                Key::Num => in_range = value.parse().ok().filter(|num| *num < self.attachments),
                Key::Other => {}
            }
            match self.scanner.take() {
                Some(b',') => {}
                Some(b'}') if !is_placeholder => return Ok(()),
                Some(b'}') => {
                    let num = in_range.ok_or(PacketError::PlaceholderInvalid)?;
                    self.found(object_start, num);
                    return Ok(());
                }
                _ => return Err(PacketError::PayloadNotJson),
            }
        }
    }

    fn found(&mut self, start: usize, num: usize) {
        self.count += 1;
        if let Some(spans) = &mut self.spans {
            spans.retain(|span| span.start < start);
            spans.push(Span { start, end: self.scanner.at, num });
        }
    }

    /// Goes into a container, and out of it again if it is empty.
    fn is_empty(&mut self, close: u8) -> bool {
        self.scanner.take();
        self.scanner.skip_white_space();
        let is_empty = self.scanner.peek() == Some(close);
        if is_empty {
            self.scanner.take();
        }
        is_empty
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use proptest::prelude::*;

    use super::super::event::{Args, ArgsError};
    use super::super::json::tests::json;
    use super::*;

    const ONE: &str = r#"[{"_placeholder":true,"num":0}]"#;

    #[test]
    fn placeholders_must_name_an_attachment() {
        let rows = [
            (r#"["a",{"_placeholder":true,"num":0}]"#, true),
            (r#"["a",{"_placeholder":true,"num":1}]"#, true),
            (r#"["a",{"num":1,"_placeholder":true,"more":[]}]"#, true),
            (r#"["a",{ "_placeholder" : true , "num" : 1 }]"#, true),
            (r#"["a",{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}]"#, true),
            (r#"["a",{"_placeholder":true,"num":2}]"#, false),
            (r#"["a",{"_placeholder":true,"num":-1}]"#, false),
            (r#"["a",{"_placeholder":true,"num":0.5}]"#, false),
            (r#"["a",{"_placeholder":true,"num":"0"}]"#, false),
            (r#"["a",{"_placeholder":true,"num":null}]"#, false),
            (r#"["a",{"_placeholder":true,"num":99999999999999999999}]"#, false),
            (r#"["a",{"_placeholder":true}]"#, false),
            (r#"["a",[{"b":{"_placeholder":true,"num":7}}]]"#, false),
            (r#"["a",[{"b":{"_placeholder":true,"num":1}},[],{}]]"#, true),
            (r#"["a",{"_placehol\u0064er":true,"num":7}]"#, false),
            (r#"["a",{"_placeholder":true,"n\u0075m":1}]"#, true),
            (r#"["a",{"_placeholder":false,"num":7}]"#, true),
            (r#"["a",{"_placeholder":"true"}]"#, true),
            (r#"["a",{"_placeholder":1}]"#, true),
            (r#"["a",{"_placeholder":true,"_placeholder":false}]"#, true),
            (r#"["a",{"_placeholder":true,"num":0,"num":9}]"#, false),
            (r#"["_placeholder",true]"#, true),
            (r#"["a","{\"_placeholder\":true}"]"#, true),
            (r#"["a",{"\ud800":1,"_placeholder":true,"num":1}]"#, true),
        ];
        for (payload, is_fine) in rows {
            let expected = if is_fine { Ok(()) } else { Err(PacketError::PlaceholderInvalid) };
            assert_eq!(check_placeholders(payload, 2), expected, "{payload}");
        }
    }

    #[test]
    fn attachments_become_base64_where_they_stood() {
        let attachments = [&b"\x00\xff"[..], b"two"];
        let rows = [
            ("", ""),
            ("1, \"a\" ", "1,\"a\""),
            (
                r#"{"_placeholder":true,"num":1}, [ {"k" : {"num": 0, "_placeholder": true} }]"#,
                r#""dHdv",[ {"k" : "AP8=" }]"#,
            ),
            (r#"{"_placeholder":false,"num":1}"#, r#"{"_placeholder":false,"num":1}"#),
            (r#"{"_placeholder":true,"num":0,"x":{"_placeholder":true,"num":1}},2"#, r#""AP8=",2"#),
            (r#"{"_placeholder":true,"num":2}"#, r#"{"_placeholder":true,"num":2}"#),
        ];
        for (args, expected) in rows {
            assert_eq!(inline_attachments(args, &attachments), expected);
        }
    }

    #[test]
    fn junk_and_depth_are_refused_without_a_panic() {
        let deep = format!("{}\"_placeholder\"", "[".repeat(1_000_000));
        assert_eq!(check_placeholders(&deep, 1), Err(PacketError::PayloadTooDeep));
        for payload in ["_placeholder", "{\"_placeholder\"", "[{\"_placeholder\":true,", "\\", "{\\", "[\"\\"]
        {
            assert!(check_placeholders(payload, 1).is_err(), "{payload}");
        }
    }

    #[test]
    fn attachments_are_taken_by_number() {
        let attachments = [Bytes::from_static(b"x"), Bytes::from_static(b"y")];
        let payload = r#"[[{"b":{"_placeholder":true,"num":1}}],{"num":0,"_placeholder":true},"eA=="]"#;
        let args = Args::of_ack(payload, &attachments);
        let nested: Vec<std::collections::BTreeMap<String, Option<Binary>>> = args.read(0).unwrap();
        assert_eq!(nested[0]["b"].as_ref().unwrap().as_ref(), b"y");
        let bytes: Binary = args.read(1).unwrap();
        assert_eq!(bytes.0.as_ptr(), attachments[0].as_ptr(), "shared and not copied");
        assert!(matches!(args.read::<Binary>(2), Err(ArgsError::Mismatch { index: 2, .. })));
        assert!(serde_json::from_str::<Binary>(r#"{"_placeholder":true,"num":0}"#).is_err(), "outside");
    }

    #[test]
    fn what_was_before_is_restored_even_after_a_panic() {
        #[derive(Debug)]
        struct Panics;
        impl<'de> Deserialize<'de> for Panics {
            fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Panics, D::Error> {
                panic!("a user's mistake")
            }
        }
        #[derive(Debug)]
        struct ReadsOther;
        impl<'de> Deserialize<'de> for ReadsOther {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ReadsOther, D::Error> {
                let other = [Bytes::from_static(b"other")];
                let read = AssertUnwindSafe(|| Args::of_ack("[1]", &other).read::<Panics>(0));
                assert!(catch_unwind(read).is_err());
                assert_eq!(Args::of_ack(ONE, &other).read::<Binary>(0).unwrap().as_ref(), b"other");
                assert_eq!(Binary::deserialize(deserializer)?.as_ref(), b"own");
                Ok(ReadsOther)
            }
        }
        let own = [Bytes::from_static(b"own")];
        Args::of_ack(ONE, &own).read::<ReadsOther>(0).unwrap();
        INCOMING.with_borrow(|incoming| assert!(incoming.is_empty()));
    }

    #[test]
    fn collectors_nest_and_end_with_their_call() {
        let bytes = Binary::from(vec![1]);
        let (mut outer, mut inner) = (vec![Bytes::from_static(b"kept")], Vec::new());
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            with_collector(&mut outer, || {
                assert_eq!(serde_json::to_string(&bytes).unwrap(), r#"{"_placeholder":true,"num":0}"#);
                with_collector(&mut inner, || serde_json::to_string(&bytes).unwrap());
                without_collector(|| assert_eq!(serde_json::to_string(&bytes).unwrap(), "\"AQ==\""));
                assert_eq!(serde_json::to_string(&bytes).unwrap(), r#"{"_placeholder":true,"num":1}"#);
                panic!("a user's mistake");
            })
        }));
        assert!(panicked.is_err());
        assert_eq!((outer.len(), inner.len()), (3, 1));
        assert_eq!(serde_json::to_string(&bytes).unwrap(), "\"AQ==\"");
    }

    /// Whether one pass and two tell the same.
    fn assert_validated_alike(payload: &str) {
        let expected =
            json::validate(payload).map_err(PacketError::from).and_then(|()| check_placeholders(payload, 2));
        assert_eq!(validate(payload, 2), expected, "{payload}");
    }

    #[test]
    fn one_pass_validates_as_two_do() {
        for depth in [JSON_DEPTH_MAX - 1, JSON_DEPTH_MAX, JSON_DEPTH_MAX + 1] {
            for inner in ["", "1", r#"{"_placeholder":true,"num":7}"#, r#"{"_placeholder":true,"num":1}"#] {
                assert_validated_alike(&format!("{}{inner}{}", "[".repeat(depth), "]".repeat(depth)));
            }
        }
        for payload in ["", " ", "[1] ", "[1] x", "[1", "[1,]", "{\"a\":}", "[01]", "[\"\\x\"]", " [ { } ] "]
        {
            assert_validated_alike(payload);
        }
    }

    proptest! {
        #[test]
        fn anything_is_validated_by_one_pass_as_by_two(
            parts in prop::collection::vec(prop_oneof![
                Just(r#"{"_placeholder":true,"num":0}"#.to_owned()),
                Just(r#"{"_placeholder":true,"num":2}"#.to_owned()),
                Just(r#"{"n\u0075m":1,"_placeholder":true}"#.to_owned()),
                "[\\[\\]{}:,\"a0 ]{0,4}",
                json(),
            ], 0..5)
        ) {
            assert_validated_alike(&format!("[{}]", parts.join(",")));
            assert_validated_alike(&parts.concat());
        }
    }
}
