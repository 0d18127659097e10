//! Whom a broadcast is for: rooms, exceptions, and what is to be done with those who are meant.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::base::buffer::{SPARE_BUFFER_BYTES_MAX, SharedFrame};
use crate::base::ids::{ShardId, Sid};
use crate::base::log::SOCKETIO;
use crate::base::shown::Shown;
use crate::base::slab::Key;
use crate::mesh::interest::Audience;
use crate::mesh::link::{LinkError, Said};
use crate::mesh::{InboxError, Mesh, ShardMessage};
use crate::message::address::Address;
use crate::message::errand::{Errand, Publication};
use crate::message::inquiry::{AckError, Ask, Findings};
use crate::message::overview::{Look, Overview};
use crate::message::recovery::Position;
use crate::message::target::{Broadcast, Reach, Receipt, SocketCommand, Target, ToldChange, WhenBehind};
use crate::protocol::socketio::encode::EncodeError;
use crate::shard::core::publish::{Made, Unsent};
use crate::shard::core::{Core, SharedCore};
use crate::shard::table::namespaces::NamespaceRef;
use crate::shard::user::changing::{Changed, Changing};
use crate::shard::user::found::Found;
use crate::shard::user::gathering::{
    Answers, Gathering, Home, RemoteSocket, read_census, read_count, read_ids, read_one, read_overviews,
    read_rooms, read_sockets,
};
use crate::shard::user::socket::{Emitted, Socket};
use crate::shard::user::ticket::Addressee;
use crate::shard::value::answer::Answer;
use crate::shard::value::args::ToArgs;
use crate::shard::value::encode::frame_event;
use crate::shard::value::parked::Outcome;
use crate::shard::value::socket::Change;

/// Targets that a shard keeps for reuse: as many as one handler has at a time, and more.
pub(crate) const SPARE_TARGETS_MAX: usize = 16;

/// Some sockets of one namespace, on every shard: who gets an event, joins a room or is disconnected.
///
/// Each socket is meant once, even when it is in several of the rooms. A room that does not exist has no members;
/// an empty list of rooms never means everybody.
///
/// ```no_run
/// # fn example(cx: &mut shardcast::Context<'_>) {
/// cx.to("blue").to("green").except("banned").include_self(false).emit("news", "hello");
/// cx.broadcast().emit("entered", &cx.id());
/// # }
/// ```
#[must_use = "nothing happens until emit, join, fetch or another verb is called"]
#[derive(Debug)]
pub struct Recipients<'a> {
    origin: Origin<'a>,
    target: Target,
    includes_sender: bool,
}

/// Where the call is made.
enum Origin<'a> {
    Shard {
        core: &'a SharedCore,
        namespace: Rc<NamespaceRef>,
        sender: Option<Key>,
    },
    Outside {
        mesh: &'a Arc<Mesh>,
        namespace: Address,
    },
    /// By a handler outside the shard: what it does is gathered for the shard of its socket.
    Post {
        outgoing: &'a mut dyn Outgoing,
        from: Addressee,
        namespace: Address,
    },
}

impl std::fmt::Debug for Origin<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Origin::Shard { .. } => "Shard",
            Origin::Outside { .. } => "Outside",
            Origin::Post { .. } => "Post",
        })
    }
}

impl<'a> Recipients<'a> {
    pub(crate) fn everyone(
        core: &'a SharedCore,
        namespace: Rc<NamespaceRef>,
        sender: Option<Key>,
    ) -> Recipients<'a> {
        let mut recipients = Recipients::rooms(core, namespace, sender);
        recipients.target.is_everyone = true;
        recipients
    }

    pub(crate) fn rooms(
        core: &'a SharedCore,
        namespace: Rc<NamespaceRef>,
        sender: Option<Key>,
    ) -> Recipients<'a> {
        let target = core.borrow_mut().tables.pools.spare_targets.pop().unwrap_or_default();
        Recipients { origin: Origin::Shard { core, namespace, sender }, target, includes_sender: true }
    }

    pub(crate) fn outside(mesh: &'a Arc<Mesh>, namespace: Address, is_everyone: bool) -> Recipients<'a> {
        let target = Target { is_everyone, ..Target::default() };
        Recipients { origin: Origin::Outside { mesh, namespace }, target, includes_sender: true }
    }

    pub(crate) fn of_post(
        outgoing: &'a mut dyn Outgoing,
        from: &Addressee,
        namespace: Address,
        is_everyone: bool,
    ) -> Recipients<'a> {
        let target = Target { is_everyone, ..Target::default() };
        let origin = Origin::Post { outgoing, from: from.clone(), namespace };
        Recipients { origin, target, includes_sender: true }
    }

    /// Also the members of this room. A socket's id is a room.
    pub fn to(mut self, room: impl AsRef<str>) -> Self {
        self.target.rooms.push(room.as_ref());
        self
    }

    /// Also the members of these rooms.
    pub fn to_all<R: AsRef<str>>(mut self, rooms: impl IntoIterator<Item = R>) -> Self {
        rooms.into_iter().for_each(|room| self.target.rooms.push(room.as_ref()));
        self
    }

    /// But not the members of this room: Flask-SocketIO's `skip_sid`, for rooms too.
    pub fn except(mut self, room: impl AsRef<str>) -> Self {
        self.target.except.push(room.as_ref());
        self
    }

    /// Whether the socket that sends is meant, if it is among the rest. True unless said otherwise, as in Flask-SocketIO.
    pub fn include_self(mut self, includes_sender: bool) -> Self {
        self.includes_sender = includes_sender;
        self
    }

    /// Only the sockets of this process, should others be connected by a message queue: Node's `local`,
    /// Flask-SocketIO's `ignore_queue`. All shards of the process are meant.
    pub fn local(mut self) -> Self {
        self.target.reach = Reach::Process;
        self
    }

    /// Only the sockets of the shard that this is called on, with nothing said to others: for rooms whose members
    /// all came by one `shard_key`. A [`Handle`](crate::Handle) is on no shard: from there it reaches no socket.
    pub fn this_shard(mut self) -> Self {
        self.target.reach = Reach::Shard;
        self
    }

    /// Whether what they are sent may be compressed, where `permessage_deflate` or `http_compression` say so. True unless
    /// said otherwise, as in Socket.IO. False saves the CPU for what does not shrink: pictures, say.
    ///
    /// ```no_run
    /// # fn example(cx: &mut shardcast::Context<'_>, jpeg: shardcast::Binary) {
    /// cx.to("viewers").compress(false).emit("frame", jpeg);
    /// # }
    /// ```
    pub fn compress(mut self, may_compress: bool) -> Self {
        self.target.is_uncompressed = !may_compress;
        self
    }

    /// Leaves out who is behind: who is owed bytes from before, or has no poll waiting with something queued already. Node's
    /// `volatile`, for what is worthless when it is late: the position of a player, say.
    ///
    /// ```no_run
    /// # fn example(tick: &shardcast::Tick<'_>) {
    /// tick.to("arena").volatile().emit("positions", [1.0, 2.0]);
    /// # }
    /// ```
    pub fn volatile(mut self) -> Self {
        self.target.when_behind = WhenBehind::Volatile;
        self
    }

    /// For who is behind the event waits, and takes the place of the one with the same key that waits already: what they
    /// get in the end is the latest. At most 1,024 keys and `outbox_bytes_max` bytes wait; what is more is dropped.
    ///
    /// ```no_run
    /// # fn example(cx: &mut shardcast::Context<'_>) {
    /// cx.to("prices").latest("BTC").emit("price", ("BTC", 64_000));
    /// # }
    /// ```
    pub fn latest(mut self, key: impl Into<String>) -> Self {
        self.target.when_behind = WhenBehind::Latest(key.into());
        self
    }

    /// Sends them an event, encoded once.
    pub fn emit(mut self, event: &str, args: impl ToArgs) -> Emitted {
        let frame = match self.encode(event, None, &args) {
            Ok(frame) => frame,
            Err(error) => return Emitted::Refused(error),
        };
        if let Origin::Post { outgoing, from, namespace } = &mut self.origin {
            let (namespace, target) = (std::mem::take(namespace), std::mem::take(&mut self.target));
            let but = Some(from.account().key).filter(|_| !self.includes_sender);
            let publication = Publication { namespace, target, frame, but };
            outgoing.add(from, Errand::Publish(Box::new(publication)));
            return Emitted::Here(Outcome::default());
        }
        match &self.origin {
            Origin::Shard { core, namespace, sender } => {
                let except = sender.filter(|_| !self.includes_sender);
                match core.borrow_mut().publish(namespace, &self.target, except, &frame) {
                    Ok(outcome) => Emitted::Here(outcome),
                    Err(Unsent::ShardBusy) => Emitted::ShardBusy,
                    Err(Unsent::Link(error)) => error.into(),
                }
            }
            Origin::Outside { .. } if self.target.reach == Reach::Shard => Emitted::Nobody,
            Origin::Post { .. } => Emitted::Nobody,
            Origin::Outside { mesh, namespace } => {
                let broadcast = Arc::new(Broadcast {
                    namespace: namespace.clone(),
                    target: self.target.clone(),
                    frame,
                    offset: None,
                    id: None,
                    position: Position::default(),
                    published: 0,
                });
                let Some(relay) = mesh.relay() else {
                    let is_said = say(mesh, namespace, &self.target, || Said::Emit(Arc::clone(&broadcast)));
                    let shards_missing = send_to_audience(mesh, namespace, &self.target, || {
                        ShardMessage::Broadcast(Arc::clone(&broadcast))
                    });
                    return told(shards_missing == 0, is_said);
                };
                // The relay says it to the link, which says the same to it, unless much happens in between.
                let len = Said::Emit(Arc::clone(&broadcast)).len_bytes();
                let link = mesh.links.of(namespace).filter(|link| link.concerns(&self.target));
                let outlook = link.map_or(Ok(()), |link| link.check(len));
                told(send_and_ring(mesh, relay, ShardMessage::Relay(broadcast)), outlook)
            }
        }
    }

    /// Sends them an event and gathers what each answers, across all shards: Node's `io.to(..).emitWithAck`.
    ///
    /// A client that leaves meanwhile counts as missing at once; when all have answered or left, the result is there.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # async fn example(socket: shardcast::Socket) -> Result<(), shardcast::AckError> {
    /// let answers = socket.to("lobby").emit_with_ack("ready?", ()).timeout(Duration::from_secs(5)).await?;
    /// for (sid, answer) in &answers.received {
    ///     println!("{sid}: {:?}", answer.first::<bool>());
    /// }
    /// println!("{} did not answer", answers.missing.len());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`AckError::NotSent`], [`AckError::Stopped`]. Answers that do not come are no error: see [`Answers`].
    pub fn emit_with_ack(self, event: &str, args: impl ToArgs) -> Gathering<Answers> {
        self.question(event, args, Answers::read)
    }

    /// Sends them an event and calls `then` once, on this shard, with what all have answered within `ack_timeout`.
    ///
    /// ```no_run
    /// # fn example(cx: &mut shardcast::Context<'_>) {
    /// cx.to("lobby").emit_with_callback("ready?", (), |answers| match answers {
    ///     Ok(answers) => println!("{} are ready", answers.received.len()),
    ///     Err(error) => println!("not asked: {error}"),
    /// });
    /// # }
    /// ```
    ///
    /// # Panics
    /// Outside a shard's handlers and tasks: there await [`emit_with_ack`](Recipients::emit_with_ack), or wait.
    pub fn emit_with_callback(
        self,
        event: &str,
        args: impl ToArgs,
        then: impl FnOnce(Result<Answers, AckError>) + 'static,
    ) {
        self.emit_with_ack(event, args).then(then);
    }

    /// Sends an event to one socket of any shard, named by its id, and waits for its answer: Flask-SocketIO's `call`.
    /// When more than one is meant, the result is one of their answers.
    ///
    /// ```no_run
    /// # fn example(handle: shardcast::Handle, sid: shardcast::Sid) -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    ///
    /// let answer = handle.to("/", sid).call("question", 42).timeout(Duration::from_secs(1)).wait()?;
    /// let text: String = answer.first()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`AckError`]: no answer in time, or the client is gone; at once when there is none of that id.
    pub fn call(self, event: &str, args: impl ToArgs) -> Gathering<Answer> {
        self.question(event, args, read_one)
    }

    /// Describes each of them, wherever it is: Node's `fetchSockets`. Takes a walk over all that are meant; to know
    /// how many, [`count`](Recipients::count).
    ///
    /// ```no_run
    /// # async fn example(socket: shardcast::Socket) -> Result<(), shardcast::AckError> {
    /// for remote in socket.to("lobby").fetch().await? {
    ///     println!("{} on shard {}: {:?}", remote.id(), remote.shard(), remote.rooms());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// A shard did not report: [`AckError::Timeout`] or [`AckError::NotSent`]. More than 64 MiB would be kept:
    /// [`AckError::TooLarge`]. Another process that did not report is no error: [`Found`] names it.
    pub fn fetch(self) -> Gathering<Found<Vec<RemoteSocket>>> {
        self.gather(Ask::Sockets, read_sockets)
    }

    /// The ids of them all, wherever they are. Errors are those of [`fetch`](Recipients::fetch).
    pub fn ids(self) -> Gathering<Found<Vec<Sid>>> {
        self.gather(Ask::Ids, read_ids)
    }

    /// How many they are on all shards. Everybody, or one room, is a number that each shard has; a mix of rooms or
    /// an exception is a walk. What other processes have of everybody is known from their last heartbeat, a second ago. In a room a client counts that its connect handler has put there and not let in yet.
    /// Errors are those of [`fetch`](Recipients::fetch).
    pub fn count(self) -> Gathering<Found<u64>> {
        self.gather(Ask::Count, read_count)
    }

    /// Those of this shard, now; other shards are not asked. A [`Handle`](crate::Handle) is on no shard: from there the list is empty.
    pub fn here(mut self) -> Vec<Socket> {
        self.except_sender();
        let Origin::Shard { core, namespace, .. } = &self.origin else { return Vec::new() };
        let mut core_now = core.borrow_mut();
        let Some(number) = core_now.tables.namespaces.resolve(namespace) else { return Vec::new() };
        let sids = core_now.tables.open_sids(number, &self.target);
        drop(core_now);
        sids.into_iter().filter_map(|(key, _)| Socket::of(core, key)).collect()
    }

    /// How many of them are on this shard, as [`count`](Recipients::count) counts; 0 from a [`Handle`](crate::Handle).
    pub fn count_here(mut self) -> u64 {
        self.except_sender();
        let Origin::Shard { core, namespace, .. } = &self.origin else { return 0 };
        let mut core = core.borrow_mut();
        let Some(number) = core.tables.namespaces.resolve(namespace) else { return 0 };
        core.tables.count_local(number, &self.target)
    }

    /// Sends them the unnamed event, `message`.
    pub fn send(self, args: impl ToArgs) -> Emitted {
        self.emit("message", args)
    }

    /// Puts them all into a room. Await it where what follows must find them there: see [`Changing`].
    ///
    /// ```
    /// # use shardcast::testing::TestServer;
    /// # use shardcast::{AckError, Config, Server, Socket};
    /// let server = Server::new(Config { shards: 2, ..Config::default() }).namespace("/", |io| {
    ///     io.on_async("begin", |socket: Socket| async move {
    ///         socket.broadcast().join("match").await?;
    ///         Ok::<u64, AckError>(socket.to("match").count().await?.into_inner())
    ///     });
    /// });
    /// # let server = TestServer::new(server).unwrap();
    /// # let clients = [0, 1, 1].map(|shard| server.client().shard(shard).connect("/").unwrap());
    /// # assert_eq!(clients[0].call("begin", ()).unwrap().first::<u64>().unwrap(), 3);
    /// ```
    pub fn join(self, room: impl AsRef<str>) -> Changing {
        self.change(Change::Join(room.as_ref()))
    }

    /// Takes them all out of a room. It can be awaited: see [`Changing`].
    pub fn leave(self, room: impl AsRef<str>) -> Changing {
        self.change(Change::Leave(room.as_ref()))
    }

    /// Disconnects them all from the namespace. It can be awaited: see [`Changing`].
    pub fn disconnect(self) -> Changing {
        self.change(Change::Disconnect { close_session: false })
    }

    /// Disconnects them all and closes their connections. It can be awaited: see [`Changing`].
    pub fn close(self) -> Changing {
        self.change(Change::Disconnect { close_session: true })
    }

    /// Counts the sockets of this process that what follows reaches.
    pub(crate) fn counted_by(mut self, receipt: &Receipt) -> Self {
        self.target.receipt = receipt.clone();
        self
    }

    /// Whether other processes may have some of them, and if so whether the message queue is connected now.
    pub(crate) fn has_queue(&self) -> Option<bool> {
        let Origin::Shard { core, namespace, .. } = &self.origin else { return None };
        let core = core.borrow();
        let link = core.tables.mesh.links.of(&namespace.address)?;
        link.concerns(&self.target).then(|| link.is_up())
    }

    /// Asks the shards of this process that may have some of them to say when all is done that was said before.
    pub(crate) fn done_here(self) -> Gathering<Changed> {
        self.local().gather(Ask::Settled(None), Changed::read)
    }

    /// How many sockets each namespace has in this process, whoever is meant.
    pub(crate) fn census(self) -> Gathering<BTreeMap<(Option<String>, String), u64>> {
        self.local().gather(Ask::Census, read_census)
    }

    /// What each shard of this process shows operators, whoever is meant.
    pub(crate) fn overviews(self, look: Look) -> Gathering<Vec<Overview>> {
        self.local().gather(Ask::Overview(look), read_overviews)
    }

    /// The rooms of the namespace, whoever is meant.
    pub(crate) fn rooms_by_size(self) -> Gathering<Found<BTreeMap<String, u64>>> {
        self.gather(Ask::Rooms, read_rooms)
    }

    fn encode(&self, event: &str, id: Option<u64>, args: &impl ToArgs) -> Result<SharedFrame, EncodeError> {
        let frame = match &self.origin {
            Origin::Shard { core, namespace, .. } => {
                Core::share_frame(core, &namespace.name, id, event, args)
            }
            Origin::Outside { namespace, .. } | Origin::Post { namespace, .. } => {
                let mut bytes = Vec::new();
                frame_event(&mut bytes, namespace.name(), id, event, args).map(|()| Arc::new(bytes))
            }
        };
        frame.inspect_err(|error| tracing::error!(target: SOCKETIO, event = ?Shown(event), error = %Shown(error), "not sent"))
    }

    fn question<T>(
        self,
        event: &str,
        args: impl ToArgs,
        read: fn(Findings) -> Result<T, AckError>,
    ) -> Gathering<T> {
        let id = match &self.origin {
            Origin::Shard { core, .. } => core.borrow().tables.mesh.next_broadcast_ack_id(),
            Origin::Outside { mesh, .. } => mesh.next_broadcast_ack_id(),
            Origin::Post { from, .. } => from.account().session.book.mesh.next_broadcast_ack_id(),
        };
        match self.encode(event, Some(id), &args) {
            Ok(frame) => self.gather(Ask::Answers { id, frame }, read),
            Err(_) => Gathering::failed(AckError::NotSent, read),
        }
    }

    fn gather<T>(mut self, ask: Ask, read: fn(Findings) -> Result<T, AckError>) -> Gathering<T> {
        self.except_sender();
        let mut target = std::mem::take(&mut self.target);
        match &mut self.origin {
            Origin::Post { outgoing, from, namespace } => {
                // The question comes behind what was done before.
                outgoing.send();
                Gathering::new(home_of(from), std::mem::take(namespace), target, ask, read)
            }
            Origin::Shard { core, namespace, .. } => {
                let home = Home::of_shard(&core.borrow());
                Gathering::new(home, namespace.address.clone(), target, ask, read)
            }
            Origin::Outside { mesh, namespace } => {
                if target.reach == Reach::Shard {
                    target.clear();
                }
                Gathering::new(Home::of_handle(mesh), namespace.clone(), target, ask, read)
            }
        }
    }

    /// Names the sender among the exceptions, for what does not take it apart.
    fn except_sender(&mut self) {
        if let Origin::Post { from, .. } = &self.origin
            && !self.includes_sender
        {
            self.target.except.push(from.account().sid.as_str());
        }
        if let Origin::Shard { core, sender: Some(sender), .. } = &self.origin
            && !self.includes_sender
            && let Some(socket) = core.borrow().tables.sockets.get(*sender)
        {
            self.target.except.push(socket.sid.as_str());
        }
    }

    fn change(mut self, change: Change<'_>) -> Changing {
        self.except_sender();
        let target = std::mem::take(&mut self.target);
        match &mut self.origin {
            Origin::Post { outgoing, from, namespace } => {
                let (namespace, change) = (std::mem::take(namespace), change.to_message());
                let command = SocketCommand { namespace: namespace.clone(), target: target.clone(), change };
                let told = ToldChange::new(command);
                outgoing.add(from, Errand::Change(Arc::clone(&told)));
                let made = Made { shards_missing: 0, told: Some(told) };
                Changing::new(home_of(from), namespace, target, made)
            }
            Origin::Shard { core, namespace, .. } => {
                let made = core.borrow_mut().change(namespace, &target, change);
                let home = Home::of_shard(&core.borrow());
                Changing::new(home, namespace.address.clone(), target, made)
            }
            Origin::Outside { mesh, namespace } => {
                let made = change_outside(mesh, namespace, &target, change);
                let target = if target.reach == Reach::Shard { Target::default() } else { target };
                Changing::new(Home::of_handle(mesh), namespace.clone(), target, made)
            }
        }
    }
}

/// Where a handler outside asks: at the shard of its socket, behind what it has done before.
fn home_of(from: &Addressee) -> Home {
    let book = &from.account().session.book;
    Home::at(&book.mesh, book.shard)
}

/// What handlers outside have done, as it is gathered.
pub(crate) trait Outgoing {
    /// Adds something for the shard of a socket.
    fn add(&mut self, to: &Addressee, errand: Errand);

    /// Sends everything. False when a shard's inbox was full.
    fn send(&mut self) -> bool;
}

impl Drop for Recipients<'_> {
    fn drop(&mut self) {
        if let Origin::Shard { core, .. } = &self.origin
            && let Ok(mut core) = core.try_borrow_mut()
        {
            let mut target = std::mem::take(&mut self.target);
            target.clear();
            let is_small = target.capacity_bytes() <= SPARE_BUFFER_BYTES_MAX;
            if is_small && core.tables.pools.spare_targets.len() < SPARE_TARGETS_MAX {
                core.tables.pools.spare_targets.push(target);
            }
        }
    }
}

/// What became of an emit of another thread: whether the shards were told, and the other processes.
fn told(is_sent: bool, is_said: Result<(), LinkError>) -> Emitted {
    match (is_sent, is_said) {
        (true, Ok(())) => Emitted::Here(Outcome::default()),
        (true, Err(error)) => error.into(),
        (false, _) => Emitted::ShardBusy,
    }
}

/// Makes a change for another thread.
fn change_outside(mesh: &Mesh, namespace: &Address, target: &Target, change: Change<'_>) -> Made {
    let mut made = Made::default();
    if target.reach == Reach::Shard {
        return made;
    }
    let command = || SocketCommand {
        namespace: namespace.clone(),
        target: target.clone(),
        change: change.to_message(),
    };
    if let Some(relay) = mesh.relay() {
        // That shard announces it, and says it to the other processes.
        let told = ToldChange::new(command());
        let is_sent = send_and_ring(mesh, relay, ShardMessage::RelayCommand(Arc::clone(&told)));
        return Made { shards_missing: usize::from(!is_sent), told: Some(told) };
    }
    let announcement = change.announce(mesh, namespace);
    if let Some(link) = mesh.links.of(namespace).filter(|link| link.concerns(target)) {
        let told = ToldChange::new(command());
        let is_refused = link.say(Said::Change(Arc::clone(&told))).is_err();
        told.is_refused.store(is_refused, Relaxed);
        made.told = Some(told);
    }
    made.shards_missing = send_to_audience(mesh, namespace, target, || {
        ShardMessage::Command(Box::new(command()), announcement.clone())
    });
    made
}

/// Says something to the other processes, if the target concerns them.
fn say(
    mesh: &Mesh,
    namespace: &Address,
    target: &Target,
    said: impl FnOnce() -> Said,
) -> Result<(), LinkError> {
    let link = mesh.links.of(namespace).filter(|link| link.concerns(target));
    link.map_or(Ok(()), |link| link.say(said()))
}

/// One message for each shard that may have sockets of the target, and a ring for each. The number of those whose inbox was full.
fn send_to_audience(
    mesh: &Mesh,
    namespace: &Address,
    target: &Target,
    message: impl Fn() -> ShardMessage,
) -> usize {
    let (mut audience, mut shards_missing) = (Audience::default(), 0);
    while let Some(shard) = mesh.interest.next(&mut audience, namespace, target) {
        shards_missing += usize::from(!send_and_ring(mesh, shard, message()));
    }
    shards_missing
}

fn send_and_ring(mesh: &Mesh, shard: ShardId, message: ShardMessage) -> bool {
    match mesh.send(shard, message) {
        Ok(()) => mesh.ring(shard),
        Err(InboxError::Full) => {
            tracing::error!(shard = shard.0, "a shard's inbox is full: a message to it is lost");
            return false;
        }
        // It has stopped, or it died, which was said then: nobody there waits for this.
        Err(InboxError::Gone) => {}
    }
    true
}

/// Whom a socket speaks to.
impl Socket {
    /// Everybody in the socket's namespace, this socket included: Flask-SocketIO's `broadcast=True`.
    pub fn broadcast(&self) -> Recipients<'_> {
        Recipients::everyone(&self.core, Rc::clone(&self.namespace), Some(self.key))
    }

    /// The members of a room, this socket included if it is one: Flask-SocketIO's `to=`. A socket's id is a room.
    pub fn to(&self, room: impl AsRef<str>) -> Recipients<'_> {
        Recipients::rooms(&self.core, Rc::clone(&self.namespace), Some(self.key)).to(room)
    }

    /// Everybody in another namespace of the same endpoint, of which the socket need not be: Node's `io.of(namespace)`,
    /// Flask-SocketIO's `emit(.., namespace=, broadcast=True)`. Whoever sends, for [`include_self`](Recipients::include_self), is
    /// this client there.
    ///
    /// ```
    /// # use shardcast::testing::TestServer;
    /// # use shardcast::{Config, Context, Server};
    /// let server = Server::new(Config::default())
    ///     .namespace("/", |io| {
    ///         io.on("order", |cx: &mut Context, item: String| {
    ///             cx.broadcast_in("/kitchen").emit("ordered", item);
    ///         });
    ///     })
    ///     .namespace("/kitchen", |_| {});
    /// # let server = TestServer::new(server).unwrap();
    /// # let (guest, cook) = (server.connect("/").unwrap(), server.connect("/kitchen").unwrap());
    /// # guest.emit("order", "soup");
    /// # assert_eq!(cook.received()[0].first::<String>().unwrap(), "soup");
    /// ```
    pub fn broadcast_in(&self, namespace: &str) -> Recipients<'_> {
        let (there, sender) = self.elsewhere(namespace);
        Recipients::everyone(&self.core, there, sender)
    }

    /// The members of a room of another namespace, as [`broadcast_in`](Socket::broadcast_in) has everybody: Flask-SocketIO's
    /// `emit(.., namespace=, to=)`.
    ///
    /// ```no_run
    /// # fn example(cx: &mut shardcast::Context<'_>) {
    /// cx.to_in("/kitchen", "desserts").emit("ordered", "ice cream");
    /// # }
    /// ```
    pub fn to_in(&self, namespace: &str, room: impl AsRef<str>) -> Recipients<'_> {
        let (there, sender) = self.elsewhere(namespace);
        Recipients::rooms(&self.core, there, sender).to(room)
    }

    /// Another namespace, and this client's socket in it.
    fn elsewhere(&self, namespace: &str) -> (Rc<NamespaceRef>, Option<Key>) {
        let sender = self.key_in(namespace);
        let core = self.core.borrow();
        (core.tables.namespaces.refer_anywhere(self.namespace.endpoint, namespace), sender)
    }

    /// Everybody in the socket's namespace, on every shard, to look at or to change: see
    /// [`fetch`](Recipients::fetch), [`count`](Recipients::count), [`here`](Recipients::here).
    pub fn sockets(&self) -> Recipients<'_> {
        self.broadcast()
    }

    /// The rooms of the socket's namespace on all shards, with how many members each has. Its own id is no entry.
    pub fn namespace_rooms(&self) -> Gathering<Found<BTreeMap<String, u64>>> {
        self.broadcast().rooms_by_size()
    }

    /// This socket alone, with a say in whether what it is sent may be compressed: see [`Recipients::compress`].
    pub fn compress(&self, may_compress: bool) -> Recipients<'_> {
        self.to(self.sid.as_str()).this_shard().compress(may_compress)
    }

    /// This socket alone, unless it is behind: see [`Recipients::volatile`].
    pub fn volatile(&self) -> Recipients<'_> {
        self.to(self.sid.as_str()).this_shard().volatile()
    }

    /// This socket alone; while it is behind, only the latest with this key waits for it: see [`Recipients::latest`].
    pub fn latest(&self, key: impl Into<String>) -> Recipients<'_> {
        self.to(self.sid.as_str()).this_shard().latest(key)
    }

    /// Empties a room, on every shard. It can be awaited: see [`Changing`].
    pub fn close_room(&self, room: impl AsRef<str>) -> Changing {
        self.to(room.as_ref()).leave(room)
    }
}
