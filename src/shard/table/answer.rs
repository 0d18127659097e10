//! How an HTTP answer leaves: every one passes here.

use std::time::Duration;

use crate::base::buffer::SharedFrame;
use crate::base::ids::ShardId;
use crate::base::log::ENGINEIO;
use crate::base::slab::Key;
use crate::message::peer::{Arrival, Peer};
use crate::protocol::engineio::request::{RequestError, SESSION_ELSEWHERE};
use crate::protocol::http::cors::RefusedOrigin;
use crate::protocol::http::date::{HTTP_DATE_BYTES, http_date};
use crate::protocol::http::head::{Head, Version};
use crate::protocol::http::response::{Body, Framing, Length, Response};
use crate::protocol::http::status::Status;
use crate::shard::table::Tables;
use crate::shard::table::switching::validate_handshake;
use crate::shard::value::connection::{ANSWER_PATIENCE, Connection, Ending, RequestFraming};
use crate::shard::value::content::{Content, Follows};
use crate::shard::value::effect::{Deferred, Output};
use crate::shard::value::files::FileStream;
use crate::shard::value::kinds::RequestRefused;
use crate::shard::value::pools::Pools;
use crate::shard::value::trace::url_without_secrets;

/// Why a request may not go on.
#[derive(Debug)]
pub(crate) enum Refusal {
    Request(RequestError),
    /// The session is of another process.
    Elsewhere,
    Origin(Box<RefusedOrigin>),
    /// `allow_request` said no, with this message; empty for the usual one.
    Rule(String),
}

impl From<RequestError> for Refusal {
    fn from(error: RequestError) -> Refusal {
        Refusal::Request(error)
    }
}

impl Tables {
    pub(crate) fn refuse_engine(&mut self, key: Key, head: &Head<'_, '_>, refusal: &Refusal) {
        self.count_refused(match refusal {
            Refusal::Request(error) => (*error).into(),
            Refusal::Elsewhere => RequestRefused::Elsewhere,
            Refusal::Origin(_) => RequestRefused::Origin,
            Refusal::Rule(_) => RequestRefused::Rule,
        });
        if let Some(endpoint) = self.http_mut(key).map(|http| http.framing.endpoint) {
            self.endpoint(endpoint).counters.requests_refused.add(1);
        }
        let peer = self.connections.get(key).map(|connection| connection.peer);
        let (error, message) = match refusal {
            Refusal::Request(error) => (*error, error.message()),
            Refusal::Elsewhere => {
                self.warn_of_stray(peer);
                (RequestError::SessionUnknown, SESSION_ELSEWHERE)
            }
            Refusal::Origin(refused) => {
                tracing::warn!(target: ENGINEIO, peer = peer.map(tracing::field::display), "{refused}");
                (RequestError::BadRequest, RequestError::BadRequest.message())
            }
            Refusal::Rule(message) if message.is_empty() => {
                (RequestError::Forbidden, RequestError::Forbidden.message())
            }
            Refusal::Rule(message) => (RequestError::Forbidden, message.as_str()),
        };
        if !matches!(refusal, Refusal::Origin(_)) {
            tracing::info!(
                target: ENGINEIO,
                peer = peer.map(tracing::field::display),
                url = url_without_secrets(head),
                refused = message,
                advice = error.advice(),
                "Engine.IO request refused"
            );
        }
        let status = Status::new(error.status()).unwrap_or(Status::BAD_REQUEST);
        if head.offers_upgrade("websocket") {
            // Text, because a rule's message may quote the request.
            let mut response = match refusal {
                Refusal::Rule(_) => Response::text(message.to_owned()),
                Refusal::Elsewhere => Response::html(SESSION_ELSEWHERE),
                _ => Response::html(error.message()),
            }
            .with_status(status);
            if let Err(fault) = validate_handshake(head)
                && let Some((name, value)) = fault.header()
            {
                response = response.header(name, value);
            }
            self.respond_and_close(key, &response);
            return;
        }
        if error == RequestError::SessionUnknown
            && let Some(http) = self.http_mut(key).filter(|http| http.has_moved)
        {
            // It was handed over for an id that nobody has: whoever makes ids up connects anew for each.
            http.framing.keep_alive = false;
        }
        let response = Response::new(status)
            .header("content-type", "application/json")
            .body(error.body(message).into_bytes());
        self.respond(key, &response);
    }

    /// Says once in a while that clients do not stay with one process.
    fn warn_of_stray(&mut self, peer: Option<Peer>) {
        if self.env.now < self.env.stray_due {
            return;
        }
        self.env.stray_due = self.env.now + STRAY_WARNING_INTERVAL;
        tracing::warn!(
            target: ENGINEIO,
            peer = peer.map(tracing::field::display),
            "a request is for a session of another process: a client that polls must reach the same process each time. Have the load \
             balancer do that, in nginx by ip_hash or by a cookie (docs/behind-nginx.md), or have clients use WebSocket only. After the restart of a process a few such requests are as they should be. Said once an hour"
        );
    }
}

/// How often at most a shard warns of requests for sessions of other processes.
const STRAY_WARNING_INTERVAL: Duration = Duration::from_secs(3600);

/// Bodies of routes and polls beyond this are sent as they are.
const CODED_BODY_BYTES_MAX: usize = 1024 * 1024;

/// Bodies up to this are compressed on the shard's thread, within a millisecond; longer ones on the thread of files, so that
/// other clients do not wait for them.
const CODED_AT_ONCE_BYTES_MAX: usize = 64 * 1024;

impl Tables {
    /// Sends an answer; the connection goes on with its next request, if it may. Every answer leaves by here or by `send_answer`,
    /// whoever gives it and whenever. A long body that is to be compressed is compressed elsewhere first.
    pub(crate) fn respond(&mut self, key: Key, response: &Response) {
        let Some(http) = self.http_mut(key) else { return };
        http.session = None;
        let RequestFraming { coding, endpoint, .. } = http.framing;
        let is_negotiated = self.endpoint(endpoint).settings.http_compression
            && response.may_be_coded(self.env.config.compression_threshold..=CODED_BODY_BYTES_MAX);
        let plain = Content::plain(response, is_negotiated);
        let Some(name) = coding.name().filter(|_| is_negotiated) else {
            return self.send_answer(key, response, plain);
        };
        if plain.len > CODED_AT_ONCE_BYTES_MAX {
            return self.await_coding(key, response.clone(), coding);
        }
        let content = match self.pools.body_encoder.encode(coding, response.body_bytes()) {
            Some(coded) => Content {
                len: coded.len(),
                body: Body::Shared(SharedFrame::new(coded)),
                coding: Some(name),
                ..plain
            },
            None => plain,
        };
        self.send_answer(key, response, content);
    }

    /// Sends an answer whose body is settled, and tells the page that asked what its endpoint's rule of origins says. A connection
    /// that is ending takes no more answers.
    pub(crate) fn send_answer(&mut self, key: Key, response: &Response, content: Content) {
        let mut date = [0; HTTP_DATE_BYTES];
        http_date(self.unix_seconds(), &mut date);
        let is_shutting_down = self.env.is_shutting_down;
        let Some(connection) = self.connections.get_mut(key) else { return };
        let is_open = connection.ending == Ending::Open;
        let Some(http) = connection.http_mut() else { return };
        http.is_answering = false;
        http.session = None;
        http.has_served = true;
        http.has_moved = false;
        let may_go_on = !http.moves.are_spent();
        let grant = http.grant.take();
        if !is_open {
            return;
        }
        http.framing.keep_alive &= may_go_on && !is_shutting_down;
        let RequestFraming { is_http10, keep_alive, is_head, .. } = http.framing;
        let Content { body, len, coding, is_negotiated, rest, from, follows } = content;
        let is_body_sent = response.status().may_have_body() && !is_head;
        let rest = rest.filter(|_| is_body_sent);
        let is_whole = rest.is_none() && (follows.is_none() || !is_body_sent);
        http.is_answering = !is_whole;
        http.stream = rest.map(|rest| Box::new(FileStream::new((rest, from), body.bytes().len(), len)));
        let framing = Framing {
            version: if is_http10 { Version::Http10 } else { Version::Http11 },
            keep_alive,
            date: std::str::from_utf8(&date).ok(),
            grant: grant.as_deref(),
            is_negotiated,
            coding,
            length: match follows {
                None | Some(Follows::Bytes) => Length::Bytes(len),
                Some(Follows::Unknown) if is_http10 => Length::UntilClose,
                Some(Follows::Unknown) => Length::Chunked,
            },
        };
        self.write_to(key, |out| response.encode_head(out, framing));
        if is_body_sent {
            self.queue_body(key, &body);
        }
        if is_whole {
            self.finish_answer(key);
        } else if follows.is_none() {
            self.arm_connection(key, ANSWER_PATIENCE);
            self.pump_file(key);
        }
    }

    /// Queues a part of an answer's body.
    pub(crate) fn queue_body(&mut self, key: Key, body: &Body) {
        self.mark_dirty(key);
        let Tables { connections, owed, pools: Pools { buffers, .. }, .. } = self;
        let Some(connection) = connections.get_mut(key) else { return };
        if connection.ending == Ending::Open {
            connection.outbox.push_body(body, buffers);
            owed.add_own(body.bytes().len());
        }
    }

    /// The last byte of an answer is queued: the connection goes on with its next request, if it may.
    pub(crate) fn finish_answer(&mut self, key: Key) {
        let timeout = self.env.config.keep_alive_timeout;
        let Some(http) = self.http_mut(key) else { return };
        http.is_answering = false;
        if http.framing.keep_alive {
            self.arm_connection(key, timeout);
            self.effects.deferred.push(Deferred::Resume(key));
        } else {
            self.close_after_flush(key);
        }
    }

    /// Sends an answer after which the connection closes.
    pub(crate) fn respond_and_close(&mut self, key: Key, response: &Response) {
        if let Some(http) = self.http_mut(key) {
            http.framing.keep_alive = false;
            self.respond(key, response);
        }
    }

    /// Sends a connection to the shard that owns its session. Answers to earlier pipelined requests travel along.
    pub(crate) fn hand_off(&mut self, key: Key, to: ShardId, unread: &[u8]) {
        let Some(mut connection) = self.connections.remove(key) else { return };
        self.let_go_of(&connection);
        self.owed.remove(connection.outbox.len());
        self.intake.partial_bytes -= connection.partial as usize;
        self.uncount_connection(connection.door);
        self.env.counters.handoffs.add(1);
        let mut moves = connection.http_mut().map(|http| http.moves).unwrap_or_default();
        let is_ours = connection.peer.ip().is_none_or(|address| address.to_canonical().is_loopback());
        if !is_ours && !self.env.trusted_proxies.trusts(connection.peer.ip()) {
            moves.spend(self.env.now);
        }
        let Connection { outbox, peer, door, is_secure, .. } = connection;
        let arrival = Arrival { peer, door, moves, is_secure };
        self.effects.outputs.push(Output::Handoff {
            connection: key,
            to,
            arrival,
            outbox,
            unread: unread.to_vec(),
        });
    }
}
