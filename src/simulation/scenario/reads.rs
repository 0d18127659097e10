//! What random clients hear, and whether that could be.

use serde_json::{Value, json};

use crate::simulation::client::Message;
use crate::simulation::model::{EVERYONE, Expected, Publisher, Stay};
use crate::simulation::scenario::Scenario;

impl Scenario {
    pub(super) fn read_all(&mut self) {
        for id in 0..self.actors.len() {
            while let Some(message) = self.simulation.clients[id].received.pop_front() {
                if let Some(page) = self.pages.iter_mut().find(|page| page.id == id) {
                    page.read(&message);
                } else if !self.actors[id].is_gone {
                    self.read(id, &message);
                }
            }
        }
    }

    pub(super) fn read(&mut self, id: usize, message: &Message) {
        let moment = self.moment();
        assert_eq!(message.namespace, self.simulation.clients[id].namespace, "client {id} got {message:?}");
        match message.kind {
            '0' => self.let_in(id, message, moment),
            // Who is thrown out before it is let in is refused.
            '1' | '4' => self.thrown_out(id, moment),
            '3' | '6' => self.read_ack(id, message, moment),
            '2' => match message.payload[0].as_str() {
                Some("news") => self.read_news(id, &message.payload[1]),
                Some("board") => self.read_board(id, &message.payload),
                // Whoever has left the namespace answers nothing.
                Some("question") if !self.actors[id].is_in => {}
                Some("question") => {
                    let number = message.payload[1].as_u64().expect("a number");
                    let ack = message.id.expect("a question wants an answer");
                    self.simulation.clients[id].send(&format!("3{ack}[{}]", number + 1), &[]);
                }
                Some("answered") => {
                    let pair = (message.payload[1].as_u64(), message.payload[2].as_u64());
                    assert_eq!(
                        pair.0.map(|number| number + 1),
                        pair.1,
                        "the answer reached the one who asked"
                    );
                    self.actors[id].answered += 1;
                }
                _ => panic!("client {id} got {message:?}"),
            },
            _ => panic!("client {id} got {message:?}"),
        }
    }

    /// CONNECT is answered: the client is a new socket, or the one that it was.
    pub(super) fn let_in(&mut self, id: usize, message: &Message, moment: usize) {
        let is_lossy = self.is_lossy();
        let actor = &mut self.actors[id];
        let sid = message.payload["sid"].as_str().expect("a socket's id").to_owned();
        let is_same = actor.sid.as_ref() == Some(&sid);
        let must_be_same = std::mem::take(&mut actor.must_be_recovered) && !is_lossy;
        assert!(is_same || !must_be_same, "client {id} is not the socket that it was");
        if actor.is_returning && !is_same {
            actor.end_stays(moment);
            actor.stays.entry(EVERYONE).or_default().push(Stay::default());
        }
        if !is_same {
            actor.stay(EVERYONE).joined = Some(moment);
            // What the old socket has heard may reach the new one late, by another shard.
            actor.heard.clear();
        }
        actor.sid = Some(sid);
        actor.connected = moment;
        actor.is_in = true;
        actor.is_returning = false;
    }

    /// The state room's values: all of them, or those that have changed.
    pub(super) fn read_board(&mut self, id: usize, payload: &Value) {
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

    pub(super) fn read_ack(&mut self, id: usize, message: &Message, moment: usize) {
        let acks = &mut self.actors[id].acks;
        let place = acks.iter().position(|(ack, _)| Some(*ack) == message.id);
        let place = place.expect("an acknowledgement was asked for");
        // What is answered beside others holds up nothing, and waits itself for what is answered in order.
        let is_next = acks.iter().take(place).all(|(_, expected)| matches!(expected, Expected::Beside(_)));
        assert!(
            is_next,
            "client {id}: acknowledgements come in the order of the events: {message:?}, {acks:?}"
        );
        let (_, expected) = acks.remove(place).expect("it was just found");
        match expected {
            Expected::Answer(answer) | Expected::Beside(answer) => assert_eq!(message.payload, answer),
            Expected::Blob(bytes) => assert_eq!(message.attachments, [bytes]),
            Expected::Join(room) => {
                assert_eq!(message.payload, json!([true]));
                self.actors[id].stay(room).joined = Some(moment);
            }
            Expected::Leave(room) => {
                if let Some(stay) = self.stays(id, room).iter_mut().find(|stay| stay.left.is_none()) {
                    stay.left = Some(moment);
                }
            }
            Expected::MovedAndPublished(index) => {
                assert_eq!(message.payload, json!([true, true]), "both verbs are done everywhere");
                self.published[index].is_acknowledged = true;
            }
            Expected::Thrown(room, thrown) => {
                assert_eq!(message.payload[0], true, "all are thrown out everywhere: {}", message.payload);
                let is_closed = self.closed.contains(&(self.actors[id].place, room));
                let left = message.payload[1].as_array().expect("ids");
                let is_left = |sid: &String| left.iter().any(|other| other == sid);
                assert!(
                    is_closed || !thrown.iter().any(is_left),
                    "{thrown:?} are thrown out, and {left:?} are there"
                );
            }
            Expected::Publish(index) => self.published[index].is_acknowledged = true,
            Expected::Put(number) => self.puts[number as usize].done = Some(moment),
            Expected::Watch => self.actors[id].watches = true,
            Expected::Members(room, sent) => self.check_members(id, room, sent, &message.payload),
            #[cfg(feature = "bus")]
            other => panic!("client {id} did not ask for {other:?}"),
        }
    }

    pub(super) fn read_news(&mut self, id: usize, message: &Value) {
        let publisher = Publisher::of_number(message[0].as_u64().expect("a publisher") as usize);
        let sequence = message[1].as_u64().expect("a sequence");
        let index =
            self.published.iter().position(|one| one.publisher == publisher && one.sequence == sequence);
        let index = index.expect("somebody published it");
        let published = &self.published[index];
        let actor = &self.actors[id];
        assert_eq!(actor.place, published.place, "client {id} heard another namespace: {published:?}");
        let is_possible = match &published.to {
            Some((to, _)) => *to == id,
            None => published.rooms.iter().any(|room| !actor.is_surely_out(room, published.sent)),
        };
        assert!(is_possible, "client {id} was out of {published:?}: {:?}", actor.stays);
        let is_excepted = published.except.is_some_and(|room| self.is_surely_in(id, room, published.sent));
        assert!(!is_excepted, "client {id} was excepted from {published:?}");
        let is_own = publisher == Publisher { client: id, life: actor.life };
        assert!(published.includes_publisher || !is_own, "{published:?} came back");
        let actor = &mut self.actors[id];
        let heard = actor.heard.insert(publisher, sequence);
        assert!(heard < Some(sequence), "client {id} heard {heard:?} before {published:?}");
        actor.seen.push(index);
    }
}
