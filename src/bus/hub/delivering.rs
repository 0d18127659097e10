//! What was heard, on its way into the inboxes of this process' shards.

use std::sync::Arc;

use crate::base::ids::ShardId;
use crate::bus::hub::Hub;
use crate::mesh::interest::Audience;
use crate::mesh::{InboxError, ShardMessage};
use crate::message::target::{Broadcast, SocketChange, SocketCommand, ToldChange};

impl Hub {
    /// Wakes the shards that have mail. It is due before whoever drives the hub waits for anything.
    pub(crate) fn ring_bells(&mut self) {
        for shard in self.bells.drain(..) {
            self.mesh.ring(shard);
        }
    }

    /// Gives an event to the shards that may have receivers.
    pub(super) fn deliver(&mut self, broadcast: Broadcast) {
        let broadcast = Arc::new(broadcast);
        if let Some(relay) = self.mesh.relay() {
            return self.send(relay, ShardMessage::Relay(broadcast));
        }
        let mut audience = Audience::default();
        let mesh = Arc::clone(&self.mesh);
        let mut shards = 0;
        while let Some(shard) = mesh.interest.next(&mut audience, &broadcast.namespace, &broadcast.target) {
            shards += 1;
            self.send(shard, ShardMessage::Broadcast(Arc::clone(&broadcast)));
        }
        self.stats.nobodys.add(u64::from(shards == 0));
    }

    /// Has the shards change sockets.
    pub(super) fn apply(&mut self, command: SocketCommand) {
        if let Some(relay) = self.mesh.relay() {
            return self.send(relay, ShardMessage::RelayCommand(ToldChange::new(command)));
        }
        let announcement = match &command.change {
            SocketChange::Join(room) => Some(self.mesh.interest.announce(&command.namespace, room)),
            SocketChange::Leave(_) | SocketChange::Disconnect { .. } => None,
        };
        let mut audience = Audience::default();
        let mesh = Arc::clone(&self.mesh);
        while let Some(shard) = mesh.interest.next(&mut audience, &command.namespace, &command.target) {
            let command = Box::new(command.clone());
            self.send(shard, ShardMessage::Command(command, announcement.clone()));
        }
    }

    pub(super) fn send(&mut self, shard: ShardId, message: ShardMessage) {
        match self.mesh.send_from_outside(shard, message) {
            Ok(()) if self.bells.contains(&shard) => {}
            Ok(()) => self.bells.push(shard),
            Err(InboxError::Gone) => {}
            Err(InboxError::Full) => {
                self.stats.lost.add(1);
                if let Some(more) = self.seldom.full.may_say(self.now) {
                    tracing::error!(
                        shard = shard.0,
                        more,
                        "a shard does not keep up with what other processes say: messages are lost"
                    );
                }
            }
        }
    }
}
