//! Questions to all shards, as one shard asks and answers them: broadcasts with answers, and who is where.
//!
//! The home of a question (`ask`) sends it to every shard that may know, and waits for no more than its deadline. A shard
//! that is asked (`inquire`) reports once. What it knows itself it reports at once, or in slices if that takes long (`walks`). When clients
//! must answer, it reports as soon as each has answered or gone, or the time is over. So a broadcast costs two messages a shard, however many answer.

mod walk;
pub(crate) mod walks;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::base::buffer::SharedFrame;
use crate::base::ids::{ShardId, Sid};
use crate::base::slab::{Key, Slab};
use crate::base::time::Time;
use crate::mesh::ShardMessage;
use crate::mesh::interest::Audience;
use crate::mesh::link::{LinkError, Said};
use crate::message::address::Address;
use crate::message::inquiry::{AckError, AnswerText, Ask, Findings, Inquiry, Reply, Report, Request};
use crate::message::target::{Reach, Target};
use crate::protocol::socketio::event::Args;
use crate::shard::feature::Feature;
use crate::shard::feature::inquiries::walk::{Over, Walk, Walks};
use crate::shard::table::Tables;
use crate::shard::value::deadlines::Deadlines;
use crate::shard::value::effect::Deferred;
use crate::shard::value::socket::SocketState;

/// Questions one shard asks at a time, and questions of one shard that its clients may owe answers to at a time.
/// Beyond it nothing is sent.
pub(crate) const INQUIRIES_MAX: usize = 1024;

/// Sockets of one shard that owe answers to broadcasts, each counted once for every question, until the question
/// is closed. Beyond it nothing is sent.
pub(crate) const RECEIVERS_MAX: usize = 4 * 1024 * 1024;

/// What one shard keeps of answers' texts and of descriptions, for all questions together, in bytes. Beyond it they
/// are left out, and the sockets are missing.
pub(crate) const FINDINGS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How long the home waits for reports after the time of a question is over: a shard's wheel may be late, and
/// its report takes its way.
const REPORT_GRACE: Duration = Duration::from_secs(1);

/// How long shards have to tell what they know. Node's adapters take as long.
const FACTS_TIMEOUT: Duration = Duration::from_secs(5);

/// Every question on its way, of this shard and to this shard.
#[derive(Debug, Default)]
pub(crate) struct Inquiries {
    /// Questions whose home this is.
    asked: Slab<Asked>,
    /// Questions that clients of this shard owe answers to.
    open: Slab<Open>,
    open_by_id: FxHashMap<u64, Key>,
    /// When each of the asked and of the open ones is given up.
    asked_due: Deadlines,
    open_due: Deadlines,
    /// Sockets that the open questions went to.
    receivers: usize,
    bytes: usize,
    pub(crate) walks: Walks,
}

/// A question, at its home.
#[derive(Debug)]
struct Asked {
    reports_awaited: usize,
    /// One of these is the bus's, for all other processes.
    awaits_processes: bool,
    findings: Findings,
    reply: Reply,
    due: Time,
    /// The other processes are asked it when this one's shards have reported.
    then_elsewhere: Option<Arc<Inquiry>>,
}

/// A question that clients have got.
#[derive(Debug)]
struct Open {
    id: u64,
    home: ShardId,
    number: Key,
    receivers: usize,
    waiting: FxHashSet<Key>,
    findings: Findings,
    due: Time,
}

impl Inquiries {
    /// When the first question is given up.
    pub(crate) fn next_timeout(&self) -> Time {
        self.asked_due.next().min(self.open_due.next())
    }

    /// How many questions are on their way.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        assert_eq!(self.open.len(), self.open_by_id.len());
        assert!(self.receivers == 0 || self.open.len() > 0, "receivers are of a question");
        assert!(self.bytes == 0 || self.open.len() + self.asked.len() > 0, "bytes are kept for a question");
        self.open.len() + self.asked.len()
    }

    #[cfg(test)]
    pub(crate) fn timers(&self) -> usize {
        self.asked_due.len() + self.open_due.len()
    }

    /// Makes it seem that nothing more can be kept, or gives the room back.
    #[cfg(test)]
    pub(crate) fn pretend_full(&mut self, is_full: bool) {
        self.bytes = if is_full { FINDINGS_BYTES_MAX } else { 0 };
    }
}

impl Feature<'_, Inquiries> {
    /// Asks every shard that may have sockets of the target, and this one.
    pub(crate) fn ask(&mut self, request: Request) {
        let Request { namespace, target, ask, timeout, reply } = request;
        if self.tables.env.is_shutting_down {
            return self.tables.effects.deferred.push(Deferred::Reply(reply, Err(AckError::Stopped)));
        }
        if self.own.asked.len() >= INQUIRIES_MAX {
            tracing::error!(
                INQUIRIES_MAX,
                %namespace,
                "not sent: too many questions wait for the answers of many"
            );
            return self.tables.effects.deferred.push(Deferred::Reply(reply, Err(AckError::NotSent)));
        }
        let is_for_clients = matches!(ask, Ask::Answers { .. });
        let usual = if is_for_clients { self.tables.env.config.ack_timeout } else { FACTS_TIMEOUT };
        let timeout = timeout.unwrap_or(usual);
        let patience = timeout.saturating_add(if is_for_clients { REPORT_GRACE } else { Duration::ZERO });
        let others = self.shards_to_ask(&namespace, &target, &ask);
        let link = self.tables.mesh.links.of(&namespace).filter(|link| link.concerns(&target)).cloned();
        let reports_awaited = 1 + others.len() + usize::from(link.is_some());
        let told = if let Ask::Settled(told) = &ask { told.clone() } else { None };
        let shards_unreached = told.as_ref().map_or(0, |told| told.shards_missing.load(Relaxed));
        let findings = Findings { shards_unreached, ..Findings::default() };
        let due = self.tables.env.now + patience;
        let (awaits_processes, then_elsewhere) = (link.is_some(), None);
        let asked = Asked { reports_awaited, awaits_processes, findings, reply, due, then_elsewhere };
        let number = self.own.asked.insert(asked);
        self.own.asked_due.arm(number, due);
        let inquiry = Arc::new(Inquiry { namespace, target, ask, timeout, home: self.tables.env.id, number });
        // What other processes say next reaches a room that was joined if this one hears it by then: its shards come first.
        let comes_last = link.is_some() && matches!(inquiry.ask, Ask::Settled(_));
        if comes_last && let Some(asked) = self.own.asked.get_mut(number) {
            asked.then_elsewhere = Some(Arc::clone(&inquiry));
        }
        self.inquire(&inquiry);
        for shard in others {
            if !self.tables.send_to_shard(shard, ShardMessage::Inquiry(Arc::clone(&inquiry))) {
                self.add_report(number, Findings { shards_unreached: 1, ..Findings::default() });
            }
        }
        if link.is_some() && !comes_last {
            self.ask_elsewhere(inquiry);
        }
    }

    /// Asks the other processes. They report as one shard more.
    fn ask_elsewhere(&mut self, inquiry: Arc<Inquiry>) {
        let number = inquiry.number;
        let told = if let Ask::Settled(Some(told)) = &inquiry.ask { Some(Arc::clone(told)) } else { None };
        let is_refused = told.is_some_and(|told| told.is_refused.load(Relaxed));
        let link = self.tables.mesh.links.of(&inquiry.namespace).cloned();
        let link = link.filter(|link| link.is_up() && !is_refused);
        let fault = match link.map(|link| link.say(Said::Ask(inquiry))) {
            Some(Ok(())) => return,
            None if is_refused => "the message queue did not take it",
            None => "the message queue is away",
            Some(Err(LinkError::Full)) => "too much waits for the message queue",
            Some(Err(LinkError::TooLarge { .. })) => "the question is too large for the message queue",
        };
        let processes_missing = vec![format!("all other processes: {fault}")];
        let findings = Findings { processes_missing, ..Findings::default() };
        self.receive_report(Report { number, findings, is_of_processes: true });
    }

    /// The other shards that may know. A list of rooms is of all sockets, whoever is meant.
    fn shards_to_ask(&self, namespace: &Address, target: &Target, ask: &Ask) -> Vec<ShardId> {
        if target.reach == Reach::Shard {
            return Vec::new();
        }
        if matches!(ask, Ask::Servers(_)) {
            return Vec::new();
        }
        if matches!(ask, Ask::Rooms | Ask::Census | Ask::Overview(_)) {
            return self.tables.other_shards().collect();
        }
        let mut audience = Audience::but(self.tables.env.id);
        std::iter::from_fn(|| self.tables.mesh.interest.next(&mut audience, namespace, target)).collect()
    }

    /// Finds out what is asked, and reports it now or once it is known.
    pub(crate) fn inquire(&mut self, inquiry: &Inquiry) {
        // A shard does one thing after the other: what was said before is done.
        if matches!(inquiry.ask, Ask::Servers(_) | Ask::Settled(_)) {
            return self.report(inquiry.home, inquiry.number, Findings::default());
        }
        if matches!(inquiry.ask, Ask::Census) {
            let census = self.tables.namespaces.census();
            return self.report(inquiry.home, inquiry.number, Findings { census, ..Findings::default() });
        }
        if let Ask::Overview(look) = &inquiry.ask {
            let overviews = vec![self.tables.overview(look)];
            return self.report(inquiry.home, inquiry.number, Findings { overviews, ..Findings::default() });
        }
        let Some(namespace) = self.tables.namespaces.find_address(&inquiry.namespace) else {
            return self.report(inquiry.home, inquiry.number, Findings::default());
        };
        let target = &inquiry.target;
        let findings = match &inquiry.ask {
            Ask::Answers { id, frame } => return self.ask_clients(namespace, inquiry, *id, frame),
            Ask::Sockets => {
                let keys = self.tables.open_sids(namespace, target).into_iter().map(|(key, _)| key).collect();
                return self.walk(Walk::new(inquiry, Over::Sockets { keys, next: 0 }));
            }
            Ask::Ids => {
                let ids: Vec<Sid> =
                    self.tables.open_sids(namespace, target).into_iter().map(|(_, sid)| sid).collect();
                Findings { bytes: size_of_val(ids.as_slice()), ids, ..Findings::default() }
            }
            Ask::Count => {
                Findings { count: self.tables.count_local(namespace, target), ..Findings::default() }
            }
            Ask::Rooms => {
                let namespace = Rc::clone(&self.tables.namespaces[namespace].namespace);
                return self.walk(Walk::new(inquiry, Over::Rooms { namespace, next: 0 }));
            }
            Ask::Census | Ask::Overview(_) | Ask::Servers(_) | Ask::Settled(_) => {
                unreachable!("they are of no namespace's sockets")
            }
        };
        self.report(inquiry.home, inquiry.number, findings);
    }

    /// An answer to a broadcast has come. One that is not awaited is ignored.
    pub(crate) fn receive_broadcast_ack(&mut self, socket: Key, id: u64, args: Args<'_>) {
        let Feature { own, tables: Tables { sockets, .. } } = &mut *self;
        let Some(&key) = own.open_by_id.get(&id) else { return };
        let Some(open) = own.open.get_mut(key) else { return };
        if !open.waiting.remove(&socket) {
            return;
        }
        let Some(sid) = sockets.get(socket).map(|socket| socket.sid) else { return };
        let attachments: usize = args.attachments().iter().map(bytes::Bytes::len).sum();
        let bytes = args.raw().len() + attachments;
        if own.bytes + bytes <= FINDINGS_BYTES_MAX {
            let answer = AnswerText { json: args.raw().to_owned(), attachments: args.attachments().to_vec() };
            open.findings.answers.push((sid, answer));
            open.findings.bytes += bytes;
            own.bytes += bytes;
        } else {
            tracing::warn!(sid = %sid.brief(), bytes, FINDINGS_BYTES_MAX, "an answer to a broadcast is dropped: too much is kept");
            open.findings.missing.push((sid, AckError::TooLarge));
        }
        if open.waiting.is_empty() {
            self.close_question(key);
        }
    }

    /// A socket is over: it answers no more. One that was never let in was not asked.
    pub(crate) fn forget_receiver(&mut self, socket: Key, sid: Sid, was_open: bool) {
        if self.own.open.len() == 0 {
            return;
        }
        for key in self.own.open.keys().collect::<Vec<_>>() {
            let Some(open) = self.own.open.get_mut(key) else { continue };
            if !open.waiting.remove(&socket) {
                continue;
            }
            if was_open {
                open.findings.missing.push((sid, AckError::Disconnected));
            }
            if open.waiting.is_empty() {
                self.close_question(key);
            }
        }
    }

    /// Gives up what has taken too long.
    pub(crate) fn inquiry_timeouts(&mut self) {
        while let Some(key) = self.own.open_due.take_due(self.tables.env.now) {
            self.question_timeout(key);
        }
        while let Some(number) = self.own.asked_due.take_due(self.tables.env.now) {
            self.inquiry_timeout(number);
        }
    }

    /// The clients' time is over.
    fn question_timeout(&mut self, key: Key) {
        let Feature { own, tables: Tables { sockets, .. } } = &mut *self;
        let Some(open) = own.open.get_mut(key) else { return };
        let late = open.waiting.drain().filter_map(|socket| sockets.get(socket));
        open.findings.missing.extend(late.map(|socket| (socket.sid, AckError::Timeout)));
        self.close_question(key);
    }

    /// The home's patience is over: what is known must do.
    fn inquiry_timeout(&mut self, number: Key) {
        let Some(asked) = self.own.asked.get_mut(number) else { return };
        let mut late = std::mem::take(&mut asked.reports_awaited);
        let why = match (asked.then_elsewhere.take(), asked.awaits_processes) {
            (Some(_), _) => Some("a shard of this one was late"),
            (None, true) => Some("the message queue does not answer"),
            (None, false) => None,
        };
        if let Some(why) = why {
            late -= 1;
            asked.findings.processes_missing.push(format!("all other processes: {why}"));
        }
        asked.findings.shards_late += late;
        self.finish_inquiry(number);
    }

    /// A shard has reported, or the bus has.
    pub(crate) fn receive_report(&mut self, Report { number, findings, is_of_processes }: Report) {
        if let Some(asked) = self.own.asked.get_mut(number).filter(|_| is_of_processes) {
            asked.awaits_processes = false;
        }
        self.add_report(number, findings);
    }

    /// What was given up is not heard.
    fn add_report(&mut self, number: Key, mut findings: Findings) {
        let Inquiries { asked, bytes, .. } = &mut *self.own;
        let Some(asked) = asked.get_mut(number) else { return };
        if *bytes + findings.bytes > FINDINGS_BYTES_MAX {
            tracing::warn!(
                bytes = findings.bytes,
                FINDINGS_BYTES_MAX,
                "a shard's report is cut: too much is kept"
            );
            findings.cut();
        }
        *bytes += findings.bytes;
        asked.findings.add(findings);
        asked.reports_awaited -= 1;
        match (asked.reports_awaited, asked.then_elsewhere.take()) {
            (0, _) => self.finish_inquiry(number),
            (1, Some(inquiry)) => self.ask_elsewhere(inquiry),
            (_, later) => asked.then_elsewhere = later,
        }
    }

    /// The shard ends: everybody who waits learns what is known.
    pub(crate) fn end_inquiries(&mut self) {
        self.own.walks.clear();
        for number in self.own.asked.keys().collect::<Vec<_>>() {
            self.inquiry_timeout(number);
        }
    }

    fn ask_clients(&mut self, namespace: u16, inquiry: &Inquiry, id: u64, frame: &SharedFrame) {
        let mut findings = Findings::default();
        let mut receivers = self.tables.members_of(namespace, &inquiry.target);
        receivers.retain(|key| {
            self.tables.sockets.get(*key).is_some_and(|socket| socket.state != SocketState::Closed)
        });
        let is_full = self.own.receivers + receivers.len() > RECEIVERS_MAX;
        if is_full || self.own.open.len() >= INQUIRIES_MAX {
            tracing::error!(
                INQUIRIES_MAX,
                RECEIVERS_MAX,
                "not sent: clients of this shard owe answers to too many broadcasts; shorten their timeout"
            );
            let sids = receivers.drain(..).filter_map(|key| self.tables.sockets.get(key));
            findings.missing.extend(sids.map(|socket| (socket.sid, AckError::NotSent)));
        }
        if receivers.is_empty() {
            return self.report(inquiry.home, inquiry.number, findings);
        }
        self.tables.deliver_to(&receivers, &inquiry.target, frame);
        let (home, number) = (inquiry.home, inquiry.number);
        let (receivers, waiting) = (receivers.len(), receivers.into_iter().collect());
        let due = self.tables.env.now + inquiry.timeout;
        let open = Open { id, home, number, receivers, waiting, findings, due };
        self.own.receivers += receivers;
        let key = self.own.open.insert(open);
        self.own.open_by_id.insert(id, key);
        self.own.open_due.arm(key, due);
    }

    fn close_question(&mut self, key: Key) {
        let Some(open) = self.own.open.remove(key) else { return };
        self.own.open_by_id.remove(&open.id);
        self.own.open_due.cancel(key, open.due);
        self.own.receivers -= open.receivers;
        self.own.bytes -= open.findings.bytes;
        self.report(open.home, open.number, open.findings);
    }

    pub(crate) fn report(&mut self, home: ShardId, number: Key, findings: Findings) {
        if home == self.tables.env.id {
            self.add_report(number, findings);
        } else {
            let report = Report { number, findings, is_of_processes: false };
            // A report that is lost is counted there; its home gives up in time.
            self.tables.send_to_shard(home, ShardMessage::Report(Box::new(report)));
        }
    }

    fn finish_inquiry(&mut self, number: Key) {
        let Some(asked) = self.own.asked.remove(number) else { return };
        self.own.asked_due.cancel(number, asked.due);
        self.own.bytes -= asked.findings.bytes;
        self.tables.effects.deferred.push(Deferred::Reply(asked.reply, Ok(asked.findings)));
    }
}
