//! How much waits in the inboxes, and whether every shard still looks into its own, for those who watch a server.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::base::ids::ShardId;
use crate::mesh::{Mesh, ShardMessage};
use crate::message::pulse::Pulse;

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

    /// Asks every shard whether it still comes round to its inbox. One that is gone, or whose inbox is full, stays silent.
    pub(crate) fn send_pulse(&self) -> Arc<Pulse> {
        let pulse = Arc::new(Pulse::new(self.len()));
        for shard in (0..self.len()).map(|shard| ShardId(shard as u16)) {
            if self.send(shard, ShardMessage::Pulse(Arc::clone(&pulse))).is_ok() {
                self.ring(shard);
            }
        }
        pulse
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::Bell;
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
