//! What was heard of Redis on any connection, until it is taken: bounded in bytes.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use redis::{PushInfo, PushKind, Value};
use tokio::sync::mpsc;

use crate::bus::redis::heard::Shared;
use crate::bus::redis::{REDIS_QUEUE_BYTES_MAX, StreamId, Way};
use crate::bus::{Body, Channel, Fault};
use crate::config::queue::address::Host;

pub(in crate::bus::redis) enum Event {
    Message {
        way: Way,
        name: Vec<u8>,
        body: Vec<u8>,
    },
    Entry {
        stream: Arc<str>,
        id: StreamId,
        channel: Channel,
        body: Body,
    },
    /// The connection is over: why.
    Lost(String),
}

impl Event {
    pub(in crate::bus::redis) fn len_bytes(&self) -> usize {
        let bytes = match self {
            Event::Message { name, body, .. } => name.len() + body.len(),
            Event::Entry { body, .. } => body.len_bytes(),
            Event::Lost(_) => return 0,
        };
        bytes + size_of::<Event>()
    }
}

/// Where all connections put what they hear.
#[derive(Clone)]
pub(in crate::bus::redis) struct Queue {
    pub(in crate::bus::redis) events: mpsc::UnboundedSender<Event>,
    pub(in crate::bus::redis) shared: Arc<Shared>,
}

impl Queue {
    /// What Redis sent without being asked, or the crate's word that the connection is gone.
    pub(in crate::bus::redis) fn push(&self, host: &Host, push: PushInfo) {
        let way = match push.kind {
            PushKind::Message => Way::Plain,
            PushKind::PMessage => Way::Pattern,
            PushKind::SMessage => Way::Sharded,
            PushKind::Disconnection => return self.lose(format!("redis at {host} closed the connection")),
            PushKind::SUnsubscribe => {
                let asked =
                    self.shared.leaving.fetch_update(Relaxed, Relaxed, |leaving| leaving.checked_sub(1));
                if asked.is_err() {
                    self.lose(format!("redis at {host} has given a slot of its cluster to another node"));
                }
                return;
            }
            _ => return,
        };
        let mut data = push.data.into_iter().rev();
        if let (Some(Value::BulkString(body)), Some(Value::BulkString(name))) = (data.next(), data.next()) {
            self.admit(Event::Message { way, name, body });
        }
    }

    /// What a sentinel says of a service: `mymaster 10.0.0.1 6379 10.0.0.2 6379` when another server has become its master.
    pub(in crate::bus::redis) fn hear_sentinel(&self, host: &Host, service: &str, push: &PushInfo) {
        let Some(Value::BulkString(said)) = push.data.last() else { return };
        let is_about_it = said.strip_prefix(service.as_bytes()).is_some_and(|rest| rest.starts_with(b" "));
        if push.kind == PushKind::Message && is_about_it {
            self.lose(format!("the sentinel at {host} says that {service:?} has another master"));
        }
    }

    pub(in crate::bus::redis) fn admit(&self, event: Event) {
        let bytes = event.len_bytes();
        let waiting = self.shared.waiting_bytes.fetch_add(bytes, Relaxed) + bytes;
        if waiting > REDIS_QUEUE_BYTES_MAX {
            self.lose(format!(
                "this process has fallen behind redis: {waiting} bytes wait, and the most is {REDIS_QUEUE_BYTES_MAX}"
            ));
        }
        // Who has fallen behind takes what came before that, and no more.
        if !self.shared.is_lost.load(Relaxed) {
            let _ = self.events.send(event);
        }
    }

    pub(in crate::bus::redis) fn lose(&self, why: String) {
        if !self.shared.is_lost.swap(true, Relaxed) {
            let _ = self.events.send(Event::Lost(why));
        }
    }

    pub(in crate::bus::redis) fn check(&self) -> Result<(), Fault> {
        match self.shared.is_lost.load(Relaxed) {
            true => Err(Fault::passing("the connection to redis is lost")),
            false => Ok(()),
        }
    }
}
