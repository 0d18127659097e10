//! The flows: from what comes in to the user code that is called (`guard`), and back.

pub(crate) mod acks;
pub(crate) mod additions;
pub(crate) mod connect;
pub(crate) mod connect3;
pub(crate) mod connection;
pub(crate) mod dispatch;
pub(crate) mod drain;
pub(crate) mod ends;
pub(crate) mod engine;
pub(crate) mod engine_route;
pub(crate) mod far;
pub(crate) mod frames;
pub(crate) mod guard;
pub(crate) mod http;
pub(crate) mod outside;
pub(crate) mod pace;
pub(crate) mod packets;
pub(crate) mod polling;
pub(crate) mod post;
pub(crate) mod raw;
pub(crate) mod recovery;
pub(crate) mod routes;
pub(crate) mod servers;
pub(crate) mod share;
pub(crate) mod site;
pub(crate) mod tasks;
pub(crate) mod ticks;
pub(crate) mod timeouts;
pub(crate) mod turn;
pub(crate) mod upgrade;
pub(crate) mod waiting;

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::base::slab::Key;
use crate::base::time::Time;
use crate::shard::core::SharedCore;
use crate::shard::user::app::{App, NamespaceHandlers};
use crate::shard::value::watch::{Stopwatch, Watch};
use crate::shard::value::wheel::TimerOwner;

/// One core's world, with the user's handlers.
pub(crate) struct Shard {
    pub(in crate::shard) core: SharedCore,
    pub(in crate::shard) app: Rc<App>,
    /// Connections that are owed bytes, in the order in which they became so; some may be gone.
    pub(in crate::shard) unflushed: VecDeque<Key>,
    pub(in crate::shard) due: Vec<(TimerOwner, Time)>,
    pub(in crate::shard) is_settling: bool,
    pub(in crate::shard) watch: Watch,
    /// Tells nanoseconds, for what is timed.
    pub(in crate::shard) stopwatch: Stopwatch,
    /// When a handler was last timed.
    pub(in crate::shard) timed_at: Cell<Time>,
    /// The socket whose waiting events are being taken up: a handler that is done at once must not begin anew.
    pub(in crate::shard) running: Option<Key>,
    /// The handlers of a namespace that is being registered, until all shards have made theirs.
    pub(in crate::shard) made: Option<NamespaceHandlers>,
}
