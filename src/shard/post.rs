//! A POST of a polling session: its packets, in as many shares of a turn as they need, and its answer.

use crate::base::log::ENGINEIO;
use crate::base::slab::Key;
use crate::protocol::engineio::polling::{PollForm, Posted};
use crate::protocol::http::head::Head;
use crate::protocol::http::response::Response;
use crate::protocol::http::status::Status;
use crate::shard::Shard;
use crate::shard::session::{CloseReason, Link};

/// A POST with more packets than its connection's share of one turn.
#[derive(Debug)]
pub(crate) struct PendingPost {
    session: Key,
    posted: Posted<'static>,
    /// Where the next packet begins.
    at: usize,
}

impl PendingPost {
    /// Bytes that wait to be handled, and those that are.
    pub(crate) fn len_bytes(&self) -> usize {
        self.posted.len_bytes()
    }
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
            core.counters.requests_refused.add(1);
            core.respond(key, &Response::new(Status::BAD_REQUEST));
            drop(core);
            self.close_session(session_key, CloseReason::TransportError);
            return;
        };
        let (at, fault) = self.receive_packets(key, session_key, &posted, 0);
        match at {
            None => self.finish_post(key, session_key, fault),
            Some(at) => {
                let post = PendingPost { session: session_key, posted: posted.into_owned(), at };
                let mut core = self.core.borrow_mut();
                if let Some(http) = core.http_mut(key) {
                    http.post = Some(Box::new(post));
                    core.wait_turn(key);
                    core.count_partial(key);
                }
            }
        }
    }

    /// Handles the packets of a POST from a place on. Returns where to go on, if this turn's share is used up before its end,
    /// and what is wrong with the packet at which it ended.
    fn receive_packets(
        &mut self,
        key: Key,
        session_key: Key,
        posted: &Posted<'_>,
        mut at: usize,
    ) -> (Option<usize>, Option<CloseReason>) {
        while let Some((packet, next)) = posted.packet_at(at) {
            // What came before it, and still waits for a socket of the session, goes first.
            if self.core.borrow().sessions.get(session_key).is_some_and(|session| session.share.is_queued) {
                return (Some(at), None);
            }
            let Ok(packet) = packet else { return (None, Some(CloseReason::ParseError)) };
            at = next;
            self.receive_packet(session_key, packet);
            self.settle();
            let mut core = self.core.borrow_mut();
            if !core.is_session_live(session_key) {
                break;
            }
            if !core.take_packet(key) && posted.packet_at(at).is_some() {
                return (Some(at), None);
            }
        }
        (None, None)
    }

    /// Goes on with a POST whose packets are not all handled. True when there is more of it still.
    pub(crate) fn continue_post(&mut self, key: Key) -> bool {
        let post = self.core.borrow_mut().http_mut(key).and_then(|http| http.post.take());
        let Some(mut post) = post else { return false };
        let (at, fault) = if self.core.borrow().is_session_live(post.session) {
            self.receive_packets(key, post.session, &post.posted, post.at)
        } else {
            (None, None)
        };
        let Some(at) = at else {
            self.core.borrow_mut().count_partial(key);
            self.finish_post(key, post.session, fault);
            return false;
        };
        post.at = at;
        if let Some(http) = self.core.borrow_mut().http_mut(key) {
            http.post = Some(post);
        }
        true
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
            core.release_post(session_key, key);
            core.respond(key, &response);
        }
        if let Some(reason) = fault {
            self.core.borrow().counters.requests_refused.add(1);
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
        let Some(session) = core.sessions.get_mut(session_key) else { return false };
        let Link::Polling { post, .. } = &mut session.link else { return false };
        match *post {
            Some(other) if other != key => {
                // The body may still be on its way: the connection is of no further use.
                core.counters.requests_refused.add(1);
                core.respond_and_close(key, &Response::new(Status::BAD_REQUEST));
                core.drop_connection(other);
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
                if let Some(http) = core.http_mut(key) {
                    http.session = Some(session_key);
                }
                true
            }
        }
    }
}
