//! `round_trip SERVER_CORE CLIENT_CORE [MILLISECONDS]`: is the machine the one it was a minute ago?
//!
//! Two numbers as JSON: how long a byte takes through two pipes to a thread on the other core and back, sleeping
//! and waking at both ends; and how long the server's core takes for fixed arithmetic. The first moves when the
//! hypervisor or a neighbour does, the second when the clock speed does.

// A probe reads the clock; that is all it does.
#![allow(clippy::disallowed_methods)]

use std::error::Error;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::pipe::pipe;
use rustix::thread::{CpuSet, sched_setaffinity};

/// Multiplications in one piece of arithmetic: tens of microseconds, longer than the clock's own cost.
const ARITHMETIC_STEPS: u64 = 20_000;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (server, client, millis) = match &arguments[..] {
        [server, client] => (server.parse()?, client.parse()?, 200),
        [server, client, millis] => (server.parse()?, client.parse()?, millis.parse()?),
        _ => return Err("usage: round_trip SERVER_CORE CLIENT_CORE [MILLISECONDS]".into()),
    };
    let budget = Duration::from_millis(millis);
    let mut trips = measure_trips(server, client, budget)?;
    let mut work = measure_arithmetic(budget / 4);
    let (trip, work) = (quartiles(&mut trips), quartiles(&mut work));
    println!(
        r#"{{"round_trips":{},"round_trip_ns":[{},{},{}],"arithmetic_ns":[{},{},{}]}}"#,
        trips.len(),
        trip[0],
        trip[1],
        trip[2],
        work[0],
        work[1],
        work[2],
    );
    Ok(())
}

/// The calling thread is the server's.
fn measure_trips(server: usize, client: usize, budget: Duration) -> Result<Vec<u64>, Box<dyn Error>> {
    let ((there_end, there), (back_end, back)) = (pipe()?, pipe()?);
    let echo = std::thread::spawn(move || echo(client, &there_end, &back));
    pin(server)?;
    let mut trips = Vec::with_capacity(1 << 18);
    let start = Instant::now();
    let mut byte = [0];
    while start.elapsed() < budget {
        let sent = Instant::now();
        rustix::io::write(&there, &byte)?;
        rustix::io::read(&back_end, &mut byte)?;
        trips.push(sent.elapsed().as_nanos() as u64);
    }
    drop(there);
    echo.join().map_err(|_| "the echoing thread panicked")??;
    Ok(trips)
}

fn echo(core: usize, from: &OwnedFd, to: &OwnedFd) -> rustix::io::Result<()> {
    pin(core)?;
    let mut byte = [0];
    while rustix::io::read(from, &mut byte)? == 1 {
        rustix::io::write(to, &byte)?;
    }
    Ok(())
}

fn measure_arithmetic(budget: Duration) -> Vec<u64> {
    let (start, mut pieces, mut value) = (Instant::now(), Vec::new(), 1_u64);
    while start.elapsed() < budget {
        let piece = Instant::now();
        for step in 0..ARITHMETIC_STEPS {
            value = std::hint::black_box(value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(step));
        }
        pieces.push(piece.elapsed().as_nanos() as u64);
    }
    pieces
}

fn pin(core: usize) -> rustix::io::Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set)
}

fn quartiles(values: &mut [u64]) -> [u64; 3] {
    values.sort_unstable();
    [1, 2, 3].map(|quarter| values.get(values.len() * quarter / 4).copied().unwrap_or(0))
}
