//! A broker within the process: servers that name the same one meet there (`memory:`, `memory:NAME`), and tests of faults take it
//! away and bring it back.
//!
//! [`Exchange`] is a plain value without IO, clock or threads, so that a simulation drives it by itself; [`client`] shares it between
//! threads, and waits. Like Redis' pub/sub it keeps nothing: who is not connected, or has not subscribed, misses a message. If a server is to
//! leave its sockets here ([`Exchange::keep`]), it keeps those, and the last messages of our own channels to be read back.

pub(crate) mod client;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use rustc_hash::{FxHashMap, FxHashSet};

use super::{Body, Channel, Delivery, Fault, Post, ReadBack};
use crate::message::recovery::Position;

/// Bytes of messages that wait for one connection. One that is further behind is closed, as Redis does, so that it does not cost
/// the others memory.
pub(crate) const MEMORY_QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Connections of one exchange: each server of the process has one.
pub(crate) const MEMORY_CONNECTIONS_MAX: usize = 1024;

/// What one connection hears: all slots, and as many channels of Node's adapters besides.
pub(crate) const MEMORY_CHANNELS_MAX: usize = 2 * SLOTS as usize;

/// Patterns of one connection; each is compared with the name of every message on a plain channel.
pub(crate) const MEMORY_PATTERNS_MAX: usize = 64;

/// Slots of rooms. A slot that is heard costs an entry in a table, so there are many.
pub(crate) const SLOTS: u32 = 131_072;

/// Messages that are kept to be read back, and their bytes; the oldest go.
pub(crate) const MEMORY_KEPT_LEN_MAX: usize = 16 * 1024;
pub(crate) const MEMORY_KEPT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Records that are kept until somebody takes them; the oldest go.
pub(crate) const MEMORY_RECORDS_MAX: usize = 16 * 1024;

/// What a message weighs beside its bytes: its place in a queue, and its channel's name.
const MESSAGE_BYTES: usize = 128;

/// A connection, by a number that is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Link(u64);

/// The broker. One that is down refuses connections; it begins as one that is up.
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    is_down: bool,
    links_made: u64,
    links: BTreeMap<Link, Connected>,
    /// Who hears a channel, in the order in which they subscribed. An entry has one at least.
    listeners: FxHashMap<Channel, Vec<Link>>,
    /// Connections with patterns.
    pattern_links: BTreeSet<Link>,
    /// Connections that have something new to take since they were last asked for.
    woken: BTreeSet<Link>,
    keeps: bool,
    /// Messages of our own channels, with their places, which are numbers.
    kept: VecDeque<(u64, Channel, Body)>,
    kept_bytes: usize,
    places: u64,
    /// By name; the number says which of several with one name is there.
    records: FxHashMap<Box<str>, (u64, Body)>,
    records_in_order: VecDeque<(u64, Box<str>)>,
}

/// One connection. One that was broken by the broker stays until it has been told.
#[derive(Debug, Default)]
struct Connected {
    channels: FxHashSet<Channel>,
    patterns: Vec<Box<str>>,
    queue: VecDeque<Delivery>,
    queue_bytes: usize,
    broken: Option<&'static str>,
}

impl Exchange {
    /// A new connection without subscriptions.
    pub(crate) fn connect(&mut self) -> Result<Link, Fault> {
        if self.is_down {
            return Err(Fault::passing("the exchange in memory is down"));
        }
        if self.links.len() >= MEMORY_CONNECTIONS_MAX {
            return Err(Fault::lasting(format!(
                "the exchange in memory has {MEMORY_CONNECTIONS_MAX} connections, the most that it takes"
            )));
        }
        self.links_made += 1;
        let link = Link(self.links_made);
        self.links.insert(link, Connected::default());
        Ok(link)
    }

    /// Ends a connection, and forgets what it was owed.
    pub(crate) fn disconnect(&mut self, link: Link) {
        self.silence(link);
        self.links.remove(&link);
    }

    /// Hears `add` and no longer `remove`. What has arrived already can still be taken.
    pub(crate) fn subscribe(&mut self, link: Link, add: &[Channel], remove: &[Channel]) -> Result<(), Fault> {
        self.connected(link)?;
        for channel in add {
            self.listen(link, channel)?;
        }
        for channel in remove {
            self.ignore(link, channel);
        }
        Ok(())
    }

    /// Gives each message to those who hear its channel, the publisher among them.
    pub(crate) fn publish(&mut self, link: Link, posts: &[Post]) -> Result<(), Fault> {
        self.connected(link)?;
        for post in posts {
            if matches!(post.channel, Channel::Pattern(_)) {
                return Err(Fault::lasting(format!(
                    "{:?} is a pattern: nothing can be published to it",
                    post.channel
                )));
            }
            let place = self.keep_post(post);
            for (listener, copies) in self.hearers(&post.channel) {
                self.deliver(listener, post, (copies, place));
            }
        }
        Ok(())
    }

    /// From here on what is published can be read back, and records are kept.
    pub(crate) fn keep(&mut self) {
        self.keeps = true;
    }

    /// What is kept by these names, each for the last time.
    pub(crate) fn take_records(&mut self, names: &[String]) -> Vec<Option<Bytes>> {
        let taken = names.iter().map(|name| match self.records.remove(name.as_str()) {
            Some((_, Body::Bytes(bytes))) => Some(bytes),
            _ => None,
        });
        taken.collect()
    }

    /// Messages of our own channels from a place on, so many at most.
    pub(crate) fn read_back(&self, from: Position, len_max: usize) -> ReadBack {
        let start = self.kept.partition_point(|(place, ..)| Position(*place, 0) < from);
        let read = self.kept.range(start..).take(len_max).map(|(place, channel, body)| Delivery {
            channel: channel.clone(),
            body: body.clone(),
            offset: Some(place.to_string().into()),
        });
        ReadBack { deliveries: read.collect(), is_end: self.kept.len() - start < len_max }
    }

    /// Keeps what is to be kept; the place of a message that can be read back.
    fn keep_post(&mut self, post: &Post) -> Option<u64> {
        if !self.keeps {
            return None;
        }
        self.places += 1;
        let place = self.places;
        match &post.channel {
            Channel::Record { name, .. } => {
                self.records.insert(name.clone(), (place, post.body.clone()));
                self.records_in_order.push_back((place, name.clone()));
                if self.records_in_order.len() > MEMORY_RECORDS_MAX
                    && let Some((place, name)) = self.records_in_order.pop_front()
                    && self.records.get(&name).is_some_and(|(known, _)| *known == place)
                {
                    self.records.remove(&name);
                }
                None
            }
            Channel::All | Channel::Slot(_) => {
                self.kept_bytes += weight(&post.body);
                self.kept.push_back((place, post.channel.clone(), post.body.clone()));
                while self.kept.len() > MEMORY_KEPT_LEN_MAX || self.kept_bytes > MEMORY_KEPT_BYTES_MAX {
                    let Some((_, _, body)) = self.kept.pop_front() else { break };
                    self.kept_bytes -= weight(&body);
                }
                Some(place)
            }
            _ => None,
        }
    }

    /// The next message of a connection, if one is there. A fault ends the connection.
    pub(crate) fn take(&mut self, link: Link) -> Result<Option<Delivery>, Fault> {
        self.connected(link)?;
        let Some(connected) = self.links.get_mut(&link) else { return Ok(None) };
        let Some(delivery) = connected.queue.pop_front() else { return Ok(None) };
        connected.queue_bytes -= weight(&delivery.body);
        Ok(Some(delivery))
    }

    /// The broker is gone: all connections are broken, what they had not taken is lost, and there are no new ones.
    #[cfg(test)]
    pub(crate) fn stop(&mut self) {
        self.is_down = true;
        let links: Vec<Link> = self.links.keys().copied().collect();
        for link in links {
            self.cut(link, "the exchange in memory was stopped");
        }
    }

    /// The broker is there again, empty.
    #[cfg(test)]
    pub(crate) fn start(&mut self) {
        self.is_down = false;
        self.kept.clear();
        self.kept_bytes = 0;
        self.records.clear();
        self.records_in_order.clear();
    }

    /// Breaks one connection, as a network does; the broker stays.
    pub(crate) fn cut(&mut self, link: Link, reason: &'static str) {
        self.silence(link);
        if let Some(connected) = self.links.get_mut(&link) {
            *connected = Connected { broken: Some(reason), ..Connected::default() };
            self.woken.insert(link);
        }
    }

    /// The connections that got something to take, a fault included, since the last call.
    pub(crate) fn take_woken(&mut self) -> BTreeSet<Link> {
        std::mem::take(&mut self.woken)
    }

    /// Connections, the broken ones that have not been told included.
    #[cfg(test)]
    pub(crate) fn connections(&self) -> usize {
        self.links.len()
    }

    /// A connection that works. One that was broken is told once, and forgotten.
    fn connected(&mut self, link: Link) -> Result<(), Fault> {
        match self.links.get(&link).map(|connected| connected.broken) {
            Some(None) => Ok(()),
            Some(Some(reason)) => {
                self.links.remove(&link);
                Err(Fault::passing(reason))
            }
            None => Err(Fault::passing("the connection to the exchange in memory is over")),
        }
    }

    fn listen(&mut self, link: Link, channel: &Channel) -> Result<(), Fault> {
        let Some(connected) = self.links.get_mut(&link) else { return Ok(()) };
        if let Channel::Pattern(pattern) = channel {
            if connected.patterns.contains(pattern) {
                return Ok(());
            }
            if connected.patterns.len() >= MEMORY_PATTERNS_MAX {
                return Err(Fault::lasting(format!(
                    "more than {MEMORY_PATTERNS_MAX} patterns on one connection"
                )));
            }
            connected.patterns.push(pattern.clone());
            self.pattern_links.insert(link);
            return Ok(());
        }
        if connected.channels.contains(channel) {
            return Ok(());
        }
        if connected.channels.len() >= MEMORY_CHANNELS_MAX {
            return Err(Fault::lasting(format!(
                "more than {MEMORY_CHANNELS_MAX} channels on one connection"
            )));
        }
        connected.channels.insert(channel.clone());
        self.listeners.entry(channel.clone()).or_default().push(link);
        Ok(())
    }

    fn ignore(&mut self, link: Link, channel: &Channel) {
        let Some(connected) = self.links.get_mut(&link) else { return };
        if let Channel::Pattern(pattern) = channel {
            connected.patterns.retain(|known| known != pattern);
            if connected.patterns.is_empty() {
                self.pattern_links.remove(&link);
            }
        } else if connected.channels.remove(channel) {
            self.unlist(link, channel);
        }
    }

    /// Who hears a channel, and how many times: once by its name, and once by each pattern that matches.
    fn hearers(&self, channel: &Channel) -> Vec<(Link, usize)> {
        let listed = self.listeners.get(channel).into_iter().flatten();
        let mut hearers: Vec<(Link, usize)> = listed.map(|link| (*link, 1)).collect();
        if let Channel::Plain(name) = channel {
            let links = self.pattern_links.iter().filter_map(|link| Some((*link, self.links.get(link)?)));
            hearers.extend(links.map(|(link, connected)| {
                (link, connected.patterns.iter().filter(|pattern| matches_glob(pattern, name)).count())
            }));
        }
        hearers
    }

    fn deliver(&mut self, link: Link, post: &Post, (copies, place): (usize, Option<u64>)) {
        let Some(connected) = self.links.get_mut(&link) else { return };
        for _ in 0..copies {
            let (channel, body) = (post.channel.clone(), post.body.clone());
            connected.queue_bytes += weight(&body);
            let offset = place.map(|place| place.to_string().into());
            connected.queue.push_back(Delivery { channel, body, offset });
            self.woken.insert(link);
        }
        if connected.queue_bytes > MEMORY_QUEUE_BYTES_MAX {
            self.cut(
                link,
                "more bytes wait than MEMORY_QUEUE_BYTES_MAX: this server takes its messages too slowly",
            );
        }
    }

    /// Takes a connection's subscriptions away.
    fn silence(&mut self, link: Link) {
        let Some(connected) = self.links.get_mut(&link) else { return };
        connected.patterns.clear();
        let channels = std::mem::take(&mut connected.channels);
        for channel in &channels {
            self.unlist(link, channel);
        }
        self.pattern_links.remove(&link);
    }

    fn unlist(&mut self, link: Link, channel: &Channel) {
        let Some(links) = self.listeners.get_mut(channel) else { return };
        links.retain(|known| *known != link);
        if links.is_empty() {
            self.listeners.remove(channel);
        }
    }
}

fn weight(body: &Body) -> usize {
    let bytes = match body {
        Body::Bytes(bytes) => bytes.len(),
        Body::Fields(fields) => {
            fields.iter().map(|(name, value)| name.len() + value.len() + MESSAGE_BYTES).sum()
        }
    };
    bytes + MESSAGE_BYTES
}

/// Whether a name is as a pattern of Redis says: `*` is any run of characters, `?` any one. Classes in brackets are not known.
fn matches_glob(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut at, mut of) = (0, 0);
    // Where the last star was, and how much of the name it has taken.
    let mut star: Option<(usize, usize)> = None;
    while of < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, of));
                at += 1;
            }
            Some(&letter) if letter == b'?' || letter == name[of] => {
                at += 1;
                of += 1;
            }
            _ => {
                let Some((star_at, taken)) = star else { return false };
                star = Some((star_at, taken + 1));
                at = star_at + 1;
                of = taken + 1;
            }
        }
    }
    pattern[at.min(pattern.len())..].iter().all(|letter| *letter == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::NodeTag;

    const ROOM: Channel = Channel::Slot(7);

    fn post(channel: Channel, text: &'static str) -> Post {
        Post { channel, body: Body::Bytes(Bytes::from_static(text.as_bytes())), may_repeat: false }
    }

    fn plain(name: &str) -> Channel {
        Channel::Plain(name.into())
    }

    /// All that a connection can take, as channel and text.
    fn taken(exchange: &mut Exchange, link: Link) -> Vec<(Channel, String)> {
        let mut found = Vec::new();
        while let Some(delivery) = exchange.take(link).expect("the connection works") {
            let Body::Bytes(bytes) = delivery.body else { panic!("published as bytes") };
            found.push((delivery.channel, String::from_utf8(bytes.to_vec()).expect("published as text")));
        }
        found
    }

    fn reason(result: Result<impl Sized, Fault>) -> String {
        result.err().expect("a fault").text
    }

    #[test]
    fn a_message_reaches_who_hears_its_channel_in_order() {
        let mut exchange = Exchange::default();
        let [one, two] = [(); 2].map(|()| exchange.connect().expect("it is up"));
        exchange.subscribe(one, &[Channel::All, ROOM], &[]).expect("it is up");
        exchange.subscribe(two, &[ROOM, ROOM, Channel::Node(NodeTag([1, 2, 3]))], &[]).expect("it is up");
        let posts = [
            post(Channel::All, "a"),
            post(ROOM, "b"),
            post(Channel::Slot(8), "c"),
            post(Channel::Node(NodeTag([1, 2, 3])), "d"),
            post(ROOM, "e"),
        ];
        exchange.publish(one, &posts).expect("it is up");
        assert_eq!(exchange.take_woken().into_iter().collect::<Vec<_>>(), [one, two]);
        let heard =
            |found: Vec<(Channel, String)>| found.into_iter().map(|(_, text)| text).collect::<String>();
        assert_eq!(heard(taken(&mut exchange, one)), "abe", "the publisher hears itself");
        assert_eq!(heard(taken(&mut exchange, two)), "bde", "subscribed twice, heard once");
        exchange.subscribe(two, &[], &[ROOM, plain("never heard")]).expect("it is up");
        exchange.publish(one, &posts).expect("it is up");
        assert_eq!(heard(taken(&mut exchange, two)), "d");
    }

    #[test]
    fn a_pattern_hears_plain_channels_by_their_names() {
        let cases = [
            ("socket.io#/#*", "socket.io#/#room#", true),
            ("socket.io#/#*", "socket.io#/#", true),
            ("socket.io#/#*", "socket.io#/admin#room#", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*ab*ab", "abaab", true),
            ("*ab*ab", "aabb", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-b-d", false),
        ];
        for (pattern, name, is_heard) in cases {
            assert_eq!(matches_glob(pattern, name), is_heard, "{pattern} {name}");
        }
        let mut exchange = Exchange::default();
        let link = exchange.connect().expect("it is up");
        let pattern = Channel::Pattern("x*".into());
        exchange.subscribe(link, &[pattern.clone(), pattern.clone(), plain("xy")], &[]).expect("it is up");
        exchange
            .publish(link, &[post(plain("xy"), "1"), post(plain("xz"), "2"), post(plain("y"), "3")])
            .expect("it is up");
        let expected =
            [("xy", "1"), ("xy", "1"), ("xz", "2")].map(|(name, text)| (plain(name), text.to_owned()));
        assert_eq!(taken(&mut exchange, link), expected, "once by name, once by pattern, as on Redis");
        exchange.subscribe(link, &[], std::slice::from_ref(&pattern)).expect("it is up");
        exchange.publish(link, &[post(plain("xz"), "4")]).expect("it is up");
        assert_eq!(taken(&mut exchange, link), []);
        assert!(reason(exchange.publish(link, &[post(pattern, "5")])).contains("pattern"));
    }

    #[test]
    fn a_stop_breaks_connections_and_forgets_subscriptions() {
        let mut exchange = Exchange::default();
        let link = exchange.connect().expect("it is up");
        exchange.subscribe(link, &[ROOM, Channel::Pattern("*".into())], &[]).expect("it is up");
        exchange.publish(link, &[post(ROOM, "lost")]).expect("it is up");
        exchange.stop();
        assert!(exchange.take_woken().contains(&link), "it is told");
        assert!(reason(exchange.connect()).contains("down"));
        assert!(reason(exchange.take(link)).contains("stopped"));
        assert!(reason(exchange.publish(link, &[])).contains("over"));
        exchange.start();
        assert!(reason(exchange.subscribe(link, &[], &[])).contains("over"), "a broken connection stays so");
        let again = exchange.connect().expect("it is up again");
        exchange.publish(again, &[post(ROOM, "unheard"), post(plain("x"), "unheard")]).expect("it is up");
        assert_eq!(taken(&mut exchange, again), []);
        assert_eq!(exchange.connections(), 1);
    }

    #[test]
    fn one_connection_is_cut_and_the_others_stay() {
        let mut exchange = Exchange::default();
        let [one, two] = [(); 2].map(|()| exchange.connect().expect("it is up"));
        for link in [one, two] {
            exchange.subscribe(link, &[ROOM], &[]).expect("it is up");
        }
        exchange.cut(one, "the network is gone");
        exchange.publish(two, &[post(ROOM, "a")]).expect("it is up");
        assert_eq!(taken(&mut exchange, two).len(), 1);
        assert_eq!(reason(exchange.take(one)), "the network is gone");
        exchange.disconnect(two);
        assert_eq!((exchange.connections(), exchange.listeners.len()), (0, 0), "nothing is left of either");
    }

    #[test]
    fn a_connection_that_takes_too_slowly_is_closed() {
        let mut exchange = Exchange::default();
        let [slow, quick] = [(); 2].map(|()| exchange.connect().expect("it is up"));
        for link in [slow, quick] {
            exchange.subscribe(link, &[ROOM], &[]).expect("it is up");
        }
        let body = Body::Bytes(Bytes::from(vec![0; MEMORY_QUEUE_BYTES_MAX / 4]));
        let large = [Post { channel: ROOM, body, may_repeat: false }];
        for _ in 0..4 {
            exchange.publish(quick, &large).expect("the publisher is not closed");
            assert!(exchange.take(quick).expect("it keeps up").is_some());
        }
        assert!(reason(exchange.take(slow)).contains("MEMORY_QUEUE_BYTES_MAX"));
        assert_eq!(exchange.listeners.get(&ROOM).map(Vec::len), Some(1));
    }

    #[test]
    fn connections_channels_and_patterns_are_bounded() {
        let mut exchange = Exchange::default();
        let links: Vec<Link> =
            (0..MEMORY_CONNECTIONS_MAX).map(|_| exchange.connect().expect("below the bound")).collect();
        assert!(exchange.connect().expect_err("at the bound").is_lasting);
        let names = |kind: fn(Box<str>) -> Channel, len: usize| {
            (0..len).map(|number| kind(number.to_string().into())).collect::<Vec<_>>()
        };
        let channels = names(Channel::Plain, MEMORY_CHANNELS_MAX + 1);
        assert!(reason(exchange.subscribe(links[0], &channels, &[])).contains("channels"));
        exchange.subscribe(links[1], &channels[..MEMORY_CHANNELS_MAX], &[]).expect("at the bound");
        let patterns = names(Channel::Pattern, MEMORY_PATTERNS_MAX + 1);
        assert!(reason(exchange.subscribe(links[0], &patterns, &[])).contains("patterns"));
        exchange.subscribe(links[1], &patterns[..MEMORY_PATTERNS_MAX], &[]).expect("at the bound");
    }
}
