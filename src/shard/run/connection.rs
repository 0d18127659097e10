//! Bytes of a connection: handled as far as they are whole, kept otherwise; and how it ends.

use crate::base::slab::Key;
use crate::shard::run::Shard;
use crate::shard::value::connection::{Ending, HALF_CLOSED_POLL_PATIENCE, Kind, Role, Step, WebSocketState};
use crate::shard::value::session::CloseReason;
use crate::shard::value::share::Pause;

impl Shard {
    /// A connection's wire has brought bytes.
    pub(crate) fn receive_bytes(&mut self, key: Key, input: &mut [u8]) {
        let mut carried = {
            let mut core = self.core.borrow_mut();
            core.tables.env.counters.bytes_received.add(input.len() as u64);
            match core.tables.begin_input(key, input.len()) {
                Some(carried) => carried,
                None => return core.tables.keep_unread(key, input),
            }
        };
        if carried.is_empty() {
            let (used, pause) = self.consume(key, input);
            if used < input.len() {
                let mut core = self.core.borrow_mut();
                let mut rest = core.tables.pools.buffers.take();
                rest.extend_from_slice(&input[used..]);
                core.tables.keep_input(key, rest, 0, pause);
            }
        } else {
            carried.extend_from_slice(input);
            let (used, pause) = self.consume(key, &mut carried);
            self.core.borrow_mut().tables.keep_input(key, carried, used, pause);
        }
    }

    /// Takes up what was kept while a connection was answering, or waited for its share.
    pub(crate) fn resume_connection(&mut self, key: Key) {
        let taken = {
            let mut core = self.core.borrow_mut();
            let is_waiting =
                core.tables.connections.get(key).is_none_or(|connection| connection.share.is_waiting());
            if is_waiting { None } else { core.tables.take_inbound(key) }
        };
        if let Some((mut carried, done)) = taken.filter(|(carried, _)| !carried.is_empty()) {
            let (used, pause) = self.consume(key, &mut carried[done..]);
            self.core.borrow_mut().tables.keep_input(key, carried, done + used, pause);
        }
        self.end_half_closed(key);
    }

    /// The peer has said all it will: what it has asked for is still answered.
    pub(crate) fn connection_ended(&mut self, key: Key) {
        {
            let mut core = self.core.borrow_mut();
            let Some(connection) = core.tables.connections.get_mut(key) else { return };
            let (ending, is_owed) = (connection.ending, !connection.outbox.is_empty());
            match &mut connection.kind {
                Kind::Http(_) if ending == Ending::AfterFlush && is_owed => return,
                Kind::Http(http) if ending == Ending::Open => {
                    http.is_half_closed = true;
                    if let Some(route) = http.route {
                        core.tables.half_close_route(route);
                    } else if http.is_answering && http.session.is_some() {
                        core.tables.arm_connection(key, HALF_CLOSED_POLL_PATIENCE);
                    }
                }
                _ => {
                    drop(core);
                    return self.connection_lost(key);
                }
            }
        }
        self.end_half_closed(key);
    }

    /// Ends a connection whose peer will say no more, once all that it has asked for is answered.
    fn end_half_closed(&mut self, key: Key) {
        let mut core = self.core.borrow_mut();
        let Some(connection) = core.tables.connections.get(key) else { return };
        let Kind::Http(http) = &connection.kind else { return };
        if !http.is_half_closed || http.is_answering || connection.ending != Ending::Open {
            return;
        }
        if connection.share.is_waiting() {
            return;
        }
        // A session whose POST is not whole has lost it.
        if connection.outbox.is_empty() || http.session.is_some() {
            drop(core);
            self.connection_lost(key);
        } else {
            core.tables.close_after_flush(key);
        }
    }

    /// Uses as much of `bytes` as is complete and within the connection's share; returns how much that was, and what the rest
    /// waits for if it is not the peer.
    fn consume(&mut self, key: Key, bytes: &mut [u8]) -> (usize, Option<Pause>) {
        let mut used = 0;
        while used < bytes.len() {
            let is_http = {
                let mut core = self.core.borrow_mut();
                let (turn, outbox_bytes_max) =
                    (core.tables.intake.turn, core.tables.env.config.outbox_bytes_max);
                let is_turn_full = core.tables.owed.is_turn_full();
                core.tables.intake.events_taken += 1;
                match core.tables.connections.get_mut(key) {
                    Some(connection) if connection.ending == Ending::Open => {
                        if is_turn_full {
                            return (used, Some(Pause::Turn));
                        }
                        if let Err(pause) = connection.take_event(turn, outbox_bytes_max) {
                            return (used, Some(pause));
                        }
                        matches!(connection.kind, Kind::Http(_))
                    }
                    // Gone, handed over or at its end: nobody wants the rest.
                    _ => return (bytes.len(), None),
                }
            };
            let rest = &mut bytes[used..];
            let step = if is_http { self.consume_http(key, rest) } else { self.consume_frame(key, rest) };
            match step {
                Step::Used(count) => used += count,
                step @ (Step::Wait | Step::Full | Step::Later) => {
                    if let Some(connection) = self.core.borrow_mut().tables.connections.get_mut(key) {
                        connection.share.give_back();
                    }
                    match step {
                        Step::Full => return (used, Some(Pause::Outbox)),
                        Step::Later => return (used, Some(Pause::Rate)),
                        Step::Wait | Step::Used(_) => break,
                    }
                }
            }
            // What a handler asked for holds before the next event of the same read.
            if !self.core.borrow().tables.effects.deferred.is_empty() {
                self.settle();
            }
        }
        (used, None)
    }

    /// The peer closed, or the wire broke.
    pub(crate) fn connection_lost(&mut self, key: Key) {
        let dropped = self.core.borrow_mut().tables.drop_connection(key);
        let Some(kind) = dropped else { return };
        match kind {
            Kind::Http(http) => {
                if let Some(session) = http.session {
                    self.carrier_lost(session, key);
                }
            }
            Kind::WebSocket(WebSocketState { role: Role::Session(session), .. }) => {
                self.close_session(session, CloseReason::TransportClose);
            }
            Kind::WebSocket(WebSocketState { role: Role::Probe(session), .. }) => {
                self.core.borrow_mut().tables.forget_upgrade(session, key);
            }
            Kind::WebSocket(WebSocketState { role: Role::Raw(raw), .. }) => self.raw_closed(*raw),
        }
    }
}
