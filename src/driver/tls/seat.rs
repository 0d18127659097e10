//! What the connections of one shard share of TLS: the configuration, how many handshakes are under way, and what a turn may
//! still spend on them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::ring;

use crate::base::log::ENGINEIO;
use crate::base::shown::Shown;
use crate::config::{Config, Tls};
use crate::driver::clock::Clock;
use crate::driver::tls::certificates::Certificates;
use crate::driver::tls::{TLS_HANDSHAKES_MAX, TLS_PARTIAL_BYTES_MAX};
use crate::shard::value::stats::ShardCounters;

/// Steps of handshakes in one turn, up to 0.2 ms each: the clients that are there already wait no longer than for these.
pub(crate) const TLS_HANDSHAKE_STEPS_PER_TURN_MAX: u32 = 8;

/// What a filter has opened is kept in a buffer up to this size.
const PLAIN_BYTES_KEPT_MAX: usize = 256 * 1024;

/// From one line about handshakes that have failed to the next.
const FAILURES_SAID_EVERY: Duration = Duration::from_secs(60);

/// What all shards share.
pub(crate) struct Acceptor {
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) certificates: Arc<Certificates>,
    pub(crate) tls: Tls,
    /// Whether operators speak TLS as well.
    pub(crate) admin: bool,
    pub(crate) proxy_protocol: bool,
}

impl Acceptor {
    /// Reads the certificates and makes the configuration of all connections; `None` if no certificate is configured.
    pub(crate) fn load(config: &Config) -> Result<Option<Arc<Acceptor>>, String> {
        if config.tls_cert.is_empty() {
            return Ok(None);
        }
        let certificates = Arc::new(Certificates::load(&config.tls_cert, &config.tls_key)?);
        let server = server_config(Arc::clone(&certificates))?;
        Ok(Some(Arc::new(Acceptor {
            config: Arc::new(server),
            certificates,
            tls: config.tls,
            admin: config.admin_tls,
            proxy_protocol: config.proxy_protocol,
        })))
    }
}

/// TLS 1.2 and 1.3, HTTP/1.1, no early data (it can be replayed), one ticket for a handshake.
fn server_config(certificates: Arc<Certificates>) -> Result<ServerConfig, String> {
    let fault = |error: rustls::Error| format!("cannot set up TLS: {error}");
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .map_err(fault)?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.max_early_data_size = 0;
    config.send_tls13_tickets = 1;
    // What a client resumes by is in the ticket, sealed with a key of the process: shards need no table of sessions.
    config.ticketer = ring::Ticketer::new().map_err(fault)?;
    Ok(config)
}

/// A handshake that is under way, counted on the shard where it began.
#[derive(Debug)]
pub(super) struct Underway(Arc<AtomicUsize>);

impl Drop for Underway {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Bytes that one connection keeps of what is not whole, counted on the shard where they came.
#[derive(Debug)]
pub(super) struct Held(Arc<AtomicUsize>, usize);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::Relaxed);
    }
}

/// What the filters of one shard share.
pub(crate) struct Seat {
    pub(super) acceptor: Option<Arc<Acceptor>>,
    underway: Arc<AtomicUsize>,
    held: Arc<AtomicUsize>,
    steps_left: u32,
    pub(super) counters: Arc<ShardCounters>,
    clock: Clock,
    /// What a filter has opened.
    plain: Vec<u8>,
    /// The pieces of what a filter seals.
    pub(super) joined: Vec<u8>,
    /// When failures were last said, and how many were not.
    said: Option<Duration>,
    unsaid: u64,
}

impl Seat {
    pub(crate) fn new(acceptor: Option<Arc<Acceptor>>, counters: Arc<ShardCounters>) -> Seat {
        Seat {
            acceptor,
            underway: Arc::default(),
            held: Arc::default(),
            steps_left: TLS_HANDSHAKE_STEPS_PER_TURN_MAX,
            counters,
            clock: Clock::new(),
            plain: Vec::new(),
            joined: Vec::new(),
            said: None,
            unsaid: 0,
        }
    }

    /// An empty buffer for what a filter opens.
    pub(crate) fn take_plain(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.plain)
    }

    /// The same buffer, for what is opened next.
    pub(crate) fn give_back(&mut self, mut plain: Vec<u8>) {
        plain.clear();
        if plain.capacity() <= PLAIN_BYTES_KEPT_MAX {
            self.plain = plain;
        }
    }

    /// A turn begins: it has a part of its own for handshakes.
    pub(crate) fn begin_turn(&mut self) {
        self.steps_left = TLS_HANDSHAKE_STEPS_PER_TURN_MAX;
    }

    /// Whether this turn has spent its part on handshakes.
    pub(crate) fn is_used_up(&self) -> bool {
        self.steps_left == 0
    }

    /// Takes a step of a handshake from this turn's part; false if nothing is left of it.
    pub(super) fn take_step(&mut self) -> bool {
        let may = self.steps_left > 0;
        self.steps_left = self.steps_left.saturating_sub(1);
        may
    }

    /// Counts a handshake that begins; `None` if too many are under way.
    pub(super) fn begin_handshake(&mut self) -> Option<Underway> {
        if self.underway.load(Ordering::Relaxed) >= TLS_HANDSHAKES_MAX {
            self.count_failure("as many handshakes as may be are under way on this shard");
            return None;
        }
        self.underway.fetch_add(1, Ordering::Relaxed);
        Some(Underway(Arc::clone(&self.underway)))
    }

    /// Counts bytes that a connection keeps; `None` if all of them keep too much.
    pub(super) fn hold(&mut self, bytes: usize) -> Option<Held> {
        if self.held.load(Ordering::Relaxed) + bytes > TLS_PARTIAL_BYTES_MAX {
            self.count_failure("all clients together keep too many records that are not whole");
            return None;
        }
        self.held.fetch_add(bytes, Ordering::Relaxed);
        Some(Held(Arc::clone(&self.held), bytes))
    }

    /// Counts what a client did wrong, and says so now and then.
    pub(super) fn count_failure(&mut self, why: &str) {
        self.counters.tls_failed.add(1);
        let now = self.clock.elapsed();
        if self.said.is_some_and(|said| now.saturating_sub(said) < FAILURES_SAID_EVERY) {
            self.unsaid += 1;
            tracing::debug!(target: ENGINEIO, why = %Shown(why), "a TLS connection has failed");
            return;
        }
        self.said = Some(now);
        let others = std::mem::take(&mut self.unsaid);
        tracing::info!(
            target: ENGINEIO,
            why = %Shown(why),
            others,
            "a TLS connection has failed; said once a minute, `others` have failed since the last time"
        );
    }
}
