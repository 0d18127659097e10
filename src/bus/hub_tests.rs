//! Hubs of several processes at one broker in memory, whose shards are the test: it reads their inboxes.

mod attack;
mod left;
mod questions;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;

use crate::base::ids::{NodeTag, ShardId, Sid};
use crate::base::slab::Key;
use crate::base::time::Time;
use crate::bus::fleet::{HELLO_EVERY, SILENCE_MAX};
use crate::bus::hub::{Answering, Hub, HubParts, Identity, LeftWork};
use crate::bus::memory::{Exchange, Link as Connection, SLOTS};
use crate::bus::own::{self, Envelope, Hello, Word};
use crate::bus::subscriptions::LINGER;
use crate::bus::{Body, Channel, Delivery, Post};
use crate::mesh::interest::Holdings;
use crate::mesh::link::{Link, LinkBounds, LinkReceiver, Said};
use crate::mesh::slots::ROOM_SLOTS;
use crate::mesh::{Bell, INBOX_MESSAGES_MAX, INBOX_OUTSIDE_MESSAGES_MAX, InboxReceiver, Mesh, ShardMessage};
use crate::message::address::Address;
use crate::message::inquiry::{AckError, Ask, Findings, Inquiry, Reply};
use crate::message::recovery::Position;
use crate::message::target::{Broadcast, Reach, SocketChange, SocketCommand, Target, ToldChange};
use crate::protocol::socketio::encode::encode_event_raw;
use crate::protocol::socketio::frames::{FramedEvent, frame_raw};

const SHARDS: usize = 2;

struct NoBell;

impl Bell for NoBell {
    fn ring(&self) {}
}

/// One process: its hub, and what shards hold of it.
struct Node {
    hub: Hub,
    link: Arc<Link>,
    said: LinkReceiver,
    mesh: Arc<Mesh>,
    inboxes: Vec<InboxReceiver>,
    holdings: Holdings,
    connection: Option<Connection>,
    answering: Vec<Answering>,
    /// What its shards say when their sockets are counted.
    census: Vec<(&'static str, u64)>,
    /// What came for the shards, but for the counting.
    got: Vec<ShardMessage>,
}

/// Processes at one broker, and a clock.
struct Nodes {
    exchange: Exchange,
    nodes: Vec<Node>,
    now: Time,
}

fn tag(number: usize) -> NodeTag {
    NodeTag([9, 9, number as u8])
}

fn root() -> Address {
    Address::new(None, "/")
}

/// The id of a socket of a process.
fn sid(node: usize) -> Sid {
    let mut random = [7; 13];
    random[..3].copy_from_slice(&tag(node).0);
    Sid::new(ShardId(1), random)
}

fn frame(namespace: &str, args: &str) -> Vec<u8> {
    let mut out = Vec::new();
    frame_raw(&mut out, &[] as &[&[u8]], |out| encode_event_raw(out, namespace, None, "said", args));
    out
}

fn rooms(names: &[&str]) -> Target {
    Target { rooms: names.iter().copied().collect(), ..Target::default() }
}

fn everybody() -> Target {
    Target { is_everyone: true, ..Target::default() }
}

impl Node {
    fn new(number: usize, id: u8) -> Node {
        Node::with_slots(number, id, SLOTS)
    }

    fn with_slots(number: usize, id: u8, slots: u32) -> Node {
        let bells = (0..SHARDS).map(|_| Box::new(NoBell) as Box<dyn Bell>).collect();
        let (mesh, inboxes) = Mesh::new(bells);
        let bounds = LinkBounds { bytes_max: 1 << 20, message_bytes_max: usize::MAX };
        let (link, said) = Link::new(tag(number), bounds, false, Box::new(NoBell));
        let link = Arc::new(link);
        let me = Identity {
            id: [id; 16],
            tag: tag(number),
            name: format!("node {number}"),
            started: number as u64,
        };
        let hub = Hub::new(HubParts {
            me,
            mesh: Arc::clone(&mesh),
            endpoints: vec![None, Some("/second/".into())],
            interests: Arc::clone(&link.interests),
            stats: Arc::clone(&link.stats),
            slots,
            foreign: Vec::new(),
        });
        let holdings = Holdings::new(ShardId(1));
        Node {
            hub,
            link,
            said,
            mesh,
            inboxes,
            holdings,
            connection: None,
            answering: Vec::new(),
            census: Vec::new(),
            got: Vec::new(),
        }
    }

    fn hold(&mut self, room: &str) {
        self.holdings.add(&self.mesh.interest, self.mesh.interest.slot(&root(), room));
        self.link.hold(&root(), Some(room));
    }

    fn release(&mut self, room: &str) {
        self.holdings.remove(&self.mesh.interest, self.mesh.interest.slot(&root(), room));
        self.link.release(&root(), Some(room));
    }

    fn emit(&self, target: Target, args: &str) {
        let frame = Arc::new(frame("/", args));
        let broadcast = Broadcast {
            namespace: root(),
            target,
            frame,
            offset: None,
            id: None,
            position: Position::default(),
            published: 0,
        };
        self.link.say(Said::Emit(Arc::new(broadcast))).expect("there is room");
    }

    fn change(&self, target: Target, change: SocketChange) -> Arc<ToldChange> {
        let told = ToldChange::new(SocketCommand { namespace: root(), target, change });
        self.link.say(Said::Change(Arc::clone(&told))).expect("there is room");
        told
    }

    fn ask(&self, number: u32, target: Target, ask: Ask) {
        let number = Key { index: number, generation: 1 };
        let timeout = Duration::from_secs(2);
        let inquiry = Inquiry { namespace: root(), target, ask, timeout, home: ShardId(0), number };
        self.link.say(Said::Ask(Arc::new(inquiry))).expect("there is room");
    }

    /// What its shards got, as text; questions are left where they are.
    fn take_got(&mut self) -> Vec<String> {
        self.read_inboxes();
        let (taken, kept): (Vec<_>, Vec<_>) =
            self.got.drain(..).partition(|message| !matches!(message, ShardMessage::Request(_)));
        self.got = kept;
        taken.iter().filter_map(shown).collect()
    }

    fn read_inboxes(&mut self) {
        for inbox in &self.inboxes {
            while let Some(message) = inbox.next_message() {
                match message {
                    ShardMessage::Request(request) if matches!(request.ask, Ask::Census) => {
                        let count = |(name, count): &(&str, u64)| ((None, (*name).to_owned()), *count);
                        let census = self.census.iter().map(count).collect();
                        // A hub that has lost its connection waits no more.
                        let _ = request.reply.send(Ok(Findings { census, ..Findings::default() }));
                    }
                    message => self.got.push(message),
                }
            }
        }
    }

    /// A question that its shards were asked for another process.
    fn take_request(&mut self) -> Option<(Ask, Reply)> {
        self.read_inboxes();
        let place = self.got.iter().position(|message| matches!(message, ShardMessage::Request(_)))?;
        let ShardMessage::Request(request) = self.got.remove(place) else { return None };
        Some((request.ask, request.reply))
    }

    /// Reports to its own shards: the question's number, and what was found out.
    fn take_reports(&mut self) -> Vec<(u32, Findings)> {
        self.read_inboxes();
        let mut reports = Vec::new();
        for message in std::mem::take(&mut self.got) {
            match message {
                ShardMessage::Report(report) => reports.push((report.number.index, report.findings)),
                other => self.got.push(other),
            }
        }
        reports
    }

    fn hear_answers(&mut self) -> bool {
        self.answering.extend(self.hub.take_answering());
        let mut has_heard = false;
        for answering in std::mem::take(&mut self.answering) {
            let (asker, mut receiver) = answering.into_parts();
            match Pin::new(&mut receiver).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(found) => {
                    has_heard = true;
                    self.hub.answer(asker, found.unwrap_or(Err(AckError::Stopped)));
                }
                Poll::Pending => self.answering.push(Answering { to: asker, receiver }),
            }
        }
        has_heard
    }
}

/// What a shard got. A broadcast comes to several shards, and is shown by one.
fn shown(message: &ShardMessage) -> Option<String> {
    let names = |target: &Target| {
        let except: Vec<&str> = target.except.iter().collect();
        assert_eq!(target.reach, Reach::Process, "what came from outside goes no further");
        if except.is_empty() { String::new() } else { format!(" but {}", except.join(" ")) }
    };
    Some(match message {
        ShardMessage::Broadcast(broadcast) => {
            let event = FramedEvent::split(&broadcast.frame).expect("an event");
            format!("{}{}", event.args, names(&broadcast.target))
        }
        ShardMessage::Command(command, _) => format!("{:?}{}", command.change, names(&command.target)),
        _ => return None,
    })
}

impl Nodes {
    fn new(len: usize) -> Nodes {
        let nodes = (0..len).map(|number| Node::new(number, 1 + number as u8)).collect();
        let mut nodes = Nodes { exchange: Exchange::default(), nodes, now: Time(1000) };
        (0..len).for_each(|node| nodes.connect(node));
        nodes.settle();
        nodes.pass(Duration::from_millis(30));
        nodes
    }

    fn connect(&mut self, node: usize) {
        let connection = self.exchange.connect().expect("it is up");
        self.nodes[node].hub.has_missed_some();
        let channels = self.nodes[node].hub.connected(self.now);
        self.exchange.subscribe(connection, &channels, &[]).expect("it is up");
        self.nodes[node].connection = Some(connection);
    }

    fn disconnect(&mut self, node: usize) {
        let connection = self.nodes[node].connection.take().expect("it was connected");
        self.exchange.disconnect(connection);
        self.nodes[node].hub.disconnected();
        self.nodes[node].answering.clear();
    }

    /// Lets everything happen that happens now.
    fn settle(&mut self) {
        while (0..self.nodes.len()).fold(false, |moved, node| self.turn(node) | moved) {}
    }

    /// One turn of a process, as its companion thread has it. False: nothing was to be done.
    fn turn(&mut self, number: usize) -> bool {
        let Nodes { exchange, nodes, now } = self;
        let node = &mut nodes[number];
        node.read_inboxes();
        let Some(connection) = node.connection else { return false };
        let mut has_moved = node.hear_answers();
        if node.hub.next_timeout() <= *now {
            node.hub.handle_timeout(*now);
        }
        let mut posts: Vec<Post> = node.hub.take_hello().into_iter().collect();
        while !node.hub.is_holding()
            && let Some(said) = node.said.next()
        {
            node.hub.say(&said, *now);
        }
        let (add, remove) = node.hub.take_subscriptions(*now);
        exchange.subscribe(connection, &add, &remove).expect("it is up");
        if !node.hub.is_holding() {
            posts.extend(node.hub.take_posts(usize::MAX));
        }
        has_moved |= !posts.is_empty();
        exchange.publish(connection, &posts).expect("it is up");
        while let Some(work) = node.hub.left_work(*now, 0) {
            match work {
                LeftWork::Again => {}
                LeftWork::Take(names) => node.hub.took_left(exchange.take_records(&names), *now),
                LeftWork::Read(from) => node.hub.has_read_left(&exchange.read_back(from, 3)),
            }
            has_moved = true;
        }
        while let Some(delivery) = exchange.take(connection).expect("it is up") {
            node.hub.receive(&delivery, *now);
            has_moved = true;
        }
        has_moved
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.now = until.min(self.now + Duration::from_millis(100));
            self.settle();
        }
    }

    /// What the shards of each process got.
    fn take_got(&mut self) -> Vec<Vec<String>> {
        self.settle();
        self.nodes.iter_mut().map(Node::take_got).collect()
    }

    /// Something arrives that a process with this id says.
    fn tell(&mut self, node: usize, from: u8, sequence: u64, word: Word<'_>) {
        let bytes = Bytes::from(own::write(&Envelope { from: [from; 16], sequence, word }));
        let delivery = Delivery { channel: Channel::All, body: Body::Bytes(bytes), offset: None };
        self.nodes[node].hub.receive(&delivery, self.now);
    }

    /// The first process asks something, and the others do not hear of it: its number among its questions.
    fn asked(&mut self, number: u32, target: Target, ask: Ask) -> u64 {
        let node = &mut self.nodes[0];
        node.ask(number, target, ask);
        let said = node.said.next().expect("it was said");
        node.hub.say(&said, self.now);
        let post = node.hub.posts().pop_back().expect("others are asked");
        let Body::Bytes(bytes) = &post.body else { panic!("our own format is bytes") };
        let Word::Ask { question, .. } = own::read(bytes).expect("our own format").word else {
            panic!("a question")
        };
        question.number
    }

    /// How many messages the broker has handed to each process.
    fn received(&self) -> Vec<u64> {
        self.nodes.iter().map(|node| node.link.stats.received.get()).collect()
    }

    fn known(&self) -> Vec<usize> {
        self.nodes.iter().map(|node| node.hub.fleet.len()).collect()
    }
}

fn findings(ids: &[Sid]) -> Findings {
    Findings { ids: ids.to_vec(), bytes: size_of_val(ids), ..Findings::default() }
}

#[test]
fn a_message_is_handed_to_those_who_have_members_and_to_no_others() {
    let many: Vec<String> = (0..20).map(|number| format!("nobody's {number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).chain(["one"]).collect();
    let (of_one, of_two) = (sid(1).to_string(), sid(2).to_string());
    let stranger = sid(7).to_string();
    // Whom the broker hands a message, and which shards get it how often, of processes 1 and 2. Both shards of a process have
    // the namespace, one has rooms.
    let rows: [(Target, [u64; 2], [usize; 2]); 10] = [
        (rooms(&["one"]), [1, 0], [1, 0]),
        (rooms(&["two"]), [0, 1], [0, 1]),
        (rooms(&["both"]), [1, 1], [1, 1]),
        (rooms(&["nobody's"]), [0, 0], [0, 0]),
        (rooms(&["both", "one", "two", "both"]), [2, 2], [1, 1]),
        (everybody(), [0, 1], [0, 2]),
        (rooms(&[&of_one]), [1, 0], [1, 0]),
        (rooms(&[&of_one, &of_two]), [1, 1], [1, 1]),
        (rooms(&[&stranger]), [0, 0], [0, 0]),
        (rooms(&many), [1, 1], [1, 0]),
    ];
    let mut nodes = Nodes::new(3);
    for (node, names) in [(1, ["one", "both"]), (2, ["two", "both"])] {
        names.iter().for_each(|name| nodes.nodes[node].hold(name));
    }
    nodes.nodes[2].link.hold(&root(), None);
    nodes.settle();
    nodes.take_got();
    for (number, (target, handed, shards)) in rows.into_iter().enumerate() {
        let before = nodes.received();
        nodes.nodes[0].emit(target, &number.to_string());
        let got: Vec<usize> = nodes.take_got().iter().map(Vec::len).collect();
        let new: Vec<u64> =
            nodes.received().iter().zip(&before).map(|(after, before)| after - before).collect();
        assert_eq!((&new[1..], &got[1..]), (&handed[..], &shards[..]), "row {number}");
        assert_eq!(got[0], 0, "row {number}: a process' own words do not come back to it");
    }
    let repeated: Vec<u64> = nodes.nodes.iter().map(|node| node.link.stats.repeated.get()).collect();
    assert_eq!(repeated, [0, 1, 1], "two rooms in common");
    assert_eq!(nodes.nodes[2].link.stats.nobodys.get(), 1, "with too many rooms all are told");
}

#[test]
fn what_one_says_comes_in_order_with_its_exceptions() {
    let mut nodes = Nodes::new(2);
    nodes.nodes[1].hold("room");
    nodes.settle();
    let except = Target { except: ["vip", "x"].into_iter().collect(), ..rooms(&["room"]) };
    for number in 0..600 {
        nodes.nodes[0].emit(rooms(&["room"]), &number.to_string());
    }
    nodes.nodes[0].emit(except, "600");
    nodes.nodes[0].change(rooms(&["room"]), SocketChange::Disconnect { close_session: true });
    let got = nodes.take_got().remove(1);
    let mut expected: Vec<String> = (0..600).map(|number| number.to_string()).collect();
    expected.push("600 but vip x".to_owned());
    expected.push("Disconnect { close_session: true }".to_owned());
    assert_eq!(got, expected);
    // A join is for every shard, and whoever hears it announces the room.
    nodes.nodes[0].change(rooms(&["room"]), SocketChange::Join("hall".to_owned()));
    assert_eq!(nodes.take_got()[1], [r#"Join("hall")"#]);
    assert_eq!(nodes.nodes[1].mesh.interest.announcements(), 0, "carried out, as far as the test is a shard");
}

#[test]
fn what_is_sent_again_is_delivered_once() {
    let mut nodes = Nodes::new(2);
    nodes.nodes[1].hold("room");
    nodes.settle();
    let mut batch = Vec::new();
    for number in 0..256 {
        nodes.nodes[0].emit(rooms(&["room"]), &number.to_string());
        let said = nodes.nodes[0].said.next().expect("it was said");
        nodes.nodes[0].hub.say(&said, nodes.now);
        batch.extend(nodes.nodes[0].hub.posts().drain(..));
    }
    assert!(batch.iter().all(|post| post.may_repeat));
    let connection = nodes.nodes[0].connection.expect("it is connected");
    // A part has arrived, then everything, then a late copy of the first part.
    for part in [&batch[..100], &batch[..], &batch[..100]] {
        nodes.exchange.publish(connection, part).expect("it is up");
    }
    let got = nodes.take_got().remove(1);
    assert_eq!(got, (0..256).map(|number| number.to_string()).collect::<Vec<_>>());
    assert_eq!(nodes.nodes[1].link.stats.repeated.get(), 200);
    assert!(nodes.nodes[0].link.stats.own.get() > 0, "its own hellos");
}

#[test]
fn what_was_missed_and_comes_after_what_followed_is_left_out() {
    let mut nodes = Nodes::new(2);
    nodes.nodes[1].hold("room");
    nodes.settle();
    let mut batch = Vec::new();
    for number in 0..10 {
        nodes.nodes[0].emit(rooms(&["room"]), &number.to_string());
        let said = nodes.nodes[0].said.next().expect("it was said");
        nodes.nodes[0].hub.say(&said, nodes.now);
        batch.extend(nodes.nodes[0].hub.posts().drain(..));
    }
    // The receiver's connection breaks in the middle of a batch, and the publisher's at its end, so that all is sent again.
    let connection = nodes.nodes[0].connection.expect("it is connected");
    nodes.disconnect(1);
    nodes.exchange.publish(connection, &batch[..4]).expect("it is up");
    nodes.connect(1);
    nodes.exchange.publish(connection, &batch[4..7]).expect("it is up");
    nodes.exchange.publish(connection, &batch).expect("it is up");
    assert_eq!(nodes.take_got()[1], ["4", "5", "6", "7", "8", "9"]);
}

#[test]
fn a_process_is_known_at_once_and_until_it_goes_or_is_silent() {
    let mut nodes = Nodes::new(3);
    assert_eq!(nodes.known(), [2, 2, 2], "known at once");
    nodes.nodes[2].hub.say_goodbye();
    nodes.settle();
    nodes.disconnect(2);
    assert_eq!(nodes.known(), [1, 1, 2]);
    nodes.disconnect(1);
    nodes.pass(SILENCE_MAX - HELLO_EVERY);
    assert_eq!(nodes.known()[0], 1, "silence is not yet the end");
    nodes.pass(HELLO_EVERY * 2);
    assert_eq!(nodes.known()[0], 0);
    nodes.connect(1);
    nodes.settle();
    nodes.pass(Duration::from_millis(30));
    assert_eq!(nodes.known(), [1, 1, 2], "a process that was gone, and forgot a third meanwhile");
}

#[test]
fn what_waited_in_an_outage_goes_out_once_the_others_are_back_or_the_hold_is_over() {
    // When the second and the third process come back, in milliseconds after the first; which of them hear what it said meanwhile.
    let rows = [
        (None, None, [false, false]),
        (Some(0), Some(0), [true, true]),
        (Some(300), Some(700), [true, true]),
        (Some(300), Some(1500), [true, false]),
        (Some(300), None, [true, false]),
        (Some(1500), Some(1500), [false, false]),
    ];
    for (row, (second, third, expected)) in rows.into_iter().enumerate() {
        let mut nodes = Nodes::new(3);
        (1..3).for_each(|node| nodes.nodes[node].hold("room"));
        nodes.settle();
        // Some of it had been taken from the link when the connection broke.
        nodes.nodes[0].emit(rooms(&["room"]), "0");
        let (said, now) = (nodes.nodes[0].said.next().expect("it was said"), nodes.now);
        nodes.nodes[0].hub.say(&said, now);
        (0..3).for_each(|node| nodes.disconnect(node));
        nodes.pass(Duration::from_secs(10));
        (1..4).for_each(|number| nodes.nodes[0].emit(rooms(&["room"]), &number.to_string()));
        nodes.connect(0);
        for millis in (0..2000).step_by(100) {
            let back = [(1, second), (2, third)].into_iter().filter(|(_, at)| *at == Some(millis));
            back.for_each(|(node, _)| nodes.connect(node));
            nodes.pass(Duration::from_millis(100));
        }
        let all = ["0", "1", "2", "3"].map(str::to_owned).to_vec();
        let expected = expected.map(|is_heard| if is_heard { all.clone() } else { Vec::new() });
        assert_eq!(nodes.take_got()[1..], expected, "row {row}");
        // Afterwards nothing is held.
        nodes.nodes[0].emit(rooms(&["room"]), "4");
        let got = nodes.take_got();
        let is_back = [second, third].map(|at| at.is_some());
        assert_eq!([got[1].len(), got[2].len()], is_back.map(usize::from), "row {row}");
    }
}

#[test]
fn who_alone_lost_its_connection_waits_for_the_others_no_longer_than_they_need_to_answer() {
    let mut nodes = Nodes::new(3);
    (1..3).for_each(|node| nodes.nodes[node].hold("room"));
    nodes.settle();
    nodes.disconnect(0);
    nodes.nodes[0].emit(rooms(&["room"]), "1");
    nodes.connect(0);
    nodes.settle();
    assert!(nodes.nodes[0].hub.is_holding());
    nodes.pass(Duration::from_millis(30));
    let got = nodes.take_got();
    assert_eq!((&got[1][..], &got[2][..]), (&["1".to_owned()][..], &["1".to_owned()][..]));
}

#[test]
fn a_pause_of_the_whole_machine_is_no_silence_of_the_others() {
    let mut nodes = Nodes::new(2);
    nodes.now = nodes.now + Duration::from_secs(60);
    nodes.nodes[0].hub.handle_timeout(nodes.now);
    assert_eq!(nodes.known(), [1, 1]);
    nodes.pass(SILENCE_MAX * 2);
    assert_eq!(nodes.known(), [1, 1]);
}

#[test]
fn many_new_processes_are_greeted_together() {
    let mut nodes = Nodes::new(1);
    nodes.pass(HELLO_EVERY);
    let before = nodes.nodes[0].link.stats.own.get();
    for number in 0..500_u16 {
        let mut from = [0; 16];
        from[..2].copy_from_slice(&number.to_be_bytes());
        let word = Word::Hello(Hello {
            name: "new",
            tag: [1, 2, 3],
            started: 0,
            sockets: Vec::new(),
            is_new: true,
            have_moved: false,
        });
        let bytes = Bytes::from(own::write(&Envelope { from, sequence: 1, word }));
        let delivery = Delivery { channel: Channel::All, body: Body::Bytes(bytes), offset: None };
        nodes.nodes[0].hub.receive(&delivery, nodes.now);
        nodes.settle();
    }
    nodes.pass(Duration::from_millis(100));
    assert_eq!(nodes.nodes[0].hub.fleet.len(), 500);
    assert!(nodes.nodes[0].link.stats.own.get() - before <= 2);
}

#[test]
fn two_processes_with_one_id_do_not_hear_each_other_and_say_so() {
    let mut nodes = Nodes::new(2);
    let copy = Node::new(5, 1);
    nodes.nodes.push(copy);
    nodes.connect(2);
    nodes.nodes[1].hold("room");
    nodes.nodes[2].hold("room");
    nodes.pass(HELLO_EVERY);
    assert!(nodes.nodes[0].hub.is_doubled && nodes.nodes[2].hub.is_doubled);
    assert!(!nodes.nodes[1].hub.is_doubled);
    nodes.nodes[0].emit(rooms(&["room"]), "1");
    let got = nodes.take_got();
    assert_eq!((got[1].len(), got[2].len()), (1, 0));
}

#[test]
fn a_flood_from_outside_into_a_stuck_shard_costs_no_message_between_shards() {
    let mut nodes = Nodes::new(2);
    nodes.nodes[1].hold("room");
    nodes.settle();
    let flood = INBOX_OUTSIDE_MESSAGES_MAX as u64 + 500;
    let now = nodes.now;
    for number in 0..flood {
        nodes.nodes[0].emit(rooms(&["room"]), &number.to_string());
        let said = nodes.nodes[0].said.next().expect("it was said");
        nodes.nodes[0].hub.say(&said, now);
        let post = nodes.nodes[0].hub.posts().pop_back().expect("it is said to the room");
        let delivery = Delivery { channel: post.channel, body: post.body, offset: None };
        nodes.nodes[1].hub.receive(&delivery, now);
    }
    let mesh = Arc::clone(&nodes.nodes[1].mesh);
    assert!(mesh.is_outside_full());
    assert!(mesh.send(ShardId(1), ShardMessage::Trace { sid: sid(1), is_on: true }).is_ok());
    let lost = nodes.nodes[1].link.stats.lost.get();
    assert!((500..600).contains(&lost), "{lost}");
    nodes.nodes[1].read_inboxes();
    let got = std::mem::take(&mut nodes.nodes[1].got);
    let place = got.iter().position(|message| matches!(message, ShardMessage::Trace { .. }));
    assert!(place.is_some_and(|place| place < 8), "it does not wait behind the flood: {place:?}");
    let events = got.iter().filter(|message| matches!(message, ShardMessage::Broadcast(_))).count();
    assert_eq!(events as u64, flood - lost);
}

/// With recovery on, one shard passes on what other processes say. Here that shard works, and the other one is stuck.
#[test]
fn a_flood_that_one_shard_passes_on_costs_no_message_between_shards() {
    type Say = fn(&Node, u64);
    let kinds: [Say; 2] = [
        |node, number| node.emit(rooms(&["room"]), &number.to_string()),
        |node, number| drop(node.change(rooms(&["room"]), SocketChange::Leave(number.to_string()))),
    ];
    for say in kinds {
        let mut nodes = Nodes::new(2);
        nodes.nodes[1].hold("room");
        nodes.settle();
        let (now, mesh) = (nodes.now, Arc::clone(&nodes.nodes[1].mesh));
        mesh.begin_relaying();
        let mut passed_on = 0;
        let flood = INBOX_MESSAGES_MAX as u64 + 2_000;
        for number in 0..flood {
            say(&nodes.nodes[0], number);
            let said = nodes.nodes[0].said.next().expect("it was said");
            nodes.nodes[0].hub.say(&said, now);
            let post = nodes.nodes[0].hub.posts().pop_back().expect("it is said to the room");
            let delivery = Delivery { channel: post.channel, body: post.body, offset: None };
            nodes.nodes[1].hub.receive(&delivery, now);
            // Now and then, so that much waits in its own inbox meanwhile.
            if number % 20_000 == 0 {
                passed_on += pass_on(&nodes.nodes[1]);
            }
        }
        passed_on += pass_on(&nodes.nodes[1]);
        assert!(mesh.is_outside_full(), "what comes waits");
        let lost = nodes.nodes[1].link.stats.lost.get();
        assert_eq!(passed_on + lost, flood, "what is not taken is counted");
        for _ in 0..INBOX_MESSAGES_MAX / 4 {
            assert!(mesh.send(ShardId(1), ShardMessage::Trace { sid: sid(1), is_on: true }).is_ok());
        }
    }
}

/// What shard 0 does with what it is told to relay, for shard 1: how many messages that were.
fn pass_on(node: &Node) -> u64 {
    let mut passed_on = 0;
    while let Some(message) = node.inboxes[0].next_message() {
        let message = match message {
            ShardMessage::Relay(broadcast) => ShardMessage::Broadcast(broadcast),
            ShardMessage::RelayCommand(told) => ShardMessage::Command(Box::new(told.command.clone()), None),
            _ => continue,
        };
        assert_eq!(node.mesh.send(ShardId(1), message), Ok(()), "after {passed_on}");
        passed_on += 1;
    }
    passed_on
}

#[test]
fn a_room_is_heard_for_a_while_after_its_last_member() {
    let mut nodes = Nodes::new(2);
    nodes.nodes[1].hold("room");
    nodes.settle();
    nodes.nodes[1].release("room");
    nodes.pass(LINGER - Duration::from_millis(500));
    nodes.nodes[1].hold("room");
    nodes.nodes[0].emit(rooms(&["room"]), "1");
    assert_eq!(nodes.take_got()[1], ["1"], "it came back, and the broker was not told");
    nodes.nodes[1].release("room");
    nodes.pass(LINGER + Duration::from_secs(1));
    let before = nodes.received()[1];
    nodes.nodes[0].emit(rooms(&["room"]), "2");
    nodes.settle();
    assert_eq!(nodes.received()[1], before, "it is heard no more");
    // A new connection hears what has members now.
    nodes.nodes[1].hold("room");
    nodes.disconnect(1);
    nodes.nodes[1].hold("another");
    nodes.connect(1);
    nodes.settle();
    for (room, args) in [("room", "3"), ("another", "4")] {
        nodes.nodes[0].emit(rooms(&[room]), args);
    }
    assert_eq!(nodes.take_got()[1], ["3", "4"]);
}

/// What is for rooms that nobody has here does not arrive, however many rooms have members here: of 2,000 events so many at most.
#[test]
fn what_is_for_rooms_of_nobody_does_not_arrive() {
    for (slots, held, arrived_max) in [(ROOM_SLOTS, 1_000, 4), (ROOM_SLOTS, 100_000, 80), (512, 10, 80)] {
        let mut nodes = Nodes::new(0);
        nodes.nodes = (0..2).map(|number| Node::with_slots(number, 1 + number as u8, slots)).collect();
        (0..held).for_each(|number| nodes.nodes[1].hold(&format!("room {number}")));
        (0..2).for_each(|node| nodes.connect(node));
        nodes.pass(Duration::from_millis(30));
        let arrived = |nodes: &mut Nodes, room: &dyn Fn(u64) -> String| {
            let before = nodes.received()[1];
            for number in 0..2_000 {
                nodes.nodes[0].emit(rooms(&[&room(number)]), "1");
                nodes.settle();
            }
            nodes.received()[1] - before
        };
        let in_vain = arrived(&mut nodes, &|number| format!("nobody's {number}"));
        assert!(in_vain <= arrived_max, "{held} rooms at {slots} slots: {in_vain} arrived");
        let all = arrived(&mut nodes, &|number| format!("room {}", number % held));
        assert_eq!(all, 2_000, "{held} rooms at {slots} slots");
    }
}

#[test]
fn a_hundred_thousand_rooms_come_and_go() {
    let mut nodes = Nodes::new(2);
    let names: Vec<String> = (0..100_000).map(|number| format!("room {number}")).collect();
    names.iter().for_each(|name| nodes.nodes[1].hold(name));
    let (add, remove) = nodes.nodes[1].hub.take_subscriptions(nodes.now);
    // What chance lets share a slot of 131,072.
    assert!((69_000..71_000).contains(&add.len()), "{}", add.len());
    assert_eq!(remove, []);
    let connection = nodes.nodes[1].connection.expect("it is connected");
    nodes.exchange.subscribe(connection, &add, &[]).expect("below the bound of channels");
    for name in names.iter().step_by(9973) {
        nodes.nodes[0].emit(rooms(&[name]), &format!("{name:?}"));
        assert_eq!(nodes.take_got()[1], [format!("{name:?}")]);
    }
    for _ in 0..3 {
        names.iter().for_each(|name| nodes.nodes[1].release(name));
        nodes.settle();
        names.iter().for_each(|name| nodes.nodes[1].hold(name));
        nodes.settle();
    }
    names.iter().for_each(|name| nodes.nodes[1].release(name));
    nodes.pass(LINGER * 2 + Duration::from_secs(1));
    assert_eq!(nodes.nodes[1].hub.subscriptions.heard(), 0);
    assert_eq!(nodes.nodes[1].holdings.len(), 0);
}
