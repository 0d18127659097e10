//! Reads values from JSON or MessagePack with the same words: these formats are free to use either for one message.
//!
//! The caller knows the message's shape and asks for what comes next; what is not asked for is skipped. Depth is limited by the
//! shape, and below it by [`JSON_DEPTH_MAX`](crate::base::limits::JSON_DEPTH_MAX). Does not know messages.

use std::borrow::Cow;

use bytes::Bytes;

use crate::protocol::socketio::json::{self, Scanner};
use crate::protocol::socketio::msgpack::read::Reader;

use super::{ID_BYTES_MAX, MESSAGE_BYTES_MAX, Payload, Unreadable};

/// A place in a message.
#[derive(Clone, Debug)]
pub(super) enum Source<'a> {
    Json(Place<'a>),
    Msgpack(Reader<'a>),
}

/// A place in JSON text.
#[derive(Debug)]
pub(super) struct Place<'a> {
    text: &'a str,
    scanner: Scanner<'a>,
}

impl Clone for Place<'_> {
    fn clone(&self) -> Self {
        let mut scanner = Scanner::new(self.text);
        scanner.at = self.scanner.at;
        Place { text: self.text, scanner }
    }
}

/// A container that is being read.
#[derive(Debug)]
pub(super) enum Inside {
    /// JSON's, and how it ends.
    Until { close: u8, is_first: bool },
    /// MessagePack's, and how many entries are left. Nothing is made room for by this number.
    Left(usize),
}

impl<'a> Source<'a> {
    /// JSON if it begins like an object, MessagePack otherwise: so do the npm packages tell them apart.
    pub(super) fn of(bytes: &'a Bytes) -> Result<Source<'a>, Unreadable> {
        if bytes.first() == Some(&b'{') { Source::json(bytes) } else { Source::msgpack(bytes) }
    }

    pub(super) fn json(bytes: &'a Bytes) -> Result<Source<'a>, Unreadable> {
        check_len(bytes)?;
        let text = simdutf8::basic::from_utf8(bytes).map_err(|_| Unreadable::NotUtf8)?;
        Ok(Source::Json(Place { text, scanner: Scanner::new(text) }))
    }

    pub(super) fn msgpack(bytes: &'a Bytes) -> Result<Source<'a>, Unreadable> {
        check_len(bytes)?;
        Ok(Source::Msgpack(Reader::new(bytes)))
    }

    /// Nothing may follow what has been read.
    pub(super) fn finish(mut self) -> Result<(), Unreadable> {
        let is_at_end = match &mut self {
            Source::Json(place) => {
                place.scanner.skip_white_space();
                place.scanner.at == place.text.len()
            }
            Source::Msgpack(reader) => reader.is_at_end(),
        };
        if is_at_end { Ok(()) } else { Err(Unreadable::NotExpected) }
    }

    /// Goes into an object.
    pub(super) fn object(&mut self) -> Result<Inside, Unreadable> {
        match self {
            Source::Json(place) => place.open(b'{', b'}'),
            Source::Msgpack(reader) => Ok(Inside::Left(reader.map_len()?.ok_or(Unreadable::NotExpected)?)),
        }
    }

    /// The key before the next value; none at the end of the object.
    pub(super) fn key(&mut self, inside: &mut Inside) -> Result<Option<Cow<'a, str>>, Unreadable> {
        if !self.has_more(inside)? {
            return Ok(None);
        }
        match self {
            Source::Json(place) => {
                let key = place.scanner.key().map_err(|_| Unreadable::NotJson)?;
                Ok(Some(json::unescape(key).ok_or(Unreadable::NotJson)?))
            }
            Source::Msgpack(reader) => Ok(Some(reader.string()?)),
        }
    }

    /// Goes into an array.
    pub(super) fn array(&mut self) -> Result<Inside, Unreadable> {
        match self {
            Source::Json(place) => place.open(b'[', b']'),
            Source::Msgpack(reader) => Ok(Inside::Left(reader.array_len()?.ok_or(Unreadable::NotExpected)?)),
        }
    }

    /// Whether another value follows in the container; at its end goes out of it.
    pub(super) fn has_more(&mut self, inside: &mut Inside) -> Result<bool, Unreadable> {
        match (self, inside) {
            (Source::Json(place), Inside::Until { close, is_first }) => {
                let was_first = std::mem::take(is_first);
                place.has_more(*close, was_first)
            }
            (Source::Msgpack(_), Inside::Left(left)) => {
                let has_more = *left > 0;
                *left = left.saturating_sub(1);
                Ok(has_more)
            }
            _ => Err(Unreadable::NotExpected),
        }
    }

    /// Goes past a `null` or `undefined`, if one comes next.
    pub(super) fn take_null(&mut self) -> Result<bool, Unreadable> {
        let is_null = match self {
            Source::Json(place) => place.peek() == Some(b'n'),
            // notepack.io 2 writes `undefined` as an extension.
            Source::Msgpack(reader) => matches!(reader.peek(), Some(0xc0 | 0xd4)),
        };
        if is_null {
            self.skip()?;
        }
        Ok(is_null)
    }

    /// Whether an object comes next.
    pub(super) fn is_object(&mut self) -> bool {
        match self {
            Source::Json(place) => place.peek() == Some(b'{'),
            Source::Msgpack(reader) => matches!(reader.peek(), Some(0x80..=0x8f | 0xde | 0xdf)),
        }
    }

    pub(super) fn string(&mut self) -> Result<Cow<'a, str>, Unreadable> {
        match self {
            Source::Json(place) => {
                let text = place.value()?;
                if !text.starts_with('"') {
                    return Err(Unreadable::NotExpected);
                }
                json::unescape(text).ok_or(Unreadable::NotJson)
            }
            Source::Msgpack(reader) => Ok(reader.string()?),
        }
    }

    /// A room's name: Node's may be numbers too, and are their digits here.
    pub(super) fn name(&mut self) -> Result<Cow<'a, str>, Unreadable> {
        let is_string = match self {
            Source::Json(place) => place.peek() == Some(b'"'),
            Source::Msgpack(reader) => matches!(reader.peek(), Some(0xa0..=0xbf | 0xd9..=0xdb)),
        };
        if is_string {
            return self.string();
        }
        match self.value()? {
            Some(Payload { json, .. })
                if json.starts_with(|first: char| first == '-' || first.is_ascii_digit()) =>
            {
                Ok(Cow::Owned(json))
            }
            _ => Err(Unreadable::NotExpected),
        }
    }

    /// The id of a process or a request; none if it is `null` or `undefined`.
    pub(super) fn id(&mut self) -> Result<Option<Box<str>>, Unreadable> {
        if self.take_null()? {
            return Ok(None);
        }
        let id = self.string()?;
        if id.len() > ID_BYTES_MAX { Err(Unreadable::IdTooLong) } else { Ok(Some(id.into())) }
    }

    /// A whole number from 0.
    pub(super) fn number(&mut self) -> Result<u64, Unreadable> {
        match self {
            Source::Json(place) => place.value()?.parse().map_err(|_| Unreadable::NotExpected),
            Source::Msgpack(reader) => {
                let number = reader.integer().map_err(|_| Unreadable::NotExpected)?;
                number.ok_or(Unreadable::NotExpected)
            }
        }
    }

    /// Whether the value is `true` or `false`; none if it is anything else.
    pub(super) fn flag(&mut self) -> Result<Option<bool>, Unreadable> {
        let value = self.value()?;
        Ok(value.and_then(|value| value.json.parse().ok()))
    }

    /// A value as it is; none if it is `undefined`.
    pub(super) fn value(&mut self) -> Result<Option<Payload>, Unreadable> {
        match self {
            Source::Json(place) => {
                Ok(Some(Payload { json: place.value()?.to_owned(), attachments: Vec::new() }))
            }
            Source::Msgpack(reader) => {
                let value = reader.take_value()?;
                Ok(value.map(|(json, attachments)| Payload { json, attachments }))
            }
        }
    }

    pub(super) fn skip(&mut self) -> Result<(), Unreadable> {
        match self {
            Source::Json(place) => place.value().map(drop),
            Source::Msgpack(reader) => Ok(reader.skip()?),
        }
    }
}

impl<'a> Place<'a> {
    /// The first byte of the next value.
    fn peek(&mut self) -> Option<u8> {
        self.scanner.skip_white_space();
        self.scanner.peek()
    }

    /// Goes past a value.
    fn value(&mut self) -> Result<&'a str, Unreadable> {
        self.scanner.skip_white_space();
        let start = self.scanner.at;
        self.scanner.value().map_err(|_| Unreadable::NotJson)?;
        Ok(self.scanner.since(start))
    }

    fn open(&mut self, open: u8, close: u8) -> Result<Inside, Unreadable> {
        if self.scanner.take() != Some(open) {
            return Err(Unreadable::NotExpected);
        }
        Ok(Inside::Until { close, is_first: true })
    }

    fn has_more(&mut self, close: u8, is_first: bool) -> Result<bool, Unreadable> {
        if self.peek() == Some(close) {
            self.scanner.take();
            return Ok(false);
        }
        if !is_first && self.scanner.take() != Some(b',') {
            return Err(Unreadable::NotJson);
        }
        Ok(true)
    }
}

fn check_len(bytes: &Bytes) -> Result<(), Unreadable> {
    if bytes.len() > MESSAGE_BYTES_MAX { Err(Unreadable::TooLarge) } else { Ok(()) }
}
