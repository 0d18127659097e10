//! HTTP/1.1 as values: request heads, chunked bodies, responses, and the rules around them.
//!
//! RFC 9110 (semantics) and RFC 9112 (messages); the folder's README maps sections to files. Nothing here
//! reads a socket, a clock or a file, and the WebSocket handshake lives in `protocol/websocket`.

pub(crate) mod authorization;
pub(crate) mod chunked;
pub(crate) mod coding;
pub(crate) mod cookies;
pub(crate) mod cors;
pub(crate) mod cors_pattern;
pub(crate) mod date;
pub(crate) mod described;
pub(crate) mod error;
pub(crate) mod etag;
pub(crate) mod events;
pub(crate) mod forwarded;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub(crate) mod head;
pub(crate) mod headers;
pub(crate) mod hosts;
pub(crate) mod limits;
pub(crate) mod method;
pub(crate) mod query;
pub(crate) mod range;
pub(crate) mod response;
pub(crate) mod static_path;
pub(crate) mod status;
#[cfg(test)]
mod vectors;
