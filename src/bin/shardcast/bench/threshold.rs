//! `--fail-if 'p99>5ms'`: conditions on a result that set the exit code.

use std::fmt;

use super::report::Report;

/// What a number of a result is measured in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Microseconds.
    Time,
    /// Per second.
    Rate,
    /// A number.
    Count,
    /// A number, or a share of all messages.
    Errors,
    /// Bytes.
    Bytes,
}

/// A number that every result may have.
#[derive(Clone, Copy)]
pub(super) struct Metric {
    /// How it is asked for.
    pub(super) name: &'static str,
    /// What it is measured in.
    pub(super) unit: Unit,
    /// None where the scenario has no such number.
    pub(super) read: fn(&Report) -> Option<f64>,
}

/// Numbers that can be asked for, and compared.
pub(super) const METRICS: [Metric; 33] = [
    Metric { name: "p50", unit: Unit::Time, read: |of| Some(of.latency_us?.p50) },
    Metric { name: "p75", unit: Unit::Time, read: |of| Some(of.latency_us?.p75) },
    Metric { name: "p90", unit: Unit::Time, read: |of| Some(of.latency_us?.p90) },
    Metric { name: "p95", unit: Unit::Time, read: |of| Some(of.latency_us?.p95) },
    Metric { name: "p99", unit: Unit::Time, read: |of| Some(of.latency_us?.p99) },
    Metric { name: "p99.9", unit: Unit::Time, read: |of| Some(of.latency_us?.p999) },
    Metric { name: "max", unit: Unit::Time, read: |of| Some(of.latency_us?.max) },
    Metric { name: "min", unit: Unit::Time, read: |of| Some(of.latency_us?.min) },
    Metric { name: "mean", unit: Unit::Time, read: |of| Some(of.latency_us?.mean) },
    Metric { name: "rate", unit: Unit::Rate, read: |of| Some(of.per_second) },
    Metric { name: "sent", unit: Unit::Count, read: |of| Some(of.sent as f64) },
    Metric { name: "received", unit: Unit::Count, read: |of| Some(of.received as f64) },
    Metric { name: "errors", unit: Unit::Errors, read: |of| Some(of.checks.errors() as f64) },
    Metric { name: "lost", unit: Unit::Errors, read: |of| Some(of.checks.lost as f64) },
    Metric { name: "broken", unit: Unit::Errors, read: |of| Some(of.checks.broken as f64) },
    Metric { name: "sessions", unit: Unit::Count, read: |of| Some(of.connect.sessions as f64) },
    Metric { name: "connect_rate", unit: Unit::Rate, read: |of| Some(of.connect.per_second) },
    Metric { name: "connect_p50", unit: Unit::Time, read: |of| Some(of.connect.time_us?.p50) },
    Metric { name: "connect_p99", unit: Unit::Time, read: |of| Some(of.connect.time_us?.p99) },
    Metric { name: "connect_max", unit: Unit::Time, read: |of| Some(of.connect.time_us?.max) },
    Metric { name: "back_p50", unit: Unit::Time, read: |of| Some(of.storm.as_ref()?.back_us?.p50) },
    Metric { name: "back_p99", unit: Unit::Time, read: |of| Some(of.storm.as_ref()?.back_us?.p99) },
    Metric { name: "back_max", unit: Unit::Time, read: |of| Some(of.storm.as_ref()?.back_us?.max) },
    Metric {
        name: "not_recovered",
        unit: Unit::Count,
        read: |of| Some((of.storm.as_ref()?.counts.back - of.storm.as_ref()?.counts.recovered) as f64),
    },
    Metric { name: "put_off", unit: Unit::Count, read: |of| Some(of.storm.as_ref()?.counts.put_off as f64) },
    Metric { name: "failed", unit: Unit::Count, read: |of| Some(of.storm.as_ref()?.counts.failed as f64) },
    Metric { name: "jitter_p50", unit: Unit::Time, read: |of| Some(of.ticks.as_ref()?.jitter_us?.p50) },
    Metric { name: "jitter_p99", unit: Unit::Time, read: |of| Some(of.ticks.as_ref()?.jitter_us?.p99) },
    Metric { name: "missed", unit: Unit::Count, read: |of| Some(of.ticks.as_ref()?.counts.missed as f64) },
    Metric { name: "lag_p99", unit: Unit::Time, read: |of| Some(of.generator.lag_us?.p99) },
    Metric { name: "cpu_us", unit: Unit::Time, read: |of| of.server.as_ref()?.cpu_us_per_message },
    Metric { name: "rss", unit: Unit::Bytes, read: |of| Some(of.server.as_ref()?.rss_end_bytes as f64) },
    Metric {
        name: "rss_peak",
        unit: Unit::Bytes,
        read: |of| Some(of.server.as_ref()?.rss_peak_bytes as f64),
    },
];

/// Metrics that only a look at the server's process can tell.
const METRICS_OF_PID: [&str; 3] = ["cpu_us", "rss", "rss_peak"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Above,
    AtLeast,
    Below,
    AtMost,
}

/// In this order, for the longer begin with the shorter.
const COMPARISONS: [(&str, Comparison); 4] = [
    (">=", Comparison::AtLeast),
    ("<=", Comparison::AtMost),
    (">", Comparison::Above),
    ("<", Comparison::Below),
];

/// One condition.
#[derive(Clone, Debug)]
pub(super) struct Threshold {
    text: String,
    metric: usize,
    comparison: Comparison,
    value: f64,
    /// The value is a share of all messages.
    is_share: bool,
}

/// What became of a condition.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Judgement {
    /// As it was written.
    pub(super) condition: String,
    /// What was measured, in microseconds, per second, bytes, a number, or a share of all messages; none where nothing was.
    pub(super) measured: Option<f64>,
    /// The condition is true, or nothing was measured.
    pub(super) is_failed: bool,
}

impl Threshold {
    /// Reads `p99>5ms`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let found = COMPARISONS.iter().filter_map(|known| Some((text.find(known.0)?, known)));
        let (at, (sign, comparison)) = found
            .min_by_key(|found| found.0)
            .ok_or_else(|| format!("{text:?} compares nothing; write a condition as 'p99>5ms', in quotes"))?;
        let (name, value) = (text[..at].trim(), text[at + sign.len()..].trim());
        let metric = METRICS.iter().position(|metric| metric.name == name).ok_or_else(|| unknown(name))?;
        let unit = METRICS[metric].unit;
        let (value, is_share) = read_value(value, unit)
            .ok_or_else(|| format!("{value:?} is no value of {name}; write {name}{sign}{}", example(unit)))?;
        Ok(Self { text: text.to_owned(), metric, comparison: *comparison, value, is_share })
    }

    /// True when it can only be judged with `--pid`.
    pub(super) fn needs_pid(&self) -> bool {
        METRICS_OF_PID.contains(&METRICS[self.metric].name)
    }

    /// True when it says how many errors there may be.
    pub(super) fn is_about_errors(&self) -> bool {
        METRICS[self.metric].unit == Unit::Errors
    }

    /// What a result says to it.
    pub(super) fn judge(&self, report: &Report) -> Judgement {
        let measured = (METRICS[self.metric].read)(report).map(|measured| {
            let all = (report.checks.checked + report.checks.errors()).max(1) as f64;
            if self.is_share { measured / all } else { measured }
        });
        let is_failed = measured.is_none_or(|measured| match self.comparison {
            Comparison::Above => measured > self.value,
            Comparison::AtLeast => measured >= self.value,
            Comparison::Below => measured < self.value,
            Comparison::AtMost => measured <= self.value,
        });
        Judgement { condition: self.text.clone(), measured, is_failed }
    }

    /// A judgement in words.
    pub(super) fn say(judgement: &Judgement) -> String {
        let Ok(of) = Self::parse(&judgement.condition) else { return judgement.condition.clone() };
        let word = if judgement.is_failed { "FAILED" } else { "ok" };
        let metric = METRICS[of.metric];
        let measured = match judgement.measured {
            None => "was not measured in this scenario".to_owned(),
            Some(share) if of.is_share => format!("is {:.4} %", share * 100.0),
            Some(measured) => format!("is {}", show(measured, metric.unit)),
        };
        format!("{word}: {} {measured}, --fail-if {}", metric.name, judgement.condition)
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A number with its unit.
pub(super) fn show(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Time if value >= 1e6 => format!("{:.2} s", value / 1e6),
        Unit::Time if value >= 1e3 => format!("{:.2} ms", value / 1e3),
        Unit::Time => format!("{value:.1} us"),
        Unit::Rate if value < 100.0 => format!("{value:.1}/s"),
        Unit::Rate => format!("{value:.0}/s"),
        Unit::Count | Unit::Errors => format!("{value:.0}"),
        Unit::Bytes => format!("{:.1} MiB", value / f64::from(1 << 20)),
    }
}

fn unknown(name: &str) -> String {
    let names = METRICS.iter().map(|metric| metric.name);
    let nearest =
        names.max_by(|a, b| strsim::jaro_winkler(a, name).total_cmp(&strsim::jaro_winkler(b, name)));
    let all: Vec<&str> = METRICS.iter().map(|metric| metric.name).collect();
    format!(
        "{name:?} is not measured; did you mean {}? There are {}",
        nearest.unwrap_or_default(),
        all.join(", ")
    )
}

fn read_value(text: &str, unit: Unit) -> Option<(f64, bool)> {
    let digits = text.trim_end_matches(|char: char| !char.is_ascii_digit() && char != '.');
    let scale = match (unit, text[digits.len()..].trim()) {
        (Unit::Time, "us" | "µs") | (Unit::Rate, "" | "/s") | (Unit::Count | Unit::Errors, "") => 1.0,
        (Unit::Time, "ms") => 1e3,
        (Unit::Time, "s") => 1e6,
        (Unit::Errors, "%") => 1e-2,
        (Unit::Bytes, "B" | "") => 1.0,
        (Unit::Bytes, "kB") => 1e3,
        (Unit::Bytes, "MB") => 1e6,
        (Unit::Bytes, "GB") => 1e9,
        (Unit::Bytes, "KiB") => 1024.0,
        (Unit::Bytes, "MiB") => f64::from(1 << 20),
        (Unit::Bytes, "GiB") => f64::from(1 << 30),
        _ => return None,
    };
    let number: f64 = digits.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0)?;
    Some((number * scale, text.ends_with('%')))
}

fn example(unit: Unit) -> &'static str {
    match unit {
        Unit::Time => "5ms (us, ms or s)",
        Unit::Rate => "1000/s",
        Unit::Count => "10",
        Unit::Errors => "0 or 0.1%",
        Unit::Bytes => "100MiB",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_with_their_units() {
        let rows = [
            ("p99>5ms", "p99", Comparison::Above, 5_000.0, false),
            ("p99.9 >= 1.5s", "p99.9", Comparison::AtLeast, 1_500_000.0, false),
            ("rate<1000/s", "rate", Comparison::Below, 1_000.0, false),
            ("rate<=1000", "rate", Comparison::AtMost, 1_000.0, false),
            ("errors>0", "errors", Comparison::Above, 0.0, false),
            ("errors>0.5%", "errors", Comparison::Above, 0.005, true),
            ("cpu_us>7us", "cpu_us", Comparison::Above, 7.0, false),
            ("rss_peak>1GiB", "rss_peak", Comparison::Above, 1_073_741_824.0, false),
        ];
        for (text, name, comparison, value, is_share) in rows {
            let read = Threshold::parse(text).unwrap();
            assert_eq!(
                (METRICS[read.metric].name, read.comparison, read.is_share),
                (name, comparison, is_share)
            );
            assert!((read.value - value).abs() < 1e-9, "{text}");
        }
    }

    #[test]
    fn what_is_no_condition_names_the_nearest_or_an_example() {
        let rows = [
            ("p99", "'p99>5ms'"),
            ("p99>5", "write p99>5ms"),
            ("p99>5mb", "write p99>5ms"),
            ("p99>-5ms", "write p99>5ms"),
            ("p98>5ms", "did you mean p9"),
            ("latency_p99>5ms", "There are p50, p75"),
            ("eror>0", "did you mean errors?"),
            ("throughput<5", "There are"),
            ("rate<5ms", "write rate<1000/s"),
            ("errors>x", "write errors>0 or 0.1%"),
            (">5", "is not measured"),
        ];
        for (text, expected) in rows {
            let error = Threshold::parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
