//! Acknowledgements that clients owe us: who waits, and until when.

use std::time::Duration;

use smallvec::SmallVec;

use crate::base::slab::{Key, Slab};
use crate::base::time::Time;
use crate::mesh::BROADCAST_ACK_IDS;
use crate::shard::feature::Feature;
use crate::shard::value::answer::{AckCallback, PendingAck};
use crate::shard::value::deadlines::Deadlines;

/// Acknowledgements one socket may owe at a time. Beyond it the emit is refused.
pub(crate) const ACKS_PER_SOCKET_MAX: usize = 1024;

/// The answers that one shard awaits.
#[derive(Default)]
pub(crate) struct Acks {
    pending: Slab<PendingAck>,
    due: Deadlines,
}

impl Acks {
    /// When the first is given up.
    pub(crate) fn next(&self) -> Time {
        self.due.next()
    }

    /// How many are awaited.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }

    #[cfg(test)]
    pub(crate) fn timers(&self) -> usize {
        self.due.len()
    }
}

impl Feature<'_, Acks> {
    /// Notes that a socket owes an answer; `None` when it owes too many or is gone. Returns the id for the packet.
    pub(crate) fn expect(&mut self, socket: Key, callback: AckCallback) -> Result<(Key, u64), AckCallback> {
        let Some(entry) = self.tables.sockets.get_mut(socket) else { return Err(callback) };
        let extra = entry.extra_mut();
        if extra.acks.len() >= ACKS_PER_SOCKET_MAX {
            return Err(callback);
        }
        let id = extra.next_ack;
        extra.next_ack = (id + 1) % BROADCAST_ACK_IDS;
        let key = self.own.pending.insert(PendingAck { socket, id, due: Time::NEVER, callback });
        extra.acks.push((id, key));
        Ok((key, id))
    }

    /// Says how long the answer may take, once its question is sent.
    pub(crate) fn arm(&mut self, key: Key, timeout: Duration) {
        // A callback that asks again without any time would otherwise be due again at once, for ever.
        let due = self.tables.env.now + timeout.max(Duration::from_millis(1));
        if let Some(ack) = self.own.pending.get_mut(key) {
            ack.due = due;
            self.own.due.arm(key, due);
        }
    }

    pub(crate) fn take(&mut self, socket: Key, id: u64) -> Option<PendingAck> {
        let extra = self.tables.sockets.get_mut(socket)?.extra.as_mut()?;
        let place = extra.acks.iter().position(|(owed, _)| *owed == id)?;
        let (_, key) = extra.acks.swap_remove(place);
        self.remove(key)
    }

    /// Everything a socket still owes.
    pub(crate) fn take_all(&mut self, socket: Key) -> SmallVec<[PendingAck; 2]> {
        let Some(extra) = self.tables.sockets.get_mut(socket).and_then(|socket| socket.extra.as_mut()) else {
            return SmallVec::new();
        };
        let keys = std::mem::take(&mut extra.acks);
        keys.into_iter().filter_map(|(_, key)| self.remove(key)).collect()
    }

    fn remove(&mut self, key: Key) -> Option<PendingAck> {
        let pending = self.own.pending.remove(key)?;
        self.own.due.cancel(key, pending.due);
        Some(pending)
    }

    /// One whose time is over.
    pub(crate) fn take_late(&mut self) -> Option<PendingAck> {
        let late = self.own.pending.get(self.own.due.take_due(self.tables.env.now)?)?;
        let (socket, id) = (late.socket, late.id);
        self.take(socket, id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::table::Tables;
    use crate::shard::value::socket::SocketEntry;

    #[test]
    fn an_answer_is_awaited_until_it_comes_or_its_time_is_over_or_its_socket() {
        let (mut own, mut tables) = (Acks::default(), Tables::alone());
        let (sid, session) = (tables.new_sid(), Key { index: 0, generation: 0 });
        let socket = tables.sockets.insert(SocketEntry::new(sid, 0, session));
        let mut acks = Feature { own: &mut own, tables: &mut tables };
        let ask = |acks: &mut Feature<'_, Acks>, millis| {
            let (key, id) =
                acks.expect(socket, Box::new(|_| {})).unwrap_or_else(|_| panic!("it may owe one more"));
            acks.arm(key, Duration::from_millis(millis));
            id
        };
        let ids = [30, 10, 20, 40].map(|millis| ask(&mut acks, millis));
        assert_eq!(ids, [0, 1, 2, 3], "each has an id of its own on the wire");
        assert_eq!(acks.own.next(), Time(1010));
        assert!(acks.take(socket, 2).is_some_and(|answered| answered.id == 2));
        assert!(acks.take(socket, 2).is_none(), "it is answered once");
        assert!(acks.take_late().is_none(), "no time has passed");
        acks.tables.env.now = Time(1030);
        let late: Vec<u64> = std::iter::from_fn(|| acks.take_late()).map(|late| late.id).collect();
        assert_eq!(late, [1, 0], "the earliest first, and not what was answered");
        assert_eq!(acks.take_all(socket).iter().map(|owed| owed.id).collect::<Vec<_>>(), [3]);
        assert_eq!((acks.own.len(), acks.own.next()), (0, Time::NEVER));
        let owed =
            (0..=ACKS_PER_SOCKET_MAX).take_while(|_| acks.expect(socket, Box::new(|_| {})).is_ok()).count();
        assert_eq!(owed, ACKS_PER_SOCKET_MAX);
    }
}
