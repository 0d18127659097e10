//! The result: what is written as JSON, and the warnings that belong to the numbers. The table is in `table.rs`.
//!
//! Every number's name ends with its unit, or is a count; docs/benchmarking.md has them all. [`SCHEMA`] changes when one gets another
//! meaning or name or goes away, not when one is added. Server CPU is what the kernel charged to the process; on a virtual machine whose
//! core is shared, long system calls may be charged to others, so compare two servers only by runs in the same minute.

use serde::{Deserialize, Serialize};

use super::clock;
use super::generator::Run;
use super::ledger::Findings;
use super::limits::{BUSY_SHARE_WARN, LAG_WARN};
use super::measure::{Percentile, Quantiles, percentiles};
use super::options::{Loop, MaskKind, Options, Parser, Revision, Scenario, Transport};
use super::process;
use super::series::Interval;
use super::threshold::Judgement;
use super::workload::{DashboardCounts, Special, StormCounts, TickCounts};

/// The name of this form of result.
pub(super) const SCHEMA: &str = "shardcast-bench/1";

/// Everything that is said of one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) schema: String,
    pub(super) version: String,
    pub(super) started_unix_seconds: u64,
    pub(super) ok: bool,
    /// Ctrl-C ended it: the numbers are of what was measured so far.
    pub(super) is_interrupted: bool,
    pub(super) scenario: Scenario,
    pub(super) url: String,
    pub(super) event: Option<String>,
    pub(super) transport: Transport,
    pub(super) parser: Parser,
    /// Of Engine.IO; results from before this was an option are of 4.
    #[serde(default = "revision_4")]
    pub(super) revision: u8,
    pub(super) mask: MaskKind,
    pub(super) connections: u32,
    pub(super) payload_bytes: usize,
    pub(super) kernel: String,
    pub(super) cpus: usize,
    pub(super) pace: Pace,
    pub(super) in_flight: Option<u32>,
    pub(super) rate_per_second: Option<f64>,
    pub(super) room_size: Option<u32>,
    pub(super) seconds: f64,
    pub(super) connect: Connecting,
    pub(super) sent: u64,
    pub(super) received: u64,
    /// Messages received, or for `connect` and `storm` sessions opened, per second.
    pub(super) per_second: f64,
    pub(super) latency_us: Option<Quantiles>,
    /// Until the last receiver has a closed-loop broadcast.
    pub(super) completion_us: Option<Quantiles>,
    pub(super) slow: Option<Slow>,
    pub(super) storm: Option<Storm>,
    pub(super) ticks: Option<Ticks>,
    pub(super) dashboard: Option<Board>,
    pub(super) generator: Own,
    pub(super) server: Option<Server>,
    pub(super) checks: Findings,
    pub(super) thresholds: Vec<Judgement>,
    pub(super) warnings: Vec<String>,
    pub(super) stages: Vec<Stage>,
    pub(super) percentiles_us: Vec<Percentile>,
    pub(super) intervals: Vec<Interval>,
}

/// What decides when the next message is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Pace {
    /// One that came back.
    Closed,
    /// The clock.
    Open,
    /// Nothing is sent by the clients.
    None,
}

/// How sessions came to be.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Connecting {
    pub(super) sessions: u64,
    pub(super) seconds: f64,
    pub(super) per_second: f64,
    pub(super) time_us: Option<Quantiles>,
}

/// The clients that stopped reading.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Slow {
    pub(super) clients: u32,
    pub(super) closed_by_server: u32,
    pub(super) missing: u64,
    pub(super) latency_us: Option<Quantiles>,
}

/// Returns of everybody.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Storm {
    #[serde(flatten)]
    pub(super) counts: StormCounts,
    /// From the loss of a session until it is back.
    pub(super) back_us: Option<Quantiles>,
}

/// Ticks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Ticks {
    pub(super) hz: u16,
    #[serde(flatten)]
    pub(super) counts: TickCounts,
    /// By how much the time between two ticks differed from their period.
    pub(super) jitter_us: Option<Quantiles>,
}

/// A dashboard.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Board {
    pub(super) hz: u16,
    #[serde(flatten)]
    pub(super) counts: DashboardCounts,
}

/// A part of the run with a rate of its own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Stage {
    pub(super) rate_from_per_second: f64,
    pub(super) rate_to_per_second: f64,
    #[serde(flatten)]
    pub(super) counts: Interval,
}

/// The generator itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Own {
    pub(super) cpu_share: f64,
    pub(super) lag_us: Option<Quantiles>,
}

/// The server's process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Server {
    pub(super) processes: u32,
    pub(super) cpu_seconds: f64,
    pub(super) cpu_share: f64,
    pub(super) cpu_us_per_message: Option<f64>,
    pub(super) rss_before_bytes: u64,
    pub(super) rss_connected_bytes: u64,
    pub(super) rss_end_bytes: u64,
    pub(super) rss_peak_bytes: u64,
    pub(super) rss_per_connection_bytes: Option<f64>,
}

fn revision_4() -> u8 {
    Revision::Four.digit()
}

impl Report {
    /// Puts a run into numbers.
    pub(super) fn new(options: &Options, mut run: Run) -> Self {
        let pace = options.pace();
        let scenario = options.scenario();
        // Counts are of the window as it was planned, or until it ended; the looks at its edges come a little later.
        let seconds = run.measure.until.since(run.measure.from).as_secs_f64().max(1e-9);
        let intervals = run.measure.intervals();
        let stages = stages(options, run.measure.stages());
        let (measure, samples) = (&run.measure, &run.samples);
        let counted = if scenario.counts_sessions() { measure.sessions } else { measure.received };
        let is_open = scenario.has_pace() && matches!(pace, Loop::Open(_));
        let (storm, ticks, dashboard) = special(options, &run);
        Self {
            schema: SCHEMA.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_unix_seconds: run.started_unix_seconds,
            ok: run.outcome.findings.is_clean(),
            is_interrupted: run.is_interrupted,
            scenario,
            url: options.url.clone(),
            event: options.event.clone(),
            transport: options.transport,
            parser: options.parser,
            revision: options.revision.digit(),
            mask: options.mask,
            connections: options.connections,
            payload_bytes: options.payload,
            kernel: process::kernel(),
            cpus: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            pace: Pace::of(scenario, &pace),
            in_flight: match pace {
                Loop::Closed(in_flight) if scenario.has_pace() => Some(in_flight),
                _ => None,
            },
            rate_per_second: match &pace {
                Loop::Open(schedule) if is_open => Some(schedule.peak()),
                _ => None,
            },
            room_size: matches!(scenario, Scenario::Rooms | Scenario::Ticks).then_some(options.room_size),
            seconds,
            connect: Connecting::of(scenario, seconds, &run),
            sent: measure.sent,
            received: measure.received,
            per_second: counted as f64 / seconds,
            latency_us: Quantiles::of(&measure.latency),
            completion_us: Quantiles::of(&measure.completion),
            slow: Slow::of(&run),
            storm,
            ticks,
            dashboard,
            generator: Own {
                cpu_share: samples.own_cpu.as_secs_f64() / samples.window.as_secs_f64().max(1e-9),
                lag_us: Quantiles::of(&measure.lag).filter(|_| is_open),
            },
            server: Server::of(&run, counted),
            checks: run.outcome.findings.clone(),
            thresholds: Vec::new(),
            warnings: Vec::new(),
            stages,
            percentiles_us: distribution(scenario, &run),
            intervals,
        }
        .judged(options, run.is_whole)
    }

    /// With what the conditions and the numbers themselves say.
    fn judged(mut self, options: &Options, is_whole: bool) -> Self {
        self.thresholds = options.fail_if.iter().map(|threshold| threshold.judge(&self)).collect();
        // Who says how many errors there may be does not want the usual answer, but to a run that could not go on.
        if options.fail_if.iter().any(|threshold| threshold.is_about_errors()) && is_whole {
            self.ok = true;
        }
        self.warnings = self.warn(options, &options.pace());
        self
    }

    /// True when a `--fail-if` is true.
    pub(super) fn is_failed(&self) -> bool {
        self.thresholds.iter().any(|judgement| judgement.is_failed)
    }

    fn warn(&self, options: &Options, pace: &Loop) -> Vec<String> {
        let mut warnings = Vec::new();
        let share = self.generator.cpu_share;
        if share >= BUSY_SHARE_WARN {
            warnings.push(format!(
                "the generator used {:.0} % of its core: it, not the server, may be the limit",
                share * 100.0
            ));
        }
        if let Some(lag) = self.generator.lag_us.filter(|lag| lag.p99 > LAG_WARN.as_secs_f64() * 1e6) {
            warnings.push(format!(
                "messages left late: 1 % by more than {:.1} ms; latencies include the generator's own delay",
                lag.p99 / 1e3
            ));
        }
        if let (Loop::Open(schedule), Pace::Open, false) = (pace, self.pace, self.is_interrupted) {
            let before = options.warmup().as_secs_f64();
            let expected = schedule.count_until(before + self.seconds) - schedule.count_until(before);
            let made =
                if self.scenario == Scenario::Connect { self.connect.sessions } else { self.sent } as f64;
            if made < 0.98 * expected && expected >= 50.0 {
                warnings
                    .push(format!("only {made:.0} of {expected:.0} that were due were begun in the window"));
            }
        }
        if self.seconds < 1.0 && self.server.is_some() {
            warnings.push("the window is under 1 s: server CPU is only known to 10 ms".to_owned());
        }
        if self.scenario == Scenario::Stalled && options.stall >= options.window() {
            warnings.push(
                "--stall is not shorter than --duration: the stalled clients had no time to resume"
                    .to_owned(),
            );
        }
        if self.storm.as_ref().is_some_and(|storm| storm.counts.failed > 0)
            && let Some(first) = &self.checks.first
        {
            warnings.push(first.clone());
        }
        if options.insecure {
            warnings.push("--insecure: whoever answered was not asked who it is".to_owned());
        }
        if self.is_interrupted {
            warnings.push("interrupted: the numbers are of what was measured until then".to_owned());
        }
        if cfg!(debug_assertions) {
            warnings.push("this generator is a debug build: use --release".to_owned());
        }
        warnings
    }
}

fn stages(options: &Options, counts: Vec<Interval>) -> Vec<Stage> {
    let mut from = options.rate.unwrap_or(0.0);
    let pairs = options.stages.iter().zip(counts);
    let stage = |(&(_, to), counts): (&(std::time::Duration, f64), Interval)| {
        let stage = Stage { rate_from_per_second: from, rate_to_per_second: to, counts };
        from = to;
        stage
    };
    // One of no length is a jump of the rate, and has no numbers.
    pairs.map(stage).filter(|stage| stage.counts.seconds > 0.0).collect()
}

fn special(options: &Options, run: &Run) -> (Option<Storm>, Option<Ticks>, Option<Board>) {
    let special_us = Quantiles::of(&run.measure.special);
    match run.outcome.special {
        Special::None => (None, None, None),
        Special::Storm(counts) => (Some(Storm { counts, back_us: special_us }), None, None),
        Special::Ticks(counts) => (None, Some(Ticks { hz: options.hz, counts, jitter_us: special_us }), None),
        Special::Dashboard(counts) => (None, None, Some(Board { hz: options.hz, counts })),
    }
}

fn distribution(scenario: Scenario, run: &Run) -> Vec<Percentile> {
    percentiles(match scenario {
        Scenario::Storm => &run.measure.special,
        Scenario::Connect | Scenario::Idle => &run.measure.connect,
        _ => &run.measure.latency,
    })
}

impl Pace {
    fn of(scenario: Scenario, pace: &Loop) -> Self {
        match pace {
            _ if !scenario.has_pace() => Self::None,
            Loop::Open(_) => Self::Open,
            Loop::Closed(_) => Self::Closed,
        }
    }
}

impl Slow {
    fn of(run: &Run) -> Option<Self> {
        let outcome = &run.outcome;
        (outcome.slow_clients > 0).then(|| Self {
            clients: outcome.slow_clients,
            closed_by_server: outcome.slow_closed,
            missing: outcome.slow_missing,
            latency_us: Quantiles::of(&run.measure.slow_latency),
        })
    }
}

impl Connecting {
    fn of(scenario: Scenario, seconds: f64, run: &Run) -> Self {
        let (measure, samples) = (&run.measure, &run.samples);
        let (sessions, seconds, time_us) = match scenario {
            Scenario::Connect => (measure.sessions, seconds, Quantiles::of(&measure.connect)),
            _ => (samples.opened, samples.connecting.as_secs_f64(), samples.connect_us),
        };
        Self { sessions, seconds, per_second: sessions as f64 / seconds.max(1e-9), time_us }
    }
}

impl Server {
    fn of(run: &Run, counted: u64) -> Option<Self> {
        let samples = &run.samples;
        let before = samples.before?;
        let connected = samples.connected.unwrap_or(before);
        let (from, until) = (samples.from.unwrap_or(connected), samples.until.unwrap_or(connected));
        let cpu_seconds = until.cpu.saturating_sub(from.cpu).as_secs_f64();
        let grown = until.rss_bytes as f64 - before.rss_bytes as f64;
        Some(Self {
            processes: until.processes,
            cpu_seconds,
            cpu_share: cpu_seconds / samples.window.as_secs_f64().max(1e-9),
            cpu_us_per_message: (counted > 0).then(|| cpu_seconds * 1e6 / counted as f64),
            rss_before_bytes: before.rss_bytes,
            rss_connected_bytes: connected.rss_bytes,
            rss_end_bytes: until.rss_bytes,
            rss_peak_bytes: samples.rss_peak_bytes,
            rss_per_connection_bytes: (run.open > 0).then(|| grown / f64::from(run.open)),
        })
    }
}

/// Seconds since 1970.
pub(super) fn unix_seconds() -> u64 {
    clock::unix_nanos() / 1_000_000_000
}
