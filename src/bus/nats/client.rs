//! NATS, the half with IO: the crate `async-nats`, one connection at a time. It may not reconnect by itself: at the first sign of
//! a loss the connection is given up.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::pull::{Ordered, OrderedConfig};
use async_nats::jetstream::stream::{Config, DiscardPolicy};
use async_nats::jetstream::{self, Context};
use async_nats::{
    Client, ConnectErrorKind, ConnectOptions, Event, RequestErrorKind, ServerAddr, ServerError, Subscriber,
};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{AbortHandle, Abortable, SelectAll, Stream, abortable};
use rustc_hash::{FxHashMap, FxHashSet};
use tokio::sync::{mpsc, watch};

use super::{
    JETSTREAM_AGE_MAX, JETSTREAM_BYTES_MAX, NATS_QUEUE_MESSAGES_MAX, Names, Place, SLOTS, first_to_read,
    is_kept,
};
use crate::bus::body::bytes_within;
use crate::bus::{Body, Broker, Channel, Delivery, Fault, Post, Receiver, Sender};
use crate::config::queue::address::{Credentials, NatsAddress, NatsCredentials, NatsMode};

/// How long a connection may take to be made, or the broker to answer.
pub(crate) const NATS_ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How often the broker is asked whether it is there; two questions may be without an answer.
const PING_INTERVAL: Duration = Duration::from_secs(2);

/// The crate tries each server once more after a loss. Until then this connection has been given up, and the crate with it.
const RECONNECT_DELAY: Duration = Duration::from_secs(1);

type Broken = watch::Receiver<Option<Fault>>;

pub(crate) struct NatsBroker {
    address: NatsAddress,
    names: Names,
    /// Where the reading of JetStream's stream is: when the stream was made, and the last message.
    place: Option<(String, Arc<AtomicU64>)>,
}

impl NatsBroker {
    pub(crate) fn new(address: &NatsAddress, channel: &str) -> NatsBroker {
        NatsBroker { address: address.clone(), names: Names::new(channel), place: None }
    }

    fn is_jetstream(&self) -> bool {
        self.address.mode == NatsMode::JetStream
    }

    fn hosts(&self) -> String {
        self.address.hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    async fn client(&self, told: watch::Sender<Option<Fault>>) -> Result<Client, Fault> {
        let scheme = if self.address.is_tls { "tls" } else { "nats" };
        let servers =
            self.address.hosts.iter().map(|host| format!("{scheme}://{host}").parse::<ServerAddr>());
        let servers: Vec<ServerAddr> = servers.collect::<Result<_, _>>().map_err(|error| {
            Fault::lasting(format!("the address of a NATS server is not understood: {error}"))
        })?;
        let is_made = Arc::new(AtomicBool::new(false));
        let was_made = Arc::clone(&is_made);
        let options = ConnectOptions::new()
            .name("shardcast")
            .require_tls(self.address.is_tls)
            .connection_timeout(NATS_ANSWER_TIMEOUT)
            .request_timeout(Some(NATS_ANSWER_TIMEOUT))
            .ping_interval(PING_INTERVAL)
            .subscription_capacity(NATS_QUEUE_MESSAGES_MAX)
            .ignore_discovered_servers()
            .max_reconnects(servers.len())
            .reconnect_delay_callback(move |_| match was_made.load(Ordering::Relaxed) {
                true => RECONNECT_DELAY,
                false => Duration::ZERO,
            })
            .event_callback(move |event| {
                if let Some(fault) = fault_of(&event) {
                    told.send_if_modified(|known| {
                        let is_first = known.is_none();
                        known.get_or_insert(fault);
                        is_first
                    });
                }
                std::future::ready(())
            });
        let options = match &self.address.credentials {
            None => options,
            Some(NatsCredentials::User(Credentials { user, password })) => {
                options.user_and_password(user.clone(), password.expose().to_owned())
            }
            Some(NatsCredentials::Token(token)) => options.token(token.expose().to_owned()),
        };
        let client = options.connect(servers).await.map_err(|error| self.connect_fault(&error))?;
        is_made.store(true, Ordering::Relaxed);
        Ok(client)
    }

    fn connect_fault(&self, error: &async_nats::ConnectError) -> Fault {
        let hosts = self.hosts();
        match error.kind() {
            ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
                Fault::lasting(format!(
                    "NATS at {hosts} does not know this user and password (or token): mend them in message_queue"
                ))
            }
            ConnectErrorKind::Tls => {
                Fault::lasting(format!("no TLS with NATS at {hosts} (natss://): {}", root_cause(error)))
            }
            _ => Fault::passing(format!("no connection to NATS at {hosts}: {}", root_cause(error)))
                .or_of_certificate(),
        }
    }

    /// The reading of what JetStream keeps, from where the last connection was.
    async fn kept(&mut self, context: &Context) -> Result<Kept, Fault> {
        let stream = context.get_or_create_stream(self.stream_config()).await.map_err(|error| {
            Fault::lasting(format!(
                "NATS gives no stream {}: {}. Does the server run with JetStream (-js)? Without it leave mode=jetstream out",
                self.names.stream,
                root_cause(&error)
            ))
        })?;
        let info = stream.cached_info();
        let created = info.created.to_string();
        let last = info.state.last_sequence;
        let place = self.place.as_ref().map(|(created, sequence)| Place {
            created: created.clone(),
            sequence: sequence.load(Ordering::Relaxed),
        });
        let start_sequence = first_to_read(place.as_ref(), &created, last);
        let lost = info.state.first_sequence.saturating_sub(start_sequence);
        if place.is_some() && lost > 0 && last >= info.state.first_sequence {
            tracing::warn!(
                messages = lost,
                "the outage was longer than JetStream keeps messages: some are lost"
            );
        }
        let config = OrderedConfig {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence },
            ..OrderedConfig::default()
        };
        let failed = |what: &str, error: &dyn std::error::Error| {
            Fault::passing(format!("JetStream gives no {what}: {}", root_cause(error)))
        };
        let consumer = stream.create_consumer(config).await.map_err(|error| failed("consumer", &error))?;
        let messages = consumer.messages().await.map_err(|error| failed("messages", &error))?;
        let sequence = Arc::new(AtomicU64::new(start_sequence - 1));
        self.place = Some((created, Arc::clone(&sequence)));
        Ok(Kept { messages: Box::new(messages), sequence })
    }

    fn stream_config(&self) -> Config {
        Config {
            name: self.names.stream.clone(),
            description: Some("What shardcast processes say to all, and to rooms".to_owned()),
            subjects: self.names.kept(),
            max_age: JETSTREAM_AGE_MAX,
            max_bytes: JETSTREAM_BYTES_MAX,
            discard: DiscardPolicy::Old,
            num_replicas: 1,
            ..Config::default()
        }
    }
}

impl Broker for NatsBroker {
    type Sender = NatsSender;
    type Receiver = NatsReceiver;

    async fn connect(&mut self) -> Result<(NatsSender, NatsReceiver), Fault> {
        let (told, mut broken) = watch::channel(None);
        let client = self.client(told).await?;
        let mut context = None;
        let mut kept = None;
        if self.is_jetstream() {
            let mut made = jetstream::new(client.clone());
            made.set_timeout(NATS_ANSWER_TIMEOUT);
            kept = Some(unless_broken(&mut broken, self.kept(&made)).await?);
            context = Some(made);
        }
        let (changes, changed) = mpsc::unbounded_channel();
        let sender = NatsSender {
            client,
            context,
            names: self.names.clone(),
            heard: FxHashMap::default(),
            changes,
            broken: broken.clone(),
        };
        let receiver = NatsReceiver {
            changed,
            kept,
            wanted: FxHashSet::default(),
            sources: SelectAll::new(),
            names: self.names.clone(),
            broken,
        };
        Ok((sender, receiver))
    }

    fn slots(&self) -> u32 {
        SLOTS
    }

    fn keeps_messages(&self) -> bool {
        self.is_jetstream()
    }
}

pub(crate) struct NatsSender {
    client: Client,
    /// JetStream, where messages are kept.
    context: Option<Context>,
    names: Names,
    /// What is subscribed to by core NATS, and how each subscription is ended.
    heard: FxHashMap<Channel, AbortHandle>,
    /// To the receiver. As long as the channels that there are.
    changes: mpsc::UnboundedSender<Change>,
    broken: Broken,
}

impl NatsSender {
    fn is_kept(&self, channel: &Channel) -> bool {
        self.context.is_some() && is_kept(channel)
    }
}

impl Sender for NatsSender {
    fn body_bytes_max(&self) -> usize {
        self.client.max_payload()
    }

    async fn subscribe(&mut self, add: &[Channel], remove: &[Channel]) -> Result<(), Fault> {
        let mut broken = self.broken.clone();
        unless_broken(&mut broken, async {
            for channel in add {
                if self.is_kept(channel) {
                    self.changes.send(Change::Want(channel.clone())).map_err(|_| over())?;
                } else if !self.heard.contains_key(channel) {
                    let subject = self.names.subject(channel)?;
                    let subscriber = self.client.subscribe(subject).await.map_err(|error| over_by(&error))?;
                    let (stream, ending) = abortable(subscriber);
                    self.heard.insert(channel.clone(), ending);
                    self.changes
                        .send(Change::Hear(Heard { channel: channel.clone(), stream }))
                        .map_err(|_| over())?;
                }
            }
            for channel in remove {
                if self.is_kept(channel) {
                    self.changes.send(Change::Unwant(channel.clone())).map_err(|_| over())?;
                } else if let Some(ending) = self.heard.remove(channel) {
                    ending.abort();
                }
            }
            // The broker does one thing after the other, so with this answer it has done all above.
            match self.client.request(self.names.unheard(), Bytes::new()).await {
                Ok(_) => Ok(()),
                Err(error) if error.kind() == RequestErrorKind::NoResponders => Ok(()),
                Err(error) => Err(over_by(&error)),
            }
        })
        .await
    }

    async fn publish(&mut self, posts: &[Post]) -> Result<(), Fault> {
        let body_bytes_max = self.body_bytes_max();
        let mut broken = self.broken.clone();
        unless_broken(&mut broken, async {
            let mut acks = Vec::new();
            for post in posts {
                let Some(bytes) = bytes_within(post, body_bytes_max)? else { continue };
                let subject = self.names.subject(&post.channel)?;
                match self.context.as_ref().filter(|_| is_kept(&post.channel)) {
                    Some(context) => {
                        let ack = context.publish(subject, bytes.clone()).await;
                        acks.push(ack.map_err(|error| not_kept(&error))?);
                    }
                    None => {
                        self.client.publish(subject, bytes.clone()).await.map_err(|error| over_by(&error))?
                    }
                }
            }
            self.client.flush().await.map_err(|error| over_by(&error))?;
            for ack in acks {
                ack.await.map_err(|error| not_kept(&error))?;
            }
            Ok(())
        })
        .await
    }
}

/// What the sender tells the receiver.
enum Change {
    Hear(Heard),
    Want(Channel),
    Unwant(Channel),
}

/// A subscription of core NATS.
struct Heard {
    channel: Channel,
    stream: Abortable<Subscriber>,
}

/// What JetStream keeps, as it is read.
struct Kept {
    messages: Box<Ordered>,
    /// The last message that was handed on, or left.
    sequence: Arc<AtomicU64>,
}

enum Source {
    Heard(Heard),
    Kept(Kept),
}

/// A message, as a source has it.
enum Taken {
    Heard(Channel, Bytes),
    Kept { subject: String, bytes: Bytes, sequence: u64 },
    Failed(Fault),
}

impl Stream for Source {
    type Item = Taken;

    fn poll_next(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Taken>> {
        match self.get_mut() {
            Source::Heard(heard) => {
                let Some(message) = std::task::ready!(heard.stream.poll_next_unpin(cx)) else {
                    return Poll::Ready(None);
                };
                Poll::Ready(Some(Taken::Heard(heard.channel.clone(), message.payload)))
            }
            Source::Kept(kept) => kept.poll(cx),
        }
    }
}

impl Kept {
    fn poll(&mut self, cx: &mut TaskContext<'_>) -> Poll<Option<Taken>> {
        loop {
            let message = match std::task::ready!(self.messages.poll_next_unpin(cx)) {
                None => return Poll::Ready(None),
                Some(Ok(message)) => message,
                Some(Err(error)) => {
                    let text = format!("JetStream's messages have ended: {}", root_cause(&error));
                    return Poll::Ready(Some(Taken::Failed(Fault::passing(text))));
                }
            };
            let sequence = match message.info() {
                Ok(info) => info.stream_sequence,
                Err(error) => {
                    let text = format!("JetStream sent a message without its place: {error}");
                    return Poll::Ready(Some(Taken::Failed(Fault::passing(text))));
                }
            };
            // A consumer that the broker lost before its first message is made again from the stream's beginning.
            if sequence <= self.sequence.load(Ordering::Relaxed) {
                continue;
            }
            self.sequence.store(sequence, Ordering::Relaxed);
            let (subject, bytes) = (message.subject.to_string(), message.payload.clone());
            return Poll::Ready(Some(Taken::Kept { subject, bytes, sequence }));
        }
    }
}

pub(crate) struct NatsReceiver {
    changed: mpsc::UnboundedReceiver<Change>,
    /// Until the first subscription: what was missed would find nobody who wants it.
    kept: Option<Kept>,
    /// What of the kept messages is wanted.
    wanted: FxHashSet<Channel>,
    sources: SelectAll<Source>,
    names: Names,
    broken: Broken,
}

impl NatsReceiver {
    fn apply(&mut self, change: Change) {
        match change {
            Change::Hear(heard) => self.sources.push(Source::Heard(heard)),
            Change::Want(channel) => {
                self.wanted.insert(channel);
                if let Some(kept) = self.kept.take() {
                    self.sources.push(Source::Kept(kept));
                }
            }
            Change::Unwant(channel) => {
                self.wanted.remove(&channel);
            }
        }
    }

    fn delivery(&self, taken: Taken) -> Result<Option<Delivery>, Fault> {
        match taken {
            Taken::Failed(fault) => Err(fault),
            Taken::Heard(channel, bytes) => {
                Ok(Some(Delivery { channel, body: Body::Bytes(bytes), offset: None }))
            }
            Taken::Kept { subject, bytes, sequence } => {
                let channel = self.names.channel(&subject).filter(|channel| self.wanted.contains(channel));
                Ok(channel.map(|channel| Delivery {
                    channel,
                    body: Body::Bytes(bytes),
                    offset: Some(sequence.to_string().into()),
                }))
            }
        }
    }
}

impl Receiver for NatsReceiver {
    async fn next(&mut self) -> Result<Delivery, Fault> {
        loop {
            tokio::select! {
                biased;
                Some(change) = self.changed.recv() => self.apply(change),
                Some(taken) = self.sources.next(), if !self.sources.is_empty() => {
                    if let Some(delivery) = self.delivery(taken)? {
                        return Ok(delivery);
                    }
                }
                fault = first_fault(&mut self.broken) => return Err(fault),
            }
        }
    }
}

/// Work that ends with the connection, or when the broker does not answer.
async fn unless_broken<T>(
    broken: &mut Broken,
    work: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    tokio::select! {
        biased;
        fault = first_fault(broken) => Err(fault),
        done = tokio::time::timeout(NATS_ANSWER_TIMEOUT, work) => {
            done.unwrap_or_else(|_| Err(Fault::passing(format!("NATS has not answered for {NATS_ANSWER_TIMEOUT:?}"))))
        }
    }
}

/// Waits for the end of the connection.
async fn first_fault(broken: &mut Broken) -> Fault {
    match broken.wait_for(Option::is_some).await {
        Ok(fault) => fault.clone().unwrap_or_else(over),
        Err(_) => over(),
    }
}

fn over() -> Fault {
    Fault::passing("the connection to NATS is over")
}

fn over_by(error: &dyn std::error::Error) -> Fault {
    Fault::passing(format!("NATS: {}", root_cause(error)))
}

fn not_kept(error: &dyn std::error::Error) -> Fault {
    Fault::passing(format!("JetStream has not kept a message: {}", root_cause(error)))
}

/// What an event of the crate means for the connection, if it means its end.
fn fault_of(event: &Event) -> Option<Fault> {
    match event {
        Event::Disconnected | Event::Closed => Some(Fault::passing("NATS has closed the connection")),
        Event::SlowConsumer(_) => Some(Fault::passing(format!(
            "more than {NATS_QUEUE_MESSAGES_MAX} messages wait in one subscription: this process takes them too slowly"
        ))),
        Event::ServerError(ServerError::AuthorizationViolation) => {
            Some(Fault::lasting("NATS no longer knows this user: mend it in message_queue"))
        }
        Event::ServerError(error) => {
            let text = format!("NATS says: {error}");
            let is_lasting = text.to_ascii_lowercase().contains("permissions");
            Some(Fault { text, is_lasting })
        }
        Event::Connected | Event::LameDuckMode | Event::Draining | Event::ClientError(_) => None,
    }
}

/// The last of an error's causes says most, the others wrap it.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let inner = error.to_string();
        if !text.contains(&inner) {
            text = format!("{text}: {inner}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::contract::process::BrokerProcess;
    use crate::bus::contract::{Ends, Venue, contract, post, run, within};
    use crate::config::queue::address::QueueAddress;

    struct NatsVenue {
        process: BrokerProcess,
        mode: &'static str,
    }

    fn client_at(url: &str, channel: &str) -> NatsBroker {
        let Ok(QueueAddress::Nats(address)) = QueueAddress::parse(url) else {
            panic!("{url} is not understood")
        };
        NatsBroker::new(&address, channel)
    }

    impl NatsVenue {
        fn start(arguments: &[&str], mode: &'static str) -> NatsVenue {
            let login = ["--user", "us", "--pass", "right"];
            NatsVenue { process: BrokerProcess::nats(&[&login, arguments].concat()), mode }
        }

        fn url(&self, password: &str) -> String {
            format!("nats://us:{password}@127.0.0.1:{}?mode={}", self.process.port, self.mode)
        }
    }

    impl Venue for NatsVenue {
        type Client = NatsBroker;

        fn client(&self, channel: &str) -> NatsBroker {
            // A name that has to be written in another way on NATS.
            client_at(&self.url("right"), &format!("{channel}. *>"))
        }

        fn client_of_nobody(&self) -> Option<NatsBroker> {
            Some(client_at("nats://127.0.0.1:1", "nobody"))
        }

        fn client_with(&self, password: &str) -> Option<NatsBroker> {
            Some(client_at(&self.url(password), "nobody"))
        }

        fn kill(&mut self) {
            self.process.kill();
        }

        fn restart(&mut self) {
            self.process.restart();
        }

        /// Each subscription has a queue of its own.
        fn is_ordered_across(&self) -> bool {
            false
        }
    }

    mod core {
        use super::*;
        contract!(NatsVenue::start(&[], "core"));
    }

    mod jetstream {
        use super::*;
        contract!(NatsVenue::start(&["-js"], "jetstream"));
    }

    #[test]
    fn a_message_larger_than_the_broker_takes_is_left_out() {
        let config = tempfile("max_payload: 100000\n");
        let venue = NatsVenue::start(&["-c", &config], "core");
        run(async {
            let mut ends = Ends::of(&mut venue.client("large")).await;
            assert_eq!(ends.sender.body_bytes_max(), 100_000);
            ends.subscribe(&[Channel::All], &[]).await;
            let posts = [post(&Channel::All, vec![b'x'; 100_001]), post(&Channel::All, vec![b'x'; 100_000])];
            ends.publish(&posts).await;
            assert!(ends.next().await.body == posts[1].body, "the largest that it takes");
        });
        std::fs::remove_file(config).expect("it was there");
    }

    /// A file of settings, by its path.
    fn tempfile(text: &str) -> String {
        let path = std::env::temp_dir().join(format!("shardcast-nats-{}.conf", std::process::id()));
        std::fs::write(&path, text).expect("the folder can be written");
        path.to_string_lossy().into_owned()
    }

    #[test]
    fn a_broker_without_jetstream_is_a_lasting_fault_that_says_so() {
        let venue = NatsVenue::start(&[], "jetstream");
        run(async {
            let fault = venue.client("none").connect().await.err().expect("there is no JetStream");
            assert!(fault.is_lasting && fault.text.contains("JetStream"), "{fault:?}");
        });
    }

    #[test]
    fn a_broker_that_is_stopped_in_order_is_a_fault() {
        for (arguments, mode) in [(&[][..], "core"), (&["-js"][..], "jetstream")] {
            let mut venue = NatsVenue::start(arguments, mode);
            run(async {
                let mut client = venue.client("stopped");
                let mut ends = Ends::of(&mut client).await;
                ends.subscribe(&[Channel::All], &[]).await;
                venue.process.terminate();
                let fault = within("a fault", ends.receiver.next()).await.expect_err("it has stopped");
                assert!(!fault.is_lasting, "{fault:?}");
                assert!(ends.sender.publish(&[post(&Channel::All, "unheard")]).await.is_err());
                drop(ends);
                venue.restart();
                let mut speaker = Ends::of(&mut venue.client("stopped")).await;
                speaker.say(&Channel::All, "meanwhile").await;
                let mut ends = Ends::of(&mut client).await;
                ends.subscribe(&[Channel::All], &[]).await;
                speaker.say(&Channel::All, "later").await;
                if client.keeps_messages() {
                    ends.hears(&Channel::All, "meanwhile").await;
                }
                ends.hears(&Channel::All, "later").await;
            });
        }
    }

    #[test]
    fn a_stream_that_was_made_anew_is_read_from_its_beginning() {
        let mut venue = NatsVenue::start(&["-js"], "jetstream");
        run(async {
            let mut client = venue.client("anew");
            let mut ends = Ends::of(&mut client).await;
            ends.subscribe(&[Channel::All], &[]).await;
            for text in ["one", "two"] {
                ends.say(&Channel::All, text).await;
                ends.hears(&Channel::All, text).await;
            }
            drop(ends);
            venue.process.restart_empty();
            Ends::of(&mut venue.client("anew")).await.say(&Channel::All, "three").await;
            let mut ends = Ends::of(&mut client).await;
            ends.subscribe(&[Channel::All], &[]).await;
            ends.hears(&Channel::All, "three").await;
        });
    }

    #[test]
    fn formats_of_node_are_a_lasting_fault() {
        let venue = NatsVenue::start(&[], "core");
        run(async {
            let mut ends = Ends::of(&mut venue.client("node")).await;
            let fault = ends.sender.subscribe(&[Channel::Plain("socket.io#/#".into())], &[]).await;
            assert!(fault.expect_err("Redis has them").is_lasting);
        });
    }
}
