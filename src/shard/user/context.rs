//! What a handler is given: a socket, and the event that it answers.

use std::cell::Cell;
use std::fmt;
use std::ops::Deref;

use crate::protocol::socketio::event::Args;
use crate::shard::user::acknowledged::{self, Acknowledged};
use crate::shard::user::socket::Socket;
use crate::shard::value::ack::Asked;
use crate::shard::value::answer::Answer;
use crate::shard::value::args::ToArgs;
use crate::shard::value::error::HandlerError;

/// The socket that an event came from, and how to answer it. Everything a [`Socket`] can do, it can.
pub struct Context<'a> {
    socket: Socket,
    event: &'a str,
    args: Args<'a>,
    asked: Cell<Asked>,
    /// An error handler is registered that may look at the arguments of an event that fails later.
    pub(crate) keeps_args: bool,
}

impl<'a> Context<'a> {
    pub(crate) fn new(socket: Socket, event: &'a str, args: Args<'a>, id: Option<u64>) -> Context<'a> {
        Context::of_asked(socket, event, args, id.into())
    }

    pub(crate) fn of_asked(socket: Socket, event: &'a str, args: Args<'a>, asked: Asked) -> Context<'a> {
        Context { socket, event, args, asked: Cell::new(asked), keeps_args: false }
    }

    /// The event's name.
    pub fn event(&self) -> &str {
        self.event
    }

    /// The event's arguments as they came; a connect handler's are the client's auth. An error handler finds here
    /// what its handler was given.
    pub fn args(&self) -> Args<'a> {
        self.args
    }

    /// Whether the client asked for an acknowledgement.
    pub fn wants_ack(&self) -> bool {
        matches!(self.asked.get(), Asked::Here(_) | Asked::Kept(_))
    }

    /// The socket, to keep.
    pub fn socket(&self) -> Socket {
        self.socket.clone()
    }

    pub(crate) fn asked(&self) -> Asked {
        self.asked.get()
    }

    pub(crate) fn set_asked(&self, asked: Asked) {
        self.asked.set(asked);
    }

    /// Answers an event whose handler failed with what the error handler returned.
    pub(crate) fn answer_failed(&self, answer: impl ToArgs) -> Result<(), HandlerError> {
        match self.asked.get() {
            _ if answer.is_unit() => Ok(()),
            // What the handler has kept is answered in its place, if it is not yet.
            Asked::Kept(key) => match acknowledged::answer(&self.socket, key, &answer) {
                Acknowledged::Refused(error) => Err(HandlerError::Failed(Box::new(error))),
                _ => Ok(()),
            },
            asked => self.acknowledge(asked, answer),
        }
    }

    /// The arguments, kept for when an asynchronous handler fails; none if there is no error handler to look at them.
    pub(crate) fn kept_args(&self) -> Answer {
        Answer::of(if self.keeps_args { self.args } else { Args::default() })
    }
}

impl Deref for Context<'_> {
    type Target = Socket;

    fn deref(&self) -> &Socket {
        &self.socket
    }
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Context").field("socket", &self.socket).field("event", &self.event).finish()
    }
}
