//! Registering something while the server runs, as other threads and shards ask for it: see `additions.rs`.

use crate::base::ids::ShardId;
use crate::mesh::Mesh;
use crate::mesh::additions::{Addition, Told};

impl Mesh {
    /// Has every shard register something. What comes of it is told once all have.
    ///
    /// # Errors
    /// Too much waits already.
    pub(crate) fn add(&self, addition: Addition) -> Result<Told, String> {
        let told = self.additions.push(addition)?;
        self.go_on_adding();
        Ok(told)
    }

    /// A shard has done the step that it was given, or does nothing more.
    pub(crate) fn note_added(&self, shard: ShardId, done: Result<(), String>) {
        self.additions.note_done(shard, done);
        self.go_on_adding();
    }

    fn go_on_adding(&self) {
        let shards = || (0..self.len()).map(|shard| ShardId(shard as u16));
        if self.additions.go_on(|| shards().filter(|shard| !self.is_gone(*shard)).collect()) {
            self.ring_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::base::ids::Sid;
    use crate::mesh::additions::{ADDITIONS_WAITING_MAX, Step};
    use crate::mesh::{Bell, InboxReceiver, ShardMessage};

    struct CountingBell(Arc<AtomicUsize>);

    impl Bell for CountingBell {
        fn ring(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn mesh(shards: usize) -> (Arc<Mesh>, Vec<InboxReceiver>, Arc<AtomicUsize>) {
        let rings = Arc::new(AtomicUsize::new(0));
        let bell = |_| Box::new(CountingBell(Arc::clone(&rings))) as Box<dyn Bell>;
        let (mesh, inboxes) = Mesh::new((0..shards).map(bell).collect());
        (mesh, inboxes, rings)
    }

    fn addition(number: u8) -> Addition {
        Addition(Arc::new(number))
    }

    /// The step that a shard is given, with the number of what is added.
    fn given(inbox: &InboxReceiver) -> Option<(Step, u8)> {
        match inbox.next_message() {
            Some(ShardMessage::Add(step, Addition(what))) => {
                Some((step, *what.downcast_ref().expect("a number")))
            }
            _ => None,
        }
    }

    #[test]
    fn a_thing_is_taken_up_when_all_have_made_it_and_the_next_begins_then() {
        let (mesh, inboxes, rings) = mesh(2);
        assert!(mesh.fall_asleep(ShardId(0), &inboxes[0]));
        let first = mesh.add(addition(1)).expect("there is room");
        let second = mesh.add(addition(2)).expect("there is room");
        assert_eq!(rings.load(Ordering::Relaxed), 1, "a sleeper is woken for it");
        assert!(!mesh.fall_asleep(ShardId(0), &inboxes[0]), "nobody sleeps through it");
        for number in [1, 2] {
            for step in [Step::Make, Step::TakeUp] {
                assert_eq!(given(&inboxes[0]), Some((step, number)));
                assert_eq!(given(&inboxes[0]), None, "it is given once");
                mesh.note_added(ShardId(0), Ok(()));
                assert_eq!(given(&inboxes[0]), None, "the other shard has not done it");
                assert_eq!(given(&inboxes[1]), Some((step, number)));
                mesh.note_added(ShardId(1), Ok(()));
            }
        }
        assert_eq!(first.try_recv(), Ok(Ok(())));
        assert_eq!(second.try_recv(), Ok(Ok(())));
        assert!(mesh.fall_asleep(ShardId(0), &inboxes[0]), "nothing is left");
    }

    #[test]
    fn what_one_shard_cannot_make_no_shard_has() {
        let (mesh, inboxes, _) = mesh(3);
        let told = mesh.add(addition(1)).expect("there is room");
        for (shard, done) in [Ok(()), Err("no".to_owned()), Err("nor I".to_owned())].into_iter().enumerate() {
            assert_eq!(given(&inboxes[shard]), Some((Step::Make, 1)));
            mesh.note_added(ShardId(shard as u16), done);
        }
        for (shard, inbox) in inboxes.iter().enumerate() {
            assert_eq!(given(inbox), Some((Step::Drop, 1)));
            mesh.note_added(ShardId(shard as u16), Ok(()));
        }
        assert_eq!(told.try_recv(), Ok(Err("no".to_owned())), "the first to say why");
    }

    #[test]
    fn a_shard_that_is_gone_is_not_waited_for() {
        let (mesh, inboxes, _) = mesh(2);
        let told = mesh.add(addition(1)).expect("there is room");
        assert_eq!(given(&inboxes[0]), Some((Step::Make, 1)));
        mesh.note_added(ShardId(0), Ok(()));
        mesh.retire(ShardId(1));
        assert_eq!(given(&inboxes[0]), Some((Step::TakeUp, 1)));
        mesh.note_added(ShardId(0), Ok(()));
        assert_eq!(told.try_recv(), Ok(Ok(())));
        let told = mesh.add(addition(2)).expect("there is room");
        mesh.retire(ShardId(0));
        assert!(told.try_recv().is_ok_and(|told| told.is_err()), "nobody has it");
        let told = mesh.add(addition(3)).expect("there is room");
        assert!(told.try_recv().is_ok_and(|told| told.is_err()), "none is left");
    }

    #[test]
    fn it_reaches_a_full_inbox_and_so_many_wait() {
        let (mesh, inboxes, _) = mesh(1);
        let trace = || ShardMessage::Trace { sid: Sid::new(ShardId(0), [0; 13]), is_on: true };
        while mesh.send(ShardId(0), trace()).is_ok() {}
        let _all: Vec<_> = (0..=ADDITIONS_WAITING_MAX)
            .map(|number| mesh.add(addition(number as u8)).expect("there is room"))
            .collect();
        assert!(mesh.add(addition(0)).is_err());
        assert_eq!(given(&inboxes[0]), Some((Step::Make, 0)));
    }
}
