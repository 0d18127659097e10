//! One non-blocking TCP connection and the epoll instance it is registered with.
//!
//! Level-triggered: one read a wake is enough, as the shared buffer nearly always holds all there is, and a
//! second read only to be told so would cost a call. What is written waits in `out` until the turn flushes
//! it, so all that one wake caused leaves in one call. With TLS the bytes pass through rustls on their way, which holds at most a record
//! of either direction between two turns. What the bytes mean is in `client.rs`.

use std::io::{self, Read, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};
use rustls::ClientConnection;
use socket2::{Domain, Protocol, Socket, Type};

use super::error::Fault;
use super::limits::{EVENTS_PER_TURN_MAX, KEPT_BUFFER_BYTES, UNSENT_BYTES_MAX};
use super::tls::{self, Tls};

/// The wires that one client may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WireKind {
    /// The WebSocket.
    WebSocket,
    /// The connection on which polls wait.
    Get,
    /// The connection for what the client sends while a poll waits.
    Post,
}

/// Whose wire an event is of; travels through epoll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    /// The client.
    pub(super) client: u32,
    /// Which of its wires.
    pub(super) kind: WireKind,
}

/// Opens wires and waits for them.
pub(super) struct Net {
    epoll: OwnedFd,
    /// Ends a wait at its microsecond: epoll's own timeout has milliseconds, which an open loop would add to
    /// every latency (`epoll_pwait2` could do it since Linux 5.11; this also works before).
    timer: OwnedFd,
    is_timer_armed: bool,
    address: SocketAddr,
    sources: Vec<IpAddr>,
    opened: usize,
    is_reset_on_close: bool,
    tls: Option<Tls>,
}

/// One connection.
pub(super) struct Wire {
    socket: Socket,
    tls: Option<Box<ClientConnection>>,
    token: Token,
    /// Bytes to be sent, of which the first `written` are.
    out: Vec<u8>,
    written: usize,
    /// The beginning of a frame or response whose rest has not arrived.
    pub(super) pending: Vec<u8>,
    is_write_armed: bool,
    is_muted: bool,
}

/// Bytes that are encrypted at once: rustls keeps them until the kernel has taken them.
const SECURED_BYTES_MAX: usize = 64 * 1024;
/// The timer's token: of a client that cannot be.
const TIMER: u64 = u64::MAX;
/// Longer waits are not for a message that is due, so a millisecond is near enough.
const EXACT_WAIT_MAX: Duration = Duration::from_millis(100);

impl Token {
    fn pack(self) -> u64 {
        u64::from(self.client) << 2 | self.kind as u64
    }

    /// What was packed into an event.
    pub(super) fn unpack(data: u64) -> Self {
        let kind = match data & 3 {
            0 => WireKind::WebSocket,
            1 => WireKind::Get,
            _ => WireKind::Post,
        };
        Self { client: (data >> 2) as u32, kind }
    }
}

impl Net {
    /// Connections to `address`, from each of `sources` in turn. With `is_reset_on_close` they end with a
    /// reset, which leaves no port in TIME-WAIT: else a connect storm would be out of ports within a second.
    pub(super) fn new(
        address: SocketAddr,
        sources: Vec<IpAddr>,
        is_reset_on_close: bool,
        tls: Option<Tls>,
    ) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let timer_flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, timer_flags)?;
        epoll::add(&epoll, &timer, epoll::EventData::new_u64(TIMER), epoll::EventFlags::IN)?;
        Ok(Self { epoll, timer, is_timer_armed: false, address, sources, opened: 0, is_reset_on_close, tls })
    }

    /// Waits for events, at most `timeout`, and fills `events`. The timer's own event is of no client.
    pub(super) fn wait(&mut self, events: &mut Vec<epoll::Event>, timeout: Duration) -> io::Result<()> {
        events.clear();
        events.reserve(EVENTS_PER_TURN_MAX);
        let has_fraction = !timeout.subsec_nanos().is_multiple_of(1_000_000) && timeout < EXACT_WAIT_MAX;
        if has_fraction || self.is_timer_armed {
            // Zero disarms, and setting it anew takes back an expiry that has been seen.
            let value = timespec(if has_fraction { timeout } else { Duration::ZERO });
            let once = Itimerspec { it_interval: timespec(Duration::ZERO), it_value: value };
            timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
            self.is_timer_armed = has_fraction;
        }
        let millis = u64::try_from(timeout.as_millis()).unwrap_or(0) + u64::from(has_fraction);
        let whole = timespec(Duration::from_millis(millis));
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(events), Some(&whole)) {
            Err(rustix::io::Errno::INTR) | Ok(_) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Wire {
    /// Begins to connect. Bytes may be queued at once.
    pub(super) fn open(net: &mut Net, token: Token) -> Result<Self, Fault> {
        let kind = Type::STREAM.nonblocking().cloexec();
        let socket = Socket::new(Domain::for_address(net.address), kind, Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        if net.is_reset_on_close {
            socket.set_linger(Some(Duration::ZERO))?;
        }
        if !net.sources.is_empty() {
            let source = net.sources[net.opened % net.sources.len()];
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        net.opened += 1;
        match socket.connect(&net.address.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
        let data = epoll::EventData::new_u64(token.pack());
        epoll::add(&net.epoll, &socket, data, epoll::EventFlags::IN).map_err(io::Error::from)?;
        let (out, pending) = (Vec::new(), Vec::new());
        let tls = net.tls.as_ref().map(Tls::connect).transpose()?;
        Ok(Self { socket, tls, token, out, written: 0, pending, is_write_armed: false, is_muted: false })
    }

    /// Where to append what is to be sent.
    pub(super) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Reads once. `None` when nothing is there, 0 at the end.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, Fault> {
        let read = match &mut self.tls {
            Some(tls) => read_secured(tls, &self.socket, buffer)?,
            None => (&self.socket).read(buffer),
        };
        match read {
            Ok(len) => Ok(Some(len)),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Sends what waits; the rest when the kernel has room again.
    pub(super) fn flush(&mut self, net: &Net) -> Result<(), Fault> {
        while self.owes() && !self.is_muted {
            let rest = self.out.get(self.written..).unwrap_or_default();
            let sent = match &mut self.tls {
                Some(tls) if tls.wants_write() => tls.write_tls(&mut &self.socket).map(|_| 0),
                Some(tls) => tls.writer().write(rest.get(..SECURED_BYTES_MAX).unwrap_or(rest)),
                None => self.socket.send(rest),
            };
            match sent {
                Ok(len) => self.written += len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // Before the connection is made, which epoll tells.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => break,
                Err(error) => return Err(error.into()),
            }
        }
        if self.written == self.out.len() && self.written > 0 {
            self.out.clear();
            self.out.shrink_to(KEPT_BUFFER_BYTES);
            self.written = 0;
        }
        let is_done = !self.owes();
        if self.out.len() - self.written > UNSENT_BYTES_MAX {
            return Err(Fault::Unsent);
        }
        if self.is_write_armed == is_done {
            self.is_write_armed = !is_done;
            self.arm(net)?;
        }
        Ok(())
    }

    /// Stops or resumes to read and write, as a stalled network or a reader that is busy elsewhere would.
    pub(super) fn mute(&mut self, net: &Net, is_muted: bool) -> Result<(), Fault> {
        self.is_muted = is_muted;
        self.arm(net)
    }

    /// True between [`Wire::mute`] and its opposite.
    pub(super) fn is_muted(&self) -> bool {
        self.is_muted
    }

    fn owes(&self) -> bool {
        self.written < self.out.len() || self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    fn arm(&self, net: &Net) -> Result<(), Fault> {
        let mut flags = epoll::EventFlags::empty();
        flags.set(epoll::EventFlags::IN, !self.is_muted);
        flags.set(epoll::EventFlags::OUT, self.is_write_armed && !self.is_muted);
        let data = epoll::EventData::new_u64(self.token.pack());
        epoll::modify(&net.epoll, self.socket.as_fd(), data, flags).map_err(io::Error::from)?;
        Ok(())
    }
}

/// One read of the socket, and all that it decrypts to: at most a few records, for which `buffer` has room.
fn read_secured(
    tls: &mut ClientConnection,
    socket: &Socket,
    buffer: &mut [u8],
) -> Result<io::Result<usize>, Fault> {
    match tls.read_tls(&mut &*socket) {
        Err(error) => return Ok(Err(error)),
        Ok(0) => return Ok(Ok(0)),
        Ok(_) => {}
    }
    tls.process_new_packets().map_err(|error| tls::fault_of(&error))?;
    let mut len = 0;
    while let Some(room) = buffer.get_mut(len..).filter(|room| !room.is_empty()) {
        match tls.reader().read(room) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && len == 0 => return Ok(Err(error)),
            Err(_) => break,
        }
    }
    Ok(Ok(len))
}

fn timespec(wait: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(wait.subsec_nanos()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_epoll() {
        for kind in [WireKind::WebSocket, WireKind::Get, WireKind::Post] {
            let token = Token { client: u32::MAX, kind };
            assert_eq!(Token::unpack(token.pack()), token);
        }
    }
}
