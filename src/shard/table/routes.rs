//! Requests whose answers take their time: how many there may be, their bodies in and out, and their deadlines.

use std::task::{Poll, Waker};
use std::time::Duration;

use crate::base::slab::Key;
use crate::base::time::Time;
use crate::protocol::http::events::KEEP_ALIVE_COMMENT;
use crate::protocol::http::head::Head;
use crate::protocol::http::response::{CONTINUE_100, Response};
use crate::protocol::http::status::Status;
use crate::shard::table::Tables;
use crate::shard::value::connection::{
    ANSWER_PATIENCE, BODY_BYTES_PER_SECOND_MIN, Step, TAKEN_BYTES_PER_SECOND_MIN,
};
use crate::shard::value::content::Content;
use crate::shard::value::effect::Deferred;
use crate::shard::value::kinds::RequestRefused;
use crate::shard::value::route::{
    BODY_QUEUED_BYTES_MAX, BodyError, BodyIn, BodyOut, BodyRest, HALF_CLOSED_ROUTE_PATIENCE, OutFraming,
    RouteDue, RouteEnd, RouteEntry, STREAM_OWED_BYTES_MAX,
};
use crate::shard::value::unjoined::holder;

/// Why a request cannot wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Crowded;

// How they begin and end.
impl Tables {
    /// A request begins to wait for its route. It may not when too many do, of all clients or of its own address.
    pub(crate) fn begin_route(
        &mut self,
        connection: Key,
        head: &Head<'_, '_>,
        body: Option<BodyIn>,
    ) -> Result<Key, Crowded> {
        let config = &self.env.config;
        let waiting_max = (config.routes_waiting_max / self.mesh.len().max(1)).max(1);
        let holder = holder(self.client_address(self.peer_of(connection), head.headers));
        let held = holder.and_then(|holder| self.routes.by_address.get(&holder)).copied().unwrap_or(0);
        if self.routes.entries.len() >= waiting_max || held >= config.routes_waiting_per_address_max {
            self.count_refused(RequestRefused::Routes);
            tracing::warn!(
                path = crate::base::shown::Shown(head.path).to_string(),
                waiting = self.routes.entries.len(),
                of_its_address = held,
                "answered 503: more requests wait for routes than routes_waiting_max or routes_waiting_per_address_max"
            );
            return Err(Crowded);
        }
        let answer_by = match config.route_timeout {
            Duration::ZERO => Time::NEVER,
            timeout => self.env.now + timeout,
        };
        if let Some(holder) = holder {
            *self.routes.by_address.entry(holder).or_default() += 1;
        }
        let route = self.routes.entries.insert(RouteEntry {
            connection,
            task: None,
            holder,
            kept: None,
            answer_by,
            gone_by: Time::NEVER,
            body,
            answer: None,
        });
        self.env.counters.routes_waiting.add(1);
        if let Some(http) = self.http_mut(connection) {
            http.route = Some(route);
            http.is_answering = true;
            if http.is_half_closed {
                self.half_close_route(route);
            }
        }
        self.arm_route(connection);
        Ok(route)
    }

    /// A connection's request waits no more: it is about to be answered whole, or its client has gone. A body of which a part
    /// is still to come makes the connection useless for another request.
    pub(crate) fn end_route(&mut self, connection: Key) {
        let Some(http) = self.http_mut(connection) else { return };
        let Some(route) = http.route.take() else { return };
        if self.routes.entries.get(route).is_some_and(is_body_missing)
            && let Some(http) = self.http_mut(connection)
        {
            http.framing.keep_alive = false;
        }
        // What was not read because the route did not take it is read past.
        if let Some(entry) = self.connections.get_mut(connection)
            && std::mem::take(&mut entry.share.is_paused)
        {
            self.wait_turn(connection);
        }
        self.forget_route(route);
        self.count_partial(connection);
    }

    /// Takes an entry out of the table; what of it is user code's is let go later.
    pub(crate) fn forget_route(&mut self, route: Key) {
        let Some(entry) = self.routes.entries.remove(route) else { return };
        self.env.counters.routes_waiting.subtract(1);
        if let Some(holder) = entry.holder
            && let Some(held) = self.routes.by_address.get_mut(&holder)
        {
            *held -= 1;
            if *held == 0 {
                self.routes.by_address.remove(&holder);
            }
        }
        let wakers = [entry.body.and_then(|body| body.waker), entry.answer.and_then(|answer| answer.waker)];
        let end = RouteEnd { task: entry.task, wakers, kept: entry.kept };
        self.effects.deferred.push(Deferred::RouteEnded(Box::new(end)));
    }

    /// The client has said all that it will say.
    pub(crate) fn half_close_route(&mut self, route: Key) {
        let now = self.env.now;
        let Some(entry) = self.routes.entries.get_mut(route) else { return };
        entry.gone_by = now + HALF_CLOSED_ROUTE_PATIENCE;
        let connection = entry.connection;
        self.end_body(route, Err(BodyError::Incomplete));
        self.arm_route(connection);
    }

    /// Arms a connection's timer for the earliest of what its request waits for.
    pub(crate) fn arm_route(&mut self, connection: Key) {
        let now = self.env.now;
        let Some((deadline, _)) = self.route_deadline(connection) else {
            // Nothing is due: it is looked at now and then.
            return self.arm_connection(connection, self.env.config.keep_alive_timeout);
        };
        self.arm_connection(connection, deadline.since(now));
    }

    fn route_deadline(&mut self, connection: Key) -> Option<(Time, RouteDue)> {
        let entry = self.connections.get(connection)?;
        let is_held = entry.share.is_waiting();
        let route = self.http_mut(connection)?.route?;
        self.routes.entries.get(route)?.deadline(is_held)
    }

    /// What of a request's time is over.
    pub(crate) fn route_due(&mut self, connection: Key) -> Option<RouteDue> {
        let now = self.env.now;
        self.route_deadline(connection).filter(|(deadline, _)| *deadline <= now).map(|(_, due)| due)
    }
}

/// Whether a part of its body has not come, or not well.
fn is_body_missing(entry: &RouteEntry) -> bool {
    entry.body.as_ref().is_some_and(|body| !body.is_whole())
}

// Bodies on their way in.
impl Tables {
    /// Whether a connection's input is the body of a request whose route takes it piece by piece.
    pub(crate) fn takes_body(&mut self, connection: Key) -> bool {
        let route = self.http_mut(connection).and_then(|http| http.route);
        let entry = route.and_then(|route| self.routes.entries.get(route));
        entry.and_then(|entry| entry.body.as_ref()).is_some_and(|body| !body.is_whole())
    }

    /// Takes in a part of a body.
    pub(crate) fn consume_body(&mut self, connection: Key, input: &[u8]) -> Step {
        let now = self.env.now;
        let timeout = self.env.config.header_timeout;
        let route = self.http_mut(connection).and_then(|http| http.route);
        let Some(entry) = route.and_then(|route| self.routes.entries.get_mut(route)) else {
            return Step::Wait;
        };
        let Some(body) = &mut entry.body else { return Step::Wait };
        if body.end.is_some() {
            // It has failed: nobody knows where it ends, and the connection ends with the answer.
            return Step::Used(input.len());
        }
        let room = BODY_QUEUED_BYTES_MAX.saturating_sub(body.queued.len()).min(input.len());
        if room == 0 {
            return Step::Full;
        }
        body.must_continue = false;
        if entry.answer_by != Time::NEVER && !self.env.config.route_timeout.is_zero() {
            // While its client sends, the route is not late.
            entry.answer_by = now + self.env.config.route_timeout;
        }
        let earned = Duration::from_millis(room as u64 * 1000 / BODY_BYTES_PER_SECOND_MIN);
        body.by = (body.by + earned).min(now + timeout);
        let (used, end) = match &mut body.rest {
            BodyRest::Length(left) => {
                let count = room.min(*left);
                body.queued.extend_from_slice(&input[..count]);
                *left -= count;
                (count, (*left == 0).then_some(Ok(())))
            }
            BodyRest::Chunked(decoder) => {
                match decoder.decode(&input[..room], &mut body.queued, body.bytes_max) {
                    Ok((used, is_over)) => (used, is_over.then_some(Ok(()))),
                    Err(error) => (input.len(), Some(Err(BodyError::from(error)))),
                }
            }
        };
        body.end = end;
        let waker = body.waker.take();
        self.effects.deferred.extend(waker.map(Deferred::Wake));
        self.count_partial(connection);
        self.arm_route(connection);
        Step::Used(used)
    }

    /// Nothing more of a body comes.
    pub(crate) fn end_body(&mut self, route: Key, end: Result<(), BodyError>) {
        let body = self.routes.entries.get_mut(route).and_then(|entry| entry.body.as_mut());
        let Some(body) = body.filter(|body| body.end.is_none()) else { return };
        body.end = Some(end);
        let waker = body.waker.take();
        self.effects.deferred.extend(waker.map(Deferred::Wake));
    }

    /// The next piece of a body, `None` behind the last. Whoever waits leaves its waker, and gets the one that was there before,
    /// to drop when nothing is borrowed.
    pub(crate) fn poll_body(
        &mut self,
        route: Key,
        waker: &mut Option<Waker>,
    ) -> Poll<Result<Option<Vec<u8>>, BodyError>> {
        let (now, timeout) = (self.env.now, self.env.config.header_timeout);
        let Some(entry) = self.routes.entries.get_mut(route) else {
            return Poll::Ready(Err(BodyError::Over));
        };
        let connection = entry.connection;
        let Some(body) = &mut entry.body else { return Poll::Ready(Ok(None)) };
        if !body.queued.is_empty() {
            let piece = std::mem::take(&mut body.queued);
            let held = self.connections.get_mut(connection);
            let was_held = held.is_some_and(|held| std::mem::take(&mut held.share.is_paused));
            if was_held {
                // It was we who made the client wait: it has its time anew.
                body.by = now + timeout;
            }
            self.count_partial(connection);
            if was_held {
                self.wait_turn(connection);
            }
            self.arm_route(connection);
            return Poll::Ready(Ok(Some(piece)));
        }
        if let Some(end) = body.end {
            return Poll::Ready(end.map(|()| None));
        }
        std::mem::swap(&mut body.waker, waker);
        if std::mem::take(&mut body.must_continue) {
            body.by = now + timeout;
            self.write_to(connection, |out| out.extend_from_slice(CONTINUE_100));
            self.arm_route(connection);
        }
        Poll::Pending
    }
}

// Bodies on their way out.
impl Tables {
    /// Sends the head of a streamed answer. True when a body is to follow.
    pub(crate) fn begin_stream(
        &mut self,
        connection: Key,
        response: &Response,
        (len, keep_alive): (Option<usize>, Option<Duration>),
    ) -> bool {
        let Some(http) = self.http_mut(connection) else { return false };
        let Some(route) = http.route else { return false };
        let is_head = http.framing.is_head;
        let framing = match len {
            Some(len) => OutFraming::Length(len),
            None if http.framing.is_http10 => OutFraming::UntilClose,
            None => OutFraming::Chunked,
        };
        let now = self.env.now;
        let is_missing = self.routes.entries.get(route).is_some_and(is_body_missing);
        if let Some(http) = self.http_mut(connection) {
            http.framing.keep_alive &= framing != OutFraming::UntilClose && !is_missing;
        }
        let has_body = !is_head && response.status().may_have_body();
        if !has_body {
            self.end_route(connection);
        } else if let Some(entry) = self.routes.entries.get_mut(route) {
            entry.answer_by = Time::NEVER;
            let keep_alive = keep_alive.map(|period| (period, now + period));
            entry.answer = Some(BodyOut { framing, taken_by: Time::NEVER, keep_alive, waker: None });
        }
        self.send_answer(connection, response, Content::stream(response, len));
        if has_body {
            self.note_owed(connection);
        }
        has_body
    }

    /// Whether a stream has room for another piece; whoever waits leaves its waker. `Err`: it is over.
    pub(crate) fn poll_stream(
        &mut self,
        route: Key,
        waker: &mut Option<Waker>,
    ) -> Poll<Result<(), BodyError>> {
        let entry = self.routes.entries.get_mut(route);
        let Some(entry) = entry else { return Poll::Ready(Err(BodyError::Over)) };
        let Some(out) = &mut entry.answer else { return Poll::Pending };
        let owed = self.connections.get(entry.connection).map_or(0, |connection| connection.outbox.len());
        if owed < STREAM_OWED_BYTES_MAX {
            return Poll::Ready(Ok(()));
        }
        std::mem::swap(&mut out.waker, waker);
        Poll::Pending
    }

    /// Queues a piece of a stream. An empty one is none: as a chunk it would be the last. What is beyond the length that the client
    /// was told would be the beginning of the next answer: it is dropped.
    pub(crate) fn send_part(&mut self, route: Key, bytes: &[u8]) {
        let now = self.env.now;
        let Some(entry) = self.routes.entries.get_mut(route) else { return };
        let connection = entry.connection;
        let Some(out) = entry.answer.as_mut().filter(|_| !bytes.is_empty()) else { return };
        if let Some((period, next)) = &mut out.keep_alive {
            *next = now + *period;
        }
        let bytes = match &mut out.framing {
            OutFraming::Length(left) => {
                let count = bytes.len().min(*left);
                *left -= count;
                &bytes[..count]
            }
            OutFraming::Chunked | OutFraming::UntilClose => bytes,
        };
        let is_chunked = out.framing == OutFraming::Chunked;
        self.write_to(connection, |out| {
            if is_chunked {
                out.extend_from_slice(format!("{:x}\r\n", bytes.len()).as_bytes());
            }
            out.extend_from_slice(bytes);
            if is_chunked {
                out.extend_from_slice(b"\r\n");
            }
        });
        self.note_owed(connection);
    }

    /// A client is owed a part of a stream: from now on it has so long to take some.
    fn note_owed(&mut self, connection: Key) {
        let now = self.env.now;
        let route = self.http_mut(connection).and_then(|http| http.route);
        let entry = route.and_then(|route| self.routes.entries.get_mut(route));
        if let Some(out) = entry.and_then(|entry| entry.answer.as_mut())
            && out.taken_by == Time::NEVER
        {
            out.taken_by = now + ANSWER_PATIENCE;
        }
        self.arm_route(connection);
    }

    /// The client of a stream has taken bytes of it.
    pub(crate) fn pace_route(&mut self, connection: Key, route: Key, count: usize) {
        let now = self.env.now;
        let owed = self.connections.get(connection).map_or(0, |connection| connection.outbox.len());
        let Some(entry) = self.routes.entries.get_mut(route).filter(|_| count > 0) else { return };
        if entry.gone_by != Time::NEVER {
            entry.gone_by = now + HALF_CLOSED_ROUTE_PATIENCE;
        }
        let Some(out) = &mut entry.answer else { return };
        let earned = Duration::from_millis(count as u64 * 1000 / TAKEN_BYTES_PER_SECOND_MIN);
        out.taken_by =
            if owed == 0 { Time::NEVER } else { (out.taken_by + earned).min(now + ANSWER_PATIENCE) };
        let waker = if owed <= STREAM_OWED_BYTES_MAX / 2 { out.waker.take() } else { None };
        self.effects.deferred.extend(waker.map(Deferred::Wake));
        self.arm_route(connection);
    }

    /// A stream of events has been silent for long.
    pub(crate) fn keep_route_alive(&mut self, connection: Key) {
        if let Some(route) = self.http_mut(connection).and_then(|http| http.route) {
            self.send_part(route, KEEP_ALIVE_COMMENT);
        }
    }

    /// The producer of a stream is done: with all of it, or with an error, which the client sees as a body that is cut off.
    pub(crate) fn finish_stream(&mut self, route: Key, is_complete: bool) {
        let is_shutting_down = self.env.is_shutting_down;
        let Some(entry) = self.routes.entries.get(route) else { return };
        let connection = entry.connection;
        let Some(out) = &entry.answer else { return };
        let is_short = matches!(out.framing, OutFraming::Length(1..));
        if is_short && is_complete {
            tracing::error!("a streamed answer is shorter than its length says; its connection is cut");
        }
        if !is_complete || is_short {
            return self.cut_stream(connection);
        }
        if out.framing == OutFraming::Chunked {
            self.write_to(connection, |out| out.extend_from_slice(b"0\r\n\r\n"));
        }
        self.end_route(connection);
        if let Some(http) = self.http_mut(connection) {
            http.framing.keep_alive &= !is_shutting_down;
        }
        self.finish_answer(connection);
    }

    /// Ends a streamed answer in the middle: what was sent arrives, and no last chunk.
    pub(crate) fn cut_stream(&mut self, connection: Key) {
        self.end_route(connection);
        self.close_after_flush(connection);
    }

    /// Ends a stream of events because the server stops: its client comes back, to another process perhaps. True if it is one.
    pub(crate) fn end_events(&mut self, connection: Key) -> bool {
        let route = self.http_mut(connection).and_then(|http| http.route);
        let entry = route.and_then(|route| self.routes.entries.get(route));
        let is_events =
            entry.and_then(|entry| entry.answer.as_ref()).is_some_and(|answer| answer.keep_alive.is_some());
        if let Some(route) = route.filter(|_| is_events) {
            self.finish_stream(route, true);
        }
        is_events
    }
}

/// Too many requests wait already.
pub(crate) fn too_crowded() -> Response {
    Response::text("too many requests wait; try again")
        .with_status(Status::SERVICE_UNAVAILABLE)
        .header("retry-after", "5")
}
