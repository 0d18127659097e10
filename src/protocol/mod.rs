//! Bytes to values and back. No clock, socket, thread or randomness below this line.

pub(crate) mod engineio;
pub(crate) mod flask;
pub(crate) mod http;
#[cfg(test)]
pub(crate) mod mixed;
pub(crate) mod proxy;
pub(crate) mod socketio;
pub(crate) mod surrogates;
pub(crate) mod websocket;
