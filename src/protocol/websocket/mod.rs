//! WebSocket, RFC 6455: the opening handshake, frames, messages, close codes; permessage-deflate, RFC 7692.
//!
//! Bytes in, values out, and back. Reading order: `handshake` (§4), `frame` (§5.2), `mask` (§5.3),
//! `message` (§5.4-5.6), `utf8` (§8.1), `close` (§5.5.1, §7.4), `extension` and `deflate` (RFC 7692), `client` (the other side of all
//! of them). Does not read or write a socket, and does not decide when to ping or close.

pub(crate) mod client;
pub(crate) mod close;
pub(crate) mod deflate;
pub(crate) mod extension;
pub(crate) mod frame;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub(crate) mod handshake;
pub(crate) mod mask;
pub(crate) mod message;
pub(crate) mod utf8;
#[cfg(test)]
mod vectors;
