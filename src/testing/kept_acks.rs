//! Answers that are given later, and handlers that run beside each other.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::base::limits::{ACKS_KEPT_PER_SOCKET_MAX, HANDLERS_LEFT_MAX};
use crate::testing::{TestClient, TestServer};
use crate::{
    Ack, Acknowledged, Binary, ClassNamespace, Config, Context, HandlerError, Methods, NoAck, RemoteAck,
    Server, Socket, sleep,
};

type Kept = Rc<RefCell<VecDeque<Ack>>>;

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn serve(config: Config) -> (TestServer, mpsc::Receiver<RemoteAck>) {
    let (remote, taken) = mpsc::channel();
    let server = Server::new(Config { shards: 1, ..config })
        .namespace("/", move |io| {
            let kept = Kept::default();
            let keep = Rc::clone(&kept);
            io.on("keep", move |_: &mut Context, ack: Ack| keep.borrow_mut().push_back(ack));
            let next = Rc::clone(&kept);
            io.on("give", move |_: &mut Context, value: Value| {
                let ack = next.borrow_mut().pop_front().expect("one is kept");
                format!("{:?}", ack.send((value, Binary::from(vec![1]))))
            });
            let last = Rc::clone(&kept);
            io.on("drop", move |_: &mut Context| last.borrow_mut().clear());
            io.on("withhold", |_: &mut Context, ack: Ack| ack.withhold());
            io.on("wanted", |cx: &mut Context, ack: Ack| {
                cx.emit("wanted", (ack.is_wanted(), cx.wants_ack(), ack.socket().id() == cx.id()));
                assert_eq!(ack.send(1), if cx.wants_ack() { sent() } else { Acknowledged::NotWanted });
            });
            io.on("at-once", |_: &mut Context, a: &str, ack: Ack, b: u8| {
                ack.send((a, b));
            });
            let remote = remote.clone();
            io.on("far", move |_: &mut Context, ack: Ack| {
                remote.send(ack.into_remote()).expect("the test waits");
            });
            io.on_async("later", |_: Socket, wait: u64, ack: Ack| async move {
                sleep(millis(wait)).await;
                ack.send(wait);
                sleep(millis(wait)).await;
            });
            let failing = Rc::clone(&kept);
            io.on("fail", move |_: &mut Context, keeps: bool, ack: Ack| {
                if keeps {
                    failing.borrow_mut().push_back(ack);
                }
                Err::<(), _>("failed")
            });
            io.on_async("fail-later", |_: Socket, ack: Ack| async move {
                let _ack = ack;
                sleep(millis(10)).await;
                Err::<(), _>("failed later")
            });
            io.on("none", |_: &mut Context| NoAck);
            io.on("sometimes", |_: &mut Context, answer: Option<u8>| answer.ok_or(NoAck));
            io.on_async("none-later", |_: Socket| async { NoAck });
            io.on_concurrent("beside", |socket: Socket, wait: u64| async move {
                sleep(millis(wait)).await;
                socket.emit("done", wait);
                wait
            });
            io.on_async("behind", |_: Socket, wait: u64| async move { sleep(millis(wait)).await });
            io.on("now", |cx: &mut Context, number: u64| {
                cx.emit("now", number);
            });
            io.on_error(|_: &mut Context, error: &HandlerError| error.to_string());
        })
        .namespace_class("/class", |_| Class);
    (TestServer::new(server).unwrap(), taken)
}

fn sent() -> Acknowledged {
    Acknowledged::Sent(crate::Outcome { sent: 1, ..crate::Outcome::default() })
}

fn take(taken: &mpsc::Receiver<RemoteAck>) -> RemoteAck {
    taken.recv_timeout(Duration::from_secs(5)).expect("a handler has given one")
}

struct Class;

impl ClassNamespace for Class {
    fn register(io: &mut Methods<'_, Self>) {
        io.on("ask", Self::ask);
        io.on_concurrent("beside", Self::beside);
    }
}

impl Class {
    fn ask(&self, cx: &mut Context<'_>, name: &str, ack: Ack) {
        let name = name.to_owned();
        cx.spawn(async move {
            sleep(millis(5)).await;
            ack.send(name);
        });
    }

    async fn beside(self: Rc<Self>, _: Socket, wait: u64) -> u64 {
        sleep(millis(wait)).await;
        wait
    }
}

fn answer_of(client: &TestClient, id: crate::testing::AckId) -> Option<Value> {
    client.answer(id).map(|answer| answer.first().unwrap())
}

fn names(client: &TestClient) -> Vec<Value> {
    client.received().iter().map(|event| event.args().read(0).unwrap()).collect()
}

#[test]
fn an_answer_is_given_later_and_holds_nothing_back() {
    let (server, _) = serve(Config::default());
    let client = server.connect("/").unwrap();
    let (first, second) = (client.emit_with_ack("keep", ()), client.emit_with_ack("keep", ()));
    assert!(client.answer(first).is_none());
    let said = client.call("give", json!({ "n": 1 })).unwrap().first::<String>().unwrap();
    assert!(said.starts_with("Sent(Outcome { sent: 1"), "{said}");
    let answer = client.answer(first).unwrap();
    assert_eq!(answer.args().raw(), r#"{"n":1},{"_placeholder":true,"num":0}"#);
    assert_eq!(answer.args().attachments()[0].as_ref(), [1]);
    assert!(client.answer(second).is_none());
    // At once, between its arguments, is fine, too; and from a task.
    assert_eq!(client.call("at-once", ("x", 7)).unwrap().args().raw(), r#""x",7"#);
    let later = client.emit_with_ack("later", 20);
    server.advance(millis(30));
    assert_eq!(answer_of(&client, later), Some(json!(20)));
    let class = server.connect("/class").unwrap();
    let asked = class.emit_with_ack("ask", "Ada\n");
    server.advance(millis(10));
    assert_eq!(answer_of(&class, asked), Some(json!("Ada\n")));
}

#[test]
fn an_ack_knows_whether_it_is_wanted() {
    let (server, _) = serve(Config::default());
    let client = server.connect("/").unwrap();
    client.emit("wanted", ());
    let id = client.emit_with_ack("wanted", ());
    let seen: Vec<String> = client.received().iter().map(|event| event.args().raw().to_owned()).collect();
    assert_eq!(seen, ["false,false,true", "true,true,true"]);
    assert_eq!(answer_of(&client, id), Some(json!(1)));
    client.emit("at-once", ("x", 7));
    assert!(client.received().is_empty() && client.is_connected());
}

#[test]
fn one_that_is_dropped_is_counted_unless_that_is_meant_or_its_client_is_gone() {
    let (server, taken) = serve(Config::default());
    let client = server.connect("/").unwrap();
    let dropped = || server.handle().stats()[0].acks_dropped;
    let id = client.emit_with_ack("keep", ());
    client.emit_with_ack("withhold", ());
    client.emit("keep", ());
    client.emit("drop", ());
    assert_eq!((dropped(), client.answer(id).is_none()), (1, true), "only what was wanted");
    client.emit_with_ack("far", ());
    drop(take(&taken));
    server.advance(millis(1));
    assert_eq!(dropped(), 2);
    client.emit_with_ack("far", ());
    take(&taken).withhold();
    client.emit_with_ack("keep", ());
    client.disconnect();
    server.connect("/").unwrap().emit("drop", ());
    assert_eq!(dropped(), 2, "nobody waits any more");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a thread of the user's")]
fn another_thread_answers() {
    let (server, taken) = serve(Config::default());
    let client = server.connect("/").unwrap();
    let id = client.emit_with_ack("far", ());
    let ack = take(&taken);
    assert!(ack.is_wanted());
    let said = std::thread::spawn(move || ack.send(("from afar", Binary::from(vec![2])))).join().unwrap();
    assert_eq!(said, Acknowledged::OnItsWay);
    server.advance(millis(1));
    let answer = client.answer(id).unwrap();
    assert_eq!(
        (answer.first::<String>().unwrap().as_str(), answer.args().attachments()[0].as_ref()),
        ("from afar", &[2][..])
    );
    client.emit("far", ());
    assert_eq!(take(&taken).send(1), Acknowledged::NotWanted);
    // A key may not be JSON.
    client.emit_with_ack("far", ());
    let wrong = std::collections::BTreeMap::from([((1, 2), 3)]);
    assert!(matches!(take(&taken).send(wrong), Acknowledged::Refused(_)));
}

#[test]
fn an_answer_to_a_client_that_is_gone_says_so() {
    let (server, taken) = serve(Config::default());
    let (client, other) = (server.connect("/").unwrap(), server.connect("/").unwrap());
    client.emit_with_ack("keep", ());
    client.emit_with_ack("far", ());
    client.disconnect();
    assert_eq!(other.call("give", 1).unwrap().first::<String>().unwrap(), "Gone");
    assert_eq!(take(&taken).send(1), Acknowledged::OnItsWay);
    server.advance(millis(1));
    assert!(other.is_connected());
}

#[test]
fn the_error_handler_answers_for_a_handler_that_fails() {
    let (server, _) = serve(Config::default());
    let client = server.connect("/").unwrap();
    for keeps in [false, true] {
        let id = client.emit_with_ack("fail", keeps);
        assert_eq!(answer_of(&client, id), Some(json!("failed")), "{keeps}");
    }
    assert_eq!(client.call("give", 1).unwrap().first::<String>().unwrap(), "Answered");
    let id = client.emit_with_ack("fail-later", ());
    server.advance(millis(20));
    assert_eq!(answer_of(&client, id), Some(json!("failed later")));
    assert_eq!(server.handle().stats()[0].acks_dropped, 0);
    assert_eq!(client.call("fail", "no bool").unwrap().args().len(), 1, "arguments that do not fit, too");
}

#[test]
fn no_answer_is_no_error() {
    let (server, _) = serve(Config::default());
    let client = server.connect("/").unwrap();
    for event in ["none", "sometimes", "none-later"] {
        let id = client.emit_with_ack(event, ());
        server.advance(millis(1));
        assert!(client.answer(id).is_none(), "{event}");
    }
    assert_eq!(client.call("sometimes", 3).unwrap().first::<u8>().unwrap(), 3);
    assert_eq!(server.handle().stats()[0].acks_dropped, 0);
}

#[test]
fn concurrent_handlers_run_beside_each_other_and_later_events() {
    let (server, _) = serve(Config::default());
    let client = server.connect("/").unwrap();
    let ids = [50, 10, 30].map(|wait| client.emit_with_ack("beside", wait));
    client.emit("now", 1);
    server.advance(millis(100));
    assert_eq!(names(&client), [1, 10, 30, 50], "the fast overtake the slow");
    assert_eq!(ids.map(|id| answer_of(&client, id)), [50, 10, 30].map(|wait| Some(json!(wait))));
    // An ordered handler holds back what follows it, as ever, but not what runs.
    client.emit("beside", 10);
    client.emit("behind", 30);
    client.emit("now", 2);
    client.emit("beside", 1);
    server.advance(millis(20));
    assert_eq!(names(&client), [10]);
    server.advance(millis(50));
    assert_eq!(names(&client), [2, 1]);
    let class = server.connect("/class").unwrap();
    let (slow, fast) = (class.emit_with_ack("beside", 50), class.emit_with_ack("beside", 10));
    server.advance(millis(20));
    assert_eq!((answer_of(&class, slow), answer_of(&class, fast)), (None, Some(json!(10))));
}

#[test]
fn beyond_the_bound_later_events_wait_in_order() {
    let (server, _) = serve(Config { concurrent_handlers_max: 2, ..Config::default() });
    let client = server.connect("/").unwrap();
    for wait in [30, 60, 20] {
        client.emit("beside", wait);
    }
    client.emit("now", 1);
    server.advance(millis(20));
    assert!(client.received().is_empty(), "two run, the third waits, and what came after it");
    server.advance(millis(20));
    assert_eq!(names(&client), [30], "the third has begun");
    server.advance(millis(15));
    assert_eq!(names(&client), [20, 1]);
    server.advance(millis(10));
    assert_eq!(names(&client), [60]);
    // What has not ended when its client goes, goes on, and holds up nobody.
    client.emit("beside", 10);
    client.disconnect();
    let client = server.connect("/").unwrap();
    client.emit("now", 2);
    server.advance(millis(20));
    assert_eq!(names(&client), [2]);
}

#[test]
fn a_socket_keeps_so_many_acks_and_then_waits() {
    let (server, _) = serve(Config { pending_bytes_max: 10_000, ..Config::default() });
    let client = server.connect("/").unwrap();
    for _ in 0..ACKS_KEPT_PER_SOCKET_MAX {
        client.emit_with_ack("keep", ());
    }
    client.emit("now", 1);
    assert!(client.received().is_empty());
    // Another client's event sets one free.
    let other = server.connect("/").unwrap();
    other.call("give", 1).unwrap();
    assert_eq!(names(&client), [1]);
    client.emit_with_ack("keep", ());
    for number in 0..200 {
        client.emit("now", number);
    }
    assert!(!client.is_connected(), "what waits is bounded");
    assert!(other.is_connected());
}

#[test]
fn handlers_of_sockets_that_were_left_stay_bounded() {
    let (server, _) = serve(Config { concurrent_handlers_max: 10, ..Config::default() });
    let client = server.connect("/").unwrap();
    let mut rounds = 0;
    loop {
        for _ in 0..10 {
            client.emit("beside", 1000);
        }
        if !client.is_connected() {
            break;
        }
        client.disconnect();
        client.join_namespace("/", &json!({})).unwrap();
        rounds += 1;
    }
    assert_eq!(rounds, HANDLERS_LEFT_MAX / 10 + 1, "the next handler closes the session");
}
