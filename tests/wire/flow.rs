//! Numbers that one server says to a room without a pause, and clients that note what they hear: for tests in which brokers fail meanwhile.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // It waits in real time, and threads share what they hear.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use shardcast::{Config, Context, EngineOptions, Handle, RunningServer, Server};

use super::{Client, until_within};

/// Longer than any broker takes to come back on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Between two numbers.
const PAUSE: Duration = Duration::from_millis(3);

/// Waits until something is so that brokers have to bring about.
pub(crate) fn until(what: &str, is_so: impl FnMut() -> bool) {
    until_within(PATIENCE, what, is_so);
}

/// A server with rooms at this queue.
pub(crate) fn server(url: &str) -> RunningServer {
    let engine = EngineOptions { message_queue: url.into(), ..EngineOptions::default() };
    let config = Config { engine, shards: 2, bind: vec!["127.0.0.1:0".to_owned()], ..Config::default() };
    let server = Server::new(config).namespace("/", |io| {
        io.on("join", |cx: &mut Context, room: String| {
            cx.join(&room);
            true
        });
    });
    server.start().expect("the server starts")
}

/// A client in the room, which notes what it hears until it hears that there is no more.
pub(crate) struct Listener {
    heard: Arc<Mutex<Vec<u64>>>,
    reader: JoinHandle<()>,
}

impl Listener {
    /// At a server, once that hears what the speaker says to the room.
    pub(crate) fn enter(server: &RunningServer, speaker: &Handle) -> Listener {
        let mut client = Client::connect(server);
        client.join("room");
        until("the room is known where it is spoken to", || {
            speaker.to("/", "room").emit("probe", ());
            client.has_input()
        });
        client.stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&heard);
        let reader = std::thread::spawn(move || {
            loop {
                match client.event() {
                    (event, value) if event == "flow" => {
                        into.lock().expect("no panic").push(value.as_u64().expect("a number"));
                    }
                    (event, _) if event == "end" => return,
                    (event, _) => assert_eq!(event, "probe"),
                }
            }
        });
        Listener { heard, reader }
    }

    pub(crate) fn len(&self) -> usize {
        self.heard.lock().expect("no panic").len()
    }

    /// All that it has heard, once the flow is over.
    pub(crate) fn numbers(self) -> Vec<u64> {
        self.reader.join().expect("each event is one of the flow, and the end comes");
        std::mem::take(&mut *self.heard.lock().expect("no panic"))
    }
}

/// Says numbers to the room, from 0 on.
pub(crate) struct Flow {
    is_over: Arc<AtomicBool>,
    speaker: JoinHandle<u64>,
}

impl Flow {
    pub(crate) fn start(handle: &Handle) -> Flow {
        let is_over = Arc::new(AtomicBool::new(false));
        let (handle, told) = (handle.clone(), Arc::clone(&is_over));
        let speaker = std::thread::spawn(move || {
            let mut said = 0;
            while !told.load(Relaxed) {
                handle.to("/", "room").emit("flow", said);
                said += 1;
                std::thread::sleep(PAUSE);
            }
            handle.to("/", "room").emit("end", ());
            said
        });
        Flow { is_over, speaker }
    }

    /// Ends it; how many numbers it were.
    pub(crate) fn end(self) -> u64 {
        self.is_over.store(true, Relaxed);
        self.speaker.join().expect("no panic")
    }
}
