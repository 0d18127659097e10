//! JSON text to Python objects and back, with no value in between.
//!
//! What comes in was checked by the shard when the packet was decoded. There are two ways to read it: [`direct`] walks
//! the text itself, and [`tape`] has simd-json turn it into a tape first, which is faster for numbers. Both make the same objects.
//! What goes out follows `json.dumps`: the same types, the same refusals.

pub(crate) mod direct;
mod keys;
mod scan;
pub(crate) mod tape;
mod write;

use bytes::Bytes;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyString, PyTuple};

pub(crate) use keys::Keys;
pub(crate) use write::Encoded;

/// Nested arrays and objects: what the shard lets through, and what is sent.
pub(crate) const DEPTH_MAX: usize = 128;

/// Shorter texts are read by the direct reader, whatever is in them.
const TAPE_BYTES_MIN: usize = 512;

/// So many bytes say what a text is made of.
const SAMPLE_BYTES: usize = 256;

/// Whether the tape is the faster way: for long lists of numbers with fractions, by a quarter. Names and texts it reads no faster, since
/// most of the time goes into making the objects. `python/benches/json.py` measures both.
fn is_for_tape(raw: &str) -> bool {
    let sample = raw.as_bytes().get(..SAMPLE_BYTES).unwrap_or_default();
    raw.len() >= TAPE_BYTES_MIN && sample.contains(&b'.') && !sample.contains(&b'"')
}

/// The elements of a valid JSON array, without its brackets, as a tuple. Attachments take the places of their placeholders.
pub(crate) fn read_args<'py>(
    py: Python<'py>,
    raw: &str,
    attachments: &[Bytes],
) -> PyResult<Bound<'py, PyTuple>> {
    if raw.is_empty() {
        return Ok(PyTuple::empty(py));
    }
    Keys::lend(|keys| {
        if is_for_tape(raw)
            && let Some(args) = tape::read_args(py, raw, attachments, keys)?
        {
            return Ok(args);
        }
        direct::read_args(py, raw, attachments, keys)
    })
}

/// The name of an event, which handlers are looked up by.
pub(crate) fn name<'py>(py: Python<'py>, text: &str) -> Bound<'py, PyString> {
    Keys::lend(|keys| keys.get(py, text))
}

/// The bytes that an object stands for, if it is a placeholder of one of the attachments.
fn attachment<'py>(
    dict: &Bound<'py, PyDict>,
    attachments: &[Bytes],
) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let py = dict.py();
    let Some(mark) = dict.get_item(pyo3::intern!(py, "_placeholder"))? else { return Ok(None) };
    if !mark.cast::<PyBool>().is_ok_and(|mark| mark.is_true()) {
        return Ok(None);
    }
    let Some(number) = dict.get_item(pyo3::intern!(py, "num"))? else { return Ok(None) };
    let bytes = number.extract::<usize>().ok().and_then(|number| attachments.get(number));
    Ok(bytes.map(|bytes| PyBytes::new(py, bytes)))
}

/// A text that passed the shard's check cannot be read: a fault of ours, not the client's.
#[cold]
fn broken() -> PyErr {
    PyValueError::new_err("JSON that was checked cannot be read")
}
