//! What differs for sessions of Socket.IO 1.x and 2.x, as the tables know it.

use crate::base::slab::Key;
use crate::protocol::engineio::payload3;
use crate::protocol::engineio::revision::Revision;
use crate::shard::table::Tables;

/// The namespace that clients of revision 3 are in without asking.
pub(crate) const DEFAULT_NAMESPACE: &str = "/";

impl Tables {
    pub(crate) fn is_revision_3(&self, session: Key) -> bool {
        self.sessions.get(session).is_some_and(|session| session.poll_form.revision == Revision::Three)
    }

    /// The message of a binary frame: revision 3 has a type in front of it. `None` if that is no message's.
    pub(crate) fn untyped<'a>(&self, session: Key, frame: &'a [u8]) -> Option<&'a [u8]> {
        if !self.is_revision_3(session) {
            return Some(frame);
        }
        payload3::message(frame)
    }

    /// A repeated CONNECT to `/` is no fault of a client that was let in before it could ask.
    pub(crate) fn may_repeat_connect(&self, session: Key, namespace: &str) -> bool {
        namespace == DEFAULT_NAMESPACE && self.is_revision_3(session)
    }

    /// The id by which a client of revision 3 knows its socket: its session's, with which anybody could speak for it, so the
    /// socket has another one for the rest of the world.
    pub(crate) fn client_id(&self, socket: Key) -> Option<String> {
        let socket = self.sockets.get(socket).filter(|socket| self.is_revision_3(socket.session))?;
        let name = &self.namespaces[socket.namespace].namespace.name;
        let sid = self.sessions.get(socket.session)?.sid;
        Some(if **name == *DEFAULT_NAMESPACE { sid.to_string() } else { format!("{name}#{sid}") })
    }
}
