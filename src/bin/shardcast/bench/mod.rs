//! `shardcast bench`: a load generator for any Socket.IO server.
//!
//! Bird's eye: `generator.rs` is one thread with one epoll instance. It reads sockets (`wire.rs`) into
//! clients (`client.rs`, `polling.rs`), which speak the protocols (`tls.rs`, `http.rs`, `websocket.rs`, `packet.rs`, `msgpack.rs`)
//! and tell a workload (`workload.rs`; `echo.rs`, `calls.rs`, `broadcast.rs`, `sessions.rs`, `storm.rs`, `dashboard.rs`, `ticks.rs`)
//! what they heard. The workload checks it (`payload.rs`, `ledger.rs`), measures it (`measure.rs`, `series.rs`) and commands what is
//! sent next, when it is due (`schedule.rs`). `report.rs` says how it went: as a table (`table.rs`), as a page (`page.rs`, `plot.rs`),
//! beside another run (`compare.rs`), and by conditions (`threshold.rs`).
//!
//! It shares no code with the server: a fault in a codec of theirs must not be hidden by the same fault here.
//! Not here: compression, several threads. To load a server of many cores start several generators.

mod broadcast;
mod calls;
mod client;
mod clock;
mod compare;
mod dashboard;
mod echo;
mod error;
mod generator;
mod http;
mod interrupt;
mod ledger;
mod limits;
mod measure;
mod msgpack;
mod options;
mod packet;
mod page;
mod payload;
mod plot;
mod polling;
mod process;
mod progress;
mod report;
mod rules;
mod schedule;
mod series;
mod sessions;
mod storm;
mod table;
mod target;
mod template;
mod threshold;
mod ticks;
mod tls;
pub(crate) mod websocket;
mod wire;
mod workload;

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};

use broadcast::{Broadcast, Layout};
use calls::Calls;
use client::Io;
use dashboard::Dashboard;
use echo::Echo;
use generator::{Content, Generator};
use interrupt::Interrupt;
use options::{MaskKind, Scenario, Transport};
use packet::{Codec, EventKind};
use payload::Payloads;
use report::Report;
use schedule::Drive;
use sessions::{Connect, Idle};
use storm::{Storm, StormPlan};
use target::Target;
use template::Template;
use ticks::Ticks;
use tls::Tls;
use websocket::Mask;
use wire::Net;
use workload::Workload;

pub(crate) use error::BenchError;
pub(crate) use options::{Options, duration};

/// Descriptors that are not connections: standard streams, epoll, /proc.
const DESCRIPTORS_OTHER: u64 = 32;

/// The exit code of a result that a `--fail-if` is true of.
const EXIT_THRESHOLD: u8 = 3;

/// Runs one scenario and writes its result, or compares two. The exit code says whether every message was right.
pub(crate) fn run(options: Options) -> Result<ExitCode, BenchError> {
    let before = options.compare.first().map(|path| compare::load(path)).transpose()?;
    let report = match (options.scenario, options.compare.get(1)) {
        (Some(_), Some(after)) => {
            let text = format!(
                "--compare: {} would be a second result, but a scenario is run: leave out the one or the other",
                after.display()
            );
            return Err(BenchError::Usage(text));
        }
        (None, Some(after)) => compare::load(after)?,
        (None, None) => {
            let text = "--compare needs a second file, or a scenario to run and to compare with the first";
            return Err(BenchError::Usage(text.to_owned()));
        }
        (Some(_), None) => {
            let report = measure(&options)?;
            write_report(&report, options.json.as_deref())?;
            report
        }
    };
    if let Some(before) = &before {
        let write = |error| BenchError::Io("writing the comparison", error);
        // Where JSON goes to standard output, nothing else does.
        if options.json.as_deref() != Some(Path::new("-")) {
            let text = compare::Comparison::new(before, &report);
            write!(std::io::stdout().lock(), "{text}").map_err(write)?;
        }
    }
    if let Some(path) = &options.html {
        let page = page::render(&report, before.as_ref());
        std::fs::write(path, page).map_err(|error| BenchError::Io("writing --html", error))?;
    }
    Ok(match options.scenario {
        None => ExitCode::SUCCESS,
        Some(_) if !report.ok => ExitCode::FAILURE,
        Some(_) if report.is_interrupted => ExitCode::from(interrupt::EXIT_INTERRUPTED),
        Some(_) if report.is_failed() => ExitCode::from(EXIT_THRESHOLD),
        Some(_) => ExitCode::SUCCESS,
    })
}

fn measure(options: &Options) -> Result<Report, BenchError> {
    options.check()?;
    raise_descriptor_limit(options)?;
    if let Some(id) = options.pin
        && !is_pinned_to(id)
    {
        return Err(BenchError::Usage(format!("--pin {id}: this process may not run on that core")));
    }
    let interrupt = Interrupt::listen().map_err(|error| BenchError::Io("signals", error))?;
    let nonce = clock::unix_nanos();
    let io = open_io(options, nonce)?;
    // The low digits of the time differ between generators that are started together; the process id even
    // more.
    let run_id = (nonce >> 10) as u32 ^ std::process::id().wrapping_mul(0x9E37_79B9);
    let payloads = Payloads::new(run_id, options.payload, options.scenario() == Scenario::Binary);
    let template = |name: &String| Template::of_event(name, &options.data, options.connections);
    let event = options.event.as_ref().map(template).transpose()?;
    let content = Content { payloads, event };
    let run = Generator::new(options.clone(), io, workload(options), content, interrupt).run()?;
    Ok(Report::new(options, run))
}

fn open_io(options: &Options, nonce: u64) -> Result<Io, BenchError> {
    let clients = options.connections;
    let target = Target::resolve(&options.url, &options.path)?.of_revision(options.revision);
    let mut target = target.with_extras(&options.header, &options.query, clients)?;
    if options.scenario() == Scenario::Ticks {
        target = target.with_groups(clients.div_ceil(options.room_size));
    }
    let auth = options.auth.as_deref().map(|auth| Template::json("--auth", auth, clients)).transpose()?;
    let tls = target
        .secured
        .as_deref()
        .map(|host| Tls::new(host, options.ca.as_deref(), options.insecure))
        .transpose()?;
    if tls.is_none() && (options.insecure || options.ca.is_some()) {
        return Err(BenchError::Usage("--ca and --insecure are for URLs with https or wss".to_owned()));
    }
    // A polling session's last POST must still be read, which a reset would prevent.
    let is_reset_on_close = options.scenario().counts_sessions() && options.transport != Transport::Polling;
    let net = Net::new(target.address, options.source.clone(), is_reset_on_close, tls)
        .map_err(|error| BenchError::Io("epoll", error))?;
    let mask = match options.mask {
        MaskKind::Zero => Mask::Zero,
        // Xorshift never leaves the state 0.
        MaskKind::Random => Mask::Random(nonce | 1),
    };
    let codec = Codec::new(&options.namespace).with_auth(auth).of_revision(options.revision);
    Ok(Io {
        net,
        target,
        codec,
        mask,
        transport: options.transport,
        parser: options.parser,
        revision: options.revision,
        recovers: options.recover,
        ping_interval: None,
        scratch: Vec::new(),
    })
}

fn workload(options: &Options) -> Box<dyn Workload> {
    let (clients, pace, ramp) = (options.connections, options.pace(), options.ramp());
    let layout = Layout { clients, rooms: None, slow: options.slow_clients(), stall: None };
    let drive = |senders| Drive::new(pace.clone(), ramp, senders);
    match options.scenario() {
        Scenario::Echo if options.event.is_some() => {
            Box::new(Calls::new(clients, drive(clients), options.answer.clone()))
        }
        Scenario::Echo => Box::new(Echo::new(EventKind::Echo, clients, drive(clients))),
        Scenario::Binary => Box::new(Echo::new(EventKind::Bin, clients, drive(clients))),
        Scenario::Fanout | Scenario::Slow => Box::new(Broadcast::new(layout, pace, ramp)),
        Scenario::Stalled => {
            Box::new(Broadcast::new(Layout { stall: Some(options.stall), ..layout }, pace, ramp))
        }
        Scenario::Rooms => Box::new(Broadcast::new(Layout::of_rooms(clients, options.room_size), pace, ramp)),
        Scenario::Connect => Box::new(Connect::new(clients, pace)),
        Scenario::Idle => Box::new(Idle::new(clients)),
        Scenario::Storm => Box::new(Storm::new(StormPlan {
            clients,
            storms: options.storms,
            spread: options.spread,
            pause: options.pause,
            ignores_retry_after: options.ignore_retry_after,
            recovers: options.recover,
        })),
        Scenario::Dashboard => Box::new(Dashboard::new(clients, options.keys, options.hz, drive(1))),
        Scenario::Ticks => {
            Box::new(Ticks::new(clients, options.room_size, options.hz, options.payload as u32))
        }
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
            // In a storm all are opened at once.
            Transport::Upgrade if !options.scenario().counts_sessions() => connections + 2 * opening,
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
    if json != Some(Path::new("-")) {
        // First, so that a file that cannot be written does not cost the result.
        write!(stdout, "{report}").map_err(write)?;
    }
    let Some(path) = json else { return Ok(()) };
    let text = serde_json::to_string_pretty(report).map_err(BenchError::Json)? + "\n";
    if path == Path::new("-") {
        return stdout.write_all(text.as_bytes()).map_err(write);
    }
    std::fs::write(path, text).map_err(|error| BenchError::Io("writing --json", error))
}
