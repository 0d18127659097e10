//! Every bound that is not a field of `Config`, with its unit and its reason.

use std::time::Duration;

/// The longest WebSocket frame header: two bytes, an 8-byte length, a 4-byte mask (RFC 6455 §5.2).
pub(crate) const FRAME_HEADER_BYTES_MAX: usize = 2 + 8 + 4;

/// A control frame's payload (RFC 6455 §5.5).
pub(crate) const CONTROL_PAYLOAD_BYTES_MAX: usize = 125;

/// A request line with its headers, unless `head_bytes_max` says otherwise: what nginx lets through
/// (`large_client_header_buffers`). Beyond it the answer is 431.
pub(crate) const HEAD_BYTES_DEFAULT: usize = 32 * 1024;

/// The least that `head_bytes_max` can be: a handshake of a browser with a few cookies.
pub(crate) const HEAD_BYTES_LEAST: usize = 4 * 1024;

/// The most that `head_bytes_max` can be: a head that arrives in pieces is looked at from its start for each of them.
pub(crate) const HEAD_BYTES_MOST: usize = 256 * 1024;

/// Header fields in one request: several times what browsers and a chain of proxies send. Beyond it the answer is 431.
pub(crate) const HEADERS_MAX: usize = 256;

/// Attachments of one incoming binary packet: what socket.io-parser 4.2.7 accepts.
pub(crate) const ATTACHMENTS_MAX: usize = 10;

/// Nested arrays and objects in one JSON text: what serde_json and most parsers accept.
pub(crate) const JSON_DEPTH_MAX: usize = 128;

/// Packets in one long-polling response: stock Python clients refuse more.
pub(crate) const POLL_PACKETS_MAX: usize = 16;

/// The query of a namespace in a CONNECT, in bytes: the same query is in the request line, which is shorter.
pub(crate) const NAMESPACE_QUERY_BYTES_MAX: usize = 16 * 1024;

/// A namespace's name in a packet, in bytes. Longer ones are refused as unknown.
pub(crate) const NAMESPACE_BYTES_MAX: usize = 512;

/// Namespaces and patterns that can be registered.
pub(crate) const NAMESPACES_REGISTERED_MAX: usize = 8 * 1024;

/// The most that `namespaces_max` can be.
pub(crate) const NAMESPACES_MADE_MAX: usize = 48 * 1024;

// A namespace's number has 16 bits, and the last stands for none.
const _: () = assert!(NAMESPACES_REGISTERED_MAX + NAMESPACES_MADE_MAX < u16::MAX as usize);

/// Asynchronous handlers of one session that still run for sockets which it has left: they go on by themselves, and a client
/// that leaves and joins in a loop would start any number. Beyond it the session is closed.
pub(crate) const HANDLERS_LEFT_MAX: usize = 32;

/// How long the rooms of a socket that has ended are kept for a disconnect handler that ends later.
pub(crate) const FAREWELL_MAX: Duration = Duration::from_secs(30);

/// So many such sockets a shard keeps, some 500 bytes each beside their rooms. With one more, the oldest goes.
pub(crate) const FAREWELLS_MAX: usize = 64 * 1024;

/// Acknowledgements that the handlers of one socket may keep to give later. With as many its later events wait.
pub(crate) const ACKS_KEPT_PER_SOCKET_MAX: usize = 1024;

/// The same for all sockets of one shard, some 64 bytes each. Beyond it a handler that takes one fails.
pub(crate) const ACKS_KEPT_MAX: usize = 1024 * 1024;
