//! Emitting without a server: a process that has no clients says things to those of others, through the message queue.

use std::fmt;
use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::config::Config;
use crate::config::engine::EngineOptions;
use crate::config::queue::url::QueueUrl;
use crate::driver::emitter::{EmitError, Outcome, Speaker};
use crate::mesh::link::Said;
use crate::message::address::Address;
use crate::message::recovery::Position;
use crate::message::target::{Broadcast, SocketChange, SocketCommand, Target, ToldChange, WhenBehind};
use crate::server::{Error, Result};
use crate::shard::user::current::current;
use crate::shard::value::args::ToArgs;
use crate::shard::value::encode::frame_event;

/// How long the broker may take, unless it is said.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

/// Emits to the clients of other processes, through the message queue, from a process that is no server: a task of a job queue, a
/// script, a program on a schedule. What Flask-SocketIO does with `SocketIO(message_queue=url)`, and Node with
/// `@socket.io/redis-emitter`.
///
/// Everybody on the channel gets it, in our own format and in `queue_formats`. It connects with the first message, on a thread
/// of its own, and again when the connection breaks. What one thread says is sent in that order. Cheap to clone.
///
/// ```
/// # #[cfg(feature = "bus")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let emitter = shardcast::Emitter::connect("memory:")?; // redis://localhost:6379/0, say
/// emitter.to("/", "news").emit("headline", "It works").wait()?;
/// emitter.namespace("/chat").except("moderators").emit("notice", ("maintenance", 5)).wait()?;
/// emitter.to("/chat", "lobby").disconnect().wait()?;
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "bus"))]
/// # fn main() {}
/// ```
///
/// `wait()` is for a thread, `.await` for any runtime; both say whether the broker has taken it. Whether somebody has got it the broker
/// does not say.
#[derive(Clone)]
pub struct Emitter {
    speaker: Arc<Speaker>,
    /// For `Debug`, without a password.
    place: Arc<str>,
    /// Path of the endpoint whose namespaces are meant, and that of the configuration's own.
    endpoint: Option<Arc<str>>,
    main: Arc<str>,
    timeout: Duration,
}

impl fmt::Debug for Emitter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Emitter").field("message_queue", &self.place).finish_non_exhaustive()
    }
}

impl Emitter {
    /// An emitter for the queue at a URL, with the channel and the formats that servers have unless they are told otherwise.
    ///
    /// # Errors
    /// A URL that is wrong, or of a broker that this program is built without. That a broker is not there is said by what is sent.
    pub fn connect(url: impl Into<QueueUrl>) -> Result<Emitter> {
        let engine = EngineOptions { message_queue: url.into(), ..EngineOptions::default() };
        Emitter::new(&Config { engine, ..Config::default() })
    }

    /// An emitter for the queue of a server's configuration: its `message_queue`, `channel`, `queue_formats` and the like.
    ///
    /// ```
    /// use shardcast::{Config, Emitter, EngineOptions};
    ///
    /// # #[cfg(feature = "bus")]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let engine = EngineOptions { message_queue: "memory:".into(), channel: "chat".into(), ..EngineOptions::default() };
    /// let emitter = Emitter::new(&Config { engine, ..Config::default() })?;
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "bus"))]
    /// # fn main() {}
    /// ```
    ///
    /// # Errors
    /// As [`connect`](Emitter::connect), and if there is no `message_queue`.
    pub fn new(config: &Config) -> Result<Emitter> {
        config.validate()?;
        let Some(queue) = config.engine.queue()? else {
            return Err(Error::new(
                "message_queue is empty: write where the broker is, as in redis://localhost:6379/0",
            ));
        };
        let place = queue.url.to_string().into();
        let speaker = Speaker::start(queue, config.queue_bytes_max, config.queue_message_bytes_max)?;
        Ok(Emitter {
            speaker: Arc::new(speaker),
            place,
            endpoint: None,
            main: config.engine.path.as_str().into(),
            timeout: TIMEOUT_DEFAULT,
        })
    }

    /// The same emitter, which gives the broker this time for each message. Without it five seconds.
    pub fn timeout(&self, timeout: Duration) -> Emitter {
        Emitter { timeout, ..self.clone() }
    }

    /// The same emitter, for the namespaces of the endpoint at this path. Processes that are not shardcast know no endpoints.
    pub fn endpoint(&self, path: &str) -> Emitter {
        let endpoint = Some(path).filter(|path| **path != *self.main).map(Arc::from);
        Emitter { endpoint, ..self.clone() }
    }

    /// Everybody in a namespace.
    pub fn namespace(&self, name: &str) -> EmitTo<'_> {
        let address = Address::new(self.endpoint.as_deref(), name);
        EmitTo { emitter: self, address, target: Target { is_everyone: true, ..Target::default() } }
    }

    /// The members of a room of a namespace. A socket's id is a room.
    pub fn to(&self, namespace: &str, room: impl AsRef<str>) -> EmitTo<'_> {
        let mut to = self.namespace(namespace);
        to.target.is_everyone = false;
        to.to(room)
    }
}

/// Some sockets of one namespace, in whatever process they are: who gets an event, joins a room or is disconnected.
///
/// Each socket is meant once, even when it is in several of the rooms.
#[must_use = "nothing happens until emit, join, disconnect or another verb is called"]
#[derive(Debug)]
pub struct EmitTo<'a> {
    emitter: &'a Emitter,
    address: Address,
    target: Target,
}

impl EmitTo<'_> {
    /// Also the members of this room. After [`Emitter::namespace`], which means everybody, it changes nothing.
    pub fn to(mut self, room: impl AsRef<str>) -> Self {
        self.target.rooms.push(room.as_ref());
        self
    }

    /// Also the members of these rooms.
    pub fn to_all<R: AsRef<str>>(mut self, rooms: impl IntoIterator<Item = R>) -> Self {
        rooms.into_iter().for_each(|room| self.target.rooms.push(room.as_ref()));
        self
    }

    /// But not the members of this room.
    pub fn except(mut self, room: impl AsRef<str>) -> Self {
        self.target.except.push(room.as_ref());
        self
    }

    /// Whether what they are sent may be compressed. True unless said otherwise.
    pub fn compress(mut self, may_compress: bool) -> Self {
        self.target.is_uncompressed = !may_compress;
        self
    }

    /// Leaves out who is behind: see [`Recipients::volatile`](crate::Recipients::volatile).
    pub fn volatile(mut self) -> Self {
        self.target.when_behind = WhenBehind::Volatile;
        self
    }

    /// For who is behind the event takes the place of the one with the same key: see [`Recipients::latest`](crate::Recipients::latest).
    pub fn latest(mut self, key: impl Into<String>) -> Self {
        self.target.when_behind = WhenBehind::Latest(key.into());
        self
    }

    /// Sends them an event, encoded once.
    ///
    /// It waits for the broker from now on. What is returned says what became of it, to whoever waits for that.
    pub fn emit(self, event: &str, args: impl ToArgs) -> Emitting {
        let mut frame = Vec::new();
        if let Err(error) = frame_event(&mut frame, self.address.name(), None, event, &args) {
            return Emitting(State::Failed(EmitError::Refused(error)));
        }
        let EmitTo { emitter, address, target } = self;
        let broadcast = Broadcast {
            namespace: address,
            target,
            frame: Arc::new(frame),
            offset: None,
            id: None,
            position: Position::default(),
            published: 0,
        };
        emitter.say(Said::Emit(Arc::new(broadcast)))
    }

    /// Sends them the unnamed event, `message`.
    pub fn send(self, args: impl ToArgs) -> Emitting {
        self.emit("message", args)
    }

    /// Puts them all into a room. To python-socketio's processes it can be said of sockets by their id only, one by one.
    pub fn join(self, room: impl AsRef<str>) -> Emitting {
        self.change(SocketChange::Join(room.as_ref().to_owned()))
    }

    /// Takes them all out of a room. For python-socketio's processes see [`join`](EmitTo::join).
    pub fn leave(self, room: impl AsRef<str>) -> Emitting {
        self.change(SocketChange::Leave(room.as_ref().to_owned()))
    }

    /// Disconnects them all from the namespace.
    pub fn disconnect(self) -> Emitting {
        self.change(SocketChange::Disconnect { close_session: false })
    }

    /// Disconnects them all and closes their connections.
    pub fn close(self) -> Emitting {
        self.change(SocketChange::Disconnect { close_session: true })
    }

    fn change(self, change: SocketChange) -> Emitting {
        let EmitTo { emitter, address, target } = self;
        emitter.say(Said::Change(ToldChange::new(SocketCommand { namespace: address, target, change })))
    }
}

impl Emitter {
    fn say(&self, said: Said) -> Emitting {
        Emitting(State::Said(self.speaker.say(said, self.timeout)))
    }
}

/// Something that an [`Emitter`] says: await it on any runtime, or [`wait`](Emitting::wait) on a thread, to learn whether the broker has
/// taken it. It goes out in any case.
///
/// ```no_run
/// # async fn example(emitter: shardcast::Emitter) -> Result<(), shardcast::EmitError> {
/// emitter.to("/", "news").emit("headline", "hello").await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "it is not known whether the broker has taken it until this is awaited or waited for"]
pub struct Emitting(State);

enum State {
    Said(oneshot::Receiver<Outcome>),
    Failed(EmitError),
}

impl fmt::Debug for Emitting {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Emitting").finish_non_exhaustive()
    }
}

impl Emitting {
    /// Waits on this thread, which must not be a shard's.
    ///
    /// # Errors
    /// Why the broker has not taken it. On a shard's thread [`EmitError::OnShard`]; it goes out all the same.
    pub fn wait(self) -> std::result::Result<(), EmitError> {
        match self.0 {
            State::Failed(error) => Err(error),
            State::Said(_) if current().is_some() => Err(EmitError::OnShard),
            State::Said(outcome) => outcome.recv().unwrap_or(Err(EmitError::Stopped)),
        }
    }
}

impl IntoFuture for Emitting {
    type Output = std::result::Result<(), EmitError>;
    type IntoFuture = EmittingFuture;

    fn into_future(self) -> EmittingFuture {
        EmittingFuture(match self.0 {
            State::Said(outcome) => Ok(outcome.into_future()),
            State::Failed(error) => Err(error),
        })
    }
}

/// An [`Emitting`] that is awaited.
#[derive(Debug)]
pub struct EmittingFuture(std::result::Result<oneshot::AsyncReceiver<Outcome>, EmitError>);

impl Future for EmittingFuture {
    type Output = std::result::Result<(), EmitError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Ok(outcome) => {
                Pin::new(outcome).poll(cx).map(|outcome| outcome.unwrap_or(Err(EmitError::Stopped)))
            }
            Err(error) => Poll::Ready(Err(error.clone())),
        }
    }
}
