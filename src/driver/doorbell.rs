//! A doorbell: an eventfd that a sleeping shard polls.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};

use crate::mesh::Bell;

/// Rings by adding to an eventfd.
#[derive(Debug)]
pub(crate) struct EventBell(Arc<OwnedFd>);

impl EventBell {
    pub(crate) fn new() -> rustix::io::Result<EventBell> {
        eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map(|fd| EventBell(Arc::new(fd)))
    }

    pub(crate) fn descriptor(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.0)
    }
}

impl Bell for EventBell {
    fn ring(&self) {
        // The only failure is a counter that is full, and then the bell has rung already.
        let _ = rustix::io::write(&*self.0, &1_u64.to_ne_bytes());
    }
}

/// Silences a bell that has rung.
pub(crate) fn silence(bell: &OwnedFd) {
    let mut count = [0; 8];
    // Nothing to read means that it had not rung.
    let _ = rustix::io::read(bell, &mut count);
}
