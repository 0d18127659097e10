//! Questions between hubs: who is asked, who is waited for, and what is counted without asking.

use std::sync::Arc;
use std::time::Duration;

use super::{Node, Nodes, everybody, findings, frame, rooms, root, sid, tag};
use crate::bus::Channel;
use crate::bus::fleet::HELLO_EVERY;
use crate::bus::own::{AskWord, Asked, ChangeWord, To, Word};
use crate::bus::questions::QUESTIONS_MAX;
use crate::mesh::link::{ANSWERS_BYTES_MAX, REPORT_BYTES_MAX};
use crate::message::address::Address;
use crate::message::inquiry::{AckError, AnswerText, Ask, Findings};
use crate::message::target::{SocketChange, SocketCommand, Target, ToldChange};
use crate::protocol::socketio::frames::FramedEvent;

#[test]
fn a_question_is_answered_by_all_or_by_the_one_that_an_id_names() {
    let mut nodes = Nodes::new(3);
    nodes.nodes[0].ask(5, everybody(), Ask::Ids);
    nodes.settle();
    for node in [1, 2] {
        assert_eq!(nodes.nodes[0].take_reports().len(), 0, "not all have answered");
        let (ask, reply) = nodes.nodes[node].take_request().expect("it was asked");
        assert!(matches!(ask, Ask::Ids));
        reply.send(Ok(findings(&[sid(node)]))).expect("it is waited for");
        nodes.settle();
    }
    let [(5, found)] = &nodes.nodes[0].take_reports()[..] else { panic!("one report") };
    assert_eq!((&found.ids[..], &found.processes_missing[..]), (&[sid(1), sid(2)][..], &[][..]));
    let id = sid(2).to_string();
    nodes.nodes[0].ask(6, rooms(&[&id]), Ask::Ids);
    nodes.settle();
    assert!(nodes.nodes[1].take_request().is_none());
    let (_, reply) = nodes.nodes[2].take_request().expect("it was asked");
    // Shards that were late make the process one that is missing.
    let late = Findings { shards_late: usize::MAX, shards_unreached: usize::MAX, ..findings(&[]) };
    reply.send(Ok(late)).expect("it is waited for");
    nodes.settle();
    let [(6, found)] = &nodes.nodes[0].take_reports()[..] else { panic!("one report") };
    assert_eq!(found.processes_missing, ["node 2"]);
    nodes.nodes[0].ask(7, rooms(&["room"]), Ask::Answers { id: 9, frame: Arc::new(frame("/", "1")) });
    nodes.settle();
    let (ask, _reply) = nodes.nodes[1].take_request().expect("it was asked");
    let Ask::Answers { id, frame } = ask else { panic!("a question for clients") };
    let event = FramedEvent::split(&frame).expect("an event");
    assert_eq!((event.id, event.args), (Some(id), "1"), "the id is one of the process that is asked");
}

#[test]
fn who_asks_before_its_first_hello_has_come_is_answered_and_nobody_else() {
    for is_served in [true, false] {
        let mut nodes = Nodes::new(2);
        let endpoint = if is_served { None } else { Some("/another queue's/") };
        let (namespace, target) = (Address::new(endpoint, "/"), everybody());
        let question = Asked { number: 7, by: tag(8).0 };
        let word =
            Word::Ask { question, to: To::new(&namespace, &target), ask: AskWord::Ids, timeout_millis: 900 };
        nodes.tell(1, 50, 1, word);
        if is_served {
            let (_, reply) = nodes.nodes[1].take_request().expect("it was asked");
            reply.send(Ok(findings(&[sid(1)]))).expect("it is waited for");
            nodes.nodes[1].hear_answers();
        }
        let posts: Vec<_> = nodes.nodes[1].hub.posts().drain(..).map(|post| post.channel).collect();
        assert_eq!(posts, [Channel::Node(tag(8))], "{is_served}");
    }
}

#[test]
fn who_does_not_answer_is_named() {
    let mut nodes = Nodes::new(4);
    for (number, target) in [(1, everybody()), (2, rooms(&["room"]))] {
        nodes.nodes[0].ask(number, target, Ask::Sockets);
    }
    nodes.settle();
    for _ in 0..2 {
        let (_, reply) = nodes.nodes[1].take_request().expect("it was asked");
        reply.send(Ok(Findings::default())).expect("it is waited for");
    }
    // The second dies with goodbye, the third stays and says nothing.
    nodes.nodes[2].hub.say_goodbye();
    nodes.settle();
    nodes.disconnect(2);
    assert_eq!(nodes.nodes[0].take_reports().len(), 0);
    nodes.pass(Duration::from_secs(2));
    let mut reports = nodes.nodes[0].take_reports();
    reports.sort_by_key(|(number, _)| *number);
    let missing: Vec<_> =
        reports.iter().map(|(number, found)| (*number, found.processes_missing.join(", "))).collect();
    assert_eq!(missing, [(1, "node 2, node 3".to_owned()), (2, "node 2, node 3".to_owned())]);
    // The connection breaks while a question is out: all are missing at once.
    nodes.nodes[0].ask(3, everybody(), Ask::Rooms);
    nodes.settle();
    nodes.disconnect(0);
    let reports = nodes.nodes[0].take_reports();
    let mut missing = reports[0].1.processes_missing.clone();
    missing.sort();
    assert_eq!(missing, ["node 1", "node 3"]);
    // An answer that comes after that is ignored, and what is owed is forgotten with each connection.
    for _ in 0..2 {
        while let Some((_, reply)) = nodes.nodes[1].take_request() {
            let _ = reply.send(Ok(findings(&[sid(1)])));
        }
        nodes.connect(0);
        nodes.pass(HELLO_EVERY);
        nodes.disconnect(0);
    }
    assert_eq!(nodes.nodes[0].take_reports().len(), 0);
}

#[test]
fn questions_are_bounded_in_number_and_in_bytes() {
    let mut nodes = Nodes::new(2);
    for number in 0..QUESTIONS_MAX as u32 + 1 {
        nodes.nodes[0].ask(number, everybody(), Ask::Ids);
        nodes.turn(0);
    }
    let [(number, found)] = &nodes.nodes[0].take_reports()[..] else { panic!("one is refused") };
    assert_eq!((*number as usize, found.processes_missing.len()), (QUESTIONS_MAX, 1));
    nodes.settle();
    // What is owed to others is bounded as well, and forgotten with the connection.
    let (namespace, target) = (root(), everybody());
    let question = Asked { number: 1, by: [7; 3] };
    let word = Word::Ask { question, to: To::new(&namespace, &target), ask: AskWord::Ids, timeout_millis: 9 };
    nodes.tell(1, 50, 1, word);
    assert_eq!(nodes.nodes[1].link.stats.lost.get(), 1);
    nodes.disconnect(1);
    nodes.nodes[1].got.clear();
    nodes.pass(Duration::from_secs(3));
    assert_eq!(nodes.nodes[0].take_reports().len(), QUESTIONS_MAX);
    nodes.connect(1);
    nodes.pass(HELLO_EVERY);
    // Larger than the broker in memory carries, so that it is given to the hub by hand.
    let question = Ask::Answers { id: 1, frame: Arc::new(frame("/", "1")) };
    let asked = [1, 2, 3].map(|number| nodes.asked(number, everybody(), question.clone()));
    for (place, bytes) in [(0, REPORT_BYTES_MAX - 1000), (1, 11), (2, REPORT_BYTES_MAX + 1)] {
        let json = "1".repeat(bytes);
        let answers = vec![(sid(1), AnswerText { json, attachments: Vec::new() })];
        // What it says of its weight, and of others, is not believed.
        let processes_missing = vec!["somebody".to_owned()];
        let findings = Findings { answers, bytes: 1, processes_missing, ..Findings::default() };
        let word = Word::Report { question: asked[place], findings };
        nodes.tell(0, 2, 1_000_000 + place as u64, word);
        let reports = nodes.nodes[0].take_reports();
        let [(_, found)] = &reports[..] else { panic!("one report") };
        // Each is given away as soon as it is whole, so that none waits beside another.
        let counts = (found.answers.len(), found.missing.len(), found.processes_missing.len());
        let expected = if bytes > REPORT_BYTES_MAX { (true, (0, 1, 0)) } else { (false, (1, 0, 0)) };
        assert_eq!((found.is_cut, counts), expected, "{place}");
    }
    nodes.nodes.push(Node::new(2, 3));
    nodes.connect(2);
    nodes.pass(HELLO_EVERY);
    let asked = [4, 5, 6].map(|number| nodes.asked(number, everybody(), question.clone()));
    const { assert!(ANSWERS_BYTES_MAX == 2 * REPORT_BYTES_MAX) };
    for (place, bytes) in [(0, REPORT_BYTES_MAX - 1000), (1, REPORT_BYTES_MAX - 1000), (2, 3000)] {
        let answers = vec![(sid(1), AnswerText { json: "1".repeat(bytes), attachments: Vec::new() })];
        let word =
            Word::Report { question: asked[place], findings: Findings { answers, ..Findings::default() } };
        nodes.tell(0, 2, 2_000_000 + place as u64, word);
        assert_eq!(nodes.nodes[0].hub.questions.len(), 3, "the third process is waited for");
    }
    nodes.tell(0, 3, 3_000_000, Word::Report { question: asked[2], findings: Findings::default() });
    let reports = nodes.nodes[0].take_reports();
    let [(6, found)] = &reports[..] else { panic!("the other two wait for the third process") };
    assert_eq!((found.is_cut, found.answers.len()), (true, 0));
    assert_eq!(found.missing, [(sid(1), AckError::TooLarge)]);
}

#[test]
fn everybody_is_counted_by_what_the_others_last_said() {
    let mut nodes = Nodes::new(3);
    nodes.nodes[1].census = vec![("/", 3), ("/chat", 8)];
    nodes.nodes[2].census = vec![("/", 4)];
    nodes.pass(HELLO_EVERY * 2);
    nodes.nodes[0].ask(1, everybody(), Ask::Count);
    nodes.settle();
    let count = |nodes: &mut Nodes| nodes.nodes[0].take_reports().remove(0).1.count;
    assert_eq!(count(&mut nodes), 7);
    assert!(nodes.nodes[1].take_request().is_none(), "nobody is asked");
    // A shard that does not answer in time does not make sockets vanish.
    nodes.now = nodes.now + HELLO_EVERY;
    nodes.nodes[1].hub.handle_timeout(nodes.now);
    for inbox in &nodes.nodes[1].inboxes {
        while let Some(message) = inbox.next_message() {
            drop(message);
        }
    }
    nodes.settle();
    nodes.nodes[1].census = vec![("/", 3)];
    nodes.nodes[0].ask(2, everybody(), Ask::Count);
    nodes.settle();
    assert_eq!(count(&mut nodes), 7);
    nodes.nodes[2].hub.say_goodbye();
    nodes.nodes[0].ask(3, Target { except: ["x"].into_iter().collect(), ..everybody() }, Ask::Count);
    nodes.settle();
    let _unanswered = nodes.nodes[1].take_request().expect("with exceptions all are asked");
    nodes.nodes[0].ask(4, everybody(), Ask::Count);
    nodes.settle();
    let reports = nodes.nodes[0].take_reports();
    assert_eq!(reports.iter().map(|(number, found)| (*number, found.count)).collect::<Vec<_>>(), [(4, 3)]);
}

/// The one change that a process has been told to make, and whether its shards have been asked after it.
fn made(nodes: &mut Nodes, node: usize) -> (Vec<String>, bool) {
    let mut got = nodes.nodes[node].take_got();
    // Each shard with members gets it.
    got.dedup();
    let request = nodes.nodes[node].take_request();
    let is_asked = request.is_some();
    if let Some((ask, reply)) = request {
        assert!(matches!(ask, Ask::Settled(None)), "{ask:?}");
        reply.send(Ok(Findings::default())).expect("it is waited for");
    }
    nodes.settle();
    (got, is_asked)
}

#[test]
fn a_change_that_is_awaited_is_made_once_and_then_reported() {
    let mut nodes = Nodes::new(3);
    nodes.nodes[1].hold("red");
    nodes.settle();
    let change = SocketChange::Join("green".to_owned());
    let text = vec!["Join(\"green\")".to_owned()];
    let told = nodes.nodes[0].change(rooms(&["red"]), change.clone());
    nodes.nodes[0].ask(1, rooms(&["red"]), Ask::Settled(Some(told)));
    nodes.settle();
    assert_eq!(nodes.nodes[0].take_reports().len(), 0, "the second has members, and has not reported");
    assert_eq!(made(&mut nodes, 1), (text.clone(), true));
    assert_eq!(made(&mut nodes, 2), (Vec::new(), false), "the third has none");
    let [(1, found)] = &nodes.nodes[0].take_reports()[..] else { panic!("one report") };
    assert_eq!(*found, Findings::default());
    // What nobody was told is nobody's to report, and what was told nobody else may wait for is done.
    let told =
        ToldChange::new(SocketCommand { namespace: root(), target: everybody(), change: change.clone() });
    nodes.nodes[0].ask(2, everybody(), Ask::Settled(Some(told)));
    nodes.nodes[0].ask(3, everybody(), Ask::Settled(None));
    nodes.settle();
    assert_eq!(nodes.nodes[0].take_reports().len(), 2);
    // A broker without order: the question comes first, the change in time or not at all, or after all.
    let (namespace, target) = (root(), rooms(&["red"]));
    let to = || To::new(&namespace, &target);
    let change_word = || ChangeWord::from(&change);
    let ask = |sequence| Word::Ask {
        question: Asked { number: sequence, by: tag(9).0 },
        to: to(),
        ask: AskWord::Settled { change: change_word(), sequence },
        timeout_millis: 4000,
    };
    nodes.tell(1, 60, 10, Word::Bye);
    nodes.tell(1, 60, 12, ask(11));
    assert_eq!(made(&mut nodes, 1), (Vec::new(), false), "it waits for the change");
    nodes.tell(1, 60, 11, Word::Change { to: to(), change: change_word() });
    assert_eq!(made(&mut nodes, 1), (text.clone(), true));
    nodes.tell(1, 60, 14, ask(13));
    nodes.pass(Duration::from_millis(400));
    assert_eq!(made(&mut nodes, 1), (text, true), "it is made without having come");
    nodes.tell(1, 60, 13, Word::Change { to: to(), change: change_word() });
    nodes.pass(Duration::from_millis(400));
    assert_eq!(made(&mut nodes, 1), (Vec::new(), false), "and not twice");
    // After a gap nobody knows whether it had come.
    nodes.disconnect(1);
    nodes.connect(1);
    nodes.tell(1, 60, 16, ask(15));
    assert_eq!(made(&mut nodes, 1), (Vec::new(), false));
}
