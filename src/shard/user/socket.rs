//! A socket as handlers hold it: who its client is, what it is sent, which rooms it is in, what is kept in it.

use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::Sid;
use crate::base::log::SOCKETIO;
use crate::base::shown::Shown;
use crate::base::slab::Key;
use crate::mesh::link::LinkError;
use crate::message::inquiry::AckError;
use crate::protocol::engineio::revision::Revision;
use crate::protocol::socketio::encode::EncodeError;
use crate::protocol::socketio::raw_json::RawJson;
use crate::protocol::surrogates::read_json;
use crate::shard::core::SharedCore;
use crate::shard::table::namespaces::NamespaceRef;
use crate::shard::user::state::State;
use crate::shard::value::ack::Asked;
use crate::shard::value::answer::Answer;
use crate::shard::value::args::{Reply, ToArgs};
use crate::shard::value::effect::Deferred;
use crate::shard::value::encode::{frame_ack, frame_event};
use crate::shard::value::error::HandlerError;
use crate::shard::value::handshake::Handshake;
use crate::shard::value::parked::Outcome;
use crate::shard::value::recovery::Recovery;
use crate::shard::value::session::Link;
use crate::shard::value::socket::SocketState;

/// What a socket may publish about itself, in bytes of JSON: each `fetch` copies it.
pub(crate) const DATA_BYTES_MAX: usize = 64 * 1024;

/// One client in one namespace: a handle that can be kept, cloned and used in asynchronous code on its shard.
///
/// It stays valid after the client is gone; what is sent then goes nowhere. It does not leave its shard: for
/// other threads there is [`Handle`](crate::Handle).
#[derive(Clone)]
pub struct Socket {
    pub(crate) core: SharedCore,
    pub(crate) key: Key,
    pub(crate) sid: Sid,
    pub(crate) namespace: Rc<NamespaceRef>,
}

/// What became of an emit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Emitted {
    /// What became of it at the sockets of this shard. Other shards get theirs by the mesh, and count in their
    /// [`ShardStats`](crate::ShardStats).
    Here(Outcome),
    /// Not sent: the client is gone or owes too many answers, or a [`Handle`](crate::Handle), which is on no shard, was asked to
    /// reach this shard only.
    Nobody,
    /// Not sent, and logged: the event's name is reserved, or its arguments cannot be JSON.
    Refused(EncodeError),
    /// Another shard's inbox was full: its sockets do not get it. Logged and counted.
    ShardBusy,
    /// So much waits for the message queue already that it takes no more: other processes do not get it. The queue is away, or slower
    /// than what is emitted; this process' sockets have got theirs.
    QueueFull,
    /// It has more bytes than a message for the message queue may have (`queue_message_bytes_max`): other processes do not get it.
    /// Logged and counted; this process' sockets have got theirs.
    TooLarge {
        /// How many it has, about.
        bytes: usize,
        /// How many it may have.
        bytes_max: usize,
    },
}

impl From<LinkError> for Emitted {
    fn from(error: LinkError) -> Emitted {
        match error {
            LinkError::Full => Emitted::QueueFull,
            LinkError::TooLarge { bytes, bytes_max } => Emitted::TooLarge { bytes, bytes_max },
        }
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Socket").field("id", &self.sid).field("namespace", &self.namespace()).finish()
    }
}

impl Socket {
    pub(crate) fn of(core: &SharedCore, key: Key) -> Option<Socket> {
        let borrowed = core.borrow();
        let entry = borrowed.tables.sockets.get(key)?;
        let namespace = Rc::clone(&borrowed.tables.namespaces[entry.namespace].namespace);
        Some(Socket { core: Rc::clone(core), key, sid: entry.sid, namespace })
    }

    pub(crate) fn core(&self) -> &SharedCore {
        &self.core
    }

    pub(crate) fn key(&self) -> Key {
        self.key
    }

    /// The place of its namespace's handlers.
    pub(crate) fn setup(&self) -> usize {
        usize::from(self.namespace.setup)
    }

    /// The id by which the client knows this socket: [`id`](Socket::id), but `/admin#` and the session's id in the namespace
    /// `/admin` of a client of Socket.IO 1.x or 2.x. Either is the name of a room that only this socket is in.
    ///
    /// ```
    /// use shardcast::Context;
    ///
    /// fn who_am_i(cx: &mut Context) -> String {
    ///     cx.client_id()
    /// }
    /// ```
    pub fn client_id(&self) -> String {
        self.core.borrow().tables.client_id(self.key).unwrap_or_else(|| self.sid.to_string())
    }

    /// The socket's id. It is also the name of a room that only this socket is in.
    pub fn id(&self) -> Sid {
        self.sid
    }

    /// The namespace's name, such as `/` or `/admin`; for one that a pattern made, the name the client asked for.
    pub fn namespace(&self) -> &str {
        &self.namespace.name
    }

    /// What a part of the namespace's pattern stands for: `"7"` for `id` in `/game/7`, registered as `/game/{id}`.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.namespace.params.iter().find(|(key, _)| **key == *name).map(|(_, value)| &**value)
    }

    /// The number of the shard that owns the socket.
    pub fn shard(&self) -> usize {
        self.core.borrow().tables.env.id.index()
    }

    /// Whether it has ended, or will once the running handler returns.
    pub(crate) fn is_ending(&self) -> bool {
        self.core.borrow().tables.is_ending(self.key)
    }

    /// Whether the client can still be reached through this socket.
    pub fn is_connected(&self) -> bool {
        self.core.borrow().tables.sockets.get(self.key).is_some_and(|socket| socket.state.is_told())
    }

    /// What the client said when its session opened: address, headers, query, cookies. `None` once it is gone.
    pub fn handshake(&self) -> Option<Arc<Handshake>> {
        let core = self.core.borrow();
        let session = core.tables.sockets.get(self.key)?.session;
        Some(Arc::clone(&core.tables.sessions.get(session)?.handshake))
    }

    /// `"websocket"` or `"polling"`: how the client is connected now. `None` once it is gone.
    pub fn transport(&self) -> Option<&'static str> {
        let core = self.core.borrow();
        let session = core.tables.sockets.get(self.key)?.session;
        Some(match core.tables.sessions.get(session)?.link {
            Link::WebSocket(_) => "websocket",
            Link::Polling { .. } => "polling",
        })
    }

    /// The revision of the Engine.IO protocol that the client speaks: 4, or 3 for clients of Socket.IO 1.x and 2.x. `None` once
    /// it is gone.
    ///
    /// ```no_run
    /// # fn example(cx: &mut shardcast::Context<'_>) {
    /// if cx.revision() == Some(3) {
    ///     cx.emit("notice", "please reload the page: there is a new version");
    /// }
    /// # }
    /// ```
    pub fn revision(&self) -> Option<u8> {
        let core = self.core.borrow();
        let session = core.tables.sockets.get(self.key)?.session;
        Some(match core.tables.sessions.get(session)?.poll_form.revision {
            Revision::Three => 3,
            Revision::Four => 4,
        })
    }

    /// The same client's socket in another namespace. `None` if it is not in that one, or gone.
    ///
    /// ```no_run
    /// # fn example(cx: &mut shardcast::Context<'_>) {
    /// if let Some(chat) = cx.in_namespace("/chat") {
    ///     chat.leave("lobby");
    /// }
    /// # }
    /// ```
    pub fn in_namespace(&self, namespace: &str) -> Option<Socket> {
        let key = self.key_in(namespace)?;
        Socket::of(&self.core, key)
    }

    /// The place of the same client's socket in a namespace that has let it in.
    pub(crate) fn key_in(&self, namespace: &str) -> Option<Key> {
        let core = self.core.borrow();
        let tables = &core.tables;
        let session = tables.sessions.get(tables.sockets.get(self.key)?.session)?;
        let key = session.socket_in(tables.namespaces.find(self.namespace.endpoint, namespace)?)?;
        tables.sockets.get(key).filter(|socket| socket.state == SocketState::Open).map(|_| key)
    }

    /// Sends an event to this client.
    ///
    /// A tuple is a list of arguments, anything else is one: see [`ToArgs`].
    pub fn emit(&self, event: &str, args: impl ToArgs) -> Emitted {
        self.emit_with_id(event, args, None)
    }

    /// Sends the unnamed event, `message`.
    pub fn send(&self, args: impl ToArgs) -> Emitted {
        self.emit("message", args)
    }

    /// Sends an event and calls `then` once with the client's answer, or with the reason why none came
    /// within `ack_timeout`.
    ///
    /// ```no_run
    /// # fn example(cx: &mut shardcast::Context<'_>) {
    /// cx.emit_with_callback("question", 42, |answer| match answer {
    ///     Ok(answer) => println!("{:?}", answer.first::<String>()),
    ///     Err(error) => println!("no answer: {error}"),
    /// });
    /// # }
    /// ```
    pub fn emit_with_callback(
        &self,
        event: &str,
        args: impl ToArgs,
        then: impl FnOnce(Result<Answer, AckError>) + 'static,
    ) -> Emitted {
        let timeout = self.core.borrow().tables.env.config.ack_timeout;
        self.emit_expecting(event, args, timeout, Box::new(then))
    }

    /// Puts the socket into a room. False when it is gone, or in `rooms_per_socket_max` rooms already.
    ///
    /// A room named like another socket's id gets what is sent to that id, as in Node and Flask-SocketIO. Where
    /// clients choose names, put something in front: `format!("chat:{name}")`.
    pub fn join(&self, room: impl AsRef<str>) -> bool {
        // A name may be made by user code.
        let room = room.as_ref();
        self.core.borrow_mut().join(self.key, room).is_ok()
    }

    /// Takes the socket out of a room.
    pub fn leave(&self, room: impl AsRef<str>) {
        let room = room.as_ref();
        self.core.borrow_mut().tables.leave(self.key, room);
    }

    /// The rooms the socket is in, its own id first.
    pub fn rooms(&self) -> Vec<String> {
        self.core.borrow().tables.rooms_of(self.key)
    }

    /// Ends this socket: the client gets `disconnect`, the handler runs. The connection stays for other namespaces.
    pub fn disconnect(&self) {
        self.core.borrow_mut().tables.end_soon(self.key);
    }

    /// Whether this is a socket that was there before its connection was lost, and if not, why. Connect handlers may ask
    /// too: they run for clients that come back as for all others.
    pub fn recovery(&self) -> Recovery {
        self.core.borrow().tables.recovery_of(self.key)
    }

    /// Bytes that the client is owed and has not taken, with what waits until it has caught up. Above
    /// `outbox_bytes_max` it is closed. 0 when it is gone.
    pub fn owed_bytes(&self) -> usize {
        self.core.borrow().tables.owed_bytes(self.key)
    }

    /// A state room of the socket's namespace: see [`StateRoom`](crate::StateRoom).
    pub fn state<'a>(&'a self, room: &'a str) -> State<'a> {
        let number = self.core.borrow().tables.namespaces.resolve(&self.namespace).unwrap_or(u16::MAX);
        State::here(&self.core, number, room)
    }

    /// Keeps a value for as long as the socket lives, one of each type.
    pub fn set<T: 'static>(&self, value: T) {
        self.keep(Rc::new(RefCell::new(value)));
    }

    /// A copy of the kept value of this type.
    pub fn get<T: Clone + 'static>(&self) -> Option<T> {
        let value = self.kept::<T>()??;
        // It is not to be had while `update` works on it.
        let copy = value.try_borrow().ok()?.clone();
        Some(copy)
    }

    /// Works on the kept value of this type, which is made by `Default` the first time. `None` once the socket is gone.
    ///
    /// ```no_run
    /// # fn example(cx: &mut shardcast::Context<'_>) {
    /// let count = cx.update(|count: &mut u64| { *count += 1; *count });
    /// # }
    /// ```
    pub fn update<T: Default + 'static, R>(&self, work: impl FnOnce(&mut T) -> R) -> Option<R> {
        let kept = self.kept::<T>()?;
        // While another `update` further up works on it, or it is being copied, a new one takes its place.
        let value = kept.filter(|value| value.try_borrow_mut().is_ok()).unwrap_or_else(|| {
            let value = Rc::new(RefCell::new(T::default()));
            self.keep(Rc::clone(&value));
            value
        });
        let result = work(&mut value.borrow_mut());
        Some(result)
    }

    /// The kept value of this type, for user code to work on when nothing of the shard's is borrowed. `None`: the socket is gone.
    fn kept<T: 'static>(&self) -> Option<Option<Rc<RefCell<T>>>> {
        let core = self.core.borrow();
        let socket = core.tables.sockets.get(self.key)?;
        let value = socket.extra.as_ref().and_then(|extra| extra.values.get(&TypeId::of::<T>()));
        Some(value.and_then(|value| Rc::clone(value).downcast::<RefCell<T>>().ok()))
    }

    fn keep<T: 'static>(&self, value: Rc<RefCell<T>>) {
        let value: Rc<dyn Any> = value;
        // What was there before is dropped when nothing is borrowed: its destructor may use this socket.
        let _replaced = match self.core.borrow_mut().tables.sockets.get_mut(self.key) {
            Some(socket) => socket.extra_mut().values.insert(TypeId::of::<T>(), value),
            None => Some(value),
        };
    }

    /// Publishes a value, which [`fetch`](crate::Recipients::fetch) shows on every shard: Node's `socket.data`. It replaces
    /// the one before. [`data`](Socket::data) reads it.
    ///
    /// ```no_run
    /// # fn example(cx: &mut shardcast::Context<'_>) -> Result<(), serde_json::Error> {
    /// cx.set_data(&serde_json::json!({ "name": "Ada", "score": 3 }))
    /// # }
    /// ```
    ///
    /// # Errors
    /// The value has no JSON, or more than 64 KiB of it.
    pub fn set_data(&self, data: &impl serde::Serialize) -> Result<(), serde_json::Error> {
        let json = RawJson::from_value(data)?;
        let text = json.as_str();
        if text.len() > DATA_BYTES_MAX {
            let message =
                format!("a socket's data has at most {DATA_BYTES_MAX} bytes, this has {}", text.len());
            return Err(serde::ser::Error::custom(message));
        }
        let mut core = self.core.borrow_mut();
        if let Some(socket) = core.tables.sockets.get_mut(self.key) {
            socket.extra_mut().data = Some(text.into());
            if core.tables.sightings.is_on {
                core.tables.saw_data(self.key);
            }
        }
        Ok(())
    }

    /// What [`set_data`](Socket::set_data) has published last, as a type that it fits into.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use shardcast::testing::TestServer;
    /// # use shardcast::{Config, Context, Server};
    /// #[derive(Default, Deserialize, Serialize)]
    /// struct Player {
    ///     name: String,
    ///     score: u32,
    /// }
    ///
    /// let server = Server::new(Config::default()).namespace("/", |io| {
    ///     io.on("hit", |cx: &mut Context| {
    ///         let mut player: Player = cx.data().unwrap_or_default();
    ///         player.score += 10;
    ///         cx.set_data(&player)?;
    ///         Ok::<u32, serde_json::Error>(player.score)
    ///     });
    /// });
    /// # let server = TestServer::new(server).unwrap();
    /// # let client = server.connect("/").unwrap();
    /// # for score in [10, 20] {
    /// #     assert_eq!(client.call("hit", ()).unwrap().first::<u32>().unwrap(), score);
    /// # }
    /// ```
    ///
    /// # Errors
    /// Nothing was published, or something that does not fit; the socket is gone.
    pub fn data<T: serde::de::DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        // How a type is read may be user code: the text is copied, and nothing is borrowed meanwhile.
        let text = {
            let core = self.core.borrow();
            let socket = core.tables.sockets.get(self.key);
            socket.and_then(|socket| socket.extra.as_ref()?.data.clone())
        };
        read_json(text.as_deref().unwrap_or("null"))
    }

    /// Runs a future in the background on this socket's shard. It goes on when the socket is gone.
    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        self.core.borrow_mut().tables.effects.deferred.push(Deferred::Start(Box::pin(future)));
    }

    /// Answers an event that asked for it.
    pub(crate) fn acknowledge(&self, asked: Asked, reply: impl Reply) -> Result<(), HandlerError> {
        let args = match reply.into_reply() {
            Ok(args) => args,
            Err(HandlerError::NoAck) => return Ok(()),
            Err(error) => return Err(error),
        };
        let id = match asked {
            Asked::Here(id) => id,
            Asked::Nothing => return Ok(()),
            // Who has taken an `Ack` answers by it.
            Asked::Kept(_) | Asked::Taken => {
                if !args.is_unit() {
                    let namespace = self.namespace();
                    tracing::warn!(target: SOCKETIO, namespace, "a handler that takes an Ack or a Ticket has returned a value, too: it is not sent");
                }
                return Ok(());
            }
        };
        let mut frames = self.core.borrow_mut().tables.pools.buffers.take();
        match frame_ack(&mut frames, &self.namespace.name, id, &args) {
            Ok(()) => {
                self.core.borrow_mut().send_from_socket(self.key, frames, true);
                Ok(())
            }
            Err(error) => Err(HandlerError::Failed(Box::new(error))),
        }
    }

    pub(crate) fn decided(&self, decision: Result<(), crate::shard::value::error::Refused>) {
        self.core.borrow_mut().tables.effects.deferred.push(Deferred::Decided(self.key, decision));
    }

    /// Reports the failure of an asynchronous handler.
    pub(crate) fn failed(&self, (event, asked): (String, Asked), args: Answer, error: HandlerError) {
        let socket = self.key;
        self.core.borrow_mut().tables.effects.deferred.push(Deferred::Failed {
            socket,
            event,
            asked,
            args,
            error,
        });
    }

    fn emit_with_id(&self, event: &str, args: impl ToArgs, id: Option<u64>) -> Emitted {
        // The arguments are encoded by the user's own code, so no borrow may be held meanwhile.
        let mut frames = self.core.borrow_mut().tables.pools.buffers.take();
        if let Err(error) = frame_event(&mut frames, &self.namespace.name, id, event, &args) {
            tracing::error!(target: SOCKETIO, event = ?Shown(event), error = %Shown(&error), "not sent");
            return Emitted::Refused(error);
        }
        match self.core.borrow_mut().send_from_socket(self.key, frames, id.is_some()) {
            Some(outcome) => Emitted::Here(outcome),
            None => Emitted::Nobody,
        }
    }

    pub(crate) fn emit_expecting(
        &self,
        event: &str,
        args: impl ToArgs,
        timeout: Duration,
        then: crate::shard::value::answer::AckCallback,
    ) -> Emitted {
        let expected = self.core.borrow_mut().acks().expect(self.key, then);
        match expected {
            Ok((key, id)) => {
                let emitted = self.emit_with_id(event, args, Some(id));
                let mut core = self.core.borrow_mut();
                if matches!(emitted, Emitted::Here(_)) {
                    core.acks().arm(key, timeout);
                } else if let Some(pending) = core.acks().take(self.key, id) {
                    core.tables.effects.deferred.push(Deferred::FailAck(pending, AckError::NotSent));
                }
                emitted
            }
            Err(then) => {
                let gone = !self.is_connected();
                then(Err(if gone { AckError::Disconnected } else { AckError::NotSent }));
                Emitted::Nobody
            }
        }
    }
}
