//! What clients get: each event once, in its publisher's order, and for them; answers that are right.

use std::time::Duration;

use serde_json::{Value, json};

use crate::base::time::Time;
use crate::message::inquiry::AckError;
use crate::shard::user::servers::ServerAnswers;
use crate::simulation::client::Message;
use crate::simulation::model::{EVERYONE, Expected, Publisher, Question};
use crate::simulation::nodes::{PLACES, ROOMS, Said, Scenario, ServerQuestion};

/// By then everybody has forgotten a process that has ended.
const FORGOTTEN: Duration = Duration::from_secs(6);

/// Until then nobody has.
const REMEMBERED: Duration = Duration::from_secs(2);

impl Scenario {
    pub(super) fn read_all(&mut self) {
        for id in 0..self.actors.len() {
            while let Some(message) = self.client(id).received.pop_front() {
                if !self.actors[id].is_gone {
                    self.read(id, &message);
                }
            }
        }
    }

    fn read(&mut self, id: usize, message: &Message) {
        let moment = self.moment();
        let is_own = message.namespace == PLACES[self.actors[id].place].1;
        // Clients of Socket.IO 2 are in `/` as well, and what they hear there is of no account.
        let is_beside = self.guests[id].is_old && message.namespace == "/";
        assert!(is_own || is_beside, "client {id} got {message:?}");
        if !is_own {
            return;
        }
        match (message.kind, message.payload[0].as_str()) {
            ('0', _) => self.let_in(id, message, moment),
            // Who is thrown out before it is let in is refused.
            ('1' | '4', _) => {
                assert!(self.may_be_kicked(id), "client {id} was thrown out, and by whom? {message:?}");
                let actor = &mut self.actors[id];
                actor.end_stays(moment);
                (actor.is_in, actor.is_returning, actor.has_left) = (false, false, true);
                actor.forget_answers();
            }
            ('2', Some("news")) => self.read_news(id, &message.payload[1]),
            ('5', Some("blob")) => {
                let said = serde_json::from_slice(&message.attachments[0]).expect("it is what was sent");
                self.read_news(id, &said);
            }
            ('2', Some("board")) => self.read_board(id, &message.payload),
            // Whoever has left the namespace answers nothing.
            ('2', Some("question")) if !self.actors[id].is_in => {}
            ('2', Some("question")) => {
                let number = message.payload[1].as_u64().expect("a number");
                let ack = message.id.expect("a question wants an answer");
                self.client(id).send(&format!("3{ack}[{}]", number + 1), &[]);
            }
            ('3', _) => self.read_ack(id, message, moment),
            _ => panic!("client {id} got {message:?}"),
        }
    }

    /// CONNECT is answered: the client is a new socket, or the one that it was.
    fn let_in(&mut self, id: usize, message: &Message, moment: usize) {
        let sid = message.payload["sid"].as_str().map(str::to_owned);
        let lost = self.guests[id].lost;
        let since = self.moments[lost].before(self.steady);
        let was_quiet = self
            .homes_in(id, since, self.fleet.now)
            .all(|node| self.fleet.nodes[node].is_quiet(since, self.fleet.now));
        let has_moved = self.homes_in(id, since, self.fleet.now).any(|node| node != self.home(id).node);
        let is_prompt = self.is_prompt || !has_moved;
        let actor = &mut self.actors[id];
        let is_same = sid.is_some() && actor.sid == sid;
        let must_be_same =
            std::mem::take(&mut actor.must_be_recovered) && is_prompt && (was_quiet || !has_moved);
        assert!(is_same || !must_be_same, "client {id} is not the socket that it was");
        self.recovered += usize::from(is_same && has_moved);
        if actor.is_returning && !is_same {
            // It was out of everything from when it lost its connection.
            for stay in actor.stays.values_mut().flatten().filter(|stay| stay.left.is_none()) {
                stay.leaving = Some(stay.leaving.map_or(lost, |leaving| leaving.min(lost)));
                stay.left = Some(moment);
            }
            actor.stays.entry(EVERYONE).or_default().push(Default::default());
        }
        if !is_same {
            actor.stay(EVERYONE).joined = Some(moment);
            // What the old socket has heard may reach the new one late.
            self.guests[id].heard.clear();
            self.guests[id].got.clear();
        }
        let actor = &mut self.actors[id];
        (actor.sid, actor.connected) = (sid, moment);
        (actor.is_in, actor.is_returning) = (true, false);
        if self.guests[id].is_old {
            self.emit(id, &json!(["id"]), Expected::Asked(Question::Id, moment));
        }
    }

    fn read_news(&mut self, id: usize, message: &Value) {
        let publisher = Publisher::of_number(message[0].as_u64().expect("a publisher") as usize);
        let sequence = message[1].as_u64().expect("a sequence");
        let index = *self.by_name.get(&(publisher, sequence)).expect("somebody published it");
        let said = &self.said[index];
        let (published, actor) = (&said.published, &self.actors[id]);
        assert_eq!(actor.place, published.place, "client {id} heard another namespace: {published:?}");
        let is_possible = match &published.to {
            Some((to, _)) => *to == id,
            None => published.rooms.iter().any(|room| self.may_be_in(id, room, published.sent)),
        };
        assert!(is_possible, "client {id} was out of {published:?}: {:?}", actor.stays);
        let is_excepted = published.except.is_some_and(|room| self.is_surely_in(id, room, published.sent));
        assert!(!is_excepted, "client {id} was excepted from {published:?}");
        let is_own = publisher == Publisher { client: id, life: actor.life };
        assert!(published.includes_publisher || !is_own, "{published:?} came back");
        let has_moved = self.guests[id].homes.iter().any(|home| home.node != said.node);
        assert!(!said.is_to_servers || has_moved, "client {id} heard its own server: {published:?}");
        let rooms: Vec<&'static str> = match published.to {
            Some(_) => vec!["to"],
            None => {
                let rooms = published.rooms.iter().copied();
                rooms.filter(|room| self.may_be_in(id, room, published.sent)).collect()
            }
        };
        // A question of a thread goes by way of a shard, and what the thread says next may overtake it there.
        let is_in_order = |room: &&'static str| !said.is_question && !self.is_said_again(id, room, said);
        let rooms: Vec<&'static str> = rooms.into_iter().filter(is_in_order).collect();
        let guest = &mut self.guests[id];
        // Each server says it to those whom it has by then, and a client may be at one after the other.
        let may_come_again = said.is_to_servers && guest.homes.len() > 1;
        assert!(guest.got.insert(index) || may_come_again, "client {id} heard twice of {published:?}");
        for room in rooms {
            let heard = guest.heard.insert((publisher, room), sequence);
            let is_next = heard <= Some(sequence) || may_come_again;
            let stays = &self.actors[id].stays;
            assert!(is_next, "client {id} heard {heard:?} before {published:?}: {stays:?}");
        }
        self.actors[id].seen.push(index);
    }

    /// What was said before the client asked to be in the room, by a process that has lost its connection since. It may have passed the client's
    /// process, which did not hear the room yet, and come out of turn when it was said once more.
    fn is_said_again(&self, id: usize, room: &str, said: &Said) -> bool {
        let stays = self.actors[id].stays.get(room).map(Vec::as_slice).unwrap_or_default();
        let (sent, now) = (said.published.sent, self.fleet.now);
        stays.last().is_some_and(|stay| sent < stay.asked)
            && !self.fleet.nodes[said.node].is_quiet(self.moments[sent], now)
    }

    /// The state room's values: all of them, or those that have changed.
    fn read_board(&mut self, id: usize, payload: &Value) {
        let actor = &mut self.actors[id];
        if payload[2] == true {
            actor.board.clear();
        }
        for (key, value) in payload[1].as_object().expect("values by their keys") {
            let put = &self.puts[value.as_u64().expect("a number") as usize];
            assert_eq!((put.place, put.key), (actor.place, key.as_str()), "client {id} sees another room");
            actor.board.insert(key.clone(), value.clone());
        }
    }

    fn read_ack(&mut self, id: usize, message: &Message, moment: usize) {
        let Some(place) = self.actors[id].acks.iter().position(|(ack, _)| Some(*ack) == message.id) else {
            assert!(self.actors[id].has_lost_answers, "client {id} got {message:?}");
            return;
        };
        let (_, expected) = self.actors[id].acks.remove(place).expect("it is there");
        match expected {
            Expected::Answer(value) | Expected::Beside(value) => assert_eq!(message.payload, value),
            Expected::Join(room) => {
                let stays = self.actors[id].stays.get_mut(room).expect("it asked to join");
                if let Some(stay) = stays.iter_mut().find(|stay| stay.joined.is_none() && stay.left.is_none())
                {
                    stay.joined = Some(moment);
                }
            }
            Expected::Leave(room) => {
                let stays = self.actors[id].stays.entry(room).or_default();
                let ending = stays.iter_mut().filter(|stay| stay.left.is_none() && stay.leaving.is_some());
                ending.for_each(|stay| stay.left = Some(moment));
            }
            Expected::Publish(index) => self.said[index].acked = Some(moment),
            Expected::Put(number) => self.puts[number as usize].done = Some(moment),
            Expected::Watch => self.actors[id].watches = true,
            Expected::Members(_, least) => self.check_count(id, least, &message.payload),
            Expected::Asked(question, sent) => self.read_answer(id, &question, sent, &message.payload),
            other @ (Expected::Blob(_) | Expected::MovedAndPublished(_) | Expected::Thrown(..)) => {
                panic!("client {id} did not ask for {other:?}")
            }
        }
    }

    fn read_answer(&mut self, id: usize, question: &Question, sent: usize, answer: &Value) {
        match question {
            Question::Id => self.actors[id].sid = answer[0].as_str().map(str::to_owned),
            Question::Moved(number) => {
                let moment = self.moment();
                // Those of the last round are of no account any more.
                if let Some(change) = self.changes.get_mut(*number).filter(|change| change.sent == sent) {
                    change.acked = Some(moment);
                }
            }
            Question::Call(to, sid) => self.check_call(id, (*to, sid), sent, &answer[0]),
            Question::Gather(room) => {
                let named = |list: &Value| -> Vec<String> {
                    let list = list.as_array().unwrap_or_else(|| panic!("client {id} got {answer}"));
                    list.iter().filter_map(|entry| entry[0].as_str().map(str::to_owned)).collect()
                };
                let (received, missing) = (named(&answer[0]["received"]), named(&answer[0]["missing"]));
                assert!(!self.is_prompt || answer[0]["shards"] == 0, "client {id} got {answer}");
                let right = |entry: &Value| entry[1] == 2;
                assert!(
                    answer[0]["received"].as_array().is_some_and(|list| list.iter().all(right)),
                    "{answer}"
                );
                let all = [received.as_slice(), &missing].concat();
                self.check_who((id, room), sent, &all, answer);
                self.check_who_must((id, room), sent, &received, answer);
                self.check_missing(id, sent, &answer[1]);
            }
            Question::List(room) => {
                let Some(list) = answer[0].as_array() else { return self.check_failed(id, answer) };
                let named: Vec<_> = list.iter().filter_map(|sid| sid.as_str().map(str::to_owned)).collect();
                self.check_who((id, room), sent, &named, answer);
                self.check_who_must((id, room), sent, &named, answer);
                self.check_missing(id, sent, &answer[1]);
            }
            Question::Look(room) => {
                let Some(list) = answer[0].as_array() else { return self.check_failed(id, answer) };
                let named: Vec<_> =
                    list.iter().filter_map(|one| one[0].as_str().map(str::to_owned)).collect();
                self.check_who((id, room), sent, &named, answer);
                self.check_who_must((id, room), sent, &named, answer);
                self.check_missing(id, sent, &answer[1]);
                for (sid, rooms) in list.iter().map(|one| (&one[0], &one[1])) {
                    self.check_rooms(sid, sent, rooms);
                }
            }
        }
    }

    /// A question may fail only where shards take long.
    fn check_failed(&self, id: usize, answer: &Value) {
        assert!(!self.is_prompt, "client {id} got {answer}");
    }

    /// Nobody is named twice, or without being there.
    fn check_who(&self, (id, room): (usize, &str), sent: usize, named: &[String], answer: &Value) {
        let mut sorted = named.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), named.len(), "client {id} heard of {room} twice of somebody: {answer}");
        let place = self.actors[id].place;
        for (other, actor) in self.actors.iter().enumerate().filter(|(_, actor)| actor.place == place) {
            let is_named = actor.sid.as_ref().is_some_and(|sid| named.contains(sid));
            assert!(
                !is_named || self.may_be_in(other, room, sent),
                "client {id} heard of {room}: {answer}, and client {other} is {actor:?}"
            );
        }
    }

    /// Everybody is named who was there all the time.
    fn check_who_must(&mut self, (id, room): (usize, &str), sent: usize, named: &[String], answer: &Value) {
        let (place, node, now) = (self.actors[id].place, self.home(id).node, self.fleet.now);
        for (other, actor) in self.actors.iter().enumerate().filter(|(_, actor)| actor.place == place) {
            let Some(sid) = &actor.sid else { continue };
            let is_there = actor.is_in && actor.connected < sent && self.is_prompt;
            let must_be_named = is_there
                && self.covers(node, (other, room), sent, now)
                && self.is_quiet(node, other, sent, now);
            assert!(
                !must_be_named || named.contains(sid),
                "client {id} heard of {room} without client {other}: {answer}"
            );
            self.crossed += usize::from(must_be_named && self.home(other).node != node);
        }
    }

    fn check_rooms(&self, sid: &Value, sent: usize, rooms: &Value) {
        let Some(id) = self.actors.iter().position(|actor| actor.sid.as_deref() == sid.as_str()) else {
            return;
        };
        let actor = &self.actors[id];
        for room in ROOMS {
            let is_named = rooms.as_array().is_some_and(|rooms| rooms.iter().any(|name| name == room));
            assert!(
                if is_named { self.may_be_in(id, room, sent) } else { !self.is_surely_in(id, room, sent) },
                "{sid} is said to be in {rooms}, and is {actor:?}"
            );
        }
    }

    fn check_call(&mut self, id: usize, (to, sid): (usize, &str), sent: usize, answer: &Value) {
        let (node, now, actor) = (self.home(id).node, self.fleet.now, &self.actors[to]);
        let is_there = actor.is_in && actor.connected < sent && actor.sid.as_deref() == Some(sid);
        let must_answer = is_there
            && self.is_prompt
            && self.covers(node, (to, EVERYONE), sent, now)
            && self.is_quiet(node, to, sent, now);
        let errors = ["no answer came in time", "the client is gone", "the event was not sent"];
        let is_error = answer.as_str().is_some_and(|answer| errors.contains(&answer));
        assert!(*answer == 4 || is_error && !must_answer, "client {id} called {to} and got {answer}");
        self.crossed += usize::from(must_answer && self.home(to).node != node);
    }

    /// Processes that are named as missing are those that could not answer, and no process that could not is left out.
    fn check_missing(&self, id: usize, sent: usize, missing: &Value) {
        let missing: Vec<_> = missing.as_array().expect("a list").iter().filter_map(Value::as_str).collect();
        self.check_missing_names((self.home(id).node, false), sent, &missing);
    }

    /// A client's question may wait behind another of its events, and so be asked later.
    fn check_missing_names(&self, (asker, is_asked_at_once): (usize, bool), sent: usize, missing: &[&str]) {
        let (at, now) = (self.moments[sent], self.fleet.now);
        let from = at.before(self.steady);
        let nodes = &self.fleet.nodes;
        if !nodes[asker].is_quiet(from, now) {
            return;
        }
        for name in missing {
            if !self.is_prompt && name.starts_with("all other processes") {
                continue;
            }
            let number = name.strip_prefix("node ").and_then(|number| number.parse::<usize>().ok());
            let node =
                number.and_then(|number| nodes.get(number)).unwrap_or_else(|| panic!("{name} is missing"));
            // Whoever has just connected gives the others time to be heard again, and may read late what one had said that has ended.
            let has_listened = nodes[asker].is_quiet(at.before(FORGOTTEN), now);
            let is_forgotten = has_listened && node.ended.is_some_and(|(ended, _)| ended + FORGOTTEN < at);
            let could_not = !node.is_quiet(from, now) || !self.is_prompt;
            assert!(could_not && !is_forgotten, "{name} is missing for {asker}, at {at:?}: {:?}", node.ended);
        }
        for (number, node) in nodes.iter().enumerate() {
            let Some((ended, false)) = node.ended else { continue };
            let was_known = nodes[asker].is_quiet(ended.before(self.steady), now)
                && node.is_quiet(ended.before(2 * self.steady), Time(ended.0 - 1));
            let is_remembered = ended < at && at < ended + REMEMBERED;
            let must_be_named = is_asked_at_once && was_known && is_remembered;
            let is_named = missing.contains(&format!("node {number}").as_str());
            assert!(!must_be_named || is_named, "{number} has ended at {ended:?}, and {asker} misses nobody");
        }
    }

    pub(super) fn check_servers(
        &mut self,
        question: &ServerQuestion,
        answers: Result<ServerAnswers, AckError>,
    ) {
        let ServerQuestion { node, sent, .. } = *question;
        let now = self.fleet.now;
        let Ok(answers) = answers else {
            assert!(!self.is_prompt, "{node} asked the servers in vain");
            return;
        };
        let missing: Vec<&str> = answers.processes_missing.iter().map(String::as_str).collect();
        self.check_missing_names((node, true), sent, &missing);
        let mut received: Vec<&str> = answers.received.iter().map(|(name, _)| name.as_str()).collect();
        received.sort_unstable();
        let from = self.moments[sent].before(self.steady);
        for (number, other) in self.fleet.nodes.iter().enumerate().filter(|(number, _)| *number != node) {
            let name = format!("node {number}");
            let count = received.iter().filter(|received| **received == name).count();
            let is_quiet = [&self.fleet.nodes[node], other].iter().all(|node| node.is_quiet(from, now));
            let least = usize::from(is_quiet && self.is_prompt);
            assert!(
                (least..=1).contains(&count),
                "{node} asked the servers, and {name} answered {count} times"
            );
        }
    }
}
