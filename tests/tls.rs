//! TLS in the process, over real sockets on both wires: who is shown which certificate, what is said in which version, and what
//! becomes of connections that do it wrong.

#![allow(clippy::disallowed_methods, reason = "real sockets, threads and time")]

#[path = "process/program.rs"]
mod program;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use program::{Folder, Over, PATIENCE, Program, await_that, free_port};
use rustix::process::Signal;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, ConfigBuilder, HandshakeKind, ProtocolVersion, RootCertStore,
    StreamOwned, WantsVerifier,
};
use shardcast::http::{Method, Response};
use shardcast::{Config, Io, RunningServer, Server, Tls};

/// Both wires; where the kernel allows no ring the first is the second.
const WIRES: [Io; 2] = [Io::Auto, Io::Epoll];

type Client = StreamOwned<ClientConnection, TcpStream>;

/// Certificates of a test, in a folder of its own.
struct Files(Folder);

impl Files {
    fn new(test: &str) -> Files {
        Files(Folder::new(&format!("tls-{test}")))
    }

    fn path(&self, name: &str) -> String {
        self.0.path(name)
    }

    fn certificate(&self, file: &str) -> PathBuf {
        self.path(&format!("{file}.crt")).into()
    }

    /// Writes a certificate for a name, and its key.
    fn write(&self, file: &str, name: &str) {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate is made");
        // Each file is whole at any time, as tools that renew certificates leave them.
        for (extension, text) in [("key", made.signing_key.serialize_pem()), ("crt", made.cert.pem())] {
            let new = self.path("new");
            std::fs::write(&new, text).expect("it is written");
            std::fs::rename(new, self.path(&format!("{file}.{extension}"))).expect("it takes its place");
        }
    }

    fn config(&self, files: &[&str], io: Io) -> Config {
        let paths =
            |extension: &str| files.iter().map(|file| self.path(&format!("{file}.{extension}"))).collect();
        Config {
            bind: vec!["127.0.0.1:0".to_owned()],
            shards: 2,
            io,
            tls_cert: paths("crt"),
            tls_key: paths("key"),
            ..Config::default()
        }
    }
}

fn start(config: Config) -> RunningServer {
    let server = Server::new(config)
        .route("/secure", |request| Response::text(request.is_secure().to_string()))
        .route_method(Method::Post, "/length", |request| Response::text(request.body().len().to_string()))
        .route("/large", |_| Response::text("0123456789abcdef".repeat(256 * 1024)))
        .websocket("/echo", |route| route.on_message(|socket, message| socket.send(message)));
    server.start().expect("it starts")
}

fn address(server: &RunningServer) -> String {
    let address = server.addresses().remove(0);
    address.rsplit('/').next().expect("an address").to_owned()
}

fn tcp(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    stream
}

fn config_of(
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> ConfigBuilder<ClientConfig, WantsVerifier> {
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(versions)
        .expect("these versions are known")
}

fn client_config(trusted: &Path, versions: &[&'static rustls::SupportedProtocolVersion]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(trusted).expect("a certificate");
    roots.add(certificate).expect("it can be trusted");
    config_of(versions).with_root_certificates(roots).with_no_client_auth()
}

fn connect_with(server: &RunningServer, config: ClientConfig, name: &str) -> std::io::Result<Client> {
    shake(tcp(&address(server)), config, name)
}

fn shake(stream: TcpStream, config: ClientConfig, name: &str) -> std::io::Result<Client> {
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let connection = ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut client = StreamOwned::new(connection, stream);
    while client.conn.is_handshaking() {
        client.conn.complete_io(&mut client.sock)?;
    }
    Ok(client)
}

fn connect(server: &RunningServer, files: &Files, file: &str, name: &str) -> std::io::Result<Client> {
    connect_with(server, client_config(&files.certificate(file), rustls::ALL_VERSIONS), name)
}

/// A request on a connection that goes on; gives its answer's body.
fn ask(client: &mut (impl Read + Write), request: &str, body: &[u8]) -> Vec<u8> {
    let len = body.len();
    write!(client, "{request} HTTP/1.1\r\nHost: a\r\nContent-Length: {len}\r\n\r\n").expect("sent");
    client.write_all(body).and_then(|()| client.flush()).expect("sent");
    let head = read_head(client);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let len = head
        .to_ascii_lowercase()
        .split("content-length: ")
        .nth(1)
        .and_then(|rest| rest.split("\r\n").next()?.parse().ok());
    let mut body = vec![0; len.expect("a length")];
    client.read_exact(&mut body).expect("the whole body");
    body
}

fn read_head(client: &mut impl Read) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).expect("the answer has a head");
        head.extend(byte);
    }
    String::from_utf8(head).expect("a head is text")
}

#[test]
fn requests_websockets_and_large_bodies_pass_in_both_versions() {
    let files = Files::new("echo");
    files.write("a", "a.example");
    for io in WIRES {
        let server = start(files.config(&["a"], io));
        assert!(server.addresses()[0].starts_with("https://"));
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let mut config = client_config(&files.certificate("a"), &[version]);
            config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            let mut client = connect_with(&server, config, "a.example").expect("it is trusted");
            let expected: ProtocolVersion = version.version;
            assert_eq!(client.conn.protocol_version(), Some(expected));
            assert_eq!(client.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
            assert_eq!(ask(&mut client, "GET /secure", b""), b"true", "{io:?}");
            assert_eq!(ask(&mut client, "POST /length", &vec![b'x'; 900_001]), b"900001");
            let large = ask(&mut client, "GET /large", b"");
            assert_eq!(large, "0123456789abcdef".repeat(256 * 1024).as_bytes());
            exchange_frames(&mut client);
        }
        server.stop();
    }
}

/// Sends frames that are cut into records anywhere, and reads each back.
fn exchange_frames(client: &mut Client) {
    write!(
        client,
        "GET /echo HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .expect("sent");
    assert!(read_head(client).starts_with("HTTP/1.1 101"));
    for len in [1_usize, 3000, 70_001, 500_003] {
        let mut frame = vec![0x82];
        match len {
            0..126 => frame.push(0x80 | len as u8),
            126..65_536 => {
                frame.push(0x80 | 126);
                frame.extend((len as u16).to_be_bytes());
            }
            _ => {
                frame.push(0x80 | 127);
                frame.extend((len as u64).to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        let payload: Vec<u8> = (0..len).map(|place| (place % 251) as u8).collect();
        frame.extend(&payload);
        for (round, chunk) in frame.chunks(1777).enumerate() {
            client.write_all(chunk).expect("sent");
            if round % 3 == 0 {
                client.flush().expect("sent");
            }
        }
        client.flush().expect("sent");
        let mut header = vec![0; 2];
        client.read_exact(&mut header).expect("a frame");
        let extended = match header[1] {
            127 => 8,
            126 => 2,
            _ => 0,
        };
        let mut rest = vec![0; extended];
        client.read_exact(&mut rest).expect("its length");
        let mut echoed = vec![0; len];
        client.read_exact(&mut echoed).expect("its payload");
        assert!(echoed == payload, "{len} bytes come back as they were");
    }
}

#[test]
fn the_name_that_a_client_asks_for_chooses_the_certificate() {
    let files = Files::new("sni");
    files.write("a", "a.example");
    files.write("b", "b.example");
    for io in WIRES {
        let server = start(files.config(&["a", "b"], io));
        for (file, name, is_trusted) in [
            ("a", "a.example", true),
            ("b", "b.example", true),
            ("b", "a.example", false),
            ("a", "c.example", false),
        ] {
            assert_eq!(connect(&server, &files, file, name).is_ok(), is_trusted, "{file} {name}");
        }
        let mut config = client_config(&files.certificate("a"), rustls::ALL_VERSIONS);
        config.alpn_protocols = vec![b"h2".to_vec()];
        let refused = connect_with(&server, config, "a.example").expect_err("HTTP/2 is not spoken");
        assert!(refused.to_string().contains("NoApplicationProtocol"), "{refused}");
        server.stop();
    }
}

#[test]
fn one_port_speaks_both_if_it_is_asked_to() {
    let files = Files::new("both");
    files.write("a", "a.example");
    for io in WIRES {
        let server = start(Config { tls: Tls::Both, ..files.config(&["a"], io) });
        assert_eq!(ask(&mut tcp(&address(&server)), "GET /secure", b""), b"false");
        let mut client = connect(&server, &files, "a", "a.example").expect("it is trusted");
        assert_eq!(ask(&mut client, "GET /secure", b""), b"true");
        server.stop();
        let server = start(files.config(&["a"], io));
        let mut plain = tcp(&address(&server));
        plain.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
        let mut answer = String::new();
        plain.read_to_string(&mut answer).expect("an answer and an end");
        assert!(
            answer.starts_with("HTTP/1.1 400") && answer.ends_with("write https:// or wss://.\r\n"),
            "{answer}"
        );
        let body = answer.split("\r\n\r\n").nth(1).expect("a body");
        assert!(answer.contains(&format!("Content-Length: {}\r\n", body.len())), "{answer}");
        server.stop();
    }
}

/// Sends bytes and reads until the server closes; gives what it said.
fn told(server: &RunningServer, bytes: &[u8]) -> Vec<u8> {
    let mut stream = tcp(&address(server));
    stream.write_all(bytes).expect("sent");
    let mut answer = Vec::new();
    // A reset is an end as well.
    let _ = stream.read_to_end(&mut answer);
    answer
}

#[test]
fn whoever_breaks_the_rules_gets_an_alert_and_an_end() {
    let files = Files::new("hostile");
    files.write("a", "a.example");
    for io in WIRES {
        let server = start(Config { header_timeout: Duration::from_millis(300), ..files.config(&["a"], io) });
        let rows: [&[u8]; 5] = [
            b"\x16\x03\x01\xff\xff\x01",
            b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
            b"\x15\x03\x01\x00\x02\x02\x28",
            b"\x17\x03\x03\x00\x05hello",
            b"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09",
        ];
        for bytes in rows {
            let answer = told(&server, bytes);
            // A client's own fatal alert needs no answer.
            assert!(answer.first().is_none_or(|first| *first == 0x15), "{bytes:?}: {answer:?}");
        }
        assert_eq!(told(&server, rows[1]).first(), Some(&0x15), "an alert is what it is told");
        let failed: u64 = server.handle().stats().iter().map(|shard| shard.tls_failed).sum();
        assert!(failed >= 5, "{failed}");
        // Half a handshake, and nothing more.
        let began = Instant::now();
        told(&server, b"\x16\x03\x01\x01\x00\x01\x00");
        assert!(began.elapsed() < PATIENCE / 2, "it is cut");
        // A record of a sound connection that is not what its key says.
        let mut client = connect(&server, &files, "a", "a.example").expect("it is trusted");
        client.sock.write_all(b"\x17\x03\x03\x00\x20aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa").expect("sent");
        let mut rest = Vec::new();
        let fault = client.read_to_end(&mut rest).expect_err("an alert");
        assert!(fault.to_string().contains("BadRecordMac") || fault.to_string().contains("alert"), "{fault}");
        let mut sound = connect(&server, &files, "a", "a.example").expect("others are served as before");
        assert_eq!(ask(&mut sound, "GET /secure", b""), b"true");
        server.stop();
    }
}

#[test]
fn both_ends_say_goodbye() {
    let files = Files::new("goodbye");
    files.write("a", "a.example");
    for io in WIRES {
        let server = start(files.config(&["a"], io));
        let mut client = connect(&server, &files, "a", "a.example").expect("it is trusted");
        client.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").expect("sent");
        client.conn.send_close_notify();
        client.flush().expect("sent");
        let mut answer = Vec::new();
        // An end without close_notify would be an error here.
        client.read_to_end(&mut answer).expect("the whole answer and a goodbye");
        assert!(answer.ends_with(b"0123456789abcdef") && answer.len() > 4 << 20, "{}", answer.len());
        server.stop();
    }
}

#[test]
fn new_certificates_are_shown_and_nobody_is_dropped() {
    let files = Files::new("reload");
    files.write("a", "a.example");
    for io in WIRES {
        let server = start(files.config(&["a"], io));
        let mut before = connect(&server, &files, "a", "a.example").expect("it is trusted");
        let over = Arc::new(Over::default());
        let until_here = over.when_dropped();
        let (address, over_there) = (address(&server), Arc::clone(&over));
        // Clients that come all the time, whatever certificate they are shown.
        let load = std::thread::spawn(move || {
            let mut count = 0;
            while !over_there.is_over() {
                let config = config_of(rustls::ALL_VERSIONS)
                    .dangerous()
                    .with_custom_certificate_verifier(Arc::new(Anybody))
                    .with_no_client_auth();
                let mut client = shake(tcp(&address), config, "a.example").expect("a handshake");
                assert_eq!(ask(&mut client, "GET /secure", b""), b"true");
                count += 1;
            }
            count
        });
        for _ in 0..20 {
            files.write("a", "a.example");
            server.reload_certificates();
            let mut client = connect(&server, &files, "a", "a.example").expect("the new one is shown");
            assert_eq!(ask(&mut client, "GET /secure", b""), b"true");
            assert_eq!(ask(&mut before, "GET /secure", b""), b"true", "who was there is there");
        }
        std::fs::write(files.path("a.key"), "torn").expect("it is written");
        server.reload_certificates();
        connect(&server, &files, "a", "a.example").expect("the last good one is still shown");
        files.write("a", "a.example");
        drop(until_here);
        assert!(load.join().expect("nobody was refused") > 0);
        server.stop();
    }
}

#[test]
fn files_that_change_are_read_again_by_themselves() {
    for io in WIRES {
        let files = Files::new(&format!("watched-{io:?}"));
        let folder = |version: u32| {
            let folder = PathBuf::from(files.path(&format!("v{version}")));
            std::fs::create_dir_all(&folder).expect("a folder is made");
            folder
        };
        // As a secret of Kubernetes is mounted: files behind a link to the folder that is the present one.
        let renew = |version: u32| {
            files.write("new", "a.example");
            for extension in ["crt", "key"] {
                let file = folder(version).join(format!("a.{extension}"));
                std::fs::rename(files.path(&format!("new.{extension}")), file).expect("it is moved");
            }
            let link = files.path("link");
            std::os::unix::fs::symlink(folder(version), &link).expect("a link is made");
            std::fs::rename(link, files.path("present")).expect("it takes the place of the last");
        };
        renew(1);
        let config =
            Config { tls_reload_interval: Duration::from_millis(20), ..files.config(&["present/a"], io) };
        let server = start(config);
        let mut before = connect(&server, &files, "v1/a", "a.example").expect("it is trusted");
        let await_shown = |version: u32| {
            let file = format!("v{version}/a");
            await_that("the new certificate is shown", || {
                connect(&server, &files, &file, "a.example").is_ok()
            });
        };
        renew(2);
        await_shown(2);
        assert!(connect(&server, &files, "v1/a", "a.example").is_err(), "{io:?}: the old one is not shown");
        // A file in its place, as certbot's copies are.
        files.write("v2/a", "a.example");
        await_shown(2);
        // One that is wrong changes nothing, and the next sound one is taken.
        std::fs::write(folder(2).join("a.key"), "torn").expect("it is written");
        for _ in 0..10 {
            connect(&server, &files, "v2/a", "a.example").expect("the last sound one is still shown");
            std::thread::sleep(Duration::from_millis(10));
        }
        renew(3);
        await_shown(3);
        assert_eq!(ask(&mut before, "GET /secure", b""), b"true", "{io:?}: who was there is there");
        server.stop();
    }
}

/// Trusts any certificate.
#[derive(Debug)]
struct Anybody;

impl rustls::client::danger::ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        vec![rustls::SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

#[test]
fn a_bad_certificate_is_an_error_at_start_that_names_the_file() {
    let files = Files::new("start");
    files.write("a", "a.example");
    files.write("b", "b.example");
    std::fs::copy(files.path("b.key"), files.path("a.key")).expect("it is copied");
    let fault = Server::new(files.config(&["a"], Io::Auto)).start().map(drop).expect_err("it cannot be used");
    assert!(fault.to_string().contains(&files.path("a.key")), "{fault}");
}

#[test]
fn a_ticket_of_one_shard_is_good_on_every_other() {
    let files = Files::new("resume");
    files.write("a", "a.example");
    for io in WIRES {
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let server = start(files.config(&["a"], io));
            // It keeps the tickets that it is given.
            let config = client_config(&files.certificate("a"), &[version]);
            let mut clients = Vec::new();
            let mut rounds = 0;
            // The kernel chooses the shard.
            while rounds < 8 || server.handle().stats().iter().any(|shard| shard.tls_handshakes == 0) {
                assert!(rounds < 200, "one shard shakes no hands: {:?}", server.handle().stats());
                let mut client = connect_with(&server, config.clone(), "a.example").expect("it is trusted");
                assert_eq!(ask(&mut client, "GET /secure", b""), b"true");
                let kind = if rounds == 0 { HandshakeKind::Full } else { HandshakeKind::Resumed };
                assert_eq!(client.conn.handshake_kind(), Some(kind), "round {rounds}, {version:?}, {io:?}");
                clients.push(client);
                rounds += 1;
            }
            let stats = server.handle().stats();
            assert_eq!(stats.iter().map(|shard| shard.tls_resumed).sum::<u64>(), rounds - 1);
            server.stop();
        }
    }
}

/// The id of a new session, and its connection.
fn open_session(server: &RunningServer, files: &Files) -> (String, Client) {
    let mut client = connect(server, files, "a", "a.example").expect("it is trusted");
    let answer = ask(&mut client, "GET /socket.io/?EIO=4&transport=polling", b"");
    let answer = String::from_utf8(answer).expect("text");
    let sid = answer.split("\"sid\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a session");
    (sid.to_owned(), client)
}

#[test]
fn a_connection_moves_to_another_shard_in_the_midst_of_what_it_is_sent() {
    let files = Files::new("moves");
    files.write("a", "a.example");
    for io in WIRES {
        let server = start(files.config(&["a"], io));
        let sessions: Vec<_> = (0..6).map(|_| open_session(&server, &files)).collect();
        let mut client = connect(&server, &files, "a", "a.example").expect("it is trusted");
        let mut requests = String::new();
        for (sid, _) in &sessions {
            requests.push_str("GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
            requests.push_str(&format!(
                "POST /socket.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n40"
            ));
        }
        client.write_all(requests.as_bytes()).and_then(|()| client.flush()).expect("sent");
        for _ in &sessions {
            let head = read_head(&mut client);
            assert!(head.starts_with("HTTP/1.1 200"), "{head}");
            let mut body = vec![0; 4 << 20];
            // Slowly at first: flights are half sent when the connection moves.
            for part in body.chunks_mut(64 * 1024).take(4) {
                client.read_exact(part).expect("a part of the body");
                std::thread::sleep(Duration::from_millis(2));
            }
            client.read_exact(&mut body[256 * 1024..]).expect("the rest");
            assert!(body == "0123456789abcdef".repeat(256 * 1024).as_bytes(), "{io:?}");
            let head = read_head(&mut client);
            assert!(head.starts_with("HTTP/1.1 200"), "{head}");
            let mut word = [0; 2];
            client.read_exact(&mut word).expect("a word");
            assert_eq!(&word, b"ok");
        }
        let moves: u64 = server.handle().stats().iter().map(|shard| shard.handoffs).sum();
        assert!(moves > 0, "sessions are on both shards");
        server.stop();
    }
}

#[test]
fn a_server_that_ends_says_goodbye_to_all() {
    let files = Files::new("drain");
    files.write("a", "a.example");
    for io in WIRES {
        let server = start(files.config(&["a"], io));
        let mut idle = connect(&server, &files, "a", "a.example").expect("it is trusted");
        assert_eq!(ask(&mut idle, "GET /secure", b""), b"true");
        let mut socket = connect(&server, &files, "a", "a.example").expect("it is trusted");
        write!(
            socket,
            "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        .expect("sent");
        assert!(read_head(&mut socket).starts_with("HTTP/1.1 101"));
        server.stop();
        for client in [&mut idle, &mut socket] {
            let mut rest = Vec::new();
            // An end without close_notify would be an error here.
            client.read_to_end(&mut rest).unwrap_or_else(|fault| panic!("{io:?}: {fault}, after {rest:?}"));
        }
    }
}

#[test]
fn operators_have_tls_if_it_is_asked_for() {
    let files = Files::new("admin");
    files.write("a", "a.example");
    for io in WIRES {
        let config =
            Config { admin_bind: "127.0.0.1:0".to_owned(), admin_tls: true, ..files.config(&["a"], io) };
        let server = start(config);
        let address = server.admin_address().expect("it serves operators");
        let (scheme, address) = address.split_once("://").expect("a scheme");
        assert_eq!(scheme, "https");
        let config = client_config(&files.certificate("a"), rustls::ALL_VERSIONS);
        let mut client = shake(tcp(address), config, "a.example").expect("it is trusted");
        // Without credentials operators are of this machine, and name it so.
        client
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            .expect("it is sent");
        let mut page = String::new();
        client.read_to_string(&mut page).expect("text, and a farewell");
        assert!(page.contains("shardcast_tls_handshakes_total{shard=\"0\"}"), "{page}");
        // The certificate is valid until the year 4096.
        let file = files.path("a.crt");
        let end =
            format!("\nshardcast_tls_certificate_expires_seconds{{certificate=\"{file}\"}} 67090118400\n");
        assert!(page.contains(&end), "{page}");
        server.stop();
    }
}

#[test]
fn who_is_in_the_midst_of_a_handshake_keeps_nobody_out() {
    let files = Files::new("crowd");
    files.write("a", "a.example");
    for io in WIRES {
        let server = start(files.config(&["a"], io));
        let mut halves: Vec<_> = (0..300).map(|_| tcp(&address(&server))).collect();
        for (place, half) in halves.iter_mut().enumerate() {
            // Nothing, a byte, or most of a record.
            half.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc][..place % 10]).expect("sent");
        }
        for _ in 0..20 {
            let mut client = connect(&server, &files, "a", "a.example").expect("it is trusted");
            assert_eq!(ask(&mut client, "GET /secure", b""), b"true");
        }
        server.stop();
    }
}

#[test]
fn a_server_without_a_certificate_refuses_a_handshake_at_once() {
    for io in WIRES {
        let config = Config { bind: vec!["127.0.0.1:0".to_owned()], shards: 1, io, ..Config::default() };
        let server = start(config);
        assert!(server.addresses()[0].starts_with("http://"));
        let hello = b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00\r\n\r\n";
        let answer = told(&server, hello);
        assert!(answer.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&answer));
        assert_eq!(ask(&mut tcp(&address(&server)), "GET /secure", b""), b"false");
        server.stop();
    }
}

#[test]
fn the_program_reads_certificates_at_sighup_and_hands_tls_over_at_sigusr2() {
    for io in ["auto", "epoll"] {
        let files = Files::new(&format!("program-{io}"));
        files.write("a", "a.example");
        let port = free_port();
        let mut command = files.0.command(env!("CARGO_BIN_EXE_shardcast"));
        command
            .args(["--bind", &format!("127.0.0.1:{port}"), "--shards", "2", "--io", io])
            .envs([("SHARDCAST_TLS_CERT", files.path("a.crt")), ("SHARDCAST_TLS_KEY", files.path("a.key"))]);
        let mut program = Program::start(command);
        let visit = |trusted: &Path| -> std::io::Result<Client> {
            let stream = TcpStream::connect(("127.0.0.1", port))?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut client = shake(stream, client_config(trusted, rustls::ALL_VERSIONS), "a.example")?;
            client.write_all(b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n")?;
            let mut status = [0; 12];
            client.read_exact(&mut status)?;
            assert_eq!(&status, b"HTTP/1.1 404");
            Ok(client)
        };
        let certificate = files.certificate("a");
        await_that("it serves", || visit(&certificate).is_ok());
        files.write("a", "a.example");
        assert!(visit(&certificate).is_err(), "it shows the one that it began with");
        program.signal(Signal::HUP);
        await_that("the new one is shown", || visit(&certificate).is_ok());
        let (over, count) = (Over::default(), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            let until_here = over.when_dropped();
            let comer = || {
                while !over.is_over() {
                    visit(&certificate).expect("no client fails");
                    count.fetch_add(1, Ordering::SeqCst);
                }
            };
            let comers = [scope.spawn(comer), scope.spawn(comer)];
            await_that("some have come", || count.load(Ordering::SeqCst) > 20);
            program.signal(Signal::USR2);
            assert_eq!(program.await_end(), Some(0), "{}", files.0.log());
            let at_end = count.load(Ordering::SeqCst);
            await_that("more have come", || {
                count.load(Ordering::SeqCst) > at_end + 20 || comers.iter().any(|one| one.is_finished())
            });
            drop(until_here);
        });
        assert!(files.0.successor(0).is_some());
    }
}
