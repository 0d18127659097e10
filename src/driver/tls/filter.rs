//! One connection's TLS: records in, plain bytes out, and the other way round. It does no IO.
//!
//! What is sealed waits in `sealed` until the wire takes it as a *flight*, which does not change until all of it is out: the
//! kernel may be reading it. Of what the shard owes, no more is sealed than one flight, and it stays in the outbox until the flight is
//! out: a client that is slow owes pointers like any other, and one flight more. At rest a connection has none of the buffers.
//!
//! If the kernel could seal (kTLS), this is where a connection whose handshake is over would be given up to it:
//! `UnbufferedServerConnection::dangerous_into_kernel_connection`, once `has_flight` is false.

use std::io::IoSlice;
use std::sync::Arc;

use rustix::net::Shutdown;
use rustls::HandshakeKind;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};

use crate::config::Tls;
use crate::driver::tls::seat::{Held, Seat, Underway};
use crate::driver::tls::{NotReady, TLS_CONNECTION_BYTES, Verdict};
use crate::message::peer::{Arrival, Door, Peer};
use crate::protocol::proxy::{self, ProxyHeader};

/// The first byte of a TLS connection: the type of a record that brings a handshake (RFC 8446 §5.1). No request of HTTP begins so.
const HANDSHAKE_RECORD: u8 = 0x16;

/// What the shard owes, as much as is sealed at a time: four full records.
const SEALED_BYTES_MAX: usize = 64 * 1024;

/// What a record adds to its content, at most, in the versions that are served.
const RECORD_OVERHEAD_BYTES: usize = 32;

/// Content of one record (RFC 8446 §5.1).
const RECORD_BYTES_MAX: usize = 16 * 1024;

/// What may have come of a message or a record whose rest has not: a full record (RFC 8446 §5.2), and no handshake needs more.
const INCOMPLETE_BYTES_MAX: usize = 20 * 1024;

/// What may have come for a handshake that waits for its turn; with more it goes on at once.
const LATER_BYTES_MAX: usize = 16 * 1024;
const _: () = assert!(LATER_BYTES_MAX <= INCOMPLETE_BYTES_MAX);

/// What rustls has of a connection at rest outside of its own value: the keys of both directions and what they come from.
const KEYS_BYTES: usize = 2100;
const _: () = assert!(
    size_of::<Filter>() + size_of::<UnbufferedServerConnection>() + KEYS_BYTES <= TLS_CONNECTION_BYTES
);

/// For an alert of our own.
const ALERT_BYTES: usize = 64;

/// What a client is told that speaks HTTP where only TLS is spoken.
const SPEAK_TLS: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: \
49\r\n\r\nThis port speaks TLS: write https:// or wss://.\r\n";

/// One connection's TLS.
pub(crate) struct Filter {
    stage: Stage,
    /// What came of a record whose rest has not, and that the shard counts it.
    incoming: Vec<u8>,
    held: Option<Held>,
    /// What is to be sent after the flight.
    sealed: Vec<u8>,
    /// What is being sent, and how much of it is out.
    flight: Vec<u8>,
    out: usize,
    /// Bytes at the front of the shard's outbox that `sealed` or the flight carries.
    covered: usize,
    /// The handshake is not over.
    underway: Option<Underway>,
    /// The shard is to hear that the connection is secure.
    is_news: bool,
    is_later: bool,
    has_ended: bool,
    has_failed: bool,
    /// Nothing can be sealed any more.
    is_exhausted: bool,
    /// The shard that has it knows that it has ended or failed.
    is_end_known: bool,
    has_said_goodbye: bool,
    shuts_down: bool,
}

enum Stage {
    /// The first byte says what it is, or the first after the header of the PROXY protocol.
    First {
        awaits_proxy: bool,
        speaks: Tls,
    },
    Tls(Box<UnbufferedServerConnection>),
}

impl std::fmt::Debug for Filter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Filter").field("covered", &self.covered).finish_non_exhaustive()
    }
}

/// How far the records that came have led.
struct Driven {
    used: usize,
    has_ended: bool,
    fault: Option<rustls::Error>,
}

impl Filter {
    /// The filter of a connection that was accepted; none where nobody speaks TLS. What comes through a Unix socket is plain: whoever
    /// is there is a proxy of this machine.
    pub(crate) fn of_arrival(arrival: Arrival, seat: &Seat) -> Option<Box<Filter>> {
        let acceptor = seat.acceptor.as_ref()?;
        if arrival.peer == Peer::Unix {
            return None;
        }
        match arrival.door {
            Door::Public => Some(Box::new(Filter::new(acceptor.proxy_protocol, acceptor.tls))),
            Door::Admin => acceptor.admin.then(|| Box::new(Filter::new(false, Tls::Only))),
        }
    }

    fn new(awaits_proxy: bool, speaks: Tls) -> Filter {
        Filter {
            stage: Stage::First { awaits_proxy, speaks },
            incoming: Vec::new(),
            held: None,
            sealed: Vec::new(),
            flight: Vec::new(),
            out: 0,
            covered: 0,
            underway: None,
            is_news: false,
            is_later: false,
            has_ended: false,
            has_failed: false,
            is_exhausted: false,
            is_end_known: false,
            has_said_goodbye: false,
            shuts_down: false,
        }
    }

    /// Takes what came, which may be nothing for one that goes on later; what it says is added to `plain`.
    pub(crate) fn take(&mut self, input: &mut [u8], plain: &mut Vec<u8>, seat: &mut Seat) -> Verdict {
        if self.has_failed || self.has_ended {
            return Verdict::Going;
        }
        let verdict = match self.stage {
            Stage::First { .. } => self.begin(input, plain, seat),
            Stage::Tls(_) => self.open(input, plain, seat),
        };
        let verdict = match verdict {
            Verdict::Failed => Verdict::Failed,
            verdict => self.bound(verdict, seat),
        };
        match verdict {
            Verdict::Failed => self.fail(),
            Verdict::Ended => self.has_ended = true,
            _ => {}
        }
        self.is_end_known = self.has_ended || self.has_failed;
        self.is_later = verdict == Verdict::Later;
        verdict
    }

    /// Whether a turn that comes is to go on with it, whatever else arrives.
    pub(crate) fn is_later(&self) -> bool {
        self.is_later
    }

    /// True once, when the handshake is over: what comes is secure from here on.
    pub(crate) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.is_news)
    }

    /// Looks at the first bytes.
    fn begin(&mut self, input: &mut [u8], plain: &mut Vec<u8>, seat: &mut Seat) -> Verdict {
        self.incoming.extend_from_slice(input);
        let Stage::First { awaits_proxy, speaks } = &mut self.stage else { return Verdict::Failed };
        let speaks = *speaks;
        if *awaits_proxy {
            match proxy::decode(&self.incoming) {
                ProxyHeader::Incomplete => return Verdict::Going,
                ProxyHeader::Whole { len, .. } => plain.extend(self.incoming.drain(..len)),
                // The shard says what is wrong with it.
                ProxyHeader::Invalid => return self.become_plain(plain),
            }
            *awaits_proxy = false;
        }
        let Some(&first) = self.incoming.first() else { return Verdict::Going };
        let config = seat.acceptor.as_ref().map(|acceptor| Arc::clone(&acceptor.config));
        let Some(config) = config.filter(|_| first == HANDSHAKE_RECORD || speaks == Tls::Only) else {
            return self.become_plain(plain);
        };
        if first.is_ascii_uppercase() {
            seat.count_failure(
                "HTTP without TLS on a port that speaks only TLS: set tls = \"both\" to serve it as well",
            );
            self.sealed.extend_from_slice(SPEAK_TLS);
            return Verdict::Failed;
        }
        let Some(underway) = seat.begin_handshake() else { return Verdict::Failed };
        match UnbufferedServerConnection::new(config) {
            Ok(connection) => self.stage = Stage::Tls(Box::new(connection)),
            Err(error) => {
                seat.count_failure(&error.to_string());
                return Verdict::Failed;
            }
        }
        self.underway = Some(underway);
        self.open(&mut [], plain, seat)
    }

    fn become_plain(&mut self, plain: &mut Vec<u8>) -> Verdict {
        plain.append(&mut self.incoming);
        Verdict::Plain
    }

    /// Opens the records that are whole.
    fn open(&mut self, input: &mut [u8], plain: &mut Vec<u8>, seat: &mut Seat) -> Verdict {
        let Stage::Tls(connection) = &mut self.stage else { return Verdict::Failed };
        let may_wait = self.underway.is_some() && self.incoming.len() + input.len() <= LATER_BYTES_MAX;
        if may_wait && !seat.take_step() {
            self.incoming.extend_from_slice(input);
            return Verdict::Later;
        }
        let driven = if self.incoming.is_empty() {
            let driven = drive(connection, input, &mut self.sealed, plain);
            self.incoming.extend_from_slice(&input[driven.used..]);
            driven
        } else {
            self.incoming.extend_from_slice(input);
            let driven = drive(connection, &mut self.incoming, &mut self.sealed, plain);
            self.incoming.drain(..driven.used);
            driven
        };
        if !connection.is_handshaking() && self.underway.take().is_some() {
            seat.counters.tls_handshakes.add(1);
            let is_resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
            seat.counters.tls_resumed.add(u64::from(is_resumed));
            self.is_news = true;
        }
        if let Some(fault) = driven.fault {
            seat.count_failure(&fault.to_string());
            return Verdict::Failed;
        }
        if driven.has_ended { Verdict::Ended } else { Verdict::Going }
    }

    /// A client may not have us keep more than any part of a record or a handshake takes, nor all of them together too much.
    fn bound(&mut self, verdict: Verdict, seat: &mut Seat) -> Verdict {
        if self.incoming.is_empty() {
            (self.incoming, self.held) = (Vec::new(), None);
            return verdict;
        }
        if self.incoming.len() > INCOMPLETE_BYTES_MAX {
            seat.count_failure("a message is larger than any of a handshake");
            return Verdict::Failed;
        }
        self.held = None;
        self.held = seat.hold(self.incoming.len());
        if self.held.is_some() { verdict } else { Verdict::Failed }
    }

    fn fail(&mut self) {
        self.has_failed = true;
        self.incoming = Vec::new();
        self.held = None;
        self.underway = None;
    }

    /// Seals the first bytes of what the shard owes. Only while there is no flight.
    pub(crate) fn seal(&mut self, slices: &[IoSlice<'_>], seat: &mut Seat) -> Result<(), NotReady> {
        debug_assert!(!self.has_flight(), "one flight is sent at a time");
        if self.has_failed || self.has_said_goodbye || self.underway.is_some() {
            return Err(NotReady);
        }
        let Filter { stage: Stage::Tls(connection), incoming, sealed, .. } = self else {
            return Err(NotReady);
        };
        let plain = match slices {
            [one] => &one[..one.len().min(SEALED_BYTES_MAX)],
            _ => {
                join(slices, &mut seat.joined);
                &seat.joined[..]
            }
        };
        let room = plain.len() + (plain.len() / RECORD_BYTES_MAX + 1) * RECORD_OVERHEAD_BYTES;
        let written = write(connection, (incoming, sealed, room), |traffic, out| traffic.encrypt(plain, out));
        let len = plain.len();
        match written {
            Ok(()) => self.covered = len,
            // The keys of TLS 1.2 seal 2^24 records; a client that wants more comes back.
            Err(NotReady) => self.is_exhausted = true,
        }
        written
    }

    /// Whether there is anything to send.
    pub(crate) fn has_flight(&self) -> bool {
        !self.flight.is_empty() || !self.sealed.is_empty()
    }

    /// Whether what waits to be sent is the front of the shard's outbox.
    #[cfg_attr(not(feature = "epoll"), allow(dead_code, reason = "the portable wire asks"))]
    pub(crate) fn covers_outbox(&self) -> bool {
        self.covered > 0
    }

    /// What is to be sent now. It stays where it is, and as it is, until `sent` says that all of it is out.
    pub(crate) fn flight(&mut self) -> &[u8] {
        if self.flight.is_empty() {
            self.flight = std::mem::take(&mut self.sealed);
            self.out = 0;
        }
        &self.flight[self.out..]
    }

    /// So many bytes of the flight are out. Returns how many bytes of the shard's outbox that were: all, or a part of them in
    /// proportion, and at least one of them is kept back while anything of the flight is left.
    pub(crate) fn sent(&mut self, count: usize) -> usize {
        let before = self.flight.len() - self.out;
        debug_assert!(count <= before, "no more is sent than there is");
        let left = before.saturating_sub(count);
        self.out = self.flight.len() - left;
        let kept = match left {
            // What has joined since begins a flight of its own, and carries none of the outbox.
            0 => 0,
            _ => (self.covered as u128 * left as u128 / before as u128).max(self.covered.min(1) as u128)
                as usize,
        };
        if left == 0 {
            self.flight = Vec::new();
            self.out = 0;
        }
        let reported = self.covered - kept;
        self.covered = kept;
        reported
    }

    /// Tells the client that nothing more is sent. If that is the last thing to do the wire's sending half closes behind it.
    pub(crate) fn say_goodbye(&mut self, shuts_down: bool) {
        self.shuts_down |= shuts_down;
        if self.has_failed || std::mem::replace(&mut self.has_said_goodbye, true) {
            return;
        }
        let Filter { stage: Stage::Tls(connection), incoming, sealed, underway: None, .. } = self else {
            return;
        };
        // A connection that cannot say it any more ends without.
        let _ = write(connection, (incoming, sealed, ALERT_BYTES), |traffic, out| {
            traffic.queue_close_notify(out)
        });
    }

    /// The shard closes it: what is to be sent at once, as much as the kernel takes, since nobody waits for a connection that is closed.
    pub(crate) fn close(&mut self, seat: &mut Seat) -> &[u8] {
        self.say_goodbye(false);
        if self.underway.take().is_some() {
            seat.count_failure("it ended before the handshake did, by the client or after header_timeout");
        }
        self.flight()
    }

    /// Which half of the wire is to be closed now.
    pub(crate) fn must_shut_down(&self) -> Option<Shutdown> {
        match (self.is_exhausted, self.shuts_down && !self.has_flight()) {
            (true, _) => Some(Shutdown::Both),
            (false, true) => Some(Shutdown::Write),
            (false, false) => None,
        }
    }

    /// Whether the shard has been told the end of this connection already.
    pub(crate) fn is_end_known(&self) -> bool {
        self.is_end_known
    }

    /// It has come to another shard. True if it is over, which that one is still to hear.
    pub(crate) fn arrive(&mut self) -> bool {
        self.is_end_known = false;
        self.has_ended || self.has_failed
    }
}

fn join(slices: &[IoSlice<'_>], joined: &mut Vec<u8>) {
    joined.clear();
    for slice in slices {
        let room = SEALED_BYTES_MAX - joined.len();
        joined.extend_from_slice(&slice[..slice.len().min(room)]);
        if joined.len() == SEALED_BYTES_MAX {
            return;
        }
    }
}

/// Handles records until more must come. What is to be sent is added to `sealed`, what they say to `plain`.
fn drive(
    connection: &mut UnbufferedServerConnection,
    input: &mut [u8],
    sealed: &mut Vec<u8>,
    plain: &mut Vec<u8>,
) -> Driven {
    let mut driven = Driven { used: 0, has_ended: false, fault: None };
    loop {
        let UnbufferedStatus { mut discard, state, .. } =
            connection.process_tls_records(&mut input[driven.used..]);
        let is_over = match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(Ok(record)) = traffic.next_record() {
                    discard += record.discard;
                    plain.extend_from_slice(record.payload);
                }
                false
            }
            Ok(ConnectionState::PeerClosed) => {
                driven.has_ended = true;
                false
            }
            Ok(state) => !note(state, sealed),
            Err(fault) => {
                driven.fault = Some(fault);
                true
            }
        };
        driven.used += discard;
        if is_over {
            break;
        }
    }
    // The alert that a fault leads to. What came is not looked at again: while something waits to be sent only that is told.
    while driven.fault.is_some() && connection.wants_write() {
        let alert = connection.process_tls_records(&mut input[driven.used..]).state;
        if !alert.is_ok_and(|state| note(state, sealed)) {
            break;
        }
    }
    driven
}

/// Notes what a handshake sends; false if nothing is to be done in this state.
fn note(state: ConnectionState<'_, '_, ServerConnectionData>, sealed: &mut Vec<u8>) -> bool {
    match state {
        ConnectionState::EncodeTlsData(mut data) => add(sealed, ALERT_BYTES, |out| match data.encode(out) {
            Ok(len) => Ok(len),
            Err(EncodeError::InsufficientSize(size)) => Err(Some(size.required_size)),
            Err(EncodeError::AlreadyEncoded) => Err(None),
        })
        .is_ok(),
        ConnectionState::TransmitTlsData(transmit) => {
            transmit.done();
            true
        }
        _ => false,
    }
}

/// Seals something of our own, behind whatever the connection has to say first.
fn write(
    connection: &mut UnbufferedServerConnection,
    (incoming, sealed, room): (&mut Vec<u8>, &mut Vec<u8>, usize),
    mut seal: impl FnMut(
        &mut rustls::unbuffered::WriteTraffic<'_, ServerConnectionData>,
        &mut [u8],
    ) -> Result<usize, EncryptError>,
) -> Result<(), NotReady> {
    loop {
        let UnbufferedStatus { discard, state, .. } = connection.process_tls_records(incoming);
        let is_written = match state {
            Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                add(sealed, room, |out| match seal(&mut traffic, out) {
                    Ok(len) => Ok(len),
                    Err(EncryptError::InsufficientSize(size)) => Err(Some(size.required_size)),
                    Err(EncryptError::EncryptExhausted) => Err(None),
                })?;
                true
            }
            Ok(state) => match note(state, sealed) {
                true => false,
                false => return Err(NotReady),
            },
            Err(_) => return Err(NotReady),
        };
        incoming.drain(..discard);
        if is_written {
            return Ok(());
        }
    }
}

/// Lets `fill` add to a buffer, with as much room as it asks for.
fn add(
    out: &mut Vec<u8>,
    room: usize,
    mut fill: impl FnMut(&mut [u8]) -> Result<usize, Option<usize>>,
) -> Result<(), NotReady> {
    let before = out.len();
    let mut room = room;
    loop {
        out.resize(before + room, 0);
        match fill(&mut out[before..]) {
            Ok(len) => {
                out.truncate(before + len);
                return Ok(());
            }
            Err(Some(required)) if required > room => room = required,
            Err(_) => {
                out.truncate(before);
                return Err(NotReady);
            }
        }
    }
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
