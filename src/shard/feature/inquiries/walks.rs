//! Questions that take long to answer, in slices: the asker waits a little longer, and other clients are served in between.
//!
//! To describe 100,000 sockets takes a tenth of a second. Whom a question means is settled when it comes, in its place among
//! other calls; each is described later, as it is then, and one that has gone meanwhile is left out.

use std::time::Duration;

use crate::base::slab::Key;
use crate::message::inquiry::SocketFacts;
use crate::shard::feature::Feature;
use crate::shard::feature::inquiries::walk::{Over, Walk};
use crate::shard::feature::inquiries::{FINDINGS_BYTES_MAX, Inquiries};

/// Sockets or rooms of one slice: about a millisecond of work.
const SLICE_MAX: usize = 1000;

/// From one slice to the next: as long as others have the shard.
const SLICE_PERIOD: Duration = Duration::from_millis(1);

/// What waiting walks may hold together on one shard, in bytes: whom they still have to look at, and what they have found.
pub(crate) const WALKS_BYTES_MAX: usize = FINDINGS_BYTES_MAX;

impl Feature<'_, Inquiries> {
    /// Begins a walk. A short one is done at once.
    pub(crate) fn walk(&mut self, walk: Walk) {
        if self.own.walks.waiting.is_empty() {
            self.own.walks.due = self.tables.env.now + SLICE_PERIOD;
        }
        self.walk_slice(walk);
    }

    /// Goes on with the walk whose turn it is.
    pub(crate) fn walk_on(&mut self) {
        if self.own.walks.next() > self.tables.env.now {
            return;
        }
        self.own.walks.due = self.tables.env.now + SLICE_PERIOD;
        if let Some(walk) = self.own.walks.waiting.pop_front() {
            self.own.walks.bytes -= walk.bytes();
            self.walk_slice(walk);
        }
    }

    fn walk_slice(&mut self, mut walk: Walk) {
        let is_done = match &mut walk.over {
            Over::Sockets { keys, next } => {
                let end = keys.len().min(*next + SLICE_MAX);
                for key in &keys[*next..end] {
                    let facts = self.describe_socket(*key);
                    walk.findings.bytes += facts.as_ref().map_or(0, SocketFacts::len_bytes);
                    walk.findings.sockets.extend(facts);
                }
                *next = end;
                end == keys.len()
            }
            Over::Rooms { namespace, next } => {
                let number = self.tables.namespaces.resolve(namespace);
                let end = self.tables.rooms.places().min(*next + SLICE_MAX as u32);
                for place in *next..end {
                    let room = self
                        .tables
                        .rooms
                        .at(place)
                        .filter(|room| Some(room.namespace) == number && room.is_listed());
                    if let Some(room) = room {
                        walk.findings.bytes += room.name.len() + size_of::<(String, u64)>();
                        walk.findings.rooms.insert(room.name.to_string(), room.present());
                    }
                }
                *next = end;
                end == self.tables.rooms.places()
            }
        };
        let is_too_much = walk.findings.bytes > FINDINGS_BYTES_MAX
            || (!is_done && self.own.walks.bytes + walk.bytes() > WALKS_BYTES_MAX);
        if is_too_much {
            walk.findings.cut();
        }
        if is_done || is_too_much {
            return self.report(walk.home, walk.number, walk.findings);
        }
        self.own.walks.bytes += walk.bytes();
        self.own.walks.waiting.push_back(walk);
    }

    fn describe_socket(&self, key: Key) -> Option<SocketFacts> {
        let socket = self.tables.sockets.get(key).filter(|socket| socket.state.is_told())?;
        let session = self.tables.sessions.get(socket.session)?;
        let (request, peer, issued_unix_millis) = session.handshake.parts();
        Some(SocketFacts {
            sid: socket.sid,
            client_id: self.tables.client_id(key).map(String::into_boxed_str),
            rooms: self.tables.rooms_of(key),
            request: request.into(),
            peer,
            address: session.handshake.address(),
            issued_unix_millis,
            data: socket.extra.as_ref().and_then(|extra| extra.data.clone()),
        })
    }
}
