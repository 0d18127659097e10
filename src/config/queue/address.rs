//! What the URL of a broker says, as values.
//!
//! Reads `SCHEME://USER:PASSWORD@HOST:PORT,HOST:PORT/PATH?OPTION=VALUE`. What is not understood is an error that says what to write,
//! and never what may be a password. Does not look names up, and does not know which brokers this program is built with.

use std::fmt;

use crate::base::shown::Shown;
use crate::config::check::nearest;

/// Bytes of a URL: that of sixteen servers with long names.
const URL_BYTES_MAX: usize = 4096;

/// Servers that one URL may name.
const HOSTS_MAX: usize = 16;

/// Bytes of the path of a Unix socket: what the kernel takes, with a zero behind (`sockaddr_un`).
const UNIX_PATH_BYTES_MAX: usize = 107;

/// The brokers there are, for whoever asked for another one.
const BROKERS: &str = "there are redis:// (and Valkey), amqp:// (RabbitMQ), kafka://, nats://, unix:PATH for the processes of one machine, and memory: for the servers of one process";

/// A broker, and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum QueueAddress {
    /// Servers of one process, by a name that they agree on; it may be empty.
    Memory(String),
    /// Processes of one machine, by the socket that one of them serves.
    Unix(String),
    Redis(RedisAddress),
    Amqp(AmqpAddress),
    /// The servers to ask first; they name the others.
    Kafka(Vec<Host>),
    Nats(NatsAddress),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RedisAddress {
    /// One, or sentinels, or some nodes of a cluster if the mode is [`RedisMode::Sharded`].
    pub(crate) hosts: Vec<Host>,
    pub(crate) is_tls: bool,
    /// The name is empty where only a password is given: Redis' user `default`.
    pub(crate) credentials: Option<Credentials>,
    pub(crate) database: u16,
    pub(crate) mode: RedisMode,
    /// The hosts are sentinels, which know where the server is.
    pub(crate) sentinel: Option<Sentinel>,
}

/// By what our own format goes. What others speak goes where they expect it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum RedisMode {
    #[default]
    PubSub,
    /// From Redis 7 on, and on clusters.
    Sharded,
    /// Kept by the broker for a while, and read on from where a lost connection was.
    Streams,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Sentinel {
    /// What the sentinels call the group of servers. Without it that is the channel, as in Python.
    pub(crate) service: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct AmqpAddress {
    pub(crate) host: Host,
    pub(crate) is_tls: bool,
    /// `guest` and `guest`, unless the URL says otherwise.
    pub(crate) credentials: Credentials,
    /// `/`, unless the URL says otherwise.
    pub(crate) vhost: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct NatsAddress {
    pub(crate) hosts: Vec<Host>,
    pub(crate) is_tls: bool,
    pub(crate) credentials: Option<NatsCredentials>,
    pub(crate) mode: NatsMode,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum NatsMode {
    #[default]
    Core,
    /// Kept by the broker for a while, and read on from where a lost connection was.
    JetStream,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum NatsCredentials {
    User(Credentials),
    Token(Secret),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Credentials {
    pub(crate) user: String,
    pub(crate) password: Secret,
}

/// What is not to be shown.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Secret(String);

impl Secret {
    /// The text itself, for the broker.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

/// A server: a name or an address without brackets, and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) port: u16,
}

/// `name:port`; an address of IPv6 stands in brackets.
impl fmt::Display for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.contains(':') {
            true => write!(formatter, "[{}]:{}", self.name, self.port),
            false => write!(formatter, "{}:{}", self.name, self.port),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Redis { is_tls: bool },
    Sentinel,
    Amqp { is_tls: bool },
    Kafka,
    Nats { is_tls: bool },
}

const SCHEMES: &[(&str, Kind)] = &[
    ("redis", Kind::Redis { is_tls: false }),
    ("rediss", Kind::Redis { is_tls: true }),
    ("valkey", Kind::Redis { is_tls: false }),
    ("valkeys", Kind::Redis { is_tls: true }),
    ("redis+sentinel", Kind::Sentinel),
    ("valkey+sentinel", Kind::Sentinel),
    ("amqp", Kind::Amqp { is_tls: false }),
    ("amqps", Kind::Amqp { is_tls: true }),
    ("kafka", Kind::Kafka),
    ("nats", Kind::Nats { is_tls: false }),
    ("natss", Kind::Nats { is_tls: true }),
];

/// What other programs call these brokers.
const OTHER_NAMES: &[(&str, &str)] = &[
    ("pyamqp", "amqp://"),
    ("librabbitmq", "amqp://"),
    ("rabbitmq", "amqp://"),
    ("pyamqps", "amqps://"),
    ("sentinel", "redis+sentinel://"),
    ("redis-sentinel", "redis+sentinel://"),
    ("confluentkafka", "kafka://"),
    ("tls", "natss://"),
    ("unix", "redis:// with a host: sockets of Unix are not supported"),
    ("redis+unix", "redis:// with a host: sockets of Unix are not supported"),
    ("redis+socket", "redis:// with a host: sockets of Unix are not supported"),
    ("memory", "memory: or memory:NAME"),
];

/// What python-socketio, and Kombu below it, can use and this server cannot.
const OTHER_BROKERS: &[&str] = &[
    "azureservicebus",
    "azurestoragequeues",
    "consul",
    "etcd",
    "filesystem",
    "gcpubsub",
    "mongodb",
    "mongodb+srv",
    "pyro",
    "qpid",
    "sla",
    "slmq",
    "softlayer",
    "sqla",
    "sqlalchemy",
    "sqs",
    "zmq",
    "zmq+tcp",
    "zookeeper",
];

/// A URL in its parts, none of them decoded.
struct Parts<'a> {
    scheme: &'a str,
    user: Option<&'a str>,
    hosts: &'a str,
    /// Without its first slash.
    path: &'a str,
    query: Option<&'a str>,
}

impl QueueAddress {
    /// # Errors
    /// What is wrong and what to write. Nothing of it is what may be a password.
    pub(crate) fn parse(text: &str) -> Result<QueueAddress, String> {
        if text.len() > URL_BYTES_MAX {
            return Err(format!("it has {} bytes, and the most is {URL_BYTES_MAX}", text.len()));
        }
        if text.chars().any(|char| char.is_control() || char.is_whitespace()) {
            return Err(
                "there is a space or a control character in it: in a URL they are encoded, %20".into()
            );
        }
        if let Some(name) = text.strip_prefix("memory:").filter(|name| !name.starts_with("//")) {
            return memory(name);
        }
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.starts_with("//")) {
            return unix(path);
        }
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| format!("it begins with no broker, as in redis://localhost:6379/0: {BROKERS}"))?;
        let scheme = scheme.to_ascii_lowercase();
        let found = SCHEMES.iter().find(|(name, _)| *name == scheme);
        let (_, kind) = found.ok_or_else(|| unknown_scheme(&scheme))?;
        let parts = split(&scheme, rest)?;
        match *kind {
            Kind::Redis { is_tls } => redis(&parts, is_tls).map(QueueAddress::Redis),
            Kind::Sentinel => sentinel(&parts).map(QueueAddress::Redis),
            Kind::Amqp { is_tls } => amqp(&parts, is_tls).map(QueueAddress::Amqp),
            Kind::Kafka => kafka(&parts).map(QueueAddress::Kafka),
            Kind::Nats { is_tls } => nats(&parts, is_tls).map(QueueAddress::Nats),
        }
    }
}

fn unknown_scheme(scheme: &str) -> String {
    if let Some((_, meant)) = OTHER_NAMES.iter().find(|(name, _)| *name == scheme) {
        return format!("write {meant}");
    }
    let first = scheme.split('+').next().unwrap_or_default();
    if OTHER_BROKERS.contains(&scheme) || OTHER_BROKERS.contains(&first) {
        return format!("{scheme}:// is not supported: {BROKERS}. A small Redis does what most need");
    }
    match nearest(SCHEMES.iter().map(|(name, _)| *name), scheme) {
        Some(near) => format!("{}:// is unknown; did you mean {near}://?", Shown(scheme)),
        None => format!("{}:// is unknown: {BROKERS}", Shown(scheme)),
    }
}

/// A name is for people who have several fleets in one process, as tests do.
fn memory(name: &str) -> Result<QueueAddress, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    match name.bytes().all(is_plain) {
        true => Ok(QueueAddress::Memory(name.to_owned())),
        false => Err("write memory: or memory:NAME, with a name of letters, digits and -_.".to_owned()),
    }
}

/// The path is whole, so that processes in different folders mean the same one.
fn unix(path: &str) -> Result<QueueAddress, String> {
    match path.starts_with('/') && path.len() <= UNIX_PATH_BYTES_MAX {
        true => Ok(QueueAddress::Unix(path.to_owned())),
        false => Err(format!("write unix:/PATH, from the root on, in at most {UNIX_PATH_BYTES_MAX} bytes")),
    }
}

fn split<'a>(scheme: &'a str, rest: &'a str) -> Result<Parts<'a>, String> {
    let encoded = |char: char, code: &str| {
        format!("there is a {char} where none can be: in a user name or a password write {code} for it")
    };
    if rest.contains('#') {
        return Err(encoded('#', "%23"));
    }
    let (place, query) = match rest.split_once('?') {
        Some((place, query)) => (place, Some(query)),
        None => (rest, None),
    };
    if query.is_some_and(|query| query.contains('@')) {
        return Err(encoded('?', "%3F"));
    }
    let (authority, path) = place.split_once('/').unwrap_or((place, ""));
    if path.contains('@') {
        return Err(encoded('/', "%2F"));
    }
    let (user, hosts) = match authority.rsplit_once('@') {
        Some((user, hosts)) => (Some(user), hosts),
        None => (None, authority),
    };
    if user.is_some_and(|user| user.contains('@')) {
        let advice = "where there are several hosts, user and password stand once, before the first";
        return Err(format!("{}; {advice}", encoded('@', "%40")));
    }
    Ok(Parts { scheme, user, hosts, path, query })
}

impl Parts<'_> {
    /// The hosts, `localhost` if there is none.
    fn hosts(&self, port_default: u16) -> Result<Vec<Host>, String> {
        if self.hosts.is_empty() {
            return Ok(vec![Host { name: "localhost".to_owned(), port: port_default }]);
        }
        let count = self.hosts.split(',').count();
        if count > HOSTS_MAX {
            return Err(format!("it names {count} hosts, and the most is {HOSTS_MAX}"));
        }
        self.hosts.split(',').map(|host| read_host(host, port_default)).collect()
    }

    fn one_host(&self, port_default: u16) -> Result<Host, String> {
        let mut hosts = self.hosts(port_default)?;
        match (hosts.pop(), hosts.is_empty()) {
            (Some(host), true) => Ok(host),
            _ => Err(format!("{}:// has one host; put a balancer's address there", self.scheme)),
        }
    }

    /// A user's name, and a password if there is one.
    fn user(&self) -> Result<Option<(String, Option<Secret>)>, String> {
        let Some(user) = self.user else { return Ok(None) };
        let (name, password) = match user.split_once(':') {
            Some((name, password)) => (name, Some(password)),
            None => (user, None),
        };
        let what = "the user name or the password";
        let password = password.map(|password| decoded(password, what)).transpose()?.map(Secret);
        Ok(Some((decoded(name, what)?, password)))
    }

    fn credentials(&self) -> Result<Option<Credentials>, String> {
        let scheme = self.scheme;
        match self.user()? {
            None => Ok(None),
            Some((user, Some(password))) => Ok(Some(Credentials { user, password })),
            Some((_, None)) => Err(format!(
                "before the @ there is no password: write {scheme}://USER:PASSWORD@HOST, or {scheme}://:PASSWORD@HOST"
            )),
        }
    }

    /// Reads `mode=..`, the only option there is.
    fn mode<T: Copy + Default>(&self, modes: &[(&'static str, T)]) -> Result<T, String> {
        let scheme = self.scheme;
        let names: Vec<&str> = modes.iter().map(|(name, _)| *name).collect();
        let known = match names.is_empty() {
            true => format!("{scheme}:// has no options"),
            false => format!("{scheme}:// has mode={}", names.join("|")),
        };
        let mut mode = None;
        for option in self.query.unwrap_or_default().split('&').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            if name != "mode" || names.is_empty() {
                let near = names.first().and_then(|_| nearest(["mode"].into_iter(), name));
                let advice = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
                return Err(format!("the option {} is unknown{advice}: {known}", Shown(name)));
            }
            let Some((_, found)) = modes.iter().find(|(known, _)| *known == value) else {
                let near = nearest(modes.iter().map(|(name, _)| *name), value);
                let advice = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
                return Err(format!("mode={} is unknown{advice}: {known}", Shown(value)));
            };
            if mode.replace(*found).is_some() {
                return Err("mode is there twice: leave one".to_owned());
            }
        }
        Ok(mode.unwrap_or_default())
    }
}

fn read_host(text: &str, port_default: u16) -> Result<Host, String> {
    // What stands there may be a password whose host is missing.
    const NO_PORT: &str = "what follows a host is no port: write a colon and a number from 1 to 65535";
    let (name, rest) = match text.strip_prefix('[') {
        Some(bracketed) => {
            let (name, rest) = bracketed.split_once(']').ok_or("an address begins with [ and has no ]")?;
            if name.parse::<std::net::Ipv6Addr>().is_err() {
                return Err("there is something else than an address of IPv6 in brackets".to_owned());
            }
            (name, rest)
        }
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    if rest.matches(':').count() > 1 {
        return Err("an address of IPv6 stands in brackets: [::1]:6379".to_owned());
    }
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_plain) {
        return Err("a host is missing, or has characters that no host's name has".to_owned());
    }
    let port = match (rest, rest.strip_prefix(':')) {
        ("", _) => port_default,
        (_, Some(port)) => port.parse().ok().filter(|port| *port > 0).ok_or(NO_PORT)?,
        (_, None) => return Err(NO_PORT.to_owned()),
    };
    Ok(Host { name: name.to_owned(), port })
}

/// Percent-decoding (RFC 3986 §2.1).
fn decoded(text: &str, what: &str) -> Result<String, String> {
    let wrong = || format!("{what}: a % is followed by two hexadecimal digits, and stands for itself as %25");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let (digits, after) = rest.split_first_chunk::<2>().ok_or_else(wrong)?;
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let [high, low] = digits.map(digit);
        bytes.push(high.zip(low).map(|(high, low)| high * 16 + low).ok_or_else(wrong)?);
        rest = after;
    }
    let text =
        String::from_utf8(bytes).map_err(|_| format!("{what}: the bytes that %.. stand for are no UTF-8"))?;
    match text.contains('\0') {
        true => Err(format!("{what}: there is a zero byte in it")),
        false => Ok(text),
    }
}

fn redis(parts: &Parts<'_>, is_tls: bool) -> Result<RedisAddress, String> {
    let mode = redis_mode(parts)?;
    let hosts = parts.hosts(6379)?;
    if hosts.len() > 1 && mode != RedisMode::Sharded {
        let scheme = parts.scheme;
        return Err(format!(
            "several hosts are sentinels (redis+sentinel://) or nodes of a cluster ({scheme}://..?mode=sharded)"
        ));
    }
    let database =
        database(parts.path, "the path is the number of a database, as in redis://localhost:6379/0")?;
    if hosts.len() > 1 && database != 0 {
        return Err(format!("database {database}: a cluster has database 0 only"));
    }
    Ok(RedisAddress { hosts, is_tls, credentials: parts.credentials()?, database, mode, sentinel: None })
}

fn redis_mode(parts: &Parts<'_>) -> Result<RedisMode, String> {
    parts.mode(&[
        ("pubsub", RedisMode::PubSub),
        ("sharded", RedisMode::Sharded),
        ("streams", RedisMode::Streams),
    ])
}

fn database(path: &str, otherwise: &str) -> Result<u16, String> {
    match path {
        "" => Ok(0),
        number => number.parse().map_err(|_| otherwise.to_owned()),
    }
}

fn sentinel(parts: &Parts<'_>) -> Result<RedisAddress, String> {
    let otherwise =
        format!("the path is a database and a service, as in {}://host1,host2/0/mymaster", parts.scheme);
    let (number, service) = match parts.path.split_once('/') {
        Some((number, service)) => (number, decoded(service, "the service")?),
        None => (parts.path, String::new()),
    };
    if service.contains('/') {
        return Err(otherwise);
    }
    let service = Some(service).filter(|service| !service.is_empty());
    Ok(RedisAddress {
        hosts: parts.hosts(26379)?,
        is_tls: false,
        credentials: parts.credentials()?,
        database: database(number, &otherwise)?,
        mode: redis_mode(parts)?,
        sentinel: Some(Sentinel { service }),
    })
}

fn amqp(parts: &Parts<'_>, is_tls: bool) -> Result<AmqpAddress, String> {
    parts.mode::<()>(&[])?;
    let vhost = match parts.path {
        "" | "/" => "/".to_owned(),
        path if path.contains('/') => {
            return Err("the path is a virtual host: write %2F for a slash in its name".to_owned());
        }
        path => decoded(path, "the virtual host")?,
    };
    let guest = || Credentials { user: "guest".to_owned(), password: Secret("guest".to_owned()) };
    Ok(AmqpAddress {
        host: parts.one_host(if is_tls { 5671 } else { 5672 })?,
        is_tls,
        credentials: parts.credentials()?.unwrap_or_else(guest),
        vhost,
    })
}

fn kafka(parts: &Parts<'_>) -> Result<Vec<Host>, String> {
    parts.mode::<()>(&[])?;
    no_path(parts)?;
    if parts.user.is_some() {
        return Err(
            "kafka:// takes no user and no password: connect where the broker asks for none".to_owned()
        );
    }
    parts.hosts(9092)
}

fn nats(parts: &Parts<'_>, is_tls: bool) -> Result<NatsAddress, String> {
    no_path(parts)?;
    let credentials = parts.user()?.map(|(user, password)| match password {
        Some(password) => NatsCredentials::User(Credentials { user, password }),
        None => NatsCredentials::Token(Secret(user)),
    });
    Ok(NatsAddress {
        hosts: parts.hosts(4222)?,
        is_tls,
        credentials,
        mode: parts.mode(&[("core", NatsMode::Core), ("jetstream", NatsMode::JetStream)])?,
    })
}

fn no_path(parts: &Parts<'_>) -> Result<(), String> {
    match parts.path {
        "" => Ok(()),
        path => Err(format!("{}:// has no path: leave out /{}", parts.scheme, Shown(path))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(list: &[(&str, u16)]) -> Vec<Host> {
        list.iter().map(|(name, port)| Host { name: (*name).to_owned(), port: *port }).collect()
    }

    fn credentials(user: &str, password: &str) -> Credentials {
        Credentials { user: user.to_owned(), password: Secret(password.to_owned()) }
    }

    /// `redis://localhost` with other fields.
    fn redis(change: impl FnOnce(&mut RedisAddress)) -> QueueAddress {
        let mut address = RedisAddress {
            hosts: hosts(&[("localhost", 6379)]),
            is_tls: false,
            credentials: None,
            database: 0,
            mode: RedisMode::PubSub,
            sentinel: None,
        };
        change(&mut address);
        QueueAddress::Redis(address)
    }

    fn amqp(change: impl FnOnce(&mut AmqpAddress)) -> QueueAddress {
        let mut address = AmqpAddress {
            host: Host { name: "localhost".to_owned(), port: 5672 },
            is_tls: false,
            credentials: credentials("guest", "guest"),
            vhost: "/".to_owned(),
        };
        change(&mut address);
        QueueAddress::Amqp(address)
    }

    fn nats(change: impl FnOnce(&mut NatsAddress)) -> QueueAddress {
        let mut address = NatsAddress {
            hosts: hosts(&[("localhost", 4222)]),
            is_tls: false,
            credentials: None,
            mode: NatsMode::Core,
        };
        change(&mut address);
        QueueAddress::Nats(address)
    }

    #[test]
    fn urls_of_redis_are_read() {
        let rows = [
            ("redis://", redis(|_| ())),
            ("REDIS://localhost/", redis(|_| ())),
            ("valkey://localhost:6379/0?mode=pubsub", redis(|_| ())),
            (
                "rediss://u%40x:p%3A%2F%3F%23%40%25@h:7/3?mode=streams",
                redis(|address| {
                    address.hosts = hosts(&[("h", 7)]);
                    address.is_tls = true;
                    address.credentials = Some(credentials("u@x", "p:/?#@%"));
                    address.database = 3;
                    address.mode = RedisMode::Streams;
                }),
            ),
            (
                "valkeys://:p:q@[::1]",
                redis(|address| {
                    address.hosts = hosts(&[("::1", 6379)]);
                    address.is_tls = true;
                    address.credentials = Some(credentials("", "p:q"));
                }),
            ),
            (
                "redis://a,b:7,[::1]:8?mode=sharded",
                redis(|address| {
                    address.hosts = hosts(&[("a", 6379), ("b", 7), ("::1", 8)]);
                    address.mode = RedisMode::Sharded;
                }),
            ),
            (
                "redis+sentinel://u:p@h1:1,h2/2/main",
                redis(|address| {
                    address.hosts = hosts(&[("h1", 1), ("h2", 26379)]);
                    address.credentials = Some(credentials("u", "p"));
                    address.database = 2;
                    address.sentinel = Some(Sentinel { service: Some("main".to_owned()) });
                }),
            ),
            (
                "valkey+sentinel://h1",
                redis(|address| {
                    address.hosts = hosts(&[("h1", 26379)]);
                    address.sentinel = Some(Sentinel { service: None });
                }),
            ),
        ];
        for (text, expected) in rows {
            assert_eq!(QueueAddress::parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn urls_of_other_brokers_are_read() {
        let rows = [
            ("memory:", QueueAddress::Memory(String::new())),
            ("memory:chat-1.a_b", QueueAddress::Memory("chat-1.a_b".to_owned())),
            ("unix:/run/chat/queue", QueueAddress::Unix("/run/chat/queue".to_owned())),
            ("amqp://", amqp(|_| ())),
            ("amqp://guest:guest@localhost:5672//", amqp(|_| ())),
            ("amqp://localhost/%2F", amqp(|_| ())),
            (
                "amqps://u:p@rabbit/chat",
                amqp(|address| {
                    address.host = Host { name: "rabbit".to_owned(), port: 5671 };
                    address.is_tls = true;
                    address.credentials = credentials("u", "p");
                    address.vhost = "chat".to_owned();
                }),
            ),
            ("kafka://", QueueAddress::Kafka(hosts(&[("localhost", 9092)]))),
            ("kafka://a:1,b_2.c", QueueAddress::Kafka(hosts(&[("a", 1), ("b_2.c", 9092)]))),
            ("nats://localhost", nats(|_| ())),
            (
                "natss://u:p@a,b:1/?mode=jetstream",
                nats(|address| {
                    address.hosts = hosts(&[("a", 4222), ("b", 1)]);
                    address.is_tls = true;
                    address.credentials = Some(NatsCredentials::User(credentials("u", "p")));
                    address.mode = NatsMode::JetStream;
                }),
            ),
            (
                "nats://t%20k@localhost",
                nats(|address| address.credentials = Some(NatsCredentials::Token(Secret("t k".to_owned())))),
            ),
        ];
        for (text, expected) in rows {
            assert_eq!(QueueAddress::parse(text), Ok(expected), "{text}");
        }
    }

    /// Wherever a password can be, it is `s3cret`, and no fault may show it.
    fn check_faults(rows: &[(&str, &str)]) {
        for (text, expected) in rows {
            let fault = QueueAddress::parse(text).expect_err(text);
            assert!(fault.contains(expected), "{text}: {fault}");
            assert!(!fault.contains("s3") && !fault.contains("cret"), "{text}: {fault}");
        }
    }

    #[test]
    fn a_broker_that_is_unknown_is_named_with_those_that_are() {
        check_faults(&[
            ("localhost:6379", "it begins with no broker, as in redis://localhost:6379/0"),
            ("user:s3cret@localhost", "it begins with no broker"),
            ("reddis://localhost", "reddis:// is unknown; did you mean redis://?"),
            (
                "rabitmq://localhost",
                "rabitmq:// is unknown: there are redis:// (and Valkey), amqp:// (RabbitMQ)",
            ),
            ("amq://localhost", "did you mean amqp://?"),
            ("natz://localhost", "did you mean nats://?"),
            ("kakfa://localhost", "did you mean kafka://?"),
            ("http://localhost", "http:// is unknown: there are redis://"),
            ("pyamqp://guest:s3cret@localhost", "write amqp://"),
            ("rabbitmq://localhost", "write amqp://"),
            ("sentinel://localhost", "write redis+sentinel://"),
            ("confluentkafka://localhost", "write kafka://"),
            ("tls://localhost", "write natss://"),
            ("unix:///run/redis.sock", "sockets of Unix are not supported"),
            ("memory://", "write memory: or memory:NAME"),
            ("unix:run/queue", "write unix:/PATH"),
            ("unix:", "write unix:/PATH"),
            ("memory:a b", "a space"),
            ("memory:a/b", "letters, digits"),
            ("zmq+tcp://h:1+2", "zmq+tcp:// is not supported: there are redis://"),
            ("sqs://key:s3cret@", "sqs:// is not supported"),
            ("sqla+postgresql://u:s3cret@h/db", "sqla+postgresql:// is not supported"),
        ]);
    }

    #[test]
    fn what_is_wrong_is_said_with_what_to_write() {
        check_faults(&[
            ("redis://u:s3cret@a\n", "a control character"),
            ("redis://u:s3#cret@a", "write %23"),
            ("redis://u:s3?cret@a", "write %3F"),
            ("redis://u:s3/cret@a", "write %2F"),
            ("redis://u:s3@cret@a", "write %40"),
            ("redis://u:s3%cret@a", "stands for itself as %25"),
            ("redis://u:s3cret%@a", "stands for itself as %25"),
            ("redis://u:s3cret%ff@a", "are no UTF-8"),
            ("redis://u:s3cret%00@a", "a zero byte"),
            ("redis://s3cret@a", "there is no password: write redis://USER:PASSWORD@HOST"),
            ("redis://u:s3cret", "is no port"),
            ("redis://a:0", "is no port"),
            ("redis://a:70000", "is no port"),
            ("redis://a:", "is no port"),
            ("redis://::1", "stands in brackets"),
            ("redis://[::1", "has no ]"),
            ("redis://[a]", "something else than an address of IPv6"),
            ("redis://[::1]6379", "is no port"),
            ("redis://a!b", "no host's name"),
            ("redis://a,,b?mode=sharded", "a host is missing"),
            ("redis://a,b", "redis+sentinel://"),
            ("redis://a,b/1?mode=sharded", "database 0 only"),
            ("redis://a/chat", "the number of a database"),
            ("redis://a/0/main", "the number of a database"),
            ("redis://a/-1", "the number of a database"),
            ("redis://a?mode=stream", "mode=stream is unknown; did you mean streams?"),
            ("redis://a?mode=jetstream", "redis:// has mode=pubsub|sharded|streams"),
            ("redis://a?mdoe=streams", "the option mdoe is unknown; did you mean mode?"),
            ("redis://a?password=s3cret", "the option password is unknown: redis:// has mode="),
            ("redis://a?mode=streams&mode=pubsub", "mode is there twice"),
            ("redis+sentinel://a/main", "a database and a service"),
            ("redis+sentinel://a/0/main/b", "a database and a service"),
            ("amqp://a,b", "amqp:// has one host"),
            ("amqp://a/b/c", "write %2F for a slash"),
            ("amqp://a?heartbeat=1", "amqp:// has no options"),
            ("kafka://u:s3cret@a", "takes no user and no password"),
            ("kafka://a/topic", "kafka:// has no path: leave out /topic"),
            ("kafka://a?mode=streams", "kafka:// has no options"),
            ("nats://a/0", "nats:// has no path"),
            ("nats://u:s3cret@a,u:s3cret@b", "stand once, before the first"),
            ("nats://a?mode=streams", "mode=streams is unknown"),
            ("nats://a?mode=jet", "did you mean jetstream?"),
        ]);
    }

    #[test]
    fn a_url_has_a_length_and_a_number_of_hosts() {
        let long = format!("redis://{}", "a".repeat(URL_BYTES_MAX));
        assert!(QueueAddress::parse(&long).is_err_and(|fault| fault.contains("the most is 4096")));
        let list = |count: usize| format!("kafka://{}", vec!["a"; count].join(","));
        assert!(QueueAddress::parse(&list(HOSTS_MAX)).is_ok());
        assert!(QueueAddress::parse(&list(HOSTS_MAX + 1)).is_err_and(|fault| fault.contains("17 hosts")));
    }

    #[test]
    fn what_is_parsed_shows_no_password() {
        for text in ["redis://u:s3cret@a", "amqp://u:s3cret@a", "nats://u:s3cret@a", "nats://s3cret@a"] {
            let address = QueueAddress::parse(text).expect(text);
            assert!(!format!("{address:#?}").contains("s3cret"), "{address:?}");
        }
    }
}
