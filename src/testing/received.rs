//! What a client of the test kit has got: events, and refusals.

use std::fmt;

use serde::de::DeserializeOwned;

use crate::protocol::socketio::event::{Args, ArgsError};
use crate::shard::value::answer::Answer;

/// Why a client could not connect.
#[derive(Clone, Debug, PartialEq)]
pub struct RefusedConnection {
    /// The message of the client's `connect_error`; of a refused request, its whole response.
    pub message: String,
    /// The data that came along, or `null`.
    pub data: serde_json::Value,
}

impl fmt::Display for RefusedConnection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for RefusedConnection {}

/// An event that a client has got.
///
/// It is displayed as the JSON it came as: `["welcome",1,"two"]`.
#[derive(Clone, Debug)]
pub struct Received {
    pub(super) name: String,
    pub(super) args: Answer,
    pub(super) id: Option<u64>,
    pub(super) namespace: String,
}

impl Received {
    /// The event's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its arguments.
    pub fn args(&self) -> Args<'_> {
        self.args.args()
    }

    /// Its first argument.
    ///
    /// # Errors
    /// When there is none, or it is of another type.
    pub fn first<T: DeserializeOwned>(&self) -> Result<T, ArgsError> {
        self.args.first()
    }

    /// What a client takes for the event's offset, as stock clients do: its last argument, if that is a text.
    pub(super) fn offset(&self) -> Option<String> {
        let last = self.args().len().checked_sub(1).filter(|_| self.id.is_none())?;
        self.args().read(last).ok()
    }

    /// Whether the server waits for an acknowledgement.
    pub fn wants_ack(&self) -> bool {
        self.id.is_some()
    }
}

impl fmt::Display for Received {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = serde_json::Value::from(self.name.as_str());
        let args = self.args();
        let comma = if args.is_empty() { "" } else { "," };
        write!(formatter, "[{name}{comma}{}]", args.raw())
    }
}
