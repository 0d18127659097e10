//! Handlers outside their shard: what they are given, what they do, and in which order that is done.

use std::collections::HashSet;
use std::sync::mpsc;

use serde_json::{Value, json};

use crate::base::limits::FAREWELL_MAX;
use crate::testing::{TestClient, TestServer};
use crate::{
    Addressee, Args, Binary, CloseReason, Config, ConnectTicket, ConnectionId, Context, DisconnectTicket,
    OwnedArgs, Post, Refused, Server, Ticket,
};

/// What the shards give away.
enum Job {
    Event(Ticket, String, OwnedArgs),
    Connect(ConnectTicket, String),
    TurnEnd(usize),
}

struct Outside {
    server: TestServer,
    jobs: mpsc::Receiver<Job>,
}

/// All events are handled outside; in `/door` so is who may connect.
fn serve(config: Config) -> Outside {
    let (give, jobs) = mpsc::channel();
    let (in_root, at_door, at_end) = (give.clone(), give.clone(), give);
    let server = Server::new(config)
        .namespace("/", move |io| {
            let give = in_root.clone();
            io.on_any(move |cx: &mut Context, args: Args<'_>| {
                let ticket = cx.ticket();
                give.send(Job::Event(ticket, cx.event().to_owned(), args.into_owned())).unwrap();
            });
            io.on("here", |cx: &mut Context, value: Value| {
                cx.emit("here", &value);
                value
            });
            io.on_disconnect(|cx: &mut Context, reason: CloseReason| {
                cx.to("watchers").emit("left", (cx.id(), reason.as_str()));
            });
        })
        .namespace("/door", move |io| {
            io.use_connect(|cx: &mut Context| {
                cx.emit("before", ());
            });
            let give = at_door.clone();
            io.on_connect_outside(move |_: &mut Context, auth: Args<'_>, ticket| {
                give.send(Job::Connect(ticket, auth.raw().to_owned())).unwrap();
            });
            io.on("echo", |_: &mut Context, value: Value| value);
        })
        .on_turn_end(move |shard| at_end.send(Job::TurnEnd(shard.id)).unwrap());
    Outside { server: TestServer::new(server).unwrap(), jobs }
}

impl Outside {
    fn event(&self) -> (Ticket, String, OwnedArgs) {
        loop {
            match self.jobs.try_recv().expect("a shard has given something") {
                Job::Event(ticket, name, args) => return (ticket, name, args),
                Job::TurnEnd(_) => {}
                Job::Connect(..) => panic!("an event was expected"),
            }
        }
    }

    fn ticket(&self) -> Ticket {
        self.event().0
    }

    fn visitor(&self) -> (ConnectTicket, String) {
        loop {
            match self.jobs.try_recv().expect("a shard has given something") {
                Job::Connect(ticket, auth) => return (ticket, auth),
                Job::TurnEnd(_) => {}
                Job::Event(..) => panic!("a client at the door was expected"),
            }
        }
    }

    fn post(&self, fill: impl FnOnce(&mut Post)) {
        let mut post = self.server.handle().post();
        fill(&mut post);
        assert!(post.send() && post.is_empty());
        self.server.settle();
    }

    fn dropped(&self) -> u64 {
        self.server.handle().stats().iter().map(|shard| shard.acks_dropped).sum()
    }
}

fn shards(shards: usize) -> Config {
    Config { shards, ..Config::default() }
}

fn names(client: &TestClient) -> Vec<String> {
    client.received().iter().map(|event| event.name().to_owned()).collect()
}

#[test]
fn an_event_is_given_outside_whole_and_answered_in_order_with_the_rest() {
    for count in 1..=3 {
        let outside = serve(shards(count));
        let clients: Vec<TestClient> =
            (0..count).map(|shard| outside.server.client().shard(shard).connect("/").unwrap()).collect();
        let asked: Vec<_> = clients
            .iter()
            .map(|client| client.emit_with_ack("job", ("a\n", json!({ "n": [1] }), Binary::from(vec![7]))))
            .collect();
        let mut post = outside.server.handle().post();
        for (shard, client) in clients.iter().enumerate() {
            let (ticket, name, args) = outside.event();
            assert_eq!(
                (name.as_str(), args.args().raw()),
                ("job", r#""a\n",{"n":[1]},{"_placeholder":true,"num":0}"#)
            );
            assert_eq!(args.args().attachments()[0].as_ref(), [7]);
            assert_eq!(
                (ticket.id().to_string(), ticket.namespace(), ticket.shard()),
                (client.id(), "/", shard)
            );
            assert!(ticket.wants_ack() && !ticket.is_gone());
            post.emit(&ticket, "one", Binary::from(vec![8])).unwrap();
            post.join(&ticket, "room");
            post.emit(&ticket, "two", (1, "two")).unwrap();
            post.acknowledge(ticket, &args).unwrap();
        }
        assert_eq!(post.len(), 4 * count);
        assert!(post.send());
        for (client, asked) in clients.iter().zip(asked) {
            assert_eq!(names(client), ["one", "two"], "{count} shards");
            assert_eq!(client.answer(asked).unwrap().args().len(), 3);
        }
        outside.server.handle().to("/", "room").emit("to room", ());
        assert!(clients.iter().all(|client| names(client) == ["to room"]), "{count} shards");
        outside.post(|post| {
            let all: Vec<Addressee> = clients
                .iter()
                .map(|client| {
                    client.emit("job", ());
                    outside.ticket().addressee().clone()
                })
                .collect();
            all.iter().for_each(|one| post.leave(one, "room"));
        });
        outside.server.handle().to("/", "room").emit("to room", ());
        assert!(clients.iter().all(|client| names(client).is_empty()));
    }
}

#[test]
fn later_events_are_not_held_back_and_answers_may_overtake() {
    let outside = serve(shards(1));
    let client = outside.server.connect("/").unwrap();
    let first = client.emit_with_ack("one", ());
    let second = client.emit_with_ack("two", ());
    assert_eq!(client.call("here", 3).unwrap().first::<i32>().unwrap(), 3);
    let tickets = [outside.ticket(), outside.ticket()];
    outside.post(|post| {
        for (ticket, answer) in tickets.into_iter().zip([1, 2]).rev() {
            post.emit(&ticket, "done", answer).unwrap();
            post.acknowledge(ticket, answer).unwrap();
        }
    });
    let done: Vec<i32> = client.received().iter().map(|event| event.first().unwrap()).collect();
    assert_eq!(done, [3, 2, 1]);
    assert_eq!([first, second].map(|id| client.answer(id).unwrap().first::<i32>().unwrap()), [1, 2]);
}

#[test]
fn a_turn_end_is_told_once_for_all_that_a_turn_has_given() {
    let outside = serve(shards(2));
    let rings = || {
        outside
            .jobs
            .try_iter()
            .filter_map(|job| match job {
                Job::TurnEnd(shard) => Some(shard),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    let client = outside.server.client().shard(1).connect("/").unwrap();
    client.emit("here", 1);
    assert!(rings().is_empty(), "nothing was given");
    client.emit("job", ());
    assert_eq!(rings(), [1]);
    let visitor =
        outside.server.client().shard(0).say_after_connect("42/door,[\"echo\",1]").connect("/door").unwrap();
    assert_eq!(rings(), [0]);
    assert!(!visitor.is_connected());
}

#[test]
fn who_may_connect_is_decided_outside_and_events_wait_for_it() {
    let outside = serve(shards(2));
    let builder = |token: &str| outside.server.client().auth(&json!({ "token": token }));
    let client = builder("7").say_after_connect("42/door,1[\"echo\",5]").connect("/door").unwrap();
    let (ticket, auth) = outside.visitor();
    assert_eq!(auth, r#"{"token":"7"}"#);
    outside.post(|post| post.emit(&ticket, "held", ()).unwrap());
    assert!(!client.is_connected() && client.received().is_empty());
    outside.post(|post| {
        post.decide(ticket, Ok(()));
    });
    assert!(client.is_connected());
    assert_eq!(names(&client), ["before", "held"]);

    let refused = builder("8").connect("/door").unwrap();
    let (ticket, _) = outside.visitor();
    let addressee = ticket.addressee().clone();
    outside.post(|post| post.decide(ticket, Err(Refused::new("no").data(&json!({ "n": 1 })))));
    let refusal = refused.refusal().unwrap();
    assert_eq!((refusal.message.as_str(), refusal.data), ("no", json!({ "n": 1 })));
    assert!(addressee.is_gone());

    // Whoever drops the ticket has refused.
    let dropped = builder("9").connect("/door").unwrap();
    drop(outside.visitor());
    outside.server.settle();
    assert_eq!(dropped.refusal().unwrap().message, "Connection refused by server");
}

#[test]
fn a_client_that_goes_leaves_nothing_to_do() {
    let outside = serve(shards(1));
    let (client, watcher) = (outside.server.connect("/").unwrap(), outside.server.connect("/").unwrap());
    watcher.emit("watch", ());
    outside.post(|post| post.join(&outside.ticket(), "watchers"));
    client.emit_with_ack("job", ());
    let ticket = outside.ticket();
    client.cut();
    assert!(ticket.is_gone());
    assert_eq!(names(&watcher), ["left"]);
    outside.post(|post| {
        post.emit(&ticket, "late", ()).unwrap();
        post.join(&ticket, "watchers");
        post.run(&ticket, |_| panic!("nobody is there"));
        post.disconnect(&ticket);
        post.acknowledge(ticket, 1).unwrap();
    });
    assert!(watcher.is_connected() && names(&watcher).is_empty());
    assert_eq!(watcher.call("here", 1).unwrap().first::<i32>().unwrap(), 1);
}

#[test]
fn an_event_that_is_dropped_is_counted_if_its_client_waits() {
    let outside = serve(shards(1));
    let client = outside.server.connect("/").unwrap();
    type Done = fn(&Outside, Ticket);
    let rows: [(bool, Done, u64); 4] = [
        (false, |_, ticket| drop(ticket), 0),
        (true, |_, ticket| drop(ticket), 1),
        (true, |outside, ticket| outside.post(|post| post.finish(ticket)), 1),
        (true, |outside, ticket| outside.post(|post| post.acknowledge(ticket, ()).unwrap()), 1),
    ];
    for (row, (wants_ack, done, expected)) in rows.into_iter().enumerate() {
        if wants_ack {
            client.emit_with_ack("job", ());
        } else {
            client.emit("job", ());
        }
        done(&outside, outside.ticket());
        outside.server.settle();
        assert_eq!(outside.dropped(), expected, "row {row}");
    }
    // Its arguments are no JSON: said to whoever answers, and the event is done.
    client.emit_with_ack("job", ());
    let wrong = std::collections::BTreeMap::from([((1, 2), 3)]);
    outside.post(|post| assert!(post.acknowledge(outside.ticket(), wrong).is_err()));
    client.emit("job", ());
    outside.post(|post| assert!(post.emit(&outside.ticket(), "disconnect", ()).is_err()));
    assert!(client.is_connected());
}

#[test]
#[expect(clippy::mutable_key_type, reason = "what names the socket does not change")]
fn a_socket_is_one_key_of_a_table_whatever_it_is_named_by() {
    let outside = serve(shards(2));
    let clients = [0, 1].map(|shard| outside.server.client().shard(shard).connect("/").unwrap());
    let mut known = HashSet::new();
    for client in [&clients[0], &clients[1], &clients[0]] {
        client.emit("job", ());
        let ticket = outside.ticket();
        known.insert(ticket.addressee().clone());
    }
    assert_eq!(known.len(), 2);
    let (tell, told) = mpsc::channel();
    outside.post(|post| {
        for addressee in &known {
            let tell = tell.clone();
            post.run(addressee, move |socket| tell.send((socket.addressee(), socket.rooms())).unwrap());
        }
    });
    for (addressee, rooms) in told.try_iter() {
        assert!(known.remove(&addressee));
        assert_eq!(rooms, [addressee.id().to_string()]);
    }
    assert!(known.is_empty());
}

#[test]
fn a_function_that_panics_costs_its_client_the_connection() {
    let outside = serve(shards(1));
    let (client, other) = (outside.server.connect("/").unwrap(), outside.server.connect("/").unwrap());
    client.emit("job", ());
    outside.post(|post| post.run(&outside.ticket(), |_| panic!("of a test")));
    assert!(!client.is_connected() && other.is_connected());
    other.emit("job", ());
    outside.post(|post| post.close(&outside.ticket()));
    assert!(!other.is_connected());
    let last = outside.server.connect("/").unwrap();
    last.emit("job", ());
    outside.post(|post| post.disconnect(&outside.ticket()));
    assert!(!last.is_connected());
}

#[test]
fn a_post_that_is_dropped_is_sent() {
    let outside = serve(shards(1));
    let client = outside.server.connect("/").unwrap();
    client.emit("job", ());
    let mut post = outside.server.handle().post();
    post.emit(&outside.ticket(), "done", ()).unwrap();
    drop(post);
    assert_eq!(names(&client), ["done"]);
}

/// Takes what the shards have given so far: the numbers that came.
fn work_off(outside: &Outside, most: usize) -> Vec<u64> {
    let mut numbers = Vec::new();
    let mut post = outside.server.handle().post();
    while numbers.len() < most
        && let Ok(job) = outside.jobs.try_recv()
    {
        if let Job::Event(ticket, _, args) = job {
            numbers.push(args.read(0).unwrap());
            post.acknowledge(ticket, ()).unwrap();
        }
    }
    post.send();
    outside.server.settle();
    numbers
}

/// Bytes that handlers outside have, and clients that are not read for that.
fn outside_now(outside: &Outside) -> (u64, u64) {
    let stats = outside.server.handle().stats();
    (
        stats.iter().map(|shard| shard.outside_bytes).sum(),
        stats.iter().map(|shard| shard.outside_paused).sum(),
    )
}

const KIB: u64 = 1024;

#[test]
fn a_flood_behind_a_stuck_handler_stays_flat_and_loses_nothing() {
    let outside = serve(Config { pending_bytes_max: 100 * KIB as usize, ..shards(1) });
    let (client, calm) = (outside.server.connect("/").unwrap(), outside.server.connect("/").unwrap());
    let text = "x".repeat(1000);
    for number in 0..2000 {
        client.emit("job", (number, &text));
    }
    let (bytes, paused) = outside_now(&outside);
    assert!((100 * KIB..102 * KIB).contains(&bytes) && paused == 1, "{bytes} bytes, {paused} clients");
    let stats = &outside.server.handle().stats()[0];
    assert!(stats.partial_bytes <= 70 * KIB, "{} bytes are kept", stats.partial_bytes);
    // Whoever is not stuck is served; whoever is, is alive.
    assert_eq!(calm.call("here", 1).unwrap().first::<u8>().unwrap(), 1);
    for _ in 0..20 {
        outside.server.advance(std::time::Duration::from_secs(10));
    }
    assert!(client.is_connected() && outside_now(&outside) == (bytes, paused));
    let numbers = work_off(&outside, 40);
    assert_eq!(outside_now(&outside).1, 1, "half of it is not done yet");
    let rest = work_off(&outside, usize::MAX);
    let all: Vec<u64> = numbers
        .into_iter()
        .chain(rest)
        .chain(
            std::iter::from_fn(|| Some(work_off(&outside, usize::MAX)).filter(|numbers| !numbers.is_empty()))
                .flatten(),
        )
        .collect();
    assert_eq!(all, (0..2000).collect::<Vec<u64>>());
    assert_eq!(outside_now(&outside), (0, 0));
    assert!(client.is_connected());
}

#[test]
fn many_clients_together_stay_within_the_bound_of_all() {
    for count in [1, 2, 3] {
        let config = Config { outside_bytes_max: 120 * KIB as usize, ..shards(count) };
        let outside = serve(config);
        let clients: Vec<TestClient> = (0..30)
            .map(|number| outside.server.client().shard(number % count).connect("/").unwrap())
            .collect();
        let text = "x".repeat(1000);
        for number in 0..20 {
            clients.iter().for_each(|client| client.emit("job", (number, &text)));
        }
        let (bytes, _) = outside_now(&outside);
        assert!((120 * KIB..(120 + 40) * KIB).contains(&bytes), "{count} shards: {bytes} bytes");
        let mut done = 0;
        loop {
            let numbers = work_off(&outside, 7).len();
            done += numbers;
            if numbers == 0 {
                break;
            }
            assert!(outside_now(&outside).0 <= (120 + 40) * KIB);
        }
        assert_eq!((done, outside_now(&outside)), (600, (0, 0)), "{count} shards");
    }
}

#[test]
fn what_a_client_has_left_outside_goes_with_it() {
    let outside = serve(Config { pending_bytes_max: 10_000, ..shards(1) });
    let client = outside.server.connect("/").unwrap();
    let text = "x".repeat(1000);
    (0..50).for_each(|number| client.emit("job", (number, &text)));
    assert_eq!(outside_now(&outside).1, 1);
    client.cut();
    outside.server.advance(std::time::Duration::from_secs(60));
    let (bytes, paused) = outside_now(&outside);
    assert_eq!(paused, 0, "nobody waits any more");
    assert!(bytes < 50 * 1100, "{bytes}");
    for job in outside.jobs.try_iter() {
        if let Job::Event(ticket, ..) = job {
            assert!(ticket.is_gone());
        }
    }
    outside.server.settle();
    assert_eq!(outside_now(&outside), (0, 0));
}

#[test]
fn what_is_published_keeps_its_place_among_the_rest() {
    for (count, recovers) in [(1, false), (2, false), (3, false), (1, true), (2, true), (3, true)] {
        let recovery_max_disconnection = std::time::Duration::from_secs(if recovers { 60 } else { 0 });
        let outside = serve(Config { recovery_max_disconnection, ..shards(count) });
        let clients: Vec<TestClient> = (0..6)
            .map(|number| outside.server.client().shard(number % count).connect("/").unwrap())
            .collect();
        for client in &clients {
            client.emit_with_ack("job", ());
        }
        let tickets: Vec<Ticket> = clients.iter().map(|_| outside.ticket()).collect();
        outside.post(|post| tickets.iter().for_each(|ticket| post.join(ticket, "all")));
        let speaker = &tickets[0];
        let mut post = outside.server.handle().post();
        post.emit(speaker, "one", ()).unwrap();
        let _ = post.to(speaker, "all").emit("two", ());
        post.join(speaker, "late");
        let _ = post.to(speaker, "late").emit("three", ());
        let _ = post.broadcast(speaker).include_self(false).except("late").emit("others", ());
        drop(post.to(speaker, "all").leave("all"));
        let _ = post.to(speaker, "all").emit("nobody", ());
        post.emit(speaker, "four", ()).unwrap();
        let _ = post.to(speaker, tickets[5].id()).emit("last", 1);
        assert!(post.send());
        assert_eq!(
            names(&clients[0]),
            ["one", "two", "three", "four"],
            "{count} shards, recovery {recovers}"
        );
        for other in &clients[1..5] {
            assert_eq!(names(other), ["two", "others"], "{count} shards, recovery {recovers}");
        }
        assert_eq!(names(&clients[5]), ["two", "others", "last"], "{count} shards, recovery {recovers}");
        // Also for one whose client has gone, and in another namespace.
        clients[0].cut();
        let _ = post.broadcast(speaker).emit("after", ());
        let _ = post.to_in(speaker, "/door", "nobody").emit("x", ());
        assert!(post.send());
        assert!(
            clients[1..].iter().all(|client| names(client) == ["after"]),
            "{count} shards, recovery {recovers}"
        );
    }
}

/// A server on which who goes is handled outside, too, and connections are told.
fn serve_ends(
    config: Config,
) -> (TestServer, mpsc::Receiver<(DisconnectTicket, CloseReason)>, mpsc::Receiver<ConnectionId>) {
    let (give, ends) = mpsc::channel();
    let (tell, connections) = mpsc::channel();
    let server = Server::new(config)
        .namespace("/", move |io| {
            let give = give.clone();
            io.on("join", |cx: &mut Context, room: String| cx.join(room));
            io.on("ids", |cx: &mut Context| {
                let other = cx.in_namespace("/other").map(|other| other.connection());
                (cx.connection().get(), other == Some(cx.connection()))
            });
            io.on_disconnect_outside(move |_: &mut Context, reason, ticket| {
                give.send((ticket, reason)).unwrap()
            });
        })
        .namespace("/other", |_| {})
        .on_connection_end(move |id| tell.send(id).unwrap());
    (TestServer::new(server).unwrap(), ends, connections)
}

#[test]
fn rooms_are_kept_until_a_disconnect_handler_outside_has_ended() {
    for count in 1..=2 {
        let (server, ends, _connections) = serve_ends(shards(count));
        let clients: Vec<TestClient> =
            (0..3).map(|number| server.client().shard(number % count).connect("/").unwrap()).collect();
        assert!(clients.iter().all(|client| client.call("join", "room").is_some()));
        clients[0].cut();
        let (ticket, reason) = ends.try_recv().unwrap();
        assert_eq!((reason, ticket.is_gone()), (CloseReason::TransportClose, true));
        let mut post = server.handle().post();
        let (tell, told) = mpsc::channel();
        post.run(&ticket, move |socket| tell.send((socket.rooms(), socket.transport())).unwrap());
        let _ = post.to(&ticket, "room").emit("left", ticket.id());
        post.send();
        assert_eq!(names(&clients[1]), ["left"]);
        let (rooms, transport) = told.try_recv().unwrap();
        assert_eq!((rooms, transport), (vec![ticket.id().to_string(), "room".to_owned()], None));
        let addressee = ticket.addressee().clone();
        post.let_go(ticket);
        post.send();
        server.settle();
        let (tell, told) = mpsc::channel::<()>();
        post.run(&addressee, move |_| tell.send(()).unwrap());
        post.send();
        server.settle();
        assert!(told.try_recv().is_err(), "the socket is gone");
        // One that is dropped lets go, and so does time.
        clients[1].disconnect();
        let (ticket, reason) = ends.try_recv().unwrap();
        assert_eq!(reason, CloseReason::ClientDisconnect);
        let addressee = ticket.addressee().clone();
        let there = |addressee: &Addressee| {
            let (tell, told) = mpsc::channel::<()>();
            let mut post = server.handle().post();
            post.run(addressee, move |_| tell.send(()).unwrap());
            post.send();
            server.settle();
            told.try_recv().is_ok()
        };
        assert!(there(&addressee));
        drop(ticket);
        server.settle();
        assert!(!there(&addressee));
        clients[2].disconnect();
        let (ticket, _) = ends.try_recv().unwrap();
        server.advance(FAREWELL_MAX - std::time::Duration::from_secs(1));
        assert!(there(ticket.addressee()));
        server.advance(std::time::Duration::from_secs(2));
        assert!(!there(ticket.addressee()));
    }
}

#[test]
fn a_connection_has_one_id_in_all_namespaces_and_its_end_is_told_last() {
    let (server, ends, connections) = serve_ends(shards(2));
    let clients = [0, 1].map(|shard| server.client().shard(shard).connect("/").unwrap());
    let ids = clients.each_ref().map(|client| {
        client.join_namespace("/other", &json!({})).unwrap();
        let answer = client.call("ids", ()).unwrap();
        assert!(answer.args().read::<bool>(1).unwrap(), "the same in the other namespace");
        answer.args().read::<u64>(0).unwrap()
    });
    assert_ne!(ids[0], ids[1]);
    clients[0].disconnect();
    assert!(ends.try_recv().is_ok() && connections.try_recv().is_err(), "it is still in the other namespace");
    clients[0].cut();
    assert_eq!(connections.try_recv().unwrap().get(), ids[0]);
    clients[1].cut();
    assert!(ends.try_recv().is_ok());
    assert_eq!(connections.try_recv().unwrap().get(), ids[1]);
    let silent = server.connect("/other").unwrap();
    silent.cut();
    assert!(connections.try_recv().is_err(), "nobody has asked for its id");
}

#[test]
fn clients_who_come_and_go_while_nobody_works_leave_no_more_than_the_bound() {
    let outside = serve(Config { outside_bytes_max: 4 * KIB as usize, ..shards(1) });
    let mut refused = 0;
    for _ in 0..500 {
        match outside.server.connect("/door") {
            Ok(client) => client.cut(),
            Err(fault) => {
                assert!(fault.to_string().contains("busy"), "{fault}");
                refused += 1;
            }
        }
    }
    let (bytes, _) = outside_now(&outside);
    assert!(bytes <= 4 * KIB + 200, "{bytes}");
    assert!((400..500).contains(&refused), "{refused}");
    outside.jobs.try_iter().for_each(drop);
    outside.server.settle();
    assert_eq!(outside_now(&outside).0, 0);
    assert!(outside.server.connect("/door").is_ok(), "there is room again");
}
