//! The server from outside its shards: any thread, any runtime.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::base::ids::Sid;
use crate::base::log::SOCKETIO;
use crate::base::shown::Shown;
use crate::driver::tls::CertificateEnds;
use crate::mesh::life::Phase;
use crate::mesh::link::{QueueStats, Said};
use crate::mesh::{Mesh, ShardMessage};
use crate::message::address::Address;
use crate::message::inquiry::{AckError, Ask};
use crate::message::server_event::ServerEvent;
use crate::message::target::Target;
use crate::protocol::socketio::encode::{EncodeError, is_reserved_event};
use crate::server::running::Reloads;
use crate::shard::user::found::Found;
use crate::shard::user::gathering::{Gathering, Home};
use crate::shard::user::recipients::Recipients;
use crate::shard::user::servers::ServerAnswers;
use crate::shard::user::socket::Emitted;
use crate::shard::user::state::State;
use crate::shard::value::args::ToArgs;
use crate::shard::value::encode::args_text;
use crate::shard::value::parked::Outcome;
use crate::shard::value::stats::{EndpointStats, ShardCounters, ShardStats};

/// A handle to a running server: emits to rooms and namespaces, from any thread.
///
/// Cheap to clone. Before the server runs and after it has stopped, what is sent goes nowhere. What one thread says to
/// sockets takes effect in that order: `emit` and then `disconnect`, and they have got the event.
///
/// ```no_run
/// # fn example(handle: shardcast::Handle) {
/// std::thread::scope(|scope| {
///     scope.spawn(|| handle.namespace("/").emit("news", "from another thread"));
/// });
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Handle {
    shared: Arc<OnceLock<Shared>>,
    /// Path of the configuration's own endpoint.
    main: Arc<str>,
    /// Path of the endpoint whose namespaces are meant; none is the configuration's own.
    endpoint: Option<Arc<str>>,
}

/// What a running server shares with everybody.
pub(crate) struct Shared {
    pub(crate) mesh: Arc<Mesh>,
    pub(crate) counters: Vec<Arc<ShardCounters>>,
    pub(crate) io: &'static str,
    /// Its settings, which may change.
    pub(crate) reloads: Reloads,
    /// Why this interface.
    pub(crate) io_reason: String,
    /// When the server began.
    pub(crate) started_unix_millis: u64,
    pub(crate) certificate_ends: CertificateEnds,
}

/// The mesh of a server that does not run: nobody is there.
static NOBODY: OnceLock<Arc<Mesh>> = OnceLock::new();

impl Handle {
    /// The handle of a server whose own endpoint is at this path.
    pub(crate) fn new(path: &str) -> Handle {
        Handle { main: Arc::from(path), ..Handle::default() }
    }

    /// The same handle, for the namespaces of the endpoint at this path.
    ///
    /// ```no_run
    /// # fn example(handle: shardcast::Handle) {
    /// handle.endpoint("/admin.io/").namespace("/").emit("news", "for administrators");
    /// # }
    /// ```
    pub fn endpoint(&self, path: &str) -> Handle {
        let endpoint = Some(path).filter(|path| **path != *self.main).map(Arc::from);
        Handle { endpoint, ..self.clone() }
    }

    /// Everybody in a namespace.
    pub fn namespace<'a>(&'a self, name: &'a str) -> Recipients<'a> {
        Recipients::outside(self.mesh(), self.address(name), true)
    }

    /// The members of a room of a namespace. A socket's id is a room.
    pub fn to<'a>(&'a self, namespace: &'a str, room: impl AsRef<str>) -> Recipients<'a> {
        Recipients::outside(self.mesh(), self.address(namespace), false).to(room)
    }

    /// A state room: see [`StateRoom`](crate::StateRoom). For a server that does not run, changes are refused.
    pub fn state<'a>(&'a self, namespace: &'a str, room: &'a str) -> State<'a> {
        State::outside(self.mesh(), self.address(namespace), room)
    }

    /// Shows every packet of one client in the log, both ways, or ends that: at level `info`, target
    /// `shardcast::engineio`, with the beginning of each packet.
    ///
    /// The id is that of a socket, or of the Engine.IO session, which refusals in the log have in their `url`. What the
    /// client has not sent yet is seen; what came before is not. False when the id is none of this server's.
    ///
    /// ```no_run
    /// # fn example(handle: shardcast::Handle) {
    /// handle.trace("lv_VI97HAXpY6yYWAAAC", true);
    /// # }
    /// ```
    pub fn trace(&self, sid: impl AsRef<str>, is_on: bool) -> bool {
        let Some(sid) = Sid::parse(sid.as_ref()) else { return false };
        let is_sent = self.mesh().send(sid.shard(), ShardMessage::Trace { sid, is_on }).is_ok();
        self.mesh().ring(sid.shard());
        is_sent
    }

    /// Everybody in a namespace, to look at or to change.
    ///
    /// ```no_run
    /// # fn example(handle: shardcast::Handle) -> Result<(), shardcast::AckError> {
    /// for socket in handle.sockets("/").fetch().wait()? {
    ///     println!("{} {:?}", socket.id(), socket.rooms());
    /// }
    /// handle.to("/", "lobby").disconnect();
    /// # Ok(())
    /// # }
    /// ```
    pub fn sockets<'a>(&'a self, namespace: &'a str) -> Recipients<'a> {
        self.namespace(namespace)
    }

    /// The rooms of a namespace on all shards, with how many members each has. The room that every socket's id is
    /// has no entry.
    ///
    /// ```no_run
    /// # async fn example(handle: shardcast::Handle) -> Result<(), shardcast::AckError> {
    /// for (room, members) in handle.rooms("/").await? {
    ///     println!("{members} in {room}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn rooms(&self, namespace: &str) -> Gathering<Found<BTreeMap<String, u64>>> {
        self.namespace(namespace).rooms_by_size()
    }

    /// Says something to the servers of all other processes on the same message queue, not to this one: Node's
    /// `serverSideEmit`. There a handler of [`Namespace::on_server_event`](crate::Namespace::on_server_event) is called, once in
    /// each process. [`Emitted::Nobody`] where no message queue is configured; otherwise it is on its way, or waits for the
    /// queue.
    ///
    /// ```no_run
    /// # fn example(handle: shardcast::Handle) {
    /// handle.emit_to_servers("/", "settings changed", "prices");
    /// # }
    /// ```
    pub fn emit_to_servers(&self, namespace: &str, event: &str, args: impl ToArgs) -> Emitted {
        let event = match self.server_event(namespace, event, &args) {
            Ok(event) => event,
            Err(error) => return Emitted::Refused(error),
        };
        match self.mesh().links.of(&event.namespace) {
            None => Emitted::Nobody,
            Some(link) => match link.say(Said::ServerEvent(Arc::new(event))) {
                Ok(()) => Emitted::Here(Outcome::default()),
                Err(error) => error.into(),
            },
        }
    }

    /// The same with what the handlers answer, by process: Node's `serverSideEmit` with an acknowledgement. Waits for five
    /// seconds at most, or as long as [`timeout`](Gathering::timeout) says; a process that ends meanwhile is not waited for. The question goes
    /// by way of a shard: what this thread emits to servers next may be heard before it.
    ///
    /// ```no_run
    /// # async fn example(handle: shardcast::Handle) -> Result<(), Box<dyn std::error::Error>> {
    /// let answers = handle.emit_to_servers_with_ack("/", "how many users?", ()).await?;
    /// for (process, answer) in &answers.received {
    ///     println!("{process}: {}", answer.first::<u64>()?);
    /// }
    /// println!("no answer from {:?}", answers.processes_missing);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`AckError::NotSent`], [`AckError::Stopped`]. Processes that do not answer are no error.
    pub fn emit_to_servers_with_ack(
        &self,
        namespace: &str,
        event: &str,
        args: impl ToArgs,
    ) -> Gathering<ServerAnswers> {
        let mesh = self.mesh();
        match self.server_event(namespace, event, &args) {
            Ok(event) => Gathering::new(
                Home::of_handle(mesh),
                self.address(namespace),
                Target { is_everyone: true, ..Target::default() },
                Ask::Servers(Arc::new(event)),
                ServerAnswers::read,
            ),
            Err(_) => Gathering::failed(AckError::NotSent, ServerAnswers::read),
        }
    }

    fn server_event(
        &self,
        namespace: &str,
        event: &str,
        args: &impl ToArgs,
    ) -> Result<ServerEvent, EncodeError> {
        let reserved = || Err(EncodeError::ReservedEvent(event.to_owned()));
        let args = if is_reserved_event(event) { reserved() } else { args_text(args) };
        let args = args.inspect_err(|error| tracing::error!(target: SOCKETIO, event = ?Shown(event), error = %Shown(error), "not sent to servers"))?;
        Ok(ServerEvent { namespace: self.address(namespace), name: event.to_owned(), args })
    }

    /// Every shard's figures, now: among them how many sockets it has, in all namespaces. Nobody is asked.
    pub fn stats(&self) -> Vec<ShardStats> {
        self.shared
            .get()
            .map(|shared| shared.counters.iter().map(|counters| counters.snapshot()).collect())
            .unwrap_or_default()
    }

    /// Every shard's figures of the endpoint that this handle means, now: the configuration's own, unless
    /// [`endpoint`](Handle::endpoint) says another one. None for an endpoint that there is not. Nobody is asked.
    ///
    /// ```no_run
    /// # fn example(handle: shardcast::Handle) {
    /// let sockets: u64 = handle.endpoint("/admin.io/").endpoint_stats().iter().map(|shard| shard.sockets).sum();
    /// # }
    /// ```
    pub fn endpoint_stats(&self) -> Vec<EndpointStats> {
        let path = self.endpoint.as_deref().unwrap_or(&self.main);
        let Some(shared) = self.shared.get() else { return Vec::new() };
        let own = shared
            .counters
            .iter()
            .filter_map(|counters| counters.endpoints.get()?.iter().find(|endpoint| *endpoint.path == *path));
        own.map(|counters| counters.snapshot()).collect()
    }

    /// The figures of each message queue, now; none where none is configured. Nobody is asked.
    ///
    /// ```no_run
    /// # fn example(handle: shardcast::Handle) {
    /// for queue in handle.queue_stats() {
    ///     println!("{} other processes, {} bytes wait", queue.processes, queue.waiting_bytes);
    /// }
    /// # }
    /// ```
    pub fn queue_stats(&self) -> Vec<QueueStats> {
        self.mesh().links.iter().map(|link| link.snapshot()).collect()
    }

    /// The kernel's interface in use: `"io_uring"` or `"epoll"`; empty before the server runs.
    pub fn io(&self) -> &'static str {
        self.shared.get().map_or("", |shared| shared.io)
    }

    /// How far the server's life has come. Nobody is asked.
    pub fn phase(&self) -> Phase {
        self.shared.get().map_or(Phase::Starting, |shared| shared.mesh.life.phase())
    }

    /// Asks every shard to say goodbye to its clients and stop: Node's `io.close()`. Returns at once.
    ///
    /// What was emitted before is sent first. Then every socket ends with the reason `server shutting down`, pending polls
    /// are answered, WebSockets are closed, and what is owed is written for up to `shutdown_timeout`. Many
    /// sessions end over `shutdown_spread`, and the shards listen until the last has; a second call ends it all at
    /// once. [`drain`](Handle::drain) waits for `drain_delay` before. Stock clients come back, to this address, as soon as somebody serves it.
    pub fn stop(&self) {
        if let Some(shared) = self.shared.get() {
            shared.mesh.request_stop();
        }
    }

    pub(crate) fn connect(&self, shared: Shared) {
        // A server starts once, so nobody has set it before.
        let _ = self.shared.set(shared);
    }

    /// What a running server shares with everybody; `None` before it runs.
    pub(crate) fn shared(&self) -> Option<&Shared> {
        self.shared.get()
    }

    /// The path of the configuration's own endpoint.
    pub(crate) fn main_path(&self) -> &str {
        &self.main
    }

    /// What shards call a namespace of the endpoint that is meant.
    pub(super) fn address(&self, name: &str) -> Address {
        Address::new(self.endpoint.as_deref(), name)
    }

    pub(crate) fn mesh(&self) -> &Arc<Mesh> {
        match self.shared.get() {
            Some(shared) => &shared.mesh,
            None => NOBODY.get_or_init(|| Mesh::new(Vec::new()).0),
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Handle").field("is_running", &self.shared.get().is_some()).finish()
    }
}
