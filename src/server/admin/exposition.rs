//! All metrics as text, in Prometheus' two formats. Reads no clock and no server: a [`Snapshot`] is a value. Its table is `families.rs`.
//!
//! A library is not used for it: `prometheus-client` writes only OpenMetrics, and wants its own counters.

use std::fmt::Write;
use std::sync::Arc;

use crate::driver::tls::CertificateEnd;
use crate::mesh::depth::Depth;
use crate::mesh::link::QueueStats;
use crate::server::admin::families::{
    BUILD, BY_LABEL, CERTIFICATES, ENDPOINTS, Family, HANDLERS, INBOXES, IO, Kind, Labelled, NAMESPACES,
    NamespaceTotals, PLAIN, PROCESS, QUEUES, SHARDS, SIZES, SPOKEN, Sizes, THREADS, USAGE, Unit,
};
use crate::server::admin::process::{ProcessUsage, ThreadUsage};
use crate::shard::value::histogram::Counts;
use crate::shard::value::stats::{EndpointStats, ShardCounters, ShardStats};

/// What is exported, at one moment.
pub(super) struct Snapshot {
    pub(super) version: &'static str,
    /// The kernel's interface, and why it is this one.
    pub(super) io: (&'static str, String),
    pub(super) is_ready: bool,
    pub(super) is_draining: bool,
    pub(super) started_unix_millis: u64,
    pub(super) usage: ProcessUsage,
    pub(super) shards: Vec<Arc<ShardCounters>>,
    pub(super) threads: Vec<ThreadUsage>,
    pub(super) inboxes: Vec<Depth>,
    /// A shard, the endpoint's path, and what that shard counts of it.
    pub(super) endpoints: Vec<(usize, String, EndpointStats)>,
    /// The first endpoint that uses the queue, which tells it from others and holds no secret.
    pub(super) queues: Vec<(String, QueueStats)>,
    pub(super) certificates: Vec<CertificateEnd>,
}

/// A way to write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Prometheus' own, 0.0.4.
    Text,
    OpenMetrics,
}

impl Format {
    /// What a client that sends this header gets: OpenMetrics 1.0 if it names it and wants it at least as much as text.
    pub(super) fn of_accept(accept: &str) -> Format {
        let wanted = |media: &str| {
            let quality = |range: &str| {
                let mut parts = range.split(';').map(str::trim);
                let is_meant = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(media));
                let parameters: Vec<(&str, &str)> = parts.filter_map(|part| part.split_once('=')).collect();
                let find = |name: &str| {
                    parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
                };
                let is_ours =
                    media == "text/plain" || find("version").is_none_or(|version| version == "1.0.0");
                (is_meant && is_ours).then(|| find("q").map_or(1.0, |q| q.parse::<f32>().unwrap_or(0.0)))
            };
            accept.split(',').filter_map(quality).fold(0.0, f32::max)
        };
        let open = wanted("application/openmetrics-text");
        if open > 0.0 && open >= wanted("text/plain") { Format::OpenMetrics } else { Format::Text }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Labels of a sample, in their order.
type Labels<'a> = &'a [(&'static str, &'a str)];

impl Snapshot {
    /// All of it, in one of the formats.
    pub(super) fn text(&self, format: Format) -> String {
        let mut page = Page { format, text: String::with_capacity(32 * 1024) };
        page.family(&BUILD, [(&[("version", self.version)][..], self)]);
        page.family(&IO, [(&[("io", self.io.0), ("reason", self.io.1.as_str())][..], self)]);
        for family in PROCESS {
            page.family(family, [(&[][..], self)]);
        }
        for family in USAGE {
            page.family(family, [(&[][..], &self.usage)]);
        }
        let numbers: Vec<String> = (0..self.shards.len()).map(|shard| shard.to_string()).collect();
        self.write_shards(&mut page, &numbers);
        self.write_namespaces(&mut page);
        let number = |shard: usize| numbers.get(shard).map_or("", String::as_str);
        let places = self.endpoints.iter();
        let labels: Vec<_> =
            places.map(|(shard, path, _)| [("shard", number(*shard)), ("endpoint", path.as_str())]).collect();
        for family in ENDPOINTS {
            let stats = self.endpoints.iter().map(|(_, _, stats)| stats);
            page.family(family, labels.iter().map(|labels| &labels[..]).zip(stats));
        }
        let labels: Vec<_> = self.queues.iter().map(|(name, _)| [("queue", name.as_str())]).collect();
        for family in QUEUES {
            let stats = self.queues.iter().map(|(_, stats)| stats);
            page.family(family, labels.iter().map(|labels| &labels[..]).zip(stats));
        }
        for family in CERTIFICATES {
            let files = self.certificates.iter().map(|end| [("certificate", end.file.as_str())]);
            let labels: Vec<_> = files.collect();
            page.family(family, labels.iter().map(|labels| &labels[..]).zip(&self.certificates));
        }
        if format == Format::OpenMetrics {
            page.text.push_str("# EOF\n");
        }
        page.text
    }

    /// What each shard counts.
    fn write_shards(&self, page: &mut Page, numbers: &[String]) {
        let labels: Vec<_> = numbers.iter().map(|shard| [("shard", shard.as_str())]).collect();
        let labels = || labels.iter().map(|labels| &labels[..]);
        for row in SPOKEN.iter().chain(&BY_LABEL).chain(&PLAIN) {
            page.labelled(row, labels().zip(self.shards.iter().map(|shard| &**shard)));
        }
        let stats: Vec<ShardStats> = self.shards.iter().map(|shard| shard.snapshot()).collect();
        for family in SHARDS {
            page.family(family, labels().zip(&stats));
        }
        for family in THREADS {
            page.family(family, labels().zip(&self.threads));
        }
        for family in INBOXES {
            page.family(family, labels().zip(&self.inboxes));
        }
        for sizes in &SIZES {
            page.title(sizes.name, "histogram", sizes.about);
            for (labels, shard) in labels().zip(&self.shards) {
                (sizes.each)(&shard.meters, &mut |own, histogram| {
                    let mut counts = Counts::default();
                    histogram.add_to(&mut counts);
                    page.histogram(sizes, &[labels, own].concat(), &counts);
                });
            }
        }
    }

    /// What all shards count of each namespace.
    fn write_namespaces(&self, page: &mut Page) {
        let totals = NamespaceTotals::of(self.shards.iter().map(|shard| &shard.meters));
        let labels: Vec<_> = totals
            .iter()
            .map(|one| [("endpoint", one.endpoint.as_str()), ("namespace", one.name.as_str())])
            .collect();
        for family in NAMESPACES {
            page.family(family, labels.iter().map(|labels| &labels[..]).zip(&totals));
        }
        page.title(HANDLERS.name, "histogram", HANDLERS.about);
        for (labels, one) in labels.iter().zip(&totals) {
            for (kind, counts) in one.handlers() {
                page.histogram(&HANDLERS, &[&labels[..], &[("kind", kind)]].concat(), counts);
            }
        }
    }
}

struct Page {
    format: Format,
    text: String,
}

// Writing to a string cannot fail.
impl Page {
    /// Says what a metric is; its samples follow.
    fn title(&mut self, name: &str, kind: &str, about: &str) {
        let is_open = self.format == Format::OpenMetrics;
        let name = if is_open { name.strip_suffix("_total").unwrap_or(name) } else { name };
        let _ = writeln!(self.text, "# HELP {name} {about}.\n# TYPE {name} {kind}");
    }

    /// Writes what a metric is, and all its samples: labels with what is counted under them.
    fn family<'a, T: 'static>(
        &mut self,
        family: &Family<T>,
        samples: impl IntoIterator<Item = (Labels<'a>, &'a T)>,
    ) {
        let Family { name, kind, about, read, .. } = family;
        self.title(name, kind.name(), about);
        for (labels, one) in samples {
            self.sample(name, labels, *kind, read(one));
        }
    }

    /// The same for one that has further labels.
    fn labelled<'a>(
        &mut self,
        row: &Labelled,
        shards: impl IntoIterator<Item = (Labels<'a>, &'a ShardCounters)>,
    ) {
        self.title(row.name, row.kind.name(), row.about);
        for (labels, counters) in shards {
            (row.each)(counters, &mut |own, value| {
                self.sample(row.name, &[labels, own].concat(), row.kind, value);
            });
        }
    }

    /// A histogram's series with these labels.
    fn histogram(&mut self, sizes: &Sizes, labels: Labels<'_>, counts: &Counts) {
        let bucket = format!("{}_bucket", sizes.name);
        for bound in sizes.bounds {
            let le = match sizes.unit {
                Unit::Number => format!("{bound}.0"),
                Unit::Time => format!("{}.{:06}", bound / 1_000_000, bound % 1_000_000),
            };
            let labels = [labels, &[("le", le.as_str())]].concat();
            self.sample(&bucket, &labels, Kind::Counter, counts.up_to(*bound));
        }
        self.sample(&bucket, &[labels, &[("le", "+Inf")]].concat(), Kind::Counter, counts.count());
        let sum = if sizes.unit == Unit::Time { Kind::Nanos } else { Kind::Counter };
        self.sample(&format!("{}_sum", sizes.name), labels, sum, counts.sum());
        self.sample(&format!("{}_count", sizes.name), labels, Kind::Counter, counts.count());
    }

    fn sample(&mut self, name: &str, labels: Labels<'_>, kind: Kind, value: u64) {
        self.text.push_str(name);
        for (place, (key, value)) in labels.iter().enumerate() {
            self.text.push_str(if place == 0 { "{" } else { "," });
            let value = value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
            let _ = write!(self.text, "{key}=\"{value}\"");
        }
        self.text.push_str(if labels.is_empty() { " " } else { "} " });
        let _ = match kind {
            Kind::Gauge | Kind::Counter => writeln!(self.text, "{value}"),
            Kind::Millis => writeln!(self.text, "{}.{:03}", value / 1000, value % 1000),
            Kind::Micros => writeln!(self.text, "{}.{:06}", value / 1_000_000, value % 1_000_000),
            Kind::Nanos => writeln!(self.text, "{}.{:09}", value / 1_000_000_000, value % 1_000_000_000),
        };
    }
}

#[cfg(test)]
#[path = "exposition_tests.rs"]
mod tests;
