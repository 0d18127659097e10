//! Socket.IO's admin page, opened and closed while clients do what they please.
//!
//! Once all is at rest a page must show what the shards have.

use std::collections::BTreeMap;

use crate::simulation::Simulation;
use crate::simulation::model::Actor;
use crate::simulation::page::{PAGE_NAMESPACE, Page};
use crate::simulation::scenario::{MAIN_PATH, PLACES, Scenario};

const PAGES_MAX: usize = 2;

impl Scenario {
    /// One page is opened or closed, in worlds that have them.
    pub(super) fn open_or_close_page(&mut self) {
        if self.pages.len() < PAGES_MAX && self.choice.chance(60) {
            let habits = self.habits();
            let id = self.simulation.open_at(MAIN_PATH, habits);
            let client = &mut self.simulation.clients[id];
            client.namespace = PAGE_NAMESPACE;
            client.enter();
            // It is none of those who act, and is nowhere where they are.
            self.actors.push(Actor { place: PLACES.len(), is_gone: true, ..Actor::default() });
            self.pages.push(Page { id, ..Page::default() });
        } else if !self.pages.is_empty() {
            let index = self.choice.below(self.pages.len());
            self.close_page(index);
        }
    }

    fn close_page(&mut self, index: usize) {
        let id = self.pages.swap_remove(index).id;
        let is_reset = self.choice.chance(50);
        let Simulation { world, clients } = &mut self.simulation;
        clients[id].drop_wires(world, is_reset);
    }

    pub(super) fn close_pages(&mut self) {
        while !self.pages.is_empty() {
            self.close_page(0);
        }
    }

    /// All is at rest: each page shows what there is.
    pub(super) fn check_pages(&self) {
        let shards = &self.simulation.world.shards;
        let sockets: BTreeMap<_, _> = shards
            .iter()
            .flat_map(|shard| shard.open_sockets())
            .map(|(namespace, id, rooms)| ((namespace, id), rooms))
            .collect();
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        sockets.keys().for_each(|(namespace, _)| *counts.entry(namespace).or_default() += 1);
        for page in &self.pages {
            let client = &self.simulation.clients[page.id];
            assert!(!client.is_over, "page {} lost its session: {:?}", page.id, client.refusals);
            assert!(page.has_begun, "page {} was told nothing", page.id);
            assert_eq!(page.sockets, sockets, "page {} (left) shows other sockets than there are", page.id);
            let told = page.counts.iter().filter(|(_, count)| **count > 0);
            let told: BTreeMap<&str, u64> = told.map(|(name, count)| (name.as_str(), *count)).collect();
            assert_eq!(told, counts, "page {} (left) is told other numbers", page.id);
        }
    }
}
