//! Events that wait for their socket.

use crate::base::slab::Key;
use crate::shard::table::Tables;
use crate::shard::value::socket::{SocketEntry, SocketState, Waiting};

/// What comes next of what has waited.
pub(crate) enum Next {
    Event(Waiting),
    /// There is something, and it waits for the next share.
    Later,
    /// No event waits, or a handler runs, or the socket is not open.
    Nothing,
}

impl SocketEntry {
    /// Whether events wait: those that follow wait behind them.
    #[inline]
    pub(crate) fn has_waiting(&self) -> bool {
        self.extra.as_ref().is_some_and(|extra| !extra.waiting.is_empty())
    }
}

impl Tables {
    pub(crate) fn next_waiting(&mut self, session: Key, key: Key) -> Next {
        if self.is_ending(key) {
            return Next::Nothing;
        }
        let Some(socket) = self.sockets.get(key) else { return Next::Nothing };
        if socket.is_busy || socket.is_full || socket.state != SocketState::Open {
            return Next::Nothing;
        }
        let front = socket.extra.as_ref().and_then(|extra| extra.waiting.front());
        let Some(len) = front.map(Waiting::len_bytes) else { return Next::Nothing };
        if let Err(pause) = self.take_waiting_event(session, len) {
            self.wait_for_share(session, pause);
            return Next::Later;
        }
        let extra = self.sockets.get_mut(key).and_then(|socket| socket.extra.as_mut());
        let Some(extra) = extra else { return Next::Nothing };
        extra.waiting_bytes = extra.waiting_bytes.saturating_sub(len);
        let next = extra.waiting.pop_front().map_or(Next::Nothing, Next::Event);
        self.env.counters.meters.events_waiting.subtract(1);
        self.count_waiting(key);
        next
    }
}
