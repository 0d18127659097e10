//! GETs of polling sessions, and the connections that carry their requests.

use crate::base::log::ENGINEIO;
use crate::base::slab::Key;
use crate::protocol::engineio::polling::PollForm;
use crate::protocol::http::head::Head;
use crate::protocol::http::response::Response;
use crate::protocol::http::status::Status;
use crate::shard::run::Shard;
use crate::shard::run::engine::Admission;
use crate::shard::value::kinds::RequestRefused;
use crate::shard::value::session::{CloseReason, Link};

impl Shard {
    /// A GET of a polling session: it takes what waits, or waits itself.
    pub(crate) fn poll(&mut self, key: Key, (session_key, form): (Key, PollForm)) {
        let mut core = self.core.borrow_mut();
        let Some(session) = core.tables.sessions.get_mut(session_key) else { return };
        let Link::Polling { poll, post } = &mut session.link else { return };
        session.share.polls_beside |= post.is_some();
        if poll.is_some() {
            core.tables.count_refused(RequestRefused::Second);
            core.tables.respond(key, &Response::new(Status::BAD_REQUEST));
            // As Node and the protocol's own suite have it. No stock client comes here.
            core.tables.release_poll(session_key, "1");
            drop(core);
            tracing::info!(
                target: ENGINEIO,
                "session closed: a second poll came while one was pending; a client polls once at a time: \
                 look for a proxy that repeats requests, or two clients with one sid"
            );
            self.close_session(session_key, CloseReason::TransportError);
            return;
        }
        *poll = Some(key);
        session.poll_form = form;
        let is_due = !session.backlog.is_empty() || session.is_over;
        let is_upgrading = session.is_switching();
        if let Some(http) = core.tables.http_mut(key) {
            http.session = Some(session_key);
        }
        if is_due {
            core.tables.mark_poll_due(session_key);
        } else if is_upgrading {
            core.tables.release_poll(session_key, "6");
        }
    }

    /// A POST whose body is not here yet. False when the request is already answered.
    pub(crate) fn begin_post(&mut self, key: Key, endpoint: u8, head: &Head<'_, '_>) -> bool {
        let query = self.engine_query(endpoint, head);
        self.look_at_deadline(&query);
        let Ok(Admission::Post(session, _)) = self.admit(key, endpoint, head, &query) else { return true };
        self.claim_post(key, session)
    }

    /// The connection that carried a session's poll or POST is gone before its time.
    pub(crate) fn carrier_lost(&mut self, session_key: Key, key: Key) {
        let is_carrier = match self.core.borrow().tables.sessions.get(session_key).map(|session| session.link)
        {
            Some(Link::Polling { poll, post }) => poll == Some(key) || post == Some(key),
            _ => false,
        };
        if is_carrier {
            self.close_session(session_key, CloseReason::TransportError);
        }
    }
}
