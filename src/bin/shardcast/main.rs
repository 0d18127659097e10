//! The command line: `shardcast serve`, which is also what plain `shardcast` does, `shardcast bench`, and `shardcast emit` with the
//! like of it.

mod allocator;
mod bench;
mod bench_events;
mod bench_games;
mod bench_server;
mod client;
mod demo;
mod doctor;
mod emit;
mod top;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use shardcast::{Config, Error, Io};

/// How long an error waits for somebody to read it.
const COMPLAINT_PATIENCE: Duration = Duration::from_millis(500);

/// Crates below this one that say something in the log, at `trace`.
const LOGGING_CRATES: [&str; 4] = ["shardcast", "monoio", "mio", "log"];

/// The exit code of a benchmark that could not be made; 1 says that the server failed it.
const BENCH_FAILED: u8 = 2;

/// The exit code of a command line that makes no sense, as clap's.
const USAGE: u8 = 2;

/// Socket.IO, Engine.IO and WebSocket server for Linux, one shard per core.
///
/// Every option is also an environment variable (--bind is SHARDCAST_BIND) and a key of a TOML file (bind).
/// An option wins over the environment, the environment over the file.
#[derive(Debug, Parser)]
#[command(name = "shardcast", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeOptions,
}

#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant)] // parsed once
enum Command {
    /// Serve the demo: a chat with rooms, and a live view of the shards. The default.
    Serve(ServeOptions),
    /// Load a Socket.IO server, check every message and report latencies
    Bench(bench::Options),
    BenchServer(bench_server::ServerOptions),
    Doctor(doctor::DoctorOptions),
    Emit(emit::EmitOptions),
    Join(emit::ChangeRoomOptions),
    /// Take clients out of a room, wherever they are connected
    Leave(emit::ChangeRoomOptions),
    Disconnect(emit::DisconnectOptions),
    Top(top::TopOptions),
}

#[derive(Args, Debug, Default)]
struct ServeOptions {
    /// Where to listen: ADDR:PORT, [IPV6]:PORT or unix:PATH; may be given more than once [default: 127.0.0.1:5000]
    #[arg(long, value_name = "ADDR:PORT")]
    bind: Vec<String>,
    /// Where operators are served, apart from clients: ADDR:PORT or unix:PATH, with /metrics, /livez and /readyz [default: nowhere]
    #[arg(long, value_name = "ADDR:PORT")]
    admin_bind: Option<String>,
    /// Shards, each on a core of its own [default: the CPUs this process may use]
    #[arg(long, value_name = "N")]
    shards: Option<usize>,
    /// error, warn, info, debug, trace, off, or levels by target: info,shardcast::engineio=debug [default: info]
    #[arg(long, value_name = "LEVEL")]
    log: Option<String>,
    /// auto, uring, epoll or monoio (io_uring through monoio); uring fails where there is no io_uring [default: auto]
    #[arg(long, value_name = "IO", value_parser = parse_io)]
    io: Option<Io>,
    /// A TOML file with any of the configuration's keys [env: SHARDCAST_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

fn main() -> ExitCode {
    allocator::give_memory_back_at_once();
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Bench(options)) => {
            bench::run(options).unwrap_or_else(|error| fail(&error, BENCH_FAILED))
        }
        Some(Command::BenchServer(options)) => ended(bench_server::run(options)),
        Some(Command::Doctor(options)) => doctor::run(&options).unwrap_or_else(|fault| fail(&fault, USAGE)),
        Some(Command::Emit(options)) => said(emit::emit(&options)),
        Some(Command::Join(options)) => said(emit::join(&options)),
        Some(Command::Leave(options)) => said(emit::leave(&options)),
        Some(Command::Disconnect(options)) => said(emit::disconnect(&options)),
        Some(Command::Top(options)) => top::run(&options).unwrap_or_else(|fault| fail(&fault, 1)),
        Some(Command::Serve(options)) => run_server(options),
        None => run_server(cli.serve),
    }
}

fn run_server(options: ServeOptions) -> ExitCode {
    ended(serve(options))
}

fn ended(outcome: shardcast::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, 1),
    }
}

fn said(outcome: Result<(), emit::Unsaid>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(emit::Unsaid::Usage(fault)) => fail(&fault, USAGE),
        Err(emit::Unsaid::Failed(fault)) => fail(&fault, 1),
    }
}

fn fail(error: &dyn std::fmt::Display, code: u8) -> ExitCode {
    shardcast::log::flush();
    let complaint = format!("error: {error}\n");
    let (said, is_said) = std::sync::mpsc::channel();
    // From a thread: standard error may be a pipe that nobody reads, and the process ends all the same.
    let thread = std::thread::Builder::new().spawn(move || {
        let _ = std::io::stderr().write_all(complaint.as_bytes());
        let _ = said.send(());
    });
    if thread.is_ok() {
        let _ = is_said.recv_timeout(COMPLAINT_PATIENCE);
    }
    ExitCode::from(code)
}

fn serve(options: ServeOptions) -> shardcast::Result<()> {
    let config = options.load()?;
    shardcast::log::init(&config)?;
    check_targets(&config.log)?;
    demo::server(config).run()
}

/// This program logs through few crates, so a target that begins with none of their names is a slip of the pen.
fn check_targets(filter: &str) -> shardcast::Result<()> {
    for (target, _) in filter.split(',').filter_map(|part| part.split_once('=')) {
        let root = target.trim().split("::").next().unwrap_or_default();
        if !LOGGING_CRATES.contains(&root) {
            return Err(Error::new(format!(
                "log = {filter:?}: nothing is logged by {target:?}; write shardcast, shardcast::socketio or shardcast::engineio"
            )));
        }
    }
    Ok(())
}

impl ServeOptions {
    fn load(self) -> shardcast::Result<Config> {
        let file = self.config.or_else(|| std::env::var_os("SHARDCAST_CONFIG").map(PathBuf::from));
        // Credentials of the environment are refused where nothing is bound for operators, so the option is said with them.
        let bound = self.admin_bind.map(|bind| ("SHARDCAST_ADMIN_BIND".to_owned(), bind));
        let others = std::env::vars().filter(|(name, _)| bound.is_none() || name != "SHARDCAST_ADMIN_BIND");
        let mut config = Config::load_with(file.as_deref(), others.chain(bound.clone()))?;
        if !self.bind.is_empty() {
            config.bind = self.bind;
        }
        config.shards = self.shards.unwrap_or(config.shards);
        config.log = self.log.unwrap_or(config.log);
        config.io = self.io.unwrap_or(config.io);
        Ok(config)
    }
}

fn parse_io(text: &str) -> Result<Io, String> {
    match text {
        "auto" => Ok(Io::Auto),
        "uring" => Ok(Io::Uring),
        "epoll" => Ok(Io::Epoll),
        "monoio" => Ok(Io::Monoio),
        _ => Err("write auto, uring, epoll or monoio".to_owned()),
    }
}
