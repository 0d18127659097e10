//! Reads JSON from simd-json's tape: the reader for long lists of numbers.
//!
//! simd-json writes over the text that it reads, so the text is copied into a buffer that each thread keeps. What it refuses and
//! JSON allows, numbers beyond 64 bits, is left to the direct reader; so are texts with escaped surrogates, because it reads half of
//! a pair as a NUL.

use std::cell::Cell;

use bytes::Bytes;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyList, PyString, PyTuple};
use simd_json::{Buffers, Node, StaticNode};

use super::{DEPTH_MAX, Keys, attachment, broken};

/// A larger buffer is not kept for the next text.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// What a thread keeps from one text to the next.
#[derive(Default)]
struct Room {
    text: Vec<u8>,
    buffers: Buffers,
}

thread_local! {
    static ROOM: Cell<Option<Box<Room>>> = const { Cell::new(None) };
}

/// The elements of an array, without its brackets; nothing when simd-json refuses the text.
pub(crate) fn read_args<'py>(
    py: Python<'py>,
    raw: &str,
    attachments: &[Bytes],
    keys: &mut Keys,
) -> PyResult<Option<Bound<'py, PyTuple>>> {
    if raw.contains("\\ud") || raw.contains("\\uD") {
        return Ok(None);
    }
    let mut room = ROOM.take().unwrap_or_default();
    let Room { text, buffers } = &mut *room;
    text.clear();
    text.reserve(raw.len() + 2);
    text.push(b'[');
    text.extend_from_slice(raw.as_bytes());
    text.push(b']');
    let args = match simd_json::to_tape_with_buffers(text, buffers) {
        Ok(tape) => {
            let mut walk = Walk { nodes: &tape.0, at: 0, depth: 0, py, attachments, keys };
            Some(walk.args())
        }
        Err(_) => None,
    };
    if room.text.capacity() <= KEPT_BYTES_MAX {
        ROOM.set(Some(room));
    }
    args.transpose()
}

struct Walk<'a, 'py> {
    nodes: &'a [Node<'a>],
    at: usize,
    depth: usize,
    py: Python<'py>,
    attachments: &'a [Bytes],
    keys: &'a mut Keys,
}

impl<'a, 'py> Walk<'a, 'py> {
    fn next(&mut self) -> PyResult<Node<'a>> {
        let node = self.nodes.get(self.at).copied().ok_or_else(broken)?;
        self.at += 1;
        Ok(node)
    }

    fn args(&mut self) -> PyResult<Bound<'py, PyTuple>> {
        let Node::Array { len, .. } = self.next()? else { return Err(broken()) };
        let values: Vec<_> = (0..len).map(|_| self.value()).collect::<PyResult<_>>()?;
        PyTuple::new(self.py, values)
    }

    fn value(&mut self) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py;
        Ok(match self.next()? {
            Node::String(text) => PyString::new(py, text).into_any(),
            Node::Object { len, .. } => self.nested(|walk| walk.object(len))?,
            Node::Array { len, .. } => self.nested(|walk| walk.array(len))?,
            Node::Static(StaticNode::I64(value)) => value.into_pyobject(py)?.into_any(),
            Node::Static(StaticNode::U64(value)) => value.into_pyobject(py)?.into_any(),
            Node::Static(StaticNode::F64(value)) => PyFloat::new(py, value).into_any(),
            Node::Static(StaticNode::Bool(value)) => PyBool::new(py, value).to_owned().into_any(),
            Node::Static(StaticNode::Null) => py.None().into_bound(py),
        })
    }

    fn nested(
        &mut self,
        read: impl FnOnce(&mut Self) -> PyResult<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if self.depth >= DEPTH_MAX {
            return Err(broken());
        }
        self.depth += 1;
        let value = read(self);
        self.depth -= 1;
        value
    }

    fn array(&mut self, len: usize) -> PyResult<Bound<'py, PyAny>> {
        let list = PyList::empty(self.py);
        for _ in 0..len {
            list.append(self.value()?)?;
        }
        Ok(list.into_any())
    }

    fn object(&mut self, len: usize) -> PyResult<Bound<'py, PyAny>> {
        let dict = PyDict::new(self.py);
        for _ in 0..len {
            let Node::String(name) = self.next()? else { return Err(broken()) };
            let key = self.keys.get(self.py, name);
            dict.set_item(key, self.value()?)?;
        }
        if !self.attachments.is_empty()
            && let Some(bytes) = attachment(&dict, self.attachments)?
        {
            return Ok(bytes.into_any());
        }
        Ok(dict.into_any())
    }
}
