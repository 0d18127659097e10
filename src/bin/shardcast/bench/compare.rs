//! Two results beside each other: what differs, and which differences are more than the noise within the runs.
//!
//! Noise is judged by the runs' own intervals: if those of one run rank about as high as those of the other (Mann and Whitney's U), the
//! difference of the whole is chance. Neighbouring intervals are alike, so they count for as many as they are worth by their
//! autocorrelation. What changed between the runs, as a machine that got slower, no single pair of runs can tell from a real difference:
//! the text says so.

use std::fmt;
use std::path::Path;

use super::error::BenchError;
use super::report::{Report, SCHEMA};
use super::series::Interval;
use super::threshold::{METRICS, Metric, Unit, show};

/// Intervals that a run must have for a verdict.
const INTERVALS_MIN: usize = 8;
/// How far apart the ranks must be: chance alone brings this once in a thousand times.
const Z_MIN: f64 = 3.29;
/// Differences below this share are of no interest, however certain.
const CHANGE_MIN: f64 = 0.02;

/// What a difference is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The same.
    Equal,
    /// No more than the intervals of one run differ from each other.
    Noise,
    /// More than that.
    Better,
    /// More than that.
    Worse,
    /// One number of each run, or too few intervals: there is no telling.
    Unknown,
}

/// One number of both.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// Its name, as `--fail-if` has it.
    pub(super) name: &'static str,
    /// Its unit.
    pub(super) unit: Unit,
    /// In the earlier run.
    pub(super) before: f64,
    /// In the later run.
    pub(super) after: f64,
    /// What the difference is worth.
    pub(super) verdict: Verdict,
}

/// Both runs.
#[derive(Clone, Debug)]
pub(super) struct Comparison {
    headings: [String; 2],
    /// Settings that are not the same.
    pub(super) differences: Vec<String>,
    /// All numbers that both have.
    pub(super) rows: Vec<Row>,
}

/// Reads a result that `--json` has written.
pub(super) fn load(path: &Path) -> Result<Report, BenchError> {
    let refuse = |why: String| BenchError::Usage(format!("--compare {}: {why}", path.display()));
    let text = std::fs::read(path).map_err(|error| refuse(error.to_string()))?;
    let value: serde_json::Value = serde_json::from_slice(&text)
        .map_err(|error| refuse(format!("not JSON: {error}; a result is written by --json FILE")))?;
    let schema = value.get("schema").and_then(serde_json::Value::as_str).unwrap_or("none");
    if schema != SCHEMA {
        return Err(refuse(format!(
            "its schema is {schema}, and not {SCHEMA}: make it anew with --json FILE"
        )));
    }
    serde_json::from_value(value).map_err(|error| refuse(format!("not a whole result: {error}")))
}

impl Comparison {
    /// Compares.
    pub(super) fn new(before: &Report, after: &Report) -> Self {
        let row = |metric: &Metric| {
            let (old, new) = ((metric.read)(before)?, (metric.read)(after)?);
            let verdict = judge(metric, [before, after], [old, new]);
            Some(Row { name: metric.name, unit: metric.unit, before: old, after: new, verdict })
        };
        let heading = |report: &Report| format!("{}, {}", utc(report.started_unix_seconds), report.heading());
        Self {
            headings: [heading(before), heading(after)],
            differences: differences(before, after),
            rows: METRICS.iter().filter_map(row).collect(),
        }
    }
}

impl Row {
    /// By how much it changed, in per cent; nothing from nothing.
    pub(super) fn change(&self) -> String {
        if self.before == self.after {
            return "0 %".to_owned();
        }
        if self.before == 0.0 {
            return "from none".to_owned();
        }
        let change = (self.after / self.before - 1.0) * 100.0;
        if change.abs() < 0.05 { "0.0 %".to_owned() } else { format!("{change:+.1} %") }
    }
}

impl Verdict {
    /// In a word or two.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::Noise => "noise",
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Unknown => "one number each",
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nbefore      {}\nafter       {}", self.headings[0], self.headings[1])?;
        for difference in &self.differences {
            writeln!(f, "differs     {difference}")?;
        }
        writeln!(f, "\n{:<14}{:>12}{:>12}{:>12}", "", "before", "after", "change")?;
        for row in &self.rows {
            let (before, after) = (show(row.before, row.unit), show(row.after, row.unit));
            writeln!(
                f,
                "{:<14}{before:>12}{after:>12}{:>12}  {}",
                row.name,
                row.change(),
                row.verdict.word()
            )?;
        }
        writeln!(f, "\n{NOTE}")
    }
}

/// What two runs cannot tell.
pub(super) const NOTE: &str = "Noise is what differs from interval to interval within these two runs. A machine's speed also drifts from run to run:\nmake both runs again, in turn, before you believe a difference of some per cent.";

fn differences(before: &Report, after: &Report) -> Vec<String> {
    let of = |report: &Report| {
        let optional = |number: Option<f64>| number.map_or("none".to_owned(), |number| number.to_string());
        [
            ("scenario", report.scenario.name()),
            ("event", report.event.clone().unwrap_or_else(|| "none".to_owned())),
            ("transport", format!("{:?}", report.transport).to_lowercase()),
            ("parser", format!("{:?}", report.parser).to_lowercase()),
            ("connections", report.connections.to_string()),
            ("payload", format!("{} bytes", report.payload_bytes)),
            ("in flight", optional(report.in_flight.map(f64::from))),
            ("rate", optional(report.rate_per_second)),
            ("stages", report.stages.len().to_string()),
            ("room size", optional(report.room_size.map(f64::from))),
            ("kernel", report.kernel.clone()),
            ("CPUs", report.cpus.to_string()),
        ]
    };
    let pairs = of(before).into_iter().zip(of(after)).filter(|(old, new)| old.1 != new.1);
    pairs.map(|((name, old), (_, new))| format!("{name}: {old} before, {new} after")).collect()
}

fn judge(metric: &Metric, [before, after]: [&Report; 2], [old, new]: [f64; 2]) -> Verdict {
    if old == new {
        return Verdict::Equal;
    }
    let is_sessions = before.scenario.counts_sessions();
    let read: fn(&Interval) -> Option<f64> = match metric.name {
        "rate" if is_sessions => |of| Some(of.sessions as f64 / of.seconds),
        "rate" => |of| Some(of.received as f64 / of.seconds),
        "p50" => |of| Some(of.latency_us?.p50),
        "p75" => |of| Some(of.latency_us?.p75),
        "p90" => |of| Some(of.latency_us?.p90),
        "p95" => |of| Some(of.latency_us?.p95),
        "p99" => |of| Some(of.latency_us?.p99),
        "p99.9" => |of| Some(of.latency_us?.p999),
        "mean" => |of| Some(of.latency_us?.mean),
        _ => return Verdict::Unknown,
    };
    let values = |report: &Report| report.intervals.iter().filter_map(read).collect::<Vec<f64>>();
    let (a, b) = (values(before), values(after));
    if a.len() < INTERVALS_MIN || b.len() < INTERVALS_MIN {
        return Verdict::Unknown;
    }
    let change = (new - old).abs() / old.abs().max(f64::MIN_POSITIVE);
    if change < CHANGE_MIN || rank_distance(&a, &b).abs() < Z_MIN {
        return Verdict::Noise;
    }
    let is_more_better = metric.unit == Unit::Rate;
    if (new > old) == is_more_better { Verdict::Better } else { Verdict::Worse }
}

/// How far the ranks of two samples are apart, in standard deviations of chance.
fn rank_distance(a: &[f64], b: &[f64]) -> f64 {
    let mut all: Vec<(f64, bool)> =
        a.iter().map(|&value| (value, true)).chain(b.iter().map(|&value| (value, false))).collect();
    all.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (mut rank_sum, mut ties, mut at) = (0.0, 0.0, 0);
    while at < all.len() {
        let equal = all[at..].iter().take_while(|entry| entry.0 == all[at].0).count();
        let rank = at as f64 + (equal as f64 + 1.0) / 2.0;
        rank_sum += rank * all[at..at + equal].iter().filter(|entry| entry.1).count() as f64;
        ties += (equal as f64).powi(3) - equal as f64;
        at += equal;
    }
    let (n, m) = (a.len() as f64, b.len() as f64);
    let sum = n + m;
    let u = rank_sum - n * (n + 1.0) / 2.0;
    let variance = n * m / 12.0 * (sum + 1.0 - ties / (sum * (sum - 1.0)));
    if variance <= 0.0 {
        return 0.0;
    }
    let likeness = autocorrelation(a).max(autocorrelation(b));
    (u - n * m / 2.0) / variance.sqrt() * ((1.0 - likeness) / (1.0 + likeness)).sqrt()
}

/// How much a value is like the one before it: 0, not at all, to 0.9.
fn autocorrelation(values: &[f64]) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let all: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let neighbours: f64 = values.windows(2).map(|pair| (pair[0] - mean) * (pair[1] - mean)).sum();
    if all <= 0.0 { 0.0 } else { (neighbours / all).clamp(0.0, 0.9) }
}

/// A time as people write it, in UTC.
pub(super) fn utc(unix_seconds: u64) -> String {
    let (days, second) = (unix_seconds / 86_400, unix_seconds % 86_400);
    // The days of 400 years repeat; years begin in March, so that the leap day is their last.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02} {:02}:{:02} UTC", second / 3_600, second / 60 % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        let rows = [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_400, "2000-02-29 00:00 UTC"),
            (1_796_083_199, "2026-11-30 23:59 UTC"),
            (4_102_444_800, "2100-01-01 00:00 UTC"),
        ];
        for (seconds, expected) in rows {
            assert_eq!(utc(seconds), expected);
        }
    }

    /// Values around a middle, the same each time.
    fn around(middle: f64, spread: f64, seed: u64) -> Vec<f64> {
        let value = |at: u64| {
            let mixed = super::super::template::mix(seed << 32 ^ at);
            middle + spread * ((mixed >> 11) as f64 / (1_u64 << 53) as f64 - 0.5)
        };
        (0..100).map(value).collect()
    }

    #[test]
    fn chance_is_noise_and_a_shift_is_none() {
        let mut mistaken = 0;
        for seed in 0..200 {
            let distance = rank_distance(&around(100.0, 20.0, seed), &around(100.0, 20.0, seed + 1_000));
            mistaken += u32::from(distance.abs() >= Z_MIN);
        }
        assert!(mistaken <= 2, "{mistaken} of 200 equal pairs were told apart");
        let distance = rank_distance(&around(100.0, 20.0, 1), &around(110.0, 20.0, 2));
        assert!(distance < -Z_MIN, "{distance}");
        assert_eq!(rank_distance(&[5.0; 20], &[5.0; 20]), 0.0);
    }

    #[test]
    fn drifting_intervals_count_for_less() {
        let drift: Vec<f64> = (0..100).map(|at| 100.0 + f64::from(at) / 10.0).collect();
        let later: Vec<f64> = drift.iter().map(|value| value + 3.0).collect();
        assert!(autocorrelation(&drift) > 0.8);
        assert!(rank_distance(&drift, &later).abs() < Z_MIN, "a drift of 10 hides a shift of 3");
    }

    #[test]
    fn what_is_no_result_is_refused_with_its_name() {
        let folder = std::env::temp_dir().join(format!("shardcast-compare-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let rows = [
            ("{", "not JSON"),
            ("{}", "its schema is none"),
            (r#"{"schema":"shardcast-bench/9"}"#, "its schema is shardcast-bench/9"),
            (r#"{"schema":"shardcast-bench/1"}"#, "not a whole result"),
        ];
        for (text, expected) in rows {
            let path = folder.join("before.json");
            std::fs::write(&path, text).unwrap();
            let error = load(&path).unwrap_err().to_string();
            assert!(error.contains("before.json") && error.contains(expected), "{error}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(load(Path::new("/nonexistent.json")).unwrap_err().to_string().contains("No such file"));
    }
}
