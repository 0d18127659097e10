//! What users register, hold and call. Each borrows the core for one call, and encodes or drops values of the user while nothing is
//! borrowed.

pub(crate) mod ack;
pub(crate) mod acknowledged;
pub(crate) mod answering;
pub(crate) mod app;
pub(crate) mod argument;
pub(crate) mod asking;
pub(crate) mod changing;
pub(crate) mod context;
pub(crate) mod current;
pub(crate) mod engine_socket;
pub(crate) mod expiry;
pub(crate) mod found;
pub(crate) mod gathering;
pub(crate) mod login;
pub(crate) mod owned_request;
pub(crate) mod posting;
pub(crate) mod process_facts;
pub(crate) mod question;
pub(crate) mod recipients;
pub(crate) mod request;
pub(crate) mod responder;
pub(crate) mod route_options;
pub(crate) mod servers;
pub(crate) mod shard_info;
pub(crate) mod site;
pub(crate) mod sleep;
pub(crate) mod socket;
pub(crate) mod state;
pub(crate) mod streamed;
pub(crate) mod subprotocol;
pub(crate) mod tick;
pub(crate) mod ticket;
pub(crate) mod watching;
pub(crate) mod websocket;
