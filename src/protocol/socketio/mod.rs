//! Socket.IO protocol, revision 5: packets, their JSON arguments and their attachments.
//!
//! Text in, values out, and back; the leading `4` of an Engine.IO message is neither read nor written.
//! Reading order: `packet` (the grammar), `json` (what is JSON and where an element ends), `event` (names
//! and arguments), `binary` (placeholders), `attached` (reading around them), `lent` (types that borrow), `any_value`, `owned` and
//! `given` (what users hold), `raw_json`, `attachments` (waiting for frames), `encode` and `writer`;
//! `frames`, packets as WebSocket frames; `msgpack`, the other parser.
//! Does not know which namespaces exist, who is connected or what is awaited: that is the caller's.

pub(crate) mod any_value;
mod attached;
pub(crate) mod attachments;
pub(crate) mod binary;
mod each_method;
pub(crate) mod encode;
pub(crate) mod event;
#[cfg_attr(not(feature = "bus"), allow(dead_code, reason = "the bus alone carries events of other servers"))]
pub(crate) mod frames;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub(crate) mod given;
pub(crate) mod json;
pub(crate) mod lent;
pub(crate) mod msgpack;
pub(crate) mod owned;
pub(crate) mod packet;
pub(crate) mod raw_json;
#[cfg(test)]
mod vectors;
mod writer;
