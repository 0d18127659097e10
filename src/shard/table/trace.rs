//! Whose packets the log shows.

use crate::base::ids::Sid;
use crate::base::log::{ENGINEIO, TRACE};
use crate::shard::table::Tables;
use crate::shard::value::session::Link;
use crate::shard::value::trace::capture;

impl Tables {
    /// Starts or ends the trace of the session with this id, or of the one that a socket with this id belongs to.
    pub(crate) fn trace(&mut self, sid: &Sid, is_on: bool) {
        let of_socket = || {
            let place = self.socket_by_sid(sid)?;
            Some(self.sockets.at(place)?.session)
        };
        let Some(key) = self.session_by_sid(sid).or_else(of_socket) else {
            tracing::warn!(target: ENGINEIO, sid = %sid.brief(), "not traced: there is no such session; it may have ended");
            return;
        };
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.is_traced = is_on;
        let (session_id, link) = (session.sid, session.link);
        if let Link::WebSocket(connection) = link
            && let Some(connection) = self.connections.get_mut(connection)
        {
            connection.is_traced = is_on;
        }
        capture(*sid, session_id, is_on, self.env.unix_origin);
        tracing::info!(target: TRACE, session = %session_id.brief(), is_on, "trace");
    }
}
