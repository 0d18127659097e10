//! Kafka, the half with IO: the crate `rskafka`, without groups: this process alone knows where it has read to.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::future::try_join_all;
use rskafka::BackoffConfig;
use rskafka::chrono::{DateTime, Utc};
use rskafka::client::error::{Error, ProtocolError};
use rskafka::client::partition::{Compression, OffsetAt, PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder};
use rskafka::record::{Record, RecordAndOffset};
use rustc_hash::FxHashSet;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use super::{
    KAFKA_BODY_BYTES_MAX, KAFKA_FETCH_BYTES_MAX, Names, SLOTS, Topic, batches, channel, partition, route,
};
use crate::bus::body::bytes_within;
use crate::bus::{Body, Broker, Channel, Delivery, Fault, Post, Receiver, Sender};
use crate::config::queue::address::Host;

/// How long a connection may take to be made; the first one makes the topics.
pub(crate) const KAFKA_CONNECT_TIMEOUT: Duration = Duration::from_secs(8);

/// How long Kafka may take to answer that it has messages.
pub(crate) const KAFKA_ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a request for records waits at Kafka until there is one.
const FETCH_WAIT_MILLIS: i32 = 1000;

/// How long the crate goes on trying by itself, for example while a new partition gets a leader.
const RETRY_DEADLINE: Duration = Duration::from_secs(1);

/// A pause where Kafka says that there is something, and gives nothing that can be read.
const EMPTY_PAUSE: Duration = Duration::from_millis(100);

/// Partitions of our topic, if it is made here: one keeps the order of everything.
const PARTITIONS: i32 = 1;

/// As many partitions, or copies of one, as Kafka is told to make.
const AS_CONFIGURED: i32 = -1;

/// With which record reading goes on, for each partition that has been read; it outlives connections.
type Places = Arc<Mutex<BTreeMap<(Topic, i32), Arc<AtomicI64>>>>;

pub(crate) struct KafkaBroker {
    hosts: Vec<String>,
    names: Names,
    places: Places,
    /// Chooses the partition of what has no key.
    salt: u64,
}

impl KafkaBroker {
    /// The servers are those to ask first; they name the others.
    pub(crate) fn new(hosts: &[Host], channel: &str) -> KafkaBroker {
        let hosts = hosts.iter().map(ToString::to_string).collect();
        let (names, salt) = (Names::new(channel), RandomState::new().build_hasher().finish());
        KafkaBroker { hosts, names, places: Places::default(), salt }
    }

    async fn client(&self, deadline: Duration) -> Result<Client, Fault> {
        let backoff = BackoffConfig {
            init_backoff: Duration::from_millis(50),
            max_backoff: Duration::from_millis(500),
            base: 2.0,
            deadline: Some(deadline),
        };
        let builder = ClientBuilder::new(self.hosts.clone()).client_id("shardcast").backoff_config(backoff);
        builder.build().await.map_err(|error| {
            let hosts = self.hosts.join(", ");
            Fault::passing(format!("no connection to Kafka at {hosts}: {error}"))
        })
    }

    async fn open(&self) -> Result<(KafkaSender, KafkaReceiver), Fault> {
        self.names.check()?;
        let topics = Topics {
            patient: self.client(RETRY_DEADLINE).await?,
            direct: self.client(Duration::ZERO).await?,
            names: self.names.clone(),
            places: Arc::clone(&self.places),
        };
        let parts = topics.open(Topic::Ours).await?;
        let producers = topics.producers(Topic::Ours, parts.len()).await?;
        let (changes, changed) = mpsc::unbounded_channel();
        let sender = KafkaSender {
            topics,
            producers: BTreeMap::from([(Topic::Ours, producers)]),
            reads_python: false,
            changes,
            salt: self.salt,
        };
        let (fetched, batches) = mpsc::channel(1);
        let receiver = KafkaReceiver {
            changed,
            wanted: FxHashSet::default(),
            waiting: parts,
            tasks: JoinSet::new(),
            fetched,
            batches,
            batch: None,
        };
        Ok((sender, receiver))
    }
}

impl Broker for KafkaBroker {
    type Sender = KafkaSender;
    type Receiver = KafkaReceiver;

    async fn connect(&mut self) -> Result<(KafkaSender, KafkaReceiver), Fault> {
        in_time(KAFKA_CONNECT_TIMEOUT, self.open()).await
    }

    fn slots(&self) -> u32 {
        SLOTS
    }

    fn keeps_messages(&self) -> bool {
        true
    }
}

/// What there is on the broker.
struct Topics {
    /// Tries again for a moment: a new topic has no leader at once.
    patient: Client,
    /// Tries nothing twice. What is sent might be there twice, and who reads must know soon that the broker is gone.
    direct: Client,
    names: Names,
    places: Places,
}

/// A partition that is read.
struct Part {
    topic: Topic,
    client: PartitionClient,
    /// With which record reading goes on.
    next: Arc<AtomicI64>,
}

/// How often a topic that was just made is looked for, and the pause before each further look.
const TOPIC_LOOKS_MAX: u32 = 20;
const TOPIC_LOOK_EVERY: Duration = Duration::from_millis(100);

impl Topics {
    /// The partitions of a topic, which is made if it is missing.
    async fn open(&self, topic: Topic) -> Result<Vec<Part>, Fault> {
        let name = self.names.topic(topic);
        let mut partitions = self.partitions(name).await?;
        if partitions.is_empty() {
            self.make(topic).await?;
            // The broker that made it may be asked before it knows of that.
            for _ in 0..TOPIC_LOOKS_MAX {
                partitions = self.partitions(name).await?;
                if !partitions.is_empty() {
                    break;
                }
                tokio::time::sleep(TOPIC_LOOK_EVERY).await;
            }
        }
        if partitions.is_empty() {
            return Err(Fault::passing(format!("Kafka has no topic {name} yet, though it was made")));
        }
        try_join_all(partitions.into_iter().map(|number| self.part(topic, number))).await
    }

    /// The numbers of a topic's partitions; none if there is no such topic.
    async fn partitions(&self, name: &str) -> Result<Vec<i32>, Fault> {
        let topics = self.patient.list_topics().await.map_err(fault)?;
        let found = topics.into_iter().find(|topic| topic.name == name);
        Ok(found.map_or_else(Vec::new, |topic| topic.partitions.into_iter().collect()))
    }

    /// python-socketio's topic is made as Kafka makes it when somebody writes to it.
    async fn make(&self, topic: Topic) -> Result<(), Fault> {
        let (name, count) = match topic {
            Topic::Ours => (self.names.topic(topic), PARTITIONS),
            Topic::Python => (self.names.topic(topic), AS_CONFIGURED),
        };
        let controller = self.patient.controller_client().map_err(fault)?;
        let millis = i32::try_from(KAFKA_ANSWER_TIMEOUT.as_millis()).unwrap_or(i32::MAX);
        let mut made = controller.create_topic(name, count, -1, millis).await;
        if made.is_err() {
            // Kafka before 2.4 wants numbers.
            made = controller.create_topic(name, count.max(1), 1, millis).await;
        }
        match made {
            Err(error) if protocol_error(&error) != Some(ProtocolError::TopicAlreadyExists) => {
                Err(Fault::lasting(format!("Kafka has no topic {name}, and it cannot be made: {error}")))
            }
            _ => Ok(()),
        }
    }

    async fn part(&self, topic: Topic, number: i32) -> Result<Part, Fault> {
        let name = self.names.topic(topic);
        let opened =
            self.patient.partition_client(name, number, UnknownTopicHandling::Retry).await.map_err(fault)?;
        let known = self.places.lock().await.get(&(topic, number)).cloned();
        let next = match known {
            Some(next) => next,
            None => {
                let end = opened.get_offset(OffsetAt::Latest).await.map_err(fault)?;
                let next = Arc::new(AtomicI64::new(end));
                self.places.lock().await.insert((topic, number), Arc::clone(&next));
                next
            }
        };
        let client =
            self.direct.partition_client(name, number, UnknownTopicHandling::Error).await.map_err(fault)?;
        Ok(Part { topic, client, next })
    }

    /// One way for each partition, apart from the one that waits there for records.
    async fn producers(&self, topic: Topic, count: usize) -> Result<Vec<PartitionClient>, Fault> {
        let numbers = 0..i32::try_from(count).unwrap_or(i32::MAX);
        let name = self.names.topic(topic);
        let opening =
            numbers.map(|number| self.direct.partition_client(name, number, UnknownTopicHandling::Error));
        try_join_all(opening).await.map_err(fault)
    }
}

pub(crate) struct KafkaSender {
    topics: Topics,
    /// Of each topic that has been written to, by the number of the partition.
    producers: BTreeMap<Topic, Vec<PartitionClient>>,
    reads_python: bool,
    /// To the receiver. As long as the channels that there are.
    changes: mpsc::UnboundedSender<Change>,
    salt: u64,
}

/// What the sender tells the receiver.
enum Change {
    Want(Vec<Channel>),
    Unwant(Vec<Channel>),
    Read(Vec<Part>),
}

impl KafkaSender {
    async fn change(&mut self, add: &[Channel], remove: &[Channel]) -> Result<(), Fault> {
        for channel in add {
            route(channel)?;
        }
        if add.contains(&Channel::Python) && !self.reads_python {
            let parts = self.topics.open(Topic::Python).await?;
            self.reads_python = true;
            self.tell(Change::Read(parts))?;
        }
        self.tell(Change::Unwant(remove.to_vec()))?;
        self.tell(Change::Want(add.to_vec()))
    }

    fn tell(&self, change: Change) -> Result<(), Fault> {
        self.changes.send(change).map_err(|_| Fault::passing("the connection to Kafka is over"))
    }

    async fn send(&mut self, posts: &[Post]) -> Result<(), Fault> {
        let now = now();
        let mut records: BTreeMap<(Topic, usize), Vec<Record>> = BTreeMap::new();
        for post in posts {
            let Some(bytes) = bytes_within(post, KAFKA_BODY_BYTES_MAX)? else { continue };
            let (topic, key) = route(&post.channel)?;
            let count = self.count(topic).await?;
            let key = key.map(String::into_bytes);
            let number = match &key {
                Some(key) => partition(key, count),
                None => partition(&self.salt.to_be_bytes(), count),
            };
            let (value, headers) = (Some(bytes.to_vec()), BTreeMap::new());
            let record = Record { key, value, headers, timestamp: now };
            records.entry((topic, number)).or_default().push(record);
        }
        try_join_all(records.into_iter().map(|(to, records)| self.produce(to, records))).await?;
        Ok(())
    }

    /// How many partitions a topic has that is to be written to.
    async fn count(&mut self, topic: Topic) -> Result<usize, Fault> {
        if let Some(known) = self.producers.get(&topic) {
            return Ok(known.len());
        }
        let name = self.topics.names.topic(topic);
        if self.topics.partitions(name).await?.is_empty() {
            self.topics.make(topic).await?;
        }
        let count = self.topics.partitions(name).await?.len();
        let made = self.topics.producers(topic, count).await?;
        self.producers.insert(topic, made);
        Ok(count)
    }

    /// Sends the records of one partition, one batch after the other.
    async fn produce(&self, (topic, number): (Topic, usize), mut records: Vec<Record>) -> Result<(), Fault> {
        let client = self.producers.get(&topic).and_then(|clients| clients.get(number));
        let Some(client) = client else { return Err(Fault::passing("Kafka has a topic without partitions")) };
        let sizes = records.iter().map(|record| record.value.as_ref().map_or(0, Vec::len));
        for len in batches(sizes) {
            let rest = records.split_off(len.min(records.len()));
            client.produce(records, Compression::NoCompression).await.map_err(fault)?;
            records = rest;
        }
        Ok(())
    }
}

impl Sender for KafkaSender {
    fn body_bytes_max(&self) -> usize {
        KAFKA_BODY_BYTES_MAX
    }

    async fn subscribe(&mut self, add: &[Channel], remove: &[Channel]) -> Result<(), Fault> {
        in_time(KAFKA_CONNECT_TIMEOUT, self.change(add, remove)).await
    }

    async fn publish(&mut self, posts: &[Post]) -> Result<(), Fault> {
        in_time(KAFKA_ANSWER_TIMEOUT, self.send(posts)).await
    }
}

pub(crate) struct KafkaReceiver {
    changed: mpsc::UnboundedReceiver<Change>,
    wanted: FxHashSet<Channel>,
    /// Partitions that are not read yet: until the first subscription nobody would want what is in them.
    waiting: Vec<Part>,
    /// One for each partition that is read; all end with this.
    tasks: JoinSet<()>,
    fetched: mpsc::Sender<Result<Batch, Fault>>,
    batches: mpsc::Receiver<Result<Batch, Fault>>,
    /// What is being handed on.
    batch: Option<Batch>,
}

/// Records of one partition, in order.
struct Batch {
    topic: Topic,
    next: Arc<AtomicI64>,
    records: std::vec::IntoIter<RecordAndOffset>,
}

impl KafkaReceiver {
    fn apply(&mut self, change: Change) {
        match change {
            Change::Want(channels) => {
                self.wanted.extend(channels);
                for part in std::mem::take(&mut self.waiting) {
                    self.tasks.spawn(read(part, self.fetched.clone()));
                }
            }
            Change::Unwant(channels) => channels.iter().for_each(|channel| {
                self.wanted.remove(channel);
            }),
            Change::Read(parts) => self.waiting.extend(parts),
        }
    }

    /// The next record of the batch that somebody wants. Others are left here, uncopied.
    fn take_from_batch(&mut self) -> Option<Delivery> {
        let batch = self.batch.as_mut()?;
        for RecordAndOffset { record, offset } in batch.records.by_ref() {
            batch.next.store(offset + 1, Ordering::Relaxed);
            let channel =
                channel(batch.topic, record.key.as_deref()).filter(|channel| self.wanted.contains(channel));
            if let (Some(channel), Some(value)) = (channel, record.value) {
                let body = Body::Bytes(Bytes::from(value));
                return Some(Delivery { channel, body, offset: Some(offset.to_string().into()) });
            }
        }
        self.batch = None;
        None
    }
}

impl Receiver for KafkaReceiver {
    async fn next(&mut self) -> Result<Delivery, Fault> {
        loop {
            while let Ok(change) = self.changed.try_recv() {
                self.apply(change);
            }
            if let Some(delivery) = self.take_from_batch() {
                return Ok(delivery);
            }
            tokio::select! {
                biased;
                Some(change) = self.changed.recv() => self.apply(change),
                Some(batch) = self.batches.recv() => self.batch = Some(batch?),
            }
        }
    }
}

/// Reads a partition to its end, and waits there for more, until the connection is given up.
async fn read(part: Part, fetched: mpsc::Sender<Result<Batch, Fault>>) {
    let mut next = part.next.load(Ordering::Relaxed);
    loop {
        let batch = match fetch(&part, &mut next).await {
            Ok(records) if records.is_empty() => continue,
            Ok(records) => {
                Ok(Batch { topic: part.topic, next: Arc::clone(&part.next), records: records.into_iter() })
            }
            Err(fault) => Err(fault),
        };
        let is_over = batch.is_err();
        if fetched.send(batch).await.is_err() || is_over {
            return;
        }
    }
}

async fn fetch(part: &Part, next: &mut i64) -> Result<Vec<RecordAndOffset>, Fault> {
    let asked = part.client.fetch_records(*next, 1..KAFKA_FETCH_BYTES_MAX, FETCH_WAIT_MILLIS);
    let wait = Duration::from_millis(u64::try_from(FETCH_WAIT_MILLIS).unwrap_or_default());
    let answer = tokio::time::timeout(wait + KAFKA_ANSWER_TIMEOUT, asked).await;
    let answer = answer.map_err(|_| Fault::passing("Kafka has not answered a request for records"))?;
    match answer {
        Ok((records, end)) => {
            match records.last() {
                Some(last) => *next = last.offset + 1,
                None if end > *next => tokio::time::sleep(EMPTY_PAUSE).await,
                None => {}
            }
            Ok(records)
        }
        Err(error) if protocol_error(&error) == Some(ProtocolError::OffsetOutOfRange) => {
            let first = part.client.get_offset(OffsetAt::Earliest).await.map_err(fault)?;
            tracing::warn!(
                topic = part.client.topic(),
                partition = part.client.partition(),
                place = *next,
                first,
                "Kafka no longer has the record with which reading goes on: some may be lost"
            );
            *next = first;
            Ok(Vec::new())
        }
        Err(error) => Err(fault(error)),
    }
}

/// Kafka drops records by their time.
#[expect(clippy::disallowed_methods, reason = "the time of the day stands in each record")]
fn now() -> DateTime<Utc> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    DateTime::from_timestamp_millis(i64::try_from(since.as_millis()).unwrap_or_default()).unwrap_or_default()
}

async fn in_time<T>(time: Duration, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    let done = tokio::time::timeout(time, work).await;
    done.unwrap_or_else(|_| Err(Fault::passing(format!("Kafka has not answered for {time:?}"))))
}

fn protocol_error(error: &Error) -> Option<ProtocolError> {
    match error {
        Error::ServerError { protocol_error, .. } => Some(*protocol_error),
        _ => None,
    }
}

fn fault(error: Error) -> Fault {
    let is_lasting = matches!(
        protocol_error(&error),
        Some(
            ProtocolError::TopicAuthorizationFailed
                | ProtocolError::ClusterAuthorizationFailed
                | ProtocolError::InvalidTopicException
                | ProtocolError::MessageTooLarge
        )
    );
    Fault { text: format!("Kafka: {error}"), is_lasting }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::contract::process::BrokerProcess;
    use crate::bus::contract::{Ends, Venue, post, run, whole, within};

    struct KafkaVenue(BrokerProcess);

    fn client_at(port: u16, channel: &str) -> KafkaBroker {
        KafkaBroker::new(&[Host { name: "127.0.0.1".to_owned(), port }], channel)
    }

    impl Venue for KafkaVenue {
        type Client = KafkaBroker;

        fn client(&self, channel: &str) -> KafkaBroker {
            client_at(self.0.port, channel)
        }

        fn client_of_nobody(&self) -> Option<KafkaBroker> {
            Some(client_at(1, "nobody"))
        }

        fn client_with(&self, _password: &str) -> Option<KafkaBroker> {
            None
        }

        fn kill(&mut self) {
            self.0.kill();
        }

        fn restart(&mut self) {
            self.0.restart();
        }

        /// python-socketio's messages are in a topic of their own.
        fn is_ordered_across(&self) -> bool {
            false
        }
    }

    /// Kafka takes long to start, so one has to do for all.
    #[test]
    fn kafka_keeps_the_contract_and_its_own_rules() {
        let mut venue = KafkaVenue(BrokerProcess::kafka());
        whole(&mut venue);
        run(a_record_that_is_too_large_is_left_out(&venue));
        run(batches_larger_than_kafkas_are_cut(&venue));
        run(records_of_all_partitions_without_a_key_are_pythons(&venue));
        run(a_broker_that_is_stopped_in_order_loses_nothing(&mut venue));
    }

    async fn a_record_that_is_too_large_is_left_out(venue: &KafkaVenue) {
        let mut ends = Ends::of(&mut venue.client("large")).await;
        ends.subscribe(&[Channel::All], &[]).await;
        let largest = vec![b'x'; ends.sender.body_bytes_max()];
        let mut larger = largest.clone();
        larger.push(b'x');
        ends.publish(&[post(&Channel::All, larger), post(&Channel::All, largest.clone())]).await;
        assert!(ends.next().await.body == Body::Bytes(largest.into()), "the largest that it takes");
    }

    async fn batches_larger_than_kafkas_are_cut(venue: &KafkaVenue) {
        let mut ends = Ends::of(&mut venue.client("cut")).await;
        ends.subscribe(&[Channel::Slot(1)], &[]).await;
        let posts: Vec<Post> = (0..32).map(|number| post(&Channel::Slot(1), vec![number; 200_000])).collect();
        ends.publish(&posts).await;
        for post in posts {
            assert!(ends.next().await.body == post.body, "in order");
        }
    }

    async fn records_of_all_partitions_without_a_key_are_pythons(venue: &KafkaVenue) {
        let mut broker = venue.client("spread");
        let admin = broker.client(RETRY_DEADLINE).await.expect("it is there");
        let controller = admin.controller_client().expect("a controller");
        controller.create_topic("spread", 3, 1, 5000).await.expect("a topic of three partitions");
        let mut ends = Ends::of(&mut broker).await;
        ends.subscribe(&[Channel::Python], &[]).await;
        for number in 0..3 {
            let client = admin
                .partition_client("spread", number, UnknownTopicHandling::Retry)
                .await
                .expect("a partition");
            let value = Some(b"{}".to_vec());
            let record = Record { key: None, value, headers: BTreeMap::new(), timestamp: now() };
            client.produce(vec![record], Compression::NoCompression).await.expect("it is taken");
            ends.hears(&Channel::Python, "{}").await;
        }
    }

    async fn a_broker_that_is_stopped_in_order_loses_nothing(venue: &mut KafkaVenue) {
        let mut client = venue.client("stopped");
        let mut ends = Ends::of(&mut client).await;
        ends.subscribe(&[Channel::All], &[]).await;
        venue.0.terminate();
        let fault = within("a fault", async {
            loop {
                if let Err(fault) = ends.sender.publish(&[post(&Channel::All, "unheard")]).await {
                    return fault;
                }
            }
        });
        assert!(!fault.await.is_lasting);
        drop(ends);
        venue.0.restart();
        Ends::of(&mut venue.client("stopped")).await.say(&Channel::All, "meanwhile").await;
        let mut ends = Ends::of(&mut client).await;
        ends.subscribe(&[Channel::All], &[]).await;
        ends.hears(&Channel::All, "meanwhile").await;
    }
}
