//! Sockets whose right to be there ends: a token that expires.
//!
//! `expiry_grace` before the deadline `on_expiry` is called, so that the client can be asked for a new token; at the deadline the
//! socket is disconnected. A socket has one timer at most, which looks again when it comes too early.

use std::time::Duration;

use crate::base::guard::guarded;
use crate::base::log::SOCKETIO;
use crate::base::slab::Key;
use crate::base::time::Time;
use crate::protocol::socketio::event::Args;
use crate::shard::Shard;
use crate::shard::app::Refused;
use crate::shard::context::{Context, Socket};
use crate::shard::core::Core;
use crate::shard::session::CloseReason;
use crate::shard::socket::SocketState;
use crate::shard::wheel::TimerOwner;

/// When a socket's time is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expiry {
    deadline: Time,
    /// The deadline in seconds since 1970, if it was given so: then it follows the wall clock.
    unix_seconds: Option<u64>,
    /// The earliest entry in the wheel.
    armed: Time,
    has_asked: bool,
}

/// Deadlines of the wall clock follow it when it is off by more than this, in milliseconds: a token has whole seconds.
const CLOCK_STEP_MILLIS: u64 = 1000;

/// What is to be done about a socket's deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Nothing,
    Ask,
    Refuse,
    End,
}

impl Core {
    /// Sets or moves a socket's deadline; `NEVER` takes it away.
    pub(crate) fn expire_at(&mut self, key: Key, deadline: Time) {
        let Some(socket) = self.sockets.get_mut(key) else { return };
        let armed = socket.extra.as_ref().and_then(|extra| extra.expiry).map_or(Time::NEVER, |old| old.armed);
        socket.extra_mut().expiry = Some(Expiry { deadline, unix_seconds: None, armed, has_asked: false });
        self.arm_expiry(key);
    }

    /// The same for a time of the wall clock, in seconds since 1970.
    fn expire_at_unix(&mut self, key: Key, unix_seconds: u64) {
        self.expire_at(key, self.time_of_unix(unix_seconds));
        let extra = self.sockets.get_mut(key).and_then(|socket| socket.extra.as_mut());
        if let Some(expiry) = extra.and_then(|extra| extra.expiry.as_mut()) {
            expiry.unix_seconds = Some(unix_seconds);
        }
    }

    fn time_of_unix(&self, unix_seconds: u64) -> Time {
        self.now + Duration::from_secs(unix_seconds.saturating_sub(self.unix_seconds()))
    }

    /// The time of the wall clock now. What was measured stays as it is: pings, sleepers, the rest of a token's life.
    pub(crate) fn set_wall_clock(&mut self, unix_millis: u64) {
        self.unix_origin = unix_millis.saturating_sub(self.now.0);
        if self.unix_origin.abs_diff(self.expiry_origin) > CLOCK_STEP_MILLIS {
            tracing::info!(unix_millis, "the wall clock was set: tokens expire by its new time");
            self.expiry_origin = self.unix_origin;
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
        let grace = self.config.expiry_grace;
        let extra = self.sockets.get_mut(key).and_then(|socket| socket.extra.as_mut());
        let Some(expiry) = extra.and_then(|extra| extra.expiry.as_mut()) else { return };
        let next = if expiry.has_asked { expiry.deadline } else { expiry.deadline.before(grace) };
        if next < expiry.armed {
            expiry.armed = next;
            self.wheel.arm(TimerOwner::Expiry(key), next);
        }
    }

    /// A timer has come. One that was armed for an earlier deadline only looks.
    fn look_at_expiry(&mut self, key: Key, armed: Time) -> Due {
        let (now, grace) = (self.now, self.config.expiry_grace);
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
            SocketState::Open if is_over => Due::End,
            SocketState::Open if !expiry.has_asked && now >= expiry.deadline.before(grace) => Due::Ask,
            _ => Due::Nothing,
        };
        // While its connect handler decides there is nobody to ask.
        expiry.has_asked |= due == Due::Ask || state == SocketState::Connecting;
        if !is_over && state != SocketState::Closed {
            self.arm_expiry(key);
        }
        due
    }
}

impl Shard {
    /// A socket's deadline, or the grace before it, may have come.
    pub(crate) fn expiry_timeout(&mut self, key: Key, armed: Time) {
        let due = self.core.borrow_mut().look_at_expiry(key, armed);
        let Some(socket) = Socket::of(&self.core, key).filter(|_| due != Due::Nothing) else { return };
        match due {
            Due::Nothing => {}
            Due::Ask => {
                let handlers = self.handlers_of(&socket);
                let Some(on_expiry) = &handlers.expiry else { return };
                let mut cx = Context::new(socket, "expiry", Args::default(), None);
                let done = guarded(|| on_expiry(&mut cx));
                self.watched(|| format!("the expiry handler of {}", cx.namespace()));
                if let Err(panic) = done {
                    tracing::error!(target: SOCKETIO, message = %panic, "an expiry handler panicked");
                    self.core.borrow_mut().counters.handler_panics.add(1);
                }
            }
            Due::Refuse => {
                self.core.borrow_mut().refuse_socket(key, &Refused::new(CloseReason::Expired.as_str()));
            }
            Due::End => {
                tracing::info!(target: SOCKETIO, sid = %socket.id().brief(), "disconnected: its token has expired");
                self.end_socket(key, CloseReason::Expired, true);
            }
        }
    }
}

impl Socket {
    /// Ends this socket after so long, unless it is said again: with the rest of a token's life, in a connect handler.
    ///
    /// `expiry_grace` before, [`on_expiry`](crate::Namespace::on_expiry) is called. At the deadline the client is disconnected from the
    /// namespace, with [`CloseReason::Expired`]; one whose connect handler has not decided is refused.
    pub fn expires_in(&self, life: Duration) {
        let mut core = self.core().borrow_mut();
        let deadline = core.now + life;
        core.expire_at(self.key(), deadline);
    }

    /// The same with the time that a token carries: seconds since 1970, as `exp` of a JSON Web Token. When the machine's clock is
    /// set, the deadline follows it.
    pub fn expires_at(&self, unix_seconds: u64) {
        self.core().borrow_mut().expire_at_unix(self.key(), unix_seconds);
    }

    /// Takes the deadline away.
    pub fn never_expires(&self) {
        self.core().borrow_mut().expire_at(self.key(), Time::NEVER);
    }
}
