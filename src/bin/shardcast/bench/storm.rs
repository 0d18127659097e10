//! `storm`: all sessions are lost at once and come back at once, as after a server's restart or a network's failure.
//!
//! A client that is refused waits as a stock client does: 1 s, then twice as long each time up to 5 s, by chance up to half more or less
//! (socket.io-client: `reconnectionDelay`, `reconnectionDelayMax`, `randomizationFactor`). If the server asks for longer, by `Retry-After`,
//! it waits for that, which a page's client cannot: `--ignore-retry-after` is one of these. How long a session was away counts from its
//! loss, whatever it waited for.
//!
//! With `--recover` clients come back as who they were. A broadcast that all have received before the storm is what they name as the last
//! one that they have; the first that is back sends another one, which all that are recovered must receive once, whenever they come.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::client::Incoming;
use super::clock::Moment;
use super::error::Fault;
use super::ledger::Findings;
use super::packet::EventKind;
use super::payload::PayloadError;
use super::template::mix;
use super::workload::{Command, Cx, Outcome, Special, StormCounts, Verdict, Workload};

/// How long a stock client waits after its first attempt, and at most.
const DELAY_FIRST: Duration = Duration::from_millis(1_000);
const DELAY_MAX: Duration = Duration::from_millis(5_000);
/// The share by which chance makes it longer or shorter.
const DELAY_JITTER: f64 = 0.5;

/// How storms go.
#[derive(Clone, Copy, Debug)]
pub(super) struct StormPlan {
    /// How many clients.
    pub(super) clients: u32,
    /// How often all are lost.
    pub(super) storms: u32,
    /// The time within which they try to come back first.
    pub(super) spread: Duration,
    /// The rest between two storms.
    pub(super) pause: Duration,
    /// `Retry-After` is not looked at.
    pub(super) ignores_retry_after: bool,
    /// Clients come back as who they were.
    pub(super) recovers: bool,
}

/// Sessions that are lost and come back.
pub(super) struct Storm {
    plan: StormPlan,
    counts: StormCounts,
    places: Vec<Place>,
    away: u32,
    /// Attempts that are due.
    attempts: BinaryHeap<Reverse<(Moment, u32)>>,
    next_storm: Moment,
    is_over: bool,
    findings: Findings,
    /// Broadcasts that were sent, and how many clients are to receive the last one and have not.
    said: u64,
    unheard: u32,
    /// The first broadcast of this storm was sent, and all are lost once they have it; or the second one was.
    is_gathering: bool,
    has_called: bool,
}

#[derive(Clone, Copy, Default)]
struct Place {
    /// When it was lost; none while it is there.
    lost: Option<Moment>,
    tries: u32,
    /// The broadcast that it is to receive next; none once it has come back as somebody new, who may have missed some.
    next: Option<u64>,
    /// It is to receive the last broadcast and has not.
    owes: bool,
}

impl Storm {
    /// By this plan.
    pub(super) fn new(plan: StormPlan) -> Self {
        Self {
            plan,
            counts: StormCounts::default(),
            places: vec![Place { next: Some(0), ..Place::default() }; plan.clients as usize],
            away: 0,
            attempts: BinaryHeap::new(),
            next_storm: Moment::NEVER,
            is_over: false,
            findings: Findings::default(),
            said: 0,
            unheard: 0,
            is_gathering: false,
            has_called: false,
        }
    }

    /// One client speaks to all.
    fn broadcast(&mut self, client: u32, cx: &mut Cx<'_>) {
        self.places.iter_mut().for_each(|place| place.owes = true);
        self.unheard = self.plan.clients;
        cx.commands.push(Command::Emit {
            client,
            kind: EventKind::Broadcast,
            sequence: self.said,
            due: cx.now,
        });
        self.said += 1;
    }

    fn heard(&mut self, client: u32, payload: &[u8], cx: &Cx<'_>) {
        let sequence = match cx.payloads.decode(payload) {
            Ok(stamp) => stamp.sequence,
            Err(PayloadError::Foreign) => return self.findings.foreign += 1,
            Err(PayloadError::Altered) => return self.findings.note_altered(client),
        };
        let Some(place) = self.places.get_mut(client as usize) else { return };
        let expected = place.next.unwrap_or(sequence);
        if sequence < expected {
            return self.findings.note_again(client, sequence);
        }
        if sequence > expected {
            let count = sequence - expected;
            self.findings.note_lost(count, || {
                format!("client {client} was recovered and has not received {count} of the broadcasts that it missed")
            });
        }
        self.findings.checked += 1;
        place.next = Some(sequence + 1);
        if sequence + 1 == self.said && std::mem::take(&mut place.owes) {
            self.unheard -= 1;
        }
    }

    /// A client is back as somebody new: what it has missed is not to come.
    fn is_new(&mut self, client: u32) {
        let Some(place) = self.places.get_mut(client as usize) else { return };
        place.next = None;
        self.unheard -= u32::from(std::mem::take(&mut place.owes));
    }

    /// All are back, and have what they were to receive.
    fn rest_if_done(&mut self, now: Moment) {
        if self.counts.storms == 0 || self.away > 0 || self.unheard > 0 || self.is_gathering {
            return;
        }
        self.is_over = self.counts.storms >= self.plan.storms;
        if self.next_storm == Moment::NEVER && !self.is_over {
            self.next_storm = now.after(self.plan.pause);
        }
    }

    fn lose_all(&mut self, cx: &mut Cx<'_>) {
        self.counts.storms += 1;
        self.next_storm = Moment::NEVER;
        (self.is_gathering, self.has_called) = (false, false);
        for client in 0..self.plan.clients {
            cx.commands.push(Command::Lose { client });
            self.leave(client, cx.now, self.plan.spread.mul_f64(chance(client, self.counts.storms, 0)));
        }
    }

    fn leave(&mut self, client: u32, now: Moment, wait: Duration) {
        let Some(place) = self.places.get_mut(client as usize) else { return };
        if place.lost.is_none() {
            (place.lost, place.tries) = (Some(now), 0);
            self.away += 1;
        }
        self.attempts.push(Reverse((now.after(wait), client)));
    }

    /// What a stock client waits before its next attempt.
    fn delay(&mut self, client: u32) -> Duration {
        let storm = self.counts.storms;
        let Some(place) = self.places.get_mut(client as usize) else { return DELAY_MAX };
        let doubled = DELAY_FIRST.saturating_mul(1 << place.tries.min(16)).min(DELAY_MAX);
        place.tries += 1;
        let jitter = (2.0 * chance(client, storm, place.tries) - 1.0) * DELAY_JITTER;
        doubled.mul_f64(1.0 + jitter).min(DELAY_MAX)
    }
}

/// 0 to 1, the same in every run.
fn chance(client: u32, storm: u32, tries: u32) -> f64 {
    (mix(u64::from(client) << 32 ^ u64::from(storm) << 16 ^ u64::from(tries)) >> 11) as f64
        / (1_u64 << 53) as f64
}

impl Workload for Storm {
    fn handle_incoming(&mut self, client: u32, incoming: &Incoming<'_>, cx: &mut Cx<'_>) {
        let is_recovered = match incoming {
            Incoming::Connected { is_recovered } => *is_recovered,
            Incoming::Message(payload) if self.plan.recovers => {
                self.heard(client, payload, cx);
                return self.rest_if_done(cx.now);
            }
            Incoming::Message(_) | Incoming::Event(_) => return self.findings.foreign += 1,
            Incoming::Ack(..) => {
                return self.findings.note_unexpected(client, "an acknowledgement of nothing");
            }
        };
        let lost = self.places.get_mut(client as usize).and_then(|place| place.lost.take());
        let Some(lost) = lost else { return };
        self.findings.checked += 1;
        self.counts.back += 1;
        self.away -= 1;
        cx.measure.note_special(cx.now, cx.now.nanos_since(lost));
        if self.plan.recovers {
            self.counts.recovered += u64::from(is_recovered);
            if !is_recovered {
                self.is_new(client);
            }
            if !std::mem::replace(&mut self.has_called, true) {
                self.broadcast(client, cx);
            }
        }
        self.rest_if_done(cx.now);
    }

    fn handle_start(&mut self, cx: &mut Cx<'_>) {
        self.next_storm = cx.measure.from;
    }

    fn handle_tick(&mut self, cx: &mut Cx<'_>) -> Moment {
        if !cx.is_sending {
            return Moment::NEVER;
        }
        if cx.now >= self.next_storm {
            self.next_storm = Moment::NEVER;
            match self.plan.recovers {
                true => {
                    self.is_gathering = true;
                    self.broadcast(0, cx);
                }
                false => self.lose_all(cx),
            }
        }
        if self.is_gathering && self.unheard == 0 {
            self.lose_all(cx);
        }
        while let Some(&Reverse((due, client))) = self.attempts.peek().filter(|next| next.0.0 <= cx.now) {
            self.attempts.pop();
            self.counts.attempts += 1;
            cx.commands.push(Command::Open { client, due });
        }
        let next = self.attempts.peek().map_or(Moment::NEVER, |next| next.0.0);
        next.min(self.next_storm)
    }

    fn handle_fault(&mut self, client: u32, fault: &Fault, cx: &mut Cx<'_>) -> Verdict {
        if self.counts.storms == 0 {
            return Verdict::Fatal;
        }
        let asked = match fault {
            Fault::Status(429 | 503, _, hint) => {
                self.counts.put_off += 1;
                hint.retry_after.filter(|_| !self.plan.ignores_retry_after).unwrap_or_default()
            }
            _ => {
                self.counts.failed += 1;
                self.findings.remember(|| format!("client {client} could not come back at once: {fault}"));
                Duration::ZERO
            }
        };
        let wait = self.delay(client).max(asked);
        self.leave(client, cx.now, wait);
        Verdict::Tolerated
    }

    fn clients_held(&self) -> u32 {
        self.plan.clients
    }

    fn outstanding(&self) -> u64 {
        0
    }

    fn is_over(&self) -> bool {
        self.is_over
    }

    fn finish(&mut self, is_whole: bool) -> Outcome {
        self.counts.away = u64::from(self.away);
        if is_whole && self.away > 0 {
            let away = self.counts.away;
            self.findings
                .note_lost(away, || format!("{away} sessions were not back when --duration was over"));
        }
        let unheard = self.places.iter().filter(|place| place.owes && place.lost.is_none()).count() as u64;
        if is_whole && unheard > 0 {
            self.findings.note_lost(unheard, || {
                format!(
                    "{unheard} clients have not received the last broadcast: does the server have this event?"
                )
            });
        }
        let findings = std::mem::take(&mut self.findings);
        Outcome { findings, special: Special::Storm(self.counts), ..Outcome::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::http::Hint;
    use crate::bench::measure::Measure;
    use crate::bench::payload::Payloads;

    struct World {
        storm: Storm,
        payloads: Payloads,
        measure: Measure,
        now: Moment,
    }

    impl World {
        fn new(plan: StormPlan) -> Self {
            let mut measure = Measure::new();
            measure.begin(Moment(100), Duration::from_secs(60), &[]);
            Self { storm: Storm::new(plan), payloads: Payloads::new(1, 64, false), measure, now: Moment(100) }
        }

        fn call<T>(&mut self, act: impl FnOnce(&mut Storm, &mut Cx<'_>) -> T) -> (T, Vec<Command>) {
            let mut commands = Vec::new();
            let Self { storm, payloads, measure, now } = self;
            let mut cx = Cx { now: *now, is_sending: true, payloads, measure, commands: &mut commands };
            let result = act(storm, &mut cx);
            (result, commands)
        }

        fn tick(&mut self) -> (Moment, Vec<Command>) {
            self.call(|storm, cx| storm.handle_tick(cx))
        }
    }

    const PLAN: StormPlan = StormPlan {
        clients: 2,
        storms: 2,
        spread: Duration::ZERO,
        pause: Duration::from_secs(1),
        ignores_retry_after: false,
        recovers: false,
    };

    #[test]
    fn all_are_lost_at_once_and_come_back_as_often_as_asked() {
        let mut world = World::new(PLAN);
        world.call(|storm, cx| storm.handle_start(cx));
        for storm in 1..=2 {
            let (_, commands) = world.tick();
            assert_eq!(commands.iter().filter(|c| matches!(c, Command::Lose { .. })).count(), 2);
            assert_eq!(commands.iter().filter(|c| matches!(c, Command::Open { .. })).count(), 2);
            assert!(world.tick().1.is_empty());
            for client in [0, 1] {
                assert!(!world.storm.is_over());
                world.call(|storm, cx| {
                    storm.handle_incoming(client, &Incoming::Connected { is_recovered: false }, cx)
                });
            }
            assert_eq!(world.storm.is_over(), storm == 2);
            assert!(world.tick().1.is_empty(), "it rests");
            world.now = world.now.after(PLAN.pause);
        }
        let outcome = world.storm.finish(true);
        assert!(outcome.findings.is_clean());
        let counts = StormCounts { storms: 2, back: 4, attempts: 4, ..StormCounts::default() };
        assert_eq!(outcome.special, Special::Storm(counts));
    }

    /// A storm with `--recover` of two clients: what comes of it if the second comes back so, and receives these broadcasts.
    fn recover(is_recovered: bool, received: &[u64]) -> (StormCounts, Findings, bool) {
        let mut world = World::new(StormPlan { storms: 1, recovers: true, ..PLAN });
        let say = |world: &mut World, client: u32, sequence: u64| {
            let mut payload = Vec::new();
            world.payloads.encode(&mut payload, 0, sequence, Moment(1));
            world.call(|storm, cx| storm.handle_incoming(client, &Incoming::Message(&payload), cx)).1
        };
        world.call(|storm, cx| storm.handle_start(cx));
        let (_, commands) = world.tick();
        assert!(matches!(commands[..], [Command::Emit { client: 0, sequence: 0, .. }]), "{commands:?}");
        say(&mut world, 0, 0);
        assert!(world.tick().1.is_empty(), "one has not received it");
        say(&mut world, 1, 0);
        assert_eq!(world.tick().1.iter().filter(|c| matches!(c, Command::Lose { .. })).count(), 2);
        let connected = |is_recovered| Incoming::Connected { is_recovered };
        let (_, commands) = world.call(|storm, cx| storm.handle_incoming(0, &connected(true), cx));
        assert!(matches!(commands[..], [Command::Emit { client: 0, sequence: 1, .. }]), "{commands:?}");
        say(&mut world, 0, 1);
        assert!(!world.storm.is_over());
        world.call(|storm, cx| storm.handle_incoming(1, &connected(is_recovered), cx));
        received.iter().for_each(|&sequence| _ = say(&mut world, 1, sequence));
        let is_over = world.storm.is_over();
        let Outcome { findings, special: Special::Storm(counts), .. } = world.storm.finish(true) else {
            panic!("a storm")
        };
        (counts, findings, is_over)
    }

    #[test]
    fn who_is_recovered_receives_what_was_said_meanwhile_once() {
        // Whether it is recovered, what it receives; then whether it is over, and lost and doubled.
        for (is_recovered, received, expected) in [
            (true, &[1][..], (true, 0, 0)),
            (true, &[], (false, 1, 0)),
            (true, &[1, 1], (true, 0, 1)),
            (true, &[0, 1], (true, 0, 1)),
            (false, &[], (true, 0, 0)),
            (false, &[1], (true, 0, 0)),
        ] {
            let (counts, findings, is_over) = recover(is_recovered, received);
            assert_eq!(
                (is_over, findings.lost, findings.duplicated),
                expected,
                "{is_recovered} {received:?}"
            );
            assert_eq!((counts.back, counts.recovered), (2, 1 + u64::from(is_recovered)));
        }
    }

    #[test]
    fn who_is_refused_waits_as_a_stock_client_or_as_long_as_the_server_asks() {
        let busy = |seconds: Option<u64>| {
            let retry_after = seconds.map(Duration::from_secs);
            Fault::Status(503, String::new(), Hint { retry_after, ..Hint::default() })
        };
        // Which fault, whether Retry-After is ignored, and the bounds of the first wait in milliseconds.
        let rows = [
            (Fault::Closed(None), false, 500..1_501),
            (busy(None), false, 500..1_501),
            (busy(Some(7)), false, 7_000..7_001),
            (busy(Some(7)), true, 500..1_501),
        ];
        for (fault, ignores_retry_after, expected) in rows {
            let mut world = World::new(StormPlan { clients: 1, ignores_retry_after, ..PLAN });
            world.call(|storm, cx| storm.handle_start(cx));
            world.tick();
            let (verdict, _) = world.call(|storm, cx| storm.handle_fault(0, &fault, cx));
            assert_eq!(verdict, Verdict::Tolerated);
            let (due, _) = world.tick();
            let millis = due.since(world.now).as_millis() as u64;
            assert!(expected.contains(&millis), "{fault}: {millis} ms");
            assert_eq!(world.storm.counts.put_off, u64::from(matches!(fault, Fault::Status(..))));
        }
        let mut world = World::new(StormPlan { clients: 1, ..PLAN });
        world.call(|storm, cx| storm.handle_start(cx));
        world.tick();
        for _ in 0..40 {
            let wait = world.storm.delay(0);
            assert!((Duration::from_millis(500)..=DELAY_MAX).contains(&wait), "{wait:?}");
        }
        assert_eq!(world.storm.finish(true).findings.lost, 1, "it is not back");
    }
}
