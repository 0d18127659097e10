//! Acknowledgements that handlers have kept, and how much of a socket's work may be under way: beyond that its later events wait.

use crate::base::limits::{ACKS_KEPT_MAX, ACKS_KEPT_PER_SOCKET_MAX};
use crate::base::slab::Key;
use crate::shard::table::Tables;
use crate::shard::value::ack::KeptAck;
use crate::shard::value::effect::Deferred;

impl Tables {
    /// Keeps an acknowledgement for later. `None`: this shard keeps as many as it may.
    pub(crate) fn keep_ack(&mut self, socket: Key, id: u64) -> Option<Key> {
        if self.kept_acks.len() >= ACKS_KEPT_MAX {
            return None;
        }
        let key = self.kept_acks.insert(KeptAck { socket, id });
        if let Some(entry) = self.sockets.get_mut(socket) {
            entry.extra_mut().kept_acks.push(key);
        }
        self.renew_full(socket);
        Some(key)
    }

    /// Takes one, to answer it or to give it up. `None`: it has been taken, or its socket is gone.
    pub(crate) fn take_ack(&mut self, key: Key) -> Option<KeptAck> {
        let ack = self.kept_acks.remove(key)?;
        if let Some(extra) = self.sockets.get_mut(ack.socket).and_then(|socket| socket.extra.as_mut()) {
            extra.kept_acks.retain(|other| *other != key);
        }
        self.renew_full(ack.socket);
        Some(ack)
    }

    /// Those of a socket that ends are not answered any more.
    pub(crate) fn forget_acks(&mut self, socket: Key) {
        let extra = self.sockets.get_mut(socket).and_then(|socket| socket.extra.as_mut());
        let keys = extra.map(|extra| std::mem::take(&mut extra.kept_acks)).unwrap_or_default();
        for key in keys {
            self.kept_acks.remove(key);
        }
    }

    /// A handler that runs beside others has begun, or has ended.
    pub(crate) fn count_concurrent(&mut self, socket: Key, begins: bool) {
        let Some(entry) = self.sockets.get_mut(socket) else { return };
        let concurrent = &mut entry.extra_mut().concurrent;
        *concurrent = if begins { *concurrent + 1 } else { concurrent.saturating_sub(1) };
        self.renew_full(socket);
    }

    /// Whether a socket's later events must wait. Those that have waited are taken up once they need no longer.
    fn renew_full(&mut self, socket: Key) {
        let concurrent_max = self.env.config.concurrent_handlers_max;
        let Some(entry) = self.sockets.get_mut(socket) else { return };
        let is_full = entry.extra.as_ref().is_some_and(|extra| {
            extra.concurrent as usize >= concurrent_max || extra.kept_acks.len() >= ACKS_KEPT_PER_SOCKET_MAX
        });
        let was_full = std::mem::replace(&mut entry.is_full, is_full);
        if was_full && !is_full {
            self.effects.deferred.push(Deferred::TakeUp(socket));
        }
    }
}
