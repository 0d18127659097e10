//! The command line of `shardcast bench`, and the rules between its options.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::error::BenchError;
use super::limits::PAYLOAD_BYTES_MAX;
use super::payload::STAMP_BYTES;

/// Load a Socket.IO server, check every message and report latencies.
///
/// The server must implement, in the namespace: `echo` (acknowledges its argument), `bin` (acknowledges its
/// attachment as one), `broadcast` (emits `msg` with the argument to all), `join` (joins the room,
/// acknowledges) and `room` (emits `msg` with the second argument to the room). Senders hear themselves.
///
/// Exit code 0: every message arrived once, in order and whole. 1: not so. 2: the run could not be made.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// What the clients do
    #[arg(value_enum)]
    pub(super) scenario: Scenario,
    /// The server
    #[arg(default_value = "http://127.0.0.1:5000")]
    pub(super) url: String,
    /// How sessions are opened
    #[arg(long, value_enum, default_value = "websocket")]
    pub(super) transport: Transport,
    /// How many clients; for `connect` how many sessions may be open or opening at once
    #[arg(short, long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=4_000_000))]
    pub(super) connections: u32,
    /// Bytes of a message's argument, of which the first 28 say who sent it and when
    #[arg(short, long, default_value_t = 64, value_name = "BYTES")]
    pub(super) payload: usize,
    /// Closed loop: messages that each sender has under way [default: 1; not with a rate]
    #[arg(short, long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(super) in_flight: Option<u32>,
    /// Closed loop of `fanout`, `slow` and `stalled`: broadcasts that have not reached everyone
    #[arg(long, default_value_t = 1, value_name = "K")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(super) publish_in_flight: u32,
    /// Open loop: messages (for `connect`: sessions) per second, by all clients together, whether or not the
    /// server keeps up; latency counts from when a message was due
    #[arg(short, long, value_name = "R", conflicts_with_all = ["in_flight", "rate_per_client"])]
    pub(super) rate: Option<f64>,
    /// Open loop: messages per second by each client [`rooms` without a loop: 20]
    #[arg(long, value_name = "R", conflicts_with = "in_flight")]
    pub(super) rate_per_client: Option<f64>,
    /// `rooms`: clients in a room
    #[arg(short = 'k', long, default_value_t = 10, value_name = "K")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) room_size: u32,
    /// How long to measure
    #[arg(short, long, default_value = "10s", value_parser = duration)]
    pub(super) duration: Duration,
    /// Traffic before the measurement
    #[arg(short, long, default_value = "2s", value_parser = duration)]
    pub(super) warmup: Duration,
    /// How long to wait for the last messages before they count as lost
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub(super) drain: Duration,
    /// Sessions begun per second; without it as fast as --connect-window allows
    #[arg(long, value_name = "R")]
    pub(super) connect_rate: Option<f64>,
    /// Sessions that may be opening at once
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) connect_window: u32,
    /// How long one session may take to open
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub(super) connect_timeout: Duration,
    /// `slow`, `stalled`: the share of the clients that stops reading when the measurement begins
    #[arg(long, default_value_t = 0.1, value_name = "0..1")]
    pub(super) slow_share: f64,
    /// `stalled`: after how long these clients resume
    #[arg(long, default_value = "2s", value_parser = duration)]
    pub(super) stall: Duration,
    /// Source addresses, used in turn: each has some 28,000 ports (127.0.0.2,127.0.0.3,... need no set-up)
    #[arg(long, value_delimiter = ',', value_name = "ADDRESS")]
    pub(super) source: Vec<IpAddr>,
    /// The path of the Engine.IO endpoint
    #[arg(long, default_value = "/socket.io/")]
    pub(super) path: String,
    /// The Socket.IO namespace
    #[arg(long, default_value = "/")]
    pub(super) namespace: String,
    /// WebSocket mask keys. A key of 0 is legal and saves the generator a pass over its payloads; the
    /// server's work is the same unless it looks for 0
    #[arg(long, value_enum, default_value = "zero")]
    pub(super) mask: MaskKind,
    /// Pin the generator to this core
    #[arg(long, value_name = "CORE")]
    pub(super) pin: Option<usize>,
    /// The server's process: report its CPU per message and its memory, child processes included
    #[arg(long, value_name = "PID")]
    pub(super) pid: Option<u32>,
    /// Write the result as JSON to this file, or to standard output (`-`) in place of the table
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,
}

/// What the clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Scenario {
    /// Every client sends `echo` and waits for the acknowledgement
    Echo,
    /// Like echo, with one binary attachment each way
    Binary,
    /// One client publishes, all receive
    Fanout,
    /// Rooms of --room-size in which every client sends and all hear
    Rooms,
    /// Sessions are opened and reset, over and over
    Connect,
    /// Sessions are held open
    Idle,
    /// Fan-out while a share of the clients stops reading for good
    Slow,
    /// Fan-out while a share of the clients neither reads nor writes for --stall, then resumes
    Stalled,
}

/// How sessions are opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Transport {
    /// A WebSocket from the first byte
    Websocket,
    /// HTTP long-polling only
    Polling,
    /// Polling, then a WebSocket, as the stock client does by default
    Upgrade,
}

/// Where WebSocket mask keys come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum MaskKind {
    /// Always 0
    Zero,
    /// Another for each frame
    Random,
}

/// When the next message is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Loop {
    /// When one of this many has come back.
    Closed(u32),
    /// This many times a second, by all clients together.
    Open(f64),
}

/// What `rooms` does when no loop is asked for: a usual game server's tick.
const ROOM_EVENTS_PER_SECOND: f64 = 20.0;

impl Scenario {
    /// One publisher, all receive.
    pub(super) fn is_fanout(self) -> bool {
        matches!(self, Self::Fanout | Self::Slow | Self::Stalled)
    }

    /// A share of the clients misbehaves.
    pub(super) fn has_slow(self) -> bool {
        matches!(self, Self::Slow | Self::Stalled)
    }
}

impl Options {
    /// Refuses what makes no sense, before anything is opened.
    pub(super) fn check(&self) -> Result<(), BenchError> {
        let refuse = |text: String| Err(BenchError::Usage(text));
        if !(STAMP_BYTES..=PAYLOAD_BYTES_MAX).contains(&self.payload) {
            return refuse(format!("--payload must be {STAMP_BYTES} to {PAYLOAD_BYTES_MAX} bytes"));
        }
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
        if !(0.0..1.0).contains(&self.slow_share) {
            return refuse(
                "--slow-share must be at least 0 and below 1: the publisher is never slow".to_owned(),
            );
        }
        if self.duration.is_zero() {
            return refuse("--duration must be longer than nothing".to_owned());
        }
        if !self.namespace.starts_with('/') || self.namespace.contains([',', '"', '\\', '?']) {
            return refuse(format!(
                "--namespace {} must start with a slash and hold no comma",
                self.namespace
            ));
        }
        if self.in_flight.is_some() && self.scenario.is_fanout() {
            return refuse("use --publish-in-flight: only one client publishes".to_owned());
        }
        Ok(())
    }

    /// The loop that the options ask for.
    pub(super) fn pace(&self) -> Loop {
        let senders = if self.scenario.is_fanout() { 1.0 } else { f64::from(self.connections) };
        let is_bare_rooms = self.scenario == Scenario::Rooms && self.in_flight.is_none();
        let per_client = self.rate_per_client.or(is_bare_rooms.then_some(ROOM_EVENTS_PER_SECOND));
        match (self.rate, per_client) {
            (Some(rate), _) => Loop::Open(rate),
            (None, Some(rate)) => Loop::Open(rate * senders),
            (None, None) if self.scenario.is_fanout() => Loop::Closed(self.publish_in_flight),
            (None, None) => Loop::Closed(self.in_flight.unwrap_or(1)),
        }
    }

    /// How many clients, of the highest numbers, stop reading.
    pub(super) fn slow_clients(&self) -> u32 {
        if !self.scenario.has_slow() {
            return 0;
        }
        // At least one when a share was asked for, and never the publisher, which is client 0.
        let slow = (f64::from(self.connections) * self.slow_share).ceil() as u32;
        slow.min(self.connections - 1)
    }
}

/// Reads `10s`, `1.5s`, `300ms` or `2m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|char: char| char.is_ascii_alphabetic());
    let scale = match &text[digits.len()..] {
        "ms" => 1e-3,
        "s" | "" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        unit => return Err(format!("the unit {unit} is not ms, s, m or h")),
    };
    let number: f64 = digits.parse().map_err(|_| "write 10s, 300ms or 2m".to_owned())?;
    let seconds = number * scale;
    // A day: no run is meant to be longer, and a bounded one cannot overflow a moment.
    if !(0.0..=86_400.0).contains(&seconds) {
        return Err("must be 0 to 24 hours".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    fn parse(arguments: &str) -> Options {
        use clap::Parser as _;
        Cli::try_parse_from(["bench"].into_iter().chain(arguments.split(' '))).unwrap().options
    }

    #[test]
    fn durations_have_units() {
        for (text, millis) in
            [("10s", 10_000), ("300ms", 300), ("1.5s", 1_500), ("2m", 120_000), ("3", 3_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "-1s", "1d", "NaNs", "99h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_loop_follows_the_scenario() {
        let rows = [
            ("echo", Loop::Closed(1)),
            ("echo -i 4", Loop::Closed(4)),
            ("echo --rate 500", Loop::Open(500.0)),
            ("echo --connections 10 --rate-per-client 5", Loop::Open(50.0)),
            ("fanout --publish-in-flight 3", Loop::Closed(3)),
            ("fanout --connections 10 --rate-per-client 5", Loop::Open(5.0)),
            ("rooms --connections 10", Loop::Open(200.0)),
            ("rooms --in-flight 2", Loop::Closed(2)),
        ];
        for (arguments, expected) in rows {
            assert_eq!(parse(arguments).pace(), expected, "{arguments}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let rows = [
            "echo -p 27",
            "echo --rate 0",
            "slow --slow-share 1",
            "echo --duration 0s",
            "echo --namespace a",
            "fanout -i 2",
        ];
        for arguments in rows {
            assert!(parse(arguments).check().is_err(), "{arguments}");
        }
        assert!(parse("slow -c 1").check().is_ok());
        assert_eq!(parse("slow -c 1").slow_clients(), 0);
        assert_eq!(parse("slow -c 100").slow_clients(), 10);
    }
}
