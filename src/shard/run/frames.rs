//! WebSocket frames on a connection, and whose they are: a session's, an upgrade's probe's, or a raw route's.

use crate::base::log::ENGINEIO;
use crate::base::slab::Key;
use crate::protocol::engineio::packet::{self, Packet};
use crate::protocol::engineio::payload3;
use crate::protocol::websocket::close::{CloseCode, CloseReason as PeerClose};
use crate::protocol::websocket::deflate::InflateLimits;
use crate::protocol::websocket::frame::{self, FrameError, Opcode};
use crate::protocol::websocket::message::{Incoming, MessageLimits};
use crate::shard::run::Shard;
use crate::shard::table::Tables;
use crate::shard::value::connection::{Kind, Role, Step};
use crate::shard::value::env::Env;
use crate::shard::value::form::Form;
use crate::shard::value::session::CloseReason;

/// A role without what it owns.
#[derive(Clone, Copy)]
enum Whose {
    Session(Key),
    Probe(Key),
    Raw,
}

impl Shard {
    /// Reads one frame from the start of `input` and does what it says.
    pub(crate) fn consume_frame(&mut self, key: Key, input: &mut [u8]) -> Step {
        let (mut decoder, whose, limits) = {
            let mut core = self.core.borrow_mut();
            let Tables { connections, env: Env { endpoints, .. }, .. } = &mut core.tables;
            let Some(connection) = connections.get_mut(key) else { return Step::Wait };
            let Kind::WebSocket(websocket) = &mut connection.kind else { return Step::Wait };
            let whose = match websocket.role {
                Role::Session(session) => Whose::Session(session),
                Role::Probe(session) => Whose::Probe(session),
                Role::Raw(_) => Whose::Raw,
            };
            let options = &endpoints[usize::from(websocket.endpoint)].options;
            let (payload_bytes_max, fragments_max) = (options.max_http_buffer_size, options.fragments_max);
            let may_be_compressed = websocket.form.has(Form::DEFLATE);
            let limits =
                MessageLimits { payload_bytes_max, fragments_max, must_be_masked: true, may_be_compressed };
            (std::mem::take(&mut websocket.decoder), whose, limits)
        };
        let was_within_message = decoder.is_within_message();
        let decoded = decoder.next(input, limits);
        let is_fragment = was_within_message || decoder.is_within_message();
        // A decoder between two messages is as good as the new one that is in its place.
        if is_fragment {
            self.core.borrow_mut().tables.put_back(key, decoder);
        }
        match decoded {
            Ok(None) => Step::Wait,
            Ok(Some((Incoming::Compressed { is_text, payload }, used))) => {
                self.receive_compressed((key, whose), is_text, &payload, limits.payload_bytes_max);
                Step::Used(used)
            }
            Ok(Some((incoming, used))) => {
                self.receive_frame(key, whose, incoming);
                Step::Used(used)
            }
            Err(error) => {
                self.break_websocket(key, whose, error);
                Step::Used(0)
            }
        }
    }

    /// Inflates a message, then it is like any other.
    #[cold]
    fn receive_compressed(
        &mut self,
        (key, whose): (Key, Whose),
        is_text: bool,
        payload: &[u8],
        bytes_max: usize,
    ) {
        let (mut inflater, mut inflated, limits) = {
            let mut core = self.core.borrow_mut();
            let debt = core.tables.websocket_mut(key).map_or(0, |websocket| websocket.inflate_debt as usize);
            let endpoint = core.tables.endpoint_of_wire(key);
            let ratio_max = core.tables.endpoint(endpoint).settings.inflate_ratio_max;
            let limits = InflateLimits { bytes_max, ratio_max, debt };
            (std::mem::take(&mut core.tables.pools.inflater), core.tables.pools.buffers.take(), limits)
        };
        let message = inflater.get_or_insert_default().message(is_text, payload, limits, &mut inflated);
        {
            let mut core = self.core.borrow_mut();
            core.tables.pools.inflater = inflater;
            let inflated_len = match &message {
                Ok(Incoming::Text(text)) => text.len(),
                Ok(Incoming::Binary(bytes)) => bytes.len(),
                _ => 0,
            };
            let debt = limits.debt_after(payload.len(), inflated_len);
            if let Some(websocket) = core.tables.websocket_mut(key) {
                websocket.inflate_debt = u32::try_from(debt).unwrap_or(u32::MAX);
            }
        }
        match message {
            Ok(incoming) => self.receive_frame(key, whose, incoming),
            Err(error) => self.break_websocket(key, whose, error),
        }
        let mut core = self.core.borrow_mut();
        core.tables.charge_bytes(key, inflated.len());
        core.tables.pools.buffers.give(inflated);
    }

    fn receive_frame(&mut self, key: Key, whose: Whose, incoming: Incoming<'_>) {
        let (len, is_message) = match &incoming {
            Incoming::Text(text) => (text.len(), true),
            Incoming::Binary(bytes) => (bytes.len(), true),
            Incoming::Ping(payload) | Incoming::Pong(payload) => (payload.len(), false),
            Incoming::Close(_) | Incoming::Fragment | Incoming::Compressed { .. } => (0, false),
        };
        let is_taken = match whose {
            Whose::Raw => {
                self.raw_seen(key);
                self.pace_raw(key, len, is_message)
            }
            Whose::Session(session) | Whose::Probe(session) => {
                self.end_if_due(session);
                self.pace(key, session, len, is_message)
            }
        };
        if !is_taken {
            return;
        }
        match (incoming, whose) {
            (Incoming::Text(text), Whose::Session(session)) => self.receive_text(session, &text),
            (Incoming::Binary(bytes), Whose::Session(session)) => self.receive_binary(session, &bytes),
            (Incoming::Text(text), Whose::Probe(session)) => self.receive_probe(key, session, &text),
            (Incoming::Binary(_), Whose::Probe(session)) => self.fail_probe(key, session),
            (Incoming::Text(text), Whose::Raw) => self.raw_text(key, &text),
            (Incoming::Binary(bytes), Whose::Raw) => self.raw_binary(key, &bytes),
            (Incoming::Ping(payload), _) => {
                let mut core = self.core.borrow_mut();
                if !core.tables.is_owed_much(key) {
                    core.tables.write_to(key, |out| frame::append(out, Opcode::Pong, payload));
                }
            }
            (Incoming::Close(reason), _) => self.close_by_peer(key, whose, reason),
            (Incoming::Pong(_) | Incoming::Fragment | Incoming::Compressed { .. }, _) => {}
        }
    }

    /// A text frame on a session's own WebSocket.
    #[inline]
    fn receive_text(&mut self, session: Key, text: &str) {
        let packet = match packet::decode(text) {
            Ok(Packet::Base64(_)) if self.core.borrow().tables.is_revision_3(session) => {
                payload3::decode(text)
            }
            packet => packet,
        };
        match packet {
            Ok(packet) => self.receive_packet(session, packet),
            Err(_) => self.close_session(session, CloseReason::ParseError),
        }
    }

    fn close_by_peer(&mut self, key: Key, whose: Whose, reason: Option<PeerClose<'_>>) {
        let code = reason.and_then(|reason| CloseCode::new(reason.code));
        self.core.borrow_mut().tables.close_websocket(key, code, "");
        match whose {
            Whose::Session(session) => self.close_session(session, CloseReason::TransportClose),
            Whose::Probe(session) => self.core.borrow_mut().tables.forget_upgrade(session, key),
            Whose::Raw => self.raw_ended(key),
        }
    }

    /// The peer broke RFC 6455: say with which code, and close.
    fn break_websocket(&mut self, key: Key, whose: Whose, error: FrameError) {
        tracing::info!(target: ENGINEIO, code = error.close_code().number(), reason = error.reason(), "WebSocket closed");
        self.core.borrow_mut().tables.close_websocket(key, Some(error.close_code()), error.reason());
        match whose {
            Whose::Session(session) => self.close_session(session, CloseReason::TransportError),
            Whose::Probe(session) => self.core.borrow_mut().tables.forget_upgrade(session, key),
            Whose::Raw => self.raw_ended(key),
        }
    }
}
