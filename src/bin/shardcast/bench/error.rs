//! What can go wrong: [`BenchError`] stops a run before it has a result, [`Fault`] is what one session met.
//!
//! Messages that were lost, doubled, reordered or altered are neither: those are findings, in `ledger.rs`.

use std::fmt;
use std::io;

use super::http::Hint;

/// The run could not be made. The exit code is the caller's: 2 by convention, as findings are 1.
#[derive(Debug)]
pub(crate) enum BenchError {
    /// An option that is wrong by itself or next to another.
    Usage(String),
    /// A session with this server could not be opened before traffic began, for this reason.
    Connect(String, String),
    /// The operating system refused something that every run needs.
    Io(&'static str, io::Error),
    /// The result could not be written as JSON.
    Json(serde_json::Error),
}

/// Why one session ended or could not begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The connection could not be opened, or broke.
    Io(io::ErrorKind, String),
    /// The server closed the connection; the WebSocket close code if there was one.
    Closed(Option<u16>),
    /// The server ended the Socket.IO session (packet type 1) or the Engine.IO session (packet type 1).
    Disconnected,
    /// The server refused the namespace (packet type 4).
    Refused(String),
    /// A response with another status than 200, or than 101 for a WebSocket.
    Status(u16, String, Hint),
    /// The server speaks TLS, and was spoken to without.
    Secured,
    /// The TLS connection could not be made, or broke.
    Tls(String),
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
            Self::Connect(url, text) => write!(f, "the sessions to {url} could not be opened: {text}"),
            Self::Io(what, error) => write!(f, "{what}: {error}"),
            Self::Json(error) => write!(f, "the result cannot be written as JSON: {error}"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(io::ErrorKind::ConnectionRefused, _) => f.write_str(
                "the connection was refused: no server listens there; `shardcast bench-server` starts one on 127.0.0.1:5000",
            ),
            Self::Io(_, text) => f.write_str(text),
            Self::Tls(text) => f.write_str(text),
            Self::Secured => f.write_str("the server speaks TLS; write https:// or wss://"),
            Self::Closed(None) => f.write_str("the server closed the connection"),
            Self::Closed(Some(code)) => write!(f, "the server closed the WebSocket with code {code}"),
            Self::Disconnected => f.write_str("the server disconnected the socket"),
            Self::Refused(text) if text.contains("Invalid namespace") => {
                write!(f, "the server has no such namespace: {text}; name one that it has by --namespace")
            }
            Self::Refused(text) => {
                write!(f, "the server refused the namespace: {text}; if it asks for a login, give one by --auth, --header or --query")
            }
            Self::Status(status, text, hint) => {
                write!(f, "the server answered {status}")?;
                if !text.is_empty() {
                    write!(f, ": {text}")?;
                }
                write!(f, "; {}", advice(*status, text, hint))
            }
            Self::Http(text) => {
                write!(f, "not an Engine.IO response: {text}; is a Socket.IO server at this URL and --path?")
            }
            Self::Frame(text) => write!(f, "a WebSocket frame broke RFC 6455: {text}"),
            Self::Packet(text) => write!(f, "an unexpected packet: {text}"),
            Self::Timeout => f.write_str("the session was not open within --connect-timeout"),
            Self::Unsent => {
                f.write_str("the server stopped reading: 64 MiB wait to be sent to one connection")
            }
        }
    }
}

/// What to change when a server answers with a status.
fn advice(status: u16, text: &str, hint: &Hint) -> String {
    match (status, text, &hint.location, hint.retry_after) {
        (200..=299, ..) => "that is no Socket.IO server, or it has no WebSocket: is --path right?".to_owned(),
        (300..=399, _, Some(location), _) => format!("it sends its clients to {location}: use that URL"),
        (400, text, ..) if text.contains("plain HTTP request") => "write https:// or wss://".to_owned(),
        (400, text, ..) if text.contains("Unsupported protocol") => {
            "it speaks Engine.IO 3 (Socket.IO 2) only; this program speaks Engine.IO 4".to_owned()
        }
        (400, text, ..) if text.contains("Transport unknown") => {
            "it does not serve this --transport".to_owned()
        }
        (400 | 403, text, ..) if text.to_ascii_lowercase().contains("origin") => {
            "it asks for another origin: --header 'Origin: https://...'".to_owned()
        }
        (401 | 403, ..) => {
            "it asks for a login: give one by --header 'Authorization: ...', --query or --auth".to_owned()
        }
        (404, ..) => "nothing is at this path: name the Engine.IO endpoint by --path".to_owned(),
        (421, ..) => "it is for another host name: use that in the URL".to_owned(),
        (429 | 503, _, _, after) => {
            let when = after.map_or_else(String::new, |after| {
                format!(" and asks to come back after {} s", after.as_secs())
            });
            format!(
                "it takes no more sessions for now{when}: lower --connections, --connect-rate or --connect-window, or raise its bounds"
            )
        }
        (502 | 504, ..) => "a proxy in front of it got no answer: does the server run?".to_owned(),
        _ => "its log may say why".to_owned(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_what_to_change() {
        let status = |status, text: &str, hint| Fault::Status(status, text.to_owned(), hint);
        let location = Hint { location: Some("https://a".to_owned()), ..Hint::default() };
        let later = Hint { retry_after: Some(std::time::Duration::from_secs(7)), ..Hint::default() };
        let rows = [
            (status(200, "<html>", Hint::default()), "--path"),
            (status(301, "", location), "answered 301; it sends its clients to https://a"),
            (status(400, "The plain HTTP request was sent to HTTPS port", Hint::default()), "https://"),
            (
                status(400, "{\"code\":5,\"message\":\"Unsupported protocol version\"}", Hint::default()),
                "Engine.IO 3",
            ),
            (status(401, "", Hint::default()), "--header 'Authorization"),
            (status(403, "origin not allowed", Hint::default()), "--header 'Origin"),
            (status(404, "", Hint::default()), "--path"),
            (status(502, "", Hint::default()), "proxy"),
            (status(503, "busy", later), "after 7 s: lower --connections"),
            (Fault::Refused("{\"message\":\"Invalid namespace\"}".to_owned()), "--namespace"),
            (Fault::Refused("{\"message\":\"no token\"}".to_owned()), "--auth"),
            (Fault::Http("not an HTTP/1.1 response"), "--path"),
            (Fault::Secured, "https://"),
        ];
        for (fault, expected) in rows {
            assert!(fault.to_string().contains(expected), "{fault}");
        }
    }

    #[test]
    fn a_refused_connection_says_how_to_start_a_server() {
        let fault = Fault::from(io::Error::from(io::ErrorKind::ConnectionRefused));
        let error = BenchError::Connect("http://127.0.0.1:5000".to_owned(), fault.to_string()).to_string();
        assert!(
            error.contains("http://127.0.0.1:5000") && error.contains("shardcast bench-server"),
            "{error}"
        );
    }
}
