//! The broker in memory for servers: the exchanges of this process by their names, and how a thread waits for a message.

#![expect(
    clippy::disallowed_types,
    reason = "companion threads of several servers meet here, never a shard; the lock is short"
)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use tokio::sync::Notify;

use super::super::{Broker, Channel, Delivery, Fault, Post, ReadBack, Receiver, Sender};
use super::{Exchange, Link, SLOTS};
use crate::message::recovery::Position;

/// Names of exchanges that servers of this process have at a time.
pub(crate) const MEMORY_EXCHANGES_MAX: usize = 1024;

/// The exchanges that a server has, by name. One that no server has any more is forgotten.
static EXCHANGES: Mutex<BTreeMap<Box<str>, Weak<Mutex<Shared>>>> = Mutex::new(BTreeMap::new());

/// An exchange, and the bells of those who wait.
#[derive(Default)]
struct Shared {
    exchange: Exchange,
    bells: BTreeMap<Link, Arc<Notify>>,
}

impl Shared {
    fn ring(&mut self) {
        for link in self.exchange.take_woken() {
            if let Some(bell) = self.bells.get(&link) {
                bell.notify_one();
            }
        }
    }
}

/// A panic while it was locked was one of a test's: what is inside is whole after each call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The exchange of a name.
pub(crate) struct MemoryBroker {
    name: Box<str>,
    /// Kept from the first connection on.
    shared: Option<Arc<Mutex<Shared>>>,
}

impl MemoryBroker {
    /// The name is what stands behind `memory:`; none is a name, too.
    pub(crate) fn new(name: &str) -> Self {
        MemoryBroker { name: name.into(), shared: None }
    }

    /// The exchange itself: whether it keeps sockets is said there, and tests stop and start it.
    pub(crate) fn with_exchange<T>(&mut self, work: impl FnOnce(&mut Exchange) -> T) -> Result<T, Fault> {
        let shared = self.shared()?;
        let mut shared = lock(&shared);
        let result = work(&mut shared.exchange);
        shared.ring();
        Ok(result)
    }

    fn shared(&mut self) -> Result<Arc<Mutex<Shared>>, Fault> {
        if let Some(shared) = &self.shared {
            return Ok(Arc::clone(shared));
        }
        let mut exchanges = lock(&EXCHANGES);
        exchanges.retain(|_, shared| shared.strong_count() > 0);
        let known = exchanges.get(&self.name).and_then(Weak::upgrade);
        let shared = match known {
            Some(shared) => shared,
            None if exchanges.len() >= MEMORY_EXCHANGES_MAX => {
                return Err(Fault::lasting(format!(
                    "this process has {MEMORY_EXCHANGES_MAX} exchanges in memory, the most that it may"
                )));
            }
            None => {
                let shared = Arc::default();
                exchanges.insert(self.name.clone(), Arc::downgrade(&shared));
                shared
            }
        };
        self.shared = Some(Arc::clone(&shared));
        Ok(shared)
    }
}

impl Broker for MemoryBroker {
    type Sender = MemorySender;
    type Receiver = MemoryReceiver;

    async fn connect(&mut self) -> Result<(MemorySender, MemoryReceiver), Fault> {
        let shared = self.shared()?;
        let mut inside = lock(&shared);
        let link = inside.exchange.connect()?;
        let bell = Arc::<Notify>::default();
        inside.bells.insert(link, Arc::clone(&bell));
        drop(inside);
        let connection = Arc::new(Connection { shared, link });
        Ok((MemorySender(Arc::clone(&connection)), MemoryReceiver { connection, bell }))
    }

    fn slots(&self) -> u32 {
        SLOTS
    }

    fn keeps_messages(&self) -> bool {
        false
    }

    fn keep_sockets(&mut self) {
        // A name that cannot be had is told when it is connected to.
        let _ = self.with_exchange(Exchange::keep);
    }
}

/// One connection; it ends when both its halves are gone.
struct Connection {
    shared: Arc<Mutex<Shared>>,
    link: Link,
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut shared = lock(&self.shared);
        shared.exchange.disconnect(self.link);
        shared.bells.remove(&self.link);
    }
}

pub(crate) struct MemorySender(Arc<Connection>);

impl Sender for MemorySender {
    async fn subscribe(&mut self, add: &[Channel], remove: &[Channel]) -> Result<(), Fault> {
        lock(&self.0.shared).exchange.subscribe(self.0.link, add, remove)
    }

    async fn publish(&mut self, posts: &[Post]) -> Result<(), Fault> {
        let mut shared = lock(&self.0.shared);
        let result = shared.exchange.publish(self.0.link, posts);
        shared.ring();
        result
    }

    async fn take_records(&mut self, names: &[String]) -> Result<Vec<Option<Bytes>>, Fault> {
        Ok(lock(&self.0.shared).exchange.take_records(names))
    }

    async fn read_back(&mut self, from: Position, len_max: usize) -> Result<ReadBack, Fault> {
        Ok(lock(&self.0.shared).exchange.read_back(from, len_max))
    }
}

pub(crate) struct MemoryReceiver {
    connection: Arc<Connection>,
    bell: Arc<Notify>,
}

impl Receiver for MemoryReceiver {
    async fn next(&mut self) -> Result<Delivery, Fault> {
        loop {
            let taken = lock(&self.connection.shared).exchange.take(self.connection.link)?;
            if let Some(delivery) = taken {
                return Ok(delivery);
            }
            self.bell.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bus::Body;
    use crate::bus::contract::{Venue, contract};

    fn post(text: &'static str) -> Post {
        Post {
            channel: Channel::All,
            body: Body::Bytes(Bytes::from_static(text.as_bytes())),
            may_repeat: false,
        }
    }

    /// One runtime of a thread of its own, as a server's companion has it.
    fn on_companion<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(20), work).await.expect("it does not hang")
        })
    }

    #[test]
    fn two_threads_meet_by_name() {
        let (ready, is_ready) = std::sync::mpsc::channel();
        let hearing = std::thread::Builder::new().spawn(move || {
            on_companion(async {
                let mut broker = MemoryBroker::new("two threads");
                let (mut sender, mut receiver) = broker.connect().await.expect("it is up");
                sender.subscribe(&[Channel::All], &[]).await.expect("it is up");
                ready.send(()).expect("the other thread waits");
                // Asleep with great likelihood when the message comes; either way it must arrive.
                receiver.next().await.expect("a message")
            })
        });
        on_companion(async {
            is_ready.recv().expect("the other thread subscribes");
            let mut elsewhere = MemoryBroker::new("elsewhere");
            let mut broker = MemoryBroker::new("two threads");
            for (broker, text) in [(&mut elsewhere, "unheard"), (&mut broker, "heard")] {
                let (mut sender, _receiver) = broker.connect().await.expect("it is up");
                sender.publish(&[post(text)]).await.expect("it is up");
            }
        });
        let delivery = hearing.expect("a thread").join().expect("it does not panic");
        assert_eq!(delivery.body, post("heard").body);
    }

    #[test]
    fn a_stop_wakes_who_waits_and_a_new_connection_works() {
        on_companion(async {
            let mut broker = MemoryBroker::new("a stop");
            let (sender, mut receiver) = broker.connect().await.expect("it is up");
            let (ended, ()) = tokio::join!(receiver.next(), async {
                broker.with_exchange(Exchange::stop).expect("a name that is known");
            });
            let text = ended.expect_err("the connection breaks").text;
            assert!(text.contains("stopped"), "{text}");
            assert!(broker.connect().await.is_err());
            drop((sender, receiver));
            broker.with_exchange(Exchange::start).expect("a name that is known");
            let (mut sender, mut receiver) = broker.connect().await.expect("it is up again");
            sender.subscribe(&[Channel::All], &[]).await.expect("it is up");
            sender.publish(&[post("again")]).await.expect("it is up");
            assert_eq!(receiver.next().await.expect("a message").body, post("again").body);
            drop((sender, receiver));
            assert_eq!(broker.with_exchange(|exchange| exchange.connections()).expect("known"), 0);
        });
    }

    #[test]
    fn a_wait_that_is_dropped_loses_nothing() {
        on_companion(async {
            let mut broker = MemoryBroker::new("a dropped wait");
            let (mut sender, mut receiver) = broker.connect().await.expect("it is up");
            sender.subscribe(&[Channel::All], &[]).await.expect("it is up");
            for text in ["one", "two"] {
                let posts = [post(text)];
                tokio::select! {
                    biased;
                    _ = receiver.next() => panic!("nothing is there yet"),
                    published = sender.publish(&posts) => published.expect("it is up"),
                }
                assert_eq!(receiver.next().await.expect("a message").body, post(text).body);
            }
        });
    }

    #[test]
    fn a_name_is_forgotten_with_its_last_server() {
        on_companion(async {
            let mut first = MemoryBroker::new("forgotten");
            first.with_exchange(Exchange::stop).expect("a name that is known");
            assert!(MemoryBroker::new("forgotten").connect().await.is_err(), "the same exchange");
            drop(first);
            assert!(MemoryBroker::new("forgotten").connect().await.is_ok(), "a new one");
        });
    }

    /// An exchange in memory, of another name for each test.
    struct MemoryVenue {
        name: String,
    }

    impl MemoryVenue {
        fn start() -> MemoryVenue {
            MemoryVenue { name: format!("venue {:?}", std::thread::current().id()) }
        }
    }

    impl Venue for MemoryVenue {
        type Client = MemoryBroker;

        fn client(&self, channel: &str) -> MemoryBroker {
            MemoryBroker::new(&format!("{} {channel}", self.name))
        }

        fn client_of_nobody(&self) -> Option<MemoryBroker> {
            None
        }

        fn client_with(&self, _password: &str) -> Option<MemoryBroker> {
            None
        }

        fn kill(&mut self) {
            for channel in ["broken", "kept"] {
                self.client(channel).with_exchange(Exchange::stop).expect("a name that is known");
            }
        }

        fn restart(&mut self) {
            for channel in ["broken", "kept"] {
                self.client(channel).with_exchange(Exchange::start).expect("a name that is known");
            }
        }
    }

    mod rules {
        use super::*;
        contract!(MemoryVenue::start());
    }
}
