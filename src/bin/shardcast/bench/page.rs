//! The result as a page: plots of latency and throughput over time and of percentiles, and the tables.
//!
//! One file that needs no other: no script, no font, nothing from elsewhere. Light or dark as its reader's system, and readable at the
//! width of a telephone. Every text from outside is escaped.

use std::fmt::Write as _;

use super::compare::{self, Comparison, Verdict, utc};
use super::measure::Quantiles;
use super::options::Scenario;
use super::plot::{Axis, Line, Scale, draw, escape};
use super::report::Report;
use super::series::Interval;
use super::threshold::{Threshold, Unit, show};

const STYLE: &str = include_str!("page.css");
/// Above this ratio of the slowest to the fastest, a linear axis would hide the fastest.
const LINEAR_RATIO_MAX: f64 = 12.0;

/// A name, and the number that has it.
type Column<T, N> = (&'static str, fn(&T) -> N);

/// The page of a result, with an earlier one beside it if there is one.
pub(super) fn render(report: &Report, before: Option<&Report>) -> String {
    let mut out = String::new();
    let title = format!("shardcast bench: {}", report.scenario.name());
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<title>{}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n",
        escape(&title)
    );
    head(&mut out, report);
    cards(&mut out, report);
    let _ = writeln!(out, "<h2>Over time</h2>\n<div class=\"plots\">");
    plots(&mut out, report, before);
    let _ = writeln!(out, "</div>");
    if let Some(before) = before {
        comparison(&mut out, &Comparison::new(before, report));
    }
    times(&mut out, report);
    stages(&mut out, report);
    settings(&mut out, report);
    out.push_str("</body>\n</html>\n");
    out
}

fn head(out: &mut String, report: &Report) {
    let _ = writeln!(out, "<h1>{}</h1>", escape(&report.heading()));
    let (when, kernel, cpus) = (utc(report.started_unix_seconds), &report.kernel, report.cpus);
    let _ = writeln!(
        out,
        "<p class=\"soft\">{when}, measured for {:.1} s; Linux {}, {cpus} CPUs; shardcast {}</p>",
        report.seconds,
        escape(kernel),
        escape(&report.version)
    );
    let class = if report.ok { "good" } else { "bad" };
    for verdict in report.verdicts() {
        let _ = writeln!(out, "<p class=\"{class}\">{}</p>", escape(&verdict));
    }
    for judgement in &report.thresholds {
        let class = if judgement.is_failed { "bad" } else { "good" };
        let _ = writeln!(out, "<p class=\"{class}\">threshold {}</p>", escape(&Threshold::say(judgement)));
    }
    for (name, line) in report.own_lines() {
        let _ = writeln!(out, "<p>{name}: {}</p>", escape(&line));
    }
    for warning in &report.warnings {
        let _ = writeln!(out, "<p class=\"warn\">warning: {}</p>", escape(warning));
    }
}

fn cards(out: &mut String, report: &Report) {
    let what = if report.scenario.counts_sessions() { "sessions opened" } else { "messages received" };
    let mut all = vec![(show(report.per_second, Unit::Rate), what.to_owned())];
    let times = report.times();
    if let Some((name, of)) = times.first() {
        let values = [("half within", of.p50), ("99 % within", of.p99), ("longest", of.max)];
        all.extend(values.map(|(what, us)| (show(us, Unit::Time), format!("{name}: {what}"))));
    }
    all.push((report.connect.sessions.to_string(), "sessions".to_owned()));
    all.push((report.checks.errors().to_string(), "errors".to_owned()));
    if let Some(server) = &report.server {
        let share = server.cpu_share * 100.0;
        all.push((format!("{share:.0} %"), "of a core: the server".to_owned()));
        all.push((show(server.rss_end_bytes as f64, Unit::Bytes), "memory of the server".to_owned()));
    }
    let _ = writeln!(out, "<ul class=\"cards\">");
    for (value, what) in all {
        let _ = writeln!(out, "<li><b>{}</b><span>{}</span></li>", escape(&value), escape(&what));
    }
    let _ = writeln!(out, "</ul>");
}

fn plots(out: &mut String, report: &Report, before: Option<&Report>) {
    let time = Axis {
        title: "seconds",
        scale: Scale::Linear,
        show: |at| format!("{} s", (at * 100.0).round() / 100.0),
    };
    let latency: [Column<Quantiles, f64>; 3] =
        [("p50", |of| of.p50), ("p99", |of| of.p99), ("max", |of| of.max)];
    let mut lines = Vec::new();
    for (colour, (name, read)) in latency.into_iter().enumerate() {
        let value = |of: &Interval| of.latency_us.as_ref().map_or(f64::NAN, read);
        add(&mut lines, colour, name, (report, before), value);
    }
    let axis = micros_axis("", &lines);
    figure(out, ["Latency over time", "of what came in each interval"], &time, &axis, &lines);

    let is_sessions = report.scenario.counts_sessions();
    let counts: &[Column<Interval, u64>] = match report.scenario {
        _ if is_sessions => &[("sessions opened", |of| of.sessions), ("broken or refused", |of| of.broken)],
        Scenario::Ticks => &[("received", |of| of.received)],
        _ => &[("received", |of| of.received), ("sent", |of| of.sent)],
    };
    let mut lines = Vec::new();
    for (colour, &(name, read)) in counts.iter().enumerate() {
        add(&mut lines, colour, name, (report, before), |of| read(of) as f64 / of.seconds);
    }
    let axis = Axis { title: "per second", scale: Scale::Linear, show: short };
    figure(out, ["Throughput", "per second"], &time, &axis, &lines);

    let what = match report.scenario {
        Scenario::Storm => "of the time until a session is back",
        Scenario::Connect | Scenario::Idle => "of the time that a session takes to open",
        _ => "of latencies: this share came within",
    };
    let share = Axis {
        title: "share",
        scale: Scale::Nines,
        show: |share| format!("{} %", (share * 1e7).round() / 1e5),
    };
    let runs = [("this run", Some(report)), ("before", before)];
    let line = |(at, (name, run)): (usize, (&str, Option<&Report>))| {
        Some(Line { name: name.to_owned(), colour: 0, is_other: at > 0, points: distribution(run?) })
    };
    let lines: Vec<Line> = runs.into_iter().enumerate().filter_map(line).collect();
    let axis = micros_axis("", &lines);
    figure(out, ["Percentiles", what], &share, &axis, &lines);
}

/// The distribution as far as there are times to tell it: the longest of n is the share 1 - 1/n, and the line ends there.
fn distribution(run: &Report) -> Vec<(f64, f64)> {
    let count = run.times().first().map_or(1, |(_, of)| of.count).max(2);
    let last = 1.0 - 1.0 / count as f64;
    let points = run.percentiles_us.iter().map(|point| (point.share, point.us));
    let mut points: Vec<(f64, f64)> = points.take_while(|point| point.0 < last).collect();
    points.extend(run.percentiles_us.last().map(|point| (last, point.us)));
    points
}

/// A line of each run.
fn add(
    lines: &mut Vec<Line>,
    colour: usize,
    name: &str,
    (report, before): (&Report, Option<&Report>),
    value: impl Fn(&Interval) -> f64,
) {
    let points = |run: &Report| run.intervals.iter().map(|of| (of.start_seconds, value(of))).collect();
    lines.push(Line { name: name.to_owned(), colour, is_other: false, points: points(report) });
    if let Some(before) = before {
        lines.push(Line { name: format!("{name} before"), colour, is_other: true, points: points(before) });
    }
}

fn micros_axis(title: &'static str, lines: &[Line]) -> Axis {
    let values = lines.iter().flat_map(|line| &line.points).map(|point| point.1).filter(|value| *value > 0.0);
    let (least, most) = values.fold((f64::MAX, f64::MIN), |(least, most), at| (least.min(at), most.max(at)));
    let scale = if most > least * LINEAR_RATIO_MAX { Scale::Logarithmic } else { Scale::Linear };
    Axis { title, scale, show: short_time }
}

fn figure(out: &mut String, [name, what]: [&str; 2], x: &Axis, y: &Axis, lines: &[Line]) {
    let svg = draw(name, x, y, lines);
    if svg.is_empty() {
        return;
    }
    let scale = if y.scale == Scale::Logarithmic { "; logarithmic" } else { "" };
    let _ = write!(out, "<figure>\n<figcaption>{name}<small>{what}{scale}</small></figcaption>\n");
    let _ = write!(out, "<div class=\"legend\">");
    for line in lines {
        let class = if line.is_other { " other" } else { "" };
        let _ = write!(
            out,
            "<span><svg viewBox=\"0 0 32 12\" aria-hidden=\"true\"><path class=\"line line-{}{class}\" d=\"M1 6H31\"/></svg> {}</span>",
            line.colour,
            escape(&line.name)
        );
    }
    let _ = write!(out, "</div>\n{svg}\n</figure>\n");
}

fn comparison(out: &mut String, comparison: &Comparison) {
    let _ = writeln!(out, "<h2>Against the run before</h2>");
    for difference in &comparison.differences {
        let _ = writeln!(out, "<p class=\"warn\">differs: {}</p>", escape(difference));
    }
    open_table(out, &["", "before", "after", "change", ""]);
    for row in &comparison.rows {
        let class = match row.verdict {
            Verdict::Better => "good",
            Verdict::Worse => "bad",
            Verdict::Equal | Verdict::Noise | Verdict::Unknown => "soft",
        };
        let (before, after) = (show(row.before, row.unit), show(row.after, row.unit));
        let cells =
            [row.name, &before, &after, &row.change()].map(|cell| format!("<td>{}</td>", escape(cell)));
        let _ = writeln!(out, "<tr>{}<td class=\"{class}\">{}</td></tr>", cells.concat(), row.verdict.word());
    }
    let _ = writeln!(out, "</tbody></table></div>\n<p class=\"soft\">{}</p>", escape(compare::NOTE));
}

fn times(out: &mut String, report: &Report) {
    let _ = writeln!(out, "<h2>Times</h2>");
    open_table(out, &["", "count", "min", "p50", "p75", "p90", "p95", "p99", "p99.9", "max"]);
    for (name, of) in report.times() {
        let _ = write!(out, "<tr><td>{name}</td><td>{}</td>", of.count);
        for us in [of.min, of.p50, of.p75, of.p90, of.p95, of.p99, of.p999, of.max] {
            let _ = write!(out, "<td>{}</td>", show(us, Unit::Time));
        }
        let _ = writeln!(out, "</tr>");
    }
    let _ = writeln!(out, "</tbody></table></div>");
}

fn stages(out: &mut String, report: &Report) {
    if report.stages.is_empty() {
        return;
    }
    let _ = writeln!(out, "<h2>Stages</h2>");
    open_table(out, &["from", "to", "asked at its end", "sent", "received", "p50", "p99", "max"]);
    for stage in &report.stages {
        let of = &stage.counts;
        let per_second = |count: u64| show(count as f64 / of.seconds.max(1e-9), Unit::Rate);
        let time = |read: fn(&Quantiles) -> f64| {
            of.latency_us.as_ref().map_or(String::new(), |of| show(read(of), Unit::Time))
        };
        let cells = [
            format!("{:.1} s", of.start_seconds),
            format!("{:.1} s", of.start_seconds + of.seconds),
            show(stage.rate_to_per_second, Unit::Rate),
            per_second(of.sent),
            per_second(of.received),
            time(|of| of.p50),
            time(|of| of.p99),
            time(|of| of.max),
        ];
        let _ = writeln!(out, "<tr>{}</tr>", cells.map(|cell| format!("<td>{cell}</td>")).concat());
    }
    let _ = writeln!(out, "</tbody></table></div>");
}

fn settings(out: &mut String, report: &Report) {
    let _ = writeln!(out, "<h2>Settings and counts</h2>");
    open_table(out, &["", ""]);
    let mut rows = vec![
        ("server", report.url.clone()),
        ("transport", format!("{:?}", report.transport).to_lowercase()),
        ("connections", report.connections.to_string()),
        ("sessions opened", format!("{} in {:.2} s", report.connect.sessions, report.connect.seconds)),
        ("messages", format!("{} sent, {} received", report.sent, report.received)),
        ("generator", format!("{:.0} % of a core", report.generator.cpu_share * 100.0)),
    ];
    if let Some(server) = &report.server {
        let cpu = server.cpu_us_per_message.map(|us| format!(", {us:.2} us for each message or session"));
        rows.push(("server's CPU", format!("{:.2} s{}", server.cpu_seconds, cpu.unwrap_or_default())));
        let peak = show(server.rss_peak_bytes as f64, Unit::Bytes);
        rows.push((
            "server's memory",
            format!("{} at the end, {peak} at most", show(server.rss_end_bytes as f64, Unit::Bytes)),
        ));
    }
    for (name, value) in rows {
        let _ = writeln!(out, "<tr><td>{name}</td><td class=\"text\">{}</td></tr>", escape(&value));
    }
    let _ = writeln!(out, "</tbody></table></div>");
}

fn open_table(out: &mut String, names: &[&str]) {
    let cells: Vec<String> = names.iter().map(|name| format!("<th>{name}</th>")).collect();
    let _ = writeln!(out, "<div class=\"scroll\"><table><thead><tr>{}</tr></thead><tbody>", cells.concat());
}

/// A number for an axis.
fn short(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{}M", round(value / 1e6)),
        value if value >= 1e3 => format!("{}k", round(value / 1e3)),
        value => round(value).to_string(),
    }
}

/// Microseconds for an axis.
fn short_time(us: f64) -> String {
    match us {
        us if us >= 1e6 => format!("{} s", round(us / 1e6)),
        us if us >= 1e3 => format!("{} ms", round(us / 1e3)),
        us => format!("{} us", round(us)),
    }
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
