//! Packets and frames for one session.

use crate::base::slab::Key;
use crate::protocol::socketio::frames::{frame_packet, frame_text};
use crate::shard::table::Tables;
use crate::shard::value::connection::Ending;
use crate::shard::value::effect::Effects;
use crate::shard::value::env::Env;
use crate::shard::value::pools::Pools;
use crate::shard::value::session::{CloseReason, Link};
use crate::shard::value::socket::NOWHERE;
use crate::shard::value::trace::trace_sent;

impl Tables {
    /// The session's socket in a namespace, by name.
    pub(crate) fn socket_of(&self, session: Key, namespace: &str) -> Option<Key> {
        let session = self.sessions.get(session)?;
        session.socket_in(self.namespaces.find(session.endpoint, namespace)?)
    }

    /// Sends one Socket.IO packet that has no attachments.
    pub(crate) fn send_message(&mut self, session: Key, encode: impl FnOnce(&mut Vec<u8>)) {
        let mut frames = self.pools.buffers.take();
        let framed = frame_packet(&mut frames, |out, _| {
            encode(out);
            Ok::<(), std::convert::Infallible>(())
        });
        framed.unwrap_or_else(|never| match never {});
        self.send_frames(session, frames);
    }

    /// Queues canonical frames for a session, in its own form, on whatever transport it is. True if they wait there,
    /// because the client is behind or does not poll now.
    pub(crate) fn send_frames(&mut self, session_key: Key, frames: Vec<u8>) -> bool {
        let outbox_bytes_max = self.env.config.outbox_bytes_max;
        let Tables {
            sessions,
            connections,
            owed,
            pools: Pools { buffers, transcoder, .. },
            effects: Effects { dirty, polls_due, .. },
            env: Env { counters, now, .. },
            ..
        } = &mut *self;
        let Some(session) = sessions.get_mut(session_key) else {
            buffers.give(frames);
            return false;
        };
        if session.is_traced {
            trace_sent(&session.sid, *now, &frames);
        }
        let frames = if session.form.is_canonical() {
            frames
        } else {
            let mut transcoded = buffers.take();
            transcoder.transcode(&frames, session.form, &mut transcoded);
            buffers.give(frames);
            transcoded
        };
        let queue = match session.link {
            Link::Polling { poll, .. } => {
                counters.meters.note_behind(session.mark_poll_due(session_key, polls_due));
                session.may_compress = true;
                Some((&mut session.backlog, poll.is_none(), &mut session.is_given_up))
            }
            Link::WebSocket(key) => connections
                .get_mut(key)
                .filter(|connection| connection.ending == Ending::Open)
                .map(|connection| {
                    counters.meters.note_behind(connection.mark_dirty(key, dirty));
                    (&mut connection.outbox, connection.behind > 0, &mut connection.is_given_up)
                }),
        };
        let Some((outbox, is_waiting, is_given_up)) = queue else {
            buffers.give(frames);
            return false;
        };
        if outbox.len() > outbox_bytes_max {
            buffers.give(frames);
            if !std::mem::replace(is_given_up, true) {
                self.close_soon(session_key, CloseReason::SlowConsumer);
            }
            return true;
        }
        owed.add_own(frames.len());
        outbox.push_own(frames, buffers);
        is_waiting
    }

    /// Queues one Engine.IO text packet for a session.
    pub(crate) fn send_packet(&mut self, session: Key, packet: &str) {
        let mut frames = self.pools.buffers.take();
        frame_text(&mut frames, packet);
        self.send_frames(session, frames);
    }

    /// The place of a session's WebSocket, if it has one.
    pub(crate) fn websocket_place(&self, session: Key) -> u32 {
        match self.sessions.get(session).map(|session| session.link) {
            Some(Link::WebSocket(key)) => key.index,
            _ => NOWHERE,
        }
    }
}
