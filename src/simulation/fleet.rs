//! Several processes at one broker: worlds with a hub each, on one clock.
//!
//! The broker (`broker`) is seen through connections that delay what they carry, break with a batch half sent, stall, and lose the
//! broker itself. What a broken connection had still under way may arrive later, as it does from a kernel's buffer.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::base::ids::NodeTag;
use crate::base::time::Time;
use crate::bus::hub::{Answering, Hub, HubParts, Identity};
use crate::bus::memory::{Link as Connection, SLOTS};
use crate::bus::{Delivery, Fault, Post};
use crate::mesh::link::Said;
use crate::message::inquiry::AckError;
use crate::simulation::Simulation;
use crate::simulation::app::{SECOND_PATH, app_at_two_endpoints, settings_of_second};
use crate::simulation::broker::{Broker, Reading};
use crate::simulation::world::{Random, Weather};

/// Messages that are sent at once, as by the companion thread.
const BATCH_MAX: usize = 256;

/// Messages that a process takes at once.
const READ_AT_ONCE_MAX: usize = 60;

/// Troubles with less time between them are one.
const TROUBLES_APART: Duration = Duration::from_millis(500);

/// One process.
pub(super) struct Node {
    pub(super) simulation: Simulation,
    pub(super) hub: Hub,
    connection: Option<Connection>,
    reading: Reading,
    /// Taken from the hub and not acknowledged.
    batch: Vec<Post>,
    /// How many of the batch have reached the broker.
    carried: usize,
    send_at: Time,
    read_at: Time,
    connect_at: Time,
    answering: Vec<Answering>,
    /// Nothing passes in either direction until then, and the connection does not break by that.
    stalled_until: Time,
    /// It cannot connect before.
    cut_off_until: Time,
    /// When messages to or from it may have been lost or late: from when until when.
    troubles: Vec<(Time, Time)>,
    /// When it ended, and whether it said so.
    pub(super) ended: Option<(Time, bool)>,
}

/// All processes, and what is between them.
pub(super) struct Fleet {
    pub(super) now: Time,
    pub(super) nodes: Vec<Node>,
    broker: Broker,
    random: Random,
    seed: u64,
    weather: Weather,
    /// How long a connection takes with a message at most, in milliseconds.
    delay_max: usize,
    /// What broken connections had under way.
    late: VecDeque<(Time, Post)>,
    late_connection: Option<Connection>,
}

fn tag(number: usize) -> NodeTag {
    NodeTag([b'n', b'o', number as u8])
}

impl Node {
    fn new(seed: u64, number: usize, weather: &Weather) -> Node {
        let weather = Weather { node: Some(tag(number)), ..weather.clone() };
        let options = weather.config.engine.clone();
        // As the first, or with a recovery of its own: all processes alike.
        let mut choice = Random::new(seed ^ 0x2ec0);
        let second = choice.chance(60).then(|| settings_of_second(choice.chance(50), &weather.config));
        let app = move |shard| app_at_two_endpoints(shard, &options, second);
        let simulation = Simulation::with(seed ^ (number as u64) << 40, weather, app);
        let (link, _) = simulation.world.line.as_ref().expect("it is one of several");
        let hub = Hub::new(HubParts {
            me: Identity {
                id: [1 + number as u8; 16],
                tag: tag(number),
                name: format!("node {number}"),
                started: 0,
            },
            mesh: Arc::clone(&simulation.world.mesh),
            endpoints: vec![None, Some(SECOND_PATH.into())],
            interests: Arc::clone(&link.interests),
            stats: Arc::clone(&link.stats),
            slots: SLOTS,
            foreign: Vec::new(),
        });
        Node {
            simulation,
            hub,
            connection: None,
            reading: Reading::default(),
            batch: Vec::new(),
            carried: 0,
            send_at: Time(0),
            read_at: Time(0),
            connect_at: Time(0),
            answering: Vec::new(),
            stalled_until: Time(0),
            cut_off_until: Time(0),
            troubles: Vec::new(),
            ended: None,
        }
    }

    pub(super) fn is_alive(&self) -> bool {
        self.ended.is_none()
    }

    /// Whether nothing was lost, and nothing late, on its way to and from it in all that time.
    pub(super) fn is_quiet(&self, from: Time, until: Time) -> bool {
        !self.troubles.iter().any(|(begin, end)| *begin <= until && from <= *end)
    }

    fn trouble(&mut self, now: Time) {
        match self.troubles.last_mut() {
            Some((_, end)) if *end + TROUBLES_APART >= now => *end = now.max(*end),
            _ => self.troubles.push((now, now)),
        }
    }

    fn set_up(&self, is_up: bool) {
        let (link, _) = self.simulation.world.line.as_ref().expect("it is one of several");
        link.stats.is_up.store(is_up, std::sync::atomic::Ordering::Relaxed);
    }

    /// Answers of its shards to others' questions.
    fn hear_answers(&mut self) {
        self.answering.extend(self.hub.take_answering());
        for answering in std::mem::take(&mut self.answering) {
            let (asker, mut receiver) = answering.into_parts();
            match Pin::new(&mut receiver).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(found) => self.hub.answer(asker, found.unwrap_or(Err(AckError::Stopped))),
                Poll::Pending => self.answering.push(Answering { to: asker, receiver }),
            }
        }
    }
}

impl Fleet {
    pub(super) fn new(seed: u64, len: usize, weather: &Weather, delay_max: usize) -> Fleet {
        Fleet {
            now: Time(1000),
            nodes: (0..len).map(|number| Node::new(seed, number, weather)).collect(),
            seed,
            weather: weather.clone(),
            broker: Broker::default(),
            random: Random::new(seed ^ 0xf1ee7),
            delay_max,
            late: VecDeque::new(),
            late_connection: None,
        }
    }

    /// The same, at a broker that keeps what it was given.
    pub(super) fn keeping(seed: u64, len: usize, weather: &Weather, delay_max: usize) -> Fleet {
        Fleet { broker: Broker::keeping(), ..Fleet::new(seed, len, weather, delay_max) }
    }

    pub(super) fn keeps(&self) -> bool {
        self.broker.keeps()
    }

    /// Another process starts.
    pub(super) fn start(&mut self) -> usize {
        let number = self.nodes.len();
        let mut node = Node::new(self.seed, number, &self.weather);
        node.trouble(self.now);
        node.reading = self.broker.at_the_end();
        self.nodes.push(node);
        number
    }

    /// A process ends: at once, with something of what it was about to send on its way perhaps, or after it has sent all and said so.
    pub(super) fn end(&mut self, number: usize, says_so: bool) {
        let now = self.now;
        if says_so && let Some(connection) = self.nodes[number].connection {
            let node = &mut self.nodes[number];
            while let Some(said) = node.simulation.world.line.as_ref().and_then(|(_, said)| said.next()) {
                node.hub.say(&said, now);
            }
            node.hub.say_goodbye();
            let mut posts = node.batch.split_off(node.carried);
            posts.extend(node.hub.posts().drain(..));
            // A connection that is broken already takes nothing.
            let _ = self.broker.publish(connection, &posts);
        }
        if !says_so {
            self.cut(number);
        }
        self.lose(number);
        let node = &mut self.nodes[number];
        node.ended = Some((now, says_so));
        node.troubles.push((now, Time::NEVER));
    }

    pub(super) fn alive(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|number| self.nodes[*number].is_alive()).collect()
    }

    /// Lets so much time pass, a little at a time.
    pub(super) fn run(&mut self, time: Duration, tick: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.now = until.min(self.now + tick);
            for node in self.nodes.iter_mut().filter(|node| node.is_alive()) {
                let simulation = &mut node.simulation;
                loop {
                    simulation.drive_all();
                    while simulation.step() {}
                    if !simulation.world.pass_time(self.now) {
                        break;
                    }
                }
            }
            self.carry_late();
            for number in self.alive() {
                self.turn(number);
            }
        }
    }

    /// Some steps of one process, whose clock stands still.
    pub(super) fn step(&mut self, node: usize, steps: usize) {
        let simulation = &mut self.nodes[node].simulation;
        simulation.drive_all();
        for _ in 0..steps {
            simulation.step();
        }
    }

    /// What the companion thread of a process does now, if its connection lets it.
    fn turn(&mut self, number: usize) {
        if self.nodes[number].connection.is_none() {
            self.connect(number);
        }
        let Some(connection) = self.nodes[number].connection else {
            return self.nodes[number].trouble(self.now);
        };
        if self.nodes[number].stalled_until > self.now {
            return self.nodes[number].trouble(self.now);
        }
        let worked = self.hear(number, connection).and_then(|()| self.speak(number, connection));
        if worked.is_err() {
            self.lose(number);
        }
    }

    fn connect(&mut self, number: usize) {
        let Fleet { broker, nodes, now, random, .. } = self;
        let node = &mut nodes[number];
        if node.connect_at.max(node.cut_off_until) > *now {
            return;
        }
        node.connect_at = *now + Duration::from_millis(25 + random.below(475) as u64);
        let Ok(connection) = broker.connect() else { return };
        if !broker.keeps() {
            node.hub.has_missed_some();
        }
        let channels = node.hub.connected(*now);
        node.reading.wants_nothing();
        broker.subscribe(connection, &mut node.reading, (&channels, &[])).expect("it is up");
        node.connection = Some(connection);
        node.set_up(true);
        node.trouble(*now);
        (node.stalled_until, node.carried) = (Time(0), 0);
    }

    /// Takes what has arrived, or a part of it.
    fn hear(&mut self, number: usize, connection: Connection) -> Result<(), Fault> {
        let Fleet { broker, nodes, now, random, delay_max, .. } = self;
        let node = &mut nodes[number];
        if node.read_at > *now {
            return Ok(());
        }
        let mut count = 1 + random.below(READ_AT_ONCE_MAX);
        while count > 0
            && let Some(delivery) = broker.take(connection, &mut node.reading)?
        {
            node.hub.receive(&delivery, *now);
            count -= 1;
        }
        node.read_at = *now + Duration::from_millis(random.below(*delay_max + 1) as u64);
        Ok(())
    }

    /// Sends what waits, or a part of it. As the companion thread, it does nothing else meanwhile.
    fn speak(&mut self, number: usize, connection: Connection) -> Result<(), Fault> {
        let Fleet { broker, nodes, now, random, delay_max, .. } = self;
        let node = &mut nodes[number];
        if node.batch.is_empty() || node.hub.is_holding() {
            node.hear_answers();
            node.hub.handle_timeout(*now);
            if let Some(hello) = node.hub.take_hello() {
                broker.publish(connection, &[hello])?;
            }
            let (_, said) = node.simulation.world.line.as_ref().expect("it is one of several");
            while !node.hub.is_holding()
                && node.hub.posts().len() < BATCH_MAX
                && let Some(said) = said.next()
            {
                node.hub.say(&said, *now);
            }
            let (add, remove) = node.hub.take_subscriptions(*now);
            broker.subscribe(connection, &mut node.reading, (&add, &remove))?;
            if !node.hub.is_holding() && node.batch.is_empty() {
                let count = node.hub.posts().len().min(BATCH_MAX);
                node.batch.extend(node.hub.posts().drain(..count));
                node.carried = 0;
            }
        }
        if node.send_at > *now || node.hub.is_holding() {
            return Ok(());
        }
        let left = node.batch.len() - node.carried;
        let count = if left > 0 { 1 + random.below(left) } else { 0 };
        broker.publish(connection, &node.batch[node.carried..node.carried + count])?;
        node.carried += count;
        node.send_at = *now + Duration::from_millis(random.below(*delay_max + 1) as u64);
        if node.carried == node.batch.len() && random.chance(80) {
            node.batch.clear();
            node.carried = 0;
        }
        Ok(())
    }

    /// The connection is over. Its batch is sent again on the next, whatever the broker has of it.
    fn lose(&mut self, number: usize) {
        let Fleet { broker, nodes, now, .. } = self;
        let node = &mut nodes[number];
        if let Some(connection) = node.connection.take() {
            broker.disconnect(connection);
            node.hub.disconnected();
            node.answering.clear();
            node.set_up(false);
            node.trouble(*now);
        }
    }

    /// Breaks the connection of a process. A part of what was under way may arrive later.
    pub(super) fn cut(&mut self, number: usize) {
        let Some(connection) = self.nodes[number].connection else { return };
        let Fleet { nodes, random, late, now, .. } = self;
        let rest = &nodes[number].batch[nodes[number].carried..];
        if random.chance(50) && !rest.is_empty() {
            let count = random.below(rest.len() + 1);
            let at = *now + Duration::from_millis(random.below(2000) as u64);
            late.extend(rest[..count].iter().map(|post| (at, post.clone())));
        }
        self.broker.cut(connection);
        self.nodes[number].trouble(self.now);
    }

    /// Breaks the connection of a process, which finds no way to the broker for a while.
    pub(super) fn cut_off(&mut self, number: usize, time: Duration) {
        self.cut(number);
        self.nodes[number].cut_off_until = self.now + time;
    }

    /// Nothing passes to and from a process for a while.
    pub(super) fn stall(&mut self, number: usize, time: Duration) {
        self.nodes[number].stalled_until = self.now + time;
        self.nodes[number].trouble(self.now);
    }

    /// All ways are open again, and the broker is there.
    pub(super) fn heal(&mut self) {
        self.start_broker();
        for node in &mut self.nodes {
            node.stalled_until = node.stalled_until.min(self.now);
            node.cut_off_until = node.cut_off_until.min(self.now);
        }
    }

    /// The broker goes away.
    pub(super) fn stop_broker(&mut self) {
        self.broker.stop();
        self.late.clear();
        let now = self.now;
        self.nodes.iter_mut().filter(|node| node.is_alive()).for_each(|node| node.trouble(now));
    }

    /// It is there again, and knows nothing, unless it keeps what it was given.
    pub(super) fn start_broker(&mut self) {
        self.broker.start();
    }

    /// Something arrives at a process that nobody of the fleet has said.
    pub(super) fn inject(&mut self, number: usize, delivery: &Delivery) {
        let now = self.now;
        self.nodes[number].hub.receive(delivery, now);
    }

    fn carry_late(&mut self) {
        while self.late.front().is_some_and(|(at, _)| *at <= self.now)
            && let Some((_, post)) = self.late.pop_front()
        {
            let connection = match self.late_connection {
                Some(connection) => Ok(connection),
                None => self.broker.connect(),
            };
            let Ok(connection) = connection else { continue };
            let is_carried = self.broker.publish(connection, &[post]).is_ok();
            self.late_connection = is_carried.then_some(connection);
        }
    }

    /// Whether all processes have a connection now, and nothing holds up what it carries.
    pub(super) fn is_whole(&self) -> bool {
        self.nodes.iter().all(|node| node.connection.is_some() && node.stalled_until <= self.now)
    }

    /// How many others each process knows.
    pub(super) fn known(&self) -> Vec<usize> {
        self.nodes.iter().filter(|node| node.is_alive()).map(|node| node.hub.fleet.len()).collect()
    }

    /// No table of any process holds anything of any client.
    pub(super) fn assert_empty(&mut self) {
        for (number, node) in self.nodes.iter_mut().enumerate().filter(|(_, node)| node.is_alive()) {
            node.simulation.assert_empty();
            let (link, said) = node.simulation.world.line.as_ref().expect("it is one of several");
            // Values of state rooms are compared every few seconds, so something of that may wait.
            let rest = std::iter::from_fn(|| said.next()).filter(|said| !matches!(said, Said::State(_)));
            assert_eq!((rest.count(), said.waiting_bytes()), (0, 0), "node {number} has said all");
            let tables = (link.interests.held(), node.hub.subscriptions.heard(), node.hub.questions.len());
            assert_eq!(tables, (0, 0, 0), "node {number} hears rooms or waits for answers");
            let stats = link.snapshot();
            assert_eq!((stats.lost, stats.unreadable, stats.refused), (0, 0, 0), "node {number}");
            for path in [None, Some(SECOND_PATH)] {
                assert_eq!(node.hub.fleet.sockets(path, "/"), 0, "node {number} counts sockets of others");
            }
        }
    }
}
