//! Which revision of the protocol a session speaks.
//!
//! A value that sessions carry; what it changes is in the files beside this one.

/// A revision of the Engine.IO protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Revision {
    /// Clients of Socket.IO 1 and 2, and of Flask-SocketIO 4: `EIO=3`. The client pings.
    Three,
    /// Clients of Socket.IO 3 and later: `EIO=4`. The server pings.
    #[default]
    Four,
}
