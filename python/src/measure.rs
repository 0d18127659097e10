//! The ways to read and write JSON one by one: for tests, which compare them, and for `benches/json.py`.

use bytes::Bytes;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use crate::convert::{self, Encoded, Keys, direct, tape};

/// As packets are read: elements of an array without its brackets, with the bytes that placeholders stand for.
#[pyfunction]
#[pyo3(signature = (raw, attachments = Vec::new()))]
pub(crate) fn read_args<'py>(
    py: Python<'py>,
    raw: &str,
    attachments: Vec<Vec<u8>>,
) -> PyResult<Bound<'py, PyTuple>> {
    convert::read_args(py, raw, &attachments.into_iter().map(Bytes::from).collect::<Vec<_>>())
}

/// As packets are written.
#[pyfunction]
#[pyo3(signature = (data, default = None))]
pub(crate) fn write_args<'py>(
    data: &Bound<'py, PyAny>,
    default: Option<&Bound<'py, PyAny>>,
) -> PyResult<(String, Vec<Bound<'py, PyBytes>>)> {
    let Encoded { text, attachments } = Encoded::of(data, default)?;
    let attachments = attachments.iter().map(|bytes| PyBytes::new(data.py(), bytes));
    Ok((text, attachments.collect()))
}

/// By walking the text.
#[pyfunction]
pub(crate) fn read_direct<'py>(py: Python<'py>, raw: &str) -> PyResult<Bound<'py, PyTuple>> {
    Keys::lend(|keys| direct::read_args(py, raw, &[], keys))
}

/// By simd-json's tape. Nothing if it refuses the text.
#[pyfunction]
pub(crate) fn read_tape<'py>(py: Python<'py>, raw: &str) -> PyResult<Option<Bound<'py, PyTuple>>> {
    Keys::lend(|keys| tape::read_args(py, raw, &[], keys))
}
