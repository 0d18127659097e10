//! Targets of the log lines that settings and users name.

/// What is logged about Engine.IO: requests, sessions, transports. The setting `engineio_log` is its level.
pub(crate) const ENGINEIO: &str = "shardcast::engineio";

/// The packets of one client that somebody asked for (`Handle::trace`).
pub(crate) const TRACE: &str = "shardcast::engineio::trace";

/// What is logged about Socket.IO: packets, namespaces, handlers. The setting `socketio_log` is its level.
pub(crate) const SOCKETIO: &str = "shardcast::socketio";
