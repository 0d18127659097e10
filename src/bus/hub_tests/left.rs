//! Sockets of processes that are gone: left with a broker in memory, taken from it, and what their clients have missed read back.

use std::time::Duration;

use super::{Node, Nodes, everybody, frame, rooms, root, tag};
use crate::base::ids::{NodeTag, ShardId, Sid};
use crate::base::slab::Key;
use crate::bus::left::LeftLimits;
use crate::mesh::ShardMessage;
use crate::mesh::link::Said;
use crate::message::far::{FarAsker, FarSaid, FarWord, OffsetText};
use crate::message::left::{LeftEvent, LeftSocket, Passed};
use crate::message::recovery::{Asker, EventId, LostSocket, NotKept, Offset, Position};
use crate::message::target::{Broadcast, SocketChange, Target, WhenBehind};
use crate::protocol::socketio::frames::{FramedEvent, with_argument};

const LIMITS: LeftLimits =
    LeftLimits { keep: Duration::from_secs(60), events_max: 20, bytes_max: 10_000, rooms_max: 4 };

/// The first had the socket, the second is the one that its client comes to, the third speaks.
const KEEPER: usize = 0;
const ASKER: usize = 1;
const SPEAKER: usize = 2;

fn nodes() -> Nodes {
    let mut nodes = Nodes::new(3);
    nodes.exchange.keep();
    nodes.nodes.iter_mut().for_each(|node| node.hub.keep_sockets(LIMITS));
    nodes.nodes[KEEPER].hold("news");
    nodes.settle();
    // What is not in the stream is none of it.
    nodes.pass(Duration::from_secs(2));
    nodes.take_got();
    nodes
}

fn sid() -> Sid {
    Sid::new(ShardId(1), [1; 13])
}

/// Of a process that is none of these.
fn pid() -> Sid {
    Sid::new(ShardId(1), [2; 13])
}

fn offset(node: usize, number: u64) -> Offset {
    Offset { node: Some(tag(node)), origin: ShardId(0), number, is_local: false }
}

/// A process says something that has this name everywhere.
fn emit(nodes: &mut Nodes, node: usize, target: Target, number: u64) {
    let id = Some(offset(node, number).event_id());
    let frame = frame("/", &format!("\"{node}:{number}\"")).into();
    let broadcast = Broadcast { namespace: root(), target, frame, id, ..Broadcast::default() };
    nodes.nodes[node].link.say(Said::Emit(broadcast.into())).expect("there is room");
    nodes.settle();
}

/// What the keeper's shard says of an event that it has sent to the socket.
fn sent(number: u64, id: Option<EventId>, text: Option<&str>) -> LeftEvent {
    let offset = offset(KEEPER, number);
    let whole = |text| with_argument(&frame("/", &format!("\"{text}\"")), &format!("\"{offset}\""));
    LeftEvent { offset: OffsetText::new(offset), id, age_millis: 10, frame: text.map(whole) }
}

/// The socket, which has been sent these events. Of its own process it had seen two.
fn socket(events: Vec<LeftEvent>) -> LeftSocket {
    LeftSocket {
        endpoint: None,
        namespace: "/".to_owned(),
        node: tag(KEEPER),
        sid: sid(),
        rooms: vec!["news".to_owned()],
        data: Some("7".into()),
        let_go: None,
        events,
        passed: Passed { numbers: vec![2, 0], position: None },
    }
}

fn leave(nodes: &mut Nodes, socket: LeftSocket) {
    let (pid, socket) = (pid(), Box::new(socket));
    nodes.nodes[KEEPER].link.say(Said::Left { pid, socket }).expect("there is room");
    nodes.settle();
}

fn asker(node: usize, place: u32) -> FarAsker {
    let socket = Key { index: place, generation: 1 };
    FarAsker::new(tag(node), Asker { node: None, shard: ShardId(1), socket })
}

fn say(nodes: &mut Nodes, node: usize, to: Option<NodeTag>, place: u32, said: FarSaid) {
    let word = Box::new(FarWord::new(&root(), asker(node, place), said));
    nodes.nodes[node].link.say(Said::Far { to, word }).expect("there is room");
    nodes.settle();
}

/// A client comes to a process, and has got everything up to an event of the keeper.
fn claim(nodes: &mut Nodes, node: usize, place: u32, got: Option<u64>) {
    let offset = got.map(|number| OffsetText::new(offset(KEEPER, number)));
    say(nodes, node, None, place, FarSaid::Ask { pid: pid(), offset });
}

/// What a process' shards were told of sockets that come back.
fn told(node: &mut Node) -> Vec<FarSaid> {
    node.read_inboxes();
    let mut told = Vec::new();
    for message in std::mem::take(&mut node.got) {
        match message {
            ShardMessage::Far(word) if !matches!(word.said, FarSaid::Ask { .. }) => told.push(word.said),
            _ => {}
        }
    }
    told
}

fn found(nodes: &mut Nodes, node: usize) -> Result<LostSocket, NotKept> {
    match told(&mut nodes.nodes[node]).as_slice() {
        [FarSaid::Found { keeper, lost, .. }] if *keeper == tag(node) => Ok(lost.clone()),
        [FarSaid::NotFound(reason)] => Err(*reason),
        other => panic!("{other:?}"),
    }
}

/// The shard hears the rooms: what the client gets, as the events' texts. Each has its offset as its last argument.
fn missed(nodes: &mut Nodes, node: usize, place: u32) -> Option<Vec<String>> {
    let give_up = FarSaid::GiveUp { pid: pid(), shard: 0 };
    say(nodes, node, Some(tag(node)), place, give_up);
    let told = told(&mut nodes.nodes[node]);
    let [FarSaid::Missed(missed)] = told.as_slice() else { panic!("{told:?}") };
    let read = |kept: &crate::message::far::FarKept| {
        let event = FramedEvent::split(&kept.frame).expect("an event");
        let (text, last) = event.args.rsplit_once(',').expect("an offset behind it");
        let last = Offset::parse(last.trim_matches('"')).expect("an offset");
        assert_eq!(kept.offset, OffsetText::new(last), "what the client is told is what is known");
        text.trim_matches('"').to_owned()
    };
    missed.as_ref().map(|missed| missed.iter().map(read).collect())
}

#[test]
fn what_a_client_has_missed_comes_once_and_in_order_and_nothing_else_does() {
    let mut nodes = nodes();
    emit(&mut nodes, SPEAKER, rooms(&["news"]), 1);
    emit(&mut nodes, KEEPER, rooms(&["news"]), 2);
    let of_speaker = |number| Some(offset(SPEAKER, number).event_id());
    leave(
        &mut nodes,
        socket(vec![sent(1, of_speaker(1), None), sent(2, None, None), sent(3, None, Some("to it alone"))]),
    );
    // Said in its own process, before that and behind it; and by others.
    emit(&mut nodes, KEEPER, rooms(&["news"]), 2);
    emit(&mut nodes, KEEPER, rooms(&["news"]), 4);
    emit(&mut nodes, SPEAKER, everybody(), 5);
    emit(&mut nodes, SPEAKER, rooms(&[sid().as_str()]), 6);
    emit(&mut nodes, SPEAKER, rooms(&["news", sid().as_str(), "other"]), 7);
    let many: Vec<String> = (0..20).map(|number| format!("room {number}")).collect();
    emit(&mut nodes, SPEAKER, rooms(&many.iter().map(String::as_str).chain(["news"]).collect::<Vec<_>>()), 8);
    // None of its business.
    emit(&mut nodes, SPEAKER, rooms(&["other"]), 9);
    emit(&mut nodes, SPEAKER, Target { except: [sid().as_str()].into_iter().collect(), ..everybody() }, 10);
    emit(&mut nodes, SPEAKER, Target { except: ["news"].into_iter().collect(), ..everybody() }, 11);
    emit(&mut nodes, SPEAKER, Target { when_behind: WhenBehind::Volatile, ..everybody() }, 12);
    nodes.nodes[ASKER].take_got();
    claim(&mut nodes, ASKER, 1, Some(1));
    let lost = found(&mut nodes, ASKER).expect("it was left");
    let rooms_of = |lost: &LostSocket| lost.rooms.clone();
    assert_eq!(
        (lost.pid, lost.sid, rooms_of(&lost), lost.data.as_deref()),
        (pid(), sid(), vec!["news".to_owned()], Some("7"))
    );
    nodes.nodes[ASKER].hold("news");
    emit(&mut nodes, SPEAKER, rooms(&["news"]), 13);
    nodes.nodes[ASKER].take_got();
    let expected = ["0:2", "to it alone", "0:4", "2:5", "2:6", "2:7", "2:8", "2:13"];
    assert_eq!(missed(&mut nodes, ASKER, 1).expect("all is there"), expected);
    let stats = &nodes.nodes[ASKER].link.stats;
    assert_eq!((stats.sockets_taken.get(), stats.sockets_given_up.get()), (1, 0));
    // It was taken: nobody else gets it, whatever it says.
    claim(&mut nodes, SPEAKER, 1, Some(1));
    nodes.pass(Duration::from_secs(2));
    assert_eq!(found(&mut nodes, SPEAKER), Err(NotKept::Unknown));
}

#[test]
fn who_has_missed_more_than_there_is_or_is_kept_is_told_so() {
    let named = |number| sent(number, None, None);
    type Row<'a> = (&'a str, Vec<LeftEvent>, Option<u64>, usize, usize);
    let rows: [Row<'_>; 5] = [
        ("an event is not in the stream", vec![named(1), named(2)], Some(1), 0, 10),
        ("an offset that is not among the events", vec![named(3)], Some(1), 0, 10),
        ("too many events", vec![], None, 21, 10),
        ("too many bytes", vec![], None, 15, 1000),
        ("the stream begins later", vec![], None, 17_000, 10),
    ];
    for (why, events, got, emits, bytes) in rows {
        let mut nodes = nodes();
        let mut socket = socket(events);
        socket.let_go = got.map(|_| OffsetText::new(offset(KEEPER, 2)));
        if emits > 1000 {
            // Nothing of what is said is for it.
            socket.rooms.clear();
        }
        leave(&mut nodes, socket);
        for number in 0..emits {
            let frame = frame("/", &format!("\"{}\"", "x".repeat(bytes))).into();
            let id = Some(offset(SPEAKER, number as u64).event_id());
            let broadcast =
                Broadcast { namespace: root(), target: rooms(&["news"]), frame, id, ..Broadcast::default() };
            nodes.nodes[SPEAKER].link.say(Said::Emit(broadcast.into())).expect("there is room");
            if number % 100 == 0 {
                nodes.settle();
            }
        }
        nodes.settle();
        nodes.nodes[ASKER].take_got();
        claim(&mut nodes, ASKER, 1, got);
        assert_eq!(found(&mut nodes, ASKER), Err(NotKept::TooOld), "{why}");
        assert_eq!(nodes.nodes[ASKER].link.stats.sockets_given_up.get(), 1, "{why}");
    }
}

#[test]
fn what_others_change_meanwhile_holds() {
    type Row<'a> = (&'a str, SocketChange, Result<&'a [&'a str], NotKept>);
    let rows: [Row<'_>; 4] = [
        ("join", SocketChange::Join("more".to_owned()), Ok(&["news", "more"])),
        ("join again", SocketChange::Join("news".to_owned()), Ok(&["news"])),
        ("leave", SocketChange::Leave("news".to_owned()), Ok(&[])),
        ("disconnect", SocketChange::Disconnect { close_session: false }, Err(NotKept::Unknown)),
    ];
    for (why, change, expected) in rows {
        let mut nodes = nodes();
        // It was changed before, too: that is in its rooms.
        nodes.nodes[SPEAKER].change(rooms(&["news"]), SocketChange::Join("before".to_owned()));
        nodes.settle();
        leave(&mut nodes, socket(vec![]));
        nodes.nodes[SPEAKER].change(rooms(&[sid().as_str()]), change);
        nodes.nodes[SPEAKER].change(rooms(&["others"]), SocketChange::Disconnect { close_session: true });
        nodes.settle();
        nodes.nodes[ASKER].take_got();
        claim(&mut nodes, ASKER, 1, None);
        let rooms = found(&mut nodes, ASKER).map(|lost| lost.rooms);
        let expected = expected.map(|rooms| rooms.iter().map(|room| (*room).to_owned()).collect::<Vec<_>>());
        assert_eq!(rooms, expected, "{why}");
    }
}

#[test]
fn what_a_shard_does_not_want_and_what_a_lost_connection_interrupts_is_there_again() {
    let mut nodes = nodes();
    leave(&mut nodes, socket(vec![]));
    claim(&mut nodes, ASKER, 1, None);
    found(&mut nodes, ASKER).expect("it was left");
    say(&mut nodes, ASKER, Some(tag(ASKER)), 1, FarSaid::Release { pid: pid(), shard: 0 });
    claim(&mut nodes, SPEAKER, 2, None);
    found(&mut nodes, SPEAKER).expect("it was given back");
    nodes.disconnect(SPEAKER);
    assert!(matches!(told(&mut nodes.nodes[SPEAKER]).as_slice(), [FarSaid::Missed(None)]));
    nodes.connect(SPEAKER);
    nodes.pass(Duration::from_secs(3));
    claim(&mut nodes, ASKER, 3, None);
    found(&mut nodes, ASKER).expect("it was given back, as soon as the broker was there");
    // The shard says nothing more of it.
    nodes.pass(Duration::from_secs(16));
    claim(&mut nodes, SPEAKER, 4, None);
    found(&mut nodes, SPEAKER).expect("it was given back after a while");
    assert_eq!(missed(&mut nodes, SPEAKER, 4), Some(vec![]));
}

#[test]
fn who_asks_before_the_process_has_ended_is_answered_as_soon_as_it_has() {
    let mut nodes = nodes();
    // It has the socket, and does not answer any more.
    claim(&mut nodes, ASKER, 1, None);
    assert_eq!(told(&mut nodes.nodes[ASKER]).len(), 0);
    leave(&mut nodes, socket(vec![]));
    nodes.pass(Duration::from_millis(600));
    assert_eq!(told(&mut nodes.nodes[ASKER]).len(), 0);
    nodes.pass(Duration::from_millis(200));
    found(&mut nodes, ASKER).expect("it was left in between");
    // One that nobody has, of a process that is gone.
    let unknown = FarSaid::Ask { pid: Sid::new(ShardId(0), [9; 13]), offset: None };
    say(&mut nodes, ASKER, Some(NodeTag([7; 3])), 2, unknown);
    assert_eq!(found(&mut nodes, ASKER), Err(NotKept::Unknown));
}

#[test]
fn a_crowd_is_served_from_one_reading_and_each_gets_its_own() {
    const CROWD: u32 = 2000;
    let mut nodes = nodes();
    let pid_of = |place: u32| {
        let mut random = [3; 13];
        random[4..8].copy_from_slice(&place.to_be_bytes());
        Sid::new(ShardId(1), random)
    };
    for place in 0..CROWD {
        let socket =
            LeftSocket { sid: pid_of(place), rooms: vec![format!("room {}", place % 7)], ..socket(vec![]) };
        nodes.nodes[KEEPER]
            .link
            .say(Said::Left { pid: pid_of(place), socket: Box::new(socket) })
            .expect("room");
    }
    nodes.settle();
    for number in 0..70 {
        let target = rooms(&[&format!("room {}", number % 7)]);
        emit(&mut nodes, SPEAKER, target, number + 1);
    }
    let ask = |nodes: &mut Nodes, to, place, said| {
        let word = Box::new(FarWord::new(&root(), asker(ASKER, place), said));
        nodes.nodes[ASKER].link.say(Said::Far { to, word }).expect("there is room");
    };
    for place in 0..CROWD {
        ask(&mut nodes, None, place, FarSaid::Ask { pid: pid_of(place), offset: None });
    }
    nodes.settle();
    assert_eq!(told(&mut nodes.nodes[ASKER]).len(), CROWD as usize);
    for place in 0..CROWD {
        ask(&mut nodes, Some(tag(ASKER)), place, FarSaid::GiveUp { pid: pid_of(place), shard: 0 });
    }
    nodes.settle();
    let told = told(&mut nodes.nodes[ASKER]);
    let full = told.iter().filter(|said| matches!(said, FarSaid::Missed(Some(missed)) if missed.len() == 10));
    assert_eq!(full.count(), CROWD as usize);
}

#[test]
fn a_place_in_the_stream_comes_with_what_stands_there() {
    let mut nodes = nodes();
    nodes.nodes[ASKER].hold("news");
    nodes.settle();
    nodes.nodes[ASKER].take_got();
    nodes.nodes[SPEAKER].emit(rooms(&["news"]), "1");
    nodes.nodes[SPEAKER].emit(rooms(&["news"]), "2");
    nodes.settle();
    nodes.nodes[ASKER].read_inboxes();
    let places: Vec<Position> = nodes.nodes[ASKER]
        .got
        .iter()
        .filter_map(|message| match message {
            ShardMessage::Broadcast(broadcast) => Some(broadcast.position),
            _ => None,
        })
        .collect();
    assert!(places.len() == 2 && places[0] > Position::default() && places[0] < places[1], "{places:?}");
}
