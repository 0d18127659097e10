//! How much waits in the inboxes, for those who watch a server.

use std::sync::atomic::Ordering;

use crate::mesh::Mesh;

/// What waits in one inbox now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Depth {
    pub(crate) messages: u64,
    /// What these messages keep in memory.
    pub(crate) bytes: u64,
}

impl Mesh {
    /// Of every shard.
    pub(crate) fn depths(&self) -> impl Iterator<Item = Depth> + '_ {
        self.inboxes.iter().map(|inbox| {
            let lanes = [&inbox.inside, &inbox.outside];
            Depth {
                messages: lanes.iter().map(|lane| lane.messages.len() as u64).sum(),
                bytes: lanes.iter().map(|lane| lane.bytes.load(Ordering::Relaxed) as u64).sum(),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::base::ids::ShardId;
    use crate::mesh::{Bell, ShardMessage};
    use crate::message::target::Broadcast;

    struct Silent;

    impl Bell for Silent {
        fn ring(&self) {}
    }

    #[test]
    fn what_waits_is_counted_until_it_is_taken() {
        let (mesh, inboxes) = Mesh::new(vec![Box::new(Silent), Box::new(Silent)]);
        let broadcast = Arc::new(Broadcast { frame: Arc::new(vec![0; 100]), ..Broadcast::default() });
        for _ in 0..3 {
            let message = ShardMessage::Broadcast(Arc::clone(&broadcast));
            mesh.send(ShardId(1), message).expect("there is room");
        }
        let depths: Vec<Depth> = mesh.depths().collect();
        assert_eq!((depths[0], depths[1].messages), (Depth::default(), 3));
        assert!(depths[1].bytes >= 300, "{}", depths[1].bytes);
        while inboxes[1].next_message().is_some() {}
        assert!(mesh.depths().all(|depth| depth == Depth::default()));
    }
}
