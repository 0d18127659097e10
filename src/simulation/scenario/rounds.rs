//! What random clients do in one round.

use crate::simulation::scenario::Scenario;

const OPERATIONS_PER_ROUND: usize = 120;

impl Scenario {
    /// Clients do what they please, and then all comes to rest.
    pub(super) fn act_at_random(&mut self) {
        for _ in 0..OPERATIONS_PER_ROUND {
            let actor = self.choice.below(self.actors.len());
            self.act(actor);
            if self.choice.chance(30) {
                self.visit();
            }
            for _ in 0..self.choice.below(30) {
                self.simulation.step();
            }
            self.read_all();
        }
        self.unstall();
        self.finish_visits();
        self.settle();
        if !self.is_draining {
            self.check_visits();
        }
    }
}
