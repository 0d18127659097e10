//! Python objects as the JSON of a packet's arguments, with what is bytes in them as attachments.
//!
//! Follows `json.dumps`: the same types with their subclasses, the same refusals. Two differences are meant: text is UTF-8 and not
//! ASCII, and NaN and the infinities are `null`, because no browser reads `NaN`.

use std::fmt::Write as _;

use bytes::Bytes;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyByteArray, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

use super::DEPTH_MAX;
use super::scan::next_special;

/// Most texts are no longer.
const TEXT_BYTES_FIRST: usize = 96;

/// Arguments as JSON: elements joined by commas, and the bytes that their placeholders name.
#[derive(Clone, Default, Debug)]
pub(crate) struct Encoded {
    pub(crate) text: String,
    pub(crate) attachments: Vec<Bytes>,
}

impl shardcast::ToArgs for &Encoded {
    fn to_args(&self) -> impl serde::Serialize + '_ {}

    fn raw(&self) -> Option<(&str, &[Bytes])> {
        Some((&self.text, &self.attachments))
    }
}

impl Encoded {
    /// What a handler returned, or what `emit` was given: `None` is no argument, a tuple is several, and anything else is one.
    /// `default` makes something that JSON knows of what it does not, as in `json.dumps`.
    pub(crate) fn of(data: &Bound<'_, PyAny>, default: Option<&Bound<'_, PyAny>>) -> PyResult<Encoded> {
        let mut writer = Writer { encoded: Encoded::default(), default };
        if data.is_none() {
            return Ok(writer.encoded);
        }
        writer.encoded.text.reserve(TEXT_BYTES_FIRST);
        match data.cast::<PyTuple>() {
            Ok(tuple) => writer.elements(tuple.iter(), 0)?,
            Err(_) => writer.value(data, 0)?,
        }
        Ok(writer.encoded)
    }

    /// One value, whatever it is.
    pub(crate) fn one(value: &Bound<'_, PyAny>, default: Option<&Bound<'_, PyAny>>) -> PyResult<Encoded> {
        let mut writer = Writer { encoded: Encoded::default(), default };
        writer.value(value, 0)?;
        Ok(writer.encoded)
    }
}

struct Writer<'a, 'py> {
    encoded: Encoded,
    default: Option<&'a Bound<'py, PyAny>>,
}

impl<'py> Writer<'_, 'py> {
    fn push(&mut self, text: &str) {
        self.encoded.text.push_str(text);
    }

    fn value(&mut self, value: &Bound<'py, PyAny>, depth: usize) -> PyResult<()> {
        if depth > DEPTH_MAX {
            let message = format!(
                "more than {DEPTH_MAX} lists and dicts within one another, or one that contains itself"
            );
            return Err(PyValueError::new_err(message));
        }
        if let Ok(text) = value.cast::<PyString>() {
            return self.string(text);
        }
        if value.is_none() {
            self.push("null");
        } else if let Ok(dict) = value.cast::<PyDict>() {
            self.object(dict, depth)?;
        } else if let Ok(flag) = value.cast::<PyBool>() {
            self.push(if flag.is_true() { "true" } else { "false" });
        } else if let Ok(number) = value.cast::<PyInt>() {
            self.int(number)?;
        } else if let Ok(float) = value.cast::<PyFloat>() {
            self.float(float.value());
        } else if let Ok(list) = value.cast::<PyList>() {
            self.array(list.iter(), depth)?;
        } else if let Ok(tuple) = value.cast::<PyTuple>() {
            self.array(tuple.iter(), depth)?;
        } else if let Ok(bytes) = value.cast::<PyBytes>() {
            self.bytes(Bytes::copy_from_slice(bytes.as_bytes()));
        } else if let Ok(bytes) = value.cast::<PyByteArray>() {
            self.bytes(Bytes::from(bytes.to_vec()));
        } else if let Some(default) = self.default {
            self.value(&default.call1((value,))?, depth + 1)?;
        } else {
            let name = value.get_type().name()?;
            return Err(PyTypeError::new_err(format!("Object of type {name} is not JSON serializable")));
        }
        Ok(())
    }

    fn object(&mut self, dict: &Bound<'py, PyDict>, depth: usize) -> PyResult<()> {
        self.push("{");
        let mut is_first = true;
        for (key, member) in dict.iter() {
            if !std::mem::take(&mut is_first) {
                self.push(",");
            }
            self.key(&key)?;
            self.push(":");
            self.value(&member, depth + 1)?;
        }
        self.push("}");
        Ok(())
    }

    fn array(&mut self, items: impl Iterator<Item = Bound<'py, PyAny>>, depth: usize) -> PyResult<()> {
        self.push("[");
        self.elements(items, depth + 1)?;
        self.push("]");
        Ok(())
    }

    fn elements(&mut self, items: impl Iterator<Item = Bound<'py, PyAny>>, depth: usize) -> PyResult<()> {
        for (place, item) in items.enumerate() {
            if place > 0 {
                self.push(",");
            }
            self.value(&item, depth)?;
        }
        Ok(())
    }

    fn bytes(&mut self, bytes: Bytes) {
        let number = self.encoded.attachments.len();
        let _ = write!(self.encoded.text, "{{\"_placeholder\":true,\"num\":{number}}}");
        self.encoded.attachments.push(bytes);
    }

    fn key(&mut self, key: &Bound<'py, PyAny>) -> PyResult<()> {
        if let Ok(text) = key.cast::<PyString>() {
            return self.string(text);
        }
        let is_simple = key.is_none() || key.is_instance_of::<PyInt>() || key.is_instance_of::<PyFloat>();
        if !is_simple {
            let name = key.get_type().name()?;
            let message = format!("keys must be str, int, float, bool or None, not {name}");
            return Err(PyTypeError::new_err(message));
        }
        self.push("\"");
        self.value(key, 0)?;
        self.push("\"");
        Ok(())
    }

    fn int(&mut self, value: &Bound<'py, PyInt>) -> PyResult<()> {
        match value.extract::<i64>() {
            Ok(number) => {
                let _ = write!(self.encoded.text, "{number}");
            }
            // As `int.__repr__`, whatever a subclass says of itself.
            Err(_) => {
                let repr = value.py().get_type::<PyInt>().getattr("__repr__")?.call1((value,))?;
                self.push(repr.cast::<PyString>()?.to_str()?);
            }
        }
        Ok(())
    }

    fn float(&mut self, value: f64) {
        if value.is_finite() {
            let _ = write!(self.encoded.text, "{value:?}");
        } else {
            self.push("null");
        }
    }

    fn string(&mut self, text: &Bound<'py, PyString>) -> PyResult<()> {
        match text.to_str() {
            Ok(text) => write_text(&mut self.encoded.text, text),
            // Half a surrogate pair is a str in Python and no text elsewhere: `json.dumps` escapes it.
            Err(_) => {
                let json = text.py().import("json")?.getattr("dumps")?.call1((text,))?;
                self.push(json.cast::<PyString>()?.to_str()?);
            }
        }
        Ok(())
    }
}

/// A text in quotes.
fn write_text(out: &mut String, text: &str) {
    out.push('"');
    let bytes = text.as_bytes();
    let mut start = 0;
    while let Some(at) = next_special(bytes, start) {
        out.push_str(&text[start..at]);
        match bytes[at] {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            control => {
                let _ = write!(out, "\\u{control:04x}");
            }
        }
        start = at + 1;
    }
    out.push_str(&text[start..]);
    out.push('"');
}
