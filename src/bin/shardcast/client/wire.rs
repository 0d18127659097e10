//! One connection, plain or with TLS, on which every wait has an end.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::http::{ANSWER_BYTES_MAX, decode};
use super::{Exchange, Failure, Secured};

/// One read.
const READ_BYTES: usize = 16 * 1024;

/// A stream whose reads and writes end at one moment, however slowly bytes drip.
struct Timed {
    stream: Socket,
    end: Instant,
}

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// What is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

enum Stream {
    Plain(Timed),
    Secure(Box<StreamOwned<ClientConnection, Timed>>),
}

/// Where to connect.
#[derive(Clone)]
pub(crate) struct Way {
    pub(crate) address: Address,
    pub(crate) host: String,
    /// With TLS, and these roots.
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

pub(crate) struct Wire {
    stream: Stream,
    /// What was read and is not used yet.
    pub(crate) heard: Vec<u8>,
    is_closed: bool,
}

#[allow(clippy::disallowed_methods)] // The wire is where the clock is read.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Seconds since 1970.
#[allow(clippy::disallowed_methods)] // The wire is where the clock is read.
pub(crate) fn wall_clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl Way {
    /// Connects, and agrees on TLS.
    pub(crate) fn open(&self, end: Instant) -> Result<Wire, Failure> {
        let timed = Timed { stream: self.connect(end)?, end };
        let stream = match &self.tls {
            None => Stream::Plain(timed),
            Some(config) => Stream::Secure(Box::new(self.secure(config, timed)?)),
        };
        Ok(Wire { stream, heard: Vec::new(), is_closed: false })
    }

    /// How long it takes to be let in.
    pub(crate) fn knock(&self, end: Instant) -> Result<Duration, Failure> {
        let began = now();
        self.connect(end).map(|_| began.elapsed())
    }

    fn connect(&self, end: Instant) -> Result<Socket, Failure> {
        let refused = |error: io::Error| match &self.address {
            Address::Tcp(address) => Failure::Refused(format!("{address}: {error}")),
            Address::Unix(path) => Failure::Refused(format!("unix:{}: {error}", path.display())),
        };
        match &self.address {
            Address::Tcp(address) => {
                let left = end.saturating_duration_since(now()).max(Duration::from_millis(1));
                let stream = TcpStream::connect_timeout(address, left).map_err(refused)?;
                let _ = stream.set_nodelay(true);
                Ok(Socket::Tcp(stream))
            }
            Address::Unix(path) => UnixStream::connect(path).map(Socket::Unix).map_err(refused),
        }
    }

    fn secure(
        &self,
        config: &Arc<ClientConfig>,
        mut timed: Timed,
    ) -> Result<StreamOwned<ClientConnection, Timed>, Failure> {
        let tls = |error: &dyn std::fmt::Display| Failure::Tls(error.to_string());
        let name = ServerName::try_from(self.host.clone()).map_err(|error| tls(&error))?;
        let mut connection = ClientConnection::new(Arc::clone(config), name).map_err(|error| tls(&error))?;
        while connection.is_handshaking() {
            connection.complete_io(&mut timed).map_err(|error| tls(&error))?;
        }
        Ok(StreamOwned::new(connection, timed))
    }
}

impl Wire {
    /// How TLS was agreed upon, if it was.
    pub(crate) fn secured(&self) -> Secured {
        let Stream::Secure(stream) = &self.stream else { return Secured::default() };
        let version = stream.conn.protocol_version().and_then(|version| version.as_str());
        let alpn = stream.conn.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
        let leaf = stream.conn.peer_certificates().and_then(|chain| chain.first());
        let leaf = leaf.and_then(|leaf| x509_parser::parse_x509_certificate(leaf).ok());
        let good_until = leaf.map(|(_, leaf)| leaf.validity().not_after.timestamp());
        Secured { version: version.unwrap_or("TLS").replace('_', "."), alpn, good_until }
    }

    pub(crate) fn send(&mut self, bytes: &[u8], end: Instant) -> Result<(), Failure> {
        self.timed().end = end;
        let sent = match &mut self.stream {
            Stream::Plain(stream) => stream.write_all(bytes),
            Stream::Secure(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        };
        sent.map_err(|error| failure(&error))
    }

    /// Waits for more; `false` at the end.
    pub(crate) fn hear(&mut self, end: Instant) -> Result<bool, Failure> {
        self.timed().end = end;
        let mut chunk = [0; READ_BYTES];
        let read = match &mut self.stream {
            Stream::Plain(stream) => stream.read(&mut chunk),
            Stream::Secure(stream) => stream.read(&mut chunk),
        };
        match read {
            Ok(0) => self.is_closed = true,
            Ok(len) => self.heard.extend_from_slice(chunk.get(..len).unwrap_or_default()),
            // TLS without its farewell, and a reset behind an answer.
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
                self.is_closed = true;
            }
            Err(error) => return Err(failure(&error)),
        }
        Ok(!self.is_closed)
    }

    /// Sends a request and reads its answer.
    pub(crate) fn exchange(&mut self, request: &[u8], end: Instant) -> Exchange {
        let began = now();
        // A server may answer, 413 say, and close before it has read all.
        let sent = self.send(request, end);
        loop {
            if let Some((mut answer, len)) = decode(&self.heard, self.is_closed)? {
                self.heard.drain(..len);
                answer.took = began.elapsed();
                return Ok(answer);
            }
            if self.heard.len() > 2 * ANSWER_BYTES_MAX {
                return Err(Failure::TooLong("the answer"));
            }
            if let Err(failure) = self.hear(end) {
                return Err(sent.err().unwrap_or(failure));
            }
        }
    }

    fn timed(&mut self) -> &mut Timed {
        match &mut self.stream {
            Stream::Plain(stream) => stream,
            Stream::Secure(stream) => &mut stream.sock,
        }
    }
}

impl Timed {
    fn left(&self) -> io::Result<Duration> {
        let left = self.end.saturating_duration_since(now());
        if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

impl Read for Timed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = Some(self.left()?);
        match &mut self.stream {
            Socket::Tcp(stream) => stream.set_read_timeout(left).and_then(|()| stream.read(into)),
            Socket::Unix(stream) => stream.set_read_timeout(left).and_then(|()| stream.read(into)),
        }
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = Some(self.left()?);
        match &mut self.stream {
            Socket::Tcp(stream) => stream.set_write_timeout(left).and_then(|()| stream.write(bytes)),
            Socket::Unix(stream) => stream.set_write_timeout(left).and_then(|()| stream.write(bytes)),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn failure(error: &io::Error) -> Failure {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Failure::Timeout,
        ErrorKind::InvalidData => Failure::Tls(error.to_string()),
        _ => Failure::Closed,
    }
}
