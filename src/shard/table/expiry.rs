//! Sockets whose right to be there ends: a token that expires.
//!
//! `expiry_grace` before the deadline `on_expiry` is called, so that the client can be asked for a new token; at the deadline the
//! socket is disconnected. A socket has one timer at most, which looks again when it comes too early.

use std::time::Duration;

use crate::base::slab::Key;
use crate::base::time::Time;
use crate::shard::table::Tables;
use crate::shard::value::expiry::Expiry;
use crate::shard::value::socket::SocketState;
use crate::shard::value::wheel::TimerOwner;

/// Deadlines of the wall clock follow it when it is off by more than this, in milliseconds: a token has whole seconds.
const CLOCK_STEP_MILLIS: u64 = 1000;

/// What is to be done about a socket's deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    Ask,
    Refuse,
    End,
}

impl Tables {
    /// Sets or moves a socket's deadline; `NEVER` takes it away.
    pub(crate) fn expire_at(&mut self, key: Key, deadline: Time) {
        let Some(socket) = self.sockets.get_mut(key) else { return };
        let armed = socket.extra.as_ref().and_then(|extra| extra.expiry).map_or(Time::NEVER, |old| old.armed);
        socket.extra_mut().expiry = Some(Expiry { deadline, unix_seconds: None, armed, has_asked: false });
        self.arm_expiry(key);
    }

    /// The same for a time of the wall clock, in seconds since 1970.
    pub(crate) fn expire_at_unix(&mut self, key: Key, unix_seconds: u64) {
        self.expire_at(key, self.time_of_unix(unix_seconds));
        let extra = self.sockets.get_mut(key).and_then(|socket| socket.extra.as_mut());
        if let Some(expiry) = extra.and_then(|extra| extra.expiry.as_mut()) {
            expiry.unix_seconds = Some(unix_seconds);
        }
    }

    fn time_of_unix(&self, unix_seconds: u64) -> Time {
        self.env.now + Duration::from_secs(unix_seconds.saturating_sub(self.unix_seconds()))
    }

    /// The time of the wall clock now. What was measured stays as it is: pings, sleepers, the rest of a token's life.
    pub(crate) fn set_wall_clock(&mut self, unix_millis: u64) {
        self.env.unix_origin = unix_millis.saturating_sub(self.env.now.0);
        if self.env.unix_origin.abs_diff(self.env.expiry_origin) > CLOCK_STEP_MILLIS {
            tracing::info!(unix_millis, "the wall clock was set: tokens expire by its new time");
            self.env.expiry_origin = self.env.unix_origin;
            self.follow_wall_clock();
        }
    }

    fn follow_wall_clock(&mut self) {
        for key in self.sockets.keys().collect::<Vec<_>>() {
            let extra = self.sockets.get(key).and_then(|socket| socket.extra.as_ref());
            let expiry = extra.and_then(|extra| extra.expiry.as_ref());
            if let Some(unix_seconds) = expiry.and_then(|expiry| expiry.unix_seconds) {
                self.expire_at_unix(key, unix_seconds);
            }
        }
    }

    fn arm_expiry(&mut self, key: Key) {
        let grace = self.env.config.expiry_grace;
        let extra = self.sockets.get_mut(key).and_then(|socket| socket.extra.as_mut());
        let Some(expiry) = extra.and_then(|extra| extra.expiry.as_mut()) else { return };
        let next = if expiry.has_asked { expiry.deadline } else { expiry.deadline.before(grace) };
        if next < expiry.armed {
            expiry.armed = next;
            self.wheel.arm(TimerOwner::Expiry(key), next);
        }
    }

    /// A timer has come. One that was armed for an earlier deadline only looks.
    pub(crate) fn look_at_expiry(&mut self, key: Key, armed: Time) -> Due {
        let (now, grace) = (self.env.now, self.env.config.expiry_grace);
        let Some(socket) = self.sockets.get_mut(key) else { return Due::Nothing };
        let state = socket.state;
        let Some(expiry) = socket.extra.as_mut().and_then(|extra| extra.expiry.as_mut()) else {
            return Due::Nothing;
        };
        if expiry.armed != armed {
            return Due::Nothing;
        }
        expiry.armed = Time::NEVER;
        let is_over = now >= expiry.deadline;
        let due = match state {
            SocketState::Closed => Due::Nothing,
            SocketState::Connecting if is_over => Due::Refuse,
            SocketState::Open | SocketState::Undecided if is_over => Due::End,
            SocketState::Open if !expiry.has_asked && now >= expiry.deadline.before(grace) => Due::Ask,
            _ => Due::Nothing,
        };
        // While its connect handler decides there is nobody to ask.
        expiry.has_asked |= due == Due::Ask || !state.is_decided();
        if !is_over && state != SocketState::Closed {
            self.arm_expiry(key);
        }
        due
    }
}
