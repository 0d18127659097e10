//! Writes values as JSON or as MessagePack with the same words, as `JSON.stringify` and notepack.io write them.
//!
//! Does not know messages.

use bytes::Bytes;

use crate::protocol::socketio::json::JsonError;
use crate::protocol::socketio::msgpack::write;

use super::buffers::with_buffers;
use super::{Payload, Unwritable};

#[derive(Debug)]
pub(super) struct Sink {
    out: Vec<u8>,
    is_json: bool,
    fault: Option<JsonError>,
}

impl Sink {
    pub(super) fn json() -> Sink {
        Sink { out: Vec::new(), is_json: true, fault: None }
    }

    pub(super) fn msgpack() -> Sink {
        Sink { out: Vec::new(), is_json: false, fault: None }
    }

    pub(super) fn finish(self) -> Result<Bytes, Unwritable> {
        match self.fault {
            None => Ok(self.out.into()),
            Some(fault) => Err(Unwritable::Payload(fault)),
        }
    }

    /// An object of so many entries, which `fill` writes.
    pub(super) fn object(&mut self, len: usize, fill: impl FnOnce(&mut Sink)) {
        if self.is_json {
            self.next();
            self.out.push(b'{');
            fill(self);
            self.out.push(b'}');
        } else {
            write::map_len(&mut self.out, len);
            fill(self);
        }
    }

    pub(super) fn array(&mut self, len: usize, fill: impl FnOnce(&mut Sink)) {
        if self.is_json {
            self.next();
            self.out.push(b'[');
            fill(self);
            self.out.push(b']');
        } else {
            write::array_len(&mut self.out, len);
            fill(self);
        }
    }

    /// An object's next key; its value follows.
    pub(super) fn key(&mut self, key: &str) -> &mut Sink {
        self.string(key);
        if self.is_json {
            self.out.push(b':');
        }
        self
    }

    pub(super) fn string(&mut self, text: &str) {
        if self.is_json {
            self.next();
            serde_json::to_writer(&mut self.out, text).expect("a string has JSON and a Vec takes it");
        } else {
            write::string(&mut self.out, text);
        }
    }

    pub(super) fn number(&mut self, number: u64) {
        if self.is_json {
            self.next();
            self.out.extend_from_slice(number.to_string().as_bytes());
        } else {
            write::integer(&mut self.out, number);
        }
    }

    /// `true`, `false` or `null`.
    pub(super) fn literal(&mut self, literal: Option<bool>) {
        if self.is_json {
            self.next();
            self.out.extend_from_slice(match literal {
                None => b"null",
                Some(false) => b"false",
                Some(true) => b"true",
            });
        } else {
            write::literal(&mut self.out, literal);
        }
    }

    /// A value with its attachments: JSON has them as `JSON.stringify` writes a `Buffer`.
    pub(super) fn value(&mut self, value: &Payload) {
        let written = if self.is_json {
            self.next();
            with_buffers(&mut self.out, value)
        } else {
            let attachments: Vec<&[u8]> = value.attachments.iter().map(|bytes| &bytes[..]).collect();
            write::json(&mut self.out, &value.json, &attachments)
        };
        if let Err(fault) = written {
            self.fault.get_or_insert(fault);
        }
    }

    /// A comma, unless a container or an entry's value begins: no value ends with these bytes.
    fn next(&mut self) {
        if !matches!(self.out.last(), None | Some(b'{' | b'[' | b':')) {
            self.out.push(b',');
        }
    }
}
