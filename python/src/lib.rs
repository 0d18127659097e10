//! Flask-SocketIO applications on shardcast: the native half of the Python package `flask_shardcast`.
//!
//! [`core`] is a server. Its shards give everything that happens to a [`courier`], whose jobs a [`pool`] of Python threads does by
//! calling the application's handlers through a [`front`]; what the handlers do goes back in posts. [`convert`] makes Python objects of
//! JSON, and the reverse. The other half is Python, in the folder `flask_shardcast`.
//!
//! Nothing here waits for Python on a shard's thread.

mod client;
mod convert;
mod core;
mod courier;
mod emitter;
mod environ;
mod exchange;
mod front;
mod job;
mod kit;
mod log;
mod measure;
mod pool;
#[cfg(feature = "bench-support")]
mod serde_way;
mod settings;
mod shards;
mod verbs;

use pyo3::prelude::*;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The native half of `flask_shardcast`.
#[pymodule(gil_used = false)]
mod _native {
    #[pymodule_export]
    use super::client::{Client, Connection};
    #[pymodule_export]
    use super::core::Core;
    #[pymodule_export]
    use super::emitter::Emitter;
    #[pymodule_export]
    use super::exchange::Exchange;
    #[pymodule_export]
    use super::kit::{Kit, KitClient};
    #[pymodule_export]
    use super::log::next_line;
    #[pymodule_export]
    use super::measure::{read_args, read_direct, read_tape, write_args};
    #[cfg(feature = "bench-support")]
    #[pymodule_export]
    use super::serde_way::read_serde;
    #[pymodule_export]
    use super::settings::{setting_needs_value, settings_help};
}
