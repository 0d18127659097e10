//! What an Engine.IO session does with a packet and with time ("Protocol", "Upgrade", "Heartbeat" of either
//! revision).
//!
//! Two values: a table from packet to [`Step`], and the [`Heartbeat`]. Neither sends nor closes anything;
//! the shard does what they say.

use std::time::Duration;

use crate::base::time::Time;
use crate::protocol::engineio::packet::Packet;
use crate::protocol::engineio::revision::Revision;

/// How a packet reached the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    /// The session's own transport, either kind.
    Transport,
    /// A WebSocket that asks to take over from polling.
    Probe,
}

/// What a packet asks of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step<'a> {
    Ignore,
    Message(&'a str),
    Base64(&'a str),
    Binary(&'a [u8]),
    Pong,
    /// Revision 3, where the client pings: answer it.
    AnswerPing,
    /// The peer says goodbye: "transport close".
    Close,
    /// A ping or pong from the side that does not send it in this revision: "transport error".
    WrongHeartbeat,
    /// Answer `3probe` and release the pending poll.
    AnswerProbe,
    Upgrade,
    /// Not an upgrade after all: close the WebSocket, keep polling.
    FailProbe,
}

/// The session's answer to one packet.
pub(crate) fn step<'a>(revision: Revision, via: Via, packet: Packet<'a>) -> Step<'a> {
    match (via, packet) {
        (Via::Transport, Packet::Message(text)) => Step::Message(text),
        (Via::Transport, Packet::Base64(text)) => Step::Base64(text),
        (Via::Transport, Packet::Binary(bytes)) => Step::Binary(bytes),
        (Via::Transport, Packet::Pong(_)) if revision == Revision::Four => Step::Pong,
        (Via::Transport, Packet::Ping(_)) if revision == Revision::Three => Step::AnswerPing,
        (Via::Transport, Packet::Ping(_) | Packet::Pong(_)) => Step::WrongHeartbeat,
        (Via::Transport, Packet::Close) => Step::Close,
        (Via::Transport, Packet::Open | Packet::Upgrade | Packet::Noop) => Step::Ignore,
        (Via::Probe, Packet::Ping("probe")) => Step::AnswerProbe,
        (Via::Probe, Packet::Upgrade) => Step::Upgrade,
        (Via::Probe, _) => Step::FailProbe,
    }
}

/// A ping this late still counts as sent at its time, so that deadlines do not add up what each was late.
const LATENESS_MAX: Duration = Duration::from_millis(2);

/// What is due when a heartbeat's deadline has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beat {
    NotYet,
    SendPing,
    TimedOut,
}

/// When a ping left, in the milliseconds' lower half: it is answered within weeks, and each session has one.
#[derive(Clone, Copy, Debug)]
struct SentAt(u32);

impl SentAt {
    fn of(time: Time) -> SentAt {
        SentAt(time.0 as u32)
    }

    fn since(self, now: Time) -> Duration {
        Duration::from_millis(u64::from((now.0 as u32).wrapping_sub(self.0)))
    }
}

// Each session has one.
const _: () = assert!(size_of::<Heartbeat>() <= 16);

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// The next ping leaves at `at`.
    Resting { at: Time },
    /// A ping is out; without an answer the session ends at `until`.
    Waiting { until: Time, has_refreshed: bool, sent: SentAt },
    /// Revision 3: the client's ping is due by `until`.
    Listening { until: Time },
}

/// The server's ping and the patience for its answer; or the patience for the client's ping.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heartbeat {
    phase: Phase,
}

/// How often to ping and how long to wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeartbeatTimes {
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    /// Clients are told so much more than the interval: those who ping keep to it.
    pub(crate) grace: Duration,
}

impl HeartbeatTimes {
    /// From one ping to the end of the wait for the next, as clients know it.
    fn client_patience(self) -> Duration {
        self.interval + self.grace + self.timeout
    }
}

impl Heartbeat {
    /// The first ping, whoever sends it, comes one whole interval after the open packet.
    pub(crate) fn new(revision: Revision, times: HeartbeatTimes, now: Time) -> Heartbeat {
        let phase = match revision {
            Revision::Three => Phase::Listening { until: now + times.client_patience() },
            Revision::Four => Phase::Resting { at: now + times.interval },
        };
        Heartbeat { phase }
    }

    /// When to ask `handle_timeout` again.
    pub(crate) fn deadline(&self) -> Time {
        match self.phase {
            Phase::Resting { at } => at,
            Phase::Waiting { until, .. } | Phase::Listening { until } => until,
        }
    }

    /// When the session ends if nothing more is heard of its client.
    pub(crate) fn expiry(&self, times: HeartbeatTimes) -> Time {
        match self.phase {
            Phase::Resting { at } => at + times.timeout,
            Phase::Waiting { until, .. } | Phase::Listening { until } => until,
        }
    }

    /// Any packet shows life: it moves the deadline of an unanswered ping, once per ping, as engine.io 6.6.11 does. In
    /// revision 3 only a ping does, as there.
    #[inline]
    pub(crate) fn receive_packet(&mut self, times: HeartbeatTimes, now: Time) {
        if let Phase::Waiting { has_refreshed: false, sent, .. } = self.phase {
            self.phase = Phase::Waiting { until: now + times.timeout, has_refreshed: true, sent };
        }
    }

    /// The answer: the interval starts again when it arrives. How long it took, if a ping was out.
    pub(crate) fn receive_pong(&mut self, times: HeartbeatTimes, now: Time) -> Option<Duration> {
        let took = match self.phase {
            Phase::Waiting { sent, .. } => Some(sent.since(now)),
            Phase::Resting { .. } | Phase::Listening { .. } => None,
        };
        self.phase = Phase::Resting { at: now + times.interval };
        took
    }

    /// The client's ping: the next is due in time.
    pub(crate) fn receive_ping(&mut self, times: HeartbeatTimes, now: Time) {
        self.phase = Phase::Listening { until: now + times.client_patience() };
    }

    /// Time passed. `stall` is how late this shard itself was: a peer is not punished for our own pause.
    pub(crate) fn handle_timeout(&mut self, times: HeartbeatTimes, now: Time, stall: Duration) -> Beat {
        match self.phase {
            Phase::Resting { at } if at <= now => {
                // What the clock's tick takes away from the deadline is not added to it.
                let sent = at.max(now.before(LATENESS_MAX));
                let (until, sent) = (sent + times.timeout, SentAt::of(now));
                self.phase = Phase::Waiting { until, has_refreshed: false, sent };
                Beat::SendPing
            }
            Phase::Waiting { until, has_refreshed, sent } if until <= now => {
                if stall.is_zero() {
                    return Beat::TimedOut;
                }
                self.phase = Phase::Waiting { until: now + stall, has_refreshed, sent };
                Beat::NotYet
            }
            Phase::Listening { until } if until <= now => {
                if stall.is_zero() {
                    return Beat::TimedOut;
                }
                self.phase = Phase::Listening { until: now + stall };
                Beat::NotYet
            }
            _ => Beat::NotYet,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: HeartbeatTimes = HeartbeatTimes {
        interval: Duration::from_millis(300),
        timeout: Duration::from_millis(200),
        grace: Duration::ZERO,
    };

    #[test]
    fn every_packet_has_one_step_on_each_way_in() {
        let rows: &[(Packet<'_>, Step<'_>, Step<'_>)] = &[
            (Packet::Open, Step::Ignore, Step::FailProbe),
            (Packet::Close, Step::Close, Step::FailProbe),
            (Packet::Ping(""), Step::WrongHeartbeat, Step::FailProbe),
            (Packet::Ping("probe"), Step::WrongHeartbeat, Step::AnswerProbe),
            (Packet::Pong(""), Step::Pong, Step::FailProbe),
            (Packet::Message("2[]"), Step::Message("2[]"), Step::FailProbe),
            (Packet::Base64("AA=="), Step::Base64("AA=="), Step::FailProbe),
            (Packet::Binary(&[1]), Step::Binary(&[1]), Step::FailProbe),
            (Packet::Upgrade, Step::Ignore, Step::Upgrade),
            (Packet::Noop, Step::Ignore, Step::FailProbe),
        ];
        for &(packet, on_transport, on_probe) in rows {
            assert_eq!(step(Revision::Four, Via::Transport, packet), on_transport, "{packet:?}");
            let on_transport = match packet {
                Packet::Ping(_) => Step::AnswerPing,
                Packet::Pong(_) => Step::WrongHeartbeat,
                _ => on_transport,
            };
            assert_eq!(step(Revision::Three, Via::Transport, packet), on_transport, "{packet:?}");
            for revision in [Revision::Three, Revision::Four] {
                assert_eq!(step(revision, Via::Probe, packet), on_probe, "{packet:?}");
            }
        }
    }

    #[test]
    fn a_silent_session_is_gone_one_interval_and_one_timeout_after_it_opened() {
        let mut beat = Heartbeat::new(Revision::Four, TIMES, Time(0));
        assert_eq!(beat.handle_timeout(TIMES, Time(299), Duration::ZERO), Beat::NotYet);
        assert_eq!(beat.handle_timeout(TIMES, Time(300), Duration::ZERO), Beat::SendPing);
        assert_eq!(beat.deadline(), Time(500));
        assert_eq!(beat.handle_timeout(TIMES, Time(499), Duration::ZERO), Beat::NotYet);
        assert_eq!(beat.handle_timeout(TIMES, Time(500), Duration::ZERO), Beat::TimedOut);
    }

    #[test]
    fn a_pong_starts_the_interval_again_when_it_arrives() {
        let mut beat = Heartbeat::new(Revision::Four, TIMES, Time(0));
        beat.handle_timeout(TIMES, Time(300), Duration::ZERO);
        assert_eq!(beat.receive_pong(TIMES, Time(410)), Some(Duration::from_millis(110)));
        assert_eq!(beat.deadline(), Time(710));
        assert_eq!(beat.receive_pong(TIMES, Time(420)), None, "no ping is out");
        // The milliseconds' lower half begins anew after 49 days.
        let mut beat = Heartbeat::new(Revision::Four, TIMES, Time((1 << 32) - 305));
        beat.handle_timeout(TIMES, Time((1 << 32) - 5), Duration::ZERO);
        assert_eq!(beat.receive_pong(TIMES, Time((1 << 32) + 7)), Some(Duration::from_millis(12)));
    }

    #[test]
    fn other_traffic_refreshes_an_unanswered_ping_once() {
        let mut beat = Heartbeat::new(Revision::Four, TIMES, Time(0));
        beat.receive_packet(TIMES, Time(100));
        assert_eq!(beat.deadline(), Time(300), "nothing to refresh while no ping is out");
        beat.handle_timeout(TIMES, Time(300), Duration::ZERO);
        beat.receive_packet(TIMES, Time(450));
        assert_eq!(beat.deadline(), Time(650));
        beat.receive_packet(TIMES, Time(600));
        assert_eq!(beat.deadline(), Time(650));
    }

    #[test]
    fn in_revision_3_nothing_but_a_ping_keeps_a_session() {
        let mut beat = Heartbeat::new(Revision::Three, TIMES, Time(0));
        beat.receive_packet(TIMES, Time(100));
        assert_eq!(beat.deadline(), Time(500));
        beat.receive_ping(TIMES, Time(300));
        assert_eq!(beat.handle_timeout(TIMES, Time(500), Duration::ZERO), Beat::NotYet);
        assert_eq!(beat.handle_timeout(TIMES, Time(800), Duration::from_millis(50)), Beat::NotYet);
        assert_eq!(beat.deadline(), Time(850));
        assert_eq!(beat.handle_timeout(TIMES, Time(850), Duration::ZERO), Beat::TimedOut);
    }

    #[test]
    fn our_own_stall_is_not_the_peers_fault() {
        let mut beat = Heartbeat::new(Revision::Four, TIMES, Time(0));
        beat.handle_timeout(TIMES, Time(300), Duration::ZERO);
        assert_eq!(beat.handle_timeout(TIMES, Time(900), Duration::from_millis(400)), Beat::NotYet);
        assert_eq!(beat.deadline(), Time(1300));
        assert_eq!(beat.handle_timeout(TIMES, Time(1300), Duration::ZERO), Beat::TimedOut);
    }
}
