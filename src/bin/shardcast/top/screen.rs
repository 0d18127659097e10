//! Two readings side by side, as a screen of text.

use super::figures::Figures;

/// What a column shows of a shard: its title, and what is in it.
type Column = (&'static str, fn(&Rates<'_>, Option<(&str, &str)>) -> String);

/// The columns of a shard.
const COLUMNS: [Column; 10] = [
    ("busy", |rates, label| percent(rates.rate("busy_seconds_total", label), rates.threads(label))),
    ("connections", |rates, label| count(rates.now("connections", label))),
    ("sessions", |rates, label| count(rates.now("sessions", label))),
    ("sockets", |rates, label| count(rates.now("sockets", label))),
    ("events/s", |rates, label| count(rates.rate("events_received_total", label))),
    ("messages/s", |rates, label| count(rates.rate("messages_sent_total", label))),
    ("in/s", |rates, label| bytes(rates.rate("received_bytes_total", label))),
    ("out/s", |rates, label| bytes(rates.rate("sent_bytes_total", label))),
    ("owed", |rates, label| bytes(rates.now("owed_bytes", label))),
    ("lost/s", |rates, label| count(rates.rate("mesh_messages_lost_total", label))),
];

/// What should be zero, and the advice where it is not.
const TROUBLES: [(&str, &str); 9] = [
    ("requests_refused_total", "requests refused: the log says why"),
    ("connections_refused_total", "connections refused: connections_max, connections_per_address_max"),
    ("handshakes_refused_total", "handshakes refused: sessions_max, handshakes_per_second_max"),
    ("slow_consumers_closed_total", "slow clients closed: outbox_bytes_max"),
    ("messages_dropped_total", "messages dropped for slow clients"),
    ("mesh_messages_lost_total", "messages lost between shards: a shard cannot keep up"),
    ("handlers_slow_total", "handlers that held their shard: slow_handler"),
    ("handler_panics_total", "handlers that panicked"),
    ("acks_dropped_total", "acknowledgements dropped without an answer"),
];

/// Two readings.
struct Rates<'a> {
    before: &'a Figures,
    now: &'a Figures,
    seconds: f64,
}

impl Rates<'_> {
    fn now(&self, name: &str, label: Option<(&str, &str)>) -> f64 {
        self.now.of(name, label)
    }

    /// A counter's growth in a second; a server that was started anew counts from 0.
    fn rate(&self, name: &str, label: Option<(&str, &str)>) -> f64 {
        let (before, now) = (self.before.of(name, label), self.now.of(name, label));
        let grown = if now < before { now } else { now - before };
        grown / self.seconds
    }

    /// How many shards' time a figure is a part of.
    fn threads(&self, label: Option<(&str, &str)>) -> f64 {
        if label.is_some() { 1.0 } else { self.now.values("connections", "shard").len().max(1) as f64 }
    }
}

/// The screen between two readings.
pub(super) fn draw(shown: &str, before: &Figures, now: &Figures) -> String {
    let seconds = now.at.saturating_duration_since(before.at).as_secs_f64().max(1e-3);
    let rates = Rates { before, now, seconds };
    let version = printable(now.label("build_info", "version").unwrap_or("?"));
    let state = match (now.of("draining", None) > 0.0, now.of("ready", None) > 0.0) {
        (true, _) => "draining",
        (false, true) => "ready",
        (false, false) => "not ready",
    };
    let mut text = format!("shardcast {version} at {shown}: {state}\n\n");
    text.push_str(&shards(&rates));
    text.push_str(&queues(&rates));
    text.push_str(&troubles(&rates));
    text
}

/// Draws over what was drawn before.
pub(super) fn in_place(text: &str) -> String {
    let lines = text.replace('\n', "\x1b[K\n");
    format!("\x1b[H{lines}\x1b[J")
}

fn shards(rates: &Rates<'_>) -> String {
    let shards = rates.now.values("connections", "shard");
    let mut table = vec![vec!["shard".to_owned()]];
    table[0].extend(COLUMNS.iter().map(|(title, _)| (*title).to_owned()));
    for shard in &shards {
        let mut row = vec![printable(shard)];
        row.extend(COLUMNS.iter().map(|(_, shown)| shown(rates, Some(("shard", shard)))));
        table.push(row);
    }
    if shards.len() > 1 {
        let mut row = vec!["all".to_owned()];
        row.extend(COLUMNS.iter().map(|(_, shown)| shown(rates, None)));
        table.push(row);
    }
    let width = |column: usize| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..table[0].len()).map(width).collect();
    let lines = table.iter().map(|row| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:>width$}"));
        cells.collect::<Vec<_>>().join("  ")
    });
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

fn queues(rates: &Rates<'_>) -> String {
    let mut text = String::new();
    for queue in rates.now.values("queue_up", "queue") {
        let label = Some(("queue", queue));
        let state = if rates.now("queue_up", label) > 0.0 { "up" } else { "AWAY" };
        let others = count(rates.now("queue_processes", label));
        let (out, come) =
            (rates.rate("queue_published_total", label), rates.rate("queue_received_total", label));
        let waiting = bytes(rates.now("queue_waiting_bytes", label));
        let lost = rates.rate("queue_lost_total", label) + rates.rate("queue_refused_total", label);
        text.push_str(&format!(
            "\nmessage queue of {}: {state}, {others} other processes, {} messages/s out, {}/s in, {waiting} waiting, {}/s lost\n",
            printable(queue),
            count(out),
            count(come),
            count(lost)
        ));
    }
    text
}

fn troubles(rates: &Rates<'_>) -> String {
    let found = TROUBLES.iter().filter(|(name, _)| rates.now(name, None) > 0.0);
    let lines: Vec<String> = found
        .map(|(name, words)| {
            let (all, rate) = (rates.now(name, None), rates.rate(name, None));
            format!("{:>8}  {:>8}/s  {words}\n", count(all), count(rate))
        })
        .collect();
    if lines.is_empty() {
        String::new()
    } else {
        format!("\n{:>8}  {:>10}\n{}", "ever", "now", lines.concat())
    }
}

fn percent(busy: f64, of: f64) -> String {
    format!("{:.0} %", (busy / of * 100.0).min(100.0))
}

/// 950, 12.3k, 4.5M.
fn count(number: f64) -> String {
    match number {
        n if n >= 9_999_500.0 => format!("{:.0}M", n / 1e6),
        n if n >= 999_950.0 => format!("{:.1}M", n / 1e6),
        n if n >= 9_999.5 => format!("{:.1}k", n / 1e3),
        n if n > 0.0 && n < 9.95 && n.fract() > 0.05 => format!("{n:.1}"),
        n => format!("{n:.0}"),
    }
}

fn bytes(number: f64) -> String {
    match number {
        n if n >= 1e9 => format!("{:.1} GB", n / 1e9),
        n if n >= 1e6 => format!("{:.1} MB", n / 1e6),
        n if n >= 1e3 => format!("{:.1} kB", n / 1e3),
        n => format!("{n:.0} B"),
    }
}

fn printable(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { '.' } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn figures(text: &str, seconds: u64) -> Figures {
        // One moment for all, or two readings would be off by what lies between.
        static BEGAN: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        Figures::read(text, *BEGAN.get_or_init(crate::client::now) + Duration::from_secs(seconds)).unwrap()
    }

    #[test]
    fn a_screen_has_rates_of_each_shard_and_what_should_be_zero() {
        let at = |events: u32, busy: f64, up: u8, panics: u8| {
            format!(
                "shardcast_build_info{{version=\"0.1.0\"}} 1\nshardcast_ready 1\n\
                 shardcast_connections{{shard=\"0\"}} 10\nshardcast_connections{{shard=\"1\"}} 20000\n\
                 shardcast_events_received_total{{shard=\"0\"}} {events}\nshardcast_events_received_total{{shard=\"1\"}} 0\n\
                 shardcast_busy_seconds_total{{shard=\"0\"}} {busy}\nshardcast_busy_seconds_total{{shard=\"1\"}} 0\n\
                 shardcast_sent_bytes_total{{shard=\"0\"}} {}\nshardcast_queue_up{{queue=\"/socket.io/\"}} {up}\n\
                 shardcast_handler_panics_total{{shard=\"1\"}} {panics}\n",
                events * 1000
            )
        };
        let (before, now) = (figures(&at(100, 1.0, 1, 0), 0), figures(&at(3_100, 2.0, 0, 2), 2));
        let text = draw("127.0.0.1:9090", &before, &now);
        let expected = "shardcast 0.1.0 at 127.0.0.1:9090: ready\n\n\
            shard  busy  connections  sessions  sockets  events/s  messages/s  in/s   out/s  owed  lost/s\n\
            \x20   0  50 %           10         0        0      1500           0   0 B  1.5 MB   0 B       0\n\
            \x20   1   0 %        20.0k         0        0         0           0   0 B     0 B   0 B       0\n\
            \x20 all  25 %        20.0k         0        0      1500           0   0 B  1.5 MB   0 B       0\n\n\
            message queue of /socket.io/: AWAY, 0 other processes, 0 messages/s out, 0/s in, 0 B waiting, 0/s lost\n\n\
            \x20   ever         now\n       2         1/s  handlers that panicked\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_server_that_was_started_anew_counts_from_zero() {
        let at = |events: u32| {
            format!(
                "shardcast_build_info{{version=\"1\"}} 1\nshardcast_events_received_total{{shard=\"0\"}} {events}\n"
            )
        };
        let (before, now) = (figures(&at(1_000_000), 0), figures(&at(50), 1));
        let rates = Rates { before: &before, now: &now, seconds: 1.0 };
        assert_eq!(rates.rate("events_received_total", None), 50.0);
    }

    #[test]
    fn numbers_are_short() {
        let counts = [
            (0.0, "0"),
            (0.25, "0.2"),
            (7.5, "7.5"),
            (12.0, "12"),
            (9_999.0, "9999"),
            (12_345.0, "12.3k"),
            (4_500_000.0, "4.5M"),
        ];
        for (number, shown) in counts {
            assert_eq!(count(number), shown);
        }
        for (number, shown) in [(0.0, "0 B"), (1_500.0, "1.5 kB"), (2_500_000.0, "2.5 MB"), (3e9, "3.0 GB")] {
            assert_eq!(bytes(number), shown);
        }
    }
}
