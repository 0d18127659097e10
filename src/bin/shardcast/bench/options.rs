//! The command line of `shardcast bench`, and the rules between its options.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::schedule::Schedule;
use super::threshold::Threshold;

/// Load a Socket.IO server, check every message and report latencies.
///
/// For a first try: `shardcast bench-server` in one terminal, `shardcast bench echo` in another. It has the events of all scenarios.
///
/// A server of your own needs, in the namespace: `echo` (acknowledges its argument), `bin` (acknowledges its attachment as one),
/// `broadcast` (emits `msg` with the argument to all), `join` (joins the room, acknowledges) and `room` (emits `msg` with the second
/// argument to the room); `connect`, `idle` and `storm` need nothing; docs/benchmarking.md has those of `dashboard` and `ticks`. With
/// `--event`, `echo` sends an event of your own.
///
/// Exit code 0: every message arrived once, in order and whole, and no --fail-if is true. 1: a message was lost, doubled, reordered or
/// altered, or a session broke. 2: the run could not be made. 3: a --fail-if is true. 130: Ctrl-C; the first shows what was measured so
/// far, a second ends at once.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// What the clients do
    #[arg(value_enum, required_unless_present = "compare")]
    pub(super) scenario: Option<Scenario>,
    /// The server
    #[arg(default_value = "http://127.0.0.1:5000")]
    pub(super) url: String,
    /// https and wss: believe the certificates that this authority has signed (a PEM file), in place of the system's
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    pub(super) ca: Option<PathBuf>,
    /// https and wss: believe every certificate
    #[arg(long)]
    pub(super) insecure: bool,
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
    /// Part of an open loop's rate, in turn: over this time it climbs or falls evenly to this many a second, from --rate or 0
    /// (`--stage 10s:1000 --stage 30s:1000 --stage 0s:5000 --stage 5s:5000`). Together they are the measurement
    #[arg(long = "stage", value_name = "TIME:RATE", value_parser = stage)]
    #[arg(conflicts_with_all = ["duration", "in_flight", "rate_per_client", "ramp"])]
    pub(super) stages: Vec<(Duration, f64)>,
    /// In place of --warmup: in this time the load grows evenly from nothing: the rate of an open loop, or the clients of a closed one
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with = "warmup")]
    pub(super) ramp: Option<Duration>,
    /// `rooms`, `ticks`: clients in a room
    #[arg(short = 'k', long, default_value_t = 10, value_name = "K")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) room_size: u32,
    /// How long to measure
    #[arg(short, long, default_value = "10s", value_parser = duration)]
    pub(super) duration: Duration,
    /// Traffic before the measurement [default: 2s; none with --stage]
    #[arg(short, long, value_parser = duration)]
    pub(super) warmup: Option<Duration>,
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
    /// `dashboard`: keys whose values change, in turn, --rate times a second [default rate: keys x hz]
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) keys: u32,
    /// `dashboard`, `ticks`: how often a second viewers are told of changes, and games tick: 1, 5, 10, 20, 30 or 60 with `bench-server`
    #[arg(long, default_value_t = 20, value_name = "HZ", value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub(super) hz: u16,
    /// `storm`: how often all sessions are lost at once; the run ends when they are back, or after --duration
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(super) storms: u32,
    /// `storm`: the time within which the clients come back first; stock clients spread over 500ms to 1500ms
    #[arg(long, default_value = "0s", value_name = "TIME", value_parser = duration)]
    pub(super) spread: Duration,
    /// `storm`: the rest between two storms
    #[arg(long, default_value = "1s", value_name = "TIME", value_parser = duration)]
    pub(super) pause: Duration,
    /// `storm`: clients come back as who they were, as stock clients do at a server with recovery. Before each storm all receive a
    /// `broadcast`, and the first that is back sends another one, which each that is recovered must receive once
    #[arg(long)]
    pub(super) recover: bool,
    /// `storm`: who is refused comes back as early as a page's client, which does not see the header `Retry-After`
    #[arg(long)]
    pub(super) ignore_retry_after: bool,
    /// Source addresses, used in turn: each has some 28,000 ports (127.0.0.2,127.0.0.3,... need no set-up)
    #[arg(long, value_delimiter = ',', value_name = "ADDRESS")]
    pub(super) source: Vec<IpAddr>,
    /// The path of the Engine.IO endpoint
    #[arg(long, default_value = "/socket.io/")]
    pub(super) path: String,
    /// The Socket.IO namespace
    #[arg(long, default_value = "/")]
    pub(super) namespace: String,
    /// A header of every request; may be given more than once. May hold placeholders, as --data
    #[arg(short = 'H', long, value_name = "NAME: VALUE")]
    pub(super) header: Vec<String>,
    /// A part of every request's query, as handlers read it at the handshake; may be given more than once. May hold placeholders, as --data
    #[arg(long, value_name = "NAME=VALUE")]
    pub(super) query: Vec<String>,
    /// JSON that each session sends when it connects, as the `auth` of the stock client. May hold placeholders, as --data
    #[arg(long, value_name = "JSON")]
    pub(super) auth: Option<String>,
    /// `echo`: send this event of yours in place of `echo`
    #[arg(long, value_name = "NAME")]
    pub(super) event: Option<String>,
    /// What answers --event: `ack`, an acknowledgement; `event:NAME`, an event to the sender; or `none`, which needs a rate
    #[arg(long, value_name = "ANSWER", value_parser = answer, default_value = "ack", requires = "event")]
    pub(super) answer: Answer,
    /// An argument of --event; may be given more than once. Placeholders: {{client}} the client's number, {{n}} the number of its message,
    /// {{count}} a number of this message alone, {{random}} or {{random 1 6}} a number, {{text 100}} or {{text 10 2000}} so many letters,
    /// {{pick red green}} one of these words, {{now}} milliseconds since 1970: '{"room":"r-{{client}}","text":"{{text 10 2000}}"}'
    #[arg(long, value_name = "JSON", requires = "event", conflicts_with = "payload")]
    pub(super) data: Vec<String>,
    /// The form of packets: that of socket.io-parser, or of socket.io-msgpack-parser, which costs the generator more
    #[arg(long, value_enum, default_value = "json")]
    pub(super) parser: Parser,
    /// The revision of Engine.IO: 3 is spoken by clients of Socket.IO 2.x and by servers that allow them
    #[arg(long, value_enum, default_value = "4")]
    pub(super) revision: Revision,
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
    /// Write the result as a page with plots to this file
    #[arg(long, value_name = "FILE")]
    pub(super) html: Option<PathBuf>,
    /// End with 3 if this is true, as 'p99>5ms', 'rate<1000/s', 'errors>0.1%'; may be given more than once. One about errors takes the
    /// place of exit code 1 for messages that were wrong
    #[arg(long = "fail-if", value_name = "CONDITION", value_parser = Threshold::parse)]
    pub(super) fail_if: Vec<Threshold>,
    /// Compare with the result of an earlier run (--json), and say which differences are more than noise; two files are compared
    /// without a run
    #[arg(long, value_name = "BEFORE.json", num_args = 1..=2)]
    pub(super) compare: Vec<PathBuf>,
}

/// What the clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Deserialize, serde::Serialize)]
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
    /// All sessions are lost at once and come back at once
    Storm,
    /// One client changes --keys of a board, all see them --hz times a second
    Dashboard,
    /// Games in rooms of --room-size, to which the server sends --hz ticks a second
    Ticks,
}

/// What answers an event of one's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// An acknowledgement.
    Ack,
    /// Nothing.
    None,
    /// An event of this name, to the sender.
    Event(String),
}

/// How sessions are opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Transport {
    /// A WebSocket from the first byte
    Websocket,
    /// HTTP long-polling only
    Polling,
    /// Polling, then a WebSocket, as the stock client does by default
    Upgrade,
}

/// The revision of Engine.IO.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Revision {
    /// That of Socket.IO 2.x
    #[value(name = "3")]
    Three,
    /// That of Socket.IO 3 and 4
    #[value(name = "4")]
    Four,
}

impl Revision {
    /// As it stands in a query.
    pub(super) fn digit(self) -> u8 {
        match self {
            Self::Three => 3,
            Self::Four => 4,
        }
    }
}

/// The form of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Parser {
    /// Text, as all clients do that are told nothing else
    Json,
    /// Bytes
    Msgpack,
}

/// Where WebSocket mask keys come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum MaskKind {
    /// Always 0
    Zero,
    /// Another for each frame
    Random,
}

/// When the next message is sent.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Loop {
    /// When one of this many has come back.
    Closed(u32),
    /// So many times a second, by all clients together.
    Open(Schedule),
}

/// Reads `30s:1000`: a time, and the rate at its end.
fn stage(text: &str) -> Result<(Duration, f64), String> {
    let (time, rate) = text.split_once(':').ok_or("write TIME:RATE, as 30s:1000")?;
    let time = duration(time)?;
    let rate: f64 =
        rate.trim_end_matches("/s").parse().map_err(|_| format!("{rate} is no rate; write 30s:1000"))?;
    if !(0.0..=1e9).contains(&rate) {
        return Err("the rate must be 0 to 1,000,000,000 per second".to_owned());
    }
    Ok((time, rate))
}

/// Reads `ack`, `none` or `event:NAME`.
fn answer(text: &str) -> Result<Answer, String> {
    match text.split_once(':') {
        None if text == "ack" => Ok(Answer::Ack),
        None if text == "none" => Ok(Answer::None),
        Some(("event", name)) if !name.is_empty() => Ok(Answer::Event(name.to_owned())),
        _ => Err("write ack, none or event:NAME".to_owned()),
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
    fn stages_and_answers_are_read() {
        assert_eq!(stage("30s:1000"), Ok((Duration::from_secs(30), 1_000.0)));
        assert_eq!(stage("0s:2.5/s"), Ok((Duration::ZERO, 2.5)));
        for text in ["30s", "30s:", "30s:-1", "x:5", "30s:NaN", "30s:1e12"] {
            assert!(stage(text).is_err(), "{text}");
        }
        assert_eq!(answer("event:done"), Ok(Answer::Event("done".to_owned())));
        for text in ["", "event", "event:", "acks"] {
            assert!(answer(text).is_err(), "{text}");
        }
    }
}
