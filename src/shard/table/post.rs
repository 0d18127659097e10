//! What goes to other shards.

use crate::base::ids::ShardId;
use crate::mesh::{InboxError, ShardMessage};
use crate::shard::table::Tables;

impl Tables {
    /// Sends a message to another shard; the bell rings at the end of the turn. A full inbox loses the message, which is
    /// counted and logged. So does a shard that died, which is logged once; one that has stopped needs no message.
    pub(crate) fn send_to_shard(&mut self, to: ShardId, message: ShardMessage) -> bool {
        match self.mesh.send(to, message) {
            Ok(()) => {
                if !self.bells.contains(&to) {
                    self.bells.push(to);
                }
                return true;
            }
            Err(InboxError::Full) => {
                self.env.counters.mesh_messages_lost.add(1);
                tracing::error!(
                    from = self.env.id.0,
                    to = to.0,
                    "a shard's inbox is full: a message to it is lost"
                );
            }
            Err(InboxError::Gone) if self.mesh.is_stopping() => {}
            Err(InboxError::Gone) => {
                self.env.counters.mesh_messages_lost.add(1);
                if self.mesh.must_report(to) {
                    tracing::error!(
                        from = self.env.id.0,
                        to = to.0,
                        "a shard has died: messages to it are lost"
                    );
                }
            }
        }
        false
    }

    /// Every shard but this one.
    pub(crate) fn other_shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        let own = self.env.id;
        (0..self.mesh.len()).map(|index| ShardId(index as u16)).filter(move |&shard| shard != own)
    }
}
