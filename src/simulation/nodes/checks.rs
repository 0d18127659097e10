//! What must be true when everything has come to rest.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::base::time::Time;
use crate::simulation::model::{EVERYONE, Expected, Stay};
use crate::simulation::nodes::{KEYS, PLACES, ROOMS, Said, Scenario};

impl Scenario {
    /// Whoever is in a room from which all may be thrown out may be out of everything.
    pub(super) fn may_be_kicked(&self, id: usize) -> bool {
        let actor = &self.actors[id];
        let mut kicked = self.kicked.iter();
        kicked.any(|(place, room, sent)| *place == actor.place && self.may_be_in(id, room, *sent))
    }

    /// Who is thrown out while its events are under way speaks out of turn, and its connection is closed. Who lost two connections in
    /// a row may have a late claim from the first take its socket from it.
    pub(super) fn give_up_the_thrown_out(&mut self) {
        for id in 0..self.actors.len() {
            let is_over = self.client(id).is_over;
            if is_over && (self.may_be_kicked(id) || self.actors[id].has_rival) {
                self.go(id);
            }
        }
    }

    pub(super) fn check(&mut self) {
        for id in 0..self.actors.len() {
            if self.actors[id].is_gone {
                continue;
            }
            let client = self.client(id);
            assert!(!client.is_over && client.refusals.is_empty(), "client {id}: {:?}", client.refusals);
            let actor = &self.actors[id];
            if !actor.has_left {
                assert!(actor.is_in, "client {id} is not let in");
                assert!(actor.acks.is_empty(), "client {id} waits for {:?}", actor.acks);
            }
            let seen: HashSet<usize> = actor.seen.iter().copied().collect();
            for (index, said) in self.said.iter().enumerate().skip(self.round_begin) {
                let must_hear = said.acked.is_some() && self.must_hear(id, said);
                assert!(!must_hear || seen.contains(&index), "client {id} missed {said:?}");
                self.crossed += usize::from(must_hear && self.home(id).node != said.node);
                let is_late = || !self.is_quiet(said.node, id, said.published.sent, self.until(said.acked));
                self.kept += usize::from(must_hear && is_late());
            }
        }
    }

    fn must_hear(&self, id: usize, said: &Said) -> bool {
        let until = self.until(said.acked);
        let is_quiet = || self.is_quiet(said.node, id, said.published.sent, until);
        self.is_for(id, said, until) && is_quiet() || self.is_kept_for(id, said)
    }

    /// It is for somebody who was known where it was said, and stayed until a time.
    fn is_for(&self, id: usize, said: &Said, until: Time) -> bool {
        let (Said { published, node, .. }, actor) = (said, &self.actors[id]);
        let covers = |room: &str| self.covers(*node, (id, room), published.sent, until);
        let is_meant =
            |(to, sid): &(usize, String)| *to == id && actor.sid.as_ref() == Some(sid) && covers(EVERYONE);
        let is_in =
            published.rooms.iter().any(|room| covers(room)) || published.to.as_ref().is_some_and(is_meant);
        let is_out = published.except.is_some_and(|room| self.may_be_in(id, room, published.sent));
        let is_own = !published.includes_publisher && published.publisher.client == id;
        let is_elsewhere = !said.is_to_servers || {
            let from = self.moments[published.sent].before(self.steady);
            let homes: Vec<usize> = self.homes_in(id, from, until).collect();
            homes.len() == 1 && homes[0] != *node
        };
        published.place == actor.place && is_in && !is_out && !is_own && is_elsewhere
    }

    /// A broker that keeps messages has what a process said to all and to rooms, if that lived to say it, whatever happened on the way;
    /// and gives it to a client that has stayed at its process, which had the room heard in a quiet moment.
    fn is_kept_for(&self, id: usize, said: &Said) -> bool {
        let (Said { published, node, .. }, now) = (said, self.fleet.now);
        let (home, from) = (self.home(id).node, self.moments[published.sent].before(self.steady));
        let is_heard = |room: &&str| {
            let joined = self.actors[id].stays.get(*room).and_then(|stays| stays.last()?.joined);
            joined.map(|joined| self.moments[joined]).is_some_and(|joined| {
                self.fleet.nodes[home].is_quiet(joined.before(self.steady), joined + self.steady)
            })
        };
        self.fleet.keeps()
            && published.to.is_none()
            && !said.is_to_servers
            && self.fleet.nodes[*node].is_alive()
            && self.homes_in(id, from, now).all(|at| at == home)
            && published.rooms.iter().all(is_heard)
            && self.is_for(id, said, now)
    }

    /// Whoever watches a state room shows its values: of each key the last that was put, where it is known which was.
    pub(super) fn check_boards(&self) {
        for (id, actor) in self.actors.iter().enumerate().filter(|(_, actor)| actor.is_in && actor.watches) {
            for (other, theirs) in self.actors.iter().enumerate() {
                let is_with = theirs.is_in && theirs.watches && theirs.place == actor.place;
                assert!(
                    !is_with || theirs.board == actor.board,
                    "client {id} shows {:?}, and client {other} {:?}",
                    actor.board,
                    theirs.board
                );
            }
            for key in KEYS {
                if let Some(number) = self.last_put(actor.place, key) {
                    assert_eq!(actor.board.get(key), Some(&json!(number)), "client {id} misses it");
                }
            }
        }
    }

    /// The value that surely was put last: all others were done and known where it was put, and its process has lived to tell of it.
    fn last_put(&self, place: usize, key: &str) -> Option<usize> {
        let puts = || self.puts.iter().enumerate().filter(|(_, put)| put.place == place && put.key == key);
        let (last, put) = puts().max_by_key(|(_, put)| put.sent)?;
        let at = self.moments[put.sent];
        let is_known = |node: usize, done: usize| {
            let from = self.moments[done].before(self.steady);
            let is_quiet = |node: usize| self.fleet.nodes[node].is_quiet(from, at);
            node == put.node
                || self.moments[done] + self.delivery <= at && is_quiet(node) && is_quiet(put.node)
        };
        let is_last = puts().all(|(number, other)| {
            number == last || other.done.is_some_and(|done| done < put.sent && is_known(other.node, done))
        });
        (put.done.is_some() && is_last && self.fleet.nodes[put.node].is_alive()).then_some(last)
    }

    /// Somebody of each place asks how many there are.
    pub(super) fn check_counts(&mut self) {
        for place in 0..PLACES.len() {
            let is_there = |actor: &crate::simulation::model::Actor| actor.is_in && actor.place == place;
            let least = self.actors.iter().filter(|actor| is_there(actor)).count();
            let Some(id) = self.actors.iter().position(is_there) else { continue };
            self.emit(id, &json!(["counts", "red"]), Expected::Members("red", least));
        }
        let wait = 2 * self.delivery;
        self.pass(wait);
        let waiting: Vec<_> =
            self.actors.iter().filter(|actor| actor.is_in && !actor.acks.is_empty()).collect();
        assert!(waiting.is_empty(), "no answer to {waiting:?}");
    }

    /// Those who went without a word are still counted until their time is over, unless their process is gone.
    pub(super) fn check_count(&self, id: usize, least: usize, answer: &Value) {
        // Clients of Socket.IO 2 are in `/` as well.
        let is_there = |at: usize, is_old: bool| {
            let (own, other) = (PLACES[self.actors[id].place], PLACES[at]);
            own == other || is_old && own == (other.0, "/")
        };
        let guests = self.actors.iter().zip(&self.guests);
        let guests = guests.filter(|(actor, guest)| is_there(actor.place, guest.is_old));
        let homes = guests.flat_map(|(_, guest)| &guest.homes);
        let most = homes.filter(|home| self.fleet.nodes[home.node].is_alive()).count();
        let count = answer[0].as_u64().expect("a number") as usize;
        assert!(
            (least..=most).contains(&count),
            "client {id} heard of {answer}, and there are {least} to {most}"
        );
    }

    /// What is not known of a client is made sure of, and those who have left come again.
    pub(super) fn begin_anew(&mut self) {
        let moment = self.moment();
        for id in 0..self.actors.len() {
            let may_be_kicked = self.may_be_kicked(id);
            let actor = &mut self.actors[id];
            if actor.is_gone {
                continue;
            }
            actor.has_rival = false;
            if std::mem::take(&mut actor.has_left) {
                actor.end_stays(moment);
                actor.forget_answers();
                self.enter(id);
                continue;
            }
            if may_be_kicked {
                // It was not: it must be known again what it is in.
                actor.end_stays(moment);
                let everyone = actor.stays.entry(EVERYONE).or_default();
                everyone.push(Stay { asked: moment, joined: Some(moment), ..Stay::default() });
                for room in ROOMS {
                    let stays = self.actors[id].stays.entry(room).or_default();
                    stays.push(Stay { leaving: Some(moment), ..Stay::default() });
                    self.emit(id, &json!(["leave", room]), Expected::Leave(room));
                }
                continue;
            }
            for room in ROOMS {
                let stays = self.actors[id].stays.get(room).map(Vec::as_slice).unwrap_or_default();
                let mut open = stays.iter().filter(|stay| stay.left.is_none());
                let is_unsure = open.any(|stay| {
                    let may_be_out = self.may_have_been_taken_out(id, room, stay.asked);
                    stay.leaving.is_some() || stay.joined.is_none() || may_be_out
                });
                if is_unsure
                    || stays.last().is_none_or(|stay| stay.left.is_some()) && self.may_be_in(id, room, moment)
                {
                    let actor = &mut self.actors[id];
                    actor.stays.entry(room).or_default().push(Stay::default());
                    actor.begin_leaving_room(room, moment);
                    self.emit(id, &json!(["leave", room]), Expected::Leave(room));
                }
            }
        }
        self.kicked.clear();
        self.changes.clear();
        self.round_begin = self.said.len();
        self.pass(std::time::Duration::from_secs(1));
    }
}
