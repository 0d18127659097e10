//! The result as a table, for a terminal. Times are in milliseconds.

use std::fmt::{self, Display, Write as _};

use super::ledger::Findings;
use super::options::Scenario;
use super::report::{Pace, Report, Slow};
use super::threshold::Threshold;

impl Scenario {
    /// As on the command line.
    pub(super) fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.heading())?;
        self.write_rates(f)?;
        self.write_times(f)?;
        self.write_stages(f)?;
        writeln!(f)?;
        self.write_processes(f)?;
        self.write_checks(f)
    }
}

impl Report {
    /// What was run, in a line.
    pub(super) fn heading(&self) -> String {
        let transport = format!("{:?}", self.transport).to_lowercase();
        let of = self.event.as_ref().map(|event| format!(" of `{event}`")).unwrap_or_default();
        let mut line = format!("{}{of} over {transport} to {}", self.scenario.name(), self.url);
        let _ = write!(line, ": {} connections", self.connections);
        if self.event.is_none()
            && !matches!(self.scenario, Scenario::Connect | Scenario::Idle | Scenario::Storm)
        {
            let _ = write!(line, ", {} bytes", self.payload_bytes);
        }
        line + &match (self.pace, self.in_flight, self.rate_per_second) {
            (Pace::Closed, Some(in_flight), _) => format!(", closed loop of {in_flight}"),
            (Pace::Open, _, Some(rate)) if self.stages.is_empty() => format!(", open loop of {rate}/s"),
            (Pace::Open, _, Some(rate)) => {
                format!(", open loop of up to {rate}/s in {} stages", self.stages.len())
            }
            _ => String::new(),
        }
    }

    fn write_rates(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connect = &self.connect;
        let (sessions, per_second) = (connect.sessions, connect.per_second);
        writeln!(f, "sessions    {sessions} in {:.2} s, {per_second:.0}/s", connect.seconds)?;
        if !self.scenario.counts_sessions() && self.scenario != Scenario::Idle {
            let Self { sent, received, seconds, per_second, .. } = self;
            writeln!(f, "messages    {sent} sent, {received} received in {seconds:.2} s, {per_second:.0}/s")?;
        }
        for (name, line) in self.own_lines() {
            writeln!(f, "{name:<12}{line}")?;
        }
        Ok(())
    }

    /// What only this scenario has, in words.
    pub(super) fn own_lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = Vec::new();
        if let Some(Slow { clients, closed_by_server, missing, .. }) = &self.slow {
            lines.push((
                "slow",
                format!("{clients} clients, {closed_by_server} closed by the server, {missing} not given"),
            ));
        }
        if let Some(storm) = &self.storm {
            let of = &storm.counts;
            let storms = if of.storms == 1 { "storm" } else { "storms" };
            let recovered =
                if of.recovered > 0 { format!(", {} recovered", of.recovered) } else { String::new() };
            let text =
                format!("{} {storms}, {} sessions back{recovered}, {} not", of.storms, of.back, of.away);
            lines.push(("storm", text));
            let text = format!(
                "{}, of which {} put off by the server, {} failed",
                of.attempts, of.put_off, of.failed
            );
            lines.push(("attempts", text));
        }
        if let Some(ticks) = &self.ticks {
            let (rooms, missed) = (ticks.counts.rooms, ticks.counts.missed);
            lines.push((
                "ticks",
                format!("{} Hz in {rooms} rooms, {missed} left out by the server", ticks.hz),
            ));
        }
        if let Some(board) = &self.dashboard {
            let of = &board.counts;
            let text = format!(
                "{} keys, {} viewers at {} Hz: {} events with {} values",
                of.keys, of.viewers, board.hz, of.events, of.values
            );
            lines.push(("board", text));
        }
        lines
    }

    fn write_times(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:<12}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
            "ms", "min", "p50", "p90", "p99", "p99.9", "max"
        )?;
        for (name, of) in self.times() {
            write!(f, "{name:<12}")?;
            for micros in [of.min, of.p50, of.p90, of.p99, of.p999, of.max] {
                write!(f, "{:>10.3}", micros / 1e3)?;
            }
            writeln!(f)?;
        }
        Ok(())
    }

    /// All distributions, by name.
    pub(super) fn times(&self) -> Vec<(&'static str, super::measure::Quantiles)> {
        let rows = [
            ("latency", self.latency_us),
            ("completion", self.completion_us),
            ("slow ones", self.slow.as_ref().and_then(|slow| slow.latency_us)),
            ("back", self.storm.as_ref().and_then(|storm| storm.back_us)),
            ("jitter", self.ticks.as_ref().and_then(|ticks| ticks.jitter_us)),
            ("connect", self.connect.time_us),
            ("sent late", self.generator.lag_us),
        ];
        rows.into_iter().filter_map(|(name, of)| Some((name, of?))).collect()
    }

    fn write_stages(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.stages.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "\n{:<12}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
            "stage", "asked/s", "sent/s", "came/s", "p50 ms", "p99 ms", "max ms"
        )?;
        for stage in &self.stages {
            let of = &stage.counts;
            let name = format!("{:.1}-{:.1} s", of.start_seconds, of.start_seconds + of.seconds);
            let came = if self.scenario == Scenario::Connect { of.sessions } else { of.received };
            write!(f, "{name:<12}{:>10.0}", stage.rate_to_per_second)?;
            for count in [of.sent, came] {
                write!(f, "{:>10.0}", count as f64 / of.seconds.max(1e-9))?;
            }
            for micros in of.latency_us.into_iter().flat_map(|of| [of.p50, of.p99, of.max]) {
                write!(f, "{:>10.3}", micros / 1e3)?;
            }
            writeln!(f)?;
        }
        Ok(())
    }

    fn write_processes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "generator   {:.0} % of a core", self.generator.cpu_share * 100.0)?;
        let Some(server) = &self.server else { return Ok(()) };
        let mut line = format!("server      {:.0} % of a core", server.cpu_share * 100.0);
        if let Some(micros) = server.cpu_us_per_message {
            let what = if self.scenario.counts_sessions() { "session" } else { "message" };
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
        let mut name = "checks";
        for line in self.verdicts() {
            writeln!(f, "{name:<12}{line}")?;
            name = "";
        }
        for judgement in &self.thresholds {
            writeln!(f, "threshold   {}", Threshold::say(judgement))?;
        }
        for warning in &self.warnings {
            writeln!(f, "warning     {warning}")?;
        }
        Ok(())
    }

    /// What the checks found, in words.
    pub(super) fn verdicts(&self) -> Vec<String> {
        let of = &self.checks;
        let mut lines = Vec::new();
        if of.is_clean() && self.event.is_some() {
            lines.push(format!("ok: {} answered, none lost or doubled", of.checked));
        } else if of.is_clean()
            && matches!(self.scenario, Scenario::Connect | Scenario::Idle | Scenario::Storm)
        {
            lines.push(format!("ok: {} sessions, none broken or lost", of.checked));
        } else if of.is_clean() {
            lines.push(format!("ok: {} right, none lost, doubled, reordered or altered", of.checked));
        } else {
            let Findings { lost, duplicated, reordered, altered, unexpected, broken, .. } = of;
            let word = if self.ok { "allowed by --fail-if" } else { "FAILED" };
            lines.push(format!(
                "{word}: {lost} lost, {duplicated} doubled, {reordered} reordered, {altered} altered, {unexpected} unexpected, {broken} sessions broken"
            ));
            lines.extend(of.first.clone());
        }
        if of.foreign > 0 {
            lines.push(format!("{} messages that this run did not cause were passed over", of.foreign));
        }
        lines
    }
}
