//! Who owes whom an answer: requests of ours that Node's servers answer, and theirs that are answered here.
//!
//! Node's servers are counted, not known: of a request it is told from outside how many will answer, and an answer says at most
//! who gave it. So an answer that comes twice counts twice, and after the deadline it is said how many are missing. Does not know
//! the clock, and sends nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use crate::base::ids::Sid;
use crate::base::time::Time;
use crate::message::inquiry::{AnswerText, Findings, SocketFacts};
use crate::protocol::socketio::json::Elements;
use crate::protocol::socketio::msgpack::read::Reader;
use crate::protocol::socketio::msgpack::write;

use super::parts::{TIMEOUT_DEFAULT, TIMEOUT_MAX};
use super::{Answer, Broadcast, Heard, Message, Payload, Reply, RequestId, Uid};

/// Requests of ours that wait for answers. Beyond it there is no asking.
pub(crate) const ASKED_MAX: usize = 4 * 1024;

/// Requests of others that are being answered. Beyond it theirs end by their own time.
pub(crate) const OWED_MAX: usize = 4 * 1024;

/// What all answers that are gathered may weigh, about. Beyond it they are counted and not kept.
pub(crate) const GATHERED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Of an asker's time, what finding an answer may take: the rest is for its way.
const PATIENCE_SHARE: (u32, u32) = (9, 10);

/// What is asked of Node's servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Question {
    #[default]
    Sockets,
    /// Classic only, as are the ids.
    #[cfg_attr(
        not(test),
        allow(dead_code, reason = "the hub asks for sockets, which have their ids and rooms")
    )]
    Rooms,
    #[cfg_attr(not(test), allow(dead_code, reason = "see above"))]
    Ids,
    /// A server-side event.
    Server,
    /// An event, which their clients answer.
    Clients,
}

/// What comes of an intent to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asking {
    /// The request is to be sent with this id.
    As(RequestId),
    /// There is nobody to answer.
    Alone,
    /// [`ASKED_MAX`] are waiting.
    TooMany,
}

/// What has been answered to a request: all of it, or all that came in time.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Gathered {
    /// What the asker has called it.
    pub(crate) ticket: u64,
    pub(crate) question: Question,
    pub(crate) sockets: Vec<SocketFacts>,
    /// Ids of sockets, or rooms, each once.
    pub(crate) names: std::collections::BTreeSet<String>,
    /// Of servers or of clients; none for one that answered nothing.
    pub(crate) answers: Vec<Option<Payload>>,
    /// Clients that got an event, as far as it is known.
    pub(crate) clients: u64,
    /// Servers that have not answered.
    pub(crate) servers_missing: usize,
    /// Something was left out, because it weighs too much.
    pub(crate) is_cut: bool,
}

#[derive(Debug)]
struct Pending {
    question: Question,
    /// Servers that have not answered yet.
    servers_left: usize,
    /// Answers of clients that were left out.
    answers_cut: u64,
    bytes: usize,
    deadline: Time,
    gathered: Gathered,
}

impl Pending {
    fn is_complete(&self) -> bool {
        let answers = self.gathered.answers.len() as u64 + self.answers_cut;
        let has_clients = self.question == Question::Clients;
        self.servers_left == 0 && (!has_clients || answers >= self.gathered.clients)
    }
}

/// Requests of ours.
#[derive(Debug)]
pub(crate) struct Asked {
    uid: Uid,
    next: u64,
    pending: BTreeMap<u64, Pending>,
    /// What is gathered for all of them.
    bytes: usize,
}

impl Asked {
    pub(crate) fn new(uid: Uid) -> Asked {
        Asked { uid, next: 0, pending: BTreeMap::new(), bytes: 0 }
    }

    /// Begins a request that so many servers will answer: subscribers of the format's count channel, less the processes of the own
    /// fleet.
    pub(crate) fn ask(&mut self, question: Question, servers: usize, deadline: Time, ticket: u64) -> Asking {
        if servers == 0 {
            return Asking::Alone;
        }
        if self.pending.len() >= ASKED_MAX {
            return Asking::TooMany;
        }
        let number = self.next;
        self.next += 1;
        let gathered = Gathered { ticket, question, ..Gathered::default() };
        let pending =
            Pending { question, servers_left: servers, answers_cut: 0, bytes: 0, deadline, gathered };
        self.pending.insert(number, pending);
        // By its beginning an answer is known to be for us before it is decoded.
        Asking::As(format!("{}-{number:x}", self.uid.as_str()).into())
    }

    /// Takes an answer; gives what was gathered when it was the last one.
    pub(crate) fn receive(&mut self, reply: Reply) -> Option<Gathered> {
        let number = reply.request.strip_prefix(self.uid.as_str())?.strip_prefix('-')?;
        let number = u64::from_str_radix(number, 16).ok()?;
        let pending = self.pending.get_mut(&number)?;
        let bytes = weight(&reply.answer);
        let is_kept = self.bytes + bytes <= GATHERED_BYTES_MAX;
        if take(pending, reply.answer, is_kept) && is_kept {
            pending.bytes += bytes;
            self.bytes += bytes;
        }
        if pending.is_complete() { self.finish(number) } else { None }
    }

    /// The request is not sent, or nobody waits for it any longer.
    pub(crate) fn forget(&mut self, ticket: u64) {
        let number = self.pending.iter().find(|(_, pending)| pending.gathered.ticket == ticket);
        if let Some(number) = number.map(|(number, _)| *number) {
            self.finish(number);
        }
    }

    /// When the first request ends at the latest.
    pub(crate) fn next_timeout(&self) -> Option<Time> {
        self.pending.values().map(|pending| pending.deadline).min()
    }

    /// Ends the requests whose time is over, with what they have.
    pub(crate) fn handle_timeout(&mut self, now: Time) -> Vec<Gathered> {
        let late = self.pending.iter().filter(|(_, pending)| pending.deadline <= now);
        let late: Vec<u64> = late.map(|(number, _)| *number).collect();
        late.into_iter().filter_map(|number| self.finish(number)).collect()
    }

    fn finish(&mut self, number: u64) -> Option<Gathered> {
        let pending = self.pending.remove(&number)?;
        self.bytes -= pending.bytes;
        Some(Gathered { servers_missing: pending.servers_left, ..pending.gathered })
    }
}

/// Adds an answer to what was asked; false if it answers something else.
fn take(pending: &mut Pending, answer: Answer, is_kept: bool) -> bool {
    let Pending { question, servers_left, answers_cut, gathered, .. } = pending;
    let is_of_client = matches!(answer, Answer::Ack(_));
    match (*question, answer) {
        (Question::Clients, Answer::Count(count)) => {
            gathered.clients = gathered.clients.saturating_add(count)
        }
        (Question::Clients, Answer::Ack(_)) if !is_kept => *answers_cut += 1,
        (Question::Sockets, Answer::Sockets(sockets)) if is_kept => gathered.sockets.extend(sockets),
        (Question::Rooms, Answer::Rooms(names)) | (Question::Ids, Answer::Ids(names)) if is_kept => {
            gathered.names.extend(names.iter().map(str::to_owned));
        }
        // Of no ids it cannot be told that they are none.
        (Question::Ids, Answer::Sockets(sockets)) if sockets.is_empty() => {}
        (Question::Server, Answer::ServerSide(value)) | (Question::Clients, Answer::Ack(value))
            if is_kept =>
        {
            gathered.answers.push(value);
        }
        (Question::Sockets, Answer::Sockets(_))
        | (Question::Rooms, Answer::Rooms(_))
        | (Question::Ids, Answer::Ids(_))
        | (Question::Server, Answer::ServerSide(_)) => {}
        _ => return false,
    }
    gathered.is_cut |= !is_kept;
    if !is_of_client {
        *servers_left = servers_left.saturating_sub(1);
    }
    true
}

/// What an answer weighs, about.
fn weight(answer: &Answer) -> usize {
    let of = |value: &Option<Payload>| {
        let value = value.as_ref();
        let attachments = value.into_iter().flat_map(|value| &value.attachments);
        let bytes: usize = attachments.map(|bytes| bytes.len() + size_of::<Bytes>()).sum();
        size_of::<Payload>() + value.map_or(0, |value| value.json.len()) + bytes
    };
    match answer {
        Answer::Sockets(sockets) => sockets.iter().map(SocketFacts::len_bytes).sum(),
        Answer::Ids(names) | Answer::Rooms(names) => {
            names.len_bytes() + names.iter().count() * size_of::<String>() * 2
        }
        Answer::ServerSide(value) | Answer::Ack(value) => of(value),
        Answer::Count(_) => 0,
    }
}

/// Requests of others.
#[derive(Debug, Default)]
pub(crate) struct Owed {
    next: u64,
    debts: BTreeMap<u64, Debt>,
}

#[derive(Debug)]
struct Debt {
    namespace: String,
    to: Box<str>,
    request: RequestId,
    kind: Kind,
    until: Time,
}

/// What is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Sockets,
    Ids,
    Rooms,
    Clients,
    Server,
}

/// A request that is to be answered by [`Owed::pay`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) number: u64,
    /// How long finding it out may take.
    pub(crate) patience: Duration,
}

/// Answers, and to whom they go.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Payment {
    pub(crate) namespace: String,
    pub(crate) to: Box<str>,
    pub(crate) replies: Vec<Reply>,
}

impl Owed {
    /// Keeps who has asked; none if nothing is asked, or [`OWED_MAX`] are waiting.
    pub(crate) fn owe(&mut self, heard: &Heard, now: Time) -> Option<Due> {
        let mut timeout = TIMEOUT_DEFAULT;
        let (request, kind) = match &heard.message {
            Message::Broadcast(Broadcast { wants: Some(wants), .. }) => {
                timeout = wants.timeout.min(TIMEOUT_MAX);
                (&wants.request, Kind::Clients)
            }
            Message::ServerSide { request: Some(request), .. } => (request, Kind::Server),
            Message::Fetch { request, .. } => (request, Kind::Sockets),
            Message::AllRooms { request } => (request, Kind::Rooms),
            Message::Ids { request, .. } => (request, Kind::Ids),
            _ => return None,
        };
        self.forget_late(now);
        if self.debts.len() >= OWED_MAX {
            return None;
        }
        let number = self.next;
        self.next += 1;
        let to = heard.sender.clone().unwrap_or_default();
        let until = now + timeout;
        let debt = Debt { namespace: heard.namespace.clone(), to, request: request.clone(), kind, until };
        self.debts.insert(number, debt);
        let (share, whole) = PATIENCE_SHARE;
        Some(Due { number, patience: timeout * share / whole })
    }

    /// What to send to the one that asked; none if it waits no longer. With the last answers the request is over.
    pub(crate) fn pay(&mut self, number: u64, answers: Vec<Answer>, is_last: bool) -> Option<Payment> {
        let debt = self.debts.get(&number)?;
        let reply = |answer| Reply { request: debt.request.clone(), answer };
        let replies = answers.into_iter().map(reply).collect();
        let payment = Payment { namespace: debt.namespace.clone(), to: debt.to.clone(), replies };
        if is_last {
            self.debts.remove(&number);
        }
        Some(payment)
    }

    /// What to send when the shards have found out: all that is owed.
    pub(crate) fn settle(&mut self, number: u64, findings: Findings) -> Option<Payment> {
        let answers = match self.debts.get(&number)?.kind {
            Kind::Sockets => vec![Answer::Sockets(findings.sockets)],
            Kind::Ids => vec![Answer::Ids(findings.ids.iter().map(Sid::as_str).collect())],
            Kind::Rooms => vec![Answer::Rooms(findings.rooms.keys().map(String::as_str).collect())],
            Kind::Clients => answers_of(findings),
            Kind::Server => {
                vec![Answer::ServerSide(findings.servers.first().and_then(|(_, answer)| first_of(answer)))]
            }
        };
        self.pay(number, answers, true)
    }

    /// Forgets who waits no longer.
    pub(crate) fn forget_late(&mut self, now: Time) {
        self.debts.retain(|_, debt| debt.until > now);
    }
}

/// What clients have answered, as Node's adapters say it: how many got the event, and the first argument of each answer.
pub(crate) fn answers_of(findings: Findings) -> Vec<Answer> {
    let count = Answer::Count((findings.answers.len() + findings.missing.len()) as u64);
    let acks = findings.answers.iter().map(|(_, answer)| Answer::Ack(first_of(answer)));
    std::iter::once(count).chain(acks).collect()
}

/// The first argument by itself, with the attachments that are in it.
fn first_of(answer: &AnswerText) -> Option<Payload> {
    let first = Elements::new(&answer.json).next()?;
    if answer.attachments.is_empty() {
        return Some(Payload { json: first.to_owned(), attachments: Vec::new() });
    }
    // What is read again has its attachments numbered anew.
    let mut packed = Vec::new();
    let attachments: Vec<&[u8]> = answer.attachments.iter().map(|bytes| &bytes[..]).collect();
    write::json(&mut packed, first, &attachments).ok()?;
    let packed = Bytes::from(packed);
    let (json, attachments) = Reader::new(&packed).take_value().ok()??;
    Some(Payload { json, attachments })
}

#[cfg(test)]
mod tests {
    use crate::base::ids::NodeTag;
    use crate::message::inquiry::AckError;
    use crate::message::names::Names;
    use crate::message::target::Target;

    use super::super::Wants;
    use super::super::vectors::sockets;
    use super::*;

    fn asked() -> Asked {
        Asked::new(Uid::new(NodeTag([0x0a, 0x1b, 0x2c])))
    }

    fn begin(asked: &mut Asked, question: Question, servers: usize, ticket: u64) -> RequestId {
        match asked.ask(question, servers, Time(5000), ticket) {
            Asking::As(request) => request,
            other => panic!("{other:?}"),
        }
    }

    fn reply(request: &RequestId, answer: Answer) -> Reply {
        Reply { request: request.clone(), answer }
    }

    fn text(json: &str) -> Option<Payload> {
        Some(Payload { json: json.to_owned(), attachments: Vec::new() })
    }

    #[test]
    fn a_request_ends_with_the_last_of_its_answers() {
        let mut asked = asked();
        let first = begin(&mut asked, Question::Sockets, 2, 70);
        let second = begin(&mut asked, Question::Server, 1, 71);
        assert_eq!((&*first, &*second), ("shardcast-0a1b2c-0", "shardcast-0a1b2c-1"));
        assert_eq!(asked.receive(reply(&first, sockets())), None);
        assert_eq!(asked.receive(reply(&first, Answer::Count(9))), None, "answers something else");
        let gathered = asked.receive(reply(&second, Answer::ServerSide(text("1")))).unwrap();
        assert_eq!((gathered.ticket, gathered.answers), (71, vec![text("1")]));
        let gathered = asked.receive(reply(&first, sockets())).unwrap();
        assert_eq!((gathered.ticket, gathered.sockets.len(), gathered.servers_missing), (70, 2, 0));
        assert_eq!(asked.receive(reply(&first, sockets())), None, "it is over");
        assert_eq!((asked.bytes, asked.next_timeout()), (0, None));
    }

    #[test]
    fn clients_are_waited_for_as_many_as_got_the_event() {
        let mut asked = asked();
        let request = begin(&mut asked, Question::Clients, 2, 7);
        // The answers of one server may come before another has counted.
        for answer in [Answer::Count(1), Answer::Ack(text("\"a\"")), Answer::Ack(None)] {
            assert_eq!(asked.receive(reply(&request, answer)), None);
        }
        assert_eq!(asked.receive(reply(&request, Answer::Count(2))), None);
        let gathered = asked.receive(reply(&request, Answer::Ack(text("\"c\"")))).unwrap();
        assert_eq!((gathered.clients, gathered.answers), (3, vec![text("\"a\""), None, text("\"c\"")]));
        let request = begin(&mut asked, Question::Clients, 1, 8);
        assert_eq!(asked.receive(reply(&request, Answer::Count(0))).unwrap().answers, []);
    }

    #[test]
    fn names_are_gathered_each_once() {
        let mut asked = asked();
        let names = |names: &[&str]| names.iter().copied().collect::<Names>();
        let request = begin(&mut asked, Question::Rooms, 2, 7);
        asked.receive(reply(&request, Answer::Rooms(names(&["b", "a"]))));
        let gathered = asked.receive(reply(&request, Answer::Rooms(names(&["b", "c"])))).unwrap();
        assert_eq!(gathered.names.into_iter().collect::<Vec<_>>(), ["a", "b", "c"]);
        let request = begin(&mut asked, Question::Ids, 2, 7);
        asked.receive(reply(&request, Answer::Sockets(Vec::new())));
        let gathered = asked.receive(reply(&request, Answer::Ids(names(&["d"])))).unwrap();
        assert_eq!(gathered.names.len(), 1);
    }

    #[test]
    fn time_ends_what_is_not_answered_with_what_there_is() {
        let mut asked = asked();
        let request = begin(&mut asked, Question::Sockets, 3, 7);
        asked.receive(reply(&request, sockets()));
        assert_eq!(asked.next_timeout(), Some(Time(5000)));
        assert!(asked.handle_timeout(Time(4999)).is_empty());
        let ended = asked.handle_timeout(Time(5000));
        assert_eq!((ended.len(), ended[0].servers_missing, ended[0].sockets.len()), (1, 2, 1));
        assert_eq!(asked.receive(reply(&request, sockets())), None);
        begin(&mut asked, Question::Sockets, 3, 8);
        asked.forget(8);
        assert_eq!(asked.next_timeout(), None);
    }

    #[test]
    fn requests_and_what_they_gather_are_bounded() {
        let mut asked = asked();
        assert_eq!(asked.ask(Question::Sockets, 0, Time(1), 1), Asking::Alone);
        let request = begin(&mut asked, Question::Clients, 1, 0);
        asked.receive(reply(&request, Answer::Count(3)));
        let large = || text(&"1".repeat(GATHERED_BYTES_MAX / 2));
        assert_eq!(asked.receive(reply(&request, Answer::Ack(large()))), None);
        assert_eq!(asked.receive(reply(&request, Answer::Ack(large()))), None);
        let gathered = asked.receive(reply(&request, Answer::Ack(text("2")))).unwrap();
        assert_eq!((gathered.answers.len(), gathered.is_cut), (2, true));
        assert_eq!(asked.bytes, 0);
        for ticket in 0..ASKED_MAX as u64 {
            begin(&mut asked, Question::Sockets, 1, ticket);
        }
        assert_eq!(asked.ask(Question::Sockets, 1, Time(1), 1), Asking::TooMany);
        let others = [
            "other-0",
            "shardcast-0a1b2c",
            "shardcast-0a1b2c-",
            "shardcast-0a1b2c-x",
            "shardcast-0a1b2c-ffffff",
        ];
        for request in others {
            assert_eq!(asked.receive(reply(&request.into(), sockets())), None, "{request}");
        }
    }

    fn fetch(request: &str) -> Heard {
        let message = Message::Fetch { request: request.into(), target: Target::default() };
        Heard { namespace: "/n".into(), sender: Some("theirs".into()), message }
    }

    #[test]
    fn whoever_asks_is_paid_until_its_time_is_over() {
        let mut owed = Owed::default();
        let due = owed.owe(&fetch("a"), Time(0)).unwrap();
        assert_eq!(due, Due { number: 0, patience: Duration::from_millis(4500) });
        let payment = owed.pay(due.number, vec![Answer::Sockets(Vec::new())], true).unwrap();
        let replies = vec![reply(&"a".into(), Answer::Sockets(Vec::new()))];
        assert_eq!(payment, Payment { namespace: "/n".into(), to: "theirs".into(), replies });
        assert_eq!(owed.pay(due.number, Vec::new(), true), None, "paid");

        let wants = Some(Wants { request: "b".into(), timeout: Duration::from_millis(500) });
        let event = Broadcast { target: Target::default(), event: Payload::default(), wants };
        let heard = Heard { message: Message::Broadcast(event.clone()), ..fetch("") };
        let due = owed.owe(&heard, Time(0)).unwrap();
        assert_eq!(due.patience, Duration::from_millis(450));
        assert_eq!(owed.pay(due.number, vec![Answer::Count(1)], false).unwrap().replies.len(), 1);
        owed.forget_late(Time(499));
        assert!(owed.pay(due.number, vec![Answer::Ack(None)], false).is_some());
        owed.forget_late(Time(500));
        assert_eq!(owed.pay(due.number, vec![Answer::Ack(None)], true), None);

        let due = owed.owe(&heard, Time(0)).unwrap();
        let paid = owed.settle(due.number, Findings::default()).unwrap();
        assert_eq!(paid.replies, [reply(&"b".into(), Answer::Count(0))]);
        let rooms = Heard { message: Message::AllRooms { request: "r".into() }, ..fetch("") };
        let due = owed.owe(&rooms, Time(0)).unwrap();
        let findings = Findings { rooms: [("x".to_owned(), 2)].into(), ..Findings::default() };
        let paid = owed.settle(due.number, findings).unwrap();
        assert_eq!(paid.replies, [reply(&"r".into(), Answer::Rooms(["x"].into_iter().collect()))]);

        let plain = Message::Broadcast(Broadcast { wants: None, ..event });
        assert_eq!(owed.owe(&Heard { message: plain, ..fetch("") }, Time(0)), None, "nothing is asked");
        for _ in 0..OWED_MAX {
            assert!(owed.owe(&fetch("c"), Time(1000)).is_some());
        }
        assert_eq!(owed.owe(&fetch("c"), Time(5999)), None);
        assert!(owed.owe(&fetch("c"), Time(6000)).is_some(), "the others wait no longer");
    }

    #[test]
    fn of_what_a_client_answers_the_first_argument_goes_on() {
        let sid = Sid::parse("qu6x9d3Zy3p4LoxoAAAB").unwrap();
        let place = |num: usize| format!("{{\"_placeholder\":true,\"num\":{num}}}");
        let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
        let rows = [
            ("", vec![], None),
            (" \"a\" , 2", vec![], text("\"a\"")),
            ("{\"_placeholder\":true,\"num\":0}", vec![], text("{\"_placeholder\":true,\"num\":0}")),
            (
                &*format!("[{}],{}", place(1), place(0)),
                vec![bytes("zero"), bytes("one")],
                Some(Payload { json: format!("[{}]", place(0)), attachments: vec![bytes("one")] }),
            ),
        ];
        for (json, attachments, expected) in rows {
            let answer = AnswerText { json: json.to_owned(), attachments };
            let findings = Findings {
                answers: vec![(sid, answer)],
                missing: vec![(sid, AckError::Timeout)],
                ..Findings::default()
            };
            assert_eq!(answers_of(findings), [Answer::Count(2), Answer::Ack(expected)], "{json}");
        }
    }
}
