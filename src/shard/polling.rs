//! Long-polling: a session's GETs, who carries its requests, and how a pending poll is answered (Engine.IO, "HTTP long-polling").
//!
//! Who may ask at all is decided in `engine`, what a POST brings is in `post`; the bodies are made and read in `protocol/engineio`.

use crate::base::log::ENGINEIO;
use crate::base::slab::Key;
use crate::protocol::engineio::polling::{PollAnswer, PollBody, PollForm};
use crate::protocol::http::coding::Coding;
use crate::protocol::http::head::Head;
use crate::protocol::http::response::Response;
use crate::protocol::http::status::Status;
use crate::shard::Shard;
use crate::shard::core::Core;
use crate::shard::engine::Admission;
use crate::shard::session::{CloseReason, Link};

impl Shard {
    /// A GET of a polling session: it takes what waits, or waits itself.
    pub(crate) fn poll(&mut self, key: Key, (session_key, form): (Key, PollForm)) {
        let mut core = self.core.borrow_mut();
        let Some(session) = core.sessions.get_mut(session_key) else { return };
        let Link::Polling { poll, post } = &mut session.link else { return };
        session.share.polls_beside |= post.is_some();
        if poll.is_some() {
            core.counters.requests_refused.add(1);
            core.respond(key, &Response::new(Status::BAD_REQUEST));
            // As Node and the protocol's own suite have it. No stock client comes here.
            core.release_poll(session_key, "1");
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
        if let Some(http) = core.http_mut(key) {
            http.session = Some(session_key);
        }
        if is_due {
            core.mark_poll_due(session_key);
        } else if is_upgrading {
            core.release_poll(session_key, "6");
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
        let is_carrier = match self.core.borrow().sessions.get(session_key).map(|session| session.link) {
            Some(Link::Polling { poll, post }) => poll == Some(key) || post == Some(key),
            _ => false,
        };
        if is_carrier {
            self.close_session(session_key, CloseReason::TransportError);
        }
    }
}

impl Core {
    /// Frees a session's POST, if `key` carried it.
    pub(crate) fn release_post(&mut self, session_key: Key, key: Key) {
        if let Some(session) = self.sessions.get_mut(session_key)
            && let Link::Polling { post, .. } = &mut session.link
            && *post == Some(key)
        {
            *post = None;
            session.share.is_granted = false;
        }
    }

    /// Answers a pending poll with one packet.
    pub(crate) fn release_poll(&mut self, session_key: Key, packet: &'static str) {
        let Some(form) = self.sessions.get(session_key).map(|session| session.poll_form) else { return };
        if let Some(key) = self.take_poll(session_key) {
            self.respond(key, &poll_response(one_packet(form, packet)));
        }
    }

    /// Answers a pending poll with what waits for it; what is left stays for the next.
    pub(crate) fn answer_poll(&mut self, session_key: Key) {
        let Some(session) = self.sessions.get_mut(session_key) else { return };
        let packets_max = self.endpoints[usize::from(session.endpoint)].options.poll_packets_max;
        session.is_poll_due = false;
        if session.backlog.is_empty() && !session.is_over {
            return;
        }
        let Some(key) = self.take_poll(session_key) else { return };
        let Core { sessions, buffers, owed, .. } = &mut *self;
        let Some(session) = sessions.get_mut(session_key) else { return };
        let mut body = PollBody::new(session.poll_form, session.backlog.len().min(64 * 1024));
        while let Some(front) = session.backlog.front() {
            let (covered, has_room) = body.append_frames(front, packets_max);
            session.backlog.advance(covered, buffers);
            owed.remove(covered);
            if !has_room {
                break;
            }
        }
        let may_compress = session.may_compress;
        session.may_compress &= !session.backlog.is_empty();
        let is_last = session.is_over
            && session.backlog.is_empty()
            && (body.has_room(packets_max) || !session.is_sent_away);
        // Once it is told all it can be, only a client that is switching may still have to hear of the end.
        let is_done = is_last && (session.is_sent_away || !session.is_switching());
        if is_last && session.is_sent_away {
            body.append("1");
        } else if is_last && body.is_empty() {
            body.append("6");
        }
        session.is_told |= is_last;
        let has_waited = session.behind > 0 || session.awaits_drain;
        let is_paused = session.share.is_paused;
        session.share.last_poll = Some(key);
        if !may_compress && let Some(http) = self.http_mut(key) {
            http.framing.coding = Coding::Identity;
        }
        self.respond(key, &poll_response(body.finish()));
        if is_done {
            self.remove_session(session_key);
            return;
        }
        if has_waited {
            self.note_poll_progress(session_key);
        }
        if is_paused {
            self.note_poll_of_paused(session_key);
        }
    }

    fn take_poll(&mut self, session_key: Key) -> Option<Key> {
        match &mut self.sessions.get_mut(session_key)?.link {
            Link::Polling { poll, .. } => poll.take(),
            Link::WebSocket(_) => None,
        }
    }
}

/// A poll's answer that is one packet.
pub(crate) fn one_packet(form: PollForm, packet: &str) -> PollAnswer {
    let mut body = PollBody::new(form, packet.len());
    body.append(packet);
    body.finish()
}

pub(crate) fn poll_response(answer: PollAnswer) -> Response {
    let response = Response::new(Status::OK)
        .header("content-type", answer.content_type)
        .header("cache-control", "no-store")
        .body(answer.body);
    if answer.is_script { response.header("x-content-type-options", "nosniff") } else { response }
}
