//! The flows: from what comes in to the user code that is called, and back.

pub(crate) mod acks;
pub(crate) mod connect;
pub(crate) mod connect3;
pub(crate) mod connection;
pub(crate) mod dispatch;
pub(crate) mod drain;
pub(crate) mod ends;
pub(crate) mod engine;
pub(crate) mod engine_route;
pub(crate) mod frames;
pub(crate) mod held;
pub(crate) mod http;
pub(crate) mod packets;
pub(crate) mod polling;
pub(crate) mod post;
pub(crate) mod raw;
pub(crate) mod recovery;
pub(crate) mod share;
pub(crate) mod site;
pub(crate) mod tasks;
pub(crate) mod ticks;
pub(crate) mod timeouts;
pub(crate) mod turn;
pub(crate) mod upgrade;
pub(crate) mod waiting;
