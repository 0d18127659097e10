//! Long-polling: a session's GETs, who carries its requests, and how a pending poll is answered (Engine.IO, "HTTP long-polling").
//!
//! Who may ask at all is decided in `engine`, what a POST brings is in `post`; the bodies are made and read in `protocol/engineio`.

use crate::base::slab::Key;
use crate::protocol::engineio::polling::{PollAnswer, PollBody, PollForm};
use crate::protocol::http::coding::Coding;
use crate::protocol::http::response::Response;
use crate::protocol::http::status::Status;
use crate::shard::table::Tables;
use crate::shard::value::pools::Pools;
use crate::shard::value::session::Link;

impl Tables {
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
        let packets_max = self.env.endpoints[usize::from(session.endpoint)].options.poll_packets_max;
        session.is_poll_due = false;
        if session.backlog.is_empty() && !session.is_over {
            return;
        }
        let Some(key) = self.take_poll(session_key) else { return };
        let Tables { sessions, owed, pools: Pools { buffers, .. }, .. } = &mut *self;
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
