//! The client of Redis and Valkey: one connection that speaks and one that hears for each node, and one for each stream that is read.
//!
//! The crate neither reconnects nor repeats here: whatever breaks is a fault, for both halves. In a cluster a slot that moves is such
//! a fault, too: the next connection asks where it is now.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ErrorKind, IntoConnectionInfo, Pipeline,
    ProtocolVersion, PushInfo, PushKind, RedisConnectionInfo, RedisError, Value,
};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

use super::heard::Shared;
use super::streams::client::{entry_of, newest, resume, text};
use super::{
    BODY_FIELD, CHANNEL_FIELD, Names, Progress, REDIS_BODY_BYTES_MAX, REDIS_NODE_STREAM_LEN_MAX,
    REDIS_QUEUE_BYTES_MAX, REDIS_STREAM_LEN_MAX, SLOTS, StreamId, Way, cluster_slot,
};
use crate::bus::{Body, Broker, Channel, Delivery, Fault, Post, Receiver, Sender, names};
use crate::config::queue::address::{Credentials, Host, RedisAddress, RedisMode};

/// How long one server may take to accept a connection and to greet.
const REDIS_CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long it may take to answer.
const REDIS_RESPONSE_TIMEOUT: Duration = Duration::from_secs(4);

/// A host that is gone without a word is found out by the kernel: after so long without traffic it asks, each two seconds, and gives up
/// when something has not been acknowledged for this long.
const REDIS_SILENCE_MAX: Duration = Duration::from_secs(5);
const REDIS_UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(10);

/// How long a read of a stream waits for something new; then the stream itself is looked at.
const STREAM_WAIT: Duration = Duration::from_secs(5);

/// Messages of one read.
const STREAM_READ_MAX: usize = 256;

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
                        Ok(master) => Node::open_master(&self.address, master, queue).await,
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
        let sender =
            RedisSender { nodes, names, queue, reading, streams: HashMap::new(), readers: JoinSet::new() };
        Ok((sender, receiver))
    }

    fn slots(&self) -> u32 {
        SLOTS
    }

    fn keeps_messages(&self) -> bool {
        self.address.mode == RedisMode::Streams
    }
}

// ---------------------------------------------------------------- What was heard, until it is taken

enum Event {
    Message {
        way: Way,
        name: Vec<u8>,
        body: Vec<u8>,
    },
    Entry {
        stream: Arc<str>,
        id: StreamId,
        channel: Channel,
        body: Body,
    },
    /// The connection is over: why.
    Lost(String),
}

impl Event {
    fn len_bytes(&self) -> usize {
        let bytes = match self {
            Event::Message { name, body, .. } => name.len() + body.len(),
            Event::Entry { body, .. } => body.len_bytes(),
            Event::Lost(_) => return 0,
        };
        bytes + size_of::<Event>()
    }
}

/// Where all connections put what they hear.
#[derive(Clone)]
struct Queue {
    events: mpsc::UnboundedSender<Event>,
    shared: Arc<Shared>,
}

impl Queue {
    /// What Redis sent without being asked, or the crate's word that the connection is gone.
    fn push(&self, host: &Host, push: PushInfo) {
        let way = match push.kind {
            PushKind::Message => Way::Plain,
            PushKind::PMessage => Way::Pattern,
            PushKind::SMessage => Way::Sharded,
            PushKind::Disconnection => return self.lose(format!("redis at {host} closed the connection")),
            PushKind::SUnsubscribe => {
                let asked =
                    self.shared.leaving.fetch_update(Relaxed, Relaxed, |leaving| leaving.checked_sub(1));
                if asked.is_err() {
                    self.lose(format!("redis at {host} has given a slot of its cluster to another node"));
                }
                return;
            }
            _ => return,
        };
        let mut data = push.data.into_iter().rev();
        if let (Some(Value::BulkString(body)), Some(Value::BulkString(name))) = (data.next(), data.next()) {
            self.admit(Event::Message { way, name, body });
        }
    }

    fn admit(&self, event: Event) {
        let bytes = event.len_bytes();
        let waiting = self.shared.waiting_bytes.fetch_add(bytes, Relaxed) + bytes;
        if waiting > REDIS_QUEUE_BYTES_MAX {
            self.lose(format!(
                "this process has fallen behind redis: {waiting} bytes wait, and the most is {REDIS_QUEUE_BYTES_MAX}"
            ));
        }
        // Who has fallen behind takes what came before that, and no more.
        if !self.shared.is_lost.load(Relaxed) {
            let _ = self.events.send(event);
        }
    }

    fn lose(&self, why: String) {
        if !self.shared.is_lost.swap(true, Relaxed) {
            let _ = self.events.send(Event::Lost(why));
        }
    }

    fn check(&self) -> Result<(), Fault> {
        match self.shared.is_lost.load(Relaxed) {
            true => Err(Fault::passing("the connection to redis is lost")),
            false => Ok(()),
        }
    }
}

// ---------------------------------------------------------------- Nodes

/// One server, with a connection that speaks and one that hears: what comes must not hold up the answers to what is sent.
struct Node {
    host: Host,
    speaking: MultiplexedConnection,
    hearing: MultiplexedConnection,
}

impl Node {
    async fn open(address: &RedisAddress, host: Host, queue: &Queue) -> Result<Node, Fault> {
        let open = |queue| connect(address, &host, address.credentials.as_ref(), queue);
        let speaking = open(Some(queue)).await.map_err(|error| fault(&host, &error))?;
        let hearing = open(Some(queue)).await.map_err(|error| fault(&host, &error))?;
        Ok(Node { host, speaking, hearing })
    }

    /// A server of which a sentinel says that it is the one to write to, if it says so itself.
    async fn open_master(address: &RedisAddress, host: Host, queue: &Queue) -> Result<Node, Fault> {
        let mut node = Node::open(address, host, queue).await?;
        let role: Value = redis::cmd("ROLE")
            .query_async(&mut node.speaking)
            .await
            .map_err(|error| fault(&node.host, &error))?;
        let is_master = matches!(&role, Value::Array(parts) if text(parts.first()) == Some("master"));
        match is_master {
            true => Ok(node),
            false => Err(Fault::passing(format!("redis at {} is no longer the master", node.host))),
        }
    }

    /// Which slots of a cluster are where; empty if it is none. Who may not ask, has none.
    async fn ranges(&mut self) -> Vec<(RangeInclusive<u16>, Host)> {
        let answer: Result<Value, RedisError> =
            redis::cmd("CLUSTER").arg("SLOTS").query_async(&mut self.speaking).await;
        let Ok(Value::Array(ranges)) = answer else { return Vec::new() };
        ranges.iter().filter_map(|range| self.range(range)).collect()
    }

    /// First slot, last slot, the node that has them, and its replicas, which we do not need.
    fn range(&self, range: &Value) -> Option<(RangeInclusive<u16>, Host)> {
        let Value::Array(parts) = range else { return None };
        let [Value::Int(first), Value::Int(last), Value::Array(node), ..] = parts.as_slice() else {
            return None;
        };
        let [name, Value::Int(port), ..] = node.as_slice() else { return None };
        // A node that does not know its own name is the one that was asked.
        let name = text(Some(name)).filter(|name| !name.is_empty()).unwrap_or(&self.host.name).to_owned();
        let slots = u16::try_from(*first).ok()?..=u16::try_from(*last).ok()?;
        Some((slots, Host { name, port: u16::try_from(*port).ok()? }))
    }
}

/// The servers that are in use: one, or those of a cluster that something goes to.
struct Nodes {
    address: Arc<RedisAddress>,
    queue: Queue,
    /// The first is the one that was connected to, which has everything that is not sharded.
    list: Vec<Node>,
    ranges: Vec<(RangeInclusive<u16>, Host)>,
}

impl Nodes {
    /// The node that has a key or a sharded channel, by its place in the list.
    async fn of_key(&mut self, key: &str) -> Result<usize, Fault> {
        if self.ranges.is_empty() {
            return Ok(0);
        }
        let slot = cluster_slot(key.as_bytes());
        let Some((_, host)) = self.ranges.iter().find(|(slots, _)| slots.contains(&slot)) else {
            return Err(Fault::passing(format!("slot {slot} of the cluster is on no node of redis")));
        };
        if let Some(known) = self.list.iter().position(|node| node.host == *host) {
            return Ok(known);
        }
        let node = Node::open(&self.address, host.clone(), &self.queue).await?;
        self.list.push(node);
        Ok(self.list.len() - 1)
    }
}

/// A connection; with a queue for what comes unasked.
async fn connect(
    address: &RedisAddress,
    host: &Host,
    credentials: Option<&Credentials>,
    queue: Option<&Queue>,
) -> Result<MultiplexedConnection, RedisError> {
    let (name, port) = (host.name.clone(), host.port);
    let place = match address.is_tls {
        true => ConnectionAddr::TcpTls { host: name, port, insecure: false, tls_params: None },
        false => ConnectionAddr::Tcp(name, port),
    };
    let keepalive = TcpKeepalive::new().with_time(REDIS_SILENCE_MAX).with_interval(Duration::from_secs(2));
    let tcp = TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(keepalive.with_retries(3))
        .set_user_timeout(REDIS_UNACKNOWLEDGED_MAX);
    let mut settings = RedisConnectionInfo::default()
        .set_protocol(ProtocolVersion::RESP3)
        .set_db(i64::from(address.database))
        .set_lib_name("shardcast", env!("CARGO_PKG_VERSION"));
    if let Some(credentials) = credentials {
        settings = settings.set_password(credentials.password.expose());
        if !credentials.user.is_empty() {
            settings = settings.set_username(&credentials.user);
        }
    }
    let info = place.into_connection_info()?.set_tcp_settings(tcp).set_redis_settings(settings);
    let mut config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(REDIS_CONNECT_TIMEOUT))
        .set_response_timeout(Some(REDIS_RESPONSE_TIMEOUT));
    if let Some(queue) = queue {
        let (queue, host) = (queue.clone(), host.clone());
        config = config.set_push_sender(move |push| {
            queue.push(&host, push);
            Ok::<(), ()>(())
        });
    }
    Client::open(info)?.get_multiplexed_async_connection_with_config(&config).await
}

/// Where the server is that a sentinel calls by a name. Sentinels have no databases, and as a rule no passwords.
async fn ask_sentinel(address: &RedisAddress, host: &Host, service: &str) -> Result<Host, Fault> {
    let plain = RedisAddress { database: 0, ..address.clone() };
    let mut question = redis::cmd("SENTINEL");
    question.arg("GET-MASTER-ADDR-BY-NAME").arg(service);
    let answer = async |credentials| {
        let mut connection = connect(&plain, host, credentials, None).await?;
        question.query_async::<Value>(&mut connection).await
    };
    let mut answered = answer(None).await;
    if answered.as_ref().is_err_and(is_about_password) && address.credentials.is_some() {
        answered = answer(address.credentials.as_ref()).await;
    }
    match answered.map_err(|error| fault(host, &error))? {
        Value::Array(parts) => {
            let name = text(parts.first()).map(str::to_owned);
            let port = text(parts.get(1)).and_then(|port| port.parse().ok());
            let known = name.zip(port).map(|(name, port)| Host { name, port });
            known.ok_or_else(|| {
                Fault::passing(format!("the sentinel at {host} gives no address for {service:?}"))
            })
        }
        _ => Err(Fault::lasting(format!(
            "the sentinel at {host} knows no service {service:?}: write its name behind the database, as in /0/mymaster"
        ))),
    }
}

// ---------------------------------------------------------------- Faults

fn is_about_password(error: &RedisError) -> bool {
    error.kind() == ErrorKind::AuthenticationFailed
        || error.code().is_some_and(|code| ["NOAUTH", "WRONGPASS"].contains(&code))
        || ["NOAUTH", "WRONGPASS"].iter().any(|code| error.to_string().contains(code))
}

/// What an error of the crate means. None of its texts has a password.
fn fault(host: &Host, error: &RedisError) -> Fault {
    let text = error.to_string();
    if is_about_password(error) {
        return Fault::lasting(format!(
            "redis at {host} does not take the user and password in message_queue: {text}"
        ));
    }
    if error.kind() == ErrorKind::RESP3NotSupported || text.contains("unknown command 'HELLO'") {
        return Fault::lasting(format!("redis at {host} is too old: version 6 is needed"));
    }
    if error.is_connection_refusal() {
        return Fault::passing(format!("nobody listens at {host}"));
    }
    if error.is_timeout() {
        return Fault::passing(format!("redis at {host} does not answer"));
    }
    let is_lasting = error.kind() == ErrorKind::InvalidClientConfig || error.code() == Some("NOPERM");
    Fault { text: format!("redis at {host}: {text}"), is_lasting }.or_of_certificate()
}

/// An error in an answer to one of several commands.
fn answer_fault(host: &Host, answers: &[Value]) -> Result<(), Fault> {
    let error = answers.iter().find_map(|answer| match answer {
        Value::ServerError(error) => Some(error),
        _ => None,
    });
    let Some(error) = error else { return Ok(()) };
    let details = error.details().unwrap_or_default();
    if details.starts_with("unknown command") {
        return Err(Fault::lasting(format!("redis at {host} is too old for what is asked of it: {details}")));
    }
    let is_lasting = error.code() == "NOPERM";
    Err(Fault { text: format!("redis at {host}: {} {details}", error.code()), is_lasting })
}

async fn send(node: &mut MultiplexedConnection, host: &Host, pipeline: &Pipeline) -> Result<(), Fault> {
    let answers = node.send_packed_commands(pipeline, 0, pipeline.len()).await;
    answer_fault(host, &answers.map_err(|error| fault(host, &error))?)
}

// ---------------------------------------------------------------- Sender

pub(crate) struct RedisSender {
    nodes: Nodes,
    names: Arc<Names>,
    queue: Queue,
    reading: Reading,
    /// The streams that are read, by their keys; their tasks end with the sender.
    streams: HashMap<String, AbortHandle>,
    readers: JoinSet<()>,
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
                    Way::Pattern | Way::Stream => continue,
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

// ---------------------------------------------------------------- Streams

/// Reads one stream on a connection of its own, which waits in Redis for what is new.
struct StreamReader {
    connection: MultiplexedConnection,
    key: Arc<str>,
    host: Host,
    queue: Queue,
    is_own: bool,
}

impl StreamReader {
    async fn run(mut self, mut last: StreamId) {
        loop {
            // What is not read stays in Redis.
            while self.queue.shared.waiting_bytes.load(Relaxed) > REDIS_QUEUE_BYTES_MAX / 4 {
                sleep(Duration::from_millis(2)).await;
            }
            match self.read_once(last).await {
                Ok(read) => last = read,
                Err(error) => return self.queue.lose(fault(&self.host, &error).text),
            }
        }
    }

    /// Passes on what is new behind an id; the id up to which that was.
    async fn read_once(&mut self, last: StreamId) -> Result<StreamId, RedisError> {
        let mut command = redis::cmd("XREAD");
        command.arg("COUNT").arg(STREAM_READ_MAX).arg("BLOCK").arg(STREAM_WAIT.as_millis() as u64);
        command.arg("STREAMS").arg(&*self.key).arg(last.to_string());
        let answer: Value = command.query_async(&mut self.connection).await?;
        let Value::Map(streams) = answer else {
            let newest = newest(&mut self.connection, &self.key).await?;
            return Ok(if newest < last { StreamId::START } else { last });
        };
        let mut read = last;
        for (_, entries) in streams {
            let Value::Array(entries) = entries else { continue };
            for entry in entries {
                let Some((id, fields)) = entry_of(entry) else { continue };
                read = id;
                if let Some((channel, body)) = self.message_of(fields) {
                    self.queue.admit(Event::Entry { stream: Arc::clone(&self.key), id, channel, body });
                }
            }
        }
        Ok(read)
    }

    /// What an entry says. None if it is not one of those that belong here.
    fn message_of(&self, fields: Vec<Value>) -> Option<(Channel, Body)> {
        let mut fields = fields.into_iter().map(|value| match value {
            Value::BulkString(bytes) => Some(bytes),
            _ => None,
        });
        if self.is_own {
            let (name, channel, body, bytes) =
                (fields.next()??, fields.next()??, fields.next()??, fields.next()??);
            let is_ours = name == CHANNEL_FIELD.as_bytes() && body == BODY_FIELD.as_bytes();
            let channel = names::channel_of(&channel).filter(|_| is_ours)?;
            return Some((channel, Body::Bytes(Bytes::from(bytes))));
        }
        let mut pairs = Vec::new();
        while let Some(name) = fields.next() {
            let name = String::from_utf8(name?).ok()?;
            pairs.push((Cow::Owned(name), Bytes::from(fields.next()??)));
        }
        Some((Channel::Stream((&*self.key).into()), Body::Fields(pairs)))
    }
}

// ---------------------------------------------------------------- Receiver

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
