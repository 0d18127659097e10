//! HTTP answers over real sockets: what only the kernel can show of long files, slow readers and half-closed connections.
//!
//! Each runs on the ring wire, on monoio's io_uring and on epoll.
#![allow(clippy::disallowed_methods)] // A test with real sockets waits in real time.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use shardcast::http::Response;
use shardcast::{Config, Io, Server};

const WIRES: [Io; 3] = [Io::Auto, Io::Monoio, Io::Epoll];

/// Longer than anything here takes; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let folder = std::env::temp_dir().join(format!("shardcast-answers-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for files");
        std::fs::write(folder.join("long.bin"), long_file()).expect("a file");
        std::fs::write(folder.join("script.js"), "let a = 1;\n".repeat(50_000)).expect("a file");
        Folder(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn long_file() -> Vec<u8> {
    (0..2_000_000_u32).flat_map(|number| (number / 3).to_le_bytes()).collect()
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address.trim_start_matches("http://")).expect("the server accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    stream
}

fn body(answer: &[u8]) -> &[u8] {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("the answer has a head");
    &answer[end + 4..]
}

#[test]
fn a_half_closing_client_gets_all_that_it_asked_for() {
    let folder = Folder::new("half-close");
    for io in WIRES {
        let config = Config { io, shards: 2, bind: vec!["127.0.0.1:0".to_owned()], ..Config::default() };
        let server = Server::new(config)
            .static_folder("/files", &folder.0)
            .route("/text", |_| Response::text("all work and no play ".repeat(10_000)))
            .start()
            .expect("the server starts");
        let address = &server.addresses()[0];
        for (target, headers, expected) in [
            ("/files/long.bin", "", Some(long_file())),
            ("/text", "Accept-Encoding: gzip\r\n", None),
            ("/files/script.js", "Accept-Encoding: gzip\r\n", None),
        ] {
            let mut stream = connect(address);
            write!(stream, "GET {target} HTTP/1.1\r\nHost: a\r\n{headers}\r\n").expect("sent");
            stream.shutdown(Shutdown::Write).expect("half a close");
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).expect("the answer arrives and ends");
            assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"), "{io:?} {target}");
            match expected {
                Some(expected) => {
                    assert!(body(&answer) == expected, "{io:?} {target}: {} bytes", answer.len())
                }
                None => assert!(String::from_utf8_lossy(&answer).contains("Content-Encoding: gzip")),
            }
        }
        server.stop();
    }
}

#[test]
fn readers_of_a_long_file_cost_two_pieces_each() {
    let folder = Folder::new("memory");
    for io in WIRES {
        let config = Config { io, shards: 1, bind: vec!["127.0.0.1:0".to_owned()], ..Config::default() };
        let server =
            Server::new(config).static_folder("/files", &folder.0).start().expect("the server starts");
        let mut readers: Vec<TcpStream> = (0..20).map(|_| connect(&server.addresses()[0])).collect();
        for reader in &mut readers {
            reader
                .write_all(b"GET /files/long.bin HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                .expect("sent");
        }
        std::thread::sleep(Duration::from_millis(500));
        let owed: u64 = server.handle().stats().iter().map(|shard| shard.owed_bytes).sum();
        assert!(
            owed <= 20 * 300_000,
            "{io:?}: {owed} bytes are held for 20 readers of 8 MB that read nothing"
        );
        let mut answer = Vec::new();
        readers.pop().expect("there are 20").read_to_end(&mut answer).expect("it is there for who reads");
        assert!(body(&answer) == long_file(), "{io:?}");
        server.stop();
    }
}
