//! What the options mean together: what makes no sense is refused before anything is opened, and the load follows from the rest.

use std::time::Duration;

use super::error::BenchError;
use super::limits::{PAYLOAD_BYTES_MAX, STAGES_MAX, VIEWED_MAX};
use super::options::{Answer, Loop, Options, Parser, Revision, Scenario};
use super::payload::STAMP_BYTES;
use super::schedule::{Schedule, Segment};
use super::ticks;

/// What `rooms` does when no loop is asked for: a usual game server's tick.
const ROOM_EVENTS_PER_SECOND: f64 = 20.0;
/// Traffic before the measurement.
const WARMUP: Duration = Duration::from_secs(2);

impl Scenario {
    /// One publisher, all receive.
    pub(super) fn is_fanout(self) -> bool {
        matches!(self, Self::Fanout | Self::Slow | Self::Stalled)
    }

    /// A share of the clients misbehaves.
    pub(super) fn has_slow(self) -> bool {
        matches!(self, Self::Slow | Self::Stalled)
    }

    /// Sessions are what is counted, and not messages.
    pub(super) fn counts_sessions(self) -> bool {
        matches!(self, Self::Connect | Self::Storm)
    }

    /// Its clients send events as often as the options say.
    pub(super) fn has_pace(self) -> bool {
        !matches!(self, Self::Idle | Self::Storm | Self::Ticks)
    }
}

impl Options {
    /// The scenario; without one, two results are compared and nothing is run.
    pub(super) fn scenario(&self) -> Scenario {
        self.scenario.unwrap_or(Scenario::Idle)
    }

    /// Refuses what makes no sense, before anything is opened.
    pub(super) fn check(&self) -> Result<(), BenchError> {
        let rates = [
            ("--rate", self.rate),
            ("--rate-per-client", self.rate_per_client),
            ("--connect-rate", self.connect_rate),
        ];
        for (name, rate) in rates {
            if rate.is_some_and(|rate| !(1e-3..=1e9).contains(&rate)) {
                return refuse(format!("{name} must be 0.001 to 1,000,000,000 per second"));
            }
        }
        if !(STAMP_BYTES..=PAYLOAD_BYTES_MAX).contains(&self.payload) {
            return refuse(format!("--payload must be {STAMP_BYTES} to {PAYLOAD_BYTES_MAX} bytes"));
        }
        if !(0.0..1.0).contains(&self.slow_share) {
            return refuse(
                "--slow-share must be at least 0 and below 1: the publisher is never slow".to_owned(),
            );
        }
        if self.window().is_zero() {
            return refuse("--duration, or all --stage together, must be longer than nothing".to_owned());
        }
        if !self.namespace.starts_with('/') || self.namespace.contains([',', '"', '\\', '?']) {
            return refuse(format!(
                "--namespace {} must start with a slash and hold no comma",
                self.namespace
            ));
        }
        self.check_loop()?;
        self.check_scenario()
    }

    fn check_loop(&self) -> Result<(), BenchError> {
        let scenario = self.scenario();
        if self.in_flight.is_some() && scenario.is_fanout() {
            return refuse("use --publish-in-flight: only one client publishes".to_owned());
        }
        let has_pace = [
            ("--rate", self.rate.is_some()),
            ("--rate-per-client", self.rate_per_client.is_some()),
            ("--in-flight", self.in_flight.is_some()),
            ("--stage", !self.stages.is_empty()),
            ("--ramp", self.ramp.is_some()),
        ];
        if let Some((name, _)) = has_pace.iter().find(|asked| asked.1 && !scenario.has_pace()) {
            return refuse(format!(
                "{name} has no meaning in `{}`, whose clients send nothing",
                scenario.name()
            ));
        }
        if self.stages.len() > STAGES_MAX {
            return refuse(format!("at most {STAGES_MAX} --stage can be told apart"));
        }
        if !self.stages.is_empty() && self.stages.iter().all(|stage| stage.1 == 0.0) && self.rate.is_none() {
            return refuse("every --stage has a rate of 0: one must have more".to_owned());
        }
        if self.answer == Answer::None && matches!(self.pace(), Loop::Closed(_)) {
            return refuse("--answer none needs --rate, --rate-per-client or --stage: nothing says when to send the next".to_owned());
        }
        if self.ramp.is_some() && scenario == Scenario::Connect && matches!(self.pace(), Loop::Closed(_)) {
            return refuse("`connect` needs --rate for --ramp".to_owned());
        }
        Ok(())
    }

    fn check_scenario(&self) -> Result<(), BenchError> {
        let scenario = self.scenario();
        if self.event.is_some() && scenario != Scenario::Echo {
            return refuse(
                "--event belongs to the scenario `echo`: the others need events that this program can check"
                    .to_owned(),
            );
        }
        if scenario == Scenario::Dashboard && u64::from(self.connections) * u64::from(self.keys) > VIEWED_MAX
        {
            return refuse(format!("--connections times --keys must be at most {VIEWED_MAX}"));
        }
        if scenario == Scenario::Dashboard && matches!(self.pace(), Loop::Closed(_)) {
            return refuse(
                "`dashboard` needs a rate, and no --in-flight: nothing answers a value that is set"
                    .to_owned(),
            );
        }
        if scenario == Scenario::Ticks && self.window() < 2 * ticks::period(self.hz) {
            return refuse("--duration must be longer than two ticks of --hz".to_owned());
        }
        self.check_revision()?;
        if let Some(threshold) =
            self.fail_if.iter().find(|threshold| threshold.needs_pid() && self.pid.is_none())
        {
            return refuse(format!("--fail-if {threshold} needs --pid, the server's process"));
        }
        Ok(())
    }

    fn check_revision(&self) -> Result<(), BenchError> {
        let scenario = self.scenario();
        if self.recover && scenario != Scenario::Storm {
            return refuse("--recover belongs to the scenario `storm`".to_owned());
        }
        if self.revision == Revision::Four {
            return Ok(());
        }
        let refused = [
            (self.recover, "--recover"),
            (self.auth.is_some(), "--auth"),
            (self.parser == Parser::Msgpack, "--parser msgpack"),
            (scenario == Scenario::Binary, "`binary`"),
            (scenario.has_slow(), "a client that stops"),
        ];
        match refused.iter().find(|refused| refused.0) {
            Some((_, what)) => {
                refuse(format!("{what} needs --revision 4: this program does not know it in revision 3"))
            }
            None => Ok(()),
        }
    }

    /// The loop that the options ask for.
    pub(super) fn pace(&self) -> Loop {
        let scenario = self.scenario();
        let senders = if scenario.is_fanout() { 1.0 } else { f64::from(self.connections) };
        let is_bare = self.in_flight.is_none() && self.stages.is_empty();
        let per_client = self
            .rate_per_client
            .or_else(|| (scenario == Scenario::Rooms && is_bare).then_some(ROOM_EVENTS_PER_SECOND));
        let per_second = self.rate.or_else(|| per_client.map(|rate| rate * senders)).or_else(|| {
            let sets = f64::from(self.keys) * f64::from(self.hz);
            (scenario == Scenario::Dashboard && is_bare).then_some(sets)
        });
        match per_second {
            _ if !self.stages.is_empty() => Loop::Open(self.staged(per_second.unwrap_or(0.0))),
            Some(rate) => Loop::Open(match self.ramp {
                Some(time) => Schedule::of(vec![Segment { time, from: 0.0, to: rate }]),
                None => Schedule::constant(rate),
            }),
            None if scenario.is_fanout() => Loop::Closed(self.publish_in_flight),
            None => Loop::Closed(self.in_flight.unwrap_or(1)),
        }
    }

    fn staged(&self, rate: f64) -> Schedule {
        let warmup = Segment { time: self.warmup(), from: rate, to: rate };
        let mut from = rate;
        let climb = |&(time, to): &(Duration, f64)| {
            let segment = Segment { time, from, to };
            from = to;
            segment
        };
        Schedule::of([warmup].into_iter().chain(self.stages.iter().map(climb)).collect())
    }

    /// The traffic before the measurement.
    pub(super) fn warmup(&self) -> Duration {
        let default = if self.stages.is_empty() { WARMUP } else { Duration::ZERO };
        self.ramp.or(self.warmup).unwrap_or(default)
    }

    /// How long is measured.
    pub(super) fn window(&self) -> Duration {
        if self.stages.is_empty() { self.duration } else { self.stages.iter().map(|stage| stage.0).sum() }
    }

    /// The time within which a closed loop's clients begin.
    pub(super) fn ramp(&self) -> Duration {
        self.ramp.unwrap_or_default()
    }

    /// How many clients, of the highest numbers, stop reading.
    pub(super) fn slow_clients(&self) -> u32 {
        if !self.scenario().has_slow() {
            return 0;
        }
        // At least one when a share was asked for, and never the publisher, which is client 0.
        let slow = (f64::from(self.connections) * self.slow_share).ceil() as u32;
        slow.min(self.connections - 1)
    }
}

fn refuse(text: String) -> Result<(), BenchError> {
    Err(BenchError::Usage(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    fn try_parse(arguments: &str) -> Result<Options, String> {
        use clap::Parser as _;
        let cli = Cli::try_parse_from(["bench"].into_iter().chain(arguments.split(' ')));
        let options = cli.map_err(|error| error.to_string())?.options;
        options.check().map_err(|error| error.to_string())?;
        Ok(options)
    }

    fn parse(arguments: &str) -> Options {
        try_parse(arguments).unwrap()
    }

    #[test]
    fn the_loop_follows_the_scenario() {
        let open = |rate| Loop::Open(Schedule::constant(rate));
        let rows = [
            ("echo", Loop::Closed(1)),
            ("echo -i 4", Loop::Closed(4)),
            ("echo --rate 500", open(500.0)),
            ("echo --connections 10 --rate-per-client 5", open(50.0)),
            ("fanout --publish-in-flight 3", Loop::Closed(3)),
            ("fanout --connections 10 --rate-per-client 5", open(5.0)),
            ("rooms --connections 10", open(200.0)),
            ("rooms --in-flight 2", Loop::Closed(2)),
            ("dashboard --keys 5 --hz 10", open(50.0)),
            ("dashboard --rate 7", open(7.0)),
        ];
        for (arguments, expected) in rows {
            assert_eq!(parse(arguments).pace(), expected, "{arguments}");
        }
    }

    #[test]
    fn stages_are_the_measurement_and_a_ramp_comes_before_it() {
        let staged = parse("echo --stage 1s:100 --stage 2s:100 --stage 0s:300 --stage 1s:300");
        assert_eq!((staged.warmup(), staged.window()), (Duration::ZERO, Duration::from_secs(4)));
        let Loop::Open(schedule) = staged.pace() else { panic!("an open loop") };
        assert_eq!([1.0, 3.0, 4.0].map(|at| schedule.count_until(at)), [50.0, 250.0, 550.0]);
        // With a rate to begin with, and time to warm up.
        let Loop::Open(schedule) = parse("echo --rate 100 --warmup 1s --stage 1s:300").pace() else {
            panic!("an open loop")
        };
        assert_eq!([1.0, 2.0].map(|at| schedule.count_until(at)), [100.0, 300.0]);
        let ramped = parse("echo --rate 100 --ramp 4s");
        assert_eq!((ramped.warmup(), ramped.window()), (Duration::from_secs(4), Duration::from_secs(10)));
        let Loop::Open(schedule) = ramped.pace() else { panic!("an open loop") };
        assert_eq!([2.0, 4.0, 5.0].map(|at| schedule.count_until(at)), [50.0, 200.0, 300.0]);
        assert_eq!(parse("echo --ramp 4s").ramp(), Duration::from_secs(4));
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_says_what_to_change() {
        let rows = [
            ("echo -p 27", "--payload must be"),
            ("echo --rate 0", "--rate must be"),
            ("slow --slow-share 1", "--slow-share"),
            ("echo --duration 0s", "--duration"),
            ("echo --namespace a", "--namespace"),
            ("fanout -i 2", "--publish-in-flight"),
            ("fanout --event chat", "`echo`"),
            ("idle --rate 5", "--rate has no meaning in `idle`"),
            ("storm --stage 1s:5", "--stage has no meaning in `storm`"),
            ("echo --recover", "--recover belongs to the scenario `storm`"),
            ("storm --recover --revision 3", "--recover needs --revision 4"),
            ("binary --revision 3", "`binary` needs --revision 4"),
            ("echo --stage 1s:0", "rate of 0"),
            ("echo --stage 0s:5", "longer than nothing"),
            ("echo --stage 1s:5 --duration 5s", "cannot be used with"),
            ("echo --ramp 1s --warmup 5s", "cannot be used with"),
            ("echo --event a --answer none", "needs --rate"),
            ("echo --answer none", "--event"),
            ("dashboard -i 5", "needs a rate"),
            ("dashboard -c 4000000 --keys 10000", "--connections times --keys"),
            ("ticks --hz 1 --duration 1s", "two ticks"),
            ("echo --fail-if cpu_us>5us", "needs --pid"),
            ("echo --fail-if p98>5ms", "did you mean p9"),
            ("echo --ca a --insecure", "cannot be used with"),
            ("ehco", "echo"),
            ("--rate 5", "SCENARIO"),
        ];
        for (arguments, expected) in rows {
            let refused = try_parse(arguments).err().unwrap_or_default();
            assert!(refused.contains(expected), "{arguments}: {refused}");
        }
        assert_eq!(parse("slow -c 1").slow_clients(), 0);
        assert_eq!(parse("slow -c 100").slow_clients(), 10);
        assert_eq!(parse("--compare a.json b.json").scenario, None);
    }
}
