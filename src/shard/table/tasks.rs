//! Which client a task is counted for.

use crate::base::limits::HANDLERS_LEFT_MAX;
use crate::base::slab::Key;
use crate::shard::table::Tables;
use crate::shard::value::task::TaskOwner;

impl Tables {
    /// Whose handler a task is.
    pub(crate) fn session_of(&self, owner: TaskOwner) -> Option<Key> {
        match owner {
            TaskOwner::Nobody | TaskOwner::Route(_) => None,
            TaskOwner::Connect(socket) | TaskOwner::Handler(socket, _) => {
                self.sockets.get(socket).map(|socket| socket.session)
            }
        }
    }

    /// Counts one more handler of a session. False when too many run for sockets that it has left.
    pub(crate) fn count_task(&mut self, session: Key) -> bool {
        let Some(session) = self.sessions.get_mut(session) else { return true };
        let is_fine = (session.tasks as usize) < session.sockets.len() + HANDLERS_LEFT_MAX;
        session.tasks += u32::from(is_fine);
        is_fine
    }
}
