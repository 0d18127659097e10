//! A filter against a client of rustls, without a socket: whatever the pieces in which bytes come and go, both sides read what the
//! other wrote, and whatever comes that is no TLS ends the connection.

use proptest::prelude::*;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};
use std::io::{Read, Write};
use std::sync::OnceLock;

use super::*;
use crate::config::Config;
use crate::driver::tls::certificates::tests::{folder, write_pair};
use crate::driver::tls::seat::Acceptor;
use crate::shard::value::stats::ShardCounters;

/// One acceptor for all tests, and a client's configuration that trusts it.
fn setting() -> &'static (Arc<Acceptor>, CertificateDer<'static>) {
    static SETTING: OnceLock<(Arc<Acceptor>, CertificateDer<'static>)> = OnceLock::new();
    SETTING.get_or_init(|| {
        let folder = folder("filter");
        let (cert, key) = write_pair(&folder, "a", &["a.example"]);
        let trusted = CertificateDer::from_pem_file(&cert).expect("a certificate");
        let config = Config { tls_cert: vec![cert], tls_key: vec![key], ..Config::default() };
        let acceptor = Acceptor::load(&config).expect("it is sound").expect("there is a certificate");
        let _ = std::fs::remove_dir_all(folder);
        (acceptor, trusted)
    })
}

fn client(version: &'static SupportedProtocolVersion) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    roots.add(setting().1.clone()).expect("it can be trusted");
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[version])
        .expect("it is known")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("a.example").expect("a name");
    ClientConnection::new(Arc::new(config), name).expect("a client")
}

/// The server's end: a filter as a wire has it, and what its shard has read and owes.
struct End {
    filter: Filter,
    seat: Seat,
    read: Vec<u8>,
    outbox: Vec<u8>,
    verdict: Verdict,
}

impl End {
    fn new(awaits_proxy: bool, speaks: Tls) -> End {
        let seat = Seat::new(Some(Arc::clone(&setting().0)), Arc::new(ShardCounters::default()));
        let filter = Filter::new(awaits_proxy, speaks);
        End { filter, seat, read: Vec::new(), outbox: Vec::new(), verdict: Verdict::Going }
    }

    /// Takes a piece as a wire does: in a turn of its own.
    fn take(&mut self, piece: &[u8]) {
        let mut piece = piece.to_vec();
        self.verdict = self.filter.take(&mut piece, &mut self.read, &mut self.seat);
        while self.verdict == Verdict::Later {
            self.seat.begin_turn();
            self.verdict = self.filter.take(&mut [], &mut self.read, &mut self.seat);
        }
    }

    /// Sends up to so many bytes, as a wire whose kernel takes no more; `cuts` says where the outbox' pieces end.
    fn send(&mut self, count: usize, cuts: usize) -> Vec<u8> {
        if !self.filter.has_flight() && !self.outbox.is_empty() {
            let pieces: Vec<IoSlice<'_>> =
                self.outbox.chunks(cuts.max(1)).take(8).map(IoSlice::new).collect();
            // While the handshake is under way nothing can be sealed, and the outbox waits.
            let _ = self.filter.seal(&pieces, &mut self.seat);
        }
        if !self.filter.has_flight() {
            return Vec::new();
        }
        let flight = self.filter.flight();
        let sent = flight[..flight.len().min(count)].to_vec();
        let out = self.filter.sent(sent.len());
        self.outbox.drain(..out);
        sent
    }
}

/// Lets both talk until neither has anything left, in pieces of these sizes, over and over.
fn talk(client: &mut ClientConnection, end: &mut End, sizes: &[usize], read: &mut Vec<u8>) {
    let mut sizes = sizes.iter().copied().cycle();
    let mut next = || sizes.next().expect("there is one");
    let (mut to_server, mut quiet) = (Vec::new(), 0);
    while quiet < 3 {
        quiet += 1;
        while client.wants_write() {
            client.write_tls(&mut to_server).expect("a buffer takes all");
        }
        let piece: Vec<u8> = to_server.drain(..next().min(to_server.len())).collect();
        if !piece.is_empty() {
            end.take(&piece);
            quiet = 0;
        }
        let piece = end.send(next(), next());
        let mut rest = &piece[..];
        while !rest.is_empty() {
            quiet = 0;
            client.read_tls(&mut rest).expect("a buffer");
            let state = client.process_new_packets().expect("the server keeps to the rules");
            let mut plain = vec![0; state.plaintext_bytes_to_read()];
            client.reader().read_exact(&mut plain).expect("so many there are");
            read.extend(plain);
        }
    }
}

fn bytes(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|place| ((place * 31 + seed) % 251) as u8).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn both_read_what_the_other_wrote_whatever_the_pieces(
        is_old in any::<bool>(),
        sizes in proptest::collection::vec(prop_oneof![1_usize..60, 1_usize..20_000], 1..12),
        rounds in proptest::collection::vec((0_usize..40_000, 0_usize..150_000), 1..4),
    ) {
        // Pieces of a few bytes only would take long, and show nothing more.
        prop_assume!(sizes.iter().sum::<usize>() > 150 * sizes.len());
        let version = if is_old { &rustls::version::TLS12 } else { &rustls::version::TLS13 };
        let (mut client, mut end) = (client(version), End::new(false, Tls::Only));
        let (mut read, mut sent, mut owed) = (Vec::new(), Vec::new(), Vec::new());
        for (round, &(up, down)) in rounds.iter().enumerate() {
            let (up, down) = (bytes(up, round), bytes(down, 7 * round));
            client.writer().write_all(&up).expect("a buffer takes all");
            end.outbox.extend(&down);
            sent.extend(up);
            owed.extend(down);
            talk(&mut client, &mut end, &sizes, &mut read);
            prop_assert!(end.outbox.is_empty() && end.read == sent && read == owed);
        }
        prop_assert!(end.filter.take_news() && !end.filter.take_news());
        // At rest it has no buffers, and counts nothing.
        let Filter { incoming, held, sealed, flight, .. } = &end.filter;
        prop_assert_eq!((incoming.capacity(), sealed.capacity(), flight.capacity()), (0, 0, 0));
        prop_assert!(held.is_none());
        client.send_close_notify();
        talk(&mut client, &mut end, &sizes, &mut read);
        prop_assert_eq!(end.verdict, Verdict::Ended);
        // Half of it is closed; the other half goes on until it says so itself.
        end.outbox.extend(b"last words");
        end.filter.say_goodbye(true);
        prop_assert!(end.filter.must_shut_down().is_none());
        let mut last = Vec::new();
        while end.filter.has_flight() {
            last.extend(end.send(5, 3));
        }
        prop_assert_eq!(end.filter.must_shut_down(), Some(Shutdown::Write));
        let mut rest = &last[..];
        client.read_tls(&mut rest).expect("a buffer");
        prop_assert!(client.process_new_packets().expect("a goodbye").peer_has_closed());
    }

    #[test]
    fn any_bytes_end_in_a_verdict(
        input in proptest::collection::vec(any::<u8>(), 0..600),
        is_tls in any::<bool>(),
        sizes in proptest::collection::vec(1_usize..90, 1..5),
    ) {
        let mut end = End::new(false, Tls::Only);
        let mut input = input;
        if is_tls {
            input.splice(0..0, [HANDSHAKE_RECORD, 3, 1]);
        }
        let mut rest = &input[..];
        for size in sizes.iter().cycle() {
            let (piece, behind) = rest.split_at(rest.len().min(*size));
            if piece.is_empty() || end.verdict == Verdict::Failed {
                break;
            }
            end.take(piece);
            rest = behind;
        }
        prop_assert!(end.read.is_empty());
        let is_over = end.verdict == Verdict::Failed;
        prop_assert_eq!(end.seat.counters.tls_failed.get(), u64::from(is_over));
        prop_assert!(end.filter.incoming.len() <= INCOMPLETE_BYTES_MAX);
    }

    #[test]
    fn a_record_that_was_changed_on_the_way_is_never_read(place in 0_usize..10_000, bit in 0_u8..8, is_old in any::<bool>()) {
        let version = if is_old { &rustls::version::TLS12 } else { &rustls::version::TLS13 };
        let (mut client, mut end) = (client(version), End::new(false, Tls::Only));
        talk(&mut client, &mut end, &[9000], &mut Vec::new());
        client.writer().write_all(&bytes(300, 1)).expect("a buffer takes all");
        let mut record = Vec::new();
        client.write_tls(&mut record).expect("a buffer takes all");
        // The header's version is for show (RFC 8446 §5.1), and its length says how much is awaited.
        let place = 5 + place % (record.len() - 5);
        record[place] ^= 1 << bit;
        end.take(&record);
        prop_assert!(end.read.is_empty());
        prop_assert_eq!(end.verdict, Verdict::Failed);
        // What it is told is an alert: a record of that type, or of TLS 1.3, which seals it.
        prop_assert!(end.filter.has_flight());
        prop_assert!(matches!(end.filter.flight()[0], 0x15 | 0x17));
    }
}

#[test]
fn a_handshake_takes_its_steps_from_the_turns() {
    let mut ends: Vec<_> =
        (0..20).map(|_| (client(&rustls::version::TLS13), End::new(false, Tls::Only))).collect();
    let mut seat = Seat::new(Some(Arc::clone(&setting().0)), Arc::new(ShardCounters::default()));
    let verdicts: Vec<Verdict> = ends
        .iter_mut()
        .map(|(client, end)| {
            let mut hello = Vec::new();
            client.write_tls(&mut hello).expect("a buffer takes all");
            end.filter.take(&mut hello, &mut end.read, &mut seat)
        })
        .collect();
    let steps = crate::driver::tls::seat::TLS_HANDSHAKE_STEPS_PER_TURN_MAX as usize;
    assert!(verdicts[..steps].iter().all(|verdict| *verdict == Verdict::Going), "{verdicts:?}");
    assert!(verdicts[steps..].iter().all(|verdict| *verdict == Verdict::Later), "{verdicts:?}");
    assert!(seat.is_used_up());
    // What comes for one that waits is kept up to a bound; with more it goes on at once, and is refused as what it is.
    let (_, late) = &mut ends[19];
    for (len, expected) in [(8000, Verdict::Later), (9000, Verdict::Failed)] {
        assert_eq!(late.filter.take(&mut vec![0; len], &mut late.read, &mut seat), expected);
    }
    seat.begin_turn();
    let (_, next) = &mut ends[18];
    assert_eq!(next.filter.take(&mut [], &mut next.read, &mut seat), Verdict::Going);
}

#[test]
fn what_all_keep_of_unfinished_records_is_bounded_and_given_back() {
    let mut seat = Seat::new(Some(Arc::clone(&setting().0)), Arc::new(ShardCounters::default()));
    let half: Vec<u8> =
        [&[HANDSHAKE_RECORD, 3, 1, 0x3f, 0xff, 1, 0, 0x3f, 0xfb][..], &bytes(16_000, 0)].concat();
    let mut filters = Vec::new();
    let refused = (0..).find(|_| {
        let mut filter = Filter::new(false, Tls::Only);
        seat.begin_turn();
        let verdict = filter.take(&mut half.clone(), &mut Vec::new(), &mut seat);
        filters.push(filter);
        verdict == Verdict::Failed
    });
    let fitting = crate::driver::tls::TLS_PARTIAL_BYTES_MAX / half.len();
    // The bound of handshakes is the lower one here, or that of the bytes.
    assert_eq!(refused, Some(fitting.min(crate::driver::tls::TLS_HANDSHAKES_MAX)));
    filters.truncate(1);
    let mut filter = Filter::new(false, Tls::Only);
    seat.begin_turn();
    assert_eq!(filter.take(&mut half.clone(), &mut Vec::new(), &mut seat), Verdict::Going);
    drop((filters, filter));
    assert!(seat.hold(crate::driver::tls::TLS_PARTIAL_BYTES_MAX).is_some(), "all was given back");
}

#[test]
fn the_first_byte_tells_and_the_header_of_a_proxy_comes_before_it() {
    let hello = || {
        let mut hello = Vec::new();
        client(&rustls::version::TLS13).write_tls(&mut hello).expect("a buffer takes all");
        hello
    };
    let proxied = b"PROXY TCP4 192.0.2.1 192.0.2.2 1234 443\r\n";
    let get = b"GET / HTTP/1.1\r\n";
    for (awaits_proxy, speaks, input, verdict, read) in [
        (false, Tls::Only, hello(), Verdict::Going, &b""[..]),
        (false, Tls::Both, hello(), Verdict::Going, b""),
        (false, Tls::Both, get.to_vec(), Verdict::Plain, get),
        (false, Tls::Only, get.to_vec(), Verdict::Failed, b""),
        (true, Tls::Only, [&proxied[..], &hello()[..]].concat(), Verdict::Going, proxied),
        (true, Tls::Both, [&proxied[..], get].concat(), Verdict::Plain, &[&proxied[..], get].concat()),
        (true, Tls::Only, proxied[..20].to_vec(), Verdict::Going, b""),
        (true, Tls::Only, get.to_vec(), Verdict::Plain, get),
        (false, Tls::Only, vec![0x80, 0x2e, 1, 0, 2], Verdict::Failed, b""),
    ] {
        let mut whole = End::new(awaits_proxy, speaks);
        whole.take(&input);
        assert_eq!((whole.verdict, &whole.read[..]), (verdict, read), "{input:?}");
        let mut drops = End::new(awaits_proxy, speaks);
        for byte in &input {
            if matches!(drops.verdict, Verdict::Plain | Verdict::Failed) {
                break;
            }
            drops.take(&[*byte]);
        }
        assert_eq!(drops.verdict, verdict, "{input:?}, byte by byte");
        assert!(read.starts_with(&drops.read));
    }
}

#[test]
fn what_is_told_to_plain_http_has_its_length() {
    let mut end = End::new(false, Tls::Only);
    end.take(b"POST / HTTP/1.1\r\nHost: a\r\n\r\n");
    let told = String::from_utf8(end.filter.close(&mut end.seat).to_vec()).expect("text");
    let (head, body) = told.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.contains(&format!("Content-Length: {}", body.len())), "{told}");
}

#[test]
fn a_handshake_that_never_ended_is_counted_when_it_is_closed() {
    let mut end = End::new(false, Tls::Only);
    let mut hello = Vec::new();
    client(&rustls::version::TLS13).write_tls(&mut hello).expect("a buffer takes all");
    for cut in 1..hello.len() {
        let mut part = End::new(false, Tls::Only);
        part.take(&hello[..cut]);
        assert_eq!(part.verdict, Verdict::Going, "{cut}");
        assert!(!part.filter.has_flight(), "{cut}");
    }
    end.take(&hello);
    end.filter.close(&mut end.seat);
    assert_eq!(end.seat.counters.tls_failed.get(), 1);
}
