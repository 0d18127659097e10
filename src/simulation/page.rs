//! Socket.IO's admin page, as far as it keeps what it is told: sockets with their rooms, and each namespace's number of sockets.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::simulation::client::Message;

/// The namespace that pages connect to.
pub(super) const PAGE_NAMESPACE: &str = "/admin";

/// What a page shows.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// Its client.
    pub(super) id: usize,
    /// It has been told what there is; until then it ignores what changes.
    pub(super) has_begun: bool,
    /// By namespace and id.
    pub(super) sockets: BTreeMap<(String, String), BTreeSet<String>>,
    /// How many each namespace has, as it was told last.
    pub(super) counts: BTreeMap<String, u64>,
}

impl Page {
    pub(super) fn read(&mut self, message: &Message) {
        assert_eq!(message.namespace, PAGE_NAMESPACE, "page {} got {message:?}", self.id);
        if message.kind == '0' {
            return;
        }
        assert!(matches!(message.kind, '2' | '5'), "page {} got {message:?}", self.id);
        let arguments = message.payload.as_array().expect("an event");
        let texts = || arguments.iter().map(|argument| argument.as_str().unwrap_or_default().to_owned());
        let key = || {
            let texts: Vec<String> = texts().collect();
            move |namespace: usize, id: usize| (texts[namespace].clone(), texts[id].clone())
        };
        match arguments[0].as_str().expect("a name") {
            "all_sockets" => {
                self.has_begun = true;
                self.sockets.clear();
                arguments[1].as_array().expect("a list").iter().for_each(|socket| self.show(socket));
            }
            "server_stats" => {
                let namespaces = arguments[1]["namespaces"].as_array().expect("a list");
                let count = |one: &Value| {
                    let name = one["name"].as_str().expect("a name").to_owned();
                    (name, one["socketsCount"].as_u64().expect("a number"))
                };
                self.counts = namespaces.iter().map(count).collect();
            }
            _ if !self.has_begun => {}
            "socket_connected" => self.show(&arguments[1]),
            "socket_disconnected" => _ = self.sockets.remove(&key()(1, 2)),
            "room_joined" => {
                let room = arguments[2].as_str().expect("a room").to_owned();
                self.sockets.entry(key()(1, 3)).and_modify(|rooms| _ = rooms.insert(room));
            }
            "room_left" => {
                let room = arguments[2].as_str().expect("a room");
                self.sockets.entry(key()(1, 3)).and_modify(|rooms| _ = rooms.remove(room));
            }
            "config" | "session" | "socket_updated" | "event_sent" | "event_received" => {}
            other => panic!("page {} got {other}", self.id),
        }
    }

    fn show(&mut self, socket: &Value) {
        let text = |name: &str| socket[name].as_str().expect("a text").to_owned();
        let rooms = socket["rooms"].as_array().expect("a list").iter();
        let rooms = rooms.map(|room| room.as_str().expect("a name").to_owned()).collect();
        self.sockets.insert((text("nsp"), text("id")), rooms);
    }
}
