//! Which client a task is counted for.

use crate::base::limits::HANDLERS_LEFT_MAX;
use crate::base::slab::Key;
use crate::shard::table::Tables;
use crate::shard::value::task::TaskOwner;

impl Tables {
    /// Whose handler a task is.
    pub(crate) fn session_of(&self, owner: TaskOwner) -> Option<Key> {
        match owner {
            // The client is gone: bounded by the number of sockets whose rooms are kept.
            TaskOwner::Nobody | TaskOwner::Route(_) | TaskOwner::Disconnect(_) => None,
            TaskOwner::Connect(socket) | TaskOwner::Handler(socket, _) | TaskOwner::Beside(socket, _) => {
                self.sockets.get(socket).map(|socket| socket.session)
            }
        }
    }

    /// Counts one more handler of a session, and of its socket. False when too many run for sockets that the session has left.
    pub(crate) fn count_task(&mut self, session: Key, owner: TaskOwner) -> bool {
        let Some(entry) = self.sessions.get(session) else { return true };
        let running: usize = entry.sockets.iter().map(|(_, socket)| self.running_of(*socket, owner)).sum();
        if (entry.tasks as usize).saturating_sub(running) > HANDLERS_LEFT_MAX {
            return false;
        }
        if let Some(entry) = self.sessions.get_mut(session) {
            entry.tasks += 1;
        }
        match owner {
            TaskOwner::Handler(socket, _) => {
                if let Some(socket) = self.sockets.get_mut(socket) {
                    socket.is_busy = true;
                }
            }
            TaskOwner::Beside(socket, _) => self.count_concurrent(socket, true),
            TaskOwner::Connect(_) | TaskOwner::Disconnect(_) | TaskOwner::Route(_) | TaskOwner::Nobody => {}
        }
        true
    }

    /// The handlers that run for a socket, that of the new task not counted.
    fn running_of(&self, key: Key, new: TaskOwner) -> usize {
        let Some(socket) = self.sockets.get(key) else { return 0 };
        let is_new = matches!(new, TaskOwner::Connect(connecting) if connecting == key);
        let connecting = !socket.state.is_decided() && !is_new;
        let concurrent = socket.extra.as_ref().map_or(0, |extra| extra.concurrent as usize);
        usize::from(socket.is_busy) + usize::from(connecting) + concurrent
    }
}
