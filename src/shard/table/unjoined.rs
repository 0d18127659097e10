//! Sessions that have joined no namespace give way when there are too many.

use crate::base::slab::Key;
use crate::shard::table::Tables;
use crate::shard::value::effect::Deferred;
use crate::shard::value::env::Env;
use crate::shard::value::unjoined::{holder, sessions_max};

impl Tables {
    /// A session has opened. One that is to join a namespace gets in line, and if there are too many, the oldest of the line
    /// gives way: it is closed once this call is over.
    pub(crate) fn make_room_for(&mut self, session: Key, must_join: bool) {
        let Tables { sessions, unjoined, env: Env { config, .. }, .. } = &mut *self;
        let Some(entry) = sessions.get_mut(session) else { return };
        entry.is_unjoined = must_join;
        let address = holder(entry.handshake.address()).filter(|_| must_join);
        let is_in = |key: Key| sessions.get(key).is_some_and(|session| session.is_unjoined);
        let mut giving_way = None;
        if let Some(address) = address {
            let line = unjoined.by_address.entry(address).or_default();
            line.push(session, is_in);
            if line.live > config.unjoined_sessions_per_address_max {
                giving_way = line.pop(is_in);
            }
        }
        if must_join {
            unjoined.everybody.push(session, is_in);
        }
        let is_crowded = unjoined.len() > sessions_max(config) || sessions.len() > config.sessions_max;
        if giving_way.is_none() && is_crowded {
            giving_way = unjoined.everybody.pop(is_in);
        }
        if let Some(session) = giving_way {
            self.leave_unjoined(session);
            self.env.counters.unjoined_sessions_closed.add(1);
            if let Some(entry) = self.sessions.get_mut(session) {
                entry.is_ending = true;
            }
            self.effects.deferred.push(Deferred::GiveWay(session));
        }
    }

    /// A session has joined, or it ends.
    pub(crate) fn leave_unjoined(&mut self, session: Key) {
        let Some(entry) = self.sessions.get_mut(session).filter(|entry| entry.is_unjoined) else { return };
        entry.is_unjoined = false;
        let address = holder(entry.handshake.address());
        self.unjoined.left(address);
    }
}
