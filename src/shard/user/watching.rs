//! This shard, for whoever tells Socket.IO's admin page what happens to its sockets (`server/admin_ui`).

use std::collections::VecDeque;
use std::rc::Rc;

use crate::base::ids::Sid;
use crate::base::slab::Key;
use crate::base::time::Time;
use crate::protocol::socketio::event::Args;
use crate::shard::core::SharedCore;
use crate::shard::user::current::current;
use crate::shard::user::recipients::Recipients;
use crate::shard::value::endpoint::MAIN;
use crate::shard::value::sighting::{LeftOut, Sighting};

/// The page's namespace is not there.
const NO_NAMESPACE: u16 = u16::MAX;

/// The shard that is at work on this thread.
pub(crate) struct Watcher(SharedCore);

impl Watcher {
    /// A shard by its core.
    pub(crate) fn of(core: &SharedCore) -> Watcher {
        Watcher(Rc::clone(core))
    }

    /// `None` outside a shard's handlers and tasks.
    pub(crate) fn here() -> Option<Watcher> {
        current().map(Watcher)
    }

    /// Its number.
    pub(crate) fn shard(&self) -> usize {
        self.0.borrow().tables.env.id.index()
    }

    /// The time since the process began.
    pub(crate) fn now(&self) -> Time {
        self.0.borrow().tables.env.now
    }

    /// The time of the wall clock, in milliseconds since 1970.
    pub(crate) fn unix_millis(&self) -> u64 {
        let env = &self.0.borrow().tables.env;
        env.unix_origin + env.now.0
    }

    /// Begins to note what happens to sockets, or stops. Events of the page's own namespace are not noted.
    pub(crate) fn switch(&self, own_namespace: &str, is_on: bool) {
        let tables = &mut self.0.borrow_mut().tables;
        let own = tables.namespaces.find(MAIN, own_namespace).unwrap_or(NO_NAMESPACE);
        tables.sightings.switch(is_on, own);
    }

    /// Tells the pages what was noted since the last call.
    pub(crate) fn tell_sighted(&self) {
        let (sighted, own) = {
            let tables = &mut self.0.borrow_mut().tables;
            let number = tables.sightings.own;
            let own = (number != NO_NAMESPACE).then(|| Rc::clone(&tables.namespaces[number].namespace));
            (tables.sightings.take(), own)
        };
        let Some(own) = own else { return };
        for Sighting { event, args, attachments } in sighted {
            let args = Args::of_elements(&args, &attachments);
            Recipients::everyone(&self.0, Rc::clone(&own), None).emit(event, args);
        }
    }

    /// How much was left out since the last call.
    pub(crate) fn take_left_out(&self) -> LeftOut {
        self.0.borrow_mut().tables.sightings.take_left_out()
    }

    /// Everybody in a namespace of the configuration's own endpoint, in all processes.
    pub(crate) fn everyone(&self, namespace: &str) -> Recipients<'_> {
        let namespace = self.0.borrow().tables.namespaces.refer_anywhere(MAIN, namespace);
        Recipients::everyone(&self.0, namespace, None)
    }

    /// One socket of such a namespace, wherever it is.
    pub(crate) fn socket(&self, namespace: &str, sid: Sid) -> Recipients<'_> {
        let namespace = self.0.borrow().tables.namespaces.refer_anywhere(MAIN, namespace);
        Recipients::rooms(&self.0, namespace, None).to(sid.as_str())
    }

    /// Whether a socket is on this shard.
    pub(crate) fn has(&self, sid: &Sid) -> bool {
        self.0.borrow().tables.socket_by_sid(sid).is_some()
    }

    /// All sockets of this shard.
    pub(crate) fn sockets(&self) -> VecDeque<Key> {
        self.0.borrow().tables.sockets.keys().collect()
    }

    /// Those of some sockets that the page is shown, as it knows them, each with the time at which its session opened.
    pub(crate) fn describe(&self, sockets: impl Iterator<Item = Key>) -> Vec<(String, u64)> {
        let core = self.0.borrow();
        sockets.filter_map(|key| core.tables.describe_sighted(key)).collect()
    }
}
