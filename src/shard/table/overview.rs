//! What operators see of this shard on the admin page.

use crate::message::overview::{Look, Overview, RoomSize, SlowClient};
use crate::shard::table::Tables;
use crate::shard::value::session::{Link, Session};
use crate::shard::value::trace;

/// Characters of a room's name that are shown.
const ROOM_SHOWN_CHARS: usize = 128;

impl Tables {
    /// Looks around, at a bounded number of sessions and rooms.
    pub(crate) fn overview(&mut self, look: &Look) -> Overview {
        Overview {
            shard: self.env.id.index(),
            lag_millis: u64::try_from(self.env.now.since(look.asked).as_millis()).unwrap_or(u64::MAX),
            slow: self.slow_clients(),
            rooms: self.large_rooms(),
            trace: look.traced.and_then(|client| trace::captured(&client)),
        }
    }

    fn slow_clients(&mut self) -> Vec<SlowClient> {
        if self.owed.bytes() == 0 {
            return Vec::new();
        }
        let Tables { sessions, connections, slow_survey, .. } = &mut *self;
        let owed = |session: &Session| {
            let queued = match session.link {
                Link::Polling { .. } => session.backlog.len(),
                Link::WebSocket(key) => connections.get(key).map_or(0, |connection| connection.outbox.len()),
            };
            (queued + session.parked.as_ref().map_or(0, |parked| parked.bytes)) as u64
        };
        let found = slow_survey.largest(sessions, owed);
        let described = found.into_iter().filter_map(|(key, owed_bytes)| {
            let session = self.sessions.get(key)?;
            let socket = session.sockets.first().and_then(|(_, socket)| self.sockets.get(*socket));
            Some(SlowClient {
                client: socket.map(|socket| socket.sid),
                shard: self.env.id.index(),
                address: session.handshake.address().map_or_else(|| "unix".to_owned(), |ip| ip.to_string()),
                transport: match session.link {
                    Link::Polling { .. } => "polling",
                    Link::WebSocket(_) => "websocket",
                },
                owed_bytes,
            })
        });
        described.collect()
    }

    fn large_rooms(&mut self) -> Vec<RoomSize> {
        let Tables { rooms, namespaces, room_survey, .. } = &mut *self;
        let found = room_survey.largest(rooms, |room| if room.is_alias { 0 } else { room.present() });
        let described = found.into_iter().filter_map(|(key, members)| {
            let room = rooms.get(key)?;
            let address = &namespaces[room.namespace].namespace.address;
            Some(RoomSize {
                namespace: format!("{}{}", address.endpoint().unwrap_or_default(), address.name()),
                room: room.name.chars().take(ROOM_SHOWN_CHARS).collect(),
                members,
            })
        });
        described.collect()
    }
}
