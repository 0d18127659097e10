//! Counting for operators, where more than one table is concerned.

use crate::base::slab::Key;
use crate::message::peer::Door;
use crate::shard::table::Tables;
use crate::shard::value::connection::{Connection, Ending, Kind};
use crate::shard::value::kinds::{ConnectionClosed, RequestRefused, Speech};
use crate::shard::value::meters::Meters;
use crate::shard::value::session::{Link, Session};

impl Tables {
    #[inline]
    pub(crate) fn meters(&self) -> &Meters {
        &self.env.counters.meters
    }

    /// A client's connection was taken up.
    pub(crate) fn count_opened(&self, key: Key) {
        if self.door(key) == Door::Public {
            self.meters().connections_opened.add(1);
        }
    }

    /// The peer has said all it will.
    pub(crate) fn note_peer_gone(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.is_peer_gone = true;
        }
    }

    /// A client's connection is gone.
    pub(crate) fn count_closed(&self, connection: &Connection) {
        let by = match connection.ending {
            Ending::AfterFlush | Ending::Lingering => ConnectionClosed::Server,
            Ending::Open if connection.is_peer_gone => ConnectionClosed::Peer,
            Ending::Open => ConnectionClosed::Cut,
        };
        self.meters().connections_closed.count(by);
        self.count_frames_end(connection);
    }

    /// A client's connection carries no frames any more, if it did.
    fn count_frames_end(&self, connection: &Connection) {
        if matches!(connection.kind, Kind::WebSocket(_)) {
            self.meters().connections_websocket.subtract(1);
        }
    }

    /// The closing handshake of a client's raw WebSocket has begun: it is one no more.
    pub(crate) fn count_frames_over(&self, key: Key) {
        if self.door(key) == Door::Public {
            self.meters().connections_websocket.subtract(1);
        }
    }

    /// A request of Engine.IO or of HTTP is refused.
    pub(crate) fn count_refused(&self, why: RequestRefused) {
        self.env.counters.requests_refused.add(1);
        self.meters().requests_refused.count(why);
    }

    /// What is queued for the receivers of the broadcasts that are timed was sent.
    #[cold]
    pub(crate) fn count_fan_outs(&mut self, at: u64) {
        let Tables { turn_times, env, .. } = self;
        for published in turn_times.fan_outs.drain(..) {
            env.counters.meters.fan_out.record_nanos(at.saturating_sub(published));
        }
    }
}

impl Session {
    /// How it speaks now.
    pub(crate) fn speech(&self) -> Speech {
        Speech::of(matches!(self.link, Link::WebSocket(_)), self.poll_form.revision)
    }
}
