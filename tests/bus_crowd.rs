//! Crowds of ten thousand sockets over a real Redis: what another process finds of them, how it moves and ends them, and what is said
//! where an answer is larger than a process may keep.
//!
//! The sockets are sessions by long-polling, which hold no connection open, so that the test needs few descriptors.
#![allow(clippy::disallowed_methods)] // A test with real sockets waits in real time.

#[path = "process/broker.rs"]
#[allow(dead_code, reason = "one broker of several is started here")]
mod broker;
mod wire;

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use shardcast::{Config, Context, EngineOptions, RunningServer, Server};

use broker::BrokerProcess;
use wire::{PATIENCE, until};

const CROWD: usize = 10_000;

/// Longer than a busy machine takes for ten thousand of anything.
const LONG: Duration = Duration::from_secs(60);

fn server(url: &str) -> RunningServer {
    let engine = EngineOptions {
        message_queue: url.into(),
        // Nobody polls for as long as the test takes.
        ping_interval: Duration::from_secs(600),
        ping_timeout: Duration::from_secs(600),
        ..EngineOptions::default()
    };
    let config = Config { engine, shards: 2, bind: vec!["127.0.0.1:0".to_owned()], ..Config::default() };
    let server = Server::new(config).namespace("/", |io| {
        io.on_connect(|cx: &mut Context| {
            cx.join("crowd");
            // As much as a profile has, so that what is found of all of them is some megabytes.
            let id = cx.id().to_string();
            cx.set_data(&format!("{id:0>400}")).is_ok()
        });
    });
    server.start().expect("the server starts")
}

/// A keep-alive connection for requests one after the other.
struct Requests(BufReader<TcpStream>);

impl Requests {
    fn new(server: &RunningServer) -> Requests {
        let address = server.addresses()[0].trim_start_matches("http://").to_owned();
        let stream = TcpStream::connect(address).expect("the server accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        stream.set_nodelay(true).expect("it can be set");
        Requests(BufReader::new(stream))
    }

    fn request(&mut self, method: &str, query: &str, body: &str) -> String {
        let len = body.len();
        let head = format!(
            "{method} /socket.io/?EIO=4&transport=polling{query} HTTP/1.1\r\nHost: a\r\nContent-Length: {len}\r\n\r\n{body}"
        );
        self.0.get_mut().write_all(head.as_bytes()).expect("sent");
        let mut len = 0;
        let mut line = String::new();
        for number in 0.. {
            line.clear();
            self.0.read_line(&mut line).expect("a head");
            assert!(number > 0 || line.starts_with("HTTP/1.1 200"), "{line}");
            if line == "\r\n" {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                len = value.trim().parse().expect("a number");
            }
        }
        let mut body = vec![0; len];
        self.0.read_exact(&mut body).expect("a body");
        String::from_utf8(body).expect("text")
    }

    /// A session with a socket.
    fn enter(&mut self) {
        let opened = self.request("GET", "", "");
        let sid = opened.split('"').nth(3).expect("an id").to_owned();
        self.request("POST", &format!("&sid={sid}"), "40");
    }
}

fn crowd(server: &RunningServer, len: usize) {
    std::thread::scope(|scope| {
        for part in 0..4 {
            scope.spawn(move || {
                let mut requests = Requests::new(server);
                (part..len).step_by(4).for_each(|_| requests.enter());
            });
        }
    });
}

#[test]
fn another_process_finds_moves_and_ends_ten_thousand_sockets() {
    let redis = BrokerProcess::redis(&[]);
    let url = format!("redis://127.0.0.1:{}", redis.port);
    let [near, far] = [server(&url), server(&url)];
    let handles = [&near, &far].map(RunningServer::handle);
    until("the processes have met", || handles.iter().all(|handle| handle.queue_stats()[0].processes == 1));
    crowd(&far, CROWD);
    let (near_by, far_off) = (&handles[0], &handles[1]);
    let here = far_off.sockets("/").count().timeout(LONG).wait().expect("its own shards answer");
    assert_eq!(here.into_inner() as usize, CROWD, "all are there");

    let ids = near_by.to("/", "crowd").ids().timeout(LONG).wait().expect("asked");
    assert!(ids.is_complete(), "{:?}", ids.processes_missing());
    let ids: HashSet<_> = ids.into_inner().into_iter().collect();
    assert_eq!(ids.len(), CROWD);

    let fetched = near_by.to("/", "crowd").fetch().timeout(LONG).wait().expect("asked");
    assert!(fetched.is_complete(), "{:?}", fetched.processes_missing());
    let fetched = fetched.into_inner();
    assert_eq!(fetched.len(), CROWD);
    assert!(
        fetched
            .iter()
            .all(|socket| ids.contains(&socket.id()) && socket.rooms().contains(&"crowd".to_owned()))
    );
    let data: HashSet<String> = fetched.iter().map(|socket| socket.data().expect("a text")).collect();
    assert_eq!(data.len(), CROWD, "each with its own data");

    let moved = near_by.to("/", "crowd").join("next").timeout(LONG).wait().expect("asked");
    assert!(moved.is_complete(), "{moved:?}");
    let count = near_by.to("/", "next").count().timeout(LONG).wait().expect("asked");
    assert_eq!((count.is_complete(), count.into_inner() as usize), (true, CROWD));
    let left = near_by.to("/", "crowd").leave("crowd").timeout(LONG).wait().expect("asked");
    assert!(left.is_complete(), "{left:?}");
    let rest = near_by.to("/", "crowd").ids().timeout(LONG).wait().expect("asked");
    assert_eq!((rest.is_complete(), rest.len()), (true, 0));

    let ended = near_by.to("/", "next").disconnect().timeout(LONG).wait().expect("asked");
    assert!(ended.is_complete(), "{ended:?}");
    let rest = far_off.sockets("/").count().timeout(LONG).wait().expect("its own shards answer");
    assert_eq!(rest.into_inner(), 0, "all are gone");
    let stats = handles.each_ref().map(|handle| handle.queue_stats()[0]);
    assert!(
        stats.iter().all(|stats| (stats.lost, stats.refused, stats.unreadable) == (0, 0, 0)),
        "{stats:?}"
    );
    near.stop();
    far.stop();
}

/// A crowd has no time to answer: the caller is told in its time who has not, and gets what is known nearer by.
#[test]
fn a_question_to_a_crowd_ends_in_its_time_and_names_who_is_missing() {
    let redis = BrokerProcess::redis(&[]);
    let url = format!("redis://127.0.0.1:{}", redis.port);
    let [near, far] = [server(&url), server(&url)];
    let handles = [&near, &far].map(RunningServer::handle);
    until("the processes have met", || handles.iter().all(|handle| handle.queue_stats()[0].processes == 1));
    crowd(&far, CROWD / 10);
    crowd(&near, 1);
    // It is there and says nothing.
    redis.freeze();
    let asked = Instant::now();
    let ids = handles[0].to("/", "crowd").ids().timeout(Duration::from_secs(2)).wait().expect("asked");
    assert!(asked.elapsed() < LONG / 2, "{:?}", asked.elapsed());
    assert_eq!((ids.len(), ids.is_complete(), ids.processes_missing().len()), (1, false, 1), "{ids:?}");
    redis.thaw();
    until("all are found again", || {
        let ids = handles[0].to("/", "crowd").ids().timeout(PATIENCE).wait().expect("asked");
        ids.is_complete() && ids.len() == CROWD / 10 + 1
    });
    near.stop();
    far.stop();
}
