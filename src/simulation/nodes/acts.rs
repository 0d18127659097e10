//! What clients do, and what is said beside them.

use serde_json::{Value, json};

use crate::base::time::Time;
use crate::simulation::model::{EVERYONE, Expected, Published, Publisher, Question, Stay};
use crate::simulation::nodes::{
    Change, KEYS, OUTSIDE, PLACES, Put, ROOMS, SERVERS, Said, Scenario, ServerQuestion,
};

impl Scenario {
    pub(super) fn act(&mut self, id: usize) {
        if !self.actors[id].is_in {
            return;
        }
        match self.choice.below(100) {
            0..12 => self.join(id),
            12..17 => self.leave(id),
            17..55 => self.publish(id),
            55..58 => self.send_blob(id),
            58..63 => self.speak_from_outside(id),
            63..66 => self.tell_servers(id),
            66..70 => self.say_something(id),
            70..81 => self.ask(id),
            81..85 => self.put(id),
            85..87 if PLACES[self.actors[id].place].1 == "/" => {
                self.emit(id, &json!(["watch"]), Expected::Watch);
            }
            87..91 => self.change_others(id),
            91 if self.choice.chance(12) => self.kick(id),
            92 if self.choice.chance(50) => self.leave_namespace(id),
            93 if self.choice.chance(30) => self.go(id),
            _ => {}
        }
    }

    pub(super) fn emit(&mut self, id: usize, event: &Value, expected: Expected) {
        let ack = self.expect(id, expected);
        self.client(id).emit(Some(ack), event);
    }

    fn expect(&mut self, id: usize, expected: Expected) -> u64 {
        let actor = &mut self.actors[id];
        let ack = actor.next_id;
        actor.next_id += 1;
        actor.acks.push_back((ack, expected));
        ack
    }

    fn join(&mut self, id: usize) {
        let (room, asked) = (self.choice.pick(&ROOMS), self.moment());
        let stays = self.actors[id].stays.entry(room).or_default();
        if stays.last().is_none_or(|stay| stay.left.is_some()) {
            stays.push(Stay { asked, ..Stay::default() });
            self.emit(id, &json!(["join", room]), Expected::Join(room));
        }
    }

    fn leave(&mut self, id: usize) {
        let (room, moment) = (self.choice.pick(&ROOMS), self.moment());
        let stays = self.actors[id].stays.entry(room).or_default();
        if let Some(stay) = stays.last_mut().filter(|stay| stay.leaving.is_none()) {
            stay.leaving = Some(moment);
            self.emit(id, &json!(["leave", room]), Expected::Leave(room));
        }
    }

    /// Notes what is about to be published, and its place among all of that.
    fn note(&mut self, published: Published, node: usize, is_to_servers: bool) -> usize {
        let index = self.said.len();
        self.by_name.insert((published.publisher, published.sequence), index);
        let acked = published.is_acknowledged.then_some(published.sent);
        self.said.push(Said { published, node, acked, is_to_servers, is_question: false });
        index
    }

    /// An event of a client.
    fn begin_publishing(&mut self, id: usize, rooms: Vec<&'static str>) -> Published {
        let sent = self.moment();
        let actor = &mut self.actors[id];
        actor.sequence += 1;
        Published {
            publisher: Publisher { client: id, life: actor.life },
            place: actor.place,
            sequence: actor.sequence,
            sent,
            rooms,
            to: None,
            except: None,
            includes_publisher: true,
            is_acknowledged: false,
        }
    }

    fn publish(&mut self, id: usize) {
        let kind = self.choice.below(10);
        let place = self.actors[id].place;
        let rooms: Vec<&'static str> = match kind {
            0 | 1 => vec![EVERYONE],
            2..6 => vec![self.choice.pick(&ROOMS)],
            6..8 => vec![self.choice.pick(&ROOMS), self.choice.pick(&ROOMS)],
            _ => Vec::new(),
        };
        let to = if kind >= 8 { self.choose_socket(place) } else { None };
        let except = ((4..8).contains(&kind) && self.choice.chance(30)).then(|| self.choice.pick(&ROOMS));
        let published =
            Published { to, except, includes_publisher: kind != 0, ..self.begin_publishing(id, rooms) };
        let message = json!([published.publisher.number(), published.sequence, ""]);
        let event = match kind {
            0 => json!(["others", message]),
            1 => json!(["everyone", message]),
            8.. => {
                let sids: Vec<_> = published.to.iter().map(|(_, sid)| sid).collect();
                json!(["to", sids, except, message])
            }
            _ => json!(["to", published.rooms, except, message]),
        };
        let index = self.note(published, self.home(id).node, false);
        self.emit(id, &event, Expected::Publish(index));
    }

    /// The same with what it says as an attachment.
    fn send_blob(&mut self, id: usize) {
        let room = self.choice.pick(&ROOMS);
        let published = self.begin_publishing(id, vec![room]);
        let message = json!([published.publisher.number(), published.sequence]).to_string().into_bytes();
        let index = self.note(published, self.home(id).node, false);
        let ack = self.expect(id, Expected::Publish(index));
        let text = format!(r#"51-{ack}["blob_to","{room}",{{"_placeholder":true,"num":0}}]"#);
        self.client(id).send(&text, &[message]);
    }

    /// A client of a place, with the id of its socket.
    fn choose_socket(&mut self, place: usize) -> Option<(usize, String)> {
        let id = self.choice.below(self.actors.len());
        let sid = self.actors[id].sid.clone().filter(|_| self.actors[id].place == place)?;
        Some((id, sid))
    }

    /// Another thread of the client's process says something.
    fn speak_from_outside(&mut self, id: usize) {
        let (place, node) = (self.actors[id].place, self.home(id).node);
        let room = if self.choice.chance(30) { EVERYONE } else { self.choice.pick(&ROOMS) };
        let publisher = Publisher { client: OUTSIDE + node, life: place };
        let (index, (path, namespace)) =
            (self.note_from_outside(publisher, place, room, node), PLACES[place]);
        let handle = self.fleet.nodes[node].simulation.world.handle.endpoint(path);
        let message = json!([publisher.number(), self.said[index].published.sequence, ""]);
        let recipients =
            if room == EVERYONE { handle.namespace(namespace) } else { handle.to(namespace, room) };
        recipients.emit("news", message);
    }

    fn note_from_outside(
        &mut self,
        publisher: Publisher,
        place: usize,
        room: &'static str,
        node: usize,
    ) -> usize {
        let published = Published {
            publisher,
            place,
            sequence: self.said.len() as u64 + 1,
            sent: self.moment(),
            rooms: vec![room],
            to: None,
            except: None,
            includes_publisher: true,
            is_acknowledged: true,
        };
        self.note(published, node, publisher.client >= SERVERS)
    }

    /// The servers of the other processes are told something, which each says to its own clients.
    fn tell_servers(&mut self, id: usize) {
        let (place, node) = (self.actors[id].place, self.home(id).node);
        let publisher = Publisher { client: SERVERS + node, life: place };
        let (path, namespace) = PLACES[place];
        let index = self.note_from_outside(publisher, place, EVERYONE, node);
        let message = json!([publisher.number(), self.said[index].published.sequence, ""]);
        let handle = self.fleet.nodes[node].simulation.world.handle.endpoint(path);
        if self.choice.chance(50) {
            handle.emit_to_servers(namespace, "tell", message);
        } else {
            self.said[index].is_question = true;
            let sent = self.said[index].published.sent;
            let gathering = handle.emit_to_servers_with_ack(namespace, "tell", message);
            self.server_questions.push(ServerQuestion { gathering, node, sent });
            self.hear_servers();
        }
    }

    fn say_something(&mut self, id: usize) {
        let number = self.choice.below(1000);
        let event = match self.choice.below(3) {
            0 => json!(["echo", number]),
            1 => json!(["quick", number]),
            _ => json!(["slow", number, self.choice.below(200)]),
        };
        self.emit(id, &event, Expected::Answer(json!([number])));
    }

    fn ask(&mut self, id: usize) {
        let (room, sent) = (self.choice.pick(&ROOMS), self.moment());
        let (event, question) = match self.choice.below(10) {
            0..3 => (json!(["ask_all", room, 2000]), Question::Gather(room)),
            3..5 => (json!(["list", room]), Question::List(room)),
            5..7 => (json!(["look", room]), Question::Look(room)),
            _ => {
                let Some((to, sid)) = self.choose_socket(self.actors[id].place) else { return };
                (json!(["call_soon", sid]), Question::Call(to, sid))
            }
        };
        self.emit(id, &event, Expected::Asked(question, sent));
    }

    fn put(&mut self, id: usize) {
        let (key, sent, place) = (self.choice.pick(&KEYS), self.moment(), self.actors[id].place);
        if PLACES[place].1 == "/" {
            let number = self.puts.len() as u64;
            self.puts.push(Put { place, key, node: self.home(id).node, sent, done: None });
            self.emit(id, &json!(["put", key, number]), Expected::Put(number));
        }
    }

    /// The members of a room are put into another, or taken out of one.
    fn change_others(&mut self, id: usize) {
        let (whose, room, is_join) =
            (self.choice.pick(&ROOMS), self.choice.pick(&ROOMS), self.choice.chance(60));
        let (sent, place, node) = (self.moment(), self.actors[id].place, self.home(id).node);
        let is_concerned = |id: &usize| self.actors[*id].place == place && self.may_be_in(*id, whose, sent);
        let all: Vec<usize> = (0..self.actors.len()).filter(is_concerned).collect();
        let mut concerned = Vec::new();
        for other in all {
            let stays = self.actors[other].stays.entry(room).or_default();
            let index = stays.len().saturating_sub(1);
            match stays.last_mut() {
                Some(stay) if !is_join && stay.left.is_none() && stay.leaving.is_none() => {
                    stay.leaving = Some(sent);
                    if stay.joined.is_some() {
                        concerned.push((other, index));
                    }
                }
                last if is_join && last.as_ref().is_none_or(|stay| stay.left.is_some()) => {
                    stays.push(Stay { asked: sent, ..Stay::default() });
                    concerned.push((other, stays.len() - 1));
                }
                _ => {}
            }
        }
        let number = self.changes.len();
        let (acked, is_over) = (None, false);
        self.changes.push(Change { place, whose, room, is_join, sent, acked, node, concerned, is_over });
        let event = if is_join { "put_in" } else { "take_out" };
        self.emit(id, &json!([event, whose, room]), Expected::Asked(Question::Moved(number), sent));
    }

    /// What was changed long enough ago is done, where it is known whom it concerned.
    pub(super) fn carry_out_changes(&mut self) {
        for place in 0..self.changes.len() {
            let until = self.until(self.changes[place].acked);
            if !self.changes[place].is_over && self.fleet.now >= until {
                self.changes[place].is_over = true;
                let change = self.changes[place].clone();
                self.carry_out(&change, until);
            }
        }
    }

    fn carry_out(&mut self, change: &Change, until: Time) {
        let Change { whose, room, is_join, sent, node, .. } = *change;
        let moment = self.moment();
        for &(id, index) in &change.concerned {
            let actor = &self.actors[id];
            let stay = &actor.stays[room][index];
            let is_there = actor.is_in && actor.connected < sent && self.is_quiet(node, id, sent, until);
            let is_its_own = if is_join {
                stay.leaving.is_none()
            } else {
                stay.leaving == Some(sent) && stay.left.is_none()
            };
            // Who is taken out of the room that is meant was in it, if nothing else has begun to take it out.
            let was_meant = whose == room || self.covers(node, (id, whose), sent, until);
            let is_done = is_there
                && is_its_own
                && was_meant
                && (is_join || self.joined_before(node, (id, room, index), sent));
            let stays = self.actors[id].stays.get_mut(room).expect("it is there");
            match is_join {
                true if is_done && whose != room => stays[index].joined = Some(moment),
                false if is_done => stays[index].left = Some(moment),
                _ => {}
            }
        }
    }

    /// The client's stay had begun long enough before to be known in a process.
    fn joined_before(&self, node: usize, (id, room, index): (usize, &str, usize), sent: usize) -> bool {
        let is_local = self.home(id).node == node;
        let joined = self.actors[id].stays[room][index].joined;
        joined.is_some_and(|joined| {
            joined < sent && (is_local || self.moments[joined] + self.steady <= self.moments[sent])
        })
    }

    /// The members of a room, in all processes, are thrown out of the namespace.
    fn kick(&mut self, id: usize) {
        let (room, place, sent) = (self.choice.pick(&ROOMS), self.actors[id].place, self.moment());
        self.kicked.push((place, room, sent));
        self.emit(id, &json!(["kick", room]), Expected::Answer(json!([])));
        for id in 0..self.actors.len() {
            if self.actors[id].place == place && self.may_be_in(id, room, sent) {
                self.actors[id].begin_leaving(sent);
                self.actors[id].must_be_recovered = false;
            }
        }
    }

    fn leave_namespace(&mut self, id: usize) {
        let moment = self.moment();
        let actor = &mut self.actors[id];
        actor.begin_leaving(moment);
        (actor.is_in, actor.has_left) = (false, true);
        actor.forget_answers();
        self.client(id).send("1", &[]);
    }
}
