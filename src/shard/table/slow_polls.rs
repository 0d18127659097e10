//! A session that asks for much by long-polling, and polls slowly: what it sends waits until a poll has taken some of what it is
//! owed (the limits of `outbox_bytes_max`; the same for a WebSocket is in `share`).
//!
//! While more than half of the bound waits for a poll, the rest of the session's POST waits, and so do events that wait behind its
//! handlers. A poll that takes enough lets both go on. Three things keep a client from waiting for itself: one that has only ever
//! polled after its POSTs is not made to wait during a POST; one that switches to a WebSocket has stopped polling, and is not either;
//! any other gets a share of a turn after each [`POST_PAUSE_MAX`] in which it took nothing.

use std::time::Duration;

use crate::base::slab::Key;
use crate::shard::table::Tables;
use crate::shard::value::post::PendingPost;
use crate::shard::value::session::{Link, Session};
use crate::shard::value::share::Pause;

impl Tables {
    /// What the next packet of a session's POST must wait for, if anything.
    pub(crate) fn pause_of_post(&mut self, session_key: Key) -> Option<Pause> {
        let session = self.sessions.get(session_key)?;
        if session.waits_for_poll(self.env.config.outbox_bytes_max) {
            return Some(Pause::Outbox);
        }
        if !self.wait_of_pace(session_key).is_zero() {
            return Some(Pause::Rate);
        }
        if self.waits_outside(session_key) {
            return Some(Pause::Outside);
        }
        let session = self.sessions.get(session_key)?;
        // What came before it, and still waits for a socket of the session, goes first.
        let must_wait = session.share.is_waiting();
        self.resume_input(session_key);
        must_wait.then_some(Pause::Turn)
    }

    /// Keeps what is left of a POST, until it may go on.
    pub(crate) fn keep_post(&mut self, key: Key, post: Box<PendingPost>, pause: Pause) {
        let session_key = post.session;
        let Some(http) = self.http_mut(key) else { return };
        http.post = Some(post);
        match pause {
            Pause::Turn => self.wait_turn(key),
            Pause::Outbox => self.pause_post(key, session_key),
            Pause::Rate => {
                let wait = self.wait_of_pace(session_key);
                self.slow_client(key, wait);
            }
            Pause::Outside => self.wait_outside_at(key),
        }
    }

    /// A share that a session was given although it is owed much is used up.
    pub(crate) fn end_grant(&mut self, session_key: Key) {
        if let Some(session) = self.sessions.get_mut(session_key) {
            session.share.is_granted = false;
        }
    }
}

/// How long a POST waits at a time for a poll that takes something. Far below the five seconds after which some clients give a
/// POST up.
pub(crate) const POST_PAUSE_MAX: Duration = Duration::from_secs(2);

impl Session {
    /// Whether what its client sends must wait until a poll has taken some of the backlog.
    pub(crate) fn waits_for_poll(&self, outbox_bytes_max: usize) -> bool {
        let Link::Polling { post, .. } = self.link else { return false };
        if self.backlog.len() <= outbox_bytes_max / 2 || self.share.is_granted || self.is_over {
            return false;
        }
        post.is_none() || (self.share.polls_beside && !self.is_switching())
    }
}

impl Tables {
    /// A POST, of which something is left, waits for a poll.
    pub(crate) fn pause_post(&mut self, key: Key, session_key: Key) {
        if let (Some(connection), Some(session)) =
            (self.connections.get_mut(key), self.sessions.get_mut(session_key))
        {
            connection.share.is_paused = true;
            session.share.is_paused = true;
            self.arm_connection(key, POST_PAUSE_MAX);
        }
    }

    /// A paused POST has waited for long: its session gets a share, unless its client is still taking the answer to a poll.
    pub(crate) fn end_post_pause(&mut self, key: Key, session_key: Key) {
        let Tables { sessions, connections, .. } = &mut *self;
        let Some(session) = sessions.get_mut(session_key) else { return self.resume_post(key) };
        let last_poll = session.share.last_poll.and_then(|last_poll| connections.get(last_poll));
        if last_poll.is_some_and(|connection| !connection.outbox.is_empty()) {
            if let Some(connection) = connections.get_mut(key) {
                connection.share.note_sign_of_life();
            }
            return self.arm_connection(key, POST_PAUSE_MAX);
        }
        session.share.is_granted = true;
        self.resume_input(session_key);
        // In case that its session does not know of it any more.
        self.resume_post(key);
    }

    /// What a session sends may have a reason less to wait.
    pub(crate) fn look_at_pause(&mut self, session_key: Key) {
        let bytes_max = self.env.config.outbox_bytes_max;
        let session = self.sessions.get(session_key);
        if session.is_some_and(|session| session.share.is_paused && !session.waits_for_poll(bytes_max)) {
            self.resume_input(session_key);
        }
    }

    /// A poll has taken something from a session whose input waits for that: its client is alive, and its POST may wait anew.
    #[cold]
    pub(crate) fn note_poll_of_paused(&mut self, session_key: Key) {
        if let Some(Link::Polling { post: Some(key), .. }) =
            self.sessions.get(session_key).map(|session| session.link)
            && let Some(connection) = self.connections.get_mut(key)
            && connection.share.is_paused
        {
            connection.share.note_sign_of_life();
            self.arm_connection(key, POST_PAUSE_MAX);
        }
        self.look_at_pause(session_key);
    }

    /// What a session sends goes on: first the events that wait behind its handlers, then its POST.
    pub(crate) fn resume_input(&mut self, session_key: Key) {
        let Some(session) = self.sessions.get_mut(session_key) else { return };
        if !std::mem::take(&mut session.share.is_paused) {
            return;
        }
        let link = session.link;
        self.queue_session(session_key);
        if let Link::Polling { post: Some(key), .. } = link {
            self.resume_post(key);
        }
    }

    fn resume_post(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key)
            && std::mem::take(&mut connection.share.is_paused)
        {
            self.wait_turn(key);
        }
    }
}
