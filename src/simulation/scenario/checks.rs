//! What every client must have heard once all is at rest.

use serde_json::json;

use crate::simulation::model::EVERYONE;
use crate::simulation::scenario::{KEYS, Scenario};

impl Scenario {
    /// Everything has come to rest: whoever surely was there has everything.
    pub(super) fn check_round(&mut self) {
        for id in 0..self.actors.len() {
            if self.actors[id].is_gone {
                continue;
            }
            let client = &self.simulation.clients[id];
            // Who is thrown out while its events are under way speaks out of turn, and its connection is closed. Who lost
            // two connections in a row may have a late claim from the first take its socket from it.
            if client.is_over && (self.may_be_kicked(id) || self.actors[id].has_rival) {
                self.give_up(id);
                continue;
            }
            let actor = &self.actors[id];
            assert!(!client.is_over, "client {id} lost its session: {:?}", client.refusals);
            assert!(client.refusals.is_empty(), "client {id} was refused: {:?}", client.refusals);
            assert!(client.is_flushed(), "client {id} could not send everything: {client:?}");
            if !actor.has_left {
                assert!(actor.is_in, "client {id} is not let in");
                assert!(actor.acks.is_empty(), "client {id} waits for {:?}", actor.acks);
                let has_all = actor.has_lost_answers || actor.asked == actor.answered;
                assert!(has_all, "client {id} asked {} and got {}", actor.asked, actor.answered);
            }
            self.check_published(id);
        }
    }

    pub(super) fn check_published(&self, id: usize) {
        let actor = &self.actors[id];
        for (index, published) in self.published.iter().enumerate().filter(|(_, one)| one.is_acknowledged) {
            let is_meant = |(to, sid): &(usize, String)| {
                *to == id && actor.sid.as_ref() == Some(sid) && actor.is_surely_in(EVERYONE, published.sent)
            };
            let is_in = published.rooms.iter().any(|room| self.is_surely_in(id, room, published.sent))
                || published.to.as_ref().is_some_and(is_meant);
            let is_out = published.except.is_some_and(|room| !actor.is_surely_out(room, published.sent));
            let is_own = !published.includes_publisher && published.publisher.client == id;
            let is_here = published.place == actor.place;
            if is_here && is_in && !is_out && !is_own {
                assert!(actor.seen.contains(&index), "client {id} missed {published:?}");
            }
        }
    }

    /// Whoever watches a state room shows its values: of each key the last that was put, where it is known which was.
    pub(super) fn check_boards(&self) {
        for (id, actor) in self.actors.iter().enumerate().filter(|(_, actor)| actor.is_in && actor.watches) {
            for other in self.actors.iter().filter(|other| other.is_in && other.watches) {
                assert!(
                    other.place != actor.place || other.board == actor.board,
                    "client {id} shows other values"
                );
            }
            for key in KEYS {
                let puts =
                    || (0..).zip(&self.puts).filter(|(_, put)| put.place == actor.place && put.key == key);
                let last = puts().max_by_key(|(_, put)| put.sent);
                let is_last = |sent| {
                    puts().all(|(_, put)| put.sent == sent || put.done.is_some_and(|done| done < sent))
                };
                if let Some((number, put)) = last.filter(|(_, put)| put.done.is_some() && is_last(put.sent)) {
                    assert_eq!(actor.board.get(key), Some(&json!(number)), "client {id} misses {put:?}");
                }
            }
        }
    }
}
