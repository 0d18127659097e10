//! The one way to whoever is meant, here and on the other shards.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::base::buffer::SharedFrame;
use crate::base::slab::Key;
use crate::mesh::ShardMessage;
use crate::mesh::interest::Audience;
use crate::mesh::link::{LinkError, Said};
use crate::message::address::Address;
use crate::message::recovery::{EventId, Offset, Position};
use crate::message::target::{Broadcast, Reach, SocketCommand, Target, ToldChange};
use crate::protocol::socketio::encode::EncodeError;
use crate::shard::core::{Core, SharedCore};
use crate::shard::feature::recovery::Stamped;
use crate::shard::table::Tables;
use crate::shard::table::delivery::Event;
use crate::shard::table::namespaces::NamespaceRef;
use crate::shard::value::args::ToArgs;
use crate::shard::value::encode::frame_event;
use crate::shard::value::kinds::BroadcastOrigin;
use crate::shard::value::parked::{Outcome, SlowConsumers};
use crate::shard::value::pools::Pools;
use crate::shard::value::session::CloseReason;
use crate::shard::value::socket::{Change, SocketState};

/// What became of a change: what it did not reach, and what other processes are told.
#[derive(Debug, Default)]
pub(crate) struct Made {
    /// Shards whose inbox was full.
    pub(crate) shards_missing: usize,
    /// What the other processes are told.
    pub(crate) told: Option<Arc<ToldChange>>,
}

/// Why some do not get what was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unsent {
    /// Another shard's inbox was full.
    ShardBusy,
    /// The message queue did not take it.
    Link(LinkError),
}

impl Core {
    /// Sends a frame to every socket of a target, here, on the other shards and in other processes. Returns what became of it here.
    pub(crate) fn publish(
        &mut self,
        namespace: &Rc<NamespaceRef>,
        target: &Target,
        sender: Option<Key>,
        frame: &SharedFrame,
    ) -> Result<Outcome, Unsent> {
        let here = self.tables.namespaces.resolve(namespace);
        self.tables.meters().broadcasts.count(BroadcastOrigin::Here);
        self.publish_at(here, &namespace.address, target, (sender, frame, None, Position::default()))
    }

    /// The same for a namespace by its address, which may have no socket here. An event of another process has an id, and perhaps a place
    /// in a stream.
    pub(crate) fn publish_at(
        &mut self,
        here: Option<u16>,
        address: &Address,
        target: &Target,
        (sender, plain, id, position): (Option<Key>, &SharedFrame, Option<EventId>, Position),
    ) -> Result<Outcome, Unsent> {
        let stamped;
        let (frame, offset) = if self.recovery.is_on && self.tables.has_recovery_at(here, address) {
            let setup = match here {
                Some(number) => Some(self.tables.namespaces[number].namespace.setup),
                None => self.tables.namespaces.setup_at(address),
            };
            stamped = self.recovery().stamp(setup, target, plain);
            (&stamped.0, stamped.1)
        } else {
            (plain, None)
        };
        let id = id.or(offset.map(|offset| offset.event_id()));
        let event = Event { frame, offset, id, published: self.tables.turn_times.began };
        let outcome =
            here.map(|number| self.tables.deliver_local(number, target, sender, event)).unwrap_or_default();
        let sent = match target.reach {
            Reach::Shard => Ok(()),
            Reach::Process | Reach::Everywhere => {
                self.publish_elsewhere(address, target, sender, (event, plain, position))
            }
        };
        if let Some(offset) = offset.filter(|offset| !offset.is_local) {
            self.tables.mesh.published.finish(self.tables.env.id, offset.number);
        }
        sent.map(|()| outcome)
    }

    /// Sends a frame to every other shard that may have sockets of the target, and, without an offset, to the other processes.
    fn publish_elsewhere(
        &mut self,
        address: &Address,
        target: &Target,
        sender: Option<Key>,
        (event, plain, position): (Event<'_>, &SharedFrame, Position),
    ) -> Result<(), Unsent> {
        let mut audience = Audience::but(self.tables.env.id);
        let mut next = self.tables.mesh.interest.next(&mut audience, address, target);
        let link = self.tables.mesh.links.of(address).filter(|link| link.concerns(target));
        if next.is_none() && link.is_none() {
            return Ok(());
        }
        let except_sender = sender.and_then(|key| self.tables.sockets.get(key)).map(|socket| socket.sid);
        let mut share = |frame: &SharedFrame, offset: Option<Offset>| {
            self.tables.pools.broadcasts.share(|broadcast: &mut Broadcast| {
                broadcast.namespace.clone_from(address);
                broadcast.target.clone_from(target);
                if let Some(sid) = except_sender {
                    broadcast.target.except.push(sid.as_str());
                }
                broadcast.frame = Arc::clone(frame);
                broadcast.offset = offset;
                broadcast.id = event.id;
                broadcast.position = position;
                broadcast.published = event.published;
            })
        };
        let broadcast = share(event.frame, event.offset);
        let mut sent = Ok(());
        if let Some(link) = link {
            // Each process numbers what it delivers.
            let is_plain = Arc::ptr_eq(plain, event.frame);
            let said = if is_plain { Arc::clone(&broadcast) } else { share(plain, None) };
            sent = link.say_before_waking(Said::Emit(said)).map_err(Unsent::Link);
            self.tables.has_said = true;
        }
        while let Some(shard) = next {
            if !self.tables.send_to_shard(shard, ShardMessage::Broadcast(Arc::clone(&broadcast))) {
                sent = Err(Unsent::ShardBusy);
            }
            next = self.tables.mesh.interest.next(&mut audience, address, target);
        }
        sent
    }

    /// Delivers what another shard or thread published.
    pub(crate) fn deliver_broadcast(&mut self, broadcast: &Broadcast) {
        if let Some(offset) = broadcast.offset {
            self.recovery.seen.note(offset);
        }
        self.recovery.note_passed(broadcast.position);
        if let Some(namespace) = self.tables.namespaces.find_address(&broadcast.namespace) {
            let Broadcast { frame, offset, id, .. } = broadcast;
            self.tables.meters().broadcasts.count(BroadcastOrigin::Mesh);
            let published = match broadcast.published {
                0 => self.tables.turn_times.began,
                published => published,
            };
            let event = Event { frame, offset: *offset, id: *id, published };
            self.tables.deliver_local(namespace, &broadcast.target, None, event);
        }
    }

    /// Applies a change to every socket of a target, here and on the other shards.
    pub(crate) fn change(
        &mut self,
        namespace: &Rc<NamespaceRef>,
        target: &Target,
        change: Change<'_>,
    ) -> Made {
        let here = self.tables.namespaces.resolve(namespace);
        self.change_at(here, &namespace.address, target, (change, None))
    }

    /// Makes a change for another thread, after what it has had published before.
    pub(crate) fn relay_command(&mut self, told: &Arc<ToldChange>) {
        let SocketCommand { namespace, target, change } = &told.command;
        let here = self.tables.namespaces.find_address(namespace);
        // Who waits for it asks this shard behind it. What is lost is counted and logged where that happens.
        let made = self.change_at(here, namespace, target, (change.as_change(), Some(told)));
        told.shards_missing.store(made.shards_missing, Relaxed);
    }

    /// The same for a namespace by its address, which may have no socket here.
    fn change_at(
        &mut self,
        here: Option<u16>,
        address: &Address,
        target: &Target,
        (change, told): (Change<'_>, Option<&Arc<ToldChange>>),
    ) -> Made {
        let mut made = Made::default();
        if let Some(number) = here {
            self.change_local(number, target, change);
        }
        if target.reach == Reach::Shard {
            return made;
        }
        if let Some(link) = self.tables.mesh.links.of(address).filter(|link| link.concerns(target)) {
            let told = told.cloned().unwrap_or_else(|| {
                let (namespace, target) = (address.clone(), target.clone());
                ToldChange::new(SocketCommand { namespace, target, change: change.to_message() })
            });
            let is_refused = link.say_before_waking(Said::Change(Arc::clone(&told))).is_err();
            told.is_refused.store(is_refused, Relaxed);
            made.told = Some(told);
            self.tables.has_said = true;
        }
        let announcement = change.announce(&self.tables.mesh, address);
        let mut audience = Audience::but(self.tables.env.id);
        while let Some(shard) = self.tables.mesh.interest.next(&mut audience, address, target) {
            let (namespace, target) = (address.clone(), target.clone());
            let command = SocketCommand { namespace, target, change: change.to_message() };
            let message = ShardMessage::Command(Box::new(command), announcement.clone());
            made.shards_missing += usize::from(!self.tables.send_to_shard(shard, message));
        }
        made
    }

    /// Applies a change to every local socket of a target.
    pub(crate) fn change_local(&mut self, namespace: u16, target: &Target, change: Change<'_>) {
        let sockets = self.tables.members_of(namespace, target);
        target.receipt.add(sockets.len() as u64);
        for socket in sockets {
            self.apply_change(socket, &change);
        }
    }

    /// Queues frames for one socket: held back while its connect handler decides, dropped once it is gone. What
    /// must arrive, an answer or a question, is not dropped because the client is slow.
    pub(crate) fn send_from_socket(
        &mut self,
        key: Key,
        mut frames: Vec<u8>,
        must_arrive: bool,
    ) -> Option<Outcome> {
        if self.tables.sightings.is_on {
            self.tables.saw_sent(&[key], &frames, false);
        }
        if self.recovery.is_on && !must_arrive && self.tables.has_recovery(key) {
            frames = match self.recovery().stamp_for(key, frames) {
                Stamped::Send(frames) => frames,
                Stamped::Kept => return Some(Outcome { queued: 1, ..Outcome::default() }),
                Stamped::Gone => return None,
            };
        }
        let Tables { sockets, namespaces, slow_rules, has_slow_rules, pools: Pools { buffers, .. }, .. } =
            &mut self.tables;
        let Some(socket) = sockets.get_mut(key) else {
            buffers.give(frames);
            return None;
        };
        let mut outcome = Outcome::default();
        match socket.state {
            SocketState::Open | SocketState::Undecided => {
                if *has_slow_rules && !must_arrive {
                    let setup = namespaces[socket.namespace].namespace.setup;
                    if slow_rules[usize::from(setup)].namespace != SlowConsumers::Close {
                        return Some(self.tables.deliver_by_rule(key, frames));
                    }
                }
                let session = socket.session;
                let endpoint = namespaces[socket.namespace].namespace.endpoint;
                self.tables.env.counters.messages_sent.add(1);
                self.tables.env.endpoints[usize::from(endpoint)].counters.messages_sent.add(1);
                outcome.count(self.tables.send_frames(session, frames));
            }
            SocketState::Connecting => {
                let session = socket.session;
                let held = &mut socket.extra_mut().held;
                held.push_own(frames, buffers);
                if held.len() > self.tables.env.config.outbox_bytes_max {
                    self.tables.close_soon(session, CloseReason::SlowConsumer);
                }
                outcome.count(true);
            }
            SocketState::Closed => {
                buffers.give(frames);
                return None;
            }
        }
        Some(outcome)
    }

    /// Encodes an event once, for whoever is to get it.
    pub(crate) fn share_frame(
        core: &SharedCore,
        namespace: &str,
        id: Option<u64>,
        event: &str,
        args: &impl ToArgs,
    ) -> Result<SharedFrame, EncodeError> {
        // The pool is taken out while user code encodes; a nested emit makes do without.
        let mut frames = std::mem::take(&mut core.borrow_mut().tables.pools.frames);
        let mut result = Ok(());
        let frame = frames.share(|bytes| {
            bytes.clear();
            result = frame_event(bytes, namespace, id, event, args);
        });
        core.borrow_mut().tables.pools.frames = frames;
        result.map(|()| frame)
    }

    /// Publishes what another thread emits, with an offset of this shard.
    pub(crate) fn relay(&mut self, broadcast: &Broadcast) {
        let here = self.tables.namespaces.find_address(&broadcast.namespace);
        self.recovery.note_passed(broadcast.position);
        self.tables.meters().broadcasts.count(BroadcastOrigin::Outside);
        // Nobody waits for the outcome. What is lost is counted and logged where that happens.
        let event = (None, &broadcast.frame, broadcast.id, broadcast.position);
        let _ = self.publish_at(here, &broadcast.namespace, &broadcast.target, event);
    }
}
