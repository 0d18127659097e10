//! A connection on which messages are sent without waiting for Redis' answers: these are read later, many at once.
//!
//! An answer that comes while nobody needs it would wake the thread: half of what it wakes for, where messages come one by one. So the
//! system is never asked to watch this socket: where it has no room for more, or an answer is needed, it is looked at again in a moment. That the connection is gone is noticed when something is sent,
//! when answers are looked for, and by the connection that hears, which is to the same server.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::time::sleep;

use crate::bus::Fault;
use crate::bus::redis::resp::{Answer, read_answer, write_command};
use crate::config::queue::address::{Credentials, Host, RedisAddress};

/// What is kept of the room for what is sent, when it is not needed.
const OUT_BYTES_KEPT: usize = 64 * 1024;

/// After how long the socket is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// What is read at once.
const READ_BYTES: usize = 4096;

/// Limits of the system's own look-out for a host that is gone.
#[derive(Clone, Copy)]
pub(in crate::bus::redis) struct Silence {
    pub(in crate::bus::redis) idle: Duration,
    pub(in crate::bus::redis) between: Duration,
    pub(in crate::bus::redis) probes: u32,
    pub(in crate::bus::redis) unacknowledged: Duration,
}

pub(in crate::bus::redis) struct Ahead {
    socket: TcpStream,
    /// Commands that are not sent.
    out: Vec<u8>,
    /// The beginning of an answer.
    input: Vec<u8>,
}

impl Ahead {
    /// A connection, without TLS, on which commands can be sent.
    pub(in crate::bus::redis) async fn connect(
        address: &RedisAddress,
        host: &Host,
        silence: Silence,
    ) -> Result<Ahead, Fault> {
        let gone = |error: std::io::Error| broken(host, &error);
        let stream = tokio::net::TcpStream::connect((host.name.as_str(), host.port)).await.map_err(gone)?;
        set_up(&stream, silence).map_err(|error| gone(error.into()))?;
        // It leaves the system's watch here, and stays one that never waits.
        let socket = stream.into_std().map_err(gone)?;
        let mut ahead = Ahead { socket, out: Vec::new(), input: Vec::new() };
        ahead.greet(address, host).await?;
        Ok(ahead)
    }

    async fn greet(&mut self, address: &RedisAddress, host: &Host) -> Result<(), Fault> {
        let mut awaited = 0;
        if let Some(Credentials { user, password }) = &address.credentials {
            let (user, password) = (user.as_bytes(), password.expose().as_bytes());
            match user {
                b"" => self.command(&[b"AUTH", password]),
                _ => self.command(&[b"AUTH", user, password]),
            }
            awaited += 1;
        }
        if address.database != 0 {
            self.command(&[b"SELECT", address.database.to_string().as_bytes()]);
            awaited += 1;
        }
        self.flush(host).await?;
        while awaited > 0 {
            sleep(LOOK_AGAIN).await;
            awaited -= self.answers(host)?.min(awaited);
        }
        Ok(())
    }

    /// Adds a command to what is sent next.
    pub(in crate::bus::redis) fn command(&mut self, parts: &[&[u8]]) {
        write_command(&mut self.out, parts);
    }

    /// Sends all commands: the system has them then.
    pub(in crate::bus::redis) async fn flush(&mut self, host: &Host) -> Result<(), Fault> {
        let mut sent = 0;
        while sent < self.out.len() {
            match (&self.socket).write(&self.out[sent..]) {
                Ok(len) => sent += len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    sleep(LOOK_AGAIN).await;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(broken(host, &error)),
            }
        }
        self.out.clear();
        self.out.shrink_to(OUT_BYTES_KEPT);
        Ok(())
    }

    /// How many commands Redis has carried out since the last call.
    pub(in crate::bus::redis) fn answers(&mut self, host: &Host) -> Result<usize, Fault> {
        let mut count = 0;
        let mut piece = [0; READ_BYTES];
        loop {
            match (&self.socket).read(&mut piece) {
                Ok(0) => return Err(Fault::passing(format!("redis at {host} closed the connection"))),
                Ok(len) => {
                    self.input.extend_from_slice(&piece[..len]);
                    count += self.take_answers(host)?;
                    if len < piece.len() {
                        return Ok(count);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(broken(host, &error)),
            }
        }
    }

    fn take_answers(&mut self, host: &Host) -> Result<usize, Fault> {
        let (mut at, mut count) = (0, 0);
        while let Some((answer, len)) = read_answer(&self.input[at..])
            .map_err(|_| Fault::passing(format!("redis at {host} answers what cannot be read")))?
        {
            if let Answer::Wrong(text) = answer {
                let is_lasting = text.starts_with("NOPERM") || text.contains("unknown command");
                return Err(Fault { text: format!("redis at {host}: {text}"), is_lasting });
            }
            at += len;
            count += 1;
        }
        self.input.drain(..at);
        Ok(count)
    }
}

fn set_up(socket: &tokio::net::TcpStream, silence: Silence) -> rustix::io::Result<()> {
    sockopt::set_tcp_nodelay(socket, true)?;
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, silence.idle)?;
    sockopt::set_tcp_keepintvl(socket, silence.between)?;
    sockopt::set_tcp_keepcnt(socket, silence.probes)?;
    let unacknowledged = u32::try_from(silence.unacknowledged.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_user_timeout(socket, unacknowledged)
}

fn broken(host: &Host, error: &std::io::Error) -> Fault {
    Fault::passing(format!("redis at {host}: {error}"))
}
