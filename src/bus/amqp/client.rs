//! RabbitMQ, the half with IO: the crate `lapin`, one connection at a time, without its own recovery: an orderly stop of the broker
//! closes its channels for good.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join_all;
use futures_util::{FutureExt, StreamExt};
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{
    BasicProperties, Confirmation, Connection, ConnectionProperties, Consumer, ErrorKind, ExchangeKind,
};

use super::{AMQP_BODY_BYTES_MAX, AMQP_PREFETCH_MAX, AMQP_QUEUE_BYTES_MAX, Names, SLOTS, is_lasting};
use crate::bus::body::bytes_within;
use crate::bus::{Body, Broker, Channel, Delivery, Fault, Post, Receiver, Sender};
use crate::config::queue::address::AmqpAddress;

/// How long a connection may take to be made, or the broker to answer.
pub(crate) const AMQP_ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Seconds between signs of life; two that fail to come end the connection.
const HEARTBEAT_SECONDS: u16 = 5;

/// How long the broker keeps a queue that nobody reads, as python-socketio has it. An exclusive queue ends with its connection.
const QUEUE_EXPIRES_MILLIS: i32 = 300_000;

/// Messages that are acknowledged together, if no pause comes before.
const ACK_MESSAGES: u16 = AMQP_PREFETCH_MAX / 4;

/// Bindings that are asked for at a time.
const BINDINGS_AT_A_TIME: usize = 256;

pub(crate) struct AmqpBroker {
    address: AmqpAddress,
    names: Names,
}

impl AmqpBroker {
    pub(crate) fn new(address: &AmqpAddress, channel: &str) -> AmqpBroker {
        AmqpBroker { address: address.clone(), names: Names::new(channel) }
    }

    fn uri(&self) -> AMQPUri {
        let AmqpAddress { host, is_tls, credentials, vhost } = &self.address;
        AMQPUri {
            scheme: if *is_tls { AMQPScheme::AMQPS } else { AMQPScheme::AMQP },
            authority: AMQPAuthority {
                userinfo: AMQPUserInfo {
                    username: credentials.user.clone(),
                    password: credentials.password.expose().to_owned(),
                },
                host: host.name.clone(),
                port: host.port,
            },
            vhost: vhost.clone(),
            query: AMQPQueryString {
                heartbeat: Some(HEARTBEAT_SECONDS),
                connection_timeout: u64::try_from(AMQP_ANSWER_TIMEOUT.as_millis()).ok(),
                ..AMQPQueryString::default()
            },
        }
    }

    async fn open(&self) -> Result<(AmqpSender, AmqpReceiver), Fault> {
        let properties = ConnectionProperties::default().with_connection_name("shardcast".into());
        let connection = Connection::connect_uri(self.uri(), properties)
            .await
            .map_err(|error| self.connect_fault(&error))?;
        let connection = Arc::new(connection);
        let publishing = connection.create_channel().await.map_err(fault)?;
        publishing.confirm_select(ConfirmSelectOptions::default()).await.map_err(fault)?;
        let direct = ExchangeDeclareOptions::default();
        let ours = self.names.ours.as_str().into();
        publishing
            .exchange_declare(ours, ExchangeKind::Direct, direct, FieldTable::default())
            .await
            .map_err(fault)?;

        let consuming = connection.create_channel().await.map_err(fault)?;
        consuming.basic_qos(AMQP_PREFETCH_MAX, BasicQosOptions::default()).await.map_err(fault)?;
        let queue: ShortString = format!("shardcast.{:016x}", random()).into();
        consuming.queue_declare(queue.clone(), queue_options(), queue_arguments()).await.map_err(fault)?;
        let consume = BasicConsumeOptions { exclusive: true, ..BasicConsumeOptions::default() };
        let tag = ShortString::default();
        let consumer = consuming
            .basic_consume(queue.clone(), tag, consume, FieldTable::default())
            .await
            .map_err(fault)?;

        let sender = AmqpSender {
            connection: Arc::clone(&connection),
            publishing,
            queue,
            names: self.names.clone(),
            has_python: false,
        };
        let receiver = AmqpReceiver {
            connection,
            channel: consuming,
            consumer,
            names: self.names.clone(),
            unacknowledged: 0,
            last_tag: 0,
        };
        Ok((sender, receiver))
    }

    fn connect_fault(&self, error: &lapin::Error) -> Fault {
        let AmqpAddress { host, vhost, .. } = &self.address;
        let Fault { text, is_lasting } = fault(error.clone());
        let is_login = text.contains("Login was refused");
        let advice = if is_login { " User and password are those in message_queue." } else { "" };
        Fault {
            text: format!("no connection to RabbitMQ at {host}, virtual host {vhost:?}: {text}{advice}"),
            is_lasting,
        }
        .or_of_certificate()
    }
}

/// Another number for each queue, so that no queue meets one of a lost connection that the broker still believes in.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

fn queue_options() -> QueueDeclareOptions {
    QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() }
}

fn queue_arguments() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-expires".into(), AMQPValue::LongInt(QUEUE_EXPIRES_MILLIS));
    arguments.insert("x-max-length-bytes".into(), AMQPValue::LongInt(AMQP_QUEUE_BYTES_MAX));
    arguments
}

impl Broker for AmqpBroker {
    type Sender = AmqpSender;
    type Receiver = AmqpReceiver;

    async fn connect(&mut self) -> Result<(AmqpSender, AmqpReceiver), Fault> {
        in_time(self.open()).await
    }

    fn slots(&self) -> u32 {
        SLOTS
    }

    fn keeps_messages(&self) -> bool {
        false
    }
}

pub(crate) struct AmqpSender {
    /// Ends when both halves are gone.
    #[expect(dead_code, reason = "its drop closes the connection")]
    connection: Arc<Connection>,
    publishing: lapin::Channel,
    queue: ShortString,
    names: Names,
    /// Whether python-socketio's exchange has been declared on this connection.
    has_python: bool,
}

impl AmqpSender {
    /// Makes python-socketio's exchange if it is not there, as Kombu does at both ends.
    async fn declare_python(&mut self) -> Result<(), Fault> {
        if self.has_python {
            return Ok(());
        }
        let (name, options) = (self.names.python.as_str().into(), ExchangeDeclareOptions::default());
        let declared =
            self.publishing.exchange_declare(name, ExchangeKind::Fanout, options, FieldTable::default());
        declared.await.map_err(fault)?;
        self.has_python = true;
        Ok(())
    }

    async fn change(&mut self, add: &[Channel], remove: &[Channel]) -> Result<(), Fault> {
        if add.contains(&Channel::Python) {
            self.declare_python().await?;
        }
        for channels in add.chunks(BINDINGS_AT_A_TIME) {
            let binding = channels.iter().map(|channel| async {
                let (exchange, key) = self.names.route(channel)?;
                let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
                let bound = self.publishing.queue_bind(
                    self.queue.clone(),
                    exchange.into(),
                    key.into(),
                    options,
                    arguments,
                );
                bound.await.map_err(fault)
            });
            try_join_all(binding).await?;
        }
        for channels in remove.chunks(BINDINGS_AT_A_TIME) {
            let unbinding = channels.iter().map(|channel| async {
                let (exchange, key) = self.names.route(channel)?;
                let unbound = self.publishing.queue_unbind(
                    self.queue.clone(),
                    exchange.into(),
                    key.into(),
                    FieldTable::default(),
                );
                unbound.await.map_err(fault)
            });
            try_join_all(unbinding).await?;
        }
        Ok(())
    }

    async fn send(&mut self, posts: &[Post]) -> Result<(), Fault> {
        let mut confirms = Vec::with_capacity(posts.len());
        for post in posts {
            let Some(bytes) = bytes_within(post, AMQP_BODY_BYTES_MAX)? else { continue };
            if post.channel == Channel::Python {
                self.declare_python().await?;
            }
            let (exchange, key) = self.names.route(&post.channel)?;
            let (options, properties) = (BasicPublishOptions::default(), properties(&post.channel));
            let sent = self.publishing.basic_publish(exchange.into(), key.into(), options, bytes, properties);
            confirms.push(sent.await.map_err(fault)?);
        }
        for confirm in confirms {
            if let Confirmation::Nack(_) = confirm.await.map_err(fault)? {
                return Err(Fault::passing("RabbitMQ has not taken a message"));
            }
        }
        Ok(())
    }
}

/// What stands beside the bytes. For python-socketio it is what Kombu writes for a text.
fn properties(channel: &Channel) -> BasicProperties {
    /// Not written to disk, and written to disk where the queue is durable.
    const TRANSIENT: u8 = 1;
    const PERSISTENT: u8 = 2;
    match channel {
        Channel::Python => BasicProperties::default()
            .with_content_type("text/plain".into())
            .with_content_encoding("utf-8".into())
            .with_headers(FieldTable::default())
            .with_delivery_mode(PERSISTENT)
            .with_priority(0),
        _ => BasicProperties::default().with_delivery_mode(TRANSIENT),
    }
}

impl Sender for AmqpSender {
    fn body_bytes_max(&self) -> usize {
        AMQP_BODY_BYTES_MAX
    }

    async fn subscribe(&mut self, add: &[Channel], remove: &[Channel]) -> Result<(), Fault> {
        in_time(self.change(add, remove)).await
    }

    async fn publish(&mut self, posts: &[Post]) -> Result<(), Fault> {
        in_time(self.send(posts)).await
    }
}

pub(crate) struct AmqpReceiver {
    /// Ends when both halves are gone.
    #[expect(dead_code, reason = "its drop closes the connection")]
    connection: Arc<Connection>,
    channel: lapin::Channel,
    consumer: Consumer,
    names: Names,
    /// Messages that were taken and not acknowledged, and the number of the last.
    unacknowledged: u16,
    last_tag: u64,
}

impl AmqpReceiver {
    /// Says that all up to the last were taken. If this is dropped half way, the next one says it.
    async fn acknowledge(&mut self) -> Result<(), Fault> {
        if std::mem::take(&mut self.unacknowledged) == 0 {
            return Ok(());
        }
        self.channel.basic_ack(self.last_tag, BasicAckOptions { multiple: true }).await.map_err(fault)
    }
}

impl Receiver for AmqpReceiver {
    async fn next(&mut self) -> Result<Delivery, Fault> {
        loop {
            // Before a message is taken, because a wait with one in hand would lose it if it were dropped.
            if self.unacknowledged >= ACK_MESSAGES {
                self.acknowledge().await?;
            }
            let taken = match self.consumer.next().now_or_never() {
                Some(taken) => taken,
                None => {
                    self.acknowledge().await?;
                    self.consumer.next().await
                }
            };
            let message = match taken {
                Some(message) => message.map_err(fault)?,
                None => return Err(Fault::passing("RabbitMQ has ended the subscription")),
            };
            self.unacknowledged += 1;
            self.last_tag = message.delivery_tag;
            if let Some(channel) = self.names.channel(message.exchange.as_str(), message.routing_key.as_str())
            {
                return Ok(Delivery { channel, body: Body::Bytes(Bytes::from(message.data)), offset: None });
            }
        }
    }
}

/// Work that the broker answers in time. RabbitMQ whose memory or disk is nearly full answers no publisher.
async fn in_time<T>(work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    tokio::time::timeout(AMQP_ANSWER_TIMEOUT, work).await.unwrap_or_else(|_| {
        let advice = "look for alarms of its memory or its disk";
        Err(Fault::passing(format!("RabbitMQ has not answered for {AMQP_ANSWER_TIMEOUT:?}: {advice}")))
    })
}

fn fault(error: lapin::Error) -> Fault {
    match error.kind() {
        ErrorKind::ProtocolError(refusal) => Fault {
            text: format!("RabbitMQ says: {}", refusal.get_message()),
            is_lasting: is_lasting(refusal.get_id()),
        },
        _ => Fault::passing(format!("RabbitMQ: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::contract::process::BrokerProcess;
    use crate::bus::contract::{Ends, Venue, post, run, whole, within};
    use crate::config::queue::address::QueueAddress;

    struct AmqpVenue(BrokerProcess);

    fn client_at(url: &str, channel: &str) -> AmqpBroker {
        let Ok(QueueAddress::Amqp(address)) = QueueAddress::parse(url) else {
            panic!("{url} is not understood")
        };
        AmqpBroker::new(&address, channel)
    }

    impl AmqpVenue {
        fn url(&self, login: &str, vhost: &str) -> String {
            format!("amqp://{login}@127.0.0.1:{}/{vhost}", self.0.port)
        }
    }

    impl Venue for AmqpVenue {
        type Client = AmqpBroker;

        fn client(&self, channel: &str) -> AmqpBroker {
            client_at(&self.url("guest:guest", ""), channel)
        }

        fn client_of_nobody(&self) -> Option<AmqpBroker> {
            Some(client_at("amqp://127.0.0.1:1", "nobody"))
        }

        fn client_with(&self, password: &str) -> Option<AmqpBroker> {
            Some(client_at(&self.url(&format!("guest:{password}"), ""), "nobody"))
        }

        fn kill(&mut self) {
            self.0.kill();
        }

        fn restart(&mut self) {
            self.0.restart();
        }
    }

    /// RabbitMQ takes long to start, so one has to do for all.
    #[test]
    fn rabbitmq_keeps_the_contract_and_its_own_rules() {
        let mut venue = AmqpVenue(BrokerProcess::rabbitmq());
        whole(&mut venue);
        run(a_message_that_is_too_large_is_left_out(&venue));
        run(another_description_of_the_exchange_is_a_lasting_fault(&venue));
        run(a_virtual_host_that_is_not_there_is_a_lasting_fault(&venue));
        run(python_gets_what_kombu_would_send(&venue));
        run(a_broker_that_is_stopped_in_order_is_a_fault(&mut venue));
    }

    async fn a_message_that_is_too_large_is_left_out(venue: &AmqpVenue) {
        let mut ends = Ends::of(&mut venue.client("large")).await;
        ends.subscribe(&[Channel::All], &[]).await;
        let larger = vec![b'x'; ends.sender.body_bytes_max() + 1];
        ends.publish(&[post(&Channel::All, larger), post(&Channel::All, "after")]).await;
        ends.hears(&Channel::All, "after").await;
    }

    async fn another_description_of_the_exchange_is_a_lasting_fault(venue: &AmqpVenue) {
        let other =
            Connection::connect_uri(venue.client("durable").uri(), ConnectionProperties::default()).await;
        let channel = other.as_ref().expect("a connection").create_channel().await.expect("a channel");
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let declared =
            channel.exchange_declare("durable".into(), ExchangeKind::Fanout, options, FieldTable::default());
        declared.await.expect("an exchange");
        let mut ends = Ends::of(&mut venue.client("durable")).await;
        let fault = ends.sender.subscribe(&[Channel::Python], &[]).await.expect_err("it is durable");
        assert!(fault.is_lasting && fault.text.contains("durable"), "{fault:?}");
    }

    async fn a_virtual_host_that_is_not_there_is_a_lasting_fault(venue: &AmqpVenue) {
        let mut client = client_at(&venue.url("guest:guest", "nowhere"), "nowhere");
        let fault = client.connect().await.err().expect("there is no such virtual host");
        assert!(fault.is_lasting && fault.text.contains("nowhere"), "{fault:?}");
    }

    /// As python-socketio with Kombu: a queue bound to the fanout exchange by an empty key, and what stands beside the bytes.
    async fn python_gets_what_kombu_would_send(venue: &AmqpVenue) {
        let kombu =
            Connection::connect_uri(venue.client("python").uri(), ConnectionProperties::default()).await;
        let channel = kombu.as_ref().expect("a connection").create_channel().await.expect("a channel");
        let (exchange, queue): (ShortString, ShortString) =
            ("flask-socketio".into(), "python-socketio.1".into());
        let (declare, none) = (ExchangeDeclareOptions::default(), FieldTable::default());
        channel
            .exchange_declare(exchange.clone(), ExchangeKind::Fanout, declare, none.clone())
            .await
            .expect("an exchange");
        channel
            .queue_declare(queue.clone(), QueueDeclareOptions::default(), none.clone())
            .await
            .expect("a queue");
        let bind = QueueBindOptions::default();
        channel
            .queue_bind(queue.clone(), exchange.clone(), "".into(), bind, none.clone())
            .await
            .expect("a binding");
        let consume = BasicConsumeOptions::default();
        let mut consumer =
            channel.basic_consume(queue, "None1".into(), consume, none).await.expect("a consumer");

        let mut ends = Ends::of(&mut venue.client("flask-socketio")).await;
        ends.subscribe(&[Channel::Python], &[]).await;
        ends.say(&Channel::Python, "{}").await;
        ends.hears(&Channel::Python, "{}").await;
        let message = within("a message", consumer.next()).await.expect("a message").expect("no error");
        assert_eq!((message.data.as_slice(), message.routing_key.as_str()), (&b"{}"[..], ""));
        assert_eq!(message.properties, properties(&Channel::Python));
        assert_eq!(message.properties.content_type().as_ref().map(ShortString::as_str), Some("text/plain"));
        assert_eq!(*message.properties.delivery_mode(), Some(2));

        let sent = channel.basic_publish(
            exchange,
            "*".into(),
            BasicPublishOptions::default(),
            b"[]",
            BasicProperties::default(),
        );
        sent.await.expect("it is sent");
        ends.hears(&Channel::Python, "[]").await;
    }

    async fn a_broker_that_is_stopped_in_order_is_a_fault(venue: &mut AmqpVenue) {
        let mut client = venue.client("stopped");
        let mut ends = Ends::of(&mut client).await;
        ends.subscribe(&[Channel::All], &[]).await;
        venue.0.terminate();
        let fault = within("a fault", ends.receiver.next()).await.expect_err("it has stopped");
        assert!(!fault.is_lasting, "{fault:?}");
        assert!(ends.sender.publish(&[post(&Channel::All, "unheard")]).await.is_err());
        venue.restart();
        let mut ends = Ends::of(&mut client).await;
        ends.subscribe(&[Channel::All], &[]).await;
        ends.say(&Channel::All, "again").await;
        ends.hears(&Channel::All, "again").await;
    }
}
