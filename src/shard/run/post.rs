//! A POST of a polling session: its packets, in as many shares of a turn as they need, and its answer.

use crate::base::log::ENGINEIO;
use crate::base::slab::Key;
use crate::protocol::engineio::polling::{PollForm, Posted};
use crate::protocol::http::head::Head;
use crate::protocol::http::response::Response;
use crate::protocol::http::status::Status;
use crate::shard::run::Shard;
use crate::shard::value::kinds::RequestRefused;
use crate::shard::value::post::PendingPost;
use crate::shard::value::session::{CloseReason, Link};
use crate::shard::value::share::Pause;

/// How far the packets of a POST are handled.
pub(crate) enum Received {
    All,
    /// What is wrong with the packet at which it ended.
    Fault(CloseReason),
    /// Where to go on, and what that waits for.
    UpTo(usize, Pause),
}

impl Shard {
    /// A POST of a polling session: packets from the client.
    pub(crate) fn post(
        &mut self,
        key: Key,
        head: &Head<'_, '_>,
        (session_key, form): (Key, PollForm),
        body: &[u8],
    ) {
        if !self.claim_post(key, session_key) {
            return;
        }
        let content_type = head.headers.get("content-type").unwrap_or_default();
        let Some(posted) = Posted::read(body, content_type, form) else {
            tracing::info!(
                target: ENGINEIO,
                content_type,
                "session closed: a POST's body is no text; Engine.IO 4 sends text/plain in UTF-8, binary in base64"
            );
            let mut core = self.core.borrow_mut();
            core.tables.count_refused(RequestRefused::Malformed);
            core.tables.respond(key, &Response::new(Status::BAD_REQUEST));
            drop(core);
            self.close_session(session_key, CloseReason::TransportError);
            return;
        };
        match self.receive_packets(key, session_key, &posted, 0) {
            Received::All => self.finish_post(key, session_key, None),
            Received::Fault(fault) => self.finish_post(key, session_key, Some(fault)),
            Received::UpTo(at, pause) => {
                let post = PendingPost { session: session_key, posted: posted.into_owned(), at };
                let mut core = self.core.borrow_mut();
                core.tables.keep_post(key, Box::new(post), pause);
                core.tables.count_partial(key);
                // An answer to a ping may be in what waits for us.
                if let Some(connection) = core.tables.connections.get_mut(key) {
                    connection.share.note_sign_of_life();
                }
            }
        }
    }

    /// Handles the packets of a POST from a place on.
    fn receive_packets(
        &mut self,
        key: Key,
        session_key: Key,
        posted: &Posted<'_>,
        mut at: usize,
    ) -> Received {
        while let Some((packet, next)) = posted.packet_at(at) {
            if let Some(pause) = self.core.borrow_mut().tables.pause_of_post(session_key) {
                return Received::UpTo(at, pause);
            }
            let Ok(packet) = packet else { return Received::Fault(CloseReason::ParseError) };
            let len = next - at;
            at = next;
            if self.pace_packet(session_key, len) {
                self.receive_packet(session_key, packet);
            }
            self.settle();
            let mut core = self.core.borrow_mut();
            if !core.tables.is_session_live(session_key) {
                break;
            }
            if posted.packet_at(at).is_none() {
                break;
            }
            if core.tables.is_slowed(key) {
                return Received::UpTo(at, Pause::Rate);
            }
            if !core.tables.take_packet(key) {
                core.tables.end_grant(session_key);
                return Received::UpTo(at, Pause::Turn);
            }
        }
        Received::All
    }

    /// Goes on with a POST whose packets are not all handled. True when there is more of it still.
    pub(crate) fn continue_post(&mut self, key: Key) -> bool {
        let post = self.core.borrow_mut().tables.http_mut(key).and_then(|http| http.post.take());
        let Some(mut post) = post else { return false };
        let is_live = self.core.borrow().tables.is_session_live(post.session);
        let received = match is_live {
            true => self.receive_packets(key, post.session, &post.posted, post.at),
            false => Received::All,
        };
        let fault = match received {
            Received::All => None,
            Received::Fault(fault) => Some(fault),
            Received::UpTo(at, pause) => {
                post.at = at;
                self.core.borrow_mut().tables.keep_post(key, post, pause);
                return true;
            }
        };
        self.core.borrow_mut().tables.count_partial(key);
        self.finish_post(key, post.session, fault);
        false
    }

    /// Answers a POST once its packets are handled.
    fn finish_post(&mut self, key: Key, session_key: Key, fault: Option<CloseReason>) {
        let response = if fault.is_some() {
            Response::new(Status::BAD_REQUEST)
        } else {
            Response::html("ok").header("cache-control", "no-store")
        };
        {
            let mut core = self.core.borrow_mut();
            core.tables.release_post(session_key, key);
            // The next request on it may be another client's, behind a proxy.
            core.tables.let_on(key);
            core.tables.respond(key, &response);
        }
        if let Some(reason) = fault {
            self.core.borrow().tables.count_refused(RequestRefused::Malformed);
            tracing::info!(
                target: ENGINEIO,
                "session closed: a POST holds something that is no packet; the client must speak Engine.IO 4"
            );
            self.close_session(session_key, reason);
        }
    }

    /// Makes a connection the one that carries a session's POST. Two at once end the session, as in Node.
    pub(crate) fn claim_post(&mut self, key: Key, session_key: Key) -> bool {
        let mut core = self.core.borrow_mut();
        let Some(session) = core.tables.sessions.get_mut(session_key) else { return false };
        let Link::Polling { poll, post } = &mut session.link else { return false };
        match *post {
            Some(other) if other != key => {
                // The body may still be on its way: the connection is of no further use.
                core.tables.count_refused(RequestRefused::Second);
                core.tables.respond_and_close(key, &Response::new(Status::BAD_REQUEST));
                core.tables.drop_connection(other);
                drop(core);
                tracing::info!(
                    target: ENGINEIO,
                    "session closed: a second POST came while one was being read; a client sends one at a time: \
                     look for a proxy that repeats requests, or two clients with one sid"
                );
                self.close_session(session_key, CloseReason::TransportError);
                false
            }
            _ => {
                *post = Some(key);
                session.share.polls_beside |= poll.is_some();
                if let Some(http) = core.tables.http_mut(key) {
                    http.session = Some(session_key);
                }
                true
            }
        }
    }
}
