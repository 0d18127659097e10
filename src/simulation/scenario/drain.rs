//! The end of a server under random clients.

use crate::simulation::Simulation;
use crate::simulation::scenario::Scenario;

impl Scenario {
    /// The whole server ends in its time while clients go on as they please.
    pub(super) fn drain(&mut self) {
        self.simulation.world.handle.drain();
        self.is_draining = true;
        self.end_visits();
        self.close_pages();
        self.act_at_random();
        assert!(self.simulation.world.shards.iter().all(|shard| shard.has_drained()), "within its time");
        let sessions: u64 = self.simulation.world.handle.stats().iter().map(|shard| shard.sessions).sum();
        assert_eq!(sessions, 0, "every session has ended");
        for id in 0..self.actors.len() {
            if !self.actors[id].is_gone {
                self.expect_nothing(id);
                let Simulation { world, clients } = &mut self.simulation;
                clients[id].drop_wires(world, false);
            }
        }
    }
}
