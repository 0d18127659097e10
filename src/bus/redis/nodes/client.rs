//! Servers of Redis, and how connections to them are made: one server, the nodes of a cluster, or the one that sentinels name.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo, Pipeline, ProtocolVersion, PushInfo,
    RedisConnectionInfo, RedisError, Value,
};
use tokio::time::timeout;

use crate::bus::Fault;
use crate::bus::redis::ahead::client::{Ahead, Silence};
use crate::bus::redis::cluster_slot;
use crate::bus::redis::faults::client::{answer_fault, fault, is_about_password};
use crate::bus::redis::queue::client::Queue;
use crate::bus::redis::streams::client::text;
use crate::config::queue::address::{Credentials, Host, RedisAddress};

/// How long one server may take to accept a connection and to greet.
const REDIS_CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long it may take to answer.
pub(in crate::bus::redis) const REDIS_RESPONSE_TIMEOUT: Duration = Duration::from_secs(4);

/// A host that is gone without a word is found out by the kernel: after so long without traffic it asks, each two seconds, and gives up
/// when something has not been acknowledged for this long.
const REDIS_SILENCE_MAX: Duration = Duration::from_secs(5);
const REDIS_UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(10);

/// The same for a connection on which messages are sent ahead.
const SILENCE: Silence = Silence {
    idle: REDIS_SILENCE_MAX,
    between: Duration::from_secs(2),
    probes: 3,
    unacknowledged: REDIS_UNACKNOWLEDGED_MAX,
};

/// One server, with a connection that speaks and one that hears: what comes must not hold up the answers to what is sent.
pub(in crate::bus::redis) struct Node {
    pub(in crate::bus::redis) host: Host,
    pub(in crate::bus::redis) speaking: MultiplexedConnection,
    pub(in crate::bus::redis) hearing: MultiplexedConnection,
    /// For what is sent ahead, once something is.
    pub(in crate::bus::redis) ahead: Option<Ahead>,
    /// To the sentinel that has named this server: see [`watch_sentinel`].
    #[expect(dead_code, reason = "its drop closes the connection")]
    pub(in crate::bus::redis) watching: Option<MultiplexedConnection>,
}

/// Takes what a server sends without being asked.
type Pushes = Box<dyn Fn(PushInfo) + Send + Sync>;

impl Node {
    pub(in crate::bus::redis) async fn open(
        address: &RedisAddress,
        host: Host,
        queue: &Queue,
    ) -> Result<Node, Fault> {
        let open = || {
            let (queue, from) = (queue.clone(), host.clone());
            let pushes: Pushes = Box::new(move |push| queue.push(&from, push));
            connect(address, &host, address.credentials.as_ref(), Some(pushes))
        };
        let speaking = open().await.map_err(|error| fault(&host, &error))?;
        let hearing = open().await.map_err(|error| fault(&host, &error))?;
        Ok(Node { host, speaking, hearing, ahead: None, watching: None })
    }

    /// The connection for what is sent ahead.
    pub(in crate::bus::redis) async fn ahead(&mut self, address: &RedisAddress) -> Result<&mut Ahead, Fault> {
        match &mut self.ahead {
            Some(ahead) => Ok(ahead),
            place => {
                let connect = timeout(REDIS_CONNECT_TIMEOUT, Ahead::connect(address, &self.host, SILENCE));
                let late = || Fault::passing(format!("redis at {} does not answer", self.host));
                Ok(place.insert(connect.await.unwrap_or_else(|_| Err(late()))?))
            }
        }
    }

    /// A server of which a sentinel says that it is the one to write to, if it says so itself.
    pub(in crate::bus::redis) async fn open_master(
        address: &RedisAddress,
        host: Host,
        queue: &Queue,
    ) -> Result<Node, Fault> {
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
    pub(in crate::bus::redis) async fn ranges(&mut self) -> Vec<(RangeInclusive<u16>, Host)> {
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
pub(in crate::bus::redis) struct Nodes {
    pub(in crate::bus::redis) address: Arc<RedisAddress>,
    pub(in crate::bus::redis) queue: Queue,
    /// The first is the one that was connected to, which has everything that is not sharded.
    pub(in crate::bus::redis) list: Vec<Node>,
    pub(in crate::bus::redis) ranges: Vec<(RangeInclusive<u16>, Host)>,
}

impl Nodes {
    /// The node that has a key or a sharded channel, by its place in the list.
    pub(in crate::bus::redis) async fn of_key(&mut self, key: &str) -> Result<usize, Fault> {
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

/// A connection; with a taker for what comes unasked.
pub(in crate::bus::redis) async fn connect(
    address: &RedisAddress,
    host: &Host,
    credentials: Option<&Credentials>,
    pushes: Option<Pushes>,
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
    if let Some(pushes) = pushes {
        config = config.set_push_sender(move |push| {
            pushes(push);
            Ok::<(), ()>(())
        });
    }
    Client::open(info)?.get_multiplexed_async_connection_with_config(&config).await
}

/// Where the server is that a sentinel calls by a name. Sentinels have no databases, and as a rule no passwords.
pub(in crate::bus::redis) async fn ask_sentinel(
    address: &RedisAddress,
    host: &Host,
    service: &str,
) -> Result<Host, Fault> {
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

/// A connection by which a sentinel tells that a service has another master: ours to the old one are over then. The old one may believe for ten
/// seconds more that it is the master, and one that hangs ends no connection. None: this sentinel tells nobody, so it is found out as at a
/// Redis without sentinels; as it is if this connection breaks.
pub(in crate::bus::redis) async fn watch_sentinel(
    address: &RedisAddress,
    host: &Host,
    service: &str,
    queue: &Queue,
) -> Option<MultiplexedConnection> {
    let plain = RedisAddress { database: 0, ..address.clone() };
    let subscribe = async |credentials| {
        let (queue, from, of) = (queue.clone(), host.clone(), service.to_owned());
        let pushes: Pushes = Box::new(move |push| queue.hear_sentinel(&from, &of, &push));
        let mut connection = connect(&plain, host, credentials, Some(pushes)).await?;
        connection.subscribe("+switch-master").await?;
        Ok::<_, RedisError>(connection)
    };
    let mut watching = subscribe(None).await;
    if watching.as_ref().is_err_and(is_about_password) && address.credentials.is_some() {
        watching = subscribe(address.credentials.as_ref()).await;
    }
    watching.ok()
}

/// Sends commands to a node, and finds the error in its answers.
pub(in crate::bus::redis) async fn send(
    node: &mut MultiplexedConnection,
    host: &Host,
    pipeline: &Pipeline,
) -> Result<(), Fault> {
    let answers = node.send_packed_commands(pipeline, 0, pipeline.len()).await;
    answer_fault(host, &answers.map_err(|error| fault(host, &error))?)
}
