//! From an Engine.IO packet to a handler: sessions' messages, events and acks. How sockets connect is in `connect`, how
//! they end in `ends`, how events wait in `waiting`.

use bytes::Bytes;

use crate::base::slab::Key;
use crate::config::Parser;
use crate::protocol::engineio::packet::Packet as EnginePacket;
use crate::protocol::engineio::payload;
use crate::protocol::engineio::session::{Step, Via, step};
use crate::protocol::socketio::attachments::PendingBinary;
use crate::protocol::socketio::event::Args;
use crate::protocol::socketio::msgpack;
use crate::protocol::socketio::packet::{self, Packet, PacketKind};
use crate::shard::run::Shard;
use crate::shard::table::Tables;
use crate::shard::user::websocket::Message;
use crate::shard::value::env::Env;
use crate::shard::value::form::Form;
use crate::shard::value::session::{CloseReason, Left, Link};
use crate::shard::value::socket::SocketState;
use crate::shard::value::trace::{trace_received, trace_received_binary};

impl Shard {
    /// One Engine.IO packet of a session's own transport.
    pub(crate) fn receive_packet(&mut self, session_key: Key, packet: EnginePacket<'_>) {
        let step = {
            let mut core = self.core.borrow_mut();
            let Tables { sessions, env: Env { endpoints, now, counters, .. }, .. } = &mut core.tables;
            let (Some(session), now) = (sessions.get_mut(session_key), *now) else { return };
            if session.is_over || session.is_ending {
                return;
            }
            let times = endpoints[usize::from(session.endpoint)].heartbeat_times();
            if session.is_traced {
                trace_received(&session.sid, now, packet);
            }
            let step = step(session.poll_form.revision, Via::Transport, packet);
            let is_message = matches!(step, Step::Message(_) | Step::Base64(_) | Step::Binary(_));
            let must_slow = !is_message && session.pace.is_beyond();
            match step {
                Step::Pong => {
                    let took = session.heartbeat.receive_pong(times, now);
                    let is_websocket = matches!(session.link, Link::WebSocket(_));
                    if let Some(took) = took {
                        counters.meters.ping[usize::from(is_websocket)].record_nanos(took.as_nanos() as u64);
                    }
                }
                Step::AnswerPing => session.heartbeat.receive_ping(times, now),
                _ => session.heartbeat.receive_packet(times, now),
            }
            if must_slow {
                core.tables.slow_session(session_key);
            }
            step
        };
        let session = session_key;
        match step {
            Step::Message(text) => self.receive_message(session, text),
            Step::Base64(text) => match payload::decode_base64(text) {
                Some(bytes) => self.receive_attachment(session, Bytes::from(bytes)),
                None => self.close_session(session, CloseReason::ParseError),
            },
            Step::Binary(bytes) => self.receive_attachment(session, Bytes::copy_from_slice(bytes)),
            Step::Pong => self.core.borrow_mut().tables.arm_session(session),
            Step::AnswerPing => self.core.borrow_mut().tables.send_packet(session, "3"),
            Step::Close => self.close_session(session, CloseReason::TransportClose),
            Step::WrongHeartbeat => self.close_session(session, CloseReason::TransportError),
            Step::Ignore | Step::AnswerProbe | Step::Upgrade | Step::FailProbe => {}
        }
    }

    /// A binary frame of a session's own WebSocket.
    pub(crate) fn receive_binary(&mut self, session: Key, bytes: &[u8]) {
        {
            let mut core = self.core.borrow_mut();
            let Tables { sessions, env: Env { endpoints, now, .. }, .. } = &mut core.tables;
            let (Some(session), now) = (sessions.get_mut(session), *now) else { return };
            if session.is_over || session.is_ending {
                return;
            }
            if session.is_traced {
                trace_received_binary(&session.sid, now, bytes);
            }
            session.heartbeat.receive_packet(endpoints[usize::from(session.endpoint)].heartbeat_times(), now);
        }
        let message = self.core.borrow().tables.untyped(session, bytes);
        match message {
            Some(message) => self.receive_attachment(session, Bytes::copy_from_slice(message)),
            None => self.close_session(session, CloseReason::ParseError),
        }
    }

    fn receive_message(&mut self, session: Key, text: &str) {
        let (is_binary_due, is_raw) = {
            let core = self.core.borrow();
            let Some(session) = core.tables.sessions.get(session) else { return };
            let is_binary_due = session.pending_binary.is_some() || session.form.has(Form::MSGPACK);
            (is_binary_due, core.tables.endpoint(session.endpoint).is_raw)
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
        if !matches!(packet.kind, PacketKind::Event | PacketKind::BinaryEvent)
            && self.core.borrow().tables.is_beyond(session)
        {
            self.core.borrow_mut().tables.slow_session(session);
        }
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
        if let Some(session) = self.core.borrow_mut().tables.sessions.get_mut(session) {
            session.form = session.form | Form::MSGPACK;
        }
        self.receive_whole(session, &message.packet(), &message.attachments);
    }

    fn await_attachments(&mut self, session: Key, packet: &Packet<'_>) {
        let pending =
            PendingBinary::new(packet.kind, packet.namespace, packet.id, packet.payload, packet.attachments);
        let mut core = self.core.borrow_mut();
        if let Some(session) = core.tables.sessions.get_mut(session) {
            session.pending_binary = Some(Box::new(pending));
        }
        core.tables.count_session_partial(session);
    }

    /// A binary message: an attachment, or a packet of the msgpack parser.
    fn receive_attachment(&mut self, session: Key, bytes: Bytes) {
        let complete = {
            let mut core = self.core.borrow_mut();
            let Tables { sessions, env: Env { endpoints, .. }, .. } = &mut core.tables;
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
            let is_auto = endpoint.settings.parser == Parser::Auto;
            let is_first = is_auto && entry.sockets.is_empty() && entry.pending_binary.is_none();
            if is_first || entry.form.has(Form::MSGPACK) {
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
            core.tables.count_session_partial(session);
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
        let Some(socket) = self.core.borrow().tables.socket_of(session, packet.namespace) else {
            let excused = if kind == PacketKind::Ack { Left::ByItself } else { Left::SentAway };
            let reason = "a packet came for a namespace that the client has not joined";
            return self.receive_stray(session, excused, reason);
        };
        if kind == PacketKind::Event && self.drops_event(session) {
            return;
        }
        let (is_waiting, is_sighted) = {
            let core = self.core.borrow();
            let Some(socket) = core.tables.sockets.get(socket).filter(|socket| !socket.is_ending) else {
                return;
            };
            if kind == PacketKind::Event && !packet.payload.is_empty() {
                core.tables.env.counters.events_received.add(1);
                let namespace = &core.tables.namespaces[socket.namespace].namespace;
                core.tables.endpoint(namespace.endpoint).counters.events_received.add(1);
                if let Some(namespace) = core.tables.meters().namespace(namespace.setup) {
                    namespace.events_received.add(1);
                }
            }
            let is_waiting =
                socket.is_busy || socket.is_full || socket.state != SocketState::Open || socket.has_waiting();
            (is_waiting, core.tables.sightings.is_on)
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
        if is_sighted {
            self.core.borrow_mut().tables.saw_received(socket, packet.payload, attachments);
        }
        if is_waiting {
            self.postpone(session, socket, packet, attachments);
        } else {
            self.dispatch(socket, packet.payload, packet.id, attachments);
        }
    }
}
