//! The whole server in one thread: real shards, fake wires, virtual time, one seed.
//!
//! `cargo test simulation` runs a few fixed seeds. `SHARDCAST_SEEDS=1000` runs more of them, and
//! `SHARDCAST_SEED=..` replays one that failed; with `SHARDCAST_LOG=debug` the shards say why. `world` moves bytes, `client` speaks the protocols, `scenario`
//! holds the model that judges; `directed` has the situations that chance would rarely reach, `targets` questions to many.

mod app;
mod client;
mod directed;
mod no_alloc;
mod scenario;
mod targets;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use tracing::level_filters::LevelFilter;

/// Seeds of an ordinary run of the tests.
const SEEDS: u64 = 24;

#[test]
fn random_clients_see_what_the_model_says() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("SHARDCAST_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SHARDCAST_SEEDS").unwrap_or(SEEDS),
    };
    let level = std::env::var("SHARDCAST_LOG").ok().map(|level| level.parse::<LevelFilter>());
    if let Some(Ok(level)) = level {
        // Another test may have set it already.
        let _ = tracing_subscriber::fmt().with_max_level(level).with_test_writer().try_init();
    }
    for seed in seeds {
        let outcome = catch_unwind(AssertUnwindSafe(|| scenario::run(seed)));
        assert!(outcome.is_ok(), "the simulation failed; SHARDCAST_SEED={seed} replays it");
    }
}
