//! From an Engine.IO packet to a handler: sessions' messages, events and acks. How sockets connect is in `connect`, how
//! they end in `ends`, how events wait in `waiting`.

use std::rc::Rc;

use bytes::Bytes;

use crate::base::guard::{Caught, discard, guarded};
use crate::base::log::{ENGINEIO, SOCKETIO};
use crate::base::shown::Shown;
use crate::base::slab::Key;
use crate::base::time::Time;
use crate::config::Parser;
use crate::protocol::engineio::packet::Packet as EnginePacket;
use crate::protocol::engineio::payload;
use crate::protocol::engineio::session::{Beat, Step, Via, step};
use crate::protocol::socketio::attachments::PendingBinary;
use crate::protocol::socketio::event::{Args, Event};
use crate::protocol::socketio::msgpack;
use crate::protocol::socketio::packet::{self, Packet, PacketKind};
use crate::shard::Shard;
use crate::shard::app::{Flow, HandlerError, NamespaceHandlers};
use crate::shard::context::{Context, Socket};
use crate::shard::core::Core;
use crate::shard::encode::frame_packet;
use crate::shard::raw::Message;
use crate::shard::session::{CloseReason, Left, Link};
use crate::shard::socket::SocketState;
use crate::shard::tasks::{EventName, TaskOwner};
use crate::shard::trace::{trace_received, trace_received_binary};
use crate::shard::wire::Wire;

impl Shard {
    /// One Engine.IO packet of a session's own transport.
    pub(crate) fn receive_packet(&mut self, session: Key, packet: EnginePacket<'_>) {
        let step = {
            let mut core = self.core.borrow_mut();
            let Core { sessions, endpoints, now, .. } = &mut *core;
            let (Some(session), now) = (sessions.get_mut(session), *now) else { return };
            if session.is_over || session.is_ending {
                return;
            }
            let times = endpoints[usize::from(session.endpoint)].heartbeat_times();
            if session.is_traced {
                trace_received(&session.sid, packet);
            }
            let step = step(session.poll_form.revision, Via::Transport, packet);
            match step {
                Step::Pong => session.heartbeat.receive_pong(times, now),
                Step::AnswerPing => session.heartbeat.receive_ping(times, now),
                _ => session.heartbeat.receive_packet(times, now),
            }
            step
        };
        match step {
            Step::Message(text) => self.receive_message(session, text),
            Step::Base64(text) => match payload::decode_base64(text) {
                Some(bytes) => self.receive_attachment(session, Bytes::from(bytes)),
                None => self.close_session(session, CloseReason::ParseError),
            },
            Step::Binary(bytes) => self.receive_attachment(session, Bytes::copy_from_slice(bytes)),
            Step::Pong => self.core.borrow_mut().arm_session(session),
            Step::AnswerPing => self.core.borrow_mut().send_packet(session, "3"),
            Step::Close => self.close_session(session, CloseReason::TransportClose),
            Step::WrongHeartbeat => self.close_session(session, CloseReason::TransportError),
            Step::Ignore | Step::AnswerProbe | Step::Upgrade | Step::FailProbe => {}
        }
    }

    /// A binary frame of a session's own WebSocket.
    pub(crate) fn receive_binary(&mut self, session: Key, bytes: &[u8]) {
        {
            let mut core = self.core.borrow_mut();
            let Core { sessions, endpoints, now, .. } = &mut *core;
            let (Some(session), now) = (sessions.get_mut(session), *now) else { return };
            if session.is_over || session.is_ending {
                return;
            }
            if session.is_traced {
                trace_received_binary(&session.sid, bytes);
            }
            session.heartbeat.receive_packet(endpoints[usize::from(session.endpoint)].heartbeat_times(), now);
        }
        let message = self.core.borrow().untyped(session, bytes);
        match message {
            Some(message) => self.receive_attachment(session, Bytes::copy_from_slice(message)),
            None => self.close_session(session, CloseReason::ParseError),
        }
    }

    fn receive_message(&mut self, session: Key, text: &str) {
        let (is_binary_due, is_raw) = {
            let core = self.core.borrow();
            let Some(session) = core.sessions.get(session) else { return };
            let is_binary_due = session.pending_binary.is_some() || session.wire.has(Wire::MSGPACK);
            (is_binary_due, core.endpoint(session.endpoint).is_raw)
        };
        if is_raw {
            return self.engine_message(session, Message::Text(text));
        }
        let packet = match packet::decode(text) {
            Ok(packet) if !is_binary_due => packet,
            Ok(_) => return self.break_session(session, "text came where binary was due"),
            Err(error) => return self.break_session(session, error.reason()),
        };
        if packet.kind.is_binary() {
            self.await_attachments(session, &packet);
        } else {
            self.receive_whole(session, &packet, &[]);
        }
    }

    /// A packet with all of its attachments, whichever parser's it was.
    fn receive_whole(&mut self, session: Key, packet: &Packet<'_>, attachments: &[Bytes]) {
        match packet.kind {
            PacketKind::Connect => self.connect(session, packet),
            PacketKind::Disconnect => self.leave_namespace(session, packet),
            PacketKind::Event | PacketKind::BinaryEvent => {
                self.receive_from_socket(session, PacketKind::Event, packet, attachments);
            }
            PacketKind::Ack | PacketKind::BinaryAck => {
                self.receive_from_socket(session, PacketKind::Ack, packet, attachments);
            }
            PacketKind::ConnectError => self.break_session(session, "only a server refuses a connection"),
        }
    }

    /// A packet of the msgpack parser. The first of a session, a CONNECT, shows that it is one.
    #[cold]
    fn receive_packed(&mut self, session: Key, bytes: &Bytes) {
        let message = match msgpack::decode(bytes) {
            Ok(message) => message,
            Err(error) => return self.break_session(session, error.reason()),
        };
        if let Some(session) = self.core.borrow_mut().sessions.get_mut(session) {
            session.wire = session.wire | Wire::MSGPACK;
        }
        self.receive_whole(session, &message.packet(), &message.attachments);
    }

    fn await_attachments(&mut self, session: Key, packet: &Packet<'_>) {
        let pending =
            PendingBinary::new(packet.kind, packet.namespace, packet.id, packet.payload, packet.attachments);
        let mut core = self.core.borrow_mut();
        if let Some(session) = core.sessions.get_mut(session) {
            session.pending_binary = Some(Box::new(pending));
        }
        core.count_session_partial(session);
    }

    /// A binary message: an attachment, or a packet of the msgpack parser.
    fn receive_attachment(&mut self, session: Key, bytes: Bytes) {
        let complete = {
            let mut core = self.core.borrow_mut();
            let is_auto = core.config.parser == Parser::Auto;
            let Core { sessions, endpoints, .. } = &mut *core;
            let Some(entry) = sessions.get_mut(session) else { return };
            let endpoint = &endpoints[usize::from(entry.endpoint)];
            if endpoint.is_raw {
                drop(core);
                return self.engine_message(session, Message::Binary(&bytes));
            }
            let bytes_max = match endpoint.options.attachments_bytes_max {
                0 => usize::MAX,
                bytes_max => bytes_max,
            };
            let is_first = is_auto && entry.sockets.is_empty() && entry.pending_binary.is_none();
            if is_first || entry.wire.has(Wire::MSGPACK) {
                drop(core);
                return self.receive_packed(session, &bytes);
            }
            let complete = match &mut entry.pending_binary {
                None => Err("a binary message came that no packet announced"),
                Some(pending) if pending.attachments_len() + bytes.len() > bytes_max => {
                    Err("the attachments of one packet exceed attachments_bytes_max")
                }
                Some(pending) => Ok(if pending.push(bytes) { entry.pending_binary.take() } else { None }),
            };
            core.count_session_partial(session);
            complete
        };
        match complete {
            Err(reason) => self.break_session(session, reason),
            Ok(None) => {}
            Ok(Some(pending)) => {
                let packet = Packet {
                    kind: pending.kind(),
                    namespace: pending.namespace(),
                    id: pending.id(),
                    attachments: pending.attachments().len(),
                    payload: pending.payload(),
                };
                self.receive_whole(session, &packet, pending.attachments());
            }
        }
    }

    fn receive_from_socket(
        &mut self,
        session: Key,
        kind: PacketKind,
        packet: &Packet<'_>,
        attachments: &[Bytes],
    ) {
        let Some(socket) = self.core.borrow().socket_of(session, packet.namespace) else {
            let excused = if kind == PacketKind::Ack { Left::ByItself } else { Left::SentAway };
            let reason = "a packet came for a namespace that the client has not joined";
            return self.receive_stray(session, excused, reason);
        };
        let is_waiting = {
            let core = self.core.borrow();
            let Some(socket) = core.sockets.get(socket).filter(|socket| !socket.is_ending) else { return };
            if kind == PacketKind::Event && !packet.payload.is_empty() {
                core.counters.events_received.add(1);
            }
            socket.is_busy || socket.state != SocketState::Open || socket.has_waiting()
        };
        if kind == PacketKind::Ack {
            if let Some(id) = packet.id {
                self.receive_ack(socket, id, Args::of_ack(packet.payload, attachments));
            }
            return;
        }
        if packet.payload.is_empty() {
            return;
        }
        if is_waiting {
            self.postpone(session, socket, packet, attachments);
        } else {
            self.dispatch(socket, packet.payload, packet.id, attachments);
        }
    }

    /// Hands an event to its handler.
    pub(crate) fn dispatch(
        &mut self,
        socket_key: Key,
        payload: &str,
        id: Option<u64>,
        attachments: &[Bytes],
    ) {
        let Some(socket) = Socket::of(&self.core, socket_key) else { return };
        let handlers = self.handlers_of(&socket);
        let Ok(event) = Event::decode(payload, attachments) else {
            debug_assert!(false, "a payload is checked when its packet is decoded");
            return;
        };
        let mut cx = Context::new(socket, &event.name, event.args, id);
        cx.keeps_args = handlers.error.is_some() || self.app.default_error.is_some();
        let done = guarded(|| handle_event(&handlers, &mut cx));
        self.watched(|| format!("the handler of event {:?} of {}", Shown(&event.name), cx.namespace()));
        match done {
            Ok(Ok(Flow::Done)) => {}
            Ok(Ok(Flow::Later(future))) => {
                self.start_task(future, TaskOwner::Handler(socket_key, EventName::of(&event.name)))
            }
            Ok(Err(error)) => {
                self.handler_failed(&handlers, &mut cx, &error);
                discard(error);
            }
            Err(panic) => self.handler_panicked(socket_key, &event.name, &panic),
        }
    }

    pub(crate) fn handler_failed(
        &mut self,
        handlers: &NamespaceHandlers,
        cx: &mut Context<'_>,
        error: &HandlerError,
    ) {
        let Some(on_error) = handlers.error.as_ref().or(self.app.default_error.as_ref()) else {
            let (event, namespace) = (Shown(cx.event()), cx.namespace());
            tracing::warn!(target: SOCKETIO, ?event, namespace, error = %words(error), "handler failed");
            return;
        };
        let done = guarded(|| on_error(cx, error));
        self.watched(|| format!("the error handler of event {:?} of {}", Shown(cx.event()), cx.namespace()));
        match done {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let event = Shown(cx.event());
                tracing::warn!(target: SOCKETIO, ?event, error = %words(&error), "an error handler's answer is not sent");
            }
            Err(panic) => {
                let (key, event) = (cx.key(), cx.event().to_owned());
                self.handler_panicked(key, &event, &panic);
            }
        }
    }

    /// A panic costs its client the connection, and no other client anything. Stock clients connect again after a lost
    /// connection; after a disconnect that the server announces they do not.
    pub(crate) fn handler_panicked(&mut self, socket: Key, event: &str, panic: &Caught) {
        let event = Shown(event);
        tracing::error!(target: SOCKETIO, ?event, message = %panic, "a handler panicked; its client's connection is closed");
        self.core.borrow_mut().counters.handler_panics.add(1);
        let session = self.core.borrow().sockets.get(socket).map(|socket| socket.session);
        if let Some(session) = session {
            self.close_session(session, CloseReason::TransportError);
        }
    }

    /// The handlers of a socket's namespace.
    pub(crate) fn handlers_of(&self, socket: &Socket) -> Rc<NamespaceHandlers> {
        Rc::clone(&self.app.namespaces[socket.setup()])
    }

    /// Something has come from a session's client. Its deadline may be over although the wheel, which ticks, has not told yet:
    /// then it came too late. If the wheel should have told long ago it is this shard that is late, and nobody's fault.
    #[inline]
    pub(crate) fn end_if_due(&mut self, session_key: Key) {
        let armed = {
            let core = self.core.borrow();
            let Some(session) = core.sessions.get(session_key) else { return };
            let deadline = session.deadline();
            if deadline > core.now || core.now.since(deadline) > core.wheel.tick() {
                return;
            }
            session.armed
        };
        self.session_timeout(session_key, armed, std::time::Duration::ZERO);
    }

    /// A session's deadline has come. `stall` is how late this shard is.
    pub(crate) fn session_timeout(&mut self, session_key: Key, armed: Time, stall: std::time::Duration) {
        let verdict = {
            let mut core = self.core.borrow_mut();
            let Core { sessions, endpoints, connections, now, .. } = &mut *core;
            let (found, now) = (sessions.get_mut(session_key), *now);
            let Some(session) = found.filter(|session| session.armed == armed) else { return };
            let times = endpoints[usize::from(session.endpoint)].heartbeat_times();
            session.armed = Time::NEVER;
            let carrier = match session.link {
                Link::WebSocket(key) => Some(key),
                Link::Polling { post, .. } => post,
            };
            // What it says may wait for us: then its answer is not late.
            let carrier = carrier.and_then(|key| connections.get_mut(key));
            let is_heard_late = carrier.is_some_and(|connection| connection.share.take_sign_of_life());
            let stall = if is_heard_late { stall.max(times.timeout) } else { stall };
            if session.is_over {
                if now >= session.connect_by {
                    core.remove_session(session_key);
                } else {
                    core.arm_session(session_key);
                }
                return;
            }
            let late_upgrade =
                session.upgrade.filter(|upgrade| now >= upgrade.until).map(|upgrade| upgrade.connection);
            if let Some(connection) = late_upgrade {
                session.upgrade = None;
                tracing::debug!(target: ENGINEIO, "upgrade given up: it took longer than upgrade_timeout");
                core.close_websocket(connection, None, "");
            }
            let Some(session) = core.sessions.get_mut(session_key) else { return };
            if now >= session.connect_by {
                Some(CloseReason::ForcedClose)
            } else {
                match session.heartbeat.handle_timeout(times, now, stall) {
                    Beat::TimedOut => Some(CloseReason::PingTimeout),
                    Beat::SendPing => {
                        core.send_packet(session_key, "2");
                        None
                    }
                    Beat::NotYet => None,
                }
            }
        };
        match verdict {
            Some(reason) => self.give_up_session(session_key, reason),
            None => self.core.borrow_mut().arm_session(session_key),
        }
    }
}

impl Core {
    /// The session's socket in a namespace, by name.
    pub(crate) fn socket_of(&self, session: Key, namespace: &str) -> Option<Key> {
        let session = self.sessions.get(session)?;
        session.socket_in(self.namespaces.find(session.endpoint, namespace)?)
    }

    /// Sends one Socket.IO packet that has no attachments.
    pub(crate) fn send_message(&mut self, session: Key, encode: impl FnOnce(&mut Vec<u8>)) {
        let mut frames = self.buffers.take();
        let framed = frame_packet(&mut frames, |out, _| {
            encode(out);
            Ok::<(), std::convert::Infallible>(())
        });
        framed.unwrap_or_else(|never| match never {});
        self.send_frames(session, frames);
    }
}

/// What an error says, for the log. An error of the user's is user code there, too.
pub(crate) fn words(error: &HandlerError) -> String {
    guarded(|| Shown(error).to_string()).unwrap_or_else(|panic| format!("(its text panicked: {panic})"))
}

/// Asks who wants to see every event, then the event's own handler.
fn handle_event(handlers: &NamespaceHandlers, cx: &mut Context<'_>) -> Result<Flow, HandlerError> {
    let args = cx.args();
    for check in &handlers.before {
        check(cx, args)?;
        if cx.is_ending() {
            return Ok(Flow::Done);
        }
    }
    match handlers.events.get(cx.event()).or(handlers.any.as_ref()) {
        Some(handler) => handler(cx, args),
        None => {
            let (event, namespace) = (Shown(cx.event()), cx.namespace());
            tracing::debug!(?event, namespace, "no handler for this event");
            Ok(Flow::Done)
        }
    }
}
