//! What a broker delivers that nobody of ours has said.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::{Node, Nodes, everybody, findings, frame, rooms, root, sid, tag};
use crate::bus::fleet::COUNTED_NAMESPACES_MAX;
use crate::bus::own::{self, AskWord, Asked, BehindWord, ChangeWord, Envelope, Hello, Raw, To, Word};
use crate::bus::{Body, Channel, Delivery};
use crate::mesh::ShardMessage;
use crate::message::inquiry::{AnswerText, Ask, Findings};
use crate::message::target::Target;
use crate::protocol::socketio::frames::FramedEvent;

#[test]
fn what_cannot_be_read_is_counted_and_does_nothing() {
    let mut nodes = Nodes::new(2);
    nodes.nodes[1].hold("room");
    nodes.settle();
    let envelope = |word| own::write(&Envelope { from: [77; 16], sequence: 1, word });
    let to = |namespace, endpoint| To {
        endpoint,
        namespace,
        is_everyone: false,
        rooms: vec!["room"],
        except: Vec::new(),
        is_uncompressed: false,
        when_behind: BehindWord::Rule,
    };
    let event = frame("/", "1");
    let whole = envelope(Word::Emit { to: to("/", None), frame: Raw(&event), id: None });
    let mut newer = whole.clone();
    newer[2] += 1;
    let rows: [(&[u8], &str); 7] = [
        (b"", "unreadable"),
        (b"{\"method\": \"emit\", \"event\": \"x\"}", "unreadable"),
        (&whole[..whole.len() - 1], "unreadable"),
        (&newer, "unreadable"),
        (&envelope(Word::Emit { to: to("/chat", None), frame: Raw(&event), id: None }), "unreadable"),
        (&envelope(Word::Emit { to: to("/", None), frame: Raw(&event[..3]), id: None }), "unreadable"),
        (
            &envelope(Word::Emit { to: to("/", Some("/another queue's/")), frame: Raw(&event), id: None }),
            "nobodys",
        ),
    ];
    for (number, (bytes, counted)) in rows.into_iter().enumerate() {
        let stats = Arc::clone(&nodes.nodes[1].link.stats);
        let before = (stats.unreadable.get(), stats.nobodys.get());
        let body = Body::Bytes(Bytes::copy_from_slice(bytes));
        let mut hub = std::mem::replace(&mut nodes.nodes[1].hub, Node::new(9, 9).hub);
        hub.receive(&Delivery { channel: Channel::All, body, offset: None }, nodes.now);
        // Each row is the first of its sender.
        hub.fleet = Default::default();
        nodes.nodes[1].hub = hub;
        let counts = (stats.unreadable.get() - before.0, stats.nobodys.get() - before.1);
        assert_eq!(counts, if counted == "nobodys" { (0, 1) } else { (1, 0) }, "row {number}");
        assert_eq!(nodes.nodes[1].take_got(), [""; 0], "row {number}");
    }
}

#[test]
fn a_hello_of_any_size_is_kept_in_bounds() {
    let mut nodes = Nodes::new(1);
    let names: Vec<String> = (0..5 * COUNTED_NAMESPACES_MAX).map(|number| format!("/{number}")).collect();
    for (from, count) in [([7; 16], u64::MAX), ([8; 16], u64::MAX)] {
        let sockets = names.iter().map(|name| (None, name.as_str(), count)).collect();
        let word = Word::Hello(Hello {
            name: "x",
            tag: [0; 3],
            started: 0,
            sockets,
            is_new: false,
            have_moved: false,
        });
        for sequence in [u64::MAX - 1, u64::MAX, 0] {
            let word = Word::Bye;
            let bytes = Bytes::from(own::write(&Envelope { from: [9; 16], sequence, word }));
            let delivery = Delivery { channel: Channel::All, body: Body::Bytes(bytes), offset: None };
            nodes.nodes[0].hub.receive(&delivery, nodes.now);
        }
        let bytes = Bytes::from(own::write(&Envelope { from, sequence: 1, word }));
        let delivery = Delivery { channel: Channel::All, body: Body::Bytes(bytes), offset: None };
        nodes.nodes[0].hub.receive(&delivery, nodes.now);
    }
    let fleet = &nodes.nodes[0].hub.fleet;
    assert_eq!((fleet.sockets(None, "/0"), fleet.sockets(None, "/4999")), (u64::MAX, 0));
}

#[test]
fn a_question_that_would_wait_for_ever_waits_for_an_hour() {
    let mut nodes = Nodes::new(1);
    let (event, namespace, target) = (frame("/", "1"), root(), everybody());
    let rows = [(9, 9), (u64::MAX, 3_600_000)];
    for (sequence, (timeout_millis, expected)) in (1..).zip(rows) {
        let ask = AskWord::Answers { frame: Raw(&event) };
        let question = Asked { number: sequence, by: [9; 3] };
        let word = Word::Ask { question, to: To::new(&namespace, &target), ask, timeout_millis };
        let bytes = Bytes::from(own::write(&Envelope { from: [7; 16], sequence, word }));
        let delivery = Delivery { channel: Channel::All, body: Body::Bytes(bytes), offset: None };
        let node = &mut nodes.nodes[0];
        node.hub.receive(&delivery, nodes.now);
        let asked = node.inboxes.iter_mut().filter_map(|inbox| inbox.next_message());
        let timeouts: Vec<_> = asked
            .filter_map(|message| match message {
                ShardMessage::Request(request) if matches!(request.ask, Ask::Answers { .. }) => {
                    request.timeout
                }
                _ => None,
            })
            .collect();
        assert_eq!(timeouts, [Duration::from_millis(expected)]);
    }
}

/// Messages of every kind, as another process may say them.
fn samples() -> Vec<Vec<u8>> {
    let event = frame("/", "1,{\"a\":[]}");
    let target = Target { except: ["x"].into_iter().collect(), ..rooms(&["room", "é"]) };
    let namespace = root();
    let to = || To::new(&namespace, &target);
    let asked = |number| Asked { number, by: [1; 3] };
    let id = sid(0);
    let found = Findings {
        answers: vec![(id, AnswerText { json: "1".into(), attachments: vec![Bytes::from_static(b"x")] })],
        ..findings(&[id, sid(1)])
    };
    let words = vec![
        Word::Emit { to: to(), frame: Raw(&event), id: None },
        Word::Change { to: to(), change: ChangeWord::Join("hall") },
        Word::Change { to: to(), change: ChangeWord::Disconnect { close_session: false } },
        Word::Ask {
            question: asked(1),
            to: to(),
            ask: AskWord::Answers { frame: Raw(&event) },
            timeout_millis: 9,
        },
        Word::Ask { question: asked(2), to: to(), ask: AskWord::Sockets, timeout_millis: u64::MAX },
        Word::Report { question: 3, findings: found },
        Word::Hello(Hello {
            name: "n",
            tag: [1; 3],
            started: 1,
            sockets: vec![(None, "/", 3)],
            is_new: true,
            have_moved: false,
        }),
        Word::Bye,
    ];
    let envelope = |(sequence, word)| own::write(&Envelope { from: [3; 16], sequence, word });
    (1..).zip(words).map(envelope).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever comes by whichever channel, shards get nothing but whole events.
    #[test]
    fn nothing_that_the_broker_delivers_panics_or_reaches_shards_broken(
        steps in proptest::collection::vec(
            (0..8_usize, 0..5_usize, proptest::collection::vec((any::<u16>(), any::<u8>()), 0..4), any::<u16>()),
            1..60,
        ),
    ) {
        let samples = samples();
        let mut nodes = Nodes::new(2);
        nodes.nodes[0].hold("room");
        nodes.nodes[0].ask(1, everybody(), Ask::Ids);
        nodes.settle();
        for (sample, channel, changes, cut) in steps {
            let mut bytes = samples[sample].clone();
            for (place, byte) in changes {
                let place = usize::from(place) % bytes.len();
                bytes[place] = byte;
            }
            if cut % 8 == 0 {
                bytes.truncate(usize::from(cut) % bytes.len());
            }
            let channel = match channel {
                0 => Channel::All,
                1 => Channel::Node(tag(0)),
                2 => Channel::Slot(u32::from(cut)),
                3 => Channel::Python,
                _ => Channel::Stream("s".into()),
            };
            let body = Body::Bytes(Bytes::from(bytes));
            nodes.nodes[0].hub.receive(&Delivery { channel, body, offset: None }, nodes.now);
            nodes.pass(Duration::from_millis(u64::from(cut) % 50));
            for message in nodes.nodes[0].got.drain(..) {
                let frame = match message {
                    ShardMessage::Broadcast(broadcast) => Arc::clone(&broadcast.frame),
                    ShardMessage::Request(request) => match &request.ask {
                        Ask::Answers { frame, .. } => Arc::clone(frame),
                        _ => continue,
                    },
                    _ => continue,
                };
                prop_assert!(FramedEvent::split(&frame).is_ok());
            }
        }
    }
}
