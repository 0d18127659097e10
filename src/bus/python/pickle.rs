//! Pickles of plain data: what python-socketio before 5.14 publishes (`pickletools` documents each instruction).
//!
//! Not an unpickler: the instructions are a closed list, and the only things that may be called are `_codecs.encode`, as
//! protocols 0 to 2 write bytes, `bytes` and `bytearray`. Whatever else is named makes the message unreadable. What is kept is
//! bounded by the message: each of its bytes makes at most one value, of `PICKLE_VALUES_MAX`, one place on the stack or one in the memo.
//! References can fold much into little, or a list into itself, so what they unfold to is bounded in bytes and depth.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::mem;

use crate::protocol::surrogates::split_at_half;

use super::fields::{Data, Fields};
use super::message::{Message, PickleError, Unreadable};
use super::pickle_json::{Callable, Id, Json, Value};

/// Values of one pickle: each is kept with 48 bytes, and may take one byte of the message.
const PICKLE_VALUES_MAX: usize = 1 << 18;

/// Bytes of a whole number that is read: those of an `i128`.
const INTEGER_BYTES_MAX: usize = 16;

/// The newest protocol.
const NEWEST_PROTOCOL: u8 = 5;

/// Keys of a message that are neither arguments nor attachments.
const KEYS: [&str; 9] =
    ["method", "event", "namespace", "room", "skip_sid", "callback", "host_id", "sid", "id"];

/// Reads a message.
pub(super) fn read(bytes: &[u8], bytes_max: usize) -> Result<Message<'static>, Unreadable> {
    let mut machine = Machine::new(bytes, bytes_max);
    let root = machine.run()?;
    let Some(Value::Dict(members)) = machine.values.get(root) else { return Err(Unreadable::NotMessage) };
    let mut json = Json::new(&machine.values, bytes_max);
    let mut parts = BTreeMap::new();
    for &(key, value) in members {
        let Some(Value::Text(key)) = machine.values.get(key) else { continue };
        let Ok(key) = str::from_utf8(key) else { continue };
        match key {
            "data" => json.data(value)?,
            "args" => json.answer(value)?,
            _ if KEYS.contains(&key) => json.value(value)?,
            _ => continue,
        }
        parts.insert(key, (mem::take(&mut json.out), mem::take(&mut json.attachments)));
    }
    let mut fields = Fields::default();
    for (key, (text, attachments)) in &mut parts {
        match (*key, attachments.is_empty()) {
            ("data", _) => fields.data = Some(Data::Args(text, mem::take(attachments))),
            ("args", _) => fields.args = Some(Data::Args(text, mem::take(attachments))),
            (key, true) => fields.set(key, text),
            (_, false) => return Err(PickleError::NotJson.into()),
        }
    }
    fields.message().map(Message::into_owned)
}

struct Machine<'a> {
    rest: &'a [u8],
    values: Vec<Value<'a>>,
    stack: Vec<Id>,
    /// How high the stack was at each mark.
    marks: Vec<usize>,
    memo: BTreeMap<u64, Id>,
    /// Bytes that may still be copied.
    copies_left: usize,
}

impl<'a> Machine<'a> {
    fn new(bytes: &'a [u8], bytes_max: usize) -> Machine<'a> {
        let (values, stack, marks) = (Vec::new(), Vec::new(), Vec::new());
        Machine { rest: bytes, values, stack, marks, memo: BTreeMap::new(), copies_left: bytes_max }
    }

    /// Follows the instructions to the end; what they have made.
    fn run(&mut self) -> Result<Id, PickleError> {
        loop {
            match self.byte()? {
                b'.' => return self.pop(),
                0x80 => match self.byte()? {
                    0..=NEWEST_PROTOCOL => {}
                    _ => return Err(PickleError::OpcodeUnknown),
                },
                // A frame says how much to read at once.
                0x95 => drop(self.take(8)?),
                opcode => self.step(opcode)?,
            }
        }
    }

    fn step(&mut self, opcode: u8) -> Result<(), PickleError> {
        match opcode {
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_mark()?),
            b'N' => self.push(Value::None)?,
            0x88 => self.push(Value::Bool(true))?,
            0x89 => self.push(Value::Bool(false))?,
            b'I' | b'J' | b'K' | b'M' | b'L' | 0x8a | 0x8b | b'F' | b'G' => self.number(opcode)?,
            b'S' | b'T' | b'U' | b'V' | b'X' | 0x8c | 0x8d => self.text(opcode)?,
            b'C' | b'B' | 0x8e | 0x96 => self.bytes(opcode)?,
            b']' | b'l' | b'a' | b'e' => self.list(opcode)?,
            b')' | b't' | 0x85..=0x87 => self.tuple(opcode)?,
            b'}' | b'd' | b's' | b'u' => self.dict(opcode)?,
            b'p' | b'q' | b'r' | 0x94 | b'g' | b'h' | b'j' => self.memory(opcode)?,
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(callable(module, name)?)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Some(Value::Text(module)), Some(Value::Text(name))) =
                    (self.values.get(module), self.values.get(name))
                else {
                    return Err(PickleError::Broken);
                };
                self.push(callable(module, name)?)?;
            }
            b'R' => self.call()?,
            _ => return Err(PickleError::OpcodeUnknown),
        }
        Ok(())
    }

    fn number(&mut self, opcode: u8) -> Result<(), PickleError> {
        let value = match opcode {
            b'I' => match self.line()? {
                b"00" => Value::Bool(false),
                b"01" => Value::Bool(true),
                line => Value::Int(integer(line)?),
            },
            b'L' => {
                let line = self.line()?;
                Value::Int(integer(line.strip_suffix(b"L").unwrap_or(line))?)
            }
            b'K' => Value::Int(i128::from(self.byte()?)),
            b'M' => Value::Int(i128::from(self.uint(2)?)),
            b'J' => Value::Int(i128::from(self.uint(4)? as u32 as i32)),
            0x8a => self.long(1)?,
            0x8b => self.long(4)?,
            b'F' => Value::Float(parse(self.line()?)?),
            _ => {
                let bytes = *self.take(8)?.first_chunk().ok_or(PickleError::Truncated)?;
                Value::Float(f64::from_be_bytes(bytes))
            }
        };
        self.push(value)
    }

    /// A whole number in two's complement, its lowest byte first.
    fn long(&mut self, len_bytes: usize) -> Result<Value<'a>, PickleError> {
        let len = self.len(len_bytes)?;
        let bytes = self.take(len)?;
        if len > INTEGER_BYTES_MAX {
            return Err(PickleError::NumberInvalid);
        }
        let is_negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let start = if is_negative { -1 } else { 0 };
        Ok(Value::Int(bytes.iter().rev().fold(start, |number: i128, &byte| number << 8 | i128::from(byte))))
    }

    fn text(&mut self, opcode: u8) -> Result<(), PickleError> {
        let text = match opcode {
            b'V' => Cow::Owned(unescape_raw(self.line()?)?),
            b'S' | b'T' | b'U' => self.string2(opcode)?,
            _ => {
                let len = self.len(match opcode {
                    0x8c => 1,
                    b'X' => 4,
                    _ => 8,
                })?;
                Cow::Borrowed(self.take(len)?)
            }
        };
        check_text(&text)?;
        self.push(Value::Text(text))
    }

    /// A text of Python 2, which Python 3 takes for ASCII.
    fn string2(&mut self, opcode: u8) -> Result<Cow<'a, [u8]>, PickleError> {
        let text = match opcode {
            b'S' => {
                let line = self.line()?;
                let text = match line {
                    [b'\'', text @ .., b'\''] | [b'"', text @ .., b'"'] => text,
                    _ => return Err(PickleError::TextInvalid),
                };
                unescape_string2(text)?
            }
            _ => {
                let len = self.len(if opcode == b'U' { 1 } else { 4 })?;
                Cow::Borrowed(self.take(len)?)
            }
        };
        if text.is_ascii() { Ok(text) } else { Err(PickleError::TextInvalid) }
    }

    fn bytes(&mut self, opcode: u8) -> Result<(), PickleError> {
        let len = self.len(match opcode {
            b'C' => 1,
            b'B' => 4,
            _ => 8,
        })?;
        let bytes = self.take(len)?;
        self.push(Value::Bytes(Cow::Borrowed(bytes)))
    }

    fn list(&mut self, opcode: u8) -> Result<(), PickleError> {
        match opcode {
            b']' => self.push(Value::List(Vec::new())),
            b'l' => {
                let items = self.pop_mark()?;
                self.push(Value::List(items))
            }
            _ => {
                let items = if opcode == b'a' { vec![self.pop()?] } else { self.pop_mark()? };
                match self.top()? {
                    Value::List(list) => list.extend(items),
                    _ => return Err(PickleError::Broken),
                }
                Ok(())
            }
        }
    }

    fn tuple(&mut self, opcode: u8) -> Result<(), PickleError> {
        let items = match opcode {
            b')' => Vec::new(),
            b't' => self.pop_mark()?,
            _ => {
                let mut items = Vec::new();
                for _ in 0x84..opcode {
                    items.push(self.pop()?);
                }
                items.reverse();
                items
            }
        };
        self.push(Value::Tuple(items))
    }

    fn dict(&mut self, opcode: u8) -> Result<(), PickleError> {
        let items = match opcode {
            b'}' => Vec::new(),
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                vec![key, value]
            }
            _ => self.pop_mark()?,
        };
        let (pairs, odd) = items.as_chunks::<2>();
        if !odd.is_empty() {
            return Err(PickleError::Broken);
        }
        let pairs = pairs.iter().map(|&[key, value]| (key, value));
        if let b'}' | b'd' = opcode {
            return self.push(Value::Dict(pairs.collect()));
        }
        match self.top()? {
            Value::Dict(dict) => dict.extend(pairs),
            _ => return Err(PickleError::Broken),
        }
        Ok(())
    }

    fn memory(&mut self, opcode: u8) -> Result<(), PickleError> {
        let place = match opcode {
            b'p' | b'g' => parse(self.line()?)?,
            b'q' | b'h' => self.uint(1)?,
            b'r' | b'j' => self.uint(4)?,
            _ => self.memo.len() as u64,
        };
        if let b'g' | b'h' | b'j' = opcode {
            self.stack.push(*self.memo.get(&place).ok_or(PickleError::Broken)?);
        } else {
            let top = *self.stack.last().ok_or(PickleError::Broken)?;
            self.memo.insert(place, top);
        }
        Ok(())
    }

    /// Calls one of the few things that may be.
    fn call(&mut self) -> Result<(), PickleError> {
        let (args, called) = (self.pop()?, self.pop()?);
        let (Some(Value::Tuple(args)), Some(&Value::Callable(called))) =
            (self.values.get(args), self.values.get(called))
        else {
            return Err(PickleError::Broken);
        };
        let args: Vec<_> = args.iter().filter_map(|arg| self.values.get(*arg)).collect();
        let copied = args.first().map_or(0, |arg| match arg {
            Value::Text(bytes) | Value::Bytes(bytes) => bytes.len(),
            _ => 0,
        });
        self.copies_left = self.copies_left.checked_sub(copied).ok_or(PickleError::TooLarge)?;
        let bytes = match (called, &args[..]) {
            (Callable::Bytes, []) => Cow::Borrowed(&b""[..]),
            (Callable::Bytes, [Value::Bytes(bytes)]) => bytes.clone(),
            (Callable::Encode | Callable::Bytes, [Value::Text(text), Value::Text(codec)])
                if matches!(&**codec, b"latin1" | b"latin-1" | b"iso-8859-1") =>
            {
                Cow::Owned(latin1(text)?)
            }
            _ => return Err(PickleError::GlobalForbidden),
        };
        self.push(Value::Bytes(bytes))
    }

    fn push(&mut self, value: Value<'a>) -> Result<(), PickleError> {
        if self.values.len() == PICKLE_VALUES_MAX {
            return Err(PickleError::TooLarge);
        }
        self.stack.push(self.values.len());
        self.values.push(value);
        Ok(())
    }

    /// Not from below a mark.
    fn pop(&mut self) -> Result<Id, PickleError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(PickleError::Broken);
        }
        self.stack.pop().ok_or(PickleError::Broken)
    }

    fn pop_mark(&mut self) -> Result<Vec<Id>, PickleError> {
        let mark = self.marks.pop().ok_or(PickleError::Broken)?;
        if mark > self.stack.len() {
            return Err(PickleError::Broken);
        }
        Ok(self.stack.split_off(mark))
    }

    fn top(&mut self) -> Result<&mut Value<'a>, PickleError> {
        let top = *self.stack.last().ok_or(PickleError::Broken)?;
        self.values.get_mut(top).ok_or(PickleError::Broken)
    }

    fn byte(&mut self) -> Result<u8, PickleError> {
        let (&first, rest) = self.rest.split_first().ok_or(PickleError::Truncated)?;
        self.rest = rest;
        Ok(first)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], PickleError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(PickleError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn line(&mut self) -> Result<&'a [u8], PickleError> {
        let len = memchr::memchr(b'\n', self.rest).ok_or(PickleError::Truncated)?;
        let line = self.take(len)?;
        self.take(1)?;
        Ok(line)
    }

    fn uint(&mut self, len: usize) -> Result<u64, PickleError> {
        Ok(self.take(len)?.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    fn len(&mut self, len_bytes: usize) -> Result<usize, PickleError> {
        usize::try_from(self.uint(len_bytes)?).map_err(|_| PickleError::Truncated)
    }
}

fn callable<'a>(module: &[u8], name: &[u8]) -> Result<Value<'a>, PickleError> {
    match (module, name) {
        (b"_codecs", b"encode") => Ok(Value::Callable(Callable::Encode)),
        (b"builtins" | b"__builtin__", b"bytes" | b"bytearray") => Ok(Value::Callable(Callable::Bytes)),
        _ => Err(PickleError::GlobalForbidden),
    }
}

fn parse<T: std::str::FromStr>(line: &[u8]) -> Result<T, PickleError> {
    let text = str::from_utf8(line).map_err(|_| PickleError::NumberInvalid)?;
    text.parse().map_err(|_| PickleError::NumberInvalid)
}

fn integer(line: &[u8]) -> Result<i128, PickleError> {
    parse(line)
}

/// Checks a text that may hold half characters.
fn check_text(bytes: &[u8]) -> Result<(), PickleError> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let (_, half, after) = split_at_half(rest).ok_or(PickleError::TextInvalid)?;
        if half.is_none() {
            break;
        }
        rest = after;
    }
    Ok(())
}

/// Python's `raw-unicode-escape`: Latin-1, and `\uXXXX` or `\UXXXXXXXX` for what it lacks.
fn unescape_raw(line: &[u8]) -> Result<Vec<u8>, PickleError> {
    let mut units = Vec::new();
    let mut rest = line;
    while let Some((&first, after)) = rest.split_first() {
        let digits = match rest {
            [b'\\', b'u', ..] => 4,
            [b'\\', b'U', ..] => 8,
            _ => {
                units.push(u16::from(first));
                rest = after;
                continue;
            }
        };
        let (digits, after) = rest
            .get(2..)
            .and_then(|digits_on| digits_on.split_at_checked(digits))
            .ok_or(PickleError::TextInvalid)?;
        let code = hex(digits)?;
        match (char::from_u32(code), u16::try_from(code)) {
            (_, Ok(unit)) => units.push(unit),
            (Some(character), _) => units.extend_from_slice(character.encode_utf16(&mut [0; 2])),
            _ => return Err(PickleError::TextInvalid),
        }
        rest = after;
    }
    let mut text = Vec::with_capacity(units.len());
    for decoded in char::decode_utf16(units) {
        match decoded {
            Ok(character) => text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            // Half a character, in the three bytes that its number has.
            Err(half) => {
                let unit = half.unpaired_surrogate();
                text.extend_from_slice(&[0xed, 0x80 | (unit >> 6 & 0x3f) as u8, 0x80 | (unit & 0x3f) as u8]);
            }
        }
    }
    Ok(text)
}

/// What `repr` of Python 2 escapes in a text of ASCII.
fn unescape_string2(text: &[u8]) -> Result<Cow<'_, [u8]>, PickleError> {
    if memchr::memchr(b'\\', text).is_none() {
        return Ok(Cow::Borrowed(text));
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, mut after)) = rest.split_first() {
        if first != b'\\' {
            out.push(first);
            rest = after;
            continue;
        }
        let (&escape, behind) = after.split_first().ok_or(PickleError::TextInvalid)?;
        after = behind;
        out.push(match escape {
            b'\\' | b'\'' | b'"' => escape,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'x' => {
                let (digits, behind) = after.split_at_checked(2).ok_or(PickleError::TextInvalid)?;
                after = behind;
                hex(digits)? as u8
            }
            _ => return Err(PickleError::TextInvalid),
        });
        rest = after;
    }
    Ok(Cow::Owned(out))
}

fn hex(digits: &[u8]) -> Result<u32, PickleError> {
    let text = str::from_utf8(digits).map_err(|_| PickleError::TextInvalid)?;
    // `from_str_radix` would take a sign as well.
    let is_hex = digits.iter().all(u8::is_ascii_hexdigit);
    u32::from_str_radix(text, 16).ok().filter(|_| is_hex).ok_or(PickleError::TextInvalid)
}

fn latin1(text: &[u8]) -> Result<Vec<u8>, PickleError> {
    let text = str::from_utf8(text).map_err(|_| PickleError::TextInvalid)?;
    let bytes: Option<_> = text.chars().map(|character| u8::try_from(u32::from(character)).ok()).collect();
    bytes.ok_or(PickleError::TextInvalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES_MAX: usize = 10_000;

    /// A message of protocol 4 whose `data` these instructions make.
    fn emit(data: &[u8]) -> Vec<u8> {
        let head = b"\x80\x04}(\x8c\x06method\x8c\x04emit\x8c\x05event\x8c\x02ev\x8c\tnamespace\x8c\x01/\x8c\x04data";
        [&head[..], data, b"u."].concat()
    }

    fn args(data: &[u8]) -> Result<(String, Vec<Vec<u8>>), Unreadable> {
        match read(&emit(data), BYTES_MAX)? {
            Message::Emit(emit) => {
                let attachments = emit.attachments.into_iter().map(Cow::into_owned).collect();
                Ok((emit.args.into_owned(), attachments))
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn plain_data_become_json() {
        let rows: [(&[u8], &str); 29] = [
            (b"N", ""),
            (b")", ""),
            (b"N\x85", "null"),
            (b"]", "[]"),
            (b"}", "{}"),
            (b"K\x01K\x02K\x03\x87", "1,2,3"),
            (b"(K\x01\x88\x89t", "1,true,false"),
            (b"](K\x01\x8c\x01xe", "[1,\"x\"]"),
            (b"(K\x01K\x02l", "[1,2]"),
            (b"](NeK\x07a", "[null,7]"),
            (b"}\x8c\x01kK\x01s", "{\"k\":1}"),
            (b"(\x8c\x01kK\x01d", "{\"k\":1}"),
            (b"}(K\x01N\x88NNNG?\xf8\0\0\0\0\0\0Nu", "{\"1\":null,\"true\":null,\"null\":null,\"1.5\":null}"),
            (b"M\xff\xff", "65535"),
            (b"J\xff\xff\xff\xff", "-1"),
            (b"\x8a\0", "0"),
            (b"\x8a\x01\x80", "-128"),
            (b"\x8a\x02\xff\0", "255"),
            (b"\x8b\x01\0\0\0\x7f", "127"),
            (b"I-5\n", "-5"),
            (b"L12345678901234567890L\n", "12345678901234567890"),
            (b"F-0.25\n", "-0.25"),
            (b"S'a\\x41\\n\\\\'\n", "\"aA\\n\\\\\""),
            (b"U\x01a", "\"a\""),
            (b"V\\u20ac\xe9\\U0001f600\\ud83d\n", "\"\u{20ac}\u{e9}\u{1f600}\\ud83d\""),
            (b"X\x03\0\0\0\xe2\x82\xac", "\"\u{20ac}\""),
            (b"\x8c\x03\xed\xa0\xbd", "\"\\ud83d\""),
            (b"\x8c\x01a\x940h\x00h\x00\x86", "\"a\",\"a\""),
            (b"K\x01K\x020", "1"),
        ];
        for (data, expected) in rows {
            assert_eq!(args(data), Ok((expected.to_owned(), Vec::new())), "{}", data.escape_ascii());
        }
    }

    #[test]
    fn bytes_become_attachments() {
        let placeholder = "{\"_placeholder\":true,\"num\":0}";
        let rows: [(&[u8], &[u8]); 8] = [
            (b"C\x02\x00\xff", b"\x00\xff"),
            (b"B\x01\0\0\0x", b"x"),
            (b"\x8e\x01\0\0\0\0\0\0\0x", b"x"),
            (b"\x96\x01\0\0\0\0\0\0\0x", b"x"),
            (b"c_codecs\nencode\n(X\x03\0\0\0\x00\xc3\xbfX\x06\0\0\0latin1tR", b"\x00\xff"),
            (b"c__builtin__\nbytes\n)R", b""),
            (b"\x8c\x08builtins\x8c\tbytearray\x93C\x01x\x85R", b"x"),
            (b"c__builtin__\nbytearray\n\x8c\x01x\x8c\x07latin-1\x86R", b"x"),
        ];
        for (data, expected) in rows {
            assert_eq!(
                args(data),
                Ok((placeholder.to_owned(), vec![expected.to_vec()])),
                "{}",
                data.escape_ascii()
            );
        }
    }

    #[test]
    fn nothing_is_called_that_is_not_in_the_list() {
        let rows: [&[u8]; 9] = [
            b"cos\nsystem\n\x8c\x04true\x85R",
            b"\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R",
            b"cbuiltins\neval\n\x8c\x011\x85R",
            b"c_codecs\ndecode\n",
            b"cbuiltins\nbytearray\nK\x05\x85R",
            b"c_codecs\nencode\n\x8c\x01x\x8c\x03zip\x86R",
            b"c_codecs\nencode\n\x8c\x01x\x85R",
            b"cbuiltins\nbytes\n](K\x01K\x02e\x85R",
            b"cdatetime\ndate\n",
        ];
        for data in rows {
            let refused = Err(PickleError::GlobalForbidden.into());
            assert_eq!(args(data), refused, "{}", data.escape_ascii());
        }
    }

    #[test]
    fn what_is_broken_or_more_than_plain_data_is_refused() {
        let rows: [(&[u8], PickleError); 24] = [
            (b"o", PickleError::OpcodeUnknown),
            (b"\x81", PickleError::OpcodeUnknown),
            (b"\x8f", PickleError::OpcodeUnknown),
            (b"b", PickleError::OpcodeUnknown),
            (b"P1\n", PickleError::OpcodeUnknown),
            (b"\x82\x01", PickleError::OpcodeUnknown),
            (b"2", PickleError::OpcodeUnknown),
            (b"\x80\x06", PickleError::OpcodeUnknown),
            (b"h\x07", PickleError::Broken),
            (b"a", PickleError::Broken),
            (b"K\x01K\x02a", PickleError::Broken),
            (b"(K\x01d", PickleError::Broken),
            (b"(0", PickleError::Broken),
            (b"K\x01R", PickleError::Broken),
            (b"K\x01\x8c\x01x\x93", PickleError::Broken),
            (b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff", PickleError::Truncated),
            (b"B\xff\xff\xff\xff", PickleError::Truncated),
            (b"\x8b\xff\xff\xff\x7f", PickleError::Truncated),
            (b"I1", PickleError::Truncated),
            (b"I1x\n", PickleError::NumberInvalid),
            (b"\x8a\x11aaaaaaaaaaaaaaaaa", PickleError::NumberInvalid),
            (b"\x8c\x01\xff", PickleError::TextInvalid),
            (b"U\x01\xe9", PickleError::TextInvalid),
            (b"V\\u12\n", PickleError::TextInvalid),
        ];
        for (data, error) in rows {
            assert_eq!(args(data), Err(error.into()), "{}", data.escape_ascii());
        }
        let rows: [&[u8]; 4] = [b"G\x7f\xf0\0\0\0\0\0\0", b"Fnan\n", b"}C\x01xNs", b"cbuiltins\nbytes\n"];
        for data in rows {
            assert_eq!(args(data), Err(PickleError::NotJson.into()), "{}", data.escape_ascii());
        }
        assert_eq!(read(b"\x80\x04N.", BYTES_MAX), Err(Unreadable::NotMessage));
        assert_eq!(read(b"\x80\x04.", BYTES_MAX), Err(PickleError::Broken.into()));
    }

    #[test]
    fn what_folds_into_itself_or_unfolds_to_much_is_bounded() {
        assert_eq!(args(b"]\x94h\x00a"), Err(PickleError::TooDeep.into()), "a list in itself");
        assert_eq!(args(b"}\x94\x8c\x01kh\x00s"), Err(PickleError::TooDeep.into()), "a dict in itself");
        let deep = |levels: usize| [vec![b']'; levels], vec![b'a'; levels - 1]].concat();
        assert!(args(&deep(127)).is_ok());
        assert_eq!(args(&deep(128)), Err(PickleError::TooDeep.into()));
        let mut laughs = b"]\x940".to_vec();
        for place in 0..40_u8 {
            laughs.extend([b']', 0x94, b'(', b'h', place, b'h', place, b'e', b'0']);
        }
        laughs.extend(b"h\x28");
        assert_eq!(args(&laughs), Err(PickleError::TooLarge.into()), "each list is twice in the next");
        let text = [&b"\x8c\xc8"[..], &[b'x'; 200], b"\x940]("].concat();
        let often = [&text[..], &b"h\x00".repeat(60), b"e"].concat();
        assert_eq!(args(&often), Err(PickleError::TooLarge.into()), "one text many times");
        let same = |bytes: &[u8], times| [&b"("[..], &bytes.repeat(times), b"t"].concat();
        assert!(args(&same(b"C\0", ATTACHMENTS)).is_err(), "many attachments");
        let copies =
            [&b"c_codecs\nencode\n\x940\x8c\xc8"[..], &[b'x'; 200], b"\x940\x8c\x06latin1\x940("].concat();
        let copies = [&copies[..], &b"h\x00h\x01h\x02\x86R".repeat(60), b"1N"].concat();
        assert_eq!(args(&copies), Err(PickleError::TooLarge.into()), "one text made bytes many times");
        let values = emit(&same(b"N", PICKLE_VALUES_MAX));
        assert_eq!(read(&values, usize::MAX), Err(PickleError::TooLarge.into()));
    }

    /// One more than may be.
    const ATTACHMENTS: usize = super::super::message::MESSAGE_ATTACHMENTS_MAX + 1;
}
