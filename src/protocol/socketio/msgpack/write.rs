//! JSON text and attachments to MessagePack, in the shortest forms, as notepack.io and msgpack-python read them.
//!
//! The text is our own or has been checked, so an error here is a fault of ours. Does not know packets.

use std::borrow::Cow;

use crate::protocol::socketio::binary::WRITTEN_DEPTH_MAX;
use crate::protocol::socketio::json::{self, JsonError, Scanner};

/// The first bytes of a container's header: with the length in it, with 16 bits behind it, with 32.
struct Container {
    short: u8,
    medium: u8,
    long: u8,
}

const ARRAY: Container = Container { short: 0x90, medium: 0xdc, long: 0xdd };
const MAP: Container = Container { short: 0x80, medium: 0xde, long: 0xdf };

/// Entries that a container's first byte can say.
const SHORT_LEN_MAX: usize = 15;

/// Appends one JSON value, with attachments in the place of their placeholders.
pub(crate) fn json(out: &mut Vec<u8>, text: &str, attachments: &[&[u8]]) -> Result<(), JsonError> {
    let mut writer = Writer { out, scanner: Scanner::new(text), attachments };
    writer.value(0)
}

/// Appends the header of a map with this many entries.
pub(crate) fn map_len(out: &mut Vec<u8>, len: usize) {
    let start = out.len();
    out.push(0);
    finish_container(out, start, len, &MAP);
}

#[cfg(feature = "bus")]
/// The same of an array.
pub(crate) fn array_len(out: &mut Vec<u8>, len: usize) {
    let start = out.len();
    out.push(0);
    finish_container(out, start, len, &ARRAY);
}

#[cfg(feature = "bus")]
pub(crate) fn literal(out: &mut Vec<u8>, literal: Option<bool>) {
    out.push(match literal {
        None => 0xc0,
        Some(false) => 0xc2,
        Some(true) => 0xc3,
    });
}

pub(crate) fn string(out: &mut Vec<u8>, text: &str) {
    let len = text.len();
    match len {
        0..=31 => out.push(0xa0 | len as u8),
        32..=0xff => out.extend_from_slice(&[0xd9, len as u8]),
        0x100..=0xffff => push_header(out, 0xda, &(len as u16).to_be_bytes()),
        _ => push_header(out, 0xdb, &(len as u32).to_be_bytes()),
    }
    out.extend_from_slice(text.as_bytes());
}

pub(crate) fn integer(out: &mut Vec<u8>, number: u64) {
    match number {
        0..=0x7f => out.push(number as u8),
        0x80..=0xff => out.extend_from_slice(&[0xcc, number as u8]),
        0x100..=0xffff => push_header(out, 0xcd, &(number as u16).to_be_bytes()),
        0x1_0000..=0xffff_ffff => push_header(out, 0xce, &(number as u32).to_be_bytes()),
        _ => push_header(out, 0xcf, &number.to_be_bytes()),
    }
}

fn negative(out: &mut Vec<u8>, number: i64) {
    match number {
        -0x20..=-1 => out.push(number as u8),
        -0x80..=-0x21 => out.extend_from_slice(&[0xd0, number as u8]),
        -0x8000..=-0x81 => push_header(out, 0xd1, &(number as i16).to_be_bytes()),
        -0x8000_0000..=-0x8001 => push_header(out, 0xd2, &(number as i32).to_be_bytes()),
        _ => push_header(out, 0xd3, &number.to_be_bytes()),
    }
}

fn binary(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = bytes.len();
    match len {
        0..=0xff => out.extend_from_slice(&[0xc4, len as u8]),
        0x100..=0xffff => push_header(out, 0xc5, &(len as u16).to_be_bytes()),
        _ => push_header(out, 0xc6, &(len as u32).to_be_bytes()),
    }
    out.extend_from_slice(bytes);
}

fn push_header(out: &mut Vec<u8>, first: u8, rest: &[u8]) {
    out.push(first);
    out.extend_from_slice(rest);
}

/// Makes the byte at `start` the header of what follows it; a longer header moves that.
fn finish_container(out: &mut Vec<u8>, start: usize, len: usize, container: &Container) {
    let (first, more) = match len {
        0..=SHORT_LEN_MAX => (container.short | len as u8, None),
        0x10..=0xffff => (container.medium, Some((len as u32).to_be_bytes()[2..].to_vec())),
        _ => (container.long, Some((len as u32).to_be_bytes().to_vec())),
    };
    if let Some(byte) = out.get_mut(start) {
        *byte = first;
    }
    if let Some(more) = more {
        out.splice(start + 1..start + 1, more);
    }
}

struct Writer<'a> {
    out: &'a mut Vec<u8>,
    scanner: Scanner<'a>,
    attachments: &'a [&'a [u8]],
}

impl Writer<'_> {
    fn value(&mut self, depth: usize) -> Result<(), JsonError> {
        if depth > WRITTEN_DEPTH_MAX {
            return Err(JsonError::TooDeep);
        }
        self.scanner.skip_white_space();
        match self.scanner.peek() {
            Some(b'{') => return self.object(depth),
            Some(b'[') => return self.array(depth),
            _ => {}
        }
        let start = self.scanner.at;
        self.scanner.scalar()?;
        match self.scanner.since(start) {
            "null" => self.out.push(0xc0),
            "false" => self.out.push(0xc2),
            "true" => self.out.push(0xc3),
            quoted if quoted.starts_with('"') => string(self.out, &unescape(quoted)),
            digits => self.number(digits)?,
        }
        Ok(())
    }

    /// An integer as one if it fits, anything else as a double: what a JSON client would hold.
    fn number(&mut self, digits: &str) -> Result<(), JsonError> {
        if let Ok(number) = digits.parse::<u64>() {
            integer(self.out, number);
        } else if let Some(number) = digits.parse::<i64>().ok().filter(|number| *number < 0) {
            negative(self.out, number);
        } else {
            let float: f64 = digits.parse().map_err(|_| JsonError::Invalid)?;
            push_header(self.out, 0xcb, &float.to_be_bytes());
        }
        Ok(())
    }

    fn array(&mut self, depth: usize) -> Result<(), JsonError> {
        let start = self.begin();
        let mut len = 0;
        while self.has_more(b']', len)? {
            self.value(depth + 1)?;
            len += 1;
        }
        finish_container(self.out, start, len, &ARRAY);
        Ok(())
    }

    /// A placeholder becomes its attachment. The last of equal keys counts, as in JavaScript.
    fn object(&mut self, depth: usize) -> Result<(), JsonError> {
        let start = self.begin();
        let mut len = 0;
        let (mut is_placeholder, mut attachment) = (false, None);
        while self.has_more(b'}', len)? {
            let key = unescape(self.scanner.key()?);
            string(self.out, &key);
            self.scanner.skip_white_space();
            let value_start = self.scanner.at;
            self.value(depth + 1)?;
            let value = self.scanner.since(value_start);
            match &*key {
                "_placeholder" => is_placeholder = value == "true",
                "num" => attachment = value.parse().ok().and_then(|num: usize| self.attachments.get(num)),
                _ => {}
            }
            len += 1;
        }
        match attachment.filter(|_| is_placeholder) {
            Some(attachment) => {
                self.out.truncate(start);
                binary(self.out, attachment);
            }
            None => finish_container(self.out, start, len, &MAP),
        }
        Ok(())
    }

    /// Goes into a container; its header is written when its length is known.
    fn begin(&mut self) -> usize {
        self.scanner.take();
        self.out.push(0);
        self.out.len() - 1
    }

    /// Whether a container has another element; goes past the comma before it, or past the end.
    fn has_more(&mut self, close: u8, len: usize) -> Result<bool, JsonError> {
        self.scanner.skip_white_space();
        if self.scanner.peek() == Some(close) {
            self.scanner.take();
            return Ok(false);
        }
        if len > 0 && self.scanner.take() != Some(b',') {
            return Err(JsonError::Invalid);
        }
        Ok(true)
    }
}

/// What a string says. Half a character, which UTF-8 has no bytes for, is U+FFFD.
fn unescape(quoted: &str) -> Cow<'_, str> {
    json::unescape(quoted).unwrap_or_default()
}
