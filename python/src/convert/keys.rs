//! Names that come again and again, as Python strings that are made and hashed once.

use std::cell::Cell;

use pyo3::prelude::*;
use pyo3::types::PyString;

/// Longer names are made anew each time.
const KEY_BYTES_MAX: usize = 48;

/// Names that one thread keeps, each in the place that its hash says: a newer one takes the place of an older one.
const KEYS: usize = 512;

/// The names that one thread knows: those of members and of events.
pub(crate) struct Keys(Vec<Option<Known>>);

type Known = (Box<[u8]>, Py<PyString>);

thread_local! {
    /// Not behind a lock: making an object may start Python's collector, and that any code, on any thread.
    static KEYS_OF_THREAD: Cell<Option<Box<Keys>>> = const { Cell::new(None) };
}

impl Keys {
    fn new() -> Keys {
        Keys((0..KEYS).map(|_| None).collect())
    }

    /// Lends the thread's names. Code that is called meanwhile and needs names too has others for as long.
    pub(crate) fn lend<R>(work: impl FnOnce(&mut Keys) -> R) -> R {
        let mut keys = KEYS_OF_THREAD.take().unwrap_or_else(|| Box::new(Keys::new()));
        let result = work(&mut keys);
        KEYS_OF_THREAD.set(Some(keys));
        result
    }

    /// The text as a Python string.
    pub(crate) fn get<'py>(&mut self, py: Python<'py>, text: &str) -> Bound<'py, PyString> {
        let bytes = text.as_bytes();
        if bytes.len() > KEY_BYTES_MAX {
            return PyString::new(py, text);
        }
        // FNV-1a: short, and who makes names collide only loses what is gained here.
        let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let place = (hash ^ (hash >> 32)) as usize % KEYS;
        let Some(kept) = self.0.get_mut(place) else { return PyString::new(py, text) };
        if let Some((known, key)) = kept
            && **known == *bytes
        {
            return key.bind(py).clone();
        }
        let key = PyString::new(py, text);
        *kept = Some((bytes.into(), key.clone().unbind()));
        key
    }
}
