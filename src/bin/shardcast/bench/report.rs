//! The result: what is written as JSON, the table, and the warnings that belong to the numbers.
//!
//! Times are in microseconds. Server CPU is what the kernel charged to the process; on a virtual machine
//! whose core is shared, long system calls may be charged to others, so compare two servers only by runs in
//! the same minute.

use std::fmt::{self, Display, Write as _};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::generator::Run;
use super::ledger::Findings;
use super::limits::{BUSY_SHARE_WARN, LAG_WARN};
use super::options::{Loop, MaskKind, Options, Scenario, Transport};
use super::process;

/// Everything that is said of one run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    ok: bool,
    scenario: Scenario,
    url: String,
    transport: Transport,
    mask: MaskKind,
    connections: u32,
    payload_bytes: usize,
    kernel: String,
    /// `closed` or `open`.
    pace: &'static str,
    in_flight: Option<u32>,
    rate: Option<f64>,
    room_size: Option<u32>,
    seconds: f64,
    connect: Connecting,
    sent: u64,
    received: u64,
    /// Messages received, or for `connect` sessions opened, per second.
    per_second: f64,
    latency: Option<Quantiles>,
    /// Until the last receiver has a closed-loop broadcast.
    completion: Option<Quantiles>,
    slow: Option<Slow>,
    generator: Own,
    server: Option<Server>,
    checks: Findings,
    warnings: Vec<String>,
}

/// How sessions came to be.
#[derive(Debug, Serialize)]
struct Connecting {
    sessions: u64,
    seconds: f64,
    per_second: f64,
    time: Option<Quantiles>,
}

/// The clients that stopped reading.
#[derive(Debug, Serialize)]
struct Slow {
    clients: u32,
    closed_by_server: u32,
    missing: u64,
    latency: Option<Quantiles>,
}

/// The generator itself.
#[derive(Debug, Serialize)]
struct Own {
    cpu_share: f64,
    lag: Option<Quantiles>,
}

/// The server's process.
#[derive(Debug, Serialize)]
struct Server {
    processes: u32,
    cpu_seconds: f64,
    cpu_share: f64,
    cpu_us_per_message: Option<f64>,
    rss_before_bytes: u64,
    rss_connected_bytes: u64,
    rss_end_bytes: u64,
    rss_peak_bytes: u64,
    rss_per_connection_bytes: Option<f64>,
}

/// A distribution, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Quantiles {
    count: u64,
    min: f64,
    mean: f64,
    p50: f64,
    p90: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

impl Report {
    /// Puts a run into numbers.
    pub(super) fn new(options: &Options, run: &Run) -> Self {
        let (measure, samples) = (&run.measure, &run.samples);
        let pace = options.pace();
        // Counts are of the window as it was planned; the looks at its edges come a little later.
        let seconds = if run.is_whole { options.duration } else { samples.window }.as_secs_f64().max(1e-9);
        let is_connect = options.scenario == Scenario::Connect;
        let counted = if is_connect { measure.sessions } else { measure.received };
        let connecting = if is_connect { seconds } else { samples.connecting.as_secs_f64() };
        let opened = if is_connect { measure.sessions } else { measure.connect.len() };
        let is_open = matches!(pace, Loop::Open(_));
        let mut report = Self {
            ok: run.outcome.findings.is_clean(),
            scenario: options.scenario,
            url: options.url.clone(),
            transport: options.transport,
            mask: options.mask,
            connections: options.connections,
            payload_bytes: options.payload,
            kernel: process::kernel(),
            pace: if is_open { "open" } else { "closed" },
            in_flight: if let Loop::Closed(in_flight) = pace { Some(in_flight) } else { None },
            rate: if let Loop::Open(rate) = pace { Some(rate) } else { None },
            room_size: (options.scenario == Scenario::Rooms).then_some(options.room_size),
            seconds,
            connect: Connecting {
                sessions: opened,
                seconds: connecting,
                per_second: opened as f64 / connecting.max(1e-9),
                time: Quantiles::of(&measure.connect),
            },
            sent: measure.sent,
            received: measure.received,
            per_second: counted as f64 / seconds,
            latency: Quantiles::of(&measure.latency),
            completion: Quantiles::of(&measure.completion),
            slow: (run.outcome.slow_clients > 0).then(|| Slow {
                clients: run.outcome.slow_clients,
                closed_by_server: run.outcome.slow_closed,
                missing: run.outcome.slow_missing,
                latency: Quantiles::of(&measure.slow_latency),
            }),
            generator: Own {
                cpu_share: samples.own_cpu.as_secs_f64() / samples.window.as_secs_f64().max(1e-9),
                lag: Quantiles::of(&measure.lag).filter(|_| is_open),
            },
            server: Server::of(run, counted),
            checks: run.outcome.findings.clone(),
            warnings: Vec::new(),
        };
        report.warnings = report.warn(options);
        report
    }

    /// True when every message arrived once, in order and whole.
    pub(super) fn is_ok(&self) -> bool {
        self.ok
    }

    fn warn(&self, options: &Options) -> Vec<String> {
        let mut warnings = Vec::new();
        let share = self.generator.cpu_share;
        if share >= BUSY_SHARE_WARN {
            warnings.push(format!(
                "the generator used {:.0} % of its core: it, not the server, may be the limit",
                share * 100.0
            ));
        }
        if let Some(lag) = self.generator.lag.filter(|lag| lag.p99 > LAG_WARN.as_secs_f64() * 1e6) {
            warnings.push(format!(
                "messages left late: 1 % by more than {:.1} ms; latencies include the generator's own delay",
                lag.p99 / 1e3
            ));
        }
        if let (Some(rate), "open") = (self.rate, self.pace) {
            let expected = rate * self.seconds;
            let made =
                if options.scenario == Scenario::Connect { self.connect.sessions } else { self.sent } as f64;
            if made < 0.98 * expected && expected >= 50.0 && options.scenario != Scenario::Idle {
                warnings
                    .push(format!("only {made:.0} of {expected:.0} that were due were begun in the window"));
            }
        }
        if self.seconds < 1.0 && self.server.is_some() {
            warnings.push("the window is under 1 s: server CPU is only known to 10 ms".to_owned());
        }
        if options.scenario == Scenario::Stalled && options.stall >= options.duration {
            warnings.push(
                "--stall is not shorter than --duration: the stalled clients had no time to resume"
                    .to_owned(),
            );
        }
        if cfg!(debug_assertions) {
            warnings.push("this generator is a debug build: use --release".to_owned());
        }
        warnings
    }
}

impl Server {
    fn of(run: &Run, counted: u64) -> Option<Self> {
        let samples = &run.samples;
        let (before, connected) = (samples.before?, samples.connected?);
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

impl Quantiles {
    fn of(histogram: &Histogram<u64>) -> Option<Self> {
        if histogram.is_empty() {
            return None;
        }
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        Some(Self {
            count: histogram.len(),
            min: histogram.min() as f64 / 1e3,
            mean: histogram.mean() / 1e3,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max() as f64 / 1e3,
        })
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_heading(f)?;
        self.write_rates(f)?;
        writeln!(
            f,
            "\n{:<12}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
            "ms", "min", "p50", "p90", "p99", "p99.9", "max"
        )?;
        let rows = [
            ("latency", self.latency),
            ("completion", self.completion),
            ("slow ones", self.slow.as_ref().and_then(|slow| slow.latency)),
            ("connect", self.connect.time),
            ("sent late", self.generator.lag),
        ];
        for (name, quantiles) in rows {
            let Some(of) = quantiles else { continue };
            write!(f, "{name:<12}")?;
            for micros in [of.min, of.p50, of.p90, of.p99, of.p999, of.max] {
                write!(f, "{:>10.3}", micros / 1e3)?;
            }
            writeln!(f)?;
        }
        writeln!(f)?;
        self.write_processes(f)?;
        self.write_checks(f)
    }
}

impl Report {
    fn write_heading(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scenario = format!("{:?}", self.scenario).to_lowercase();
        let transport = format!("{:?}", self.transport).to_lowercase();
        write!(f, "{scenario} over {transport} to {}: {} connections", self.url, self.connections)?;
        write!(f, ", {} bytes, ", self.payload_bytes)?;
        match (self.in_flight, self.rate) {
            _ if self.scenario == Scenario::Idle => writeln!(f, "no events"),
            (Some(in_flight), _) => writeln!(f, "closed loop of {in_flight}"),
            (_, rate) => writeln!(f, "open loop of {}/s", rate.unwrap_or_default()),
        }
    }

    fn write_rates(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connect = &self.connect;
        let (sessions, per_second) = (connect.sessions, connect.per_second);
        writeln!(f, "sessions    {sessions} in {:.2} s, {per_second:.0}/s", connect.seconds)?;
        if !matches!(self.scenario, Scenario::Connect | Scenario::Idle) {
            let Self { sent, received, seconds, per_second, .. } = self;
            writeln!(f, "messages    {sent} sent, {received} received in {seconds:.2} s, {per_second:.0}/s")?;
        }
        if let Some(slow) = &self.slow {
            let Slow { clients, closed_by_server, missing, .. } = slow;
            writeln!(
                f,
                "slow        {clients} clients, {closed_by_server} closed by the server, {missing} not given"
            )?;
        }
        Ok(())
    }

    fn write_processes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "generator   {:.0} % of a core", self.generator.cpu_share * 100.0)?;
        let Some(server) = &self.server else { return Ok(()) };
        let mut line = format!("server      {:.0} % of a core", server.cpu_share * 100.0);
        if let Some(micros) = server.cpu_us_per_message {
            let what = if self.scenario == Scenario::Connect { "session" } else { "message" };
            write!(line, ", {micros:.2} us per {what}")?;
        }
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let (before, end, peak) = (server.rss_before_bytes, server.rss_end_bytes, server.rss_peak_bytes);
        write!(line, "; RSS {:.1} MiB, {:.1} at the end, {:.1} at most", mib(before), mib(end), mib(peak))?;
        if let Some(bytes) = server.rss_per_connection_bytes {
            write!(line, ", {bytes:.0} bytes per connection")?;
        }
        writeln!(f, "{line}")
    }

    fn write_checks(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = &self.checks;
        if self.ok {
            writeln!(f, "checks      ok: {} right, none lost, doubled, reordered or altered", of.checked)?;
        } else {
            let Findings { lost, duplicated, reordered, altered, unexpected, broken, .. } = of;
            write!(f, "checks      FAILED: {lost} lost, {duplicated} doubled, {reordered} reordered, ")?;
            writeln!(f, "{altered} altered, {unexpected} unexpected, {broken} sessions broken")?;
            writeln!(f, "            {}", of.first.as_deref().unwrap_or_default())?;
        }
        if of.foreign > 0 {
            writeln!(f, "            {} messages of another generator were ignored", of.foreign)?;
        }
        for warning in &self.warnings {
            writeln!(f, "warning     {warning}")?;
        }
        Ok(())
    }
}
