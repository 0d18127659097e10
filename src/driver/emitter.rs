//! The thread of an emitter: what other threads say goes to a broker, and each of them learns what became of it.
//!
//! It serves no sockets and hears nobody: the hub makes the messages, in our own format and in those of others, and a broker takes them.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::bus::hub::{Hub, HubParts};
use crate::bus::make::{self, OnBroker};
use crate::bus::{Broker, Fault, Post, Receiver, Sender};
use crate::config::queue::MessageQueue;
use crate::driver::clock::Clock;
use crate::driver::companion;
use crate::mesh::Mesh;
use crate::mesh::link::{LinkStats, Said};
use crate::mesh::slots::Interests;
use crate::protocol::socketio::encode::EncodeError;

/// What is said at once, at most. After a connection has broken it is one at a time, so that one that breaks it harms no other.
const BATCH_MAX: usize = 256;

/// What one message costs while it waits, beside its bytes.
const ORDER_BYTES: usize = 512;

/// Between two tries to connect: so long at first, twice as long each time, up to the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));

/// What is said of a broker that takes longer than who speaks will wait.
const LATE: &str = "there was no answer in time";

/// Why something did not reach other processes, or is not known to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EmitError {
    /// The event's name is reserved, or its arguments cannot be JSON.
    Refused(EncodeError),
    /// `queue_bytes_max` bytes wait for the broker already.
    QueueFull,
    /// The message has more bytes than the broker takes, or than `queue_message_bytes_max`.
    TooLarge {
        /// How many it has.
        bytes: usize,
        /// How many it may have.
        bytes_max: usize,
    },
    /// The broker did not take it in time, or will not: what it or the system says.
    Unavailable(String),
    /// The connection broke while it was sent: others may have got it, or not.
    Unknown(String),
    /// It was waited for on a shard's thread, which that would stop. It is sent all the same.
    OnShard,
    /// The emitter's thread has died.
    Stopped,
}

impl fmt::Display for EmitError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EmitError::Refused(error) => error.fmt(formatter),
            EmitError::QueueFull => {
                formatter.write_str("not sent: queue_bytes_max bytes wait for the message queue already")
            }
            EmitError::TooLarge { bytes, bytes_max } => write!(
                formatter,
                "not sent: the message has {bytes} bytes, and the message queue takes {bytes_max} (queue_message_bytes_max)"
            ),
            EmitError::Unavailable(why) => {
                write!(formatter, "not sent: the message queue did not take it: {why}")
            }
            EmitError::Unknown(why) => {
                write!(
                    formatter,
                    "it is not known whether it was sent: the connection to the message queue broke: {why}"
                )
            }
            EmitError::OnShard => {
                formatter.write_str("wait() stops the shard whose thread it is called on: await instead")
            }
            EmitError::Stopped => formatter.write_str("not sent: the emitter's thread has died"),
        }
    }
}

impl std::error::Error for EmitError {}

/// What became of something that was said.
pub(crate) type Outcome = Result<(), EmitError>;

/// The side of those who say something. Any number of threads share one.
pub(crate) struct Speaker {
    orders: UnboundedSender<Order>,
    waiting_bytes: Arc<AtomicUsize>,
    bytes_max: usize,
}

/// Something that was said, until its outcome is known.
struct Order {
    said: Said,
    bytes: usize,
    /// When it is given up.
    until: Instant,
    reply: oneshot::Sender<Outcome>,
}

/// The side of the thread.
struct Speech {
    hub: Hub,
    orders: UnboundedReceiver<Order>,
    waiting_bytes: Arc<AtomicUsize>,
    message_bytes_max: usize,
    clock: Clock,
}

/// An order with its messages.
struct Spoken {
    order: Order,
    posts: Vec<Post>,
}

impl Speaker {
    /// Starts a thread for a queue. It ends when the last who could say something is gone and all is said.
    pub(crate) fn start(
        queue: MessageQueue,
        bytes_max: usize,
        message_bytes_max: usize,
    ) -> Result<Speaker, String> {
        let clock = Clock::new();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("the emitter's thread: {error}"))?;
        let (sender, orders) = unbounded_channel();
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let speaker = Speaker { orders: sender, waiting_bytes: Arc::clone(&waiting_bytes), bytes_max };
        let work = move || {
            let me = companion::identity(clock.unix_origin());
            let message_bytes_max = queue.message_bytes_max(message_bytes_max);
            let hub = Hub::new(HubParts {
                foreign: make::foreign_formats(&queue, &me, (&[], message_bytes_max)),
                slots: make::slots(&queue),
                me,
                mesh: Mesh::new(Vec::new()).0,
                endpoints: vec![None],
                interests: Arc::new(Interests::new()),
                stats: Arc::<LinkStats>::default(),
            });
            let speech = Speech { hub, orders, waiting_bytes, message_bytes_max, clock };
            runtime.block_on(make::serve(queue, speech));
        };
        let thread = std::thread::Builder::new().name("emitter".to_owned()).spawn(work);
        thread.map_err(|error| format!("cannot start the emitter's thread: {error}"))?;
        Ok(speaker)
    }

    /// Says something, which the broker has to take within this time. The outcome comes by the receiver.
    pub(crate) fn say(&self, said: Said, patience: Duration) -> oneshot::Receiver<Outcome> {
        let (reply, outcome) = oneshot::channel();
        let bytes = said.len_bytes() + ORDER_BYTES;
        let is_full = self.waiting_bytes.fetch_add(bytes, Relaxed) + bytes > self.bytes_max + ORDER_BYTES;
        if is_full {
            self.waiting_bytes.fetch_sub(bytes, Relaxed);
            let _ = reply.send(Err(EmitError::QueueFull));
            return outcome;
        }
        let now = Instant::now();
        let until = now.checked_add(patience).unwrap_or(now);
        // If the thread is gone, the reply is dropped with the order, which says so.
        let _ = self.orders.send(Order { said, bytes, until, reply });
        outcome
    }
}

impl OnBroker for Speech {
    async fn run(mut self, mut broker: impl Broker) {
        let mut connection = None;
        let mut spoken: Vec<Spoken> = Vec::new();
        let mut tries = 0;
        let mut reason: Option<String> = None;
        while self.gather(&mut spoken, tries, &mut connection).await {
            let until = spoken.iter().map(|spoken| spoken.order.until).min().unwrap_or_else(Instant::now);
            let mut fault = match self.send(&mut broker, &mut connection, &mut spoken, until).await {
                Ok(()) => {
                    (tries, reason) = (0, None);
                    continue;
                }
                Err(fault) => fault,
            };
            // The time may be over in the middle of a try: why the tries before it have failed says more.
            match &reason {
                Some(reason) if fault.text == LATE => fault.text = format!("{reason}; then {LATE}"),
                _ => reason = Some(fault.text.clone()),
            }
            connection = None;
            tries += 1;
            self.give_up(&mut spoken, &fault);
            if let Some(until) = spoken.iter().map(|spoken| spoken.order.until).min() {
                sleep_until(until.min(Instant::now() + pause(tries))).await;
                // No try without time: it would end in the middle.
                self.give_up(&mut spoken, &fault);
            }
        }
    }
}

impl Speech {
    /// Waits until there is something to say, and takes it. False: there never will be.
    async fn gather<S, R: Receiver>(
        &mut self,
        spoken: &mut Vec<Spoken>,
        tries: u32,
        connection: &mut Option<(S, R)>,
    ) -> bool {
        while spoken.is_empty() {
            let order = tokio::select! {
                order = self.orders.recv() => order,
                // A connection that breaks while nothing is said costs no message.
                () = broken(connection) => {
                    *connection = None;
                    continue;
                }
            };
            let Some(order) = order else { return false };
            spoken.extend(self.speak(order));
        }
        let batch = if tries == 0 { BATCH_MAX } else { 1 };
        while spoken.len() < batch
            && let Ok(order) = self.orders.try_recv()
        {
            spoken.extend(self.speak(order));
        }
        true
    }

    /// Makes the messages of an order.
    fn speak(&mut self, order: Order) -> Option<Spoken> {
        self.hub.say(&order.said, self.clock.now());
        let posts: Vec<Post> = self.hub.posts().drain(..).collect();
        self.check_size(Spoken { order, posts }, self.message_bytes_max)
    }

    /// Refuses what is too large.
    fn check_size(&self, spoken: Spoken, bytes_max: usize) -> Option<Spoken> {
        let bytes = spoken.posts.iter().map(|post| post.body.len_bytes()).max().unwrap_or(0);
        if bytes <= bytes_max {
            return Some(spoken);
        }
        self.finish(spoken, Err(EmitError::TooLarge { bytes, bytes_max }));
        None
    }

    /// Connects if that is needed, and sends all. What is sent is no longer there.
    async fn send<B: Broker>(
        &self,
        broker: &mut B,
        connection: &mut Option<(B::Sender, B::Receiver)>,
        spoken: &mut Vec<Spoken>,
        until: Instant,
    ) -> Result<(), Fault> {
        let (sender, _) = match connection {
            Some(there) => there,
            None => connection.insert(in_time(until, broker.connect()).await?),
        };
        let bytes_max = sender.body_bytes_max();
        let fitting =
            std::mem::take(spoken).into_iter().filter_map(|spoken| self.check_size(spoken, bytes_max));
        *spoken = fitting.collect();
        let posts: Vec<Post> = spoken.iter().flat_map(|spoken| spoken.posts.iter().cloned()).collect();
        if let Err(fault) = in_time(until, sender.publish(&posts)).await {
            // Of what may not be sent twice it is not known whether it is there already.
            for unsure in take_if(spoken, |spoken| spoken.posts.iter().any(|post| !post.may_repeat)) {
                self.finish(unsure, Err(EmitError::Unknown(fault.text.clone())));
            }
            return Err(fault);
        }
        spoken.drain(..).for_each(|spoken| self.finish(spoken, Ok(())));
        Ok(())
    }

    /// Ends what has no time left, or no hope.
    fn give_up(&self, spoken: &mut Vec<Spoken>, fault: &Fault) {
        let now = Instant::now();
        for late in take_if(spoken, |spoken| fault.is_lasting || spoken.order.until <= now) {
            self.finish(late, Err(EmitError::Unavailable(fault.text.clone())));
        }
    }

    fn finish(&self, spoken: Spoken, outcome: Outcome) {
        self.waiting_bytes.fetch_sub(spoken.order.bytes, Relaxed);
        // Who said it may not want to know.
        let _ = spoken.order.reply.send(outcome);
    }
}

/// Takes those for which it holds; the others keep their order.
fn take_if(spoken: &mut Vec<Spoken>, is_taken: impl Fn(&Spoken) -> bool) -> Vec<Spoken> {
    let (taken, left) = std::mem::take(spoken).into_iter().partition(is_taken);
    *spoken = left;
    taken
}

/// Until a connection breaks. What comes by it is for servers.
async fn broken<S, R: Receiver>(connection: &mut Option<(S, R)>) {
    match connection {
        Some((_, receiver)) => while receiver.next().await.is_ok() {},
        None => std::future::pending().await,
    }
}

async fn in_time<T>(until: Instant, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    match timeout_at(until, work).await {
        Ok(result) => result,
        Err(_) => Err(Fault::passing(LATE)),
    }
}

fn pause(tries: u32) -> Duration {
    let (least, most) = BACKOFF;
    least.saturating_mul(1 << tries.saturating_sub(1).min(8)).min(most)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::VecDeque;
    use std::rc::Rc;

    use bytes::Bytes;

    use super::*;
    use crate::bus::{Body, Channel, Delivery};
    use crate::message::address::Address;
    use crate::message::target::{SocketChange, SocketCommand, Target, ToldChange};

    /// Longer than anything here takes.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// A broker that does what it is told, and well when it is told nothing.
    #[derive(Clone, Default)]
    struct Scripted(Rc<RefCell<Script>>);

    #[derive(Default)]
    struct Script {
        connects: VecDeque<Result<(), Fault>>,
        publishes: VecDeque<Result<(), Fault>>,
        is_silent: bool,
        body_bytes_max: Option<usize>,
        connections: usize,
        taken: Vec<Vec<Post>>,
    }

    impl Broker for Scripted {
        type Sender = Scripted;
        type Receiver = Scripted;

        async fn connect(&mut self) -> Result<(Scripted, Scripted), Fault> {
            let next = self.0.borrow_mut().connects.pop_front();
            next.unwrap_or(Ok(()))?;
            self.0.borrow_mut().connections += 1;
            Ok((self.clone(), self.clone()))
        }

        fn slots(&self) -> u32 {
            1
        }

        fn keeps_messages(&self) -> bool {
            false
        }
    }

    impl Sender for Scripted {
        fn body_bytes_max(&self) -> usize {
            self.0.borrow().body_bytes_max.unwrap_or(usize::MAX)
        }

        async fn subscribe(&mut self, _: &[Channel], _: &[Channel]) -> Result<(), Fault> {
            unreachable!("an emitter hears nothing")
        }

        async fn publish(&mut self, posts: &[Post]) -> Result<(), Fault> {
            if self.0.borrow().is_silent {
                return std::future::pending().await;
            }
            let next = self.0.borrow_mut().publishes.pop_front();
            next.unwrap_or(Ok(()))?;
            self.0.borrow_mut().taken.push(posts.to_vec());
            Ok(())
        }
    }

    impl Receiver for Scripted {
        async fn next(&mut self) -> Result<Delivery, Fault> {
            std::future::pending().await
        }
    }

    fn pair(bytes_max: usize, message_bytes_max: usize) -> (Speaker, Speech) {
        let clock = Clock::new();
        let (sender, orders) = unbounded_channel();
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let speaker = Speaker { orders: sender, waiting_bytes: Arc::clone(&waiting_bytes), bytes_max };
        let hub = Hub::new(HubParts {
            foreign: Vec::new(),
            slots: 1,
            me: companion::identity(0),
            mesh: Mesh::new(Vec::new()).0,
            endpoints: vec![None],
            interests: Arc::new(Interests::new()),
            stats: Arc::default(),
        });
        (speaker, Speech { hub, orders, waiting_bytes, message_bytes_max, clock })
    }

    fn said(room: &str) -> Said {
        let target = Target { is_everyone: true, ..Target::default() };
        let change = SocketChange::Join(room.to_owned());
        Said::Change(ToldChange::new(SocketCommand { namespace: Address::new(None, "/"), target, change }))
    }

    /// What becomes of some words on a broker, and how many bytes wait in the end.
    fn outcomes(broker: &Scripted, patience: Duration, rooms: &[&str]) -> Vec<Outcome> {
        let (speaker, speech) = pair(1 << 20, 1000);
        let waiting: Vec<_> = rooms.iter().map(|room| speaker.say(said(room), patience)).collect();
        let waiting_bytes = Arc::clone(&speaker.waiting_bytes);
        drop(speaker);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let run = async { tokio::time::timeout(PATIENCE, speech.run(broker.clone())).await };
        runtime.block_on(run).expect("it ends when all is said");
        assert_eq!(waiting_bytes.load(Relaxed), 0);
        waiting.into_iter().map(|outcome| outcome.recv().expect("each has an outcome")).collect()
    }

    fn passing(text: &str) -> Result<(), Fault> {
        Err(Fault::passing(text))
    }

    fn script(change: impl FnOnce(&mut Script)) -> Scripted {
        let scripted = Scripted::default();
        change(&mut scripted.0.borrow_mut());
        scripted
    }

    #[test]
    fn a_broker_that_comes_in_time_takes_all_in_order() {
        let broker = script(|script| script.connects.extend([passing("not yet"), passing("not yet")]));
        let rooms: Vec<String> = (0..600).map(|number| format!("room {number}")).collect();
        let rooms: Vec<&str> = rooms.iter().map(String::as_str).collect();
        assert_eq!(outcomes(&broker, PATIENCE, &rooms), vec![Ok(()); 600]);
        let script = broker.0.borrow();
        assert_eq!(script.connections, 1);
        let posts: Vec<&Post> = script.taken.iter().flatten().collect();
        assert_eq!(posts.len(), rooms.len());
        for (post, room) in posts.iter().zip(&rooms) {
            assert!(
                matches!(&post.body, Body::Bytes(bytes) if bytes.ends_with(room.as_bytes())),
                "{room}: {post:?}"
            );
        }
        assert!(script.taken.iter().all(|batch| batch.len() <= BATCH_MAX));
    }

    #[test]
    fn what_cannot_be_sent_is_told() {
        let away = || script(|script| script.connects.extend((0..1000).map(|_| passing("nobody is there"))));
        let short = Duration::from_millis(120);
        assert_eq!(
            outcomes(&away(), short, &["a", "b"]),
            vec![Err(EmitError::Unavailable("nobody is there".to_owned())); 2]
        );
        let locked = script(|script| script.connects.push_back(Err(Fault::lasting("the password is wrong"))));
        assert_eq!(
            outcomes(&locked, PATIENCE, &["a"]),
            [Err(EmitError::Unavailable("the password is wrong".to_owned()))]
        );
        let silent = script(|script| script.is_silent = true);
        assert_eq!(
            outcomes(&silent, short, &["a"]),
            [Err(EmitError::Unavailable("there was no answer in time".to_owned()))]
        );
        let away_then_silent = script(|script| {
            script.connects.push_back(passing("nobody is there"));
            script.is_silent = true;
        });
        assert_eq!(
            outcomes(&away_then_silent, short, &["a"]),
            [Err(EmitError::Unavailable("nobody is there; then there was no answer in time".to_owned()))]
        );
        let narrow = script(|script| script.body_bytes_max = Some(60));
        let long = "a".repeat(50);
        let told = outcomes(&narrow, PATIENCE, &["a", &long, "b"]);
        assert!(matches!(told[1], Err(EmitError::TooLarge { bytes: 61.., bytes_max: 60 })), "{told:?}");
        assert_eq!((&told[0], &told[2], narrow.0.borrow().connections), (&Ok(()), &Ok(()), 1));
        let longer = "a".repeat(1000);
        let told = outcomes(&Scripted::default(), PATIENCE, &[&longer]);
        assert!(matches!(told[0], Err(EmitError::TooLarge { bytes_max: 1000, .. })), "{told:?}");
    }

    #[test]
    fn what_may_be_repeated_is_when_the_connection_breaks() {
        let broken = script(|script| script.publishes.extend([passing("reset"), passing("reset")]));
        assert_eq!(outcomes(&broken, PATIENCE, &["a", "b"]), [Ok(()), Ok(())]);
        let script = broken.0.borrow();
        assert_eq!((script.connections, script.taken.concat().len()), (3, 2));
    }

    #[test]
    fn what_may_not_be_repeated_is_told_to_be_unknown() {
        let broker = script(|script| script.publishes.push_back(passing("reset")));
        let (speaker, mut speech) = pair(1 << 20, 1000);
        let (foreign, own) = (speaker.say(said("a"), PATIENCE), speaker.say(said("b"), PATIENCE));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut connection: Option<(Scripted, Scripted)> = None;
            let mut spoken = Vec::new();
            assert!(speech.gather(&mut spoken, 0, &mut connection).await);
            spoken[0].posts.push(Post {
                channel: Channel::Python,
                body: Body::Bytes(Bytes::from_static(b"{}")),
                may_repeat: false,
            });
            let until = Instant::now() + PATIENCE;
            let fault = speech.send(&mut broker.clone(), &mut connection, &mut spoken, until).await;
            assert_eq!(fault.map_err(|fault| fault.text), Err("reset".to_owned()));
            assert_eq!(spoken.len(), 1);
        });
        assert_eq!(foreign.recv(), Ok(Err(EmitError::Unknown("reset".to_owned()))));
        assert!(!own.has_message(), "it is tried again");
    }

    #[test]
    fn a_full_queue_refuses_at_once() {
        let (speaker, speech) = pair(1000, 1000);
        let told: Vec<_> = (0..100).map(|_| speaker.say(said("a"), PATIENCE)).collect();
        let refused = told.into_iter().filter(|outcome| outcome.has_message()).map(|outcome| outcome.recv());
        let refused: Vec<_> = refused.collect();
        assert!(refused.len() > 90 && refused.len() < 100, "{}", refused.len());
        assert!(refused.iter().all(|outcome| *outcome == Ok(Err(EmitError::QueueFull))));
        drop(speech);
    }
}
