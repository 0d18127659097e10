//! Whom a broadcast is for: rooms, exceptions, and what is to be done with those who are meant.

use std::sync::Arc;

use crate::base::ids::ShardId;
use crate::base::slab::Key;
use crate::mesh::{Broadcast, Mesh, ShardMessage, SocketCommand, Target};
use crate::shard::args::ToArgs;
use crate::shard::context::Emitted;
use crate::shard::core::{Core, SharedCore};
use crate::shard::encode::frame_event;
use crate::shard::socket::Change;

/// Some sockets of one namespace, on every shard: who gets an event, joins a room or is disconnected.
///
/// Each socket is meant once, even when it is in several of the rooms. Rooms that do not exist mean nobody;
/// an empty list of rooms never means everybody.
///
/// ```no_run
/// # fn example(cx: &mut shardcast::Context<'_>) {
/// cx.to("blue").to("green").except("banned").include_self(false).emit("news", "hello");
/// cx.broadcast().emit("entered", &cx.id());
/// # }
/// ```
#[must_use = "nothing happens until emit, join, leave or disconnect is called"]
#[derive(Debug)]
pub struct Recipients<'a> {
    origin: Origin<'a>,
    target: Target,
    includes_sender: bool,
}

/// Where the call is made.
enum Origin<'a> {
    Shard { core: &'a SharedCore, namespace: u16, sender: Option<Key> },
    Outside { mesh: &'a Mesh, namespace: &'a str },
}

impl std::fmt::Debug for Origin<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Origin::Shard { .. } => "Shard",
            Origin::Outside { .. } => "Outside",
        })
    }
}

impl<'a> Recipients<'a> {
    pub(crate) fn everyone(core: &'a SharedCore, namespace: u16, sender: Option<Key>) -> Recipients<'a> {
        let mut recipients = Recipients::rooms(core, namespace, sender);
        recipients.target.is_everyone = true;
        recipients
    }

    pub(crate) fn rooms(core: &'a SharedCore, namespace: u16, sender: Option<Key>) -> Recipients<'a> {
        let target = core.borrow_mut().spare_targets.pop().unwrap_or_default();
        Recipients { origin: Origin::Shard { core, namespace, sender }, target, includes_sender: true }
    }

    pub(crate) fn outside(mesh: &'a Mesh, namespace: &'a str, is_everyone: bool) -> Recipients<'a> {
        let target = Target { is_everyone, ..Target::default() };
        Recipients { origin: Origin::Outside { mesh, namespace }, target, includes_sender: true }
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

    /// Sends them an event, encoded once.
    pub fn emit(self, event: &str, args: impl ToArgs) -> Emitted {
        match self.origin {
            Origin::Shard { core, namespace, sender } => {
                let frame = match Core::share_frame(core, namespace, event, &args) {
                    Ok(frame) => frame,
                    Err(error) => {
                        tracing::error!(event, %error, "not sent");
                        return Emitted::Refused(error);
                    }
                };
                let except = sender.filter(|_| !self.includes_sender);
                match core.borrow_mut().publish(namespace, &self.target, except, &frame) {
                    Some(count) => Emitted::Queued(count),
                    None => Emitted::ShardBusy,
                }
            }
            Origin::Outside { mesh, namespace } => {
                let mut bytes = Vec::new();
                if let Err(error) = frame_event(&mut bytes, namespace, None, event, &args) {
                    tracing::error!(event, %error, "not sent");
                    return Emitted::Refused(error);
                }
                let broadcast = Arc::new(Broadcast {
                    namespace: namespace.to_owned(),
                    target: self.target.clone(),
                    frame: Arc::new(bytes),
                });
                let is_sent = send_everywhere(mesh, || ShardMessage::Broadcast(Arc::clone(&broadcast)));
                if is_sent { Emitted::Queued(0) } else { Emitted::ShardBusy }
            }
        }
    }

    /// Sends them the unnamed event, `message`.
    pub fn send(self, args: impl ToArgs) -> Emitted {
        self.emit("message", args)
    }

    /// Puts them all into a room.
    pub fn join(self, room: impl AsRef<str>) {
        self.change(Change::Join(room.as_ref()));
    }

    /// Takes them all out of a room.
    pub fn leave(self, room: impl AsRef<str>) {
        self.change(Change::Leave(room.as_ref()));
    }

    /// Disconnects them all from the namespace.
    pub fn disconnect(self) {
        self.change(Change::Disconnect { close_session: false });
    }

    /// Disconnects them all and closes their connections.
    pub fn close(self) {
        self.change(Change::Disconnect { close_session: true });
    }

    fn change(mut self, change: Change<'_>) {
        match self.origin {
            Origin::Shard { core, namespace, sender } => {
                let mut core = core.borrow_mut();
                if !self.includes_sender
                    && let Some(sid) = sender.and_then(|key| core.sockets.get(key)).map(|socket| socket.sid)
                {
                    self.target.except.push(sid.as_str());
                }
                core.change(namespace, &self.target, change);
            }
            Origin::Outside { mesh, namespace } => {
                send_everywhere(mesh, || {
                    ShardMessage::Command(Box::new(SocketCommand {
                        namespace: namespace.to_owned(),
                        target: self.target.clone(),
                        change: change.to_message(),
                    }))
                });
            }
        }
    }
}

impl Drop for Recipients<'_> {
    fn drop(&mut self) {
        if let Origin::Shard { core, .. } = self.origin
            && let Ok(mut core) = core.try_borrow_mut()
        {
            let mut target = std::mem::take(&mut self.target);
            target.clear();
            core.spare_targets.push(target);
        }
    }
}

/// One message for each shard, and a ring for each. False when an inbox was full.
fn send_everywhere(mesh: &Mesh, message: impl Fn() -> ShardMessage) -> bool {
    let mut is_sent = true;
    for index in 0..mesh.len() {
        let shard = ShardId(index as u16);
        if mesh.send(shard, message()).is_err() {
            tracing::error!(shard = index, "a shard's inbox is full: a message to it is lost");
            is_sent = false;
        }
        mesh.ring(shard);
    }
    is_sent
}
