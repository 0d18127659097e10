//! MessagePack to JSON text and attachments.
//!
//! Follows the MessagePack specification and notepack.io 2.2, which socket.io-msgpack-parser uses: it writes
//! `undefined`, dates and array buffers as extensions of type 0. Where JSON has no such value, what `JSON.stringify`
//! makes of it is written. Does not know packets.

use std::borrow::Cow;
use std::fmt::Write as _;

use bytes::Bytes;

use crate::base::limits::JSON_DEPTH_MAX;
use crate::protocol::http::date::civil_date;
use crate::protocol::surrogates::split_at_half;

use super::{BINARIES_MAX, MsgpackError};

/// The milliseconds that a JavaScript date can be away from 1970 (ECMA-262, "Time Values and Time Range").
const DATE_MILLIS_MAX: i64 = 8_640_000_000_000_000;

const MILLIS_A_DAY: i64 = 86_400_000;

/// Added to a day, and taken off its year, so that a date before 1970 counts from nothing: 280,000 years, in eras
/// of 400 that all have the same days.
const SHIFT_DAYS: i64 = 700 * 146_097;
const SHIFT_YEARS: i64 = 700 * 400;

/// notepack.io's own extension type.
const EXTENSION_NOTEPACK: i8 = 0;

/// The specification's timestamp.
const EXTENSION_TIMESTAMP: i8 = -1;

/// A place in a message, and what has been read for the payload.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    message: &'a Bytes,
    rest: &'a [u8],
    json: String,
    attachments: Vec<Bytes>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(message: &'a Bytes) -> Reader<'a> {
        Reader { message, rest: message, json: String::new(), attachments: Vec::new() }
    }

    /// The payload as JSON, empty if there was none, and its attachments.
    pub(super) fn finish(self) -> Result<(String, Vec<Bytes>), MsgpackError> {
        if self.rest.is_empty() { Ok((self.json, self.attachments)) } else { Err(MsgpackError::Trailing) }
    }

    /// How many entries follow; `None` if the value is no map. Nothing is made room for by this number.
    pub(crate) fn map_len(&mut self) -> Result<Option<usize>, MsgpackError> {
        Ok(match self.byte()? {
            first @ 0x80..=0x8f => Some(usize::from(first & 0x0f)),
            0xde => Some(self.uint(2)? as usize),
            0xdf => Some(self.uint(4)? as usize),
            _ => None,
        })
    }

    #[cfg(feature = "bus")]
    /// The same of an array.
    pub(crate) fn array_len(&mut self) -> Result<Option<usize>, MsgpackError> {
        Ok(match self.byte()? {
            first @ 0x90..=0x9f => Some(usize::from(first & 0x0f)),
            0xdc => Some(self.uint(2)? as usize),
            0xdd => Some(self.uint(4)? as usize),
            _ => None,
        })
    }

    #[cfg(feature = "bus")]
    /// The first byte of what comes next, which says what kind of value it is.
    pub(crate) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    #[cfg(feature = "bus")]
    pub(crate) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// A string; U+FFFD where it has half a character.
    pub(crate) fn string(&mut self) -> Result<Cow<'a, str>, MsgpackError> {
        let bytes = self.string_bytes()?;
        if let Ok(text) = simdutf8::basic::from_utf8(bytes) {
            return Ok(Cow::Borrowed(text));
        }
        let mut text = String::new();
        for_each_half(bytes, |plain, half| {
            text.push_str(plain);
            text.extend(half.map(|_| char::REPLACEMENT_CHARACTER));
        })?;
        Ok(Cow::Owned(text))
    }

    fn string_bytes(&mut self) -> Result<&'a [u8], MsgpackError> {
        let len = match self.byte()? {
            first @ 0xa0..=0xbf => usize::from(first & 0x1f),
            0xd9 => self.uint(1)? as usize,
            0xda => self.uint(2)? as usize,
            0xdb => self.uint(4)? as usize,
            _ => return Err(MsgpackError::NotString),
        };
        self.take(len)
    }

    /// A whole number from 0, or nothing: `null`, `undefined`.
    pub(crate) fn integer(&mut self) -> Result<Option<u64>, MsgpackError> {
        let first = self.byte()?;
        Ok(Some(match first {
            0x00..=0x7f => u64::from(first),
            0xc0 => return Ok(None),
            0xcc => self.uint(1)?,
            0xcd => self.uint(2)?,
            0xce => self.uint(4)?,
            0xcf => self.uint(8)?,
            0xd0 => self.not_negative(1)?,
            0xd1 => self.not_negative(2)?,
            0xd2 => self.not_negative(4)?,
            0xd3 => self.not_negative(8)?,
            0xd4 if self.take(2)? == [0, 0] => return Ok(None),
            _ => return Err(MsgpackError::NotPacket),
        }))
    }

    /// Reads the value that is the payload. Of several the last counts.
    pub(super) fn payload(&mut self) -> Result<(), MsgpackError> {
        self.json.clear();
        self.attachments.clear();
        self.value(1)?;
        Ok(())
    }

    #[cfg(feature = "bus")]
    /// One value by itself, as JSON with its attachments; none if it is `undefined`.
    pub(crate) fn take_value(&mut self) -> Result<Option<(String, Vec<Bytes>)>, MsgpackError> {
        self.json.clear();
        self.attachments.clear();
        let is_defined = self.value(1)?;
        let value = (std::mem::take(&mut self.json), std::mem::take(&mut self.attachments));
        Ok(is_defined.then_some(value))
    }

    /// Goes past a value that is not used.
    pub(crate) fn skip(&mut self) -> Result<(), MsgpackError> {
        let (json_len, attachments_len) = (self.json.len(), self.attachments.len());
        self.value(1)?;
        self.json.truncate(json_len);
        self.attachments.truncate(attachments_len);
        Ok(())
    }

    /// Appends one value; false, with nothing appended, if it is `undefined`. Recursion is safe because the depth is
    /// limited.
    fn value(&mut self, depth: usize) -> Result<bool, MsgpackError> {
        let before = self.rest;
        let first = self.byte()?;
        match first {
            0x00..=0x7f => self.number(first),
            0xe0..=0xff => self.number(first as i8),
            0xa0..=0xbf | 0xd9..=0xdb => {
                self.rest = before;
                let text = self.string_bytes()?;
                self.quote(text)?;
            }
            0x90..=0x9f => self.array(usize::from(first & 0x0f), depth)?,
            0xdc | 0xdd => {
                let len = self.uint(if first == 0xdc { 2 } else { 4 })? as usize;
                self.array(len, depth)?;
            }
            0x80..=0x8f | 0xde | 0xdf => {
                self.rest = before;
                let len = self.map_len()?.unwrap_or_default();
                self.map(len, depth)?;
            }
            0xc0 => self.json.push_str("null"),
            0xc2 => self.json.push_str("false"),
            0xc3 => self.json.push_str("true"),
            0xc4..=0xc6 => {
                let len = self.uint(1 << (first - 0xc4))? as usize;
                self.binary(len)?;
            }
            0xca => {
                let float = f32::from_bits(self.uint(4)? as u32);
                self.float(f64::from(float));
            }
            0xcb => {
                let float = f64::from_bits(self.uint(8)?);
                self.float(float);
            }
            0xcc..=0xcf => {
                let number = self.uint(1 << (first - 0xcc))?;
                self.number(number);
            }
            0xd0..=0xd3 => {
                let number = self.int(1 << (first - 0xd0))?;
                self.number(number);
            }
            0xc7..=0xc9 => {
                let len = self.uint(1 << (first - 0xc7))? as usize;
                self.extension(len, false)?;
            }
            0xd4..=0xd8 => return self.extension(1 << (first - 0xd4), true),
            0xc1 => return Err(MsgpackError::FormatUnknown),
        }
        Ok(true)
    }

    fn array(&mut self, len: usize, depth: usize) -> Result<(), MsgpackError> {
        check_depth(depth)?;
        self.json.push('[');
        for index in 0..len {
            if index > 0 {
                self.json.push(',');
            }
            if !self.value(depth + 1)? {
                self.json.push_str("null");
            }
        }
        self.json.push(']');
        Ok(())
    }

    /// An entry whose value is `undefined` is left out.
    fn map(&mut self, len: usize, depth: usize) -> Result<(), MsgpackError> {
        check_depth(depth)?;
        self.json.push('{');
        let mut is_first = true;
        for _ in 0..len {
            let entry = self.json.len();
            if !is_first {
                self.json.push(',');
            }
            let key = self.string_bytes()?;
            self.quote(key)?;
            self.json.push(':');
            if self.value(depth + 1)? {
                is_first = false;
            } else {
                self.json.truncate(entry);
            }
        }
        self.json.push('}');
        Ok(())
    }

    fn binary(&mut self, len: usize) -> Result<(), MsgpackError> {
        if self.attachments.len() == BINARIES_MAX {
            return Err(MsgpackError::TooManyBinaries);
        }
        let bytes = self.take(len)?;
        write!(self.json, r#"{{"_placeholder":true,"num":{}}}"#, self.attachments.len())
            .expect("writing to a String cannot fail");
        self.attachments.push(self.message.slice_ref(bytes));
        Ok(())
    }

    /// False if it is `undefined`. `is_fixed`: the length was part of the first byte.
    fn extension(&mut self, len: usize, is_fixed: bool) -> Result<bool, MsgpackError> {
        let kind = self.byte()? as i8;
        let millis = match (kind, len, is_fixed) {
            (EXTENSION_NOTEPACK, 1, true) => {
                self.take(1)?;
                return Ok(false);
            }
            (EXTENSION_NOTEPACK, 8, true) => self.int(8)?,
            (EXTENSION_NOTEPACK, _, false) => return self.binary(len).map(|()| true),
            (EXTENSION_TIMESTAMP, 4, true) => self.uint(4)? as i64 * 1000,
            (EXTENSION_TIMESTAMP, 8, true) => {
                let both = self.uint(8)?;
                let (nanos, seconds) = (both >> 34, both & ((1 << 34) - 1));
                seconds as i64 * 1000 + (nanos / 1_000_000) as i64
            }
            (EXTENSION_TIMESTAMP, 12, false) => {
                let nanos = self.uint(4)?;
                let seconds = self.int(8)?;
                seconds.saturating_mul(1000).saturating_add((nanos / 1_000_000) as i64)
            }
            _ => return Err(MsgpackError::ExtensionUnknown),
        };
        self.date(millis);
        Ok(true)
    }

    /// As `JSON.stringify` writes a date: `null` for one out of range.
    fn date(&mut self, millis: i64) {
        if millis.abs_diff(0) > DATE_MILLIS_MAX as u64 {
            return self.json.push_str("null");
        }
        let (days, time) = (millis.div_euclid(MILLIS_A_DAY), millis.rem_euclid(MILLIS_A_DAY));
        let (year, month, day) = civil_date((days + SHIFT_DAYS) as u64);
        let year = year as i64 - SHIFT_YEARS;
        let (hour, minute) = (time / 3_600_000, time / 60_000 % 60);
        let (second, milli) = (time / 1000 % 60, time % 1000);
        let written = match year {
            0..=9999 => write!(self.json, "\"{year:04}"),
            _ => write!(self.json, "\"{year:+07}"),
        };
        written
            .and_then(|()| {
                write!(self.json, "-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z\"")
            })
            .expect("writing to a String cannot fail");
    }

    /// Half a character, which some encoders write as three bytes that are no UTF-8, becomes the escape that a JSON client
    /// writes. (notepack.io makes another character of it.)
    fn quote(&mut self, bytes: &[u8]) -> Result<(), MsgpackError> {
        if let Ok(text) = simdutf8::basic::from_utf8(bytes) {
            self.serialize(text);
            return Ok(());
        }
        self.json.push('"');
        for_each_half(bytes, |plain, half| {
            let quoted = serde_json::to_string(plain).expect("strings have JSON");
            self.json.push_str(quoted.get(1..quoted.len() - 1).unwrap_or_default());
            if let Some(unit) = half {
                write!(self.json, "\\u{unit:04x}").expect("writing to a String cannot fail");
            }
        })?;
        self.json.push('"');
        Ok(())
    }

    /// `null` if it is not finite, as `JSON.stringify` writes it.
    fn float(&mut self, float: f64) {
        self.serialize(&float);
    }

    fn number(&mut self, number: impl std::fmt::Display) {
        write!(self.json, "{number}").expect("writing to a String cannot fail");
    }

    fn serialize<T: serde::Serialize + ?Sized>(&mut self, value: &T) {
        let text = serde_json::to_string(value).expect("strings and numbers have JSON");
        self.json.push_str(&text);
    }

    fn not_negative(&mut self, len: usize) -> Result<u64, MsgpackError> {
        u64::try_from(self.int(len)?).map_err(|_| MsgpackError::NotPacket)
    }

    /// A big-endian number of 1, 2, 4 or 8 bytes.
    fn uint(&mut self, len: usize) -> Result<u64, MsgpackError> {
        Ok(self.take(len)?.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    /// The same with a sign.
    fn int(&mut self, len: usize) -> Result<i64, MsgpackError> {
        let unused = 64 - 8 * len as u32;
        Ok((self.uint(len)? << unused) as i64 >> unused)
    }

    fn byte(&mut self) -> Result<u8, MsgpackError> {
        let (&first, rest) = self.rest.split_first().ok_or(MsgpackError::Truncated)?;
        self.rest = rest;
        Ok(first)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], MsgpackError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(MsgpackError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }
}

/// Goes through a string that is UTF-8 but for half characters.
#[cold]
fn for_each_half(mut bytes: &[u8], mut take: impl FnMut(&str, Option<u16>)) -> Result<(), MsgpackError> {
    while !bytes.is_empty() {
        let (plain, half, rest) = split_at_half(bytes).ok_or(MsgpackError::StringNotUtf8)?;
        take(plain, half);
        bytes = rest;
    }
    Ok(())
}

fn check_depth(depth: usize) -> Result<(), MsgpackError> {
    if depth > JSON_DEPTH_MAX { Err(MsgpackError::TooDeep) } else { Ok(()) }
}
