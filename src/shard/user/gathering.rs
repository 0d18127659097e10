//! What all shards are asked for, as a user awaits it: answers of many, sockets wherever they are, counts.

use std::collections::BTreeMap;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::base::ids::{ShardId, Sid};
use crate::mesh::{InboxError, Mesh, ShardMessage};
use crate::message::address::Address;
use crate::message::inquiry::{AckError, Ask, Findings, Request, SocketFacts};
use crate::message::overview::Overview;
use crate::message::target::Target;
use crate::protocol::surrogates::read_json;
use crate::shard::core::Core;
use crate::shard::user::current::{current, spawn};
use crate::shard::user::found::Found;
use crate::shard::value::answer::Answer;
use crate::shard::value::handshake::Handshake;

/// A question to all shards: await it on any runtime, or [`wait`](Gathering::wait) on a thread of your own.
///
/// It is asked when it is first awaited, and always ends: with what is known when its time is over.
///
/// ```no_run
/// # use std::time::Duration;
/// # async fn example(handle: shardcast::Handle) -> Result<(), shardcast::AckError> {
/// let members = handle.to("/", "lobby").count().timeout(Duration::from_millis(200)).await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing is asked until this is awaited, waited for, or given a callback"]
pub struct Gathering<T> {
    state: State,
    read: fn(Findings) -> Result<T, AckError>,
}

enum State {
    Ready(Box<Question>),
    Asked(oneshot::AsyncReceiver<Result<Findings, AckError>>),
    Failed(AckError),
}

/// The shard that asks all others, and awaits their reports.
pub(crate) struct Home {
    mesh: Arc<Mesh>,
    shard: ShardId,
    /// Who asks is that shard itself, whose own words are made at once. What is said by a handle goes by inboxes, and so must what is
    /// asked by one, or it would overtake that.
    is_itself: bool,
}

impl Home {
    /// The shard that asks.
    pub(crate) fn of_shard(core: &Core) -> Home {
        Home { mesh: Arc::clone(&core.tables.mesh), shard: core.tables.env.id, is_itself: true }
    }

    /// A shard, for a thread that has asked it for something before.
    pub(crate) fn at(mesh: &Arc<Mesh>, shard: ShardId) -> Home {
        Home { mesh: Arc::clone(mesh), shard, is_itself: false }
    }

    /// Any shard, for a handle.
    pub(crate) fn of_handle(mesh: &Arc<Mesh>) -> Home {
        Home { mesh: Arc::clone(mesh), shard: mesh.asking_shard(), is_itself: false }
    }
}

/// What is asked, and whom.
pub(crate) struct Question {
    home: Home,
    namespace: Address,
    target: Target,
    ask: Ask,
    pub(crate) timeout: Option<Duration>,
}

impl<T> Gathering<T> {
    pub(crate) fn new(
        home: Home,
        namespace: Address,
        target: Target,
        ask: Ask,
        read: fn(Findings) -> Result<T, AckError>,
    ) -> Gathering<T> {
        let question = Question { home, namespace, target, ask, timeout: None };
        Gathering { state: State::Ready(Box::new(question)), read }
    }

    /// A question that cannot be asked.
    pub(crate) fn failed(error: AckError, read: fn(Findings) -> Result<T, AckError>) -> Gathering<T> {
        Gathering { state: State::Failed(error), read }
    }

    /// How long clients and shards may take. Without it `ack_timeout` for answers of clients, and five seconds
    /// for what the shards know themselves.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        if let State::Ready(question) = &mut self.state {
            question.timeout = Some(timeout);
        }
        self
    }

    /// Waits on this thread, which must not be a shard's.
    ///
    /// ```no_run
    /// # fn example(handle: shardcast::Handle) -> Result<(), shardcast::AckError> {
    /// println!("{} are in the lobby", handle.to("/", "lobby").count().wait()?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As when it is awaited. On a shard's thread [`AckError::NotSent`]: the shard would wait for itself.
    pub fn wait(mut self) -> Result<T, AckError> {
        if let State::Failed(error) = self.state {
            return Err(error);
        }
        if current().is_some() {
            tracing::error!("wait() was called on a shard's thread, which it would stop; await instead");
            return Err(AckError::NotSent);
        }
        self.start();
        match std::mem::replace(&mut self.state, State::Failed(AckError::Stopped)) {
            // It may have been polled before: then the answer is on its way, or there.
            State::Asked(reply) => (self.read)(block_on(reply).unwrap_or(Err(AckError::Stopped))?),
            State::Failed(error) => Err(error),
            State::Ready(_) => Err(AckError::NotSent),
        }
    }
}

impl<T: 'static> Gathering<T> {
    /// Asks at once and calls `callback` with the result, on this shard. What it panics with is logged.
    ///
    /// # Panics
    /// Outside a shard's handlers and tasks, as [`spawn`] does: there is no shard to run the callback.
    pub fn then(mut self, callback: impl FnOnce(Result<T, AckError>) + 'static) {
        self.start();
        spawn(async move { callback(self.await) });
    }
}

impl<T> Gathering<T> {
    /// Asks, unless it is asked already.
    pub(crate) fn start(&mut self) {
        if !matches!(self.state, State::Ready(_)) {
            return;
        }
        let State::Ready(question) = std::mem::replace(&mut self.state, State::Failed(AckError::NotSent))
        else {
            return;
        };
        let (reply, receiver) = oneshot::channel();
        self.state = match question.ask(reply) {
            Ok(()) => State::Asked(receiver.into_future()),
            Err(error) => State::Failed(error),
        };
    }
}

impl Question {
    /// At once if the home asks on its own thread, so that it keeps its place among other emits; else by the mesh.
    fn ask(self, reply: crate::message::inquiry::Reply) -> Result<(), AckError> {
        let Question { home: Home { mesh, shard, is_itself }, namespace, target, ask, timeout } = self;
        let request = Request { namespace, target, ask, timeout, reply };
        if let Some(core) = current().filter(|_| is_itself) {
            let mut core = core.borrow_mut();
            if core.tables.env.id == shard && Arc::ptr_eq(&core.tables.mesh, &mesh) {
                core.inquiries().ask(request);
                return Ok(());
            }
        }
        let sent = mesh.send(shard, ShardMessage::Request(Box::new(request)));
        mesh.ring(shard);
        sent.map_err(|error| match error {
            InboxError::Gone => AckError::Stopped,
            InboxError::Full => {
                tracing::error!(shard = shard.0, "a shard's inbox is full: a question to it is not asked");
                AckError::NotSent
            }
        })
    }
}

/// Waits on this thread. `None`: nothing will be sent.
pub(crate) fn block_on<T>(mut receiver: oneshot::AsyncReceiver<T>) -> Option<T> {
    let (wake, woken) = crossbeam_channel::bounded(1);
    let waker = Waker::from(Arc::new(WakeThread(wake)));
    let mut cx = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(received) = Pin::new(&mut receiver).poll(&mut cx) {
            return received.ok();
        }
        // The waker here keeps the channel open.
        let _ = woken.recv();
    }
}

struct WakeThread(crossbeam_channel::Sender<()>);

impl Wake for WakeThread {
    fn wake(self: Arc<Self>) {
        // A thread that has not taken the last wake needs no second one.
        let _ = self.0.try_send(());
    }
}

/// No field refers to another.
impl<T> Unpin for Gathering<T> {}

impl<T> Future for Gathering<T> {
    type Output = Result<T, AckError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.start();
        let findings = match &mut self.state {
            State::Failed(error) => Err(*error),
            State::Asked(reply) => ready!(Pin::new(reply).poll(cx)).unwrap_or(Err(AckError::Stopped)),
            State::Ready(_) => unreachable!("it has been asked"),
        };
        Poll::Ready(findings.and_then(self.read))
    }
}

impl<T> fmt::Debug for Gathering<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Ready(_) => "not asked",
            State::Asked(_) => "asked",
            State::Failed(_) => "failed",
        };
        formatter.debug_struct("Gathering").field("state", &state).finish_non_exhaustive()
    }
}

/// What many clients answered to one event, and who did not.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Answers {
    /// The answers, in the order in which each shard got them.
    pub received: Vec<(Sid, Answer)>,
    /// Who has not answered, and why: too late, gone meanwhile.
    pub missing: Vec<(Sid, AckError)>,
    /// Shards that could not be asked, or did not report. How many of their sockets were meant is not known.
    pub shards_missing: usize,
    /// Other processes that did not answer, by name: too late, gone meanwhile, or behind a message queue that is away. How many of
    /// their sockets were meant is not known.
    pub processes_missing: Vec<String>,
}

impl Answers {
    /// Whether everybody who was asked has answered.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.shards_missing == 0 && self.processes_missing.is_empty()
    }

    pub(crate) fn read(findings: Findings) -> Result<Answers, AckError> {
        Ok(Answers {
            received: findings.answers.into_iter().map(|(sid, text)| (sid, Answer::new(text))).collect(),
            missing: findings.missing,
            shards_missing: findings.shards_unreached + findings.shards_late,
            processes_missing: findings.processes_missing,
        })
    }
}

/// The answer of the one socket that was asked.
pub(crate) fn read_one(mut findings: Findings) -> Result<Answer, AckError> {
    if let Some((_, text)) = findings.answers.pop() {
        return Ok(Answer::new(text));
    }
    let missing = findings.missing.pop().map(|(_, error)| error);
    // A process that did not say may have the socket.
    let is_unsure = !findings.processes_missing.is_empty();
    let error = if is_unsure { AckError::Timeout } else { AckError::Disconnected };
    Err(missing.or(shards_error(&findings)).unwrap_or(error))
}

/// A socket of any shard as it was when it was asked for: Node's `RemoteSocket`.
///
/// To act on it, name it by its id: `handle.to("/", remote.id()).join("vip")`.
#[derive(Clone, Debug)]
pub struct RemoteSocket {
    facts: SocketFacts,
}

impl RemoteSocket {
    /// The socket's id, which is also a room.
    pub fn id(&self) -> Sid {
        self.facts.sid
    }

    /// The id by which its client knows it, as [`Socket::client_id`](crate::Socket::client_id) says: to find whom a client means
    /// that names itself. That of a client of Socket.IO 1.x or 2.x has its session's id in it, with which anybody could speak for
    /// it: tell other clients [`id`](RemoteSocket::id).
    ///
    /// ```no_run
    /// # async fn example(socket: shardcast::Socket, named: String) -> Result<(), shardcast::AckError> {
    /// let sockets = socket.sockets().fetch().await?;
    /// let meant = sockets.iter().find(|other| other.client_id() == named).map(|other| other.id());
    /// # Ok(())
    /// # }
    /// ```
    pub fn client_id(&self) -> String {
        self.facts.client_id.as_deref().map_or_else(|| self.facts.sid.to_string(), str::to_owned)
    }

    /// The number of the shard that owns it.
    pub fn shard(&self) -> usize {
        self.facts.sid.shard().index()
    }

    /// The rooms it was in, its own id first.
    pub fn rooms(&self) -> &[String] {
        &self.facts.rooms
    }

    /// What the client said when its session opened: address, headers, query, time.
    pub fn handshake(&self) -> Handshake {
        let SocketFacts { request, peer, address, issued_unix_millis, .. } = &self.facts;
        Handshake::from_parts(request.clone(), *peer, *address, *issued_unix_millis)
    }

    /// What its handlers have published with [`Socket::set_data`](crate::Socket::set_data): Node's `socket.data`.
    ///
    /// # Errors
    /// Nothing was published, or something of another type.
    pub fn data<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        read_json(self.facts.data.as_deref().unwrap_or("null"))
    }
}

pub(crate) fn read_sockets(findings: Findings) -> Result<Found<Vec<RemoteSocket>>, AckError> {
    let findings = complete(findings)?;
    let sockets = findings.sockets.into_iter().map(|facts| RemoteSocket { facts }).collect();
    Ok(Found::new(sockets, findings.processes_missing))
}

pub(crate) fn read_ids(findings: Findings) -> Result<Found<Vec<Sid>>, AckError> {
    complete(findings).map(|findings| Found::new(findings.ids, findings.processes_missing))
}

pub(crate) fn read_count(findings: Findings) -> Result<Found<u64>, AckError> {
    complete(findings).map(|findings| Found::new(findings.count, findings.processes_missing))
}

pub(crate) fn read_rooms(findings: Findings) -> Result<Found<BTreeMap<String, u64>>, AckError> {
    complete(findings).map(|findings| Found::new(findings.rooms, findings.processes_missing))
}

/// A shard that is silent is missing; what the others show is shown.
pub(crate) fn read_overviews(findings: Findings) -> Result<Vec<Overview>, AckError> {
    Ok(findings.overviews)
}

pub(crate) fn read_census(findings: Findings) -> Result<BTreeMap<(Option<String>, String), u64>, AckError> {
    complete(findings).map(|findings| findings.census)
}

/// A list that lacks what a shard of this process has would be taken for the whole: it is an error, as in Node. Other processes
/// that are missing are named.
fn complete(findings: Findings) -> Result<Findings, AckError> {
    match shards_error(&findings) {
        Some(error) => Err(error),
        None if findings.is_cut => Err(AckError::TooLarge),
        None => Ok(findings),
    }
}

fn shards_error(findings: &Findings) -> Option<AckError> {
    match (findings.shards_unreached, findings.shards_late) {
        (0, 0) => None,
        (0, _) => Some(AckError::Timeout),
        _ => Some(AckError::NotSent),
    }
}
