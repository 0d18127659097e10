//! HTTP requests on a connection: when one is whole, who answers it, and how an answer leaves.

use crate::base::buffer::SharedFrame;
use crate::base::ids::ShardId;
use crate::base::log::ENGINEIO;
use crate::base::slab::Key;
use crate::message::files::FileHandle;
use crate::message::peer::Arrival;
use crate::protocol::http::chunked::ChunkedDecoder;
use crate::protocol::http::coding::Coding;
use crate::protocol::http::cors_pattern;
use crate::protocol::http::date::{HTTP_DATE_BYTES, http_date};
use crate::protocol::http::error::HttpError;
use crate::protocol::http::head::{BodyLength, Head, HeaderStorage, Version, decode_head};
use crate::protocol::http::method::Method;
use crate::protocol::http::response::{Body, CONTINUE_100, Framing, Response};
use crate::protocol::http::status::Status;
use crate::shard::connection::{ANSWER_PATIENCE, ChunkedBody, Connection, Ending, RequestFraming};
use crate::shard::core::{Core, Deferred, Output};
use crate::shard::endpoint::MAIN;
use crate::shard::files::FileStream;
use crate::shard::{Shard, Step};

/// Bodies of routes and polls beyond this are sent as they are.
const CODED_BODY_BYTES_MAX: usize = 1024 * 1024;

/// Bodies up to this are compressed on the shard's thread, within a millisecond; longer ones on the thread of files, so that
/// nobody waits for them but their client.
const CODED_AT_ONCE_BYTES_MAX: usize = 64 * 1024;

/// The body of an answer, as it goes out.
#[derive(Debug)]
pub(crate) struct Content {
    /// All of it, or its beginning.
    pub(crate) body: Body,
    /// Bytes of all of it.
    pub(crate) len: usize,
    /// The coding in which it is, as `Content-Encoding` names it.
    pub(crate) coding: Option<&'static str>,
    /// Another client may get another coding.
    pub(crate) is_negotiated: bool,
    /// What the rest is read from.
    pub(crate) rest: Option<FileHandle>,
}

impl Content {
    /// The body of a response as it is.
    pub(crate) fn plain(response: &Response, is_negotiated: bool) -> Content {
        let body = response.shared();
        Content { len: body.bytes().len(), body, coding: None, is_negotiated, rest: None }
    }
}

/// Who will answer a request.
#[derive(Debug)]
pub(crate) enum Destination {
    /// The Engine.IO endpoint with this number.
    Engine(u8),
    /// A route, a folder, or nobody.
    Site,
    /// A session of another shard: the connection goes there.
    Foreign(ShardId),
}

impl Destination {
    /// The endpoint whose rules hold; those of the site are the configuration's own.
    fn endpoint(&self) -> u8 {
        match self {
            Destination::Engine(endpoint) => *endpoint,
            Destination::Site | Destination::Foreign(_) => MAIN,
        }
    }
}

impl Shard {
    /// Reads one request from the start of `input`, answers it, and says how much it took.
    pub(crate) fn consume_http(&mut self, key: Key, input: &[u8]) -> Step {
        {
            let mut core = self.core.borrow_mut();
            if core.is_owed_much(key) {
                tracing::info!(target: ENGINEIO, "closed: requests were pipelined, and their answers not read");
                core.deferred.push(Deferred::Lost(key));
                return Step::Wait;
            }
            let Some(http) = core.http_mut(key) else { return Step::Wait };
            if http.awaits_proxy {
                return core.consume_proxy_header(key, input);
            }
            if http.is_answering || input.len() < http.needed {
                return Step::Wait;
            }
            if http.chunked.is_some() {
                drop(core);
                return self.consume_chunks(key, input);
            }
        }
        let head_bytes_max = self.core.borrow().config.head_bytes_max;
        let mut storage = HeaderStorage::new();
        match decode_head(input, head_bytes_max, &mut storage) {
            Ok(None) => Step::Wait,
            Err(error) => {
                self.core.borrow_mut().note_origin_of_partial(key, input);
                self.refuse(key, error)
            }
            Ok(Some((head, head_len))) => self.consume_request(key, &head, head_len, input),
        }
    }

    /// A whole head is there: wait for the body, or answer.
    fn consume_request(&mut self, key: Key, head: &Head<'_, '_>, head_len: usize, input: &[u8]) -> Step {
        let destination = self.destination(head);
        if let Destination::Foreign(to) = destination {
            self.core.borrow_mut().hand_off(key, to, input);
            return Step::Used(input.len());
        }
        let framing = RequestFraming {
            is_http10: head.version == Version::Http10,
            keep_alive: head.keep_alive,
            is_head: head.method == Method::Head,
            coding: Coding::choose(head.headers.get_all("accept-encoding")),
        };
        let body_bytes_max = {
            let mut core = self.core.borrow_mut();
            let body_bytes_max = core.body_bytes_max(&destination);
            core.note_origin(key, destination.endpoint(), head);
            core.note_host(key, head);
            let Some(http) = core.http_mut(key) else { return Step::Used(input.len()) };
            http.framing = framing;
            body_bytes_max
        };
        if !self.core.borrow().allowed_hosts.allows(head.host) {
            tracing::warn!(
                target: ENGINEIO,
                host = cors_pattern::shown(head.host.unwrap_or_default()),
                "refused: the request is for a host that is not in allowed_hosts; add it there if it is this server's"
            );
            self.refuse_request(key, Status::FORBIDDEN, "this host is not in allowed_hosts");
            return Step::Used(0);
        }
        match head.body {
            BodyLength::None => {
                self.answer(key, &destination, head, &[]);
                Step::Used(head_len)
            }
            BodyLength::Length(len) if len > body_bytes_max => {
                // The session whose POST it is ends with it.
                if let Destination::Engine(endpoint) = destination
                    && !self.begin_post(key, endpoint, head)
                {
                    return Step::Used(input.len());
                }
                self.refuse(key, HttpError::BodyTooLarge)
            }
            BodyLength::Length(len) => {
                let Some(body) = input.get(head_len..head_len + len) else {
                    self.await_body(key, &destination, head, head_len + len);
                    return Step::Wait;
                };
                self.answer(key, &destination, head, body);
                Step::Used(head_len + len)
            }
            BodyLength::Chunked => {
                self.await_body(key, &destination, head, 0);
                let chunked = ChunkedBody {
                    bytes_max: body_bytes_max,
                    head: input[..head_len].to_vec(),
                    decoder: ChunkedDecoder::new(),
                    body: Vec::new(),
                };
                let mut core = self.core.borrow_mut();
                if let Some(http) = core.http_mut(key) {
                    http.chunked = Some(Box::new(chunked));
                }
                core.count_partial(key);
                Step::Used(head_len)
            }
        }
    }

    fn consume_chunks(&mut self, key: Key, input: &[u8]) -> Step {
        let chunked = self.core.borrow_mut().http_mut(key).and_then(|http| http.chunked.take());
        let Some(mut chunked) = chunked else { return Step::Wait };
        match chunked.decoder.decode(input, &mut chunked.body, chunked.bytes_max) {
            Err(error) => self.refuse(key, error),
            Ok((used, false)) => {
                {
                    let mut core = self.core.borrow_mut();
                    if let Some(http) = core.http_mut(key) {
                        http.chunked = Some(chunked);
                    }
                    core.count_partial(key);
                }
                if used == 0 { Step::Wait } else { Step::Used(used) }
            }
            Ok((used, true)) => {
                self.core.borrow_mut().count_partial(key);
                let mut storage = HeaderStorage::new();
                if let Ok(Some((head, _))) = decode_head(&chunked.head, chunked.head.len(), &mut storage) {
                    let destination = self.destination(&head);
                    self.answer(key, &destination, &head, &chunked.body);
                }
                Step::Used(used)
            }
        }
    }

    fn destination(&self, head: &Head<'_, '_>) -> Destination {
        let Some(endpoint) = self.core.borrow().endpoint_at(head.path) else { return Destination::Site };
        self.foreign_owner(head.query).map_or(Destination::Engine(endpoint), Destination::Foreign)
    }

    /// The rest of a request is on its way: say so to its session and to a client that waits for our word.
    fn await_body(&mut self, key: Key, destination: &Destination, head: &Head<'_, '_>, needed: usize) {
        if let Destination::Engine(endpoint) = destination
            && !self.begin_post(key, *endpoint, head)
        {
            return;
        }
        let mut core = self.core.borrow_mut();
        let (timeout, now) = (core.config.header_timeout, core.now);
        let Some(http) = core.http_mut(key) else { return };
        http.needed = needed;
        http.body_started = now;
        let must_continue = head.expects_continue && !std::mem::replace(&mut http.is_continue_sent, true);
        core.arm_connection(key, timeout);
        if must_continue {
            core.write_to(key, |out| out.extend_from_slice(CONTINUE_100));
        }
    }

    fn answer(&mut self, key: Key, destination: &Destination, head: &Head<'_, '_>, body: &[u8]) {
        {
            let mut core = self.core.borrow_mut();
            let Some(http) = core.http_mut(key) else { return };
            http.is_answering = true;
            http.needed = 0;
            http.is_continue_sent = false;
            http.is_head_timed = false;
        }
        match destination {
            Destination::Engine(endpoint) => self.answer_engine(key, *endpoint, head, body),
            Destination::Site | Destination::Foreign(_) => self.answer_site(key, head, body),
        }
    }

    fn refuse(&mut self, key: Key, error: HttpError) -> Step {
        self.refuse_request(key, error.status(), error.reason());
        Step::Used(0)
    }

    /// Answers a request that broke the rules, and closes the connection: what follows it cannot be trusted.
    pub(crate) fn refuse_request(&mut self, key: Key, status: Status, reason: &'static str) {
        let mut core = self.core.borrow_mut();
        let peer = core.connections.get(key).map(|connection| connection.peer);
        tracing::info!(target: ENGINEIO, peer = peer.map(tracing::field::display), status = status.code(), reason, "request refused");
        core.counters.requests_refused.add(1);
        let session = core.http_mut(key).and_then(|http| http.session.take());
        core.respond_and_close(key, &Response::text(reason).with_status(status));
        // What the POST carried is lost, so its session cannot go on: the client would never learn of the gap.
        if let Some(session) = session {
            drop(core);
            self.carrier_lost(session, key);
        }
    }
}

impl Core {
    /// The endpoint that a path belongs to: of several the one with the longest path.
    pub(crate) fn endpoint_at(&self, path: &str) -> Option<u8> {
        let paths = self.endpoints.iter().map(|endpoint| endpoint.options.path.as_str());
        let found = paths.enumerate().filter(|(_, prefix)| path.starts_with(prefix));
        found.max_by_key(|(_, prefix)| prefix.len()).map(|(number, _)| number as u8)
    }

    fn body_bytes_max(&self, destination: &Destination) -> usize {
        self.endpoint(destination.endpoint()).options.max_http_buffer_size
    }

    pub(crate) fn http_mut(&mut self, key: Key) -> Option<&mut crate::shard::connection::HttpState> {
        self.connections.get_mut(key)?.http_mut()
    }

    /// Sends an answer; the connection goes on with its next request, if it may. Every answer leaves by here or by `send_answer`,
    /// whoever gives it and whenever. A long body that is to be compressed is compressed elsewhere first.
    pub(crate) fn respond(&mut self, key: Key, response: &Response) {
        let Some(http) = self.http_mut(key) else { return };
        http.session = None;
        let coding = http.framing.coding;
        let is_negotiated = self.config.http_compression
            && response.may_be_coded(self.config.compression_threshold..=CODED_BODY_BYTES_MAX);
        let plain = Content::plain(response, is_negotiated);
        let Some(name) = coding.name().filter(|_| is_negotiated) else {
            return self.send_answer(key, response, plain);
        };
        if plain.len > CODED_AT_ONCE_BYTES_MAX {
            return self.await_coding(key, response.clone(), coding);
        }
        let content = match self.body_encoder.encode(coding, response.body_bytes()) {
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
        let is_shutting_down = self.is_shutting_down;
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
        let Content { body, len, coding, is_negotiated, rest } = content;
        let is_body_sent = response.status().may_have_body() && !is_head;
        let rest = rest.filter(|_| is_body_sent);
        let is_whole = rest.is_none();
        http.is_answering = !is_whole;
        http.stream = rest.map(|rest| Box::new(FileStream::new(rest, body.bytes().len(), len)));
        let framing = Framing {
            version: if is_http10 { Version::Http10 } else { Version::Http11 },
            keep_alive,
            date: std::str::from_utf8(&date).ok(),
            grant: grant.as_deref(),
            is_negotiated,
            coding,
            body_bytes: len,
        };
        self.write_to(key, |out| response.encode_head(out, framing));
        if is_body_sent {
            self.queue_body(key, &body);
        }
        if is_whole {
            self.finish_answer(key);
        } else {
            self.arm_connection(key, ANSWER_PATIENCE);
            self.pump_file(key);
        }
    }

    /// Queues a part of an answer's body.
    pub(crate) fn queue_body(&mut self, key: Key, body: &Body) {
        self.mark_dirty(key);
        let Core { connections, buffers, owed, .. } = self;
        let Some(connection) = connections.get_mut(key) else { return };
        if connection.ending == Ending::Open {
            connection.outbox.push_body(body, buffers);
            owed.add_own(body.bytes().len());
        }
    }

    /// The last byte of an answer is queued: the connection goes on with its next request, if it may.
    pub(crate) fn finish_answer(&mut self, key: Key) {
        let timeout = self.config.keep_alive_timeout;
        let Some(http) = self.http_mut(key) else { return };
        http.is_answering = false;
        if http.framing.keep_alive {
            self.arm_connection(key, timeout);
            self.deferred.push(Deferred::Resume(key));
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
        self.owed.remove(connection.outbox.len());
        self.partial_bytes -= connection.partial as usize;
        self.counters.connections.subtract(1);
        self.counters.handoffs.add(1);
        let mut moves = connection.http_mut().map(|http| http.moves).unwrap_or_default();
        let is_ours = connection.peer.ip().is_none_or(|address| address.to_canonical().is_loopback());
        if !is_ours && !self.trusted_proxies.trusts(connection.peer.ip()) {
            moves.spend(self.now);
        }
        let Connection { outbox, peer, .. } = connection;
        let arrival = Arrival { peer, moves };
        self.outputs.push(Output::Handoff { connection: key, to, arrival, outbox, unread: unread.to_vec() });
    }
}
