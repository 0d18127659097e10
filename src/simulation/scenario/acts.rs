//! What random clients can do, and what is expected of it.

use serde_json::{Value, json};

use crate::simulation::Simulation;
use crate::simulation::client::Packet;
use crate::simulation::model::{EVERYONE, Expected, Kick, Published, Publisher, Put, Stay};
use crate::simulation::scenario::{KEYS, OUTSIDE, PLACES, ROOMS, Scenario};

impl Scenario {
    /// One client does something, if it is in a state to.
    pub(super) fn act(&mut self, id: usize) {
        if self.actors[id].is_returning && self.choice.chance(2) {
            return self.lose_connection(id);
        }
        if !self.actors[id].is_in {
            return;
        }
        match self.choice.below(100) {
            0..20 => self.join(id),
            20..30 => self.leave(id),
            30..65 => self.publish(id),
            65..72 => {
                let value =
                    json!(["echo", self.choice.below(1000), "é\u{1e}😀".repeat(self.choice.below(3))]);
                let expected = Value::Array(value.as_array().expect("an array")[1..].to_vec());
                self.emit(id, &value, Expected::Answer(expected));
            }
            72..80 => {
                let name = ["slow", "quick", "kept", "beside"][self.choice.below(4)];
                let number = self.choice.below(1000);
                let (value, answer) = (json!([name, number, self.choice.below(200)]), json!([number]));
                let is_in_order = matches!(name, "slow" | "quick");
                let expected = if is_in_order { Expected::Answer(answer) } else { Expected::Beside(answer) };
                self.emit(id, &value, expected);
            }
            80..86 => {
                self.actors[id].asked += 1;
                let question = json!(["ask", self.choice.below(1000)]);
                self.emit(id, &question, Expected::Answer(json!([])));
            }
            86..89 => self.send_blob(id),
            89..91 => self.put(id),
            91 => self.watch(id),
            92 if !self.is_lossy() => self.ask_who_is_in(id),
            92..94 => self.stall(id),
            94 => self.close_room(id),
            95 if self.choice.chance(30) => self.kick(id),
            96 if self.choice.chance(50) => self.speak_from_outside(id),
            95..97 => self.lose_connection(id),
            97 => self.leave_namespace(id),
            _ => {
                if self.choice.chance(30) {
                    self.go(id);
                }
            }
        }
        let Simulation { world, clients } = &mut self.simulation;
        clients[id].drive(world);
    }

    pub(super) fn emit(&mut self, id: usize, event: &Value, expected: Expected) {
        let actor = &mut self.actors[id];
        let ack = actor.next_id;
        actor.next_id += 1;
        actor.acks.push_back((ack, expected));
        self.simulation.clients[id].emit(Some(ack), event);
    }

    pub(super) fn send_blob(&mut self, id: usize) {
        let bytes = vec![self.choice.below(256) as u8; self.choice.below(400)];
        let actor = &mut self.actors[id];
        let ack = actor.next_id;
        actor.next_id += 1;
        actor.acks.push_back((ack, Expected::Blob(bytes.clone())));
        let text = format!(r#"51-{ack}["blob",{{"_placeholder":true,"num":0}}]"#);
        self.simulation.clients[id].send(&text, &[bytes]);
    }

    pub(super) fn join(&mut self, id: usize) {
        let room = self.choice.pick(&ROOMS);
        let stays = self.stays(id, room);
        // A second join while the first lasts changes nothing; one while it ends waits for its turn.
        if stays.last().is_none_or(|stay| stay.left.is_some()) {
            stays.push(Stay::default());
            self.emit(id, &json!(["join", room]), Expected::Join(room));
        }
    }

    pub(super) fn leave(&mut self, id: usize) {
        let room = self.choice.pick(&ROOMS);
        let moment = self.moment();
        if let Some(stay) = self.stays(id, room).last_mut().filter(|stay| stay.leaving.is_none()) {
            stay.leaving = Some(moment);
            self.emit(id, &json!(["leave", room]), Expected::Leave(room));
        }
    }

    pub(super) fn publish(&mut self, id: usize) {
        let kind = self.choice.below(12);
        let rooms: Vec<&'static str> = match kind {
            0 | 1 => vec![EVERYONE],
            2..6 | 10 => vec![self.choice.pick(&ROOMS)],
            6..10 => vec![self.choice.pick(&ROOMS), self.choice.pick(&ROOMS)],
            _ => Vec::new(),
        };
        let to = if kind == 11 { self.choose_socket(self.actors[id].place) } else { None };
        let except = ((4..10).contains(&kind) && self.choice.chance(30)).then(|| self.choice.pick(&ROOMS));
        let padding = "p".repeat(if self.choice.chance(10) { self.choice.below(5000) } else { 0 });
        self.actors[id].sequence += 1;
        let sequence = self.actors[id].sequence;
        let publisher = Publisher { client: id, life: self.actors[id].life };
        let message = json!([publisher.number(), sequence, padding]);
        let is_awaited = kind == 10 && self.may_move() && self.choice.chance(60);
        let event = match kind {
            0 => json!(["others", message]),
            1 => json!(["everyone", message]),
            10 if self.may_move() => {
                let verb = if is_awaited { "move_and_wait" } else { "move" };
                json!([verb, rooms[0], format!("hall {}", publisher.number()), message])
            }
            11 => json!(["to", to.iter().map(|(_, sid)| sid).collect::<Vec<_>>(), except, message]),
            _ => json!(["to", rooms, except, message]),
        };
        let sent = self.moment();
        let index = self.published.len();
        let includes_publisher = kind != 0;
        self.published.push(Published {
            publisher,
            place: self.actors[id].place,
            sequence,
            sent,
            rooms,
            to,
            except,
            includes_publisher,
            is_acknowledged: false,
        });
        let expected = if is_awaited { Expected::MovedAndPublished(index) } else { Expected::Publish(index) };
        self.emit(id, &event, expected);
    }

    /// Whether sockets can be moved from room to room from afar so that each step surely follows the other: not where a socket
    /// changes its shard meanwhile, nor where messages are lost.
    pub(super) fn may_move(&self) -> bool {
        !self.has_recovery && !self.is_lossy()
    }

    /// A client of a place, with the id of its socket.
    pub(super) fn choose_socket(&mut self, place: usize) -> Option<(usize, String)> {
        let id = self.choice.below(self.actors.len());
        let sid = self.actors[id].sid.clone().filter(|_| self.actors[id].place == place)?;
        Some((id, sid))
    }

    pub(super) fn ask_who_is_in(&mut self, id: usize) {
        let (room, sent) = (self.choice.pick(&ROOMS), self.moment());
        self.emit(id, &json!(["members", room]), Expected::Members(room, sent));
    }

    /// An answer to who is in a room names all who surely are, and none who surely is not.
    pub(super) fn check_members(&self, id: usize, room: &str, sent: usize, answer: &Value) {
        let place = self.actors[id].place;
        let is_closed = self.closed.contains(&(place, room));
        for (other, actor) in self.actors.iter().enumerate().filter(|(_, actor)| actor.place == place) {
            let Some(sid) = &actor.sid else { continue };
            let is_named = answer[0].as_array().is_some_and(|ids| ids.iter().any(|id| id == sid));
            let is_right = actor.is_rightly_told(room, sent, is_named) || (is_closed && !is_named);
            assert!(is_right, "client {id} heard of {room}: {answer}, and client {other} is {actor:?}");
        }
    }

    pub(super) fn put(&mut self, id: usize) {
        let (key, sent, place) = (self.choice.pick(&KEYS), self.moment(), self.actors[id].place);
        if PLACES[place].1 == "/" {
            let number = self.puts.len() as u64;
            self.puts.push(Put { place, key, sent, done: None });
            self.emit(id, &json!(["put", key, number]), Expected::Put(number));
        }
    }

    pub(super) fn watch(&mut self, id: usize) {
        if PLACES[self.actors[id].place].1 == "/" {
            self.emit(id, &json!(["watch"]), Expected::Watch);
        }
    }

    /// Everybody leaves a room, or perhaps joins it just afterwards.
    pub(super) fn close_room(&mut self, id: usize) {
        let room = self.choice.pick(&ROOMS);
        self.closed.push((self.actors[id].place, room));
        self.emit(id, &json!(["close_room", room]), Expected::Answer(json!([])));
    }

    /// The members of a room are thrown out of the namespace.
    pub(super) fn kick(&mut self, id: usize) {
        let (room, place) = (self.choice.pick(&ROOMS), self.actors[id].place);
        if self.choice.chance(50) || self.is_lossy() {
            self.expect_kick(place, room, Vec::new());
            return self.emit(id, &json!(["kick", room]), Expected::Answer(json!([])));
        }
        let moment = self.moment();
        // A lost socket that is kept for its client cannot be told apart from one that is there.
        let members = (0..self.actors.len()).filter(|other| {
            let actor = &self.actors[*other];
            !self.has_recovery
                && actor.place == place
                && actor.is_in
                && self.is_surely_in(*other, room, moment)
        });
        let sids = members.filter_map(|other| self.actors[other].sid.clone()).collect();
        self.expect_kick(place, room, Vec::new());
        self.emit(id, &json!(["throw_and_look", room]), Expected::Thrown(room, sids));
    }

    pub(super) fn expect_kick(&mut self, place: usize, room: &'static str, warned: Vec<(Publisher, usize)>) {
        let sent = self.moment();
        self.kicks.push(Kick { place, room, sent, warned });
        for actor in self.actors.iter_mut().filter(|actor| actor.place == place) {
            if !actor.is_surely_out(room, sent) {
                actor.begin_leaving(sent);
                actor.must_be_recovered = false;
            }
        }
    }

    /// Another thread says something to a room, and now and then has its members thrown out after it.
    pub(super) fn speak_from_outside(&mut self, id: usize) {
        let (room, place, sent) = (self.choice.pick(&ROOMS), self.actors[id].place, self.moment());
        let (path, namespace) = PLACES[place];
        let publisher = Publisher { client: OUTSIDE, life: place };
        let index = self.published.len();
        self.published.push(Published {
            publisher,
            place,
            sequence: index as u64 + 1,
            sent,
            rooms: vec![room],
            to: None,
            except: None,
            includes_publisher: true,
            is_acknowledged: true,
        });
        let handle = self.simulation.world.handle.endpoint(path);
        handle.to(namespace, room).emit("news", json!([publisher.number(), index + 1, ""]));
        if self.choice.chance(30) {
            handle.to(namespace, room).disconnect();
            let warned = (0..self.actors.len())
                .filter(|&id| {
                    self.actors[id].place == place
                        && self.actors[id].is_in
                        && self.is_surely_in(id, room, sent)
                })
                .map(|id| (Publisher { client: id, life: self.actors[id].life }, index))
                .collect();
            self.expect_kick(place, room, warned);
        }
    }

    /// The client was in the room from `from` until now.
    pub(super) fn is_surely_in(&self, id: usize, room: &str, from: usize) -> bool {
        let actor = &self.actors[id];
        let is_closed = self.closed.iter().any(|(place, closed)| (*place, *closed) == (actor.place, room));
        !is_closed && actor.is_surely_in(room, from)
    }

    pub(super) fn may_be_kicked(&self, id: usize) -> bool {
        let actor = &self.actors[id];
        self.kicks.iter().any(|kick| kick.place == actor.place && !actor.is_surely_out(kick.room, kick.sent))
    }

    /// The client's connection is lost, and it comes back at once.
    pub(super) fn lose_connection(&mut self, id: usize) {
        let has_claim = self.simulation.clients[id].pid.is_some();
        let must_be_recovered = has_claim && self.actors[id].is_in && !self.may_be_kicked(id);
        let habits = self.habits();
        let is_reset = self.choice.chance(50);
        let actor = &mut self.actors[id];
        actor.must_be_recovered = must_be_recovered;
        actor.has_rival |= actor.is_returning;
        actor.is_in = false;
        actor.is_returning = true;
        actor.life += 1;
        actor.forget_answers();
        let Simulation { world, clients } = &mut self.simulation;
        clients[id].reconnect(habits, world, is_reset);
        clients[id].enter();
    }

    /// The client reads nothing for a while.
    pub(super) fn stall(&mut self, id: usize) {
        let wires: Vec<_> = self.simulation.clients[id].wires().collect();
        for wire in wires {
            self.simulation.world.wires[wire.0].is_stalled = true;
        }
    }

    pub(super) fn unstall(&mut self) {
        for (client, actor) in self.simulation.clients.iter().zip(&self.actors) {
            if !actor.is_gone {
                for wire in client.wires() {
                    self.simulation.world.wires[wire.0].is_stalled = false;
                }
            }
        }
    }

    pub(super) fn leave_namespace(&mut self, id: usize) {
        let moment = self.moment();
        let actor = &mut self.actors[id];
        actor.begin_leaving(moment);
        actor.is_in = false;
        actor.has_left = true;
        actor.has_lost_answers = true;
        self.simulation.clients[id].send("1", &[]);
    }

    /// The server says that the socket is over.
    pub(super) fn thrown_out(&mut self, id: usize, moment: usize) {
        assert!(self.may_be_kicked(id), "client {id} was thrown out, and by whom?");
        let own = Publisher { client: id, life: self.actors[id].life };
        for (_, index) in self.kicks.iter().flat_map(|kick| &kick.warned).filter(|(warned, _)| *warned == own)
        {
            let has_heard = self.actors[id].seen.contains(index);
            assert!(has_heard || self.is_lossy(), "client {id} left before {:?}", self.published[*index]);
        }
        let actor = &mut self.actors[id];
        actor.end_stays(moment);
        actor.is_in = false;
        actor.is_returning = false;
        actor.has_left = true;
        actor.forget_answers();
    }

    /// The client goes away for good, in one of the ways that clients do.
    pub(super) fn go(&mut self, id: usize) {
        self.expect_nothing(id);
        let Simulation { world, clients } = &mut self.simulation;
        let client = &mut clients[id];
        match self.choice.below(4) {
            0 => {
                client.send_packet(Packet::Text("1".into()));
                client.is_silent = true;
                client.drive(world);
            }
            1 => client.drop_wires(world, false),
            2 => client.drop_wires(world, true),
            _ => {
                for wire in client.wires() {
                    world.wires[wire.0].is_stalled = true;
                }
                client.is_over = true;
            }
        }
    }

    pub(super) fn expect_nothing(&mut self, id: usize) {
        let moment = self.moment();
        let actor = &mut self.actors[id];
        actor.begin_leaving(moment);
        actor.is_in = false;
        actor.is_returning = false;
        actor.is_gone = true;
    }
}
