//! The turn of a shard: what is begun when something comes in, and settled before it ends.

use crate::shard::Shard;
use crate::shard::table::partial::Keeper;
use crate::shard::table::shed::Shed;
use crate::shard::value::session::CloseReason;

impl Shard {
    /// Closes those who are owed most, if the clients together are owed more than the shard may hold.
    pub(crate) fn shed_if_due(&mut self) {
        let due = self.core.borrow_mut().tables.check_owed();
        let Some((closing, owed)) = due else { return };
        let bytes_max = self.core.borrow().tables.owed.bytes_max;
        tracing::warn!(
            owed,
            bytes_max,
            closing = closing.len(),
            "clients that do not keep up are owed more than this shard's part of outboxes_bytes_max: the slowest are closed"
        );
        for shed in closing {
            match shed {
                Shed::Session(session) => self.close_session(session, CloseReason::SlowConsumer),
                Shed::Connection(connection) => {
                    self.core.borrow_mut().tables.counters.slow_consumers_closed.add(1);
                    self.connection_lost(connection);
                }
            }
        }
    }

    /// Closes those who keep most, if the clients together keep more of unfinished messages than the shard may hold.
    pub(crate) fn close_partial(&mut self) {
        let (closing, bytes, bytes_max) = {
            let core = self.core.borrow();
            if core.tables.partial_bytes <= core.tables.partial_bytes_max {
                return;
            }
            (core.tables.largest_partial(), core.tables.partial_bytes, core.tables.partial_bytes_max)
        };
        tracing::warn!(
            bytes,
            bytes_max,
            closing = closing.len(),
            "clients have sent more of messages that are not whole, or wait for a handler, than this shard's part of \
             partial_bytes_max: those with the most are closed"
        );
        for keeper in closing {
            self.core.borrow().tables.counters.partial_closed.add(1);
            match keeper {
                Keeper::Session(session) => self.close_session(session, CloseReason::TransportError),
                Keeper::Connection(connection) => self.connection_lost(connection),
            }
        }
    }
}
