//! What one process says to the servers of the others: no client hears it.

use crate::message::address::Address;
use crate::message::inquiry::{AnswerText, Reply};

/// An event for the handlers of servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerEvent {
    pub(crate) namespace: Address,
    pub(crate) name: String,
    pub(crate) args: AnswerText,
}

/// One that another process has said, on its way to a shard of this one.
#[derive(Debug)]
pub(crate) struct ServerCall {
    pub(crate) event: ServerEvent,
    /// Who said it, for people.
    pub(crate) from: String,
    /// Takes what the handler answers, if somebody waits for that.
    pub(crate) reply: Option<Reply>,
}

impl ServerEvent {
    /// What it keeps in memory.
    pub(crate) fn len_bytes(&self) -> usize {
        self.name.len() + self.args.len_bytes()
    }
}
