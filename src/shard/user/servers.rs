//! Events that servers of several processes say to each other, as handlers and askers see them.

use std::fmt;
use std::rc::Rc;

use crate::message::inquiry::{AckError, AnswerText, Findings};
use crate::protocol::socketio::event::Args;
use crate::shard::core::SharedCore;
use crate::shard::table::namespaces::NamespaceRef;
use crate::shard::user::recipients::Recipients;
use crate::shard::user::state::State;
use crate::shard::value::answer::Answer;
use crate::shard::value::error::HandlerError;

pub(crate) type ServerHandler = Box<dyn Fn(&ServerContext<'_>, Args<'_>) -> Result<AnswerText, HandlerError>>;

/// What a handler of [`Namespace::on_server_event`](crate::Namespace::on_server_event) is given: who has said the event, and
/// this process' sockets.
pub struct ServerContext<'a> {
    pub(crate) core: &'a SharedCore,
    pub(crate) namespace: &'a Rc<NamespaceRef>,
    pub(crate) event: &'a str,
    pub(crate) from: &'a str,
}

impl ServerContext<'_> {
    /// The event's name.
    pub fn event(&self) -> &str {
        self.event
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace.name
    }

    /// The process that has said it, as its log calls it: host and process number.
    pub fn process(&self) -> &str {
        self.from
    }

    /// Everybody in the namespace, in all processes; [`local`](Recipients::local) is this one alone. As each process is told the
    /// event, each speaks for its own.
    pub fn broadcast(&self) -> Recipients<'_> {
        Recipients::everyone(self.core, Rc::clone(self.namespace), None)
    }

    /// The members of a room, in all processes; [`local`](Recipients::local) is this one alone.
    pub fn to(&self, room: impl AsRef<str>) -> Recipients<'_> {
        Recipients::rooms(self.core, Rc::clone(self.namespace), None).to(room)
    }

    /// A state room of the namespace: see [`StateRoom`](crate::StateRoom).
    pub fn state<'b>(&'b self, room: &'b str) -> State<'b> {
        let number = self.core.borrow().tables.namespaces.resolve(self.namespace).unwrap_or(u16::MAX);
        State::here(self.core, number, room)
    }
}

impl fmt::Debug for ServerContext<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ServerContext")
            .field("event", &self.event)
            .field("process", &self.from)
            .finish_non_exhaustive()
    }
}

/// What the other processes' servers have answered to one event, and who has not.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct ServerAnswers {
    /// The answers, by the names of the processes.
    pub received: Vec<(String, Answer)>,
    /// Processes that have not answered: too late, gone meanwhile, without a handler for the event, or with one that failed.
    pub processes_missing: Vec<String>,
}

impl ServerAnswers {
    /// Whether everybody who was asked has answered.
    pub fn is_complete(&self) -> bool {
        self.processes_missing.is_empty()
    }

    pub(crate) fn read(findings: Findings) -> Result<ServerAnswers, AckError> {
        let answer = |(name, text)| (name, Answer::new(text));
        let received = findings.servers.into_iter().map(answer).collect();
        Ok(ServerAnswers { received, processes_missing: findings.processes_missing })
    }
}
