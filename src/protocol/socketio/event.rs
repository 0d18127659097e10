//! Events: their names and arguments, as raw JSON until a handler asks for a type.
//!
//! Socket.IO protocol 5, "EVENT" and "ACK". Payloads come from `packet::decode`, which has checked them.
//! Does not know handlers.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::de::{Deserialize, DeserializeOwned};

use crate::base::shown::Shown;
use crate::protocol::surrogates::{self, read_json};

use super::attached::{Alone, AmongAttachments, Attached};
use super::binary;
use super::given::Absent;
use super::json::{self, Elements};
use super::lent::{Scratch, read_lent};
use super::packet::PacketError;

/// One event, lent from its packet and its attachments.
#[derive(Clone, Debug)]
pub(crate) struct Event<'a> {
    /// A number's own digits if the name is a number.
    pub(crate) name: Cow<'a, str>,
    pub(crate) args: Args<'a>,
}

impl<'a> Event<'a> {
    /// Splits a payload that `packet::decode` has accepted.
    ///
    /// # Errors
    /// The payload is empty, which the caller ignores, or is not from there.
    pub(crate) fn decode(payload: &'a str, attachments: &'a [Bytes]) -> Result<Event<'a>, PacketError> {
        let (name, raw) = split_name(payload)?;
        Ok(Event { name, args: Args { raw, attachments } })
    }
}

/// The name and the elements after it, of an array that is valid JSON.
pub(super) fn split_name(payload: &str) -> Result<(Cow<'_, str>, &str), PacketError> {
    match split_plain_name(payload) {
        Some((name, rest)) => Ok((Cow::Borrowed(name), rest)),
        None => split_any_name(payload),
    }
}

/// As stock clients write it: `["name",..` without white space or escapes. `None` if it is anything else.
#[inline]
fn split_plain_name(payload: &str) -> Option<(&str, &str)> {
    let elements = payload.strip_prefix("[\"")?.strip_suffix(']')?;
    let len = json::plain_len(elements.as_bytes());
    let rest = match elements.as_bytes().get(len..)? {
        [b'"'] => "",
        [b'"', b',', ..] => json::trim(elements.get(len + 2..)?),
        _ => return None,
    };
    Some((elements.get(..len)?, rest))
}

fn split_any_name(payload: &str) -> Result<(Cow<'_, str>, &str), PacketError> {
    let elements = strip_brackets(payload).ok_or(PacketError::PayloadMissing)?;
    let (name, rest) =
        elements.split_at_checked(json::skip_value(elements)).ok_or(PacketError::EventNameInvalid)?;
    let name = match name.as_bytes().first() {
        Some(b'"') => json::unescape(name).ok_or(PacketError::EventNameInvalid)?,
        Some(b'-' | b'0'..=b'9') => Cow::Borrowed(name),
        _ => return Err(PacketError::EventNameInvalid),
    };
    let rest = json::trim(rest);
    Ok((name, json::trim(rest.strip_prefix(',').unwrap_or_default())))
}

fn strip_brackets(payload: &str) -> Option<&str> {
    json::trim(payload).strip_prefix('[')?.strip_suffix(']').map(json::trim)
}

/// The arguments of an event or of an acknowledgement: raw JSON and attachments, lent from the packet.
///
/// Nothing is parsed until it is asked for, and extra arguments are ignored, as Socket.IO does.
///
/// ```
/// fn on_message(args: shardcast::Args<'_>) -> Result<(), shardcast::ArgsError> {
///     let mut reader = args.reader();
///     let room: String = reader.next()?;
///     let options: Option<serde_json::Value> = reader.next()?;
///     Ok(())
/// }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Args<'a> {
    /// Elements of a valid JSON array, without its brackets, trimmed.
    raw: &'a str,
    attachments: &'a [Bytes],
}

impl<'a> Args<'a> {
    /// The arguments of an acknowledgement, from a payload that `packet::decode` has accepted.
    pub(crate) fn of_ack(payload: &'a str, attachments: &'a [Bytes]) -> Args<'a> {
        Args { raw: strip_brackets(payload).unwrap_or_default(), attachments }
    }

    /// One value that `packet::decode` has accepted, or none: the auth of a `CONNECT`.
    pub(crate) fn of_value(payload: &'a str) -> Args<'a> {
        Args { raw: payload, attachments: &[] }
    }

    /// What another `Args` gave as `raw` and `attachments`.
    pub(crate) fn of_elements(raw: &'a str, attachments: &'a [Bytes]) -> Args<'a> {
        Args { raw, attachments }
    }

    /// The number of arguments. Counts them, in time linear to their length.
    pub fn len(&self) -> usize {
        Elements::new(self.raw).count()
    }

    /// Whether there is no argument.
    pub fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// All arguments but the first `count`, with the same attachments: to pass the rest on.
    pub fn skip(&self, count: usize) -> Args<'a> {
        let mut elements = Elements::new(self.raw);
        elements.by_ref().take(count).for_each(drop);
        Args { raw: elements.rest(), attachments: self.attachments }
    }

    /// All arguments as JSON, with commas between them and without brackets.
    ///
    /// ```
    /// # fn example(args: shardcast::Args<'_>) {
    /// // The client sent ["message", "hi", {"to": 7}].
    /// assert_eq!(args.raw(), r#""hi", {"to": 7}"#);
    /// # }
    /// ```
    pub fn raw(&self) -> &'a str {
        self.raw
    }

    /// One argument as JSON.
    pub fn get(&self, index: usize) -> Option<&'a str> {
        Elements::new(self.raw).nth(index)
    }

    /// The binary messages that came with the packet, in their order on the wire.
    pub fn attachments(&self) -> &'a [Bytes] {
        self.attachments
    }

    /// Reads one argument as a type.
    ///
    /// A missing argument reads like `null`, so that an `Option` is `None`; [`Given`](crate::Given) tells the two apart. JavaScript sends `undefined` as `null`, too; anything
    /// else, an empty object among it, has to match what is within the `Option`. Half a character, as JavaScript makes by cutting
    /// a text within an emoji, is U+FFFD. Binary attachments are read as [`Binary`](crate::Binary), and
    /// within a value of any shape by [`AnyValue`](crate::AnyValue); a [`Value`](serde_json::Value) has no room for bytes, and where
    /// some stand in it that is an error.
    ///
    /// # Errors
    /// [`ArgsError::Missing`] if the argument is missing and the type has no `null`;
    /// [`ArgsError::Mismatch`] if the argument is of another type.
    ///
    /// ```
    /// # fn example(cx: &mut shardcast::Context<'_>, args: shardcast::Args<'_>) -> Result<(), shardcast::ArgsError> {
    /// let count: u32 = args.read(0)?;
    /// let picture: shardcast::Binary = args.read(1)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn read<T: DeserializeOwned>(&self, index: usize) -> Result<T, ArgsError> {
        let mut reader = ArgsReader { index, ..self.reader() };
        reader.elements.by_ref().take(index).for_each(drop);
        reader.next()
    }

    /// Reads a client's auth. Where an `Option` is asked for, a page that has nothing to say is `None`: besides `null` and no auth
    /// at all an object that has no members, or only such that are `null`. `{ token: localStorage.getItem("token") }` is one
    /// before the user has logged in.
    /// What had to be unescaped is lent from `scratch`.
    pub(crate) fn read_auth<T: Deserialize<'a>>(&self, scratch: &'a Scratch) -> Result<T, AuthError> {
        let element = self.get(0);
        let read = match element {
            Some(element) => {
                read_lent(element, self.attachments, scratch).map_err(|error| mismatch(0, error))
            }
            None => read_missing(0),
        };
        read.or_else(|error| {
            let nothing: Option<T> = serde_json::from_str("null").ok();
            let may_be_none = nothing.is_some();
            match nothing.filter(|_| element.is_some_and(says_nothing)) {
                Some(nothing) => Ok(nothing),
                None => Err(AuthError { error, may_be_none }),
            }
        })
    }

    /// Reads the arguments one after the other, in one pass over the text.
    ///
    /// ```
    /// # fn example(cx: &mut shardcast::Context<'_>, args: shardcast::Args<'_>) -> Result<(), shardcast::ArgsError> {
    /// let mut reader = args.reader();
    /// let (name, age): (String, u8) = (reader.next()?, reader.next()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn reader(&self) -> ArgsReader<'a> {
        ArgsReader { elements: Elements::new(self.raw), index: 0, attachments: self.attachments }
    }
}

/// Reads arguments one after the other; made by [`Args::reader`].
#[derive(Clone, Debug)]
pub struct ArgsReader<'a> {
    elements: Elements<'a>,
    index: usize,
    attachments: &'a [Bytes],
}

impl<'a> ArgsReader<'a> {
    /// Reads the next argument as a type that may borrow from the packet, or from `scratch` what had to be unescaped.
    ///
    /// # Errors
    /// Those of [`Args::read`].
    #[inline]
    pub(crate) fn next_lent<T: Deserialize<'a>>(&mut self, scratch: &'a Scratch) -> Result<T, ArgsError> {
        let index = self.index;
        self.index += 1;
        if let Some(value) = self.read_ahead() {
            return Ok(value);
        }
        let Some(element) = self.elements.next() else { return read_missing(index) };
        read_lent(element, self.attachments, scratch).map_err(|error| mismatch(index, error))
    }

    /// Reads the next argument as a type, and goes past it even if it is of another.
    ///
    /// # Errors
    /// Those of [`Args::read`].
    #[expect(clippy::should_implement_trait, reason = "each argument has a type of its own")]
    pub fn next<T: DeserializeOwned>(&mut self) -> Result<T, ArgsError> {
        let index = self.index;
        self.index += 1;
        match self.read_ahead() {
            Some(value) => Ok(value),
            None => read_element(self.elements.next(), index, self.attachments),
        }
    }

    /// Reads the next argument in one pass, without looking for its end first. `None`, and nothing is taken, if that cannot be
    /// done: the long way says what is wrong, if anything is.
    #[inline]
    fn read_ahead<T: Deserialize<'a>>(&mut self) -> Option<T> {
        match self.attachments {
            [] => self.elements.read(),
            attachments => read_attached_ahead(&mut self.elements, attachments),
        }
    }
}

fn read_attached_ahead<'a, T: Deserialize<'a>>(
    elements: &mut Elements<'a>,
    attachments: &'a [Bytes],
) -> Option<T> {
    let alone = binary::split_placeholder(elements.rest());
    let alone = alone.and_then(|(num, rest)| Some((num, attachments.get(num)?, rest)));
    let Some((num, bytes, rest)) = alone else {
        return binary::with_incoming(attachments, || elements.read().map(|AmongAttachments(value)| value));
    };
    let read_alone = |is_surrounded| {
        let mut is_taken = false;
        let read = T::deserialize(Alone { num, bytes, is_surrounded, is_taken: &mut is_taken });
        read.ok().filter(|_| is_taken)
    };
    // What takes bytes and nothing else needs no more than them.
    let value = read_alone(false).or_else(|| {
        binary::with_incoming(attachments, || {
            read_alone(true).or_else(|| elements.read().map(|AmongAttachments(value)| value))
        })
    })?;
    *elements = rest;
    Some(value)
}

fn read_element<T: DeserializeOwned>(
    element: Option<&str>,
    index: usize,
    attachments: &[Bytes],
) -> Result<T, ArgsError> {
    let Some(element) = element else { return read_missing(index) };
    let read = match attachments {
        [] => read_json(element),
        _ => read_attached(element, attachments),
    };
    read.map_err(|error| mismatch(index, error))
}

/// Serde quotes what it does not know, and that is the client's.
#[cold]
fn mismatch(index: usize, error: serde_json::Error) -> ArgsError {
    ArgsError::Mismatch { index, message: Shown(error).to_string() }
}

/// A missing argument is `null`, unless the type wants to know.
#[cold]
fn read_missing<'a, T: Deserialize<'a>>(index: usize) -> Result<T, ArgsError> {
    let mut is_asked = false;
    match T::deserialize(Absent { is_asked: &mut is_asked }) {
        Ok(value) if is_asked => Ok(value),
        _ => serde_json::from_str("null").map_err(|_| ArgsError::Missing { index }),
    }
}

#[inline(never)]
fn read_attached<T: DeserializeOwned>(element: &str, attachments: &[Bytes]) -> serde_json::Result<T> {
    let read = |text: &str| {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let value = T::deserialize(Attached(&mut deserializer))?;
        deserializer.end().map(|()| value)
    };
    binary::with_incoming(attachments, || {
        read(element).or_else(|error| match surrogates::mend(element) {
            Some(mended) => read(&mended),
            None => Err(error),
        })
    })
}

/// Whether an object has no members but what is `null`, and what a client adds by itself to be recovered.
fn says_nothing(auth: &str) -> bool {
    let Ok(members) = read_json::<serde_json::Map<String, serde_json::Value>>(auth) else { return false };
    members.iter().all(|(name, value)| value.is_null() || matches!(name.as_str(), "pid" | "offset"))
}

/// Why a client's auth is not what the connect handler takes.
#[derive(Debug)]
pub(crate) struct AuthError {
    error: ArgsError,
    may_be_none: bool,
}

impl fmt::Display for AuthError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.error {
            ArgsError::Missing { .. } => {
                formatter.write_str("invalid auth: there is none, and it is required")?
            }
            ArgsError::Mismatch { message, .. } => write!(formatter, "invalid auth: {message}")?,
        }
        match self.may_be_none {
            true => formatter.write_str(" (or none: no auth, null, or an object whose members are all null)"),
            false => Ok(()),
        }
    }
}

/// Why an argument cannot be read as the type that was asked for.
///
/// ```
/// # fn example(args: shardcast::Args<'_>) {
/// match args.read::<u32>(0) {
///     Ok(count) => println!("{count}"),
///     Err(shardcast::ArgsError::Missing { index }) => println!("no argument {index}"),
///     Err(error) => println!("{error}"),
/// }
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ArgsError {
    /// There are too few arguments, and the type has no `null`.
    Missing {
        /// The place of the argument, from 0.
        index: usize,
    },
    /// The argument is of another type.
    Mismatch {
        /// The place of the argument, from 0.
        index: usize,
        /// What serde says: the beginning of it, and without control characters, because it may quote the client.
        message: String,
    },
}

impl fmt::Display for ArgsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ArgsError::Missing { index } => write!(f, "argument {index} is missing"),
            ArgsError::Mismatch { index, message } => {
                write!(f, "argument {index} is of another type: {message}")
            }
        }
    }
}

impl std::error::Error for ArgsError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::super::binary::Binary;
    use super::super::json::tests::json;
    use super::super::raw_json::RawJson;
    use super::*;

    fn event(payload: &str) -> Event<'_> {
        Event::decode(payload, &[]).unwrap()
    }

    #[test]
    fn the_name_is_apart_from_the_arguments() {
        let rows = [
            (r#"["a"]"#, "a", "", 0),
            (r#" [ "a" , 1 , [2,3] ] "#, "a", "1 , [2,3]", 2),
            (r#"["a\"b",{}]"#, "a\"b", "{}", 1),
            (r#"["\u0061"]"#, "a", "", 0),
            (r#"["",null]"#, "", "null", 1),
            (r#"["\ud800",1]"#, "\u{fffd}", "1", 1),
            ("[7,8]", "7", "8", 1),
            ("[-1.5e3]", "-1.5e3", "", 0),
            (r#"["],[","],["]"#, "],[", r#""],[""#, 1),
        ];
        for (payload, name, raw, len) in rows {
            let event = event(payload);
            assert_eq!((&*event.name, event.args.raw(), event.args.len()), (name, raw, len), "{payload}");
            assert_eq!(event.args.is_empty(), len == 0);
        }
        assert!(matches!(event(r#"["plain",1]"#).name, Cow::Borrowed("plain")));
    }

    #[test]
    fn what_did_not_pass_decoding_is_refused_without_a_panic() {
        for payload in ["", "[", "]", "[]", "{}", "[null]", "[\"", "[\"]", "[[]]", "[,"] {
            assert!(Event::decode(payload, &[]).is_err(), "{payload}");
        }
    }

    #[test]
    fn arguments_are_read_by_place_and_in_turn() {
        let args = event(r#"["a","x",2,{"k":[true]},null]"#).args;
        assert_eq!(args.read::<String>(0), Ok("x".to_owned()));
        assert_eq!(args.read::<u8>(1), Ok(2));
        assert_eq!(args.get(2), Some(r#"{"k":[true]}"#));
        assert_eq!(args.get(4), None);
        let mut reader = args.reader();
        assert_eq!(reader.next::<String>(), Ok("x".to_owned()));
        assert!(matches!(reader.next::<String>(), Err(ArgsError::Mismatch { index: 1, .. })));
        assert_eq!(
            reader.next::<RawJson>().map(|raw| raw.as_str().to_owned()),
            Ok(r#"{"k":[true]}"#.to_owned())
        );
        assert_eq!(reader.next::<()>(), Ok(()));
        assert_eq!(reader.next::<u8>(), Err(ArgsError::Missing { index: 4 }));
        assert_eq!(reader.next::<Option<u8>>(), Ok(None));
    }

    #[test]
    fn a_missing_argument_reads_like_null() {
        let args = Args::default();
        assert_eq!(args.read::<Option<u8>>(0), Ok(None));
        assert_eq!(args.read::<()>(0), Ok(()));
        assert_eq!(args.read::<Value>(0), Ok(Value::Null));
        assert_eq!(args.read::<String>(3), Err(ArgsError::Missing { index: 3 }));
        assert_eq!(args.read::<Binary>(0), Err(ArgsError::Missing { index: 0 }));
    }

    #[test]
    fn auth_without_anything_in_it_is_none() {
        #[derive(Debug, PartialEq, serde::Deserialize)]
        struct Login {
            token: String,
        }
        let read = |auth| {
            Args::of_value(auth)
                .read_auth::<Option<Login>>(&Scratch::default())
                .map_err(|error| error.to_string())
        };
        for auth in
            ["", "{}", r#"{"token":null}"#, r#"{"a":null,"token":null}"#, r#"{"pid":"x","offset":"y"}"#]
        {
            assert_eq!(read(auth), Ok(None), "{auth}");
        }
        let login = Login { token: "x".to_owned() };
        assert_eq!(read(r#"{"token":"x","more":null}"#), Ok(Some(login)));
        for (auth, fault) in [
            (r#"{"token":7}"#, "invalid type: integer `7`, expected a string"),
            (r#"{"tokn":"x"}"#, "missing field `token`"),
            (r#"{"token":null,"name":"a"}"#, "invalid type: null, expected a string"),
        ] {
            let error = read(auth).unwrap_err();
            assert!(error.starts_with("invalid auth: ") && error.contains(fault), "{auth}: {error}");
            assert!(error.ends_with("(or none: no auth, null, or an object whose members are all null)"));
        }
        let required = |auth| {
            Args::of_value(auth).read_auth::<Login>(&Scratch::default()).map_err(|error| error.to_string())
        };
        assert_eq!(required(""), Err("invalid auth: there is none, and it is required".to_owned()));
        assert!(required("{}").unwrap_err().contains("missing field `token`"));
        let scratch = Scratch::default();
        assert_eq!(Args::of_value("{}").read_auth::<Value>(&scratch).ok(), Some(serde_json::json!({})));
        #[derive(Debug, PartialEq, serde::Deserialize)]
        struct Lent<'a> {
            token: &'a str,
        }
        for (auth, token) in [(r#"{"token":"x"}"#, "x"), (r#"{"token":"\u0078\ny\ud83d"}"#, "x\ny\u{fffd}")] {
            assert_eq!(Args::of_value(auth).read_auth::<Lent>(&scratch).ok(), Some(Lent { token }), "{auth}");
        }
        assert_eq!(Args::of_value(r#"{"token":null}"#).read_auth::<Option<Lent>>(&scratch).ok(), Some(None));
    }

    #[test]
    fn a_clients_words_in_an_error_are_short_and_begin_no_line() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Nothing {}
        #[derive(Debug, serde::Deserialize)]
        enum One {
            A,
        }
        let forged = r#""x\r\n2026-01-01 ERROR forged\u001b[31m\u202e""#;
        let long = format!("\"{}\"", "x".repeat(100_000));
        for name in [forged, &long] {
            let errors = [
                Args::of_value(&format!("{{{name}:1}}")).read::<Nothing>(0).map(drop),
                Args::of_value(name).read::<One>(0).map(|One::A| ()),
                Args::of_value(name).read::<u8>(0).map(drop),
            ];
            for error in errors {
                let text = error.unwrap_err().to_string();
                assert!(text.len() < 2_000 && !text.contains(['\r', '\n', '\u{1b}', '\u{202e}']), "{text}");
            }
        }
    }

    #[test]
    fn half_a_character_is_read_and_raw_arguments_stay_as_they_came() {
        #[derive(Debug, PartialEq, serde::Deserialize)]
        struct Line {
            text: String,
        }
        let args = event(r#"["a","abc\ud83d",{"text":"\ud83d"},{"\ude00":1}]"#).args;
        assert_eq!(args.read::<String>(0), Ok("abc\u{fffd}".to_owned()));
        assert_eq!(args.read::<Value>(0), Ok(Value::String("abc\u{fffd}".to_owned())));
        assert_eq!(args.read::<Line>(1), Ok(Line { text: "\u{fffd}".to_owned() }));
        assert_eq!(args.read::<Value>(2), Ok(serde_json::json!({ "\u{fffd}": 1 })));
        assert_eq!(args.read::<RawJson>(0).unwrap().as_str(), r#""abc\ud83d""#);
        assert_eq!(args.raw(), r#""abc\ud83d",{"text":"\ud83d"},{"\ude00":1}"#);
        let attachments = [Bytes::from_static(b"x")];
        let payload = r#"["\ud83d",{"_placeholder":true,"num":0}]"#;
        let both = Args::of_elements(payload, &attachments).read::<(String, Binary)>(0).unwrap();
        assert_eq!((both.0.as_str(), both.1.as_ref()), ("\u{fffd}", &b"x"[..]));
    }

    #[test]
    fn acknowledgements_have_arguments_only() {
        for (payload, raw) in [("", ""), ("[]", ""), ("[ ]", ""), ("[1,\"a\"]", "1,\"a\""), (" [1] ", "1")] {
            assert_eq!(Args::of_ack(payload, &[]).raw(), raw);
        }
    }

    #[test]
    fn errors_say_which_argument() {
        assert_eq!(ArgsError::Missing { index: 2 }.to_string(), "argument 2 is missing");
        let error = event(r#"["a","x"]"#).args.read::<u8>(0).unwrap_err();
        assert!(
            error.to_string().starts_with("argument 0 is of another type: invalid type: string"),
            "{error}"
        );
    }

    /// Whether arguments read ahead are what they are when each is cut out first, errors and what is left included.
    fn assert_reads_alike<T: DeserializeOwned + PartialEq + fmt::Debug>(raw: &str, attachments: &[Bytes]) {
        let args = Args::of_elements(raw, attachments);
        let (mut reader, mut slow) = (args.reader(), args.reader());
        for index in 0..args.len() + 2 {
            slow.index += 1;
            let expected = read_element::<T>(slow.elements.next(), index, attachments);
            let shown = format!("{expected:?}");
            assert_eq!(format!("{:?}", reader.next::<T>()), shown, "{raw}");
            assert_eq!(format!("{:?}", args.read::<T>(index)), shown, "{raw}");
            assert_eq!(reader.elements.rest(), slow.elements.rest(), "{raw}");
        }
    }

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Picture {
        name: Option<String>,
        data: Option<Binary>,
    }

    /// A type that takes nothing of what it could read.
    #[derive(Debug, PartialEq)]
    struct Lazy;

    impl<'de> Deserialize<'de> for Lazy {
        fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Lazy, D::Error> {
            Ok(Lazy)
        }
    }

    fn assert_all_types_read_alike(raw: &str, attachments: &[Bytes]) {
        assert_reads_alike::<Value>(raw, attachments);
        assert_reads_alike::<String>(raw, attachments);
        assert_reads_alike::<f64>(raw, attachments);
        assert_reads_alike::<Option<i64>>(raw, attachments);
        assert_reads_alike::<RawJson>(raw, attachments);
        assert_reads_alike::<Binary>(raw, attachments);
        assert_reads_alike::<Option<Vec<Binary>>>(raw, attachments);
        assert_reads_alike::<Picture>(raw, attachments);
        assert_reads_alike::<Vec<Option<bool>>>(raw, attachments);
        assert_reads_alike::<serde::de::IgnoredAny>(raw, attachments);
        assert_reads_alike::<Lazy>(raw, attachments);
    }

    #[test]
    fn arguments_are_read_ahead_as_if_cut_out() {
        let attachments = [Bytes::from_static(b"x"), Bytes::from_static(b"yz")];
        let rows = [
            "",
            "1",
            "-0 , 1e5,\t12345678901234567890123 ",
            r#""a","b\n","\ud83d", "\ud83d\ude00""#,
            "null,true,false,[],{}",
            r#"{"_placeholder":true,"num":0}"#,
            r#"{"_placeholder":true,"num":1},{"_placeholder":true,"num":0} , 7"#,
            r#"{"_placeholder":true,"num":1} ,{"num":0,"_placeholder":true}"#,
            r#"{"_placeholder":true,"num":7},{"_placeholder":true,"num":01},{"_placeholder":true,"num":-0}"#,
            r#"{"_placeholder":true,"num":0,"num":1},{"_placeholder":true,"num":1}"#,
            r#"{"name":"x","data":{"_placeholder":true,"num":1}},[{"_placeholder":true,"num":0}]"#,
            r#"{"name":null,"data":null},{"data":1},{"name":"}","other":[1,"]"]}"#,
        ];
        for raw in rows {
            assert_all_types_read_alike(raw, &[]);
            assert_all_types_read_alike(raw, &attachments);
        }
    }

    proptest! {
        #[test]
        fn any_arguments_are_read_ahead_as_if_cut_out(items in prop::collection::vec(json(), 0..4), space in "[ \n]{0,2}") {
            let raw = items.join(&format!("{space},{space}"));
            assert_all_types_read_alike(&raw, &[]);
            assert_all_types_read_alike(&raw, &[Bytes::from_static(b"x")]);
        }

        #[test]
        fn a_plain_name_is_split_off_as_any_name(items in prop::collection::vec(json(), 0..3), text in "[\"\\[\\],a \\\\]{0,12}") {
            for payload in [format!("[{}]", items.join(",")), text] {
                if let Some((name, rest)) = split_plain_name(&payload)
                    && json::validate(&payload).is_ok()
                {
                    prop_assert_eq!(split_any_name(&payload), Ok((Cow::Borrowed(name), rest)));
                }
            }
        }
    }
}
