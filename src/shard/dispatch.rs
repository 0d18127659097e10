//! From an Engine.IO packet to a handler: sessions' messages, sockets that connect and end, events and acks.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use bytes::Bytes;

use crate::base::limits::NAMESPACES_PER_SESSION_MAX;
use crate::base::shown::Shown;
use crate::base::slab::Key;
use crate::base::time::Time;
use crate::mesh::inquiry::AckError;
use crate::protocol::engineio::packet::Packet as EnginePacket;
use crate::protocol::engineio::payload;
use crate::protocol::engineio::session::{Beat, Step, Via, step};
use crate::protocol::socketio::attachments::PendingBinary;
use crate::protocol::socketio::encode;
use crate::protocol::socketio::event::{Args, Event};
use crate::protocol::socketio::msgpack;
use crate::protocol::socketio::packet::{self, Packet, PacketKind};
use crate::shard::Shard;
use crate::shard::app::{ConnectFlow, Flow, HandlerError, NamespaceHandlers, Refused};
use crate::shard::config::Parser;
use crate::shard::context::{Context, Socket};
use crate::shard::core::{Core, Deferred, NOWHERE};
use crate::shard::encode::frame_packet;
use crate::shard::namespaces::NamespaceError;
use crate::shard::raw::Message;
use crate::shard::revision3::split_connect;
use crate::shard::session::CloseReason;
use crate::shard::socket::{SocketEntry, SocketState, Waiting};
use crate::shard::tasks::TaskOwner;
use crate::shard::trace::{trace_received, trace_received_binary};
use crate::shard::wire::Wire;

/// What a client hears whose connect handler panicked, as in Flask-SocketIO.
pub(crate) const REFUSED_BY_PANIC: &str = "Connection refused by server";

impl Shard {
    /// One Engine.IO packet of a session's own transport.
    pub(crate) fn receive_packet(&mut self, session: Key, packet: EnginePacket<'_>) {
        let step = {
            let mut core = self.core.borrow_mut();
            let Core { sessions, endpoints, now, .. } = &mut *core;
            let (Some(session), now) = (sessions.get_mut(session), *now) else { return };
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
        if let Some(session) = self.core.borrow_mut().sessions.get_mut(session) {
            session.pending_binary = Some(Box::new(pending));
        }
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
            match &mut entry.pending_binary {
                None => Err("a binary message came that no packet announced"),
                Some(pending) if pending.attachments_len() + bytes.len() > bytes_max => {
                    Err("the attachments of one packet exceed attachments_bytes_max")
                }
                Some(pending) => Ok(if pending.push(bytes) { entry.pending_binary.take() } else { None }),
            }
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
            return self
                .break_session(session, "a packet came for a namespace that the client has not joined");
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
        let is_waiting = {
            let core = self.core.borrow();
            core.counters.events_received.add(1);
            core.sockets.get(socket).is_some_and(|socket| socket.is_busy || socket.state != SocketState::Open)
        };
        if is_waiting {
            self.postpone(session, socket, packet, attachments);
        } else {
            self.dispatch(socket, packet.payload, packet.id, attachments);
        }
    }

    /// Keeps an event until the socket's asynchronous handler is done.
    fn postpone(&mut self, session: Key, socket: Key, packet: &Packet<'_>, attachments: &[Bytes]) {
        let is_over = {
            let mut core = self.core.borrow_mut();
            let bytes_max = core.config.pending_bytes_max;
            let Some(entry) = core.sockets.get_mut(socket) else { return };
            let extra = entry.extra_mut();
            let (payload, attachments) = (packet.payload.to_owned(), attachments.to_vec());
            let waiting = Waiting::Event { payload, id: packet.id, attachments };
            extra.waiting_bytes += waiting.len_bytes();
            extra.waiting.push_back(waiting);
            extra.waiting_bytes > bytes_max
        };
        if is_over {
            self.break_session(
                session,
                "more events wait behind an asynchronous handler than pending_bytes_max",
            );
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
        match catch_unwind(AssertUnwindSafe(|| handle_event(&handlers, &mut cx))) {
            Ok(Ok(Flow::Done)) => {}
            Ok(Ok(Flow::Later(future))) => self.start_task(future, TaskOwner::Handler(socket_key)),
            Ok(Err(error)) => self.handler_failed(&handlers, &mut cx, &error),
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
            tracing::warn!(target: super::SOCKETIO, ?event, namespace, error = %Shown(error), "handler failed");
            return;
        };
        match catch_unwind(AssertUnwindSafe(|| on_error(cx, error))) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let event = Shown(cx.event());
                tracing::warn!(target: super::SOCKETIO, ?event, error = %Shown(error), "an error handler's answer is not sent");
            }
            Err(panic) => {
                let (key, event) = (cx.key(), cx.event().to_owned());
                self.handler_panicked(key, &event, &panic);
            }
        }
    }

    /// A panic costs its socket and nobody else.
    pub(crate) fn handler_panicked(&mut self, socket: Key, event: &str, panic: &(dyn std::any::Any + Send)) {
        let message = panic_message(panic);
        let event = Shown(event);
        tracing::error!(target: super::SOCKETIO, ?event, %message, "a handler panicked; its socket is disconnected");
        self.core.borrow_mut().counters.handler_panics.add(1);
        self.end_socket(socket, CloseReason::ServerDisconnect, true);
    }

    /// CONNECT: the handler decides.
    pub(crate) fn connect(&mut self, session: Key, packet: &Packet<'_>) {
        let (name, auth) = split_connect(packet, self.core.borrow().is_revision_3(session));
        let socket_key = {
            let mut core = self.core.borrow_mut();
            let namespace = match core.open_namespace(session, name) {
                Ok(namespace) => namespace,
                Err(refused) => return core.send_connect_error(session, name, &refused),
            };
            let is_joined =
                core.sessions.get(session).is_none_or(|session| session.socket_in(namespace).is_some());
            if is_joined {
                if core.may_repeat_connect(session, name) {
                    return;
                }
                drop(core);
                return self.break_session(session, "the namespace is joined already");
            }
            core.add_socket(session, namespace)
        };
        self.connect_or_recover(socket_key, &auth);
    }

    /// Asks the connect handlers from `first` on, until one refuses or takes its time.
    pub(crate) fn ask_connect_handlers(&mut self, socket_key: Key, first: usize, auth: &str) {
        let Some(socket) = Socket::of(&self.core, socket_key) else { return };
        let handlers = self.handlers_of(&socket);
        let args = Args::of_value(auth);
        let mut cx = Context::new(socket, "connect", args, None);
        for (step, ask) in handlers.connect.iter().enumerate().skip(first) {
            match catch_unwind(AssertUnwindSafe(|| ask(&mut cx, args))) {
                Ok(Ok(ConnectFlow::Done)) => {}
                Ok(Ok(ConnectFlow::Later(future))) => {
                    if step + 1 < handlers.connect.len()
                        && let Some(socket) = self.core.borrow_mut().sockets.get_mut(socket_key)
                    {
                        socket.extra_mut().connect_step = Some((step + 1, auth.to_owned()));
                    }
                    return self.start_task(future, TaskOwner::Connect(socket_key));
                }
                Ok(Err(refused)) => return self.core.borrow_mut().refuse_socket(socket_key, &refused),
                Err(panic) => {
                    tracing::error!(target: super::SOCKETIO, message = %panic_message(&*panic), "a connect handler panicked; the client is refused");
                    self.core.borrow_mut().counters.handler_panics.add(1);
                    let refused = Refused::new(REFUSED_BY_PANIC);
                    return self.core.borrow_mut().refuse_socket(socket_key, &refused);
                }
            }
        }
        self.core.borrow_mut().accept_socket(socket_key);
        self.run_waiting(socket_key);
    }

    /// A connect handler that took its time has decided: ask the next, let the socket in, or send it away.
    pub(crate) fn decide(&mut self, socket_key: Key, decision: Result<(), Refused>) {
        if let Err(refused) = decision {
            return self.core.borrow_mut().refuse_socket(socket_key, &refused);
        }
        let next = {
            let mut core = self.core.borrow_mut();
            let extra = core.sockets.get_mut(socket_key).and_then(|socket| socket.extra.as_mut());
            extra.and_then(|extra| extra.connect_step.take())
        };
        let (first, auth) = next.unwrap_or((usize::MAX, String::new()));
        self.ask_connect_handlers(socket_key, first, &auth);
    }

    /// The handlers of a socket's namespace.
    pub(crate) fn handlers_of(&self, socket: &Socket) -> Rc<NamespaceHandlers> {
        Rc::clone(&self.app.namespaces[socket.setup()])
    }

    /// `41`: the client leaves a namespace; the connection stays.
    fn leave_namespace(&mut self, session: Key, packet: &Packet<'_>) {
        let socket = self.core.borrow().socket_of(session, packet.namespace);
        match socket {
            Some(socket) => self.end_socket(socket, CloseReason::ClientDisconnect, false),
            None => self.break_session(session, "the client left a namespace that it had not joined"),
        }
    }

    /// A violation of the Socket.IO protocol ends the session, as in Node.
    fn break_session(&mut self, session: Key, reason: &str) {
        tracing::info!(target: super::SOCKETIO, reason, "session closed: the client broke the Socket.IO protocol");
        self.close_session(session, CloseReason::ForcedClose);
    }

    /// Ends a session: its sockets, then its transport.
    pub(crate) fn close_session(&mut self, session: Key, reason: CloseReason) {
        let (sockets, is_raw) = {
            let mut core = self.core.borrow_mut();
            let Some(entry) = core.sessions.get_mut(session) else { return };
            if std::mem::replace(&mut entry.is_over, true) {
                return;
            }
            let endpoint = entry.endpoint;
            tracing::debug!(target: super::ENGINEIO, %reason, "session closed");
            if reason == CloseReason::SlowConsumer {
                core.counters.slow_consumers_closed.add(1);
                core.abandon_outbox(session);
            }
            (core.sockets_of(session), core.endpoint(endpoint).is_raw)
        };
        for socket in sockets {
            self.end_socket(socket, reason, reason == CloseReason::ServerDisconnect);
        }
        if is_raw {
            self.engine_closed(session, reason);
        }
        self.core.borrow_mut().end_transport(session, reason);
    }

    /// Ends one socket. Its disconnect handler runs once, after everything that came before.
    pub(crate) fn end_socket(&mut self, socket_key: Key, reason: CloseReason, must_tell: bool) {
        {
            let mut core = self.core.borrow_mut();
            let Some(state) = core.sockets.get(socket_key).map(|socket| socket.state) else { return };
            if state == SocketState::Closed {
                core.forget_lost(socket_key);
                return;
            }
            if must_tell {
                core.send_disconnect(socket_key);
            }
            core.detach_socket(socket_key);
            if state == SocketState::Connecting {
                if !core.is_restored_here(socket_key) || !core.lose(socket_key, reason) {
                    core.remove_socket(socket_key);
                }
                return;
            }
            let Some(socket) = core.sockets.get_mut(socket_key) else { return };
            if socket.is_busy {
                socket.extra_mut().waiting.push_back(Waiting::Disconnect(reason));
                // The handler may be waiting for one of these answers: it must not until `ack_timeout`.
                for ack in core.take_acks(socket_key) {
                    core.deferred.push(Deferred::FailAck(ack, AckError::Disconnected));
                }
                return;
            }
        }
        self.finish_socket(socket_key, reason);
    }

    /// The last of a socket: its disconnect handler, with the rooms still there; then nothing is left of it.
    fn finish_socket(&mut self, socket_key: Key, reason: CloseReason) {
        if let Some(socket) = Socket::of(&self.core, socket_key) {
            let handlers = self.handlers_of(&socket);
            if let Some(on_disconnect) = &handlers.disconnect {
                let mut cx = Context::new(socket, "disconnect", Args::default(), None);
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| on_disconnect(&mut cx, reason))) {
                    tracing::error!(target: super::SOCKETIO, message = %panic_message(&*panic), "a disconnect handler panicked");
                    self.core.borrow_mut().counters.handler_panics.add(1);
                }
            }
        }
        let acks = self.core.borrow_mut().take_acks(socket_key);
        for ack in acks {
            self.fail_ack(ack, AckError::Disconnected);
        }
        let mut core = self.core.borrow_mut();
        if !core.lose(socket_key, reason) {
            core.remove_socket(socket_key);
        }
    }

    /// Takes up what waited behind an asynchronous handler, until another one starts.
    pub(crate) fn run_waiting(&mut self, socket: Key) {
        // A handler of this very loop was done at once: the loop goes on by itself, so the stack does not grow.
        if self.running == Some(socket) {
            return;
        }
        let outer = self.running.replace(socket);
        loop {
            let next = self.core.borrow_mut().next_waiting(socket);
            match next {
                None => break,
                Some(Waiting::Event { payload, id, attachments }) => {
                    self.dispatch(socket, &payload, id, &attachments);
                }
                Some(Waiting::Disconnect(reason)) => self.finish_socket(socket, reason),
            }
        }
        self.running = outer;
    }

    /// A session's deadline has come. `stall` is how late this shard is.
    pub(crate) fn session_timeout(&mut self, session_key: Key, armed: Time, stall: std::time::Duration) {
        let verdict = {
            let mut core = self.core.borrow_mut();
            let Core { sessions, endpoints, now, .. } = &mut *core;
            let (found, now) = (sessions.get_mut(session_key), *now);
            let Some(session) = found.filter(|session| session.armed == armed) else { return };
            let times = endpoints[usize::from(session.endpoint)].heartbeat_times();
            session.armed = Time::NEVER;
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
                tracing::debug!(target: super::ENGINEIO, "upgrade given up: it took longer than upgrade_timeout");
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
            Some(reason) => self.close_session(session_key, reason),
            None => self.core.borrow_mut().arm_session(session_key),
        }
    }
}

impl Core {
    /// The session's socket in a namespace, by name.
    fn socket_of(&self, session: Key, namespace: &str) -> Option<Key> {
        let session = self.sessions.get(session)?;
        session.socket_in(self.namespaces.find(session.endpoint, namespace)?)
    }

    /// The number of the namespace that a client asks for. One that a pattern makes gets its first member at once.
    fn open_namespace(&mut self, session: Key, name: &str) -> Result<u16, Refused> {
        let Some(session) = self.sessions.get(session) else { return Err(Refused::new("Invalid namespace")) };
        let (endpoint, joined) = (session.endpoint, session.sockets.len());
        let here = self.namespaces.find(endpoint, name);
        let is_registered = here.is_some_and(|number| !self.namespaces[number].is_made);
        if joined >= NAMESPACES_PER_SESSION_MAX && !is_registered {
            tracing::info!(
                target: super::SOCKETIO,
                namespace = name,
                "refused: a session may be in {NAMESPACES_PER_SESSION_MAX} namespaces of patterns"
            );
            return Err(Refused::new("Too many namespaces"));
        }
        self.namespaces.open(endpoint, name).map_err(|error| match error {
            NamespaceError::Unknown => Refused::new("Invalid namespace"),
            NamespaceError::Full => {
                let namespaces_max = self.config.namespaces_max;
                tracing::warn!(target: super::SOCKETIO, namespace = name, namespaces_max, "refused: namespaces_max is reached");
                Refused::new("Too many namespaces")
            }
        })
    }

    /// What comes next behind an asynchronous handler, unless one runs.
    fn next_waiting(&mut self, key: Key) -> Option<Waiting> {
        let socket = self.sockets.get_mut(key).filter(|socket| !socket.is_busy)?;
        let extra = socket.extra.as_mut()?;
        let next = extra.waiting.pop_front()?;
        extra.waiting_bytes = extra.waiting_bytes.saturating_sub(next.len_bytes());
        Some(next)
    }

    fn add_socket(&mut self, session: Key, namespace: u16) -> Key {
        let sid = self.socket_sid(session, namespace);
        let key = self.sockets.insert(SocketEntry::new(sid, namespace, session));
        let Core { socket_ids, sockets, .. } = &mut *self;
        socket_ids.insert(&sid, key.index, |place| sockets.at(place).map(|socket| socket.sid));
        self.namespaces[namespace].members.insert(key.index);
        if let Some(session) = self.sessions.get_mut(session) {
            session.sockets.push((namespace, key));
        }
        self.begin_keeping(key);
        key
    }

    /// Lets a socket in, now or once what it has missed is here.
    fn accept_socket(&mut self, key: Key) {
        if !self.must_await_missed(key) {
            self.open_socket(key);
        }
    }

    /// CONNECT is answered first, then follows what the connect handler sent. What was missed goes before it, as in Node.
    pub(crate) fn open_socket(&mut self, key: Key) {
        let has_lost_missed = self.has_lost_missed(key);
        let Some(socket) = self.sockets.get_mut(key) else { return };
        if socket.state != SocketState::Connecting {
            return;
        }
        if has_lost_missed {
            let session = socket.session;
            return self.deferred.push(Deferred::CloseSession(session, CloseReason::TransportError));
        }
        socket.state = SocketState::Open;
        let (session, sid, namespace) = (socket.session, socket.sid, socket.namespace);
        let mut held = socket.extra.as_mut().map(|extra| std::mem::take(&mut extra.held)).unwrap_or_default();
        let place = self.websocket_place(session);
        let wire = self.sessions.get(session).map(|session| session.wire).unwrap_or_default();
        if let Some(socket) = self.sockets.get_mut(key) {
            socket.connection = place;
            socket.wire = wire;
        }
        self.namespaces[namespace].open_sockets += 1;
        self.join_client_id(key);
        for frame in self.take_missed(key) {
            self.send_frames(session, frame.to_vec());
        }
        self.send_connect(key, session, namespace, sid);
        if let Some(session) = self.sessions.get_mut(session) {
            session.connect_by = Time::NEVER;
        }
        self.counters.sockets.add(1);
        while let Some(front) = held.front() {
            let frames = front.to_vec();
            held.advance(frames.len(), &mut self.buffers);
            self.send_frames(session, frames);
        }
    }

    pub(crate) fn refuse_socket(&mut self, key: Key, refused: &Refused) {
        let Some(socket) = self.sockets.get(key) else { return };
        let (session, namespace) = (socket.session, socket.namespace);
        let namespace = Rc::clone(&self.namespaces[namespace].namespace);
        self.send_connect_error(session, &namespace.name, refused);
        self.detach_socket(key);
        self.remove_socket(key);
    }

    /// Tells the peer that a socket is over.
    fn send_disconnect(&mut self, key: Key) {
        let Some(socket) = self.sockets.get(key) else { return };
        let (session, namespace) = (socket.session, socket.namespace);
        let namespace = Rc::clone(&self.namespaces[namespace].namespace);
        self.send_message(session, |out| encode::encode_disconnect(out, &namespace.name));
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

    /// From here on nothing reaches the socket's peer.
    fn detach_socket(&mut self, key: Key) {
        let Some(socket) = self.sockets.get_mut(key) else { return };
        let (sid, was_open) = (socket.sid, socket.state == SocketState::Open);
        if was_open {
            self.counters.sockets.subtract(1);
            self.namespaces[socket.namespace].open_sockets -= 1;
        }
        socket.state = SocketState::Closed;
        socket.connection = NOWHERE;
        let (session, namespace) = (socket.session, socket.namespace);
        if let Some(session) = self.sessions.get_mut(session) {
            session.sockets.retain(|(_, socket)| *socket != key);
        }
        self.forget_parked(session, namespace);
        self.forget_receiver(key, sid, was_open);
    }

    pub(crate) fn remove_socket(&mut self, key: Key) {
        self.end_keeping(key);
        self.leave_all(key);
        // A socket that was never let in may have been asked something, too.
        for ack in self.take_acks(key) {
            self.deferred.push(Deferred::FailAck(ack, AckError::Disconnected));
        }
        let Some(mut socket) = self.sockets.remove(key) else { return };
        if let Some(extra) = socket.extra.take().filter(|extra| !extra.values.is_empty()) {
            self.deferred.push(Deferred::Discard(extra));
        }
        self.socket_ids.remove(&socket.sid, key.index);
        self.namespaces[socket.namespace].members.remove(&key.index);
        self.namespaces.release(socket.namespace);
    }

    /// A peer that does not read gets nothing more: what it is owed is forgotten.
    fn abandon_outbox(&mut self, session: Key) {
        let Core { sessions, connections, buffers, owed, .. } = &mut *self;
        let Some(session) = sessions.get_mut(session) else { return };
        owed.remove(session.backlog.len());
        session.backlog.clear(buffers);
        if let crate::shard::session::Link::WebSocket(key) = session.link
            && connections.get(key).is_some()
        {
            self.drop_connection(key);
        }
    }
}

/// Asks who wants to see every event, then the event's own handler.
fn handle_event(handlers: &NamespaceHandlers, cx: &mut Context<'_>) -> Result<Flow, HandlerError> {
    let args = cx.args();
    handlers.before.iter().try_for_each(|check| check(cx, args))?;
    match handlers.events.get(cx.event()).or(handlers.any.as_ref()) {
        Some(handler) => handler(cx, args),
        None => {
            let (event, namespace) = (Shown(cx.event()), cx.namespace());
            tracing::debug!(?event, namespace, "no handler for this event");
            Ok(Flow::Done)
        }
    }
}

/// What a panic said.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> Cow<'static, str> {
    if let Some(text) = panic.downcast_ref::<&'static str>() {
        Cow::Borrowed(text)
    } else if let Some(text) = panic.downcast_ref::<String>() {
        Cow::Owned(text.clone())
    } else {
        Cow::Borrowed("(no message)")
    }
}
