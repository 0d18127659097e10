//! Reads JSON by walking its text: the reader for short texts, and the one that reads what the other refuses.
//!
//! Trusts the grammar, which the shard has checked; a text that breaks it is an error, never a panic. Does not check depth beyond
//! what bounds its own recursion.

use std::borrow::Cow;

use bytes::Bytes;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

use super::scan::next_special;
use super::{DEPTH_MAX, Keys, attachment, broken};

/// The elements of an array, without its brackets.
pub(crate) fn read_args<'py>(
    py: Python<'py>,
    raw: &str,
    attachments: &[Bytes],
    keys: &mut Keys,
) -> PyResult<Bound<'py, PyTuple>> {
    let mut reader = Reader { text: raw, at: 0, depth: 0, py, attachments, keys };
    let first = reader.value()?;
    if reader.peek().is_none() {
        return PyTuple::new(py, [first]);
    }
    let mut values = vec![first];
    while reader.peek().is_some() {
        reader.expect(b',')?;
        values.push(reader.value()?);
    }
    PyTuple::new(py, values)
}

struct Reader<'a, 'py> {
    text: &'a str,
    at: usize,
    depth: usize,
    py: Python<'py>,
    attachments: &'a [Bytes],
    keys: &'a mut Keys,
}

impl<'a, 'py> Reader<'a, 'py> {
    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.text.as_bytes().get(self.at) {
            self.at += 1;
        }
        self.text.as_bytes().get(self.at).copied()
    }

    fn expect(&mut self, byte: u8) -> PyResult<()> {
        if self.peek() != Some(byte) {
            return Err(broken());
        }
        self.at += 1;
        Ok(())
    }

    fn value(&mut self) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py;
        match self.peek() {
            Some(b'"') => Ok(self.string()?.into_any()),
            Some(b'{') => self.nested(Reader::object),
            Some(b'[') => self.nested(Reader::array),
            Some(b't') => self.literal("true", PyBool::new(py, true).to_owned().into_any()),
            Some(b'f') => self.literal("false", PyBool::new(py, false).to_owned().into_any()),
            Some(b'n') => self.literal("null", py.None().into_bound(py)),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => Err(broken()),
        }
    }

    fn literal(&mut self, word: &str, value: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(broken());
        }
        self.at += word.len();
        Ok(value)
    }

    fn nested(
        &mut self,
        read: impl FnOnce(&mut Self) -> PyResult<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if self.depth >= DEPTH_MAX {
            return Err(broken());
        }
        self.depth += 1;
        self.at += 1;
        let value = read(self);
        self.depth -= 1;
        value
    }

    /// The text between two quotes: lent when no character in it is escaped. Half characters cannot be in a Rust string, so bytes.
    fn text(&mut self) -> PyResult<Result<&'a str, Vec<u8>>> {
        let bytes = self.text.as_bytes();
        let start = self.at + 1;
        let mut at = start;
        loop {
            at = next_special(bytes, at).ok_or_else(broken)?;
            match bytes.get(at) {
                Some(b'"') => {
                    self.at = at + 1;
                    return Ok(Ok(self.text.get(start..at).ok_or_else(broken)?));
                }
                Some(b'\\') => return self.escaped(start, at).map(Err),
                // The shard lets no control character through; here it is as good as another.
                _ => at += 1,
            }
        }
    }

    fn string(&mut self) -> PyResult<Bound<'py, PyString>> {
        let py = self.py;
        match self.text()? {
            Ok(text) => Ok(PyString::new(py, text)),
            Err(bytes) => whole(py, &bytes),
        }
    }

    /// As `json.loads`: half of a surrogate pair stays what it is, in three bytes as UTF-8 would have them.
    fn escaped(&mut self, start: usize, first_escape: usize) -> PyResult<Vec<u8>> {
        let bytes = self.text.as_bytes();
        let mut out = bytes.get(start..first_escape).ok_or_else(broken)?.to_vec();
        let mut at = first_escape;
        loop {
            match *bytes.get(at).ok_or_else(broken)? {
                b'"' => {
                    self.at = at + 1;
                    return Ok(out);
                }
                b'\\' => at = self.escape(at, &mut out)?,
                _ => {
                    let end = next_special(bytes, at + 1).ok_or_else(broken)?;
                    out.extend_from_slice(bytes.get(at..end).ok_or_else(broken)?);
                    at = end;
                }
            }
        }
    }

    /// Reads one escape, and returns the place after it.
    fn escape(&self, at: usize, out: &mut Vec<u8>) -> PyResult<usize> {
        let kind = *self.text.as_bytes().get(at + 1).ok_or_else(broken)?;
        let plain = match kind {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'b' => 8,
            b'f' => 12,
            b'u' => return self.unicode(at, out),
            other => other,
        };
        out.push(plain);
        Ok(at + 2)
    }

    fn unicode(&self, at: usize, out: &mut Vec<u8>) -> PyResult<usize> {
        let unit = self.hex(at).ok_or_else(broken)?;
        if (0xd800..0xdc00).contains(&unit)
            && let Some(low @ 0xdc00..0xe000) = self.hex(at + 6)
        {
            let code = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
            push_code(code, out);
            return Ok(at + 12);
        }
        push_code(unit, out);
        Ok(at + 6)
    }

    /// The number of `\uXXXX` at a place.
    fn hex(&self, at: usize) -> Option<u32> {
        let digits = self.text.get(at..at + 6)?.strip_prefix("\\u")?;
        u32::from_str_radix(digits, 16).ok()
    }

    fn number(&mut self) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py;
        let bytes = self.text.as_bytes();
        let start = self.at;
        let mut is_float = false;
        while let Some(byte) = bytes.get(self.at) {
            match byte {
                b'0'..=b'9' | b'-' | b'+' => {}
                b'.' | b'e' | b'E' => is_float = true,
                _ => break,
            }
            self.at += 1;
        }
        let text = &self.text[start..self.at];
        if is_float {
            let value: f64 = text.parse().map_err(|_| broken())?;
            return Ok(PyFloat::new(py, value).into_any());
        }
        match text.parse::<i64>() {
            Ok(value) => Ok(value.into_pyobject(py)?.into_any()),
            // Python bounds its digits itself: beyond 4,300 it is a ValueError.
            Err(_) => py.get_type::<PyInt>().call1((text,)),
        }
    }

    fn array(&mut self) -> PyResult<Bound<'py, PyAny>> {
        let list = PyList::empty(self.py);
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(list.into_any());
        }
        loop {
            list.append(self.value()?)?;
            if self.is_last(b']')? {
                return Ok(list.into_any());
            }
        }
    }

    fn object(&mut self) -> PyResult<Bound<'py, PyAny>> {
        let dict = PyDict::new(self.py);
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(dict.into_any());
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(broken());
            }
            let key = match self.text()? {
                Ok(text) => self.keys.get(self.py, text),
                Err(bytes) => whole(self.py, &bytes)?,
            };
            self.expect(b':')?;
            let value = self.value()?;
            dict.set_item(key, value)?;
            if self.is_last(b'}')? {
                break;
            }
        }
        if !self.attachments.is_empty()
            && let Some(bytes) = attachment(&dict, self.attachments)?
        {
            return Ok(bytes.into_any());
        }
        Ok(dict.into_any())
    }

    /// After an element: whether the closing bracket follows, rather than a comma.
    fn is_last(&mut self, close: u8) -> PyResult<bool> {
        let next = self.peek();
        if next != Some(b',') && next != Some(close) {
            return Err(broken());
        }
        self.at += 1;
        Ok(next == Some(close))
    }
}

/// A string from bytes that are UTF-8, but for halves of surrogate pairs.
fn whole<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyString>> {
    match String::from_utf8_lossy(bytes) {
        Cow::Borrowed(text) => Ok(PyString::new(py, text)),
        Cow::Owned(_) => {
            let bytes = pyo3::types::PyBytes::new(py, bytes);
            PyString::from_encoded_object(&bytes, Some(c"utf-8"), Some(c"surrogatepass"))
        }
    }
}

/// A code point as UTF-8; halves of surrogate pairs in the three bytes that their numbers would have.
fn push_code(code: u32, out: &mut Vec<u8>) {
    match char::from_u32(code) {
        Some(char) => out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
        None => out.extend_from_slice(&[0xed, 0x80 | (code >> 6 & 0x3f) as u8, 0x80 | (code & 0x3f) as u8]),
    }
}
