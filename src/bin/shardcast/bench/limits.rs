//! The generator's bounds: each with its unit and its reason.

use std::time::Duration;

/// One read: many small messages of one connection, or a good part of a large one. Shared by all connections,
/// so that an idle one owns no buffer.
pub(super) const READ_BUFFER_BYTES: usize = 256 * 1024;
/// Events taken from epoll at once: beyond this the kernel's list costs more cache than calls it saves.
pub(super) const EVENTS_PER_TURN_MAX: usize = 1024;
/// Messages that an open loop may send before it looks at the sockets again, so that catching up cannot
/// starve the reads whose latency is being measured.
pub(super) const SENDS_PER_TURN_MAX: usize = 256;
/// Bytes that one connection may owe to the server before the run is given up: the server stopped reading.
pub(super) const UNSENT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A message that is larger than anything this generator asks for means that the framing is lost.
pub(super) const MESSAGE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// The largest `--payload`: stock servers refuse more than 1 MB in one message, so this leaves them room to
/// raise it.
pub(super) const PAYLOAD_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Packets in one POST: stock Python servers refuse a payload of more.
pub(super) const PACKETS_PER_POST_MAX: usize = 16;
/// An idle keep-alive connection older than this is opened anew instead of used: Node closes them after 5 s,
/// and a POST that meets the close would be lost or, sent again, doubled.
pub(super) const KEEP_ALIVE_IDLE_MAX: Duration = Duration::from_secs(3);
/// A response head that is longer is not one of a Socket.IO server.
pub(super) const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Headers read of one response.
pub(super) const HEADERS_MAX: usize = 64;
/// The share of its core at which the generator, not the server, may be what is measured.
pub(super) const BUSY_SHARE_WARN: f64 = 0.90;
/// The 99th percentile of how late an open loop sent its messages above which its latencies say as much about
/// the generator as about the server.
pub(super) const LAG_WARN: Duration = Duration::from_millis(2);
/// How often the progress bar moves, timeouts are looked for and the server's memory is read.
pub(super) const SURVEY_INTERVAL: Duration = Duration::from_millis(200);
/// The longest latency that the histograms tell apart.
pub(super) const LATENCY_MAX: Duration = Duration::from_secs(600);
/// Kept when a connection's write buffer is empty again: a large burst must not stay allocated on thousands
/// of idle connections.
pub(super) const KEPT_BUFFER_BYTES: usize = 16 * 1024;
/// What is quoted of a response or a refusal in a fault.
pub(super) const QUOTE_BYTES_MAX: usize = 200;
/// Stages of one run: each has a histogram of its own.
pub(super) const STAGES_MAX: usize = 64;
/// Viewers times keys of a dashboard: 8 bytes each.
pub(super) const VIEWED_MAX: u64 = 50_000_000;
/// How long a run that Ctrl-C ended waits for its last messages.
pub(super) const INTERRUPTED_DRAIN: Duration = Duration::from_secs(1);

// The largest message must be readable, or a legal `--payload` could never come back.
const _: () = assert!(PAYLOAD_BYTES_MAX < MESSAGE_BYTES_MAX);
