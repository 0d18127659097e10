//! HTTP requests on a connection: when one is whole, who answers it, and how an answer leaves.

use crate::base::ids::ShardId;
use crate::base::log::ENGINEIO;
use crate::base::slab::Key;
use crate::message::peer::Door;
use crate::protocol::http::chunked::ChunkedDecoder;
use crate::protocol::http::coding::Coding;
use crate::protocol::http::cors_pattern;
use crate::protocol::http::error::HttpError;
use crate::protocol::http::head::{BodyLength, Head, HeaderStorage, Version, decode_head};
use crate::protocol::http::method::Method;
use crate::protocol::http::response::{CONTINUE_100, Response};
use crate::protocol::http::status::Status;
use crate::shard::run::Shard;
use crate::shard::value::connection::{ChunkedBody, RequestFraming, Step};
use crate::shard::value::effect::Deferred;
use crate::shard::value::endpoint::MAIN;
use crate::shard::value::kinds::RequestRefused;

/// Who will answer a request.
#[derive(Debug)]
pub(crate) enum Destination {
    /// The Engine.IO endpoint with this number.
    Engine(u8),
    /// A route, a folder, or a 404.
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
            if core.tables.is_owed_much(key) {
                tracing::info!(target: ENGINEIO, "closed: requests were pipelined, and their answers not read");
                core.tables.effects.deferred.push(Deferred::Lost(key));
                return Step::Wait;
            }
            let Some(http) = core.tables.http_mut(key) else { return Step::Wait };
            if http.awaits_proxy {
                return core.tables.consume_proxy_header(key, input);
            }
            if http.route.is_some() && core.tables.takes_body(key) {
                return core.tables.consume_body(key, input);
            }
            let Some(http) = core.tables.http_mut(key) else { return Step::Wait };
            if http.is_answering || input.len() < http.needed {
                return Step::Wait;
            }
            if http.chunked.is_some() {
                drop(core);
                return self.consume_chunks(key, input);
            }
        }
        let head_bytes_max = self.core.borrow().tables.env.config.head_bytes_max;
        let mut storage = HeaderStorage::new();
        match decode_head(input, head_bytes_max, &mut storage) {
            Ok(None) => Step::Wait,
            Err(error) => {
                self.core.borrow_mut().tables.note_origin_of_partial(key, input);
                self.refuse(key, error)
            }
            Ok(Some((head, head_len))) => self.consume_request(key, &head, head_len, input),
        }
    }

    /// A whole head is there: wait for the body, or answer.
    fn consume_request(&mut self, key: Key, head: &Head<'_, '_>, head_len: usize, input: &[u8]) -> Step {
        let destination = self.destination(key, head);
        if let Destination::Foreign(to) = destination {
            return self.core.borrow_mut().tables.hand_off_in_turn(key, to, input);
        }
        let framing = RequestFraming {
            endpoint: destination.endpoint(),
            is_http10: head.version == Version::Http10,
            keep_alive: head.keep_alive,
            is_head: head.method == Method::Head,
            coding: Coding::choose(head.headers.get_all("accept-encoding")),
        };
        let body_bytes_max = {
            let mut core = self.core.borrow_mut();
            let body_bytes_max = core.tables.endpoint(destination.endpoint()).options.max_http_buffer_size;
            core.tables.note_origin(key, destination.endpoint(), head);
            core.tables.note_host(key, head);
            let Some(http) = core.tables.http_mut(key) else { return Step::Used(input.len()) };
            http.framing = framing;
            body_bytes_max
        };
        if !self.core.borrow().tables.allows_host(key, head.host) {
            tracing::warn!(
                target: ENGINEIO,
                host = cors_pattern::shown(head.host.unwrap_or_default()),
                "refused: the request is for a host that is not in allowed_hosts; add it there if it is this server's"
            );
            self.refuse_request(key, Status::FORBIDDEN, "this host is not in allowed_hosts");
            return Step::Used(0);
        }
        if matches!(destination, Destination::Site)
            && head.body != BodyLength::None
            && let Some(bytes_max) = self.upload_bytes_max(key, head)
        {
            return self.begin_upload(key, head, bytes_max, head_len);
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
                self.await_chunks(key, &destination, (head, &input[..head_len]), body_bytes_max);
                Step::Used(head_len)
            }
        }
    }

    /// The body comes in chunks behind this head.
    fn await_chunks(
        &mut self,
        key: Key,
        destination: &Destination,
        (head, head_bytes): (&Head<'_, '_>, &[u8]),
        bytes_max: usize,
    ) {
        self.await_body(key, destination, head, 0);
        let (head, decoder) = (head_bytes.to_vec(), ChunkedDecoder::new());
        let chunked = ChunkedBody { bytes_max, head, decoder, body: Vec::new() };
        let mut core = self.core.borrow_mut();
        if let Some(http) = core.tables.http_mut(key) {
            http.chunked = Some(Box::new(chunked));
        }
        core.tables.count_partial(key);
    }

    fn consume_chunks(&mut self, key: Key, input: &[u8]) -> Step {
        let chunked = self.core.borrow_mut().tables.http_mut(key).and_then(|http| http.chunked.take());
        let Some(mut chunked) = chunked else { return Step::Wait };
        match chunked.decoder.decode(input, &mut chunked.body, chunked.bytes_max) {
            Err(error) => self.refuse(key, error),
            Ok((used, false)) => {
                {
                    let mut core = self.core.borrow_mut();
                    if let Some(http) = core.tables.http_mut(key) {
                        http.chunked = Some(chunked);
                    }
                    core.tables.count_partial(key);
                }
                if used == 0 { Step::Wait } else { Step::Used(used) }
            }
            Ok((used, true)) => {
                self.core.borrow_mut().tables.count_partial(key);
                let mut storage = HeaderStorage::new();
                if let Ok(Some((head, _))) = decode_head(&chunked.head, chunked.head.len(), &mut storage) {
                    let destination = self.destination(key, &head);
                    self.answer(key, &destination, &head, &chunked.body);
                }
                Step::Used(used)
            }
        }
    }

    fn destination(&self, key: Key, head: &Head<'_, '_>) -> Destination {
        let endpoint = {
            let core = self.core.borrow();
            // No session is reached by the operators' listener.
            core.tables.endpoint_at(head.path).filter(|_| core.tables.door(key) == Door::Public)
        };
        let Some(endpoint) = endpoint else { return Destination::Site };
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
        let (timeout, now) = (core.tables.env.config.header_timeout, core.tables.env.now);
        let Some(http) = core.tables.http_mut(key) else { return };
        http.needed = needed;
        http.body_started = now;
        let must_continue = head.expects_continue && !std::mem::replace(&mut http.is_continue_sent, true);
        core.tables.arm_connection(key, timeout);
        if must_continue {
            core.tables.write_to(key, |out| out.extend_from_slice(CONTINUE_100));
        }
    }

    /// All of a request that its handler waits for has come.
    pub(crate) fn note_answering(&mut self, key: Key) {
        let mut core = self.core.borrow_mut();
        let Some(http) = core.tables.http_mut(key) else { return };
        http.is_answering = true;
        http.needed = 0;
        http.is_continue_sent = false;
        http.is_head_timed = false;
    }

    fn answer(&mut self, key: Key, destination: &Destination, head: &Head<'_, '_>, body: &[u8]) {
        self.note_answering(key);
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
        let peer = core.tables.connections.get(key).map(|connection| connection.peer);
        tracing::info!(target: ENGINEIO, peer = peer.map(tracing::field::display), status = status.code(), reason, "request refused");
        core.tables.count_refused(match status {
            Status::REQUEST_TIMEOUT => RequestRefused::Late,
            Status::FORBIDDEN => RequestRefused::Host,
            _ => RequestRefused::Malformed,
        });
        let session = core.tables.http_mut(key).and_then(|http| http.session.take());
        core.tables.respond_and_close(key, &Response::text(reason).with_status(status));
        // What the POST carried is lost, so its session cannot go on: the client would never learn of the gap.
        if let Some(session) = session {
            drop(core);
            self.carrier_lost(session, key);
        }
    }
}
