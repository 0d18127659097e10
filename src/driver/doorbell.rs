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

/// Silences a bell that has rung, where its state is watched. The ring wire watches for rings, and needs no silence.
#[cfg(any(test, feature = "epoll"))]
pub(crate) fn silence(bell: &OwnedFd) {
    let mut count = [0; 8];
    // Nothing to read means that it had not rung.
    let _ = rustix::io::read(bell, &mut count);
}

#[cfg(test)]
pub(in crate::driver) mod tests {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;
    use crate::base::ids::{SID_RANDOM_BYTES, ShardId, Sid};
    use crate::mesh::{Mesh, ShardMessage};

    /// Longer than any thread waits for its turn on a busy machine.
    const PATIENCE: Timespec = Timespec { tv_sec: 20, tv_nsec: 0 };

    /// Threads send to a shard and ring `bell`; `hear` waits for a ring of its descriptor, and says whether there was one.
    #[allow(clippy::disallowed_methods)] // The threads of a test stand for shards'.
    pub(in crate::driver) fn assert_no_message_waits(bell: EventBell, mut hear: impl FnMut() -> bool) {
        const MESSAGES: usize = 20_000;
        const SENDERS: usize = 2;
        let (mesh, receivers) = Mesh::new(vec![Box::new(bell)]);
        let shard = ShardId(0);
        std::thread::scope(|scope| {
            for _ in 0..SENDERS {
                scope.spawn(|| {
                    for _ in 0..MESSAGES {
                        let sid = Sid::new(shard, [0; SID_RANDOM_BYTES]);
                        while mesh.send(shard, ShardMessage::Trace { sid, is_on: false }).is_err() {
                            std::thread::yield_now();
                        }
                        mesh.ring(shard);
                    }
                });
            }
            let mut received = 0;
            while received < SENDERS * MESSAGES {
                while receivers[0].next_message().is_some() {
                    received += 1;
                }
                if received < SENDERS * MESSAGES && mesh.fall_asleep(shard, &receivers[0]) {
                    assert!(hear(), "nobody rang after message {received}");
                    mesh.wake_up(shard);
                }
            }
        });
    }

    #[test]
    fn no_message_waits_for_a_shard_that_sleeps() {
        let bell = EventBell::new().expect("an eventfd");
        let descriptor = bell.descriptor();
        assert_no_message_waits(bell, || {
            let mut watched = [PollFd::new(&descriptor, PollFlags::IN)];
            let rung = poll(&mut watched, Some(&PATIENCE)).expect("an eventfd can be polled");
            silence(&descriptor);
            rung > 0
        });
    }
}
