//! What can go wrong: [`BenchError`] stops a run before it has a result, [`Fault`] is what one session met.
//!
//! Messages that were lost, doubled, reordered or altered are neither: those are findings, in `ledger.rs`.

use std::fmt;
use std::io;

/// The run could not be made. The exit code is the caller's: 2 by convention, as findings are 1.
#[derive(Debug)]
pub(crate) enum BenchError {
    /// An option that is wrong by itself or next to another.
    Usage(String),
    /// A session could not be opened before traffic began.
    Connect(String),
    /// The operating system refused something that every run needs.
    Io(&'static str, io::Error),
    /// The result could not be written as JSON.
    Json(serde_json::Error),
}

/// Why one session ended or could not begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The connection could not be opened, or broke.
    Io(io::ErrorKind, String),
    /// The server closed the connection; the WebSocket close code if there was one.
    Closed(Option<u16>),
    /// The server ended the Socket.IO session (packet type 1) or the Engine.IO session (packet type 1).
    Disconnected,
    /// The server refused the namespace (packet type 4).
    Refused(String),
    /// A response with another status than 200, or than 101 for a WebSocket.
    Status(u16, String),
    /// Not HTTP, or not what an Engine.IO server answers.
    Http(&'static str),
    /// A WebSocket frame that RFC 6455 forbids.
    Frame(&'static str),
    /// An Engine.IO or Socket.IO packet that has no meaning here.
    Packet(String),
    /// The session was not open in time.
    Timeout,
    /// The server did not read for so long that the unsent bytes reached their bound.
    Unsent,
}

impl std::error::Error for BenchError {}

impl fmt::Display for BenchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) => f.write_str(text),
            Self::Connect(text) => write!(f, "the sessions could not be opened: {text}"),
            Self::Io(what, error) => write!(f, "{what}: {error}"),
            Self::Json(error) => write!(f, "the result cannot be written as JSON: {error}"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(_, text) => f.write_str(text),
            Self::Closed(None) => f.write_str("the server closed the connection"),
            Self::Closed(Some(code)) => write!(f, "the server closed the WebSocket with code {code}"),
            Self::Disconnected => f.write_str("the server disconnected the socket"),
            Self::Refused(text) => write!(f, "the server refused the namespace: {text}"),
            Self::Status(status, text) => write!(f, "the server answered {status}: {text}"),
            Self::Http(text) => write!(f, "not an Engine.IO response: {text}"),
            Self::Frame(text) => write!(f, "a WebSocket frame broke RFC 6455: {text}"),
            Self::Packet(text) => write!(f, "an unexpected packet: {text}"),
            Self::Timeout => f.write_str("the session was not open within --connect-timeout"),
            Self::Unsent => {
                f.write_str("the server stopped reading: 64 MiB wait to be sent to one connection")
            }
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error.kind(), error.to_string())
    }
}

/// A short, printable piece of what the peer sent.
pub(super) fn quote(bytes: &[u8]) -> String {
    let cut = bytes.get(..super::limits::QUOTE_BYTES_MAX).unwrap_or(bytes);
    String::from_utf8_lossy(cut).chars().map(|char| if char.is_control() { '.' } else { char }).collect()
}
