//! What the HTTP API asks about the process beside its sockets.

use rand_core::RngCore;

use crate::base::time::Time;
use crate::shard::user::owned_request::OwnedRequest;

impl OwnedRequest {
    /// What time it is on the shard.
    pub(crate) fn now(&self) -> Time {
        self.core.borrow().tables.env.now
    }

    /// 64 random bits, as hexadecimal digits.
    pub(crate) fn random_id(&self) -> String {
        format!("{:016x}", self.core.borrow_mut().tables.env.random.next_u64())
    }

    /// What the ids of all sockets of this process have in common, where it may have others beside it.
    pub(crate) fn node(&self) -> Option<String> {
        let tag = self.core.borrow().tables.mesh.links.tag?;
        Some(tag.0.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Whether the server is about to stop.
    pub(crate) fn is_draining(&self) -> bool {
        let core = self.core.borrow();
        core.tables.env.is_draining || core.tables.env.is_shutting_down
    }
}
