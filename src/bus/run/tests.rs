//! The loop at a broker that the test takes away, breaks and holds up, on a clock that stands still while anything happens.

use std::rc::Rc;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::*;
use crate::base::ids::{NodeTag, ShardId};
use crate::bus::Channel;
use crate::bus::hub::{HubParts, Identity};
use crate::bus::own::{self, AskWord, Asked, Envelope, Hello, To, Word};
use crate::mesh::link::{Link, LinkBounds, LinkError, Said};
use crate::mesh::{INBOX_OUTSIDE_MESSAGES_MAX, InboxReceiver, ShardMessage};
use crate::message::address::Address;
use crate::message::target::{Broadcast, Target};
use crate::protocol::socketio::encode::encode_event_raw;
use crate::protocol::socketio::frames::{FramedEvent, frame_raw};

/// What the broker was asked to do.
#[derive(Debug, PartialEq)]
enum Done {
    Connect(Instant),
    Subscribe(Vec<Channel>),
    /// What was emitted in a batch; other words by their names.
    Publish(Vec<String>),
}

/// How the broker is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Mood {
    #[default]
    Well,
    Down,
    /// Connections are not answered.
    Silent,
    NoSubscriptions,
    /// What is published is not acknowledged, and the connection stays.
    Hangs,
    /// What is sent ahead is taken, and never confirmed, as by a Redis that is stopped: its kernel takes it.
    Mute,
    /// The connection breaks with every batch that has this message.
    Chokes(u32),
    /// The connection breaks with every batch.
    Breaks,
}

#[derive(Default)]
struct State {
    mood: Mood,
    /// What all are told is delivered to the process itself, as real brokers do.
    gives_back: bool,
    /// Sent ahead and not confirmed.
    unconfirmed: usize,
    done: Vec<Done>,
    incoming: Option<mpsc::UnboundedSender<Result<Delivery, Fault>>>,
}

#[derive(Clone, Default)]
struct TestBroker(Rc<RefCell<State>>);

struct TestSender(TestBroker);

struct TestReceiver(mpsc::UnboundedReceiver<Result<Delivery, Fault>>);

fn broken<T>() -> Result<T, Fault> {
    Err(Fault::passing("as the test wants it"))
}

impl TestBroker {
    fn is_now(&self, mood: Mood) {
        self.0.borrow_mut().mood = mood;
    }

    fn mood(&self) -> Mood {
        self.0.borrow().mood
    }

    fn note(&self, done: Done) {
        self.0.borrow_mut().done.push(done);
    }

    fn deliver(&self, what: Result<Delivery, Fault>) {
        let state = self.0.borrow();
        let incoming = state.incoming.as_ref().expect("it was connected");
        // A connection that is over hears nothing.
        let _ = incoming.send(what);
    }

    /// Messages that were published, of one kind, in order.
    fn published(&self, is_meant: impl Fn(&str) -> bool) -> Vec<String> {
        let state = self.0.borrow();
        let batches = state.done.iter().filter_map(|done| match done {
            Done::Publish(batch) => Some(batch),
            _ => None,
        });
        batches.flatten().filter(|text| is_meant(text)).cloned().collect()
    }

    fn connects(&self) -> Vec<Instant> {
        let at = |done: &Done| if let Done::Connect(at) = done { Some(*at) } else { None };
        self.0.borrow().done.iter().filter_map(at).collect()
    }
}

impl Broker for TestBroker {
    type Sender = TestSender;
    type Receiver = TestReceiver;

    async fn connect(&mut self) -> Result<(TestSender, TestReceiver), Fault> {
        self.note(Done::Connect(Instant::now()));
        match self.mood() {
            Mood::Down => return broken(),
            Mood::Silent => std::future::pending().await,
            _ => {}
        }
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut state = self.0.borrow_mut();
        (state.incoming, state.unconfirmed) = (Some(sender), 0);
        drop(state);
        Ok((TestSender(self.clone()), TestReceiver(receiver)))
    }

    fn slots(&self) -> u32 {
        1024
    }

    fn keeps_messages(&self) -> bool {
        false
    }
}

impl Sender for TestSender {
    async fn subscribe(&mut self, add: &[Channel], _remove: &[Channel]) -> Result<(), Fault> {
        if matches!(self.0.mood(), Mood::NoSubscriptions | Mood::Down) {
            return broken();
        }
        self.0.note(Done::Subscribe(add.to_vec()));
        Ok(())
    }

    async fn publish(&mut self, posts: &[Post]) -> Result<(), Fault> {
        let batch: Vec<String> = posts.iter().map(shown).collect();
        let is_poisoned = |number: u32| batch.contains(&number.to_string());
        let mood = self.0.mood();
        self.0.note(Done::Publish(batch.clone()));
        match mood {
            Mood::Hangs => std::future::pending().await,
            Mood::Down | Mood::Breaks => broken(),
            Mood::Chokes(number) if is_poisoned(number) => broken(),
            _ if self.0.0.borrow().gives_back => {
                let all = posts.iter().filter(|post| post.channel == Channel::All).cloned();
                all.for_each(|Post { channel, body, .. }| {
                    self.0.deliver(Ok(Delivery { channel, body, offset: None }));
                });
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn send_ahead(&mut self, posts: &[Post]) -> Result<(), Fault> {
        if self.0.mood() != Mood::Mute {
            return self.publish(posts).await;
        }
        self.0.0.borrow_mut().unconfirmed += posts.len();
        Ok(())
    }

    fn unconfirmed(&mut self) -> Result<usize, Fault> {
        Ok(self.0.0.borrow().unconfirmed)
    }
}

impl Receiver for TestReceiver {
    async fn next(&mut self) -> Result<Delivery, Fault> {
        self.0.recv().await.unwrap_or_else(broken)
    }
}

fn shown(post: &Post) -> String {
    let Body::Bytes(bytes) = &post.body else { panic!("our own format is bytes") };
    match own::read(bytes).expect("our own format").word {
        Word::Emit { frame, .. } => FramedEvent::split(frame.0).expect("an event").args.to_owned(),
        Word::Report { question, .. } => format!("report {question}"),
        Word::Hello(_) => "hello".to_owned(),
        Word::Bye => "bye".to_owned(),
        other => panic!("nobody said {other:?}"),
    }
}

/// A process at the broker: what its shards and the test hold.
struct Process {
    link: Arc<Link>,
    mesh: Arc<Mesh>,
    inboxes: Vec<InboxReceiver>,
    rung_at: Arc<AtomicU64>,
    bell: CompanionBell,
    broker: TestBroker,
}

/// The bell of the shard: how many messages had come when it rang last.
struct ShardBell {
    stats: Arc<LinkStats>,
    rung_at: Arc<AtomicU64>,
}

impl Bell for ShardBell {
    fn ring(&self) {
        self.rung_at.store(self.stats.received.get(), Relaxed);
    }
}

fn process(bytes_max: usize) -> (Process, Line) {
    let bell = CompanionBell::new();
    let tag = NodeTag([1, 2, 3]);
    let bounds = LinkBounds { bytes_max, message_bytes_max: usize::MAX };
    let (link, receiver) = Link::new(tag, bounds, false, Box::new(bell.clone()));
    let (link, started) = (Arc::new(link), Instant::now());
    let rung_at = Arc::new(AtomicU64::new(0));
    let shard_bell = ShardBell { stats: Arc::clone(&link.stats), rung_at: Arc::clone(&rung_at) };
    let (mesh, inboxes) = Mesh::new(vec![Box::new(shard_bell)]);
    let hub = Hub::new(HubParts {
        me: Identity { id: [1; 16], tag, name: "process".to_owned(), started: 0 },
        mesh: Arc::clone(&mesh),
        endpoints: vec![None],
        interests: Arc::clone(&link.interests),
        stats: Arc::clone(&link.stats),
        slots: 1024,
        foreign: Vec::new(),
    });
    let line = Line {
        hub,
        link: receiver,
        bell: bell.clone(),
        mesh: Arc::clone(&mesh),
        stats: Arc::clone(&link.stats),
        message_bytes_max: 1000,
        place: "test".to_owned(),
        now: Box::new(move || Time(1000 + started.elapsed().as_millis() as u64)),
    };
    (Process { link, mesh, inboxes, rung_at, bell, broker: TestBroker::default() }, line)
}

impl Process {
    fn try_emit(&self, args: &str) -> Result<(), LinkError> {
        let mut frame = Vec::new();
        frame_raw(&mut frame, &[] as &[&[u8]], |out| encode_event_raw(out, "/", None, "said", args));
        let target = Target { rooms: ["room"].into_iter().collect(), ..Target::default() };
        let namespace = Address::new(None, "/");
        self.link.say(Said::Emit(Arc::new(Broadcast {
            namespace,
            target,
            frame: Arc::new(frame),
            ..Broadcast::default()
        })))
    }

    fn emit(&self, number: u32) {
        self.try_emit(&number.to_string()).expect("there is room");
    }
}

/// Runs a process while the test goes on, and then stops it.
async fn with_process<F: Future<Output = ()>>(bytes_max: usize, script: impl FnOnce(Rc<Process>) -> F) {
    let (process, line) = process(bytes_max);
    let process = Rc::new(process);
    let (broker, bell) = (process.broker.clone(), process.bell.clone());
    tokio::join!(line.run(broker), async {
        script(process).await;
        bell.stop();
    });
}

async fn seconds(number: f64) {
    sleep(Duration::from_secs_f64(number)).await;
}

fn is_number(text: &str) -> bool {
    text.parse::<u32>().is_ok()
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_not_there_at_first_gets_everything_after_the_subscriptions() {
    with_process(1 << 20, |process| async move {
        process.broker.is_now(Mood::Down);
        process.link.hold(&Address::new(None, "/"), Some("room"));
        (0..1000).for_each(|number| process.emit(number));
        seconds(10.0).await;
        let tries = process.broker.connects();
        assert!((20..=45).contains(&tries.len()), "{} tries in ten seconds", tries.len());
        let gaps: Vec<Duration> = tries.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.iter().all(|gap| *gap <= BACKOFF.1 + Duration::from_millis(2)), "{gaps:?}");
        let late = &gaps[8..];
        assert!(late.iter().any(|gap| *gap != late[0]), "each is of another length: {late:?}");
        assert!(!process.link.is_up());
        process.broker.0.borrow_mut().done.clear();
        process.broker.is_now(Mood::Well);
        seconds(1.0).await;
        assert!(process.link.is_up());
        let state = process.broker.0.borrow();
        let [Done::Connect(_), Done::Subscribe(channels), Done::Publish(_), ..] = &state.done[..] else {
            panic!("another order: {:?}", state.done);
        };
        assert!(channels.contains(&Channel::All) && channels.contains(&Channel::Node(NodeTag([1, 2, 3]))));
        assert!(channels.iter().any(|channel| matches!(channel, Channel::Slot(_))));
        drop(state);
        assert_eq!(process.broker.published(is_number), numbers(0..1000));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_absence_of_ten_seconds_costs_no_message_below_the_bound() {
    with_process(64 * 1024, |process| async move {
        seconds(3.0).await;
        process.emit(0);
        seconds(0.1).await;
        process.broker.is_now(Mood::Down);
        process.broker.deliver(broken());
        seconds(0.1).await;
        process.link.hold(&Address::new(None, "/"), Some("new"));
        let said = (1..10_000).take_while(|number| process.try_emit(&number.to_string()).is_ok()).count();
        assert!(said > 500 && said < 9_000, "a bound in bytes: {said}");
        assert_eq!(process.link.stats.refused.get(), 1);
        seconds(10.0).await;
        process.broker.is_now(Mood::Well);
        seconds(1.0).await;
        assert_eq!(process.broker.published(is_number), numbers(0..said as u32 + 1));
        assert_eq!((process.link.stats.lost.get(), process.link.stats.connects.get()), (0, 2));
        let state = process.broker.0.borrow();
        let subscribed = |done: &Done| matches!(done, Done::Subscribe(add) if add.len() == 3);
        assert!(state.done.iter().any(subscribed), "with what was joined meanwhile");
    })
    .await;
}

/// However long it was away: no pause between two tries is so long.
#[tokio::test(start_paused = true)]
async fn a_broker_that_is_back_is_connected_to_within_a_second() {
    for (away, mood) in [
        (0.1, Mood::Down),
        (0.7, Mood::Down),
        (3.0, Mood::Down),
        (60.0, Mood::Down),
        (3600.0, Mood::Down),
        (10.0, Mood::NoSubscriptions),
    ] {
        with_process(1 << 20, |process| async move {
            seconds(3.0).await;
            process.broker.is_now(mood);
            process.broker.deliver(broken());
            seconds(away).await;
            process.emit(0);
            process.broker.is_now(Mood::Well);
            process.broker.0.borrow_mut().done.clear();
            let is_back = Instant::now();
            while process.broker.published(is_number).is_empty() {
                seconds(0.001).await;
                assert!(is_back.elapsed() < Duration::from_millis(600), "{mood:?} for {away} s");
            }
            assert!(process.link.is_up());
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_known_to_have_arrived_is_sent_again_before_what_follows() {
    with_process(1 << 20, |process| async move {
        process.broker.0.borrow_mut().gives_back = true;
        // Between two hellos.
        seconds(2.5).await;
        process.broker.is_now(Mood::Breaks);
        (0..3).for_each(|number| process.emit(number));
        seconds(0.001).await;
        process.broker.is_now(Mood::Well);
        (3..5).for_each(|number| process.emit(number));
        seconds(1.0).await;
        let expected = [numbers(0..3), numbers(0..5)].concat();
        assert_eq!(process.broker.published(is_number), expected);
        assert_eq!(process.link.stats.lost.get(), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_waited_is_held_until_who_was_known_is_back_while_hellos_go_out() {
    for (is_back, stops) in [(true, false), (false, false), (false, true)] {
        with_process(1 << 20, |process| async move {
            seconds(2.5).await;
            process.broker.deliver(said(5, 1, hello()));
            seconds(0.1).await;
            process.broker.is_now(Mood::Breaks);
            // These two are taken, and break the connection; the others wait in the link.
            (0..2).for_each(|number| process.emit(number));
            seconds(0.001).await;
            process.broker.is_now(Mood::Down);
            (2..1000).for_each(|number| process.emit(number));
            seconds(4.0).await;
            process.broker.is_now(Mood::Well);
            process.broker.0.borrow_mut().done.clear();
            seconds(0.6).await;
            assert!(process.link.is_up());
            assert_eq!(process.broker.published(|_| true), ["hello"], "one, and no turn without end");
            process.link.hold(&Address::new(None, "/"), Some("new"));
            seconds(0.001).await;
            let subscribed = |done: &Done| matches!(done, Done::Subscribe(add) if add.len() == 1);
            assert!(process.broker.0.borrow().done.iter().any(subscribed), "a join does not wait");
            match (is_back, stops) {
                (true, _) => process.broker.deliver(said(5, 2, hello())),
                (_, true) => process.bell.stop(),
                _ => seconds(0.9).await,
            }
            seconds(0.01).await;
            assert_eq!(process.broker.published(is_number), numbers(0..1000), "{is_back} {stops}");
            assert_eq!(process.link.stats.lost.get(), 0);
            if stops {
                assert_eq!(process.broker.published(|_| true).last().map(String::as_str), Some("bye"));
            }
        })
        .await;
    }
}

#[test]
fn what_a_broken_connection_costs_depends_on_what_was_tried_and_heard_on_it() {
    let post = |may_repeat| Post { channel: Channel::Python, body: Body::Bytes(Bytes::new()), may_repeat };
    // Whether the broker gave something, attempts and suspects before, what was tried; then what is left, lost, and the two after it.
    let rows = [
        (true, (0, 0), 0, (4, 0), (0, 0)),
        (false, (0, 0), 4, (2, 2), (0, 2)),
        (true, (0, 0), 4, (2, 2), (1, 2)),
        (true, (1, 4), 1, (4, 0), (2, 4)),
        (false, (2, 4), 1, (4, 0), (2, 4)),
        (true, (2, 4), 0, (4, 0), (2, 4)),
        (true, (2, 4), 1, (3, 1), (0, 3)),
    ];
    for (row, (is_heard, (attempts, suspects), tried, left, after)) in rows.into_iter().enumerate() {
        let stats = LinkStats::default();
        let posts = [true, false, false, true].map(post).to_vec();
        let mut batch = Batch { posts, tried, attempts, suspects, is_heard, ..Batch::default() };
        batch.disconnected(&stats);
        assert_eq!((batch.posts.len(), stats.lost.get()), left, "row {row}");
        assert_eq!((batch.attempts, batch.suspects, batch.tried), (after.0, after.1, 0), "row {row}");
    }
    let stats = LinkStats::default();
    let mut batch = Batch { posts: vec![post(false)], tried: 1, ..Batch::default() };
    batch.disconnected(&stats);
    batch.posts.push(post(false));
    batch.disconnected(&stats);
    assert_eq!((batch.posts.len(), stats.lost.get()), (1, 1), "what is new has not been tried");
}

#[tokio::test(start_paused = true)]
async fn a_message_that_breaks_each_connection_is_given_up_and_no_other() {
    with_process(1 << 20, |process| async move {
        process.broker.0.borrow_mut().gives_back = true;
        seconds(3.0).await;
        process.broker.is_now(Mood::Chokes(1));
        (0..3).for_each(|number| process.emit(number));
        seconds(5.0).await;
        process.emit(3);
        seconds(1.0).await;
        // Once with the others, and then alone.
        let published = process.broker.published(is_number);
        assert_eq!(published.iter().filter(|text| *text == "1").count(), ATTEMPTS_MAX as usize);
        assert_eq!(published[published.len() - 2..], ["2", "3"]);
        assert_eq!(process.link.stats.lost.get(), 1, "{:?}", process.link.stats);
        assert_eq!(process.link.stats.connects.get(), 1 + u64::from(ATTEMPTS_MAX));
    })
    .await;
}

/// However often it does: it is the broker that is ill, and not what is sent.
#[tokio::test(start_paused = true)]
async fn a_broker_that_breaks_before_it_says_a_word_costs_no_message() {
    with_process(1 << 20, |process| async move {
        seconds(2.5).await;
        process.broker.is_now(Mood::Breaks);
        (0..3).for_each(|number| process.emit(number));
        seconds(30.0).await;
        (3..500).for_each(|number| process.emit(number));
        seconds(30.0).await;
        assert!(process.link.stats.connects.get() > 20);
        process.broker.is_now(Mood::Well);
        process.broker.0.borrow_mut().done.clear();
        seconds(2.5).await;
        assert_eq!(process.broker.published(is_number), numbers(0..500));
        assert_eq!(process.link.stats.lost.get(), 0);
    })
    .await;
}

/// What waits for the broker's first word does not wait when the process ends.
#[tokio::test(start_paused = true)]
async fn an_end_sends_also_what_may_have_broken_a_connection() {
    let (process, line) = process(1 << 20);
    let script = async {
        seconds(2.5).await;
        process.broker.is_now(Mood::Breaks);
        (0..3).for_each(|number| process.emit(number));
        seconds(0.001).await;
        process.broker.is_now(Mood::Well);
        process.broker.0.borrow_mut().done.clear();
        seconds(0.2).await;
        assert_eq!(process.broker.published(is_number), Vec::<String>::new(), "they wait for a word");
        process.bell.stop();
    };
    tokio::join!(line.run(process.broker.clone()), script);
    assert_eq!(process.broker.published(is_number), numbers(0..3));
    assert_eq!(process.broker.published(|_| true).last().map(String::as_str), Some("bye"));
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_breaks_whatever_it_accepts_is_not_hammered() {
    with_process(1 << 20, |process| async move {
        for mood in [Mood::Breaks, Mood::NoSubscriptions] {
            process.broker.is_now(mood);
            seconds(5.0).await;
            let before = process.broker.connects().len();
            seconds(10.0).await;
            let tries = process.broker.connects().len() - before;
            assert!((15..=45).contains(&tries), "{mood:?}: {tries} tries in ten seconds");
        }
        process.broker.is_now(Mood::Well);
        process.emit(7);
        seconds(1.0).await;
        assert_eq!(process.broker.published(is_number).last().map(String::as_str), Some("7"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_within_a_second_and_says_goodbye_if_somebody_listens() {
    for mood in [Mood::Well, Mood::Down, Mood::Silent, Mood::Hangs, Mood::NoSubscriptions] {
        for waits in [false, true] {
            let (process, line) = process(1 << 20);
            process.broker.is_now(mood);
            let script = async {
                seconds(2.0).await;
                if waits {
                    (0..1000).for_each(|number| process.emit(number));
                }
                process.bell.stop();
                Instant::now()
            };
            let run = async {
                line.run(process.broker.clone()).await;
                Instant::now()
            };
            let (ended, stopped) = tokio::join!(run, script);
            let took = ended - stopped;
            assert!(took <= GOODBYE_TIMEOUT + Duration::from_millis(2), "{mood:?} {waits}: {took:?}");
            if mood == Mood::Well {
                assert!(took < Duration::from_millis(2));
                let expected = if waits { numbers(0..1000) } else { Vec::new() };
                assert_eq!(process.broker.published(is_number), expected);
                assert_eq!(process.broker.published(|_| true).last().map(String::as_str), Some("bye"));
            }
        }
    }
}

#[test]
fn a_broker_has_the_time_for_a_connection_that_its_channels_take() {
    let rows = [(0, 10), (1, 10), (100_000, 10), (100_001, 20), (4_194_304, 420)];
    for (channels, seconds) in rows {
        assert_eq!(time_to_subscribe(channels), Duration::from_secs(seconds), "{channels}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_hangs_is_replaced() {
    with_process(1 << 20, |process| async move {
        process.broker.0.borrow_mut().gives_back = true;
        for is_broken in [true, false] {
            // Between two hellos.
            seconds(2.5).await;
            let before = process.link.stats.connects.get();
            process.broker.is_now(Mood::Hangs);
            process.emit(1);
            seconds(1.5).await;
            assert!(!process.broker.published(is_number).is_empty());
            process.broker.is_now(Mood::Well);
            process.broker.0.borrow_mut().done.clear();
            if is_broken {
                // The receiver hears of it while the sender still waits.
                process.broker.deliver(broken());
                seconds(1.0).await;
            } else {
                seconds(SEND_TIMEOUT.as_secs_f64()).await;
            }
            assert_eq!(process.link.stats.connects.get(), before + 1, "{is_broken}");
            assert_eq!(process.broker.published(is_number), ["1"], "{is_broken}");
        }
    })
    .await;
}

/// Whether this process has something to say or says hello only.
#[tokio::test(start_paused = true)]
async fn a_broker_that_takes_all_and_confirms_nothing_is_left() {
    for speaks in [true, false] {
        with_process(1 << 20, |process| async move {
            seconds(2.5).await;
            let connects = || process.link.stats.connects.get();
            process.broker.is_now(Mood::Mute);
            if speaks {
                process.emit(1);
            }
            seconds(SEND_TIMEOUT.as_secs_f64() / 2.0).await;
            assert_eq!(connects(), 1, "it may be slow");
            seconds(SEND_TIMEOUT.as_secs_f64()).await;
            assert_eq!(connects(), 2, "{speaks}");
            process.broker.is_now(Mood::Well);
            seconds(2.0 * SEND_TIMEOUT.as_secs_f64()).await;
            assert!(connects() <= 3 && process.link.is_up(), "{speaks}");
        })
        .await;
    }
}

fn said(from: u8, sequence: u64, word: Word<'_>) -> Result<Delivery, Fault> {
    let bytes = own::write(&Envelope { from: [from; 16], sequence, word });
    Ok(Delivery { channel: Channel::All, body: Body::Bytes(Bytes::from(bytes)), offset: None })
}

fn hello<'a>() -> Word<'a> {
    Word::Hello(Hello {
        name: "peer",
        tag: [5; 3],
        started: 0,
        sockets: Vec::new(),
        is_new: false,
        have_moved: false,
    })
}

#[tokio::test(start_paused = true)]
async fn questions_of_others_are_answered_while_much_is_said() {
    with_process(1 << 24, |process| async move {
        seconds(0.1).await;
        let (namespace, target) = (Address::new(None, "/"), Target::default());
        let ask = Word::Ask {
            question: Asked { number: 8, by: [5; 3] },
            to: To::new(&namespace, &target),
            ask: AskWord::Ids,
            timeout_millis: 1000,
        };
        process.broker.deliver(said(5, 1, hello()));
        process.broker.deliver(said(5, 2, ask));
        for number in 0..40_000 {
            process.emit(number);
        }
        // The shard answers at once; the companion has not sent all by then.
        while !process.broker.published(|text| text == "report 8").iter().any(|_| true) {
            for inbox in &process.inboxes {
                while let Some(message) = inbox.next_message() {
                    let ShardMessage::Request(request) = message else { continue };
                    let _ = request.reply.send(Ok(Findings::default()));
                }
            }
            tokio::task::yield_now().await;
        }
        let published = process.broker.published(is_number).len();
        assert!(published < 40_000, "it was answered after all that was said");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_is_stuck_does_not_make_the_process_deaf() {
    with_process(1 << 20, |process| async move {
        seconds(0.1).await;
        let sid = crate::base::ids::Sid::new(ShardId(0), [0; 13]);
        while process.mesh.send_from_outside(ShardId(0), ShardMessage::Trace { sid, is_on: true }).is_ok() {}
        assert!(process.mesh.is_outside_full());
        let started = Instant::now();
        for sequence in 0..100 {
            process.broker.deliver(said(5, sequence + 1, hello()));
        }
        let received = || process.link.stats.received.get();
        while received() < 100 {
            seconds(0.01).await;
        }
        assert!(started.elapsed() < FULL_PATIENCE * 2, "{:?} for a hundred messages", started.elapsed());
        // With room there is patience again: what comes then waits for it, and is not lost.
        let inbox = &process.inboxes[0];
        (0..INBOX_OUTSIDE_MESSAGES_MAX).for_each(|_| drop(inbox.next_message()));
        process.broker.deliver(said(5, 200, hello()));
        seconds(0.01).await;
        while process.mesh.send_from_outside(ShardId(0), ShardMessage::Trace { sid, is_on: true }).is_ok() {}
        process.broker.deliver(said(5, 201, hello()));
        seconds(FULL_PATIENCE.as_secs_f64() / 2.0).await;
        assert_eq!(received(), 101);
        seconds(FULL_PATIENCE.as_secs_f64()).await;
        assert_eq!(received(), 102);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_shard_is_woken_once_for_all_that_has_arrived() {
    with_process(1 << 20, |process| async move {
        seconds(0.1).await;
        let inbox = &process.inboxes[0];
        while inbox.next_message().is_some() {}
        assert!(process.mesh.fall_asleep(ShardId(0), inbox));
        let (namespace, target) = (Address::new(None, "/"), Target::default());
        for number in 1..=10 {
            let question = Asked { number, by: [5; 3] };
            let to = To::new(&namespace, &target);
            let ask = Word::Ask { question, to, ask: AskWord::Ids, timeout_millis: 1000 };
            process.broker.deliver(said(5, number, ask));
        }
        seconds(0.01).await;
        assert_eq!(process.rung_at.load(Relaxed), 10, "messages that had come when it was woken");
        assert_eq!(std::iter::from_fn(|| inbox.next_message()).count(), 10);
    })
    .await;
}
