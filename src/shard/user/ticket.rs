//! What a handler outside its shard holds: whom it is about, and the event, or the client at the door, that waits for it.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use crate::base::ids::Sid;
use crate::base::log::SOCKETIO;
use crate::base::slab::Key;
use crate::message::errand::{Errand, Refusal};
use crate::protocol::socketio::event::Args;
use crate::shard::core::lives::REFUSED;
use crate::shard::user::argument::{Argument, Source};
use crate::shard::user::context::Context;
use crate::shard::user::socket::Socket;
use crate::shard::value::ack::Asked;
use crate::shard::value::error::HandlerError;
use crate::shard::value::outside::{ConnectionId, SessionAccount, SocketAccount, TICKET_BYTES};

/// The session of a socket that is gone.
const NO_SESSION: Key = Key { index: u32::MAX, generation: u32::MAX };

/// A socket, for any thread: whom a [`Post`](crate::Post) is for. Cheap to clone; equal for one socket, so it is a key of tables.
///
/// It stays valid when the client is gone: what is sent then goes nowhere. What it has none of is asked of the socket itself, by
/// [`Post::run`](crate::Post::run).
///
/// ```
/// use std::collections::HashMap;
/// use std::sync::Mutex;
/// use shardcast::{Addressee, Config, Context, Server};
///
/// static NAMES: Mutex<Option<HashMap<Addressee, String>>> = Mutex::new(None);
///
/// Server::new(Config::default()).namespace("/", |io| {
///     io.on("name", |cx: &mut Context, name: String| {
///         NAMES.lock().unwrap().get_or_insert_default().insert(cx.addressee(), name);
///     });
/// });
/// ```
#[derive(Clone)]
pub struct Addressee {
    account: Arc<SocketAccount>,
}

// Other threads may have it.
const _: fn() = || {
    fn is_send<T: Send + Sync>() {}
    is_send::<(Addressee, Ticket, ConnectTicket, DisconnectTicket)>();
};

impl Addressee {
    pub(crate) fn account(&self) -> &SocketAccount {
        &self.account
    }

    /// The socket's id. It is also the name of a room that only this socket is in.
    pub fn id(&self) -> Sid {
        self.account.sid
    }

    /// The namespace's name, such as `/` or `/admin`.
    pub fn namespace(&self) -> &str {
        self.account.namespace.name()
    }

    /// The number of the shard that owns the socket.
    pub fn shard(&self) -> usize {
        self.account.session.book.shard.index()
    }

    /// Whether the socket has ended: what is left of its events need not be handled. It may end a moment after this is asked.
    pub fn is_gone(&self) -> bool {
        self.account.is_gone()
    }
}

impl Addressee {
    /// The client's connection, which all of its sockets share.
    pub fn connection(&self) -> ConnectionId {
        self.account.session.id
    }
}

impl PartialEq for Addressee {
    fn eq(&self, other: &Addressee) -> bool {
        Arc::ptr_eq(&self.account, &other.account)
    }
}

impl Eq for Addressee {}

impl Hash for Addressee {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.account).hash(state);
    }
}

impl fmt::Debug for Addressee {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (id, namespace) = (self.account.sid, self.namespace());
        formatter.debug_struct("Addressee").field("id", &id).field("namespace", &namespace).finish()
    }
}

impl Socket {
    /// This socket, for other threads.
    pub fn addressee(&self) -> Addressee {
        let account = self.core().borrow_mut().tables.account_of(self.key());
        Addressee { account: account.unwrap_or_else(|| self.own_account()) }
    }

    /// The client's connection, which its sockets in all namespaces share: see [`ConnectionId`].
    pub fn connection(&self) -> ConnectionId {
        self.addressee().connection()
    }

    /// The account of one that is gone.
    fn own_account(&self) -> Arc<SocketAccount> {
        let core = self.core().borrow();
        let session = SessionAccount::new(&core.tables.outside.book, NO_SESSION);
        let namespace = self.namespace.address.clone();
        Arc::new(SocketAccount::new(Arc::new(session), (self.key(), self.id()), namespace, true))
    }
}

/// An event that a handler outside its shard has: on a pool of threads, in another language. Whoever takes one answers its event
/// through a [`Post`](crate::Post), or drops it when it is done.
///
/// A handler that takes one, as it takes an [`Ack`](crate::Ack), returns `()`, and gives the event away with it: to a queue, which
/// other threads work through. The socket's later events do not wait for it; they are given away in the order in which they came,
/// and what becomes of their order then is up to those threads. [`Server::on_turn_end`](crate::Server::on_turn_end) is the time to
/// wake them.
///
/// ```
/// use std::sync::mpsc;
/// use shardcast::testing::TestServer;
/// use shardcast::{Config, Context, Server, Ticket};
///
/// let (give, take) = mpsc::channel::<(Ticket, String)>();
/// let server = Server::new(Config::default()).namespace("/", move |io| {
///     let give = give.clone();
///     io.on("digest", move |_: &mut Context, text: String, ticket: Ticket| {
///         give.send((ticket, text)).expect("somebody takes them");
///     });
/// });
/// let server = TestServer::new(server).unwrap();
/// let client = server.connect("/").unwrap();
/// let asked = client.emit_with_ack("digest", "shard");
///
/// // On any thread:
/// let mut post = server.handle().post();
/// let (ticket, text) = take.recv().unwrap();
/// post.emit(&ticket, "working", text.len()).unwrap();
/// post.acknowledge(ticket, text.bytes().map(u64::from).sum::<u64>()).unwrap();
/// post.send();
///
/// server.settle();
/// assert_eq!(client.received()[0].name(), "working");
/// assert_eq!(client.answer(asked).unwrap().first::<u64>().unwrap(), 530);
/// ```
///
/// Everything that its [`Addressee`] says, it says. One that is dropped although its client waits for an acknowledgement leaves that
/// client to its own timeout. That is counted ([`acks_dropped`](crate::ShardStats::acks_dropped)) and logged, at most once a second;
/// [`Post::finish`](crate::Post::finish) says that it is meant.
#[must_use = "an event that is dropped leaves its client without an answer"]
pub struct Ticket {
    addressee: Addressee,
    /// The number in the packet, if its client asked for an acknowledgement.
    id: Option<u64>,
    bytes: usize,
}

impl Ticket {
    /// The socket whose event it is, to keep.
    pub fn addressee(&self) -> &Addressee {
        &self.addressee
    }

    /// Whether the client waits for an acknowledgement.
    pub fn wants_ack(&self) -> bool {
        self.id.is_some()
    }

    pub(crate) fn take_id(&mut self) -> Option<u64> {
        self.id.take()
    }
}

impl Deref for Ticket {
    type Target = Addressee;

    fn deref(&self) -> &Addressee {
        &self.addressee
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let account = self.addressee.account();
        account.session.take_back(self.bytes);
        if self.id.is_some() && !self.addressee.is_gone() {
            account.session.book.send(Errand::AnswerDropped(account.key));
        }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wants_ack = self.wants_ack();
        formatter.debug_struct("Ticket").field("of", &self.addressee).field("wants_ack", &wants_ack).finish()
    }
}

impl<'e> Argument<'e> for Ticket {
    fn take(source: &mut Source<'e, '_>) -> Result<Ticket, HandlerError> {
        Ok(source.cx.ticket())
    }
}

impl Context<'_> {
    /// Takes the event away from its handler, which then returns `()`: for handlers of [`on_raw`](crate::Namespace::on_raw) and
    /// [`on_any`](crate::Namespace::on_any). Others take a [`Ticket`] as a parameter. It is to be taken once; a second one waits for no
    /// acknowledgement.
    ///
    /// ```
    /// use std::sync::mpsc;
    /// use shardcast::{Args, Config, Context, OwnedArgs, Server, Ticket};
    ///
    /// let (give, take) = mpsc::channel::<(Ticket, String, OwnedArgs)>();
    /// Server::new(Config::default()).namespace("/", move |io| {
    ///     let give = give.clone();
    ///     // Every event that has no handler of its own.
    ///     io.on_any(move |cx: &mut Context, args: Args| {
    ///         let _ = give.send((cx.ticket(), cx.event().to_owned(), args.into_owned()));
    ///     });
    /// });
    /// # drop(take);
    /// ```
    pub fn ticket(&self) -> Ticket {
        let id = match self.asked() {
            Asked::Here(id) => Some(id),
            Asked::Nothing | Asked::Kept(_) | Asked::Taken => None,
        };
        self.set_asked(Asked::Taken);
        let (addressee, bytes) = self.lend();
        Ticket { addressee, id, bytes }
    }

    /// Counts the event as one that is outside.
    fn lend(&self) -> (Addressee, usize) {
        let bytes = TICKET_BYTES + self.event().len() + weight(self.args());
        let addressee = self.addressee();
        self.core().borrow_mut().tables.lend_outside(self.key(), &addressee.account, bytes);
        (addressee, bytes)
    }
}

fn weight(args: Args<'_>) -> usize {
    args.raw().len() + args.attachments().iter().map(|attachment| attachment.len()).sum::<usize>()
}

/// A client at the door of a namespace, who waits for the decision of somebody outside the shard:
/// [`Namespace::on_connect_outside`](crate::Namespace::on_connect_outside), [`Post::decide`](crate::Post::decide).
///
/// Everything that its [`Addressee`] says, it says; what is sent to that reaches the client once it is let in. One that is dropped
/// refuses the client.
#[must_use = "a client is refused whose ticket is dropped"]
pub struct ConnectTicket {
    addressee: Addressee,
    is_decided: bool,
    bytes: usize,
}

impl ConnectTicket {
    pub(crate) fn new(cx: &Context<'_>) -> ConnectTicket {
        let (addressee, bytes) = cx.lend();
        ConnectTicket { addressee, is_decided: false, bytes }
    }

    /// The socket, to keep.
    pub fn addressee(&self) -> &Addressee {
        &self.addressee
    }

    pub(crate) fn decide(&mut self) {
        self.is_decided = true;
    }
}

impl Deref for ConnectTicket {
    type Target = Addressee;

    fn deref(&self) -> &Addressee {
        &self.addressee
    }
}

impl Drop for ConnectTicket {
    fn drop(&mut self) {
        self.addressee.account().session.take_back(self.bytes);
        if self.is_decided || self.addressee.is_gone() {
            return;
        }
        tracing::warn!(
            target: SOCKETIO,
            namespace = self.namespace(),
            "a client is refused: whoever was to decide about it outside its shard has dropped the ticket"
        );
        let account = self.addressee.account();
        let refusal = Refusal { message: REFUSED.to_owned(), data: None };
        account.session.book.send(Errand::Decide(account.key, Err(refusal)));
    }
}

impl fmt::Debug for ConnectTicket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ConnectTicket").field("of", &self.addressee).finish()
    }
}

/// A socket that has ended, whose disconnect handler is outside the shard: its rooms are kept until this is dropped, or given to
/// [`Post::let_go`](crate::Post::let_go), or its time is over: see
/// [`Namespace::on_disconnect_outside`](crate::Namespace::on_disconnect_outside). Everything that its [`Addressee`] says, it says.
#[must_use = "the rooms of a socket go with the ticket"]
pub struct DisconnectTicket {
    addressee: Addressee,
    is_let_go: bool,
    bytes: usize,
}

impl DisconnectTicket {
    pub(crate) fn new(cx: &Context<'_>) -> DisconnectTicket {
        let (addressee, bytes) = cx.lend();
        DisconnectTicket { addressee, is_let_go: false, bytes }
    }

    /// The socket, to keep.
    pub fn addressee(&self) -> &Addressee {
        &self.addressee
    }

    pub(crate) fn let_go(&mut self) {
        self.is_let_go = true;
    }
}

impl Deref for DisconnectTicket {
    type Target = Addressee;

    fn deref(&self) -> &Addressee {
        &self.addressee
    }
}

impl Drop for DisconnectTicket {
    fn drop(&mut self) {
        self.addressee.account().session.take_back(self.bytes);
        if !self.is_let_go {
            let account = self.addressee.account();
            account.session.book.send(Errand::LetGo(account.key));
        }
    }
}

impl fmt::Debug for DisconnectTicket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("DisconnectTicket").field("of", &self.addressee).finish()
    }
}
