//! `shardcast bench`: a load generator for any Socket.IO 4 server.
//!
//! Bird's eye: `generator.rs` is one thread with one epoll instance. It reads sockets (`wire.rs`) into
//! clients (`client.rs`, `polling.rs`), which speak the protocols (`http.rs`, `websocket.rs`, `packet.rs`)
//! and tell a workload (`workload.rs`; `echo.rs`, `broadcast.rs`, `sessions.rs`) what they heard. The
//! workload checks it (`payload.rs`, `ledger.rs`), measures it (`measure.rs`) and commands what is sent next.
//! `report.rs` says how it went.
//!
//! It shares no code with the server: a fault in a codec of theirs must not be hidden by the same fault here.
//! Not here: TLS, msgpack, compression, several threads. To load a server of many cores start several
//! generators.

mod broadcast;
mod client;
mod clock;
mod echo;
mod error;
mod generator;
mod http;
mod ledger;
mod limits;
mod measure;
mod options;
mod packet;
mod payload;
mod polling;
mod process;
mod progress;
mod report;
mod sessions;
mod target;
mod websocket;
mod wire;
mod workload;

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};

use broadcast::{Broadcast, Layout};
use client::Io;
use echo::Echo;
use generator::Generator;
use options::{MaskKind, Scenario, Transport};
use packet::{Codec, EventKind};
use payload::Payloads;
use report::Report;
use sessions::{Connect, Idle};
use target::Target;
use websocket::Mask;
use wire::Net;
use workload::Workload;

pub(crate) use error::BenchError;
pub(crate) use options::{Options, duration};

/// Descriptors that are not connections: standard streams, epoll, /proc.
const DESCRIPTORS_OTHER: u64 = 32;

/// Runs one scenario and writes its result. The exit code says whether every message was right.
pub(crate) fn run(options: Options) -> Result<ExitCode, BenchError> {
    options.check()?;
    raise_descriptor_limit(&options)?;
    if let Some(id) = options.pin
        && !is_pinned_to(id)
    {
        return Err(BenchError::Usage(format!("--pin {id}: this process may not run on that core")));
    }
    let nonce = clock::unix_nanos();
    let target = Target::resolve(&options.url, &options.path)?;
    // A polling session's last POST must still be read, which a reset would prevent.
    let is_reset_on_close = options.scenario == Scenario::Connect && options.transport != Transport::Polling;
    let net = Net::new(target.address, options.source.clone(), is_reset_on_close)
        .map_err(|error| BenchError::Io("epoll", error))?;
    let mask = match options.mask {
        MaskKind::Zero => Mask::Zero,
        // Xorshift never leaves the state 0.
        MaskKind::Random => Mask::Random(nonce | 1),
    };
    let codec = Codec::new(&options.namespace);
    let io = Io { net, target, codec, mask, transport: options.transport, scratch: Vec::new() };
    // The low digits of the time differ between generators that are started together; the process id even
    // more.
    let run_id = (nonce >> 10) as u32 ^ std::process::id().wrapping_mul(0x9E37_79B9);
    let payloads = Payloads::new(run_id, options.payload, options.scenario == Scenario::Binary);
    let run = Generator::new(options.clone(), io, workload(&options), payloads).run()?;
    let report = Report::new(&options, &run);
    write_report(&report, options.json.as_deref())?;
    Ok(if report.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn workload(options: &Options) -> Box<dyn Workload> {
    let (clients, pace) = (options.connections, options.pace());
    let layout = Layout { clients, rooms: None, slow: options.slow_clients(), stall: None };
    match options.scenario {
        Scenario::Echo => Box::new(Echo::new(EventKind::Echo, clients, pace)),
        Scenario::Binary => Box::new(Echo::new(EventKind::Bin, clients, pace)),
        Scenario::Fanout | Scenario::Slow => Box::new(Broadcast::new(layout, pace)),
        Scenario::Stalled => Box::new(Broadcast::new(Layout { stall: Some(options.stall), ..layout }, pace)),
        Scenario::Rooms => Box::new(Broadcast::new(Layout::of_rooms(clients, options.room_size), pace)),
        Scenario::Connect => Box::new(Connect::new(clients, pace)),
        Scenario::Idle => Box::new(Idle::new(clients)),
    }
}

/// Keeps this thread on one core. False if this process may not run there, or there is no such core.
fn is_pinned_to(core: usize) -> bool {
    if core >= CpuSet::MAX_CPU {
        return false;
    }
    let mut mask = CpuSet::new();
    mask.set(core);
    sched_setaffinity(None, &mask).is_ok()
}

/// A connection is a descriptor, and most systems start programs with 1,024.
fn raise_descriptor_limit(options: &Options) -> Result<(), BenchError> {
    let wires = match options.transport {
        Transport::Websocket => 1,
        Transport::Polling => 2,
        Transport::Upgrade => 3,
    };
    // An upgraded session has one connection again, so only those being opened need three.
    let connections = u64::from(options.connections);
    let opening = connections.min(u64::from(options.connect_window));
    let needed = DESCRIPTORS_OTHER
        + match options.transport {
            Transport::Upgrade if options.scenario != Scenario::Connect => connections + 2 * opening,
            _ => wires * connections,
        };
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let is_enough = limit.maximum.is_none_or(|maximum| maximum >= needed);
    if !is_enough || setrlimit(Resource::Nofile, raised).is_err() {
        let allowed = limit.maximum.unwrap_or(0);
        let text = format!("{needed} file descriptors are needed and {allowed} allowed; raise `ulimit -n`");
        return Err(BenchError::Usage(text));
    }
    Ok(())
}

fn write_report(report: &Report, json: Option<&Path>) -> Result<(), BenchError> {
    let write = |error| BenchError::Io("writing the result", error);
    let mut stdout = std::io::stdout().lock();
    let Some(path) = json else { return write!(stdout, "{report}").map_err(write) };
    let text = serde_json::to_string_pretty(report).map_err(BenchError::Json)?;
    if path == Path::new("-") {
        return writeln!(stdout, "{text}").map_err(write);
    }
    std::fs::write(path, text + "\n").map_err(|error| BenchError::Io("writing --json", error))?;
    write!(stdout, "{report}").map_err(write)
}
