//! What handlers outside their shard do: gathered, and sent with one message a shard.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use crate::base::ids::ShardId;
use crate::base::log::SOCKETIO;
use crate::mesh::{InboxError, Mesh, ShardMessage};
use crate::message::address::Address;
use crate::message::errand::{Errand, Errands, Refusal, Work};
use crate::protocol::socketio::encode::EncodeError;
use crate::shard::user::asking::Asking;
use crate::shard::user::recipients::{Outgoing, Recipients};
use crate::shard::user::socket::Socket;
use crate::shard::user::ticket::{Addressee, ConnectTicket, DisconnectTicket, Ticket};
use crate::shard::value::args::ToArgs;
use crate::shard::value::encode::{frame_ack, frame_event};
use crate::shard::value::error::Refused;

/// What handlers outside their shard have done, on any thread: answers, emits, joins and so on, gathered and sent with one message
/// for each shard. See [`Ticket`].
///
/// Everything in it that concerns one shard is done there in the order in which it was put in. A thread that works through a queue
/// of events keeps one post, and sends it after so many events, and whenever its queue is empty.
///
/// ```no_run
/// # fn example(handle: shardcast::Handle, queue: std::sync::mpsc::Receiver<(shardcast::Ticket, String)>) {
/// let mut post = handle.post();
/// while let Ok((ticket, name)) = queue.recv() {
///     post.join(&ticket, format!("room:{name}"));
///     // Neither can be refused: a text is JSON, and the name is not reserved.
///     let _ = post.emit(&ticket, "welcome", &name);
///     let _ = post.acknowledge(ticket, true);
///     post.send();
/// }
/// # }
/// ```
///
/// What is not sent when it is dropped is sent then.
pub struct Post {
    mesh: Arc<Mesh>,
    /// By shard.
    errands: Vec<Errands>,
}

// Other threads may have it.
const _: fn() = || {
    fn is_send<T: Send>() {}
    is_send::<Post>();
};

impl Post {
    pub(crate) fn new(mesh: Arc<Mesh>) -> Post {
        let errands = (0..mesh.len()).map(|_| Errands::default()).collect();
        Post { mesh, errands }
    }

    /// Sends an event to one socket.
    ///
    /// # Errors
    /// The event's name is reserved, or its arguments cannot be JSON.
    pub fn emit(&mut self, to: &Addressee, event: &str, args: impl ToArgs) -> Result<(), EncodeError> {
        let mut frames = Vec::new();
        frame_event(&mut frames, to.namespace(), None, event, &args)?;
        self.put(to, Errand::Send { socket: to.account().key, frames, is_answer: false });
        Ok(())
    }

    /// Acknowledges an event, if its client asked for that, and is done with it.
    ///
    /// # Errors
    /// The arguments cannot be JSON. The client gets no answer then.
    pub fn acknowledge(&mut self, mut ticket: Ticket, args: impl ToArgs) -> Result<(), EncodeError> {
        let Some(id) = ticket.take_id() else { return Ok(()) };
        let mut frames = Vec::new();
        frame_ack(&mut frames, ticket.namespace(), id, &args)?;
        self.put(&ticket, Errand::Send { socket: ticket.account().key, frames, is_answer: true });
        Ok(())
    }

    /// Is done with an event, gives no answer, and means it.
    pub fn finish(&mut self, mut ticket: Ticket) {
        ticket.take_id();
    }

    /// Lets a client into the namespace, or sends it away. If further connect handlers follow, they are asked now.
    pub fn decide(&mut self, mut ticket: ConnectTicket, decision: Result<(), Refused>) {
        ticket.decide();
        let decision = decision.map_err(|Refused { message, data }| Refusal { message, data });
        self.put(&ticket, Errand::Decide(ticket.account().key, decision));
    }

    /// Ends a disconnect handler: the socket's rooms are not kept any more.
    pub fn let_go(&mut self, mut ticket: DisconnectTicket) {
        ticket.let_go();
        self.put(&ticket, Errand::LetGo(ticket.account().key));
    }

    /// Puts a socket into a room. In `rooms_per_socket_max` rooms already it stays out of it, which is logged.
    pub fn join(&mut self, socket: &Addressee, room: impl Into<String>) {
        self.put(socket, Errand::Join(socket.account().key, room.into()));
    }

    /// Takes a socket out of a room.
    pub fn leave(&mut self, socket: &Addressee, room: impl Into<String>) {
        self.put(socket, Errand::Leave(socket.account().key, room.into()));
    }

    /// Ends a socket: its client gets `disconnect`, the handler runs. The connection stays for other namespaces.
    pub fn disconnect(&mut self, socket: &Addressee) {
        self.put(socket, Errand::Disconnect { socket: socket.account().key, close_session: false });
    }

    /// Ends a socket and closes its client's connection.
    pub fn close(&mut self, socket: &Addressee) {
        self.put(socket, Errand::Disconnect { socket: socket.account().key, close_session: true });
    }

    /// Everybody in the socket's namespace, on every shard and in every process: as [`Socket::broadcast`] for a handler on the shard.
    ///
    /// What is emitted, joined, left or ended so is done by the shard of the socket `from`, in order with the rest that is put in for its
    /// sockets. `from` is who emits: [`include_self`](Recipients::include_self) means it. It may be gone. A question (`count`, `fetch`,
    /// `call`) sends the post and is asked behind it; to be awaited, a change must be sent first.
    ///
    /// ```
    /// use std::sync::mpsc;
    /// use shardcast::testing::TestServer;
    /// use shardcast::{Config, Context, Server, Ticket};
    ///
    /// let (give, take) = mpsc::channel::<Ticket>();
    /// let server = Server::new(Config::default()).namespace("/", move |io| {
    ///     let give = give.clone();
    ///     io.on("enter", move |_: &mut Context, ticket: Ticket| {
    ///         let _ = give.send(ticket);
    ///     });
    /// });
    /// let server = TestServer::new(server).unwrap();
    /// let client = server.connect("/").unwrap();
    /// let asked = client.emit_with_ack("enter", ());
    ///
    /// // On any thread:
    /// let mut post = server.handle().post();
    /// let ticket = take.recv().unwrap();
    /// post.join(&ticket, "lobby");
    /// post.to(&ticket, "lobby").emit("entered", ticket.id());
    /// post.acknowledge(ticket, true).unwrap();
    /// post.send();
    ///
    /// assert_eq!(client.received()[0].name(), "entered");
    /// assert!(client.answer(asked).is_some());
    /// ```
    pub fn broadcast(&mut self, from: &Addressee) -> Recipients<'_> {
        let namespace = from.account().namespace.clone();
        Recipients::of_post(self, from, namespace, true)
    }

    /// The members of a room of the socket's namespace. A socket's id is a room.
    pub fn to(&mut self, from: &Addressee, room: impl AsRef<str>) -> Recipients<'_> {
        let namespace = from.account().namespace.clone();
        Recipients::of_post(self, from, namespace, false).to(room)
    }

    /// Everybody in another namespace of the same endpoint, as [`Socket::broadcast_in`] says.
    pub fn broadcast_in(&mut self, from: &Addressee, namespace: &str) -> Recipients<'_> {
        let namespace = Address::new(from.account().namespace.endpoint(), namespace);
        Recipients::of_post(self, from, namespace, true)
    }

    /// The members of a room of another namespace of the same endpoint.
    pub fn to_in(&mut self, from: &Addressee, namespace: &str, room: impl AsRef<str>) -> Recipients<'_> {
        let namespace = Address::new(from.account().namespace.endpoint(), namespace);
        Recipients::of_post(self, from, namespace, false).to(room)
    }

    /// Calls a function with the socket, on its shard, in its turn: for whatever there is no call for here. It should not block. It is
    /// dropped when the socket is gone.
    ///
    /// ```no_run
    /// # fn example(post: &mut shardcast::Post, ticket: shardcast::Ticket, asking: std::sync::mpsc::Sender<Vec<String>>) {
    /// post.run(&ticket, move |socket| {
    ///     let _ = asking.send(socket.rooms());
    /// });
    /// # }
    /// ```
    pub fn run(&mut self, socket: &Addressee, work: impl FnOnce(&Socket) + Send + 'static) {
        let work = move |socket: &dyn Any| {
            if let Some(socket) = socket.downcast_ref::<Socket>() {
                work(socket);
            }
        };
        self.put(socket, Errand::Run(socket.account().key, Work(Box::new(work))));
    }

    /// Asks the socket something, on its shard, behind what was put in before: this sends the post.
    ///
    /// ```no_run
    /// # fn example(post: &mut shardcast::Post, ticket: shardcast::Ticket) -> Result<(), shardcast::AckError> {
    /// let (rooms, transport) = post.ask(&ticket, |socket| (socket.rooms(), socket.transport())).wait()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn ask<T: Send + 'static>(
        &mut self,
        socket: &Addressee,
        question: impl FnOnce(&Socket) -> T + Send + 'static,
    ) -> Asking<T> {
        let (tell, told) = oneshot::channel();
        self.run(socket, move |socket| {
            // Nobody may wait for it any more.
            let _ = tell.send(question(socket));
        });
        if self.send() { Asking::new(told) } else { Asking::not_sent() }
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.errands.iter().all(Errands::is_empty)
    }

    /// How many things wait to be sent.
    pub fn len(&self) -> usize {
        self.errands.iter().map(Errands::len).sum()
    }

    /// Sends everything; it never waits. False when the inbox of a shard was full: what is for that shard is still here, to be sent
    /// again a moment later. What is for a shard that has stopped is dropped.
    pub fn send(&mut self) -> bool {
        let mut is_sent = true;
        for (index, errands) in self.errands.iter_mut().enumerate().filter(|(_, errands)| !errands.is_empty())
        {
            let shard = ShardId(index as u16);
            let message = ShardMessage::Errands(Box::new(std::mem::take(errands)));
            if let Err((InboxError::Full, ShardMessage::Errands(back))) = self.mesh.offer(shard, message) {
                *errands = *back;
                is_sent = false;
            }
            self.mesh.ring(shard);
        }
        is_sent
    }

    fn put(&mut self, to: &Addressee, errand: Errand) {
        let book = &to.account().session.book;
        debug_assert!(Arc::ptr_eq(&book.mesh, &self.mesh), "a post is for sockets of its own server");
        if let Some(errands) = self.errands.get_mut(book.shard.index()) {
            errands.push(errand);
        }
    }
}

impl Outgoing for Post {
    fn add(&mut self, to: &Addressee, errand: Errand) {
        self.put(to, errand);
    }

    fn send(&mut self) -> bool {
        Post::send(self)
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        if !self.send() {
            tracing::error!(
                target: SOCKETIO,
                lost = self.len(),
                "what handlers outside their shard have done is lost: the inbox of a shard is full"
            );
        }
    }
}

impl fmt::Debug for Post {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Post").field("len", &self.len()).finish_non_exhaustive()
    }
}
