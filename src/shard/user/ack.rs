//! An acknowledgement that a handler keeps, to give it later.

use std::fmt;
use std::sync::Arc;

use crate::base::ids::ShardId;
use crate::base::log::SOCKETIO;
use crate::base::slab::Key;
use crate::mesh::{InboxError, Mesh, ShardMessage};
use crate::message::ack::AckAnswer;
use crate::shard::user::acknowledged::{Acknowledged, answer, refused};
use crate::shard::user::argument::{Argument, Source};
use crate::shard::user::socket::Socket;
use crate::shard::value::ack::Asked;
use crate::shard::value::args::ToArgs;
use crate::shard::value::effect::Deferred;
use crate::shard::value::encode::args_text;
use crate::shard::value::error::HandlerError;

/// The acknowledgement of an event, for a handler to keep and to give when it has an answer: Node's callback, `ack`.
///
/// A handler that takes one answers by it and by nothing else: it returns `()`, or a `Result<(), E>`. Neither it nor the answer that is
/// still to come holds back later events of the socket; an answer may overtake another one, as in Node. It can be given from
/// anywhere on the socket's shard, and, [`into_remote`](Ack::into_remote), from any thread. A client that has not asked for an
/// acknowledgement gets none, and [`is_wanted`](Ack::is_wanted) says so.
///
/// ```
/// use std::cell::RefCell;
/// use std::rc::Rc;
/// use shardcast::testing::TestServer;
/// use shardcast::{Ack, Config, Context, Server};
///
/// let server = Server::new(Config::default()).namespace("/", |io| {
///     // Who asks waits until somebody has an answer for all.
///     let waiting = Rc::new(RefCell::new(Vec::<Ack>::new()));
///     let asked = Rc::clone(&waiting);
///     io.on("ask", move |_: &mut Context, ack: Ack| asked.borrow_mut().push(ack));
///     io.on("tell", move |_: &mut Context, answer: String| {
///         for ack in waiting.take() {
///             ack.send(&answer);
///         }
///     });
/// });
/// let server = TestServer::new(server).unwrap();
/// let client = server.connect("/").unwrap();
/// let asked = client.emit_with_ack("ask", ());
/// assert!(client.answer(asked).is_none(), "not yet");
/// client.emit("tell", "42");
/// assert_eq!(client.answer(asked).unwrap().first::<String>().unwrap(), "42");
/// ```
///
/// One that is dropped without an answer leaves its client to its own timeout. That is counted
/// ([`acks_dropped`](crate::ShardStats::acks_dropped)) and logged, at most once a second; [`withhold`](Ack::withhold) says that it is
/// meant. When the handler returns an error while nothing is answered yet, the answer is the error handler's.
///
/// A socket may keep 1,024 of them; its later events wait then until one is answered or dropped.
#[must_use = "an acknowledgement that is dropped leaves its client without an answer"]
pub struct Ack {
    socket: Socket,
    /// None: the client has not asked for it, or it is done with.
    key: Option<Key>,
    is_wanted: bool,
}

impl<'e> Argument<'e> for Ack {
    fn take(source: &mut Source<'e, '_>) -> Result<Ack, HandlerError> {
        let cx = source.cx;
        let socket = cx.socket();
        let Asked::Here(id) = cx.asked() else {
            cx.set_asked(Asked::Taken);
            return Ok(Ack { socket, key: None, is_wanted: false });
        };
        let key = socket.core().borrow_mut().tables.keep_ack(socket.key(), id);
        let key = key.ok_or_else(|| {
            HandlerError::Failed("this server keeps as many acknowledgements as it may".into())
        })?;
        cx.set_asked(Asked::Kept(key));
        Ok(Ack { socket, key: Some(key), is_wanted: true })
    }
}

impl Ack {
    /// Whether the client has asked for an acknowledgement.
    pub fn is_wanted(&self) -> bool {
        self.is_wanted
    }

    /// The socket whose event this answers.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Gives the answer. A tuple is a list of arguments, anything else is one: see [`ToArgs`].
    pub fn send(mut self, args: impl ToArgs) -> Acknowledged {
        match self.key.take() {
            Some(key) => answer(&self.socket, key, &args),
            None => Acknowledged::NotWanted,
        }
    }

    /// Gives no answer, and means it.
    pub fn withhold(mut self) {
        if let Some(key) = self.key.take() {
            self.socket.core().borrow_mut().tables.take_ack(key);
        }
    }

    /// The same, to be given from any thread.
    ///
    /// ```
    /// # use shardcast::{Ack, Config, Context, Server};
    /// Server::new(Config::default()).namespace("/", |io| {
    ///     io.on("digest", |_: &mut Context, text: String, ack: Ack| {
    ///         let ack = ack.into_remote();
    ///         std::thread::spawn(move || ack.send(text.bytes().map(u64::from).sum::<u64>()));
    ///     });
    /// });
    /// ```
    pub fn into_remote(mut self) -> RemoteAck {
        let core = self.socket.core().borrow();
        let (mesh, shard) = (Arc::clone(&core.tables.mesh), core.tables.env.id);
        drop(core);
        RemoteAck { mesh, shard, key: self.key.take(), is_wanted: self.is_wanted }
    }
}

impl Drop for Ack {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            // Not at once: a handler that fails drops it, and then the error handler may answer.
            let dropped = Deferred::AckDropped { key, is_noted_again: false };
            self.socket.core().borrow_mut().tables.effects.deferred.push(dropped);
        }
    }
}

impl fmt::Debug for Ack {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Ack")
            .field("socket", &self.socket)
            .field("is_wanted", &self.is_wanted)
            .finish()
    }
}

/// An [`Ack`] for any thread. What is said of an `Ack` holds for it, too.
#[must_use = "an acknowledgement that is dropped leaves its client without an answer"]
pub struct RemoteAck {
    mesh: Arc<Mesh>,
    shard: ShardId,
    key: Option<Key>,
    is_wanted: bool,
}

impl RemoteAck {
    /// Whether the client has asked for an acknowledgement.
    pub fn is_wanted(&self) -> bool {
        self.is_wanted
    }

    /// Gives the answer: it is encoded here, and sent by the socket's shard.
    pub fn send(mut self, args: impl ToArgs) -> Acknowledged {
        let Some(key) = self.key else { return Acknowledged::NotWanted };
        match args_text(&args) {
            Ok(text) => {
                self.key = None;
                self.tell(AckAnswer::Send(key, text))
            }
            Err(error) => refused(error),
        }
    }

    /// Gives no answer, and means it.
    pub fn withhold(mut self) {
        if let Some(key) = self.key.take() {
            self.tell(AckAnswer::Withhold(key));
        }
    }

    fn tell(&self, answer: AckAnswer) -> Acknowledged {
        match self.mesh.send(self.shard, ShardMessage::Ack(Box::new(answer))) {
            Ok(()) => {
                self.mesh.ring(self.shard);
                Acknowledged::OnItsWay
            }
            Err(InboxError::Gone) => Acknowledged::Gone,
            Err(InboxError::Full) => {
                tracing::error!(target: SOCKETIO, shard = self.shard.index(), "an acknowledgement is lost: its shard's inbox is full");
                Acknowledged::ShardBusy
            }
        }
    }
}

impl Drop for RemoteAck {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.tell(AckAnswer::Drop(key));
        }
    }
}

impl fmt::Debug for RemoteAck {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shard, is_wanted) = (&self.shard, &self.is_wanted);
        formatter.debug_struct("RemoteAck").field("shard", shard).field("is_wanted", is_wanted).finish()
    }
}
