//! What a pickle has made: values, and their JSON text and attachments.
//!
//! As Python's `json.dumps` would write it for a client: keys that are numbers, `None` or booleans become texts. Does not know
//! instructions.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::base::limits::JSON_DEPTH_MAX;
use crate::protocol::surrogates::split_at_half;

use super::message::{MESSAGE_ATTACHMENTS_MAX, PickleError, Unreadable};

/// A place among the values.
pub(super) type Id = usize;

#[derive(Debug)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    /// UTF-8, but for half characters.
    Text(Cow<'a, [u8]>),
    Bytes(Cow<'a, [u8]>),
    List(Vec<Id>),
    Tuple(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Callable(Callable),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Callable {
    Encode,
    /// `bytes` or `bytearray`.
    Bytes,
}

/// Levels of one argument: it will stand in an array with the event's name.
const ARGUMENT_DEPTH_MAX: usize = JSON_DEPTH_MAX - 1;

/// A text that grows, and what it may still grow.
pub(super) struct Json<'v, 'a> {
    values: &'v [Value<'a>],
    pub(super) out: String,
    pub(super) attachments: Vec<Cow<'a, [u8]>>,
    bytes_left: usize,
}

impl<'v, 'a> Json<'v, 'a> {
    pub(super) fn new(values: &'v [Value<'a>], bytes_max: usize) -> Json<'v, 'a> {
        Json { values, out: String::new(), attachments: Vec::new(), bytes_left: bytes_max }
    }

    /// The arguments of an event: a tuple is their list, `None` is none, anything else is one.
    pub(super) fn data(&mut self, id: Id) -> Result<(), Unreadable> {
        let values = self.values;
        match values.get(id) {
            Some(Value::Tuple(items)) => self.items(items, 0),
            Some(Value::None) => Ok(()),
            _ => self.item(id, 0),
        }
    }

    /// The arguments of an answer.
    pub(super) fn answer(&mut self, id: Id) -> Result<(), Unreadable> {
        let values = self.values;
        match values.get(id) {
            Some(Value::Tuple(items) | Value::List(items)) => self.items(items, 0),
            _ => Err(Unreadable::Invalid("args")),
        }
    }

    /// One value.
    pub(super) fn value(&mut self, id: Id) -> Result<(), Unreadable> {
        self.item(id, 0)
    }

    fn items(&mut self, items: &[Id], depth: usize) -> Result<(), Unreadable> {
        for (place, item) in items.iter().enumerate() {
            if place > 0 {
                self.out.push(',');
            }
            self.item(*item, depth)?;
        }
        Ok(())
    }

    /// Recursion is safe because the depth is limited.
    fn item(&mut self, id: Id, depth: usize) -> Result<(), Unreadable> {
        let start = self.out.len();
        let values = self.values;
        match values.get(id).ok_or(PickleError::Broken)? {
            Value::None => self.out.push_str("null"),
            Value::Bool(value) => self.print(value),
            Value::Int(value) => self.print(value),
            Value::Float(value) => self.float(*value)?,
            Value::Text(text) => self.text(text),
            Value::Bytes(bytes) => self.keep_attachment(bytes.clone())?,
            Value::Callable(_) => return Err(PickleError::NotJson.into()),
            Value::List(_) | Value::Tuple(_) | Value::Dict(_) if depth == ARGUMENT_DEPTH_MAX => {
                return Err(PickleError::TooDeep.into());
            }
            Value::List(items) | Value::Tuple(items) => {
                self.spend(2)?;
                self.out.push('[');
                self.items(items, depth + 1)?;
                self.out.push(']');
                return Ok(());
            }
            Value::Dict(members) => {
                self.spend(2)?;
                return self.members(members, depth + 1);
            }
        }
        self.spend(self.out.len() - start + 1)
    }

    fn members(&mut self, members: &[(Id, Id)], depth: usize) -> Result<(), Unreadable> {
        self.out.push('{');
        for (place, &(key, value)) in members.iter().enumerate() {
            if place > 0 {
                self.out.push(',');
            }
            self.key(key)?;
            self.out.push(':');
            self.item(value, depth)?;
        }
        self.out.push('}');
        Ok(())
    }

    fn key(&mut self, id: Id) -> Result<(), Unreadable> {
        let start = self.out.len();
        let values = self.values;
        let key = values.get(id).ok_or(PickleError::Broken)?;
        match key {
            Value::Text(text) => self.text(text),
            Value::None | Value::Bool(_) | Value::Int(_) | Value::Float(_) => {
                self.out.push('"');
                self.item(id, 0)?;
                self.out.push('"');
            }
            _ => return Err(PickleError::NotJson.into()),
        }
        self.spend(self.out.len() - start + 1)
    }

    fn keep_attachment(&mut self, bytes: Cow<'a, [u8]>) -> Result<(), Unreadable> {
        if self.attachments.len() == MESSAGE_ATTACHMENTS_MAX {
            return Err(Unreadable::TooManyAttachments);
        }
        self.spend(bytes.len())?;
        let num = self.attachments.len();
        self.attachments.push(bytes);
        write!(self.out, "{{\"_placeholder\":true,\"num\":{num}}}").expect("writing to a String cannot fail");
        Ok(())
    }

    fn float(&mut self, value: f64) -> Result<(), Unreadable> {
        if !value.is_finite() {
            return Err(PickleError::NotJson.into());
        }
        self.out.push_str(&serde_json::to_string(&value).map_err(|_| PickleError::NotJson)?);
        Ok(())
    }

    /// Half a character is written as the escape that Python writes.
    fn text(&mut self, bytes: &[u8]) {
        self.out.push('"');
        let mut rest = bytes;
        while let Some((plain, half, after)) = split_at_half(rest) {
            let quoted = serde_json::to_string(plain).expect("strings have JSON");
            self.out.push_str(quoted.get(1..quoted.len() - 1).unwrap_or_default());
            let Some(unit) = half else { break };
            write!(self.out, "\\u{unit:04x}").expect("writing to a String cannot fail");
            rest = after;
        }
        self.out.push('"');
    }

    fn print(&mut self, value: &impl std::fmt::Display) {
        write!(self.out, "{value}").expect("writing to a String cannot fail");
    }

    fn spend(&mut self, bytes: usize) -> Result<(), Unreadable> {
        self.bytes_left = self.bytes_left.checked_sub(bytes).ok_or(PickleError::TooLarge)?;
        Ok(())
    }
}
