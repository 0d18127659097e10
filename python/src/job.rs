//! What the shards give away, and Python has to do.

use std::sync::Arc;

use pyo3::prelude::*;
use shardcast::http::Responder;
use shardcast::{Addressee, ConnectTicket, Handshake, OwnedArgs, Ticket};

use crate::exchange::Head;

/// One thing to do.
pub(crate) enum Job {
    /// Somebody wants to connect, and waits for the decision.
    Connect {
        ticket: ConnectTicket,
        auth: String,
        handshake: Arc<Handshake>,
    },
    Event {
        ticket: Ticket,
        name: Box<str>,
        args: OwnedArgs,
    },
    Disconnect(Ended),
    /// A client's answer to an emit.
    Answer {
        callback: Py<PyAny>,
        args: OwnedArgs,
    },
    /// A page.
    Request {
        responder: Responder,
        head: Box<Head>,
    },
}

/// A client that is gone.
pub(crate) struct Ended {
    pub(crate) socket: Addressee,
    pub(crate) reason: &'static str,
    /// Those that it was in when it ended.
    pub(crate) rooms: Vec<String>,
}

impl Job {
    /// The socket whose order the job keeps.
    pub(crate) fn socket(&self) -> Option<&Addressee> {
        match self {
            Job::Connect { ticket, .. } => Some(ticket.addressee()),
            Job::Event { ticket, .. } => Some(ticket.addressee()),
            Job::Disconnect(ended) => Some(&ended.socket),
            Job::Answer { .. } | Job::Request { .. } => None,
        }
    }
}
