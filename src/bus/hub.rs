//! The middle of the bus: what this process says becomes posts, what the broker delivers becomes messages to shards.
//!
//! A value without IO or clock: `run.rs` drives it with a real broker, the simulation with one of its own. It speaks our own format, and
//! beside it those of other people's processes ([`Foreign`]). What is our own is said to the slots in which the receivers' rooms are; a
//! process hears only slots in which it has members.

mod answering;
mod asking;
mod delivering;
mod far;
mod heard;
mod hold;
mod left;
mod servers;
mod settled;
mod states;
mod words;

pub(crate) use left::LeftWork;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::base::ids::{NodeTag, ShardId, Sid};
use crate::base::shown::Shown;
use crate::base::time::Time;
use crate::bus::fleet::{Fleet, HELLO_EVERY};
use crate::bus::hub::hold::Hold;
use crate::bus::hub::words::outline;
use crate::bus::ids::{event_id, one_process};
use crate::bus::own::{self, Asked, ChangeWord, Envelope, Hello, NodeId, Raw, To, Word};
use crate::bus::questions::{Awaited, Questions};
use crate::bus::seldom::Seldom;
use crate::bus::subscriptions::Subscriptions;
use crate::bus::{Body, Channel, Delivery, Foreign, Heard, Post, Told};
use crate::mesh::Mesh;
use crate::mesh::link::{LinkStats, Said};
use crate::mesh::slots::{Interests, room_slot};
use crate::message::address::Address;
use crate::message::inquiry::{AckError, Ask, Findings};
use crate::message::recovery::EventId;
use crate::message::target::{Broadcast, SocketCommand, Target};

/// Rooms of one target that are told one by one; for more, every process is told.
const CHANNELS_MAX: usize = 8;

/// Between two hellos, however many new processes want to know who is there.
const GREETING_GAP: Duration = Duration::from_millis(20);

/// How long the other processes have beyond the time that clients have.
const ANSWER_GRACE: Duration = Duration::from_millis(700);

/// Who this process is.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) id: NodeId,
    pub(crate) tag: NodeTag,
    /// For people: host and process number.
    pub(crate) name: String,
    /// When it started, in milliseconds since 1970.
    pub(crate) started: u64,
}

/// A question of another process, while the shards find out.
pub(crate) struct Answering {
    pub(crate) to: Asker,
    pub(crate) receiver: oneshot::AsyncReceiver<Result<Findings, AckError>>,
}

/// Who asked: what [`Hub::answer`] needs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asker {
    Peer(Asked),
    Foreign {
        place: usize,
        ticket: u64,
    },
    /// The hub itself, for its next hello.
    Census,
}

impl Answering {
    /// Takes it apart, to wait for the one and keep the other.
    pub(crate) fn into_parts(self) -> (Asker, oneshot::AsyncReceiver<Result<Findings, AckError>>) {
        (self.to, self.receiver)
    }
}

/// The bus of one link.
pub(crate) struct Hub {
    me: Identity,
    mesh: Arc<Mesh>,
    /// The endpoints that the link serves.
    endpoints: Vec<Option<Box<str>>>,
    interests: Arc<Interests>,
    stats: Arc<LinkStats>,
    sequence: u64,
    pub(crate) fleet: Fleet,
    pub(crate) subscriptions: Subscriptions,
    foreign: Vec<Box<dyn Foreign>>,
    pub(crate) questions: Questions,
    lookups: far::Lookups,
    held: settled::Held,
    /// Sockets of processes that are gone, if the broker keeps them.
    left: Option<left::Left>,
    posts: VecDeque<Post>,
    /// Posts that were taken to be sent.
    posts_taken: u64,
    /// The last one, until it is sent: before everything else that waits.
    hello: Option<Post>,
    hold: Hold,
    answering: Vec<Answering>,
    /// Questions that the shards have been asked for others and not answered.
    answers_owed: usize,
    /// Own sockets by endpoint and namespace, as last counted.
    census: Vec<(Option<String>, String, u64)>,
    hello_due: Time,
    /// When the last one was.
    said_hello: Time,
    /// When the values of state rooms are compared next.
    states_due: Time,
    /// Another process was heard with our id.
    pub(crate) is_doubled: bool,
    heard: Vec<Heard>,
    /// Shards that have mail.
    bells: SmallVec<[ShardId; 8]>,
    /// The time of the last call that told it.
    now: Time,
    seldom: Lines,
}

/// Lines of the log that others can cause as often as they like.
#[derive(Default)]
struct Lines {
    version: Seldom,
    unreadable: Seldom,
    full: Seldom,
}

/// What a hub is made of.
pub(crate) struct HubParts {
    pub(crate) me: Identity,
    pub(crate) mesh: Arc<Mesh>,
    pub(crate) endpoints: Vec<Option<Box<str>>>,
    pub(crate) interests: Arc<Interests>,
    pub(crate) stats: Arc<LinkStats>,
    /// Slots of the broker.
    pub(crate) slots: u32,
    pub(crate) foreign: Vec<Box<dyn Foreign>>,
}

impl Hub {
    pub(crate) fn new(parts: HubParts) -> Hub {
        let HubParts { me, mesh, endpoints, interests, stats, slots, foreign } = parts;
        let questions = Questions::new(&me.id);
        Hub {
            me,
            mesh,
            endpoints,
            interests,
            stats,
            sequence: 0,
            fleet: Fleet::default(),
            subscriptions: Subscriptions::new(slots),
            foreign,
            questions,
            lookups: far::Lookups::default(),
            held: settled::Held::default(),
            left: None,
            posts: VecDeque::new(),
            posts_taken: 0,
            hello: None,
            hold: Hold::default(),
            answering: Vec::new(),
            answers_owed: 0,
            census: Vec::new(),
            hello_due: Time::NEVER,
            said_hello: Time::default(),
            states_due: Time(0),
            is_doubled: false,
            heard: Vec::new(),
            bells: SmallVec::new(),
            now: Time::default(),
            seldom: Lines::default(),
        }
    }

    /// A connection to the broker is there: everything that it is to hear. Until the next call of this, changes come by
    /// [`take_subscriptions`](Hub::take_subscriptions).
    pub(crate) fn connected(&mut self, now: Time) -> Vec<Channel> {
        self.note_interests(now);
        self.fleet.forgive_silence(now);
        (self.hello_due, self.states_due) = (now, now);
        let mut channels = vec![Channel::All, Channel::Node(self.me.tag)];
        channels.extend(self.subscriptions.take_all());
        for format in &mut self.foreign {
            channels.extend(format.connected());
        }
        channels
    }

    /// The broker keeps nothing: what was said before the connection is missed. So that others do not miss what waits here, it waits
    /// until they have been heard again.
    pub(crate) fn has_missed_some(&mut self) {
        self.fleet.note_gap();
        self.hold = Hold::new(self.fleet.ids());
    }

    /// Whether nothing is to be sent now but [`take_hello`](Hub::take_hello): neither what the hub has nor what it is to be told. Not
    /// for longer than [`HOLD_MAX`](hold::HOLD_MAX).
    pub(crate) fn is_holding(&self) -> bool {
        !self.hold.is_over()
    }

    /// What waits is sent although somebody is still away.
    pub(crate) fn end_hold(&mut self) {
        self.hold = Hold::default();
    }

    /// The connection to the broker is gone: nobody can answer what was asked.
    pub(crate) fn disconnected(&mut self) {
        self.hello_due = Time::NEVER;
        self.hello = None;
        self.end_hold();
        // What others asked is not answered: whoever waits for the shards is gone with the connection.
        self.answers_owed = self.answering.len();
        self.held.clear();
        self.give_back_left();
        self.give_up(Time::NEVER);
    }

    /// What the broker is to be told since the last call: what to hear, and what no longer.
    pub(crate) fn take_subscriptions(&mut self, now: Time) -> (Vec<Channel>, Vec<Channel>) {
        self.note_interests(now);
        let (mut add, mut remove) = self.subscriptions.take_changes();
        for format in &mut self.foreign {
            format.take_changes(&mut add, &mut remove);
        }
        (add, remove)
    }

    /// Channels whose subscribers are to be counted, once a second: by [`count`](Hub::count).
    pub(crate) fn counted(&self) -> Vec<Channel> {
        self.foreign.iter().flat_map(|format| format.counted()).collect()
    }

    /// How many connections hear each of them.
    pub(crate) fn count(&mut self, counts: &[u64]) {
        let own = 1 + self.fleet.len() as u64;
        let mut rest = counts;
        for format in &mut self.foreign {
            let Some((counts, after)) = rest.split_at_checked(format.counted().len()) else { return };
            format.count(counts, own);
            rest = after;
        }
    }

    /// Who this process is, if others are to be told now. It may overtake all that waits to be sent.
    pub(crate) fn take_hello(&mut self) -> Option<Post> {
        self.hello.take()
    }

    pub(crate) fn has_hello(&self) -> bool {
        self.hello.is_some()
    }

    /// What is to be sent, unless the hub [is holding](Hub::is_holding).
    pub(crate) fn posts(&mut self) -> &mut VecDeque<Post> {
        &mut self.posts
    }

    /// So many of it at most, in order.
    pub(crate) fn take_posts(&mut self, len_max: usize) -> impl Iterator<Item = Post> {
        let len = self.posts.len().min(len_max);
        self.posts_taken += len as u64;
        self.posts.drain(..len)
    }

    /// Questions that shards have been asked for others since the last call: each must come back by [`answer`](Hub::answer).
    pub(crate) fn take_answering(&mut self) -> Vec<Answering> {
        std::mem::take(&mut self.answering)
    }

    /// This process says something to the others.
    pub(crate) fn say(&mut self, said: &Said, now: Time) {
        let mut question = None;
        match said {
            Said::Emit(broadcast) => {
                let (namespace, target) = (&broadcast.namespace, &broadcast.target);
                let (to, frame) = (To::new(namespace, target), Raw(&broadcast.frame));
                let word = Word::Emit { to, frame, id: broadcast.id };
                self.post_to(namespace, target, word);
            }
            Said::Change(told) => {
                let command = &told.command;
                let word = Word::Change {
                    to: To::new(&command.namespace, &command.target),
                    change: ChangeWord::from(&command.change),
                };
                self.post_to(&command.namespace, &command.target, word);
                told.sequence.store(self.sequence, Relaxed);
            }
            Said::Ask(inquiry) => question = self.ask(inquiry, now),
            Said::Far { to, word } => self.say_far(*to, word, now),
            Said::Left { pid, socket } => self.leave(pid, socket),
            Said::ServerEvent(event) => self.say_to_servers(event),
            Said::State(news) => self.say_state(news),
            Said::Room { .. } => {}
        }
        // What is for sockets of one process of ours is for nobody else.
        let is_for_one = said.target().and_then(one_process).is_some_and(|tag| self.is_known(tag));
        let foreign = if is_for_one { 0 } else { self.foreign.len() };
        for place in 0..foreign {
            let told = self.foreign[place].say(said, question, now, &mut self.posts);
            if let (Told::Asked, Some(number)) = (told, question) {
                self.questions.await_also(number, Awaited::Foreign(place));
            }
        }
        if let Some(number) = question {
            self.finish_if_answered(number);
        }
    }

    /// The broker has delivered something.
    pub(crate) fn receive(&mut self, delivery: &Delivery, now: Time) {
        self.stats.received.add(1);
        self.now = now;
        self.begin_passing(delivery);
        match (&delivery.channel, &delivery.body) {
            (Channel::All | Channel::Node(_) | Channel::Slot(_), Body::Bytes(bytes)) => {
                match own::read(bytes) {
                    Ok(envelope) => self.hear_own(envelope, now),
                    Err(own::Unreadable::Version(version)) => {
                        self.stats.unreadable.add(1);
                        if let Some(more) = self.seldom.version.may_say(now) {
                            tracing::warn!(
                                version,
                                more,
                                "a message of another process is of a version that this one does not know: bring all to one version of shardcast"
                            );
                        }
                    }
                    Err(own::Unreadable::Garbage) => {
                        self.unreadable(&delivery.channel, "it is not of shardcast")
                    }
                }
            }
            _ => self.hear_foreign(delivery, now),
        }
        self.end_passing(now);
    }

    /// Whether shards have been asked something since the last [`take_answering`](Hub::take_answering).
    pub(crate) fn is_answering(&self) -> bool {
        !self.answering.is_empty()
    }

    /// When [`handle_timeout`](Hub::handle_timeout) wants to be called next.
    pub(crate) fn next_timeout(&self) -> Time {
        let foreign = self.foreign.iter().map(|format| format.next_timeout()).min();
        self.hello_due
            .min(self.subscriptions.next_timeout())
            .min(self.questions.next_timeout())
            .min(self.hold.next_timeout())
            .min(self.held.next_timeout())
            .min(foreign.unwrap_or(Time::NEVER))
            .min(self.left.as_ref().map_or(Time::NEVER, left::Left::next_timeout))
    }

    /// Time passed: everything due is done.
    pub(crate) fn handle_timeout(&mut self, now: Time) {
        self.now = now;
        self.subscriptions.handle_timeout(now);
        if self.hold.handle_timeout(now) {
            tracing::info!(
                "not all processes have come back to the message queue: what waits goes to those that are there"
            );
        }
        self.left_timeout(now);
        if self.hello_due <= now {
            if now.since(self.hello_due) >= HELLO_EVERY {
                // This thread did not run, or the whole machine did not: the silence was ours.
                self.fleet.forgive_silence(now);
            }
            self.said_hello = now;
            self.say_hello(self.fleet.len() == 0 || self.is_holding());
            self.take_census();
            self.compare_states(now);
            self.hello_due = now + HELLO_EVERY;
            for id in self.fleet.silent(now) {
                self.peer_gone(id, "it has been silent for too long");
            }
        }
        for place in 0..self.foreign.len() {
            self.foreign[place].handle_timeout(now, &mut self.posts, &mut self.heard);
            self.take_heard(place);
        }
        self.settle_due(now);
        self.give_up(now);
    }

    /// The process ends: the others are told.
    pub(crate) fn say_goodbye(&mut self) {
        self.hello_due = Time::NEVER;
        self.hello = None;
        self.post(Channel::All, Word::Bye);
    }

    fn note_interests(&mut self, now: Time) {
        let subscriptions = &mut self.subscriptions;
        self.interests.take_changes(|slot, is_held| subscriptions.note(slot, is_held, now));
    }

    /// Says a word on each channel on which somebody who is meant may hear it.
    fn post_to(&mut self, namespace: &Address, target: &Target, word: Word<'_>) {
        let mut channels: SmallVec<[Channel; CHANNELS_MAX]> = SmallVec::new();
        if target.is_everyone {
            channels.push(self.slot(namespace, None));
        } else {
            for room in target.rooms.iter() {
                for channel in self.channels_of(namespace, room) {
                    if !channels.contains(&channel) {
                        channels.push(channel);
                    }
                }
                if channels.len() > CHANNELS_MAX {
                    channels.clear();
                    channels.push(Channel::All);
                    break;
                }
            }
        }
        self.post_all(channels, word);
    }

    /// Where the members of a room hear. An id is heard by the process that it names; if that is not known, the name may be a
    /// room's as well.
    fn channels_of(&self, namespace: &Address, room: &str) -> SmallVec<[Channel; 2]> {
        let mut channels = SmallVec::new();
        let process = Sid::parse(room).map(|sid| sid.node());
        channels.extend(process.filter(|tag| *tag != self.me.tag).map(Channel::Node));
        if !process.is_some_and(|tag| self.is_known(tag)) {
            channels.push(self.slot(namespace, Some(room)));
        }
        channels
    }

    /// Whether one of the other processes has a tag, and with it every socket whose id has it.
    fn is_known(&self, tag: NodeTag) -> bool {
        !self.interests.have_moved() && self.fleet.with_tag(tag).next().is_some()
    }

    fn slot(&self, namespace: &Address, room: Option<&str>) -> Channel {
        Channel::Slot(self.subscriptions.slot(room_slot(namespace, room)))
    }

    fn post(&mut self, channel: Channel, word: Word<'_>) {
        self.post_all([channel], word);
    }

    fn post_all(&mut self, channels: impl IntoIterator<Item = Channel>, word: Word<'_>) {
        self.sequence += 1;
        let bytes = self.written(self.sequence, word);
        self.posts.extend(channels.into_iter().map(|channel| Post {
            channel,
            body: Body::Bytes(bytes.clone()),
            may_repeat: true,
        }));
    }

    fn written(&self, sequence: u64, word: Word<'_>) -> Bytes {
        Bytes::from(own::write(&Envelope { from: self.me.id, sequence, word }))
    }

    /// Who we are: without a number, because it may overtake what has one, and may come twice.
    fn say_hello(&mut self, is_new: bool) {
        let census = std::mem::take(&mut self.census);
        let name = std::mem::take(&mut self.me.name);
        let sockets =
            census.iter().map(|(path, name, count)| (path.as_deref(), name.as_str(), *count)).collect();
        let have_moved = self.interests.have_moved();
        let hello =
            Hello { name: &name, tag: self.me.tag.0, started: self.me.started, sockets, is_new, have_moved };
        let body = Body::Bytes(self.written(0, Word::Hello(hello)));
        self.hello = Some(Post { channel: Channel::All, body, may_repeat: true });
        (self.census, self.me.name) = (census, name);
    }

    /// Has the shards count their sockets, for the next hello.
    fn take_census(&mut self) {
        self.ask_shards(
            (Address::new(None, "/"), Target { is_everyone: true, ..Target::default() }),
            Ask::Census,
            None,
            Asker::Census,
        );
    }

    fn hear_own(&mut self, envelope: Envelope<'_>, now: Time) {
        let Envelope { from, sequence, word } = envelope;
        if from == self.me.id {
            self.hear_oneself(&word);
            return;
        }
        self.fleet.touch(from, now);
        self.hold.forget(&from);
        let is_counted = !matches!(word, Word::Hello(_));
        if is_counted && !self.fleet.is_first(from, sequence, now) {
            self.stats.repeated.add(1);
            return;
        }
        match word {
            Word::Emit { to, .. } | Word::Change { to, .. } if !self.serves(&to) => self.stats.nobodys.add(1),
            Word::Emit { to, frame, id } => {
                self.hear_emit(&to, frame.0, id.unwrap_or_else(|| event_id(from, sequence)));
            }
            Word::Change { to, change } => {
                let (namespace, target) = (to.address(), to.target());
                self.apply(SocketCommand { namespace, target, change: change.into() });
                self.settle_held(from, sequence);
            }
            Word::Ask { question, to, ask, timeout_millis } => {
                if !self.serves(&to) {
                    return self.post_report(question, Findings::default());
                }
                let timeout = Duration::from_millis(timeout_millis);
                self.hear_question((from, question), &to, ask, timeout);
            }
            Word::Report { question, findings } => {
                self.add_findings(question, Awaited::Peer(from), findings, true)
            }
            Word::Hello(hello) => self.hear_hello(&hello, from, now),
            Word::Far(word) => self.hear_far(word, now),
            Word::Bye => self.peer_gone(from, "it has stopped"),
            Word::Server(word) => self.hear_server_event(&word, from),
            Word::State(word) => self.hear_state(word, from),
        }
    }

    fn hear_hello(&mut self, hello: &Hello<'_>, from: NodeId, now: Time) {
        if hello.have_moved {
            self.note_moved(now);
        }
        if self.fleet.hear(from, hello, now) {
            tracing::info!(process = ?Shown(hello.name), tag = %NodeTag(hello.tag), "another process is there");
            self.states_due = now;
            self.greet(now);
        } else if hello.is_new {
            self.greet(now);
        }
    }

    /// Something with our own id: our own words, or those of a copy of this process.
    fn hear_oneself(&mut self, word: &Word<'_>) {
        self.stats.own.add(1);
        if let Word::Hello(hello) = word
            && (hello.started, hello.name) != (self.me.started, self.me.name.as_str())
            && !std::mem::replace(&mut self.is_doubled, true)
        {
            tracing::error!(
                process = ?Shown(hello.name),
                "another process has the id of this one, as copies of a running machine have: neither hears the other; restart one of them"
            );
        }
    }

    /// Says hello soon, to one that is new.
    fn greet(&mut self, now: Time) {
        self.hello_due = self.hello_due.min(now.max(self.said_hello + GREETING_GAP));
    }

    /// Whether a message is for an endpoint that speaks on this link: another queue's is not to be reached by this one.
    fn serves(&self, to: &To<'_>) -> bool {
        self.endpoints.iter().any(|path| path.as_deref() == to.endpoint)
    }

    fn hear_emit(&mut self, to: &To<'_>, frame: &[u8], id: EventId) {
        if let Err(fault) = outline(frame, to.namespace) {
            return self.unreadable(&Channel::All, fault.reason());
        }
        let (namespace, target) = (to.address(), to.target());
        self.deliver(Broadcast {
            namespace,
            target,
            frame: Arc::new(frame.to_vec()),
            offset: None,
            id: Some(id),
            position: self.left.as_ref().and_then(left::Left::passing).unwrap_or_default(),
            published: 0,
        });
    }

    fn peer_gone(&mut self, id: NodeId, why: &str) {
        self.hold.forget(&id);
        let Some(peer) = self.fleet.forget(id) else { return };
        tracing::info!(process = peer.name, tag = %peer.tag, "another process is gone: {why}");
        for number in self.questions.forget(Awaited::Peer(id), &peer.name) {
            self.finish_if_answered(number);
        }
        self.ask_no_more(peer.tag);
    }

    fn unreadable(&mut self, channel: &Channel, reason: &str) {
        self.stats.unreadable.add(1);
        if let Some(more) = self.seldom.unreadable.may_say(self.now) {
            // Its name is somebody else's where it came by a pattern.
            let channel = format!("{channel:?}");
            tracing::warn!(channel = %Shown(channel), more, "a message from the queue is ignored: {reason}");
        }
    }
}
