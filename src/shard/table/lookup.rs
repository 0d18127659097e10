//! Looking things up: sessions and sockets by id, endpoints by path.

use rand_core::RngCore;
use smallvec::SmallVec;

use crate::base::ids::{NodeTag, SID_RANDOM_BYTES, Sid};
use crate::base::sid_index::SidIndex;
use crate::base::slab::{Key, Slab};
use crate::message::address::Address;
use crate::shard::table::Tables;
use crate::shard::value::endpoint::EndpointTable;
use crate::shard::value::recovery::RecoveryState;
use crate::shard::value::session::Session;
use crate::shard::value::socket::{SocketEntry, state_of};

impl Tables {
    /// An endpoint by the number that a session or a request has.
    #[inline]
    pub(crate) fn endpoint(&self, endpoint: u8) -> &EndpointTable {
        &self.env.endpoints[usize::from(endpoint)]
    }

    /// A new id that names this shard, and this process if it is one of several.
    pub(crate) fn new_sid(&mut self) -> Sid {
        let mut bytes = [0; SID_RANDOM_BYTES];
        self.env.random.fill_bytes(&mut bytes);
        if let Some(NodeTag(tag)) = self.mesh.links.tag {
            bytes[..tag.len()].copy_from_slice(&tag);
        }
        Sid::new(self.env.id, bytes)
    }

    /// The session of this shard with that id.
    pub(crate) fn session_by_sid(&self, sid: &Sid) -> Option<Key> {
        let sid_at = |place| self.sessions.at(place).map(|session: &Session| session.sid);
        self.sessions.key_at(self.session_ids.find(sid, sid_at)?)
    }

    /// The place of this shard's socket with that id.
    pub(crate) fn socket_by_sid(&self, sid: &Sid) -> Option<u32> {
        find_socket(&self.socket_ids, &self.sockets, sid)
    }

    /// Whole seconds since 1970.
    pub(crate) fn unix_seconds(&self) -> u64 {
        (self.env.unix_origin + self.env.now.0) / 1000
    }

    /// Notes that a connection is owed bytes. Called before they are queued: what is there is from earlier turns.
    #[inline]
    pub(crate) fn mark_dirty(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.mark_dirty(key, &mut self.effects.dirty);
        }
    }

    /// Notes that a session's poll can be answered at the end of the turn. Called before bytes are queued.
    pub(crate) fn mark_poll_due(&mut self, key: Key) {
        if let Some(session) = self.sessions.get_mut(key) {
            session.mark_poll_due(key, &mut self.effects.polls_due);
        }
    }

    /// The sockets of a session, by namespace.
    pub(crate) fn sockets_of(&self, session: Key) -> SmallVec<[Key; 4]> {
        self.sessions
            .get(session)
            .map(|session| session.sockets.iter().map(|(_, key)| *key).collect())
            .unwrap_or_default()
    }
}

/// The place of the socket with that id, for those who hold parts of the core only.
pub(crate) fn find_socket(ids: &SidIndex, sockets: &Slab<SocketEntry>, sid: &Sid) -> Option<u32> {
    ids.find(sid, |place| sockets.at(place).map(|socket| socket.sid))
}

impl Tables {
    /// Whether a session is open for its peer.
    pub(crate) fn is_session_live(&self, key: Key) -> bool {
        self.sessions.get(key).is_some_and(|session| !session.is_over)
    }

    /// The endpoint at which a session opened.
    pub(crate) fn endpoint_of(&self, session: Key) -> Option<u8> {
        self.sessions.get(session).map(|session| session.endpoint)
    }

    /// The endpoint in whose namespace a socket is.
    pub(crate) fn endpoint_of_socket(&self, key: Key) -> Option<u8> {
        self.sockets.get(key).map(|socket| self.namespaces[socket.namespace].namespace.endpoint)
    }

    /// Whether sockets of that one's endpoint may be recovered.
    pub(crate) fn has_recovery(&self, socket: Key) -> bool {
        self.endpoint_of_socket(socket)
            .is_some_and(|endpoint| self.endpoint(endpoint).settings.has_recovery())
    }

    /// The same for the endpoint of a namespace, which may have no table here. It has no recovery if its endpoint is none of ours.
    pub(crate) fn has_recovery_at(&self, here: Option<u16>, address: &Address) -> bool {
        let endpoint = match here {
            Some(number) => Some(self.namespaces[number].namespace.endpoint),
            None => self.namespaces.endpoint_at(address),
        };
        endpoint.is_some_and(|endpoint| self.endpoint(endpoint).settings.has_recovery())
    }

    /// The endpoint that a path belongs to: of several the one with the longest path.
    pub(crate) fn endpoint_at(&self, path: &str) -> Option<u8> {
        let endpoints = self.env.endpoints.iter().take_while(|endpoint| !endpoint.is_route);
        let paths = endpoints.map(|endpoint| endpoint.options.path.as_str());
        let found = paths.enumerate().filter(|(_, prefix)| path.starts_with(prefix));
        found.max_by_key(|(_, prefix)| prefix.len()).map(|(number, _)| number as u8)
    }

    /// Paths of the endpoints with namespaces; the first is the configuration's own.
    pub(crate) fn socketio_paths(&self) -> Vec<String> {
        let endpoints = self.env.endpoints.iter().filter(|endpoint| !endpoint.is_raw);
        endpoints.map(|endpoint| endpoint.options.path.clone()).collect()
    }

    pub(crate) fn is_absent(&self, key: Key) -> bool {
        self.is_lost(key) || self.sockets.get(key).is_some_and(|socket| socket.is_leaving)
    }

    /// Whether its client may come back.
    pub(crate) fn is_lost(&self, key: Key) -> bool {
        self.sockets.get(key).and_then(state_of).is_some_and(RecoveryState::is_lost)
    }
}
