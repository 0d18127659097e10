//! The client of Redis and Valkey: for each node a connection that speaks, one that hears, and one for what is sent ahead; one for
//! each stream that is read; and one to the sentinel that has named the node.
//!
//! The crate neither reconnects nor repeats here: whatever breaks is a fault, for both halves. In a cluster a slot that moves is such
//! a fault, too: the next connection asks where it is now.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use redis::{Cmd, Pipeline, RedisError};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use super::ahead::client::Ahead;
use super::faults::client::{answer_fault, fault};
use super::heard::Shared;
use super::nodes::client::{
    Node, Nodes, REDIS_RESPONSE_TIMEOUT, ask_sentinel, connect, send, watch_sentinel,
};
use super::queue::client::{Event, Queue};
use super::reading::client::{STREAM_WAIT, StreamReader};
use super::streams::client::{bytes_of, newest, read_back, resume, take};
use super::{
    BODY_FIELD, CHANNEL_FIELD, Names, Progress, REDIS_BODY_BYTES_MAX, REDIS_NODE_STREAM_LEN_MAX,
    REDIS_STREAM_LEN_MAX, SLOTS, Way,
};
use crate::bus::{Body, Broker, Channel, Delivery, Fault, Post, ReadBack, Receiver, Sender, names};
use crate::config::queue::address::{RedisAddress, RedisMode};
use crate::message::recovery::Position;

/// Channels in one command.
const SUBSCRIBE_MAX: usize = 512;

/// How far each stream was read, by its key: what outlives a connection.
type Reading = Arc<watch::Sender<HashMap<Arc<str>, Progress>>>;

pub(crate) struct RedisBroker {
    address: Arc<RedisAddress>,
    names: Arc<Names>,
    reading: Reading,
    /// The host to try first: the one behind the last that failed.
    first_host: usize,
}

impl RedisBroker {
    pub(crate) fn new(address: RedisAddress, channel: &str) -> RedisBroker {
        let names = Arc::new(Names::new(channel, address.mode));
        RedisBroker { address: Arc::new(address), names, reading: Arc::default(), first_host: 0 }
    }

    /// The first of the hosts that can be used, and connections to it.
    async fn first_node(&mut self, queue: &Queue) -> Result<Node, Fault> {
        let count = self.address.hosts.len();
        let mut last = Fault::lasting("the URL names no host");
        for _ in 0..count {
            let host = self.address.hosts[self.first_host % count].clone();
            let node = match &self.address.sentinel {
                None => Node::open(&self.address, host, queue).await,
                Some(sentinel) => {
                    let service = sentinel.service.as_deref().unwrap_or(self.names.channel_name());
                    match ask_sentinel(&self.address, &host, service).await {
                        Ok(master) => {
                            let watching = watch_sentinel(&self.address, &host, service, queue).await;
                            let node = Node::open_master(&self.address, master, queue).await;
                            node.map(|node| Node { watching, ..node })
                        }
                        Err(fault) => Err(fault),
                    }
                }
            };
            match node {
                Ok(node) => return Ok(node),
                Err(fault) => last = fault,
            }
            self.first_host = (self.first_host + 1) % count;
        }
        Err(last)
    }
}

impl Broker for RedisBroker {
    type Sender = RedisSender;
    type Receiver = RedisReceiver;

    async fn connect(&mut self) -> Result<(RedisSender, RedisReceiver), Fault> {
        let (events, heard) = mpsc::unbounded_channel();
        let queue = Queue { events, shared: Arc::default() };
        let mut node = self.first_node(&queue).await?;
        let ranges = node.ranges().await;
        let nodes =
            Nodes { address: Arc::clone(&self.address), queue: queue.clone(), list: vec![node], ranges };
        let names = Arc::clone(&self.names);
        let shared = Arc::clone(&queue.shared);
        let reading = Arc::clone(&self.reading);
        let receiver = RedisReceiver { events: heard, shared, names, reading, lost: None };
        let names = Arc::clone(&self.names);
        let reading = Arc::clone(&self.reading);
        let sender = RedisSender {
            nodes,
            names,
            queue,
            reading,
            in_flight: InFlight::default(),
            streams: HashMap::new(),
            readers: JoinSet::new(),
        };
        Ok((sender, receiver))
    }

    fn slots(&self) -> u32 {
        SLOTS
    }

    fn keeps_messages(&self) -> bool {
        self.address.mode == RedisMode::Streams
    }
}

pub(crate) struct RedisSender {
    nodes: Nodes,
    names: Arc<Names>,
    queue: Queue,
    reading: Reading,
    in_flight: InFlight,
    /// The streams that are read, by their keys; their tasks end with the sender.
    streams: HashMap<String, AbortHandle>,
    readers: JoinSet<()>,
}

/// The nodes to which messages were sent ahead, in the order of the messages, until these are answered.
#[derive(Default)]
struct InFlight(VecDeque<Option<usize>>);

impl InFlight {
    /// A node has answered so many.
    fn answered(&mut self, node: usize, count: usize) {
        let of_node = self.0.iter_mut().filter(|at| **at == Some(node));
        of_node.take(count).for_each(|at| *at = None);
        while let Some(None) = self.0.front() {
            self.0.pop_front();
        }
    }
}

/// Channels by how they are subscribed to.
#[derive(Default)]
struct Subscriptions {
    plain: Vec<String>,
    patterns: Vec<String>,
    /// By the node that has them.
    sharded: Vec<(usize, Vec<String>)>,
    streams: Vec<String>,
}

impl Sender for RedisSender {
    fn body_bytes_max(&self) -> usize {
        REDIS_BODY_BYTES_MAX
    }

    async fn subscribe(&mut self, add: &[Channel], remove: &[Channel]) -> Result<(), Fault> {
        self.queue.check()?;
        for channel in add.iter().filter(|channel| self.names.is_in_own_stream(channel)) {
            self.queue.shared.set_heard(channel, true);
        }
        for channel in remove.iter().filter(|channel| self.names.is_in_own_stream(channel)) {
            self.queue.shared.set_heard(channel, false);
        }
        let (add, remove) = (self.sorted(add).await?, self.sorted(remove).await?);
        let own = self.names.own_stream();
        for key in remove.streams.iter().filter(|key| *key != own) {
            if let Some(reader) = self.streams.remove(key) {
                reader.abort();
            }
        }
        for key in add.streams {
            self.read(key).await?;
        }
        let Node { host, hearing, .. } = &mut self.nodes.list[0];
        let wrong = |error: RedisError| fault(host, &error);
        for part in add.plain.chunks(SUBSCRIBE_MAX) {
            hearing.subscribe(part).await.map_err(wrong)?;
        }
        for part in add.patterns.chunks(SUBSCRIBE_MAX) {
            hearing.psubscribe(part).await.map_err(wrong)?;
        }
        for part in remove.plain.chunks(SUBSCRIBE_MAX) {
            hearing.unsubscribe(part).await.map_err(wrong)?;
        }
        for part in remove.patterns.chunks(SUBSCRIBE_MAX) {
            hearing.punsubscribe(part).await.map_err(wrong)?;
        }
        self.each_sharded("SSUBSCRIBE", &add.sharded).await?;
        self.each_sharded("SUNSUBSCRIBE", &remove.sharded).await
    }

    async fn subscribers(&mut self, channels: &[Channel]) -> Result<Vec<u64>, Fault> {
        let mut counts = vec![0; channels.len()];
        for node in 0..self.nodes.list.len() {
            let (mut asked, mut pipeline) = (Vec::new(), Pipeline::new());
            for (place, channel) in channels.iter().enumerate() {
                let name = self.names.name(channel);
                let (verb, at) = match self.names.way(channel) {
                    Way::Plain => ("NUMSUB", 0),
                    Way::Sharded => ("SHARDNUMSUB", self.nodes.of_key(&name).await?),
                    Way::Pattern | Way::Stream | Way::Record => continue,
                };
                if at == node {
                    pipeline.cmd("PUBSUB").arg(verb).arg(name);
                    asked.push(place);
                }
            }
            if asked.is_empty() {
                continue;
            }
            let Node { host, speaking, .. } = &mut self.nodes.list[node];
            let answers: Vec<Vec<(String, u64)>> =
                pipeline.query_async(speaking).await.map_err(|error| fault(host, &error))?;
            for (place, answer) in asked.into_iter().zip(answers) {
                counts[place] = answer.first().map_or(0, |(_, count)| *count);
            }
        }
        Ok(counts)
    }

    async fn publish(&mut self, posts: &[Post]) -> Result<(), Fault> {
        self.queue.check()?;
        let mut batches: Vec<(usize, Pipeline)> = Vec::new();
        for post in posts {
            let Some((node, command)) = self.command(post).await? else { continue };
            match batches.iter_mut().find(|(at, _)| *at == node) {
                Some((_, pipeline)) => {
                    pipeline.add_command(command);
                }
                None => {
                    let mut pipeline = Pipeline::with_capacity(posts.len());
                    pipeline.add_command(command);
                    batches.push((node, pipeline));
                }
            }
        }
        for (node, pipeline) in batches {
            let Node { host, speaking, .. } = &mut self.nodes.list[node];
            send(speaking, host, &pipeline).await?;
        }
        Ok(())
    }

    async fn take_records(&mut self, names: &[String]) -> Result<Vec<Option<Bytes>>, Fault> {
        self.queue.check()?;
        let keys: Vec<String> = names.iter().map(|name| self.names.record(name)).collect();
        let Some(first) = keys.first() else { return Ok(Vec::new()) };
        // All of them are where our stream is.
        let node = self.nodes.of_key(first).await?;
        let Node { host, speaking, .. } = &mut self.nodes.list[node];
        let answers = take(speaking, &keys).await.map_err(|error| fault(host, &error))?;
        answer_fault(host, &answers)?;
        Ok(answers.into_iter().map(bytes_of).collect())
    }

    async fn read_back(&mut self, from: Position, len_max: usize) -> Result<ReadBack, Fault> {
        self.queue.check()?;
        let key = self.names.own_stream().to_owned();
        let node = self.nodes.of_key(&key).await?;
        let Node { host, speaking, .. } = &mut self.nodes.list[node];
        read_back(speaking, &key, (from, len_max)).await.map_err(|error| fault(host, &error))
    }

    async fn send_ahead(&mut self, posts: &[Post]) -> Result<(), Fault> {
        if self.nodes.address.is_tls {
            return self.publish(posts).await;
        }
        self.queue.check()?;
        for post in posts {
            let name = self.names.name(&post.channel);
            let node = match self.names.way(&post.channel) {
                Way::Plain | Way::Pattern => 0,
                Way::Sharded | Way::Stream if self.names.is_in_own_stream(&post.channel) => {
                    self.nodes.of_key(self.names.own_stream()).await?
                }
                Way::Sharded | Way::Stream | Way::Record => self.nodes.of_key(&name).await?,
            };
            let ahead = self.nodes.list[node].ahead(&self.nodes.address).await?;
            write_post(ahead, &self.names, &name, post)?;
            self.in_flight.0.push_back(Some(node));
        }
        for Node { host, ahead, .. } in &mut self.nodes.list {
            if let Some(ahead) = ahead {
                ahead.flush(host).await?;
            }
        }
        Ok(())
    }

    fn unconfirmed(&mut self) -> Result<usize, Fault> {
        for (place, Node { host, ahead, .. }) in self.nodes.list.iter_mut().enumerate() {
            if let Some(ahead) = ahead
                && self.in_flight.0.contains(&Some(place))
            {
                self.in_flight.answered(place, ahead.answers(host)?);
            }
        }
        Ok(self.in_flight.0.len())
    }
}

/// The command that sends a message, as [`RedisSender::command`] has it.
fn write_post(ahead: &mut Ahead, names: &Names, name: &str, post: &Post) -> Result<(), Fault> {
    match (names.way(&post.channel), &post.body) {
        (Way::Plain, Body::Bytes(bytes)) => ahead.command(&[b"PUBLISH", name.as_bytes(), bytes]),
        (Way::Sharded, Body::Bytes(bytes)) => ahead.command(&[b"SPUBLISH", name.as_bytes(), bytes]),
        (Way::Stream, Body::Bytes(bytes)) if names.is_in_own_stream(&post.channel) => {
            let (key, len_max) = (names.own_stream().as_bytes(), REDIS_STREAM_LEN_MAX.to_string());
            let channel = names::name_of(&post.channel).unwrap_or_default();
            let entry = [CHANNEL_FIELD.as_bytes(), channel.as_bytes(), BODY_FIELD.as_bytes(), bytes];
            ahead.command(&[&appended(key, &len_max)[..], &entry].concat());
        }
        (Way::Stream, Body::Fields(fields)) => {
            let len_max = REDIS_NODE_STREAM_LEN_MAX.to_string();
            let entry = fields.iter().flat_map(|(field, value)| [field.as_bytes(), value]);
            let parts: Vec<&[u8]> = appended(name.as_bytes(), &len_max).into_iter().chain(entry).collect();
            ahead.command(&parts);
        }
        (Way::Record, Body::Bytes(bytes)) => {
            let Channel::Record { keep, .. } = &post.channel else { return Ok(()) };
            let millis = millis_of(*keep);
            ahead.command(&[b"SET", name.as_bytes(), bytes, b"PX", millis.as_bytes()]);
        }
        _ => return Err(Fault::lasting(format!("redis has no such message for {:?}", post.channel))),
    }
    Ok(())
}

/// How long a record is kept, as Redis is told it.
fn millis_of(keep: Duration) -> String {
    u64::try_from(keep.as_millis()).unwrap_or(u64::MAX).max(1).to_string()
}

fn appended<'a>(key: &'a [u8], len_max: &'a str) -> [&'a [u8]; 6] {
    [b"XADD", key, b"MAXLEN", b"~", len_max.as_bytes(), b"*"]
}

impl RedisSender {
    async fn sorted(&mut self, channels: &[Channel]) -> Result<Subscriptions, Fault> {
        let mut sorted = Subscriptions::default();
        for channel in channels {
            if self.names.is_in_own_stream(channel) {
                if sorted.streams.is_empty() {
                    sorted.streams.push(self.names.own_stream().to_owned());
                }
                continue;
            }
            let name = self.names.name(channel);
            match self.names.way(channel) {
                Way::Plain => sorted.plain.push(name),
                Way::Pattern => sorted.patterns.push(name),
                Way::Stream => sorted.streams.push(name),
                Way::Record => {}
                Way::Sharded => {
                    let node = self.nodes.of_key(&name).await?;
                    match sorted.sharded.iter_mut().find(|(at, _)| *at == node) {
                        Some((_, names)) => names.push(name),
                        None => sorted.sharded.push((node, vec![name])),
                    }
                }
            }
        }
        Ok(sorted)
    }

    /// One channel a command, as a cluster takes several only if they share a slot; many commands at once.
    async fn each_sharded(&mut self, verb: &str, channels: &[(usize, Vec<String>)]) -> Result<(), Fault> {
        for (node, names) in channels {
            let Node { host, hearing, .. } = &mut self.nodes.list[*node];
            for part in names.chunks(SUBSCRIBE_MAX) {
                let mut pipeline = Pipeline::with_capacity(part.len());
                for name in part {
                    pipeline.cmd(verb).arg(name);
                }
                if verb == "SUNSUBSCRIBE" {
                    self.queue.shared.leaving.fetch_add(part.len(), Relaxed);
                }
                send(hearing, host, &pipeline).await?;
            }
        }
        Ok(())
    }

    /// The command that sends a message, and the node that it is for. None for what is too large or cannot be said.
    async fn command(&mut self, post: &Post) -> Result<Option<(usize, Cmd)>, Fault> {
        if post.body.len_bytes() > REDIS_BODY_BYTES_MAX {
            let bytes = post.body.len_bytes();
            tracing::warn!(bytes, "a message is too large for redis: other processes do not get it");
            return Ok(None);
        }
        let name = self.names.name(&post.channel);
        let (node, command) = match (self.names.way(&post.channel), &post.body) {
            (Way::Plain, Body::Bytes(bytes)) => {
                let mut command = Cmd::with_capacity(3, name.len() + bytes.len() + 8);
                command.arg("PUBLISH").arg(name).arg(bytes.as_ref());
                (0, command)
            }
            (Way::Sharded, Body::Bytes(bytes)) => {
                let node = self.nodes.of_key(&name).await?;
                let mut command = Cmd::with_capacity(3, name.len() + bytes.len() + 8);
                command.arg("SPUBLISH").arg(name).arg(bytes.as_ref());
                (node, command)
            }
            (Way::Stream, Body::Bytes(bytes)) if self.names.is_in_own_stream(&post.channel) => {
                let key = self.names.own_stream().to_owned();
                let mut command = appending(&key, REDIS_STREAM_LEN_MAX);
                command.arg(CHANNEL_FIELD).arg(names::name_of(&post.channel).unwrap_or_default());
                command.arg(BODY_FIELD).arg(bytes.as_ref());
                (self.nodes.of_key(&key).await?, command)
            }
            (Way::Record, Body::Bytes(bytes)) => {
                let Channel::Record { keep, .. } = &post.channel else { return Ok(None) };
                let mut command = redis::cmd("SET");
                command.arg(&name).arg(bytes.as_ref()).arg("PX").arg(millis_of(*keep));
                (self.nodes.of_key(&name).await?, command)
            }
            (Way::Stream, Body::Fields(fields)) => {
                let mut command = appending(&name, REDIS_NODE_STREAM_LEN_MAX);
                for (field, value) in fields {
                    command.arg(field.as_ref()).arg(value.as_ref());
                }
                (self.nodes.of_key(&name).await?, command)
            }
            _ => return Err(Fault::lasting(format!("redis has no such message for {:?}", post.channel))),
        };
        Ok(Some((node, command)))
    }

    /// Reads a stream from where it was read to, or from its end if it never was.
    async fn read(&mut self, key: String) -> Result<(), Fault> {
        if self.streams.contains_key(&key) {
            return Ok(());
        }
        let node = self.nodes.of_key(&key).await?;
        let Node { host, speaking, .. } = &mut self.nodes.list[node];
        let shared_key: Arc<str> = key.as_str().into();
        let known = self.reading.borrow().get(&shared_key).cloned();
        let from = match known {
            None => newest(speaking, &key).await.map_err(|error| fault(host, &error))?,
            Some(progress) => resume(speaking, &key, &progress).await.map_err(|error| fault(host, &error))?,
        };
        self.reading.send_modify(|reading| {
            let progress = reading.entry(Arc::clone(&shared_key)).or_insert_with(|| Progress::new(from));
            progress.last = from;
        });
        let address = &self.nodes.address;
        let mut connection = connect(address, host, address.credentials.as_ref(), None)
            .await
            .map_err(|error| fault(host, &error))?;
        connection.set_response_timeout(STREAM_WAIT + REDIS_RESPONSE_TIMEOUT);
        let is_own = key == self.names.own_stream();
        let reader = StreamReader {
            connection,
            key: shared_key,
            host: host.clone(),
            queue: self.queue.clone(),
            is_own,
        };
        self.streams.insert(key, self.readers.spawn(reader.run(from)));
        Ok(())
    }
}

fn appending(key: &str, len_max: usize) -> Cmd {
    let mut command = redis::cmd("XADD");
    command.arg(key).arg("MAXLEN").arg("~").arg(len_max).arg("*");
    command
}

pub(crate) struct RedisReceiver {
    events: mpsc::UnboundedReceiver<Event>,
    shared: Arc<Shared>,
    names: Arc<Names>,
    reading: Reading,
    lost: Option<String>,
}

impl Receiver for RedisReceiver {
    async fn next(&mut self) -> Result<Delivery, Fault> {
        loop {
            if let Some(why) = &self.lost {
                return Err(Fault::passing(why.as_str()));
            }
            let event = self.events.recv().await.unwrap_or_else(|| Event::Lost("redis is left".to_owned()));
            self.shared.waiting_bytes.fetch_sub(event.len_bytes(), Relaxed);
            if let Some(delivery) = self.delivery(event) {
                return Ok(delivery);
            }
        }
    }
}

impl RedisReceiver {
    fn delivery(&mut self, event: Event) -> Option<Delivery> {
        match event {
            Event::Message { way, name, body } => {
                let channel = self.names.channel(way, &name)?;
                Some(Delivery { channel, body: Body::Bytes(Bytes::from(body)), offset: None })
            }
            Event::Entry { stream, id, channel, body } => {
                self.reading.send_modify(|reading| {
                    if let Some(progress) = reading.get_mut(&stream) {
                        progress.read(id);
                    }
                });
                let is_heard = self.shared.hears(&channel);
                is_heard.then(|| Delivery { channel, body, offset: Some(id.to_string().into()) })
            }
            Event::Lost(why) => {
                self.lost = Some(why);
                None
            }
        }
    }
}
