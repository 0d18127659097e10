//! A live table of machines: `cargo run --example dashboard`, then open http://127.0.0.1:5000.
//!
//! The machines report some hundreds of times a second. A page hears of it ten times a second, and only the last values
//! of those that have reported. A page that is opened later has all values at once; a machine that is taken away
//! leaves every page.

use std::time::Duration;

use serde::Serialize;
use shardcast::http::Response;
use shardcast::{Config, Context, Handle, Namespace, Server, State, StateError, StateRoom, interval};

/// The room, and the event that its members hear.
const MACHINES: &str = "machines";
const COUNT: u64 = 30;
/// From one round of reports to the next.
const TICK: Duration = Duration::from_millis(20);
/// From one replacement of the oldest machine to the next.
const REPLACED_TICKS: u64 = 150;

#[derive(Serialize)]
struct Machine {
    #[serde(skip)]
    number: u64,
    /// Per cent.
    cpu: f64,
    requests: u64,
    reports: u64,
}

fn main() -> shardcast::Result<()> {
    Server::new(Config::load()?)
        .namespace("/", register)
        .background(play)
        .route("/", |_| Response::html(include_str!("pages/dashboard.html")))
        .static_folder("/pages", concat!(env!("CARGO_MANIFEST_DIR"), "/examples/pages"))
        .run()
}

fn register(io: &mut Namespace) {
    io.state_room(MACHINES, StateRoom::max_hz(10.0));
    io.on_connect(|cx: &mut Context| cx.join(MACHINES));
}

/// Plays the machines, once for the whole server. All shards hold their values.
async fn play(handle: Handle) {
    let mut machines = (1..=COUNT).map(Machine::new).collect();
    // It keeps its beat: fifty rounds a second, whatever the work of a round takes.
    let mut beats = interval(TICK);
    loop {
        let beat = beats.tick().await;
        if let Err(error) = work(&mut machines, beat, &handle.state("/", MACHINES)) {
            tracing::warn!(%error, "a report is lost");
        }
    }
}

/// What happens in one tick: some machines report, and now and then another one takes the oldest one's place.
fn work(machines: &mut Vec<Machine>, tick: u64, room: &State) -> Result<(), StateError> {
    if tick % REPLACED_TICKS == REPLACED_TICKS - 1 {
        let oldest = machines.remove(0);
        machines.push(Machine::new(oldest.number + COUNT));
        room.remove(&oldest.name())?;
    }
    for machine in machines.iter_mut().filter(|machine| machine.reports_at(tick)) {
        machine.work(tick);
        room.set(&machine.name(), machine)?;
    }
    Ok(())
}

impl Machine {
    fn new(number: u64) -> Machine {
        Machine { number, cpu: 0.0, requests: 0, reports: 0 }
    }

    fn name(&self) -> String {
        format!("machine {:03}", self.number)
    }

    /// Some report with each tick, others four times a second.
    fn reports_at(&self, tick: u64) -> bool {
        self.reports == 0 || tick.is_multiple_of(1 + (self.number * 7) % 13)
    }

    fn work(&mut self, tick: u64) {
        let (time, phase) = (tick as f64 * TICK.as_secs_f64(), self.number as f64);
        let load = 0.5 + 0.3 * (time * 0.7 + phase * 1.9).sin() + 0.18 * (time * 3.1 + phase * 0.7).sin();
        self.cpu = (load * 1000.0).round() / 10.0;
        self.requests += (load * 40.0) as u64;
        self.reports += 1;
    }
}
