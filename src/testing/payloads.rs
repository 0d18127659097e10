//! What clients may put into events: attachments and their limits, placeholders, halves of characters; what they hear of what
//! does not fit.

use serde_json::{Value, json};

use super::*;
use crate::config::Config;
use crate::config::engine::EngineOptions;
use crate::protocol::socketio::any_value::AnyValue;
use crate::protocol::socketio::binary::Binary;
use crate::protocol::socketio::encode::EncodeError;
use crate::protocol::socketio::given::Given;
use crate::protocol::socketio::owned::OwnedArgs;
use crate::protocol::socketio::raw_json::RawJson;
use crate::shard::user::context::Context;
use crate::shard::user::socket::{Emitted, Socket};
use crate::shard::value::error::HandlerError;

fn server(
    options: EngineOptions,
    setup: impl Fn(&mut crate::Namespace) + Send + Sync + 'static,
) -> TestServer {
    let config = Config { engine: options, ..Config::default() };
    TestServer::new(Server::new(config).namespace("/", setup)).expect("the server is sound")
}

#[test]
fn the_limit_of_messages_is_for_each_attachment_and_a_packet_may_have_its_own() {
    for (attachments_bytes_max, is_taken) in [(0, true), (1_800, true), (1_799, false)] {
        let options =
            EngineOptions { max_http_buffer_size: 1_000, attachments_bytes_max, ..Default::default() };
        let server = server(options, |io| {
            io.on("sizes", |_: &mut Context<'_>, one: Binary, two: Binary| (one.0.len(), two.0.len()));
        });
        let client = server.connect("/").expect("everybody may");
        let args = (Binary::from(vec![1; 900]), Binary::from(vec![2; 900]));
        let answer = client.call("sizes", args).map(|answer| answer.args().raw().to_owned());
        assert_eq!(answer, is_taken.then(|| "900,900".to_owned()), "{attachments_bytes_max}");
        assert_eq!(client.is_connected(), is_taken);
    }
}

#[test]
fn one_attachment_keeps_to_the_limit_of_messages() {
    let options = EngineOptions { max_http_buffer_size: 1_000, ..Default::default() };
    let server = server(options, |io| io.on("bytes", |_: &mut Context<'_>, _: Binary| true));
    let client = server.connect("/").expect("everybody may");
    assert!(client.call("bytes", Binary::from(vec![1; 1_000])).is_some());
    client.emit("bytes", Binary::from(vec![1; 1_001]));
    assert!(!client.is_connected());
}

#[test]
fn a_placeholder_that_a_client_brings_reaches_nobody_beside_an_attachment() {
    let poison = json!({ "_placeholder": true, "num": 7 });
    let server = server(EngineOptions::default(), |io| {
        io.on("tell", |cx: &mut Context<'_>, text: Value| {
            let own = Binary::from(vec![1]);
            let is_refused = |emitted: Emitted| matches!(emitted, Emitted::Refused(EncodeError::Placeholder));
            let alone = cx.broadcast().emit("alone", &text);
            let beside = is_refused(cx.broadcast().emit("beside", (&text, own.clone())));
            let raw = RawJson::from_value(&text).expect("it is JSON");
            (matches!(alone, Emitted::Here(_)), beside, is_refused(cx.emit("raw", (raw, own))))
        });
        io.on("ack", |_: &mut Context<'_>, text: Value| (text, Binary::from(vec![1])));
        io.on_error(|_: &mut Context<'_>, error: &HandlerError| error.to_string());
    });
    let (sender, receiver) = (server.connect("/").expect("yes"), server.connect("/").expect("yes"));
    let answer = sender.call("tell", &poison).expect("it answers");
    assert_eq!(answer.args().raw(), "true,true,true");
    let received: Vec<String> = receiver.received().iter().map(Received::to_string).collect();
    assert_eq!(received, [r#"["alone",{"_placeholder":true,"num":7}]"#]);
    let answer = sender.call("ack", &poison).expect("the error handler answers");
    assert!(answer.first::<String>().expect("a text").contains("_placeholder"));
    assert!(sender.call("ack", 5).is_some_and(|answer| answer.args().attachments().len() == 1));
    assert!(sender.is_connected() && receiver.is_connected());
}

#[test]
fn a_value_with_an_attachment_in_it_is_an_error_that_names_the_right_type() {
    let server = server(EngineOptions::default(), |io| {
        io.on("value", |_: &mut Context<'_>, value: Value| value);
        io.on_error(|_: &mut Context<'_>, error: &HandlerError| error.to_string());
    });
    let client = server.connect("/").expect("everybody may");
    let answer = client.call("value", Binary::from(vec![1])).expect("the error handler answers");
    assert!(answer.first::<String>().expect("a text").contains("shardcast::Binary"));
    assert_eq!(client.call("value", 5).expect("it answers").first::<u8>().ok(), Some(5));
}

#[test]
fn half_a_character_is_delivered_wherever_a_text_is_read() {
    #[derive(serde::Deserialize)]
    struct Login {
        name: String,
    }
    let server = server(EngineOptions::default(), |io| {
        io.on_connect(|cx: &mut Context<'_>, login: Login| {
            cx.emit("hello", login.name);
        });
        io.on("enter", |cx: &mut Context<'_>, room: String| {
            cx.join(&room);
            cx.rooms().iter().any(|joined| *joined == "abc\u{fffd}")
        });
        io.on("relay", |cx: &mut Context<'_>, text: RawJson| {
            cx.emit("relayed", text);
        });
    });
    let half = RawJson::new(r#""abc\ud83d""#).expect("it is JSON");
    let auth = json!({ "name": "x" }).to_string().replace('x', "abc\\ud83d");
    let auth = RawJson::new(auth).expect("it is JSON");
    let client = server.client().auth(&auth).connect("/").expect("the auth can be read");
    assert_eq!(client.call("enter", &half).expect("it answers").first::<bool>().ok(), Some(true));
    client.emit("relay", &half);
    let received: Vec<String> = client.received().iter().map(Received::to_string).collect();
    assert_eq!(received, ["[\"hello\",\"abc\u{fffd}\"]", r#"["relayed","abc\ud83d"]"#]);
}

#[test]
fn an_error_handlers_value_is_the_acknowledgement_and_nothing_is_none() {
    let server = server(EngineOptions::default(), |io| {
        io.before(
            |cx: &mut Context<'_>, _| if cx.event() == "kept out" { Err("not for you") } else { Ok(()) },
        );
        io.on("add", |_: &mut Context<'_>, a: u8, b: u8| a + b);
        io.on_async("later", |_: Socket| async {
            crate::sleep(std::time::Duration::from_millis(5)).await;
            Err::<(), _>("later")
        });
        io.on_error(|cx: &mut Context<'_>, error: &HandlerError| json!([cx.event(), error.to_string()]));
    });
    let client = server.connect("/").expect("everybody may");
    let raw =
        |event: &str, args: (u8,)| client.call(event, args).map(|answer| answer.args().raw().to_owned());
    assert_eq!(raw("add", (1,)).as_deref(), Some(r#"["add","argument 1 is missing"]"#));
    assert_eq!(raw("kept out", (1,)).as_deref(), Some(r#"["kept out","not for you"]"#));
    let asked = client.emit_with_ack("later", ());
    server.advance(std::time::Duration::from_millis(500));
    assert_eq!(client.answer(asked).expect("it answers").args().raw(), r#"["later","later"]"#);
    client.emit("add", (1,));
    assert!(client.received().is_empty(), "who did not ask gets no answer");

    let silent = self::server(EngineOptions::default(), |io| {
        io.on("fail", |_: &mut Context<'_>| Err::<(), _>("no"));
        io.on_error(|_: &mut Context<'_>, _: &HandlerError| {});
    });
    assert!(silent.connect("/").expect("everybody may").call("fail", ()).is_none());
}

#[test]
fn a_page_that_has_nothing_to_say_has_no_auth() {
    #[derive(serde::Deserialize)]
    struct Login {
        token: String,
    }
    let server = server(EngineOptions::default(), |io| {
        io.on_connect(|cx: &mut Context<'_>, login: Option<Login>| {
            cx.emit("token", login.map(|login| login.token));
        });
    });
    for (auth, expected) in [
        (json!({}), Some("null")),
        (json!({ "token": null }), Some("null")),
        (json!({ "token": "x" }), Some("\"x\"")),
        (json!({ "token": 7 }), None),
    ] {
        match (server.client().auth(&auth).connect("/"), expected) {
            (Ok(client), Some(token)) => {
                assert_eq!(client.received()[0].to_string(), format!("[\"token\",{token}]"));
            }
            (Err(refused), None) => {
                assert!(refused.to_string().contains("invalid type: integer"), "{refused}")
            }
            (connected, _) => panic!("{auth}: {:?}", connected.map(|client| client.id())),
        }
    }
}

#[test]
fn a_placeholder_in_a_state_room_or_a_refusal_is_data() {
    let poison = json!({ "_placeholder": true, "num": 0 });
    let refusal = poison.clone();
    let server = Server::new(Config::default())
        .namespace("/", |io| {
            io.state_room("prices", crate::StateRoom::max_hz(10.0));
            io.on("watch", |cx: &mut Context<'_>| cx.join("prices"));
        })
        .namespace("/closed", move |io| {
            let data = refusal.clone();
            io.on_connect(move |_: &mut Context<'_>| Err::<(), _>(crate::Refused::new("no").data(&data)));
        });
    let server = TestServer::new(server).expect("the server is sound");
    server.handle().state("/", "prices").set("BTC", &poison).expect("it is JSON");
    let client = server.connect("/").expect("everybody may");
    client.emit("watch", ());
    assert_eq!(client.received()[0].to_string(), format!(r#"["prices",{{"BTC":{poison}}},true]"#));
    assert_eq!(server.connect("/closed").expect_err("nobody may").data, poison);
}

#[test]
fn values_of_any_shape_are_kept_and_sent_on_with_their_bytes() {
    let server = server(EngineOptions::default(), |io| {
        io.on("any", |cx: &mut Context<'_>, value: AnyValue, other: Given<AnyValue>| {
            cx.set(value.clone());
            let other = match other {
                Given::Missing => "missing".into(),
                Given::Null => "null".into(),
                Given::Value(value) => value,
            };
            cx.emit("alone", &value);
            (value, other)
        });
        io.on("last", |cx: &mut Context<'_>| cx.get::<AnyValue>());
        io.on_raw_async("later", |socket: Socket, args: OwnedArgs| async move {
            crate::sleep(std::time::Duration::from_millis(1)).await;
            socket.emit("kept", &args);
            args.read::<AnyValue>(0)
        });
    });
    let client = server.connect("/").expect("everybody may");
    let bytes = |byte: u8| AnyValue::from(bytes::Bytes::from(vec![byte]));
    let list = AnyValue::from(vec![AnyValue::from(1), bytes(2), AnyValue::Null]);
    let nested: AnyValue = [("a", list.clone()), ("b", bytes(3)), ("c", "text".into())].into_iter().collect();
    for value in [nested, list, bytes(4), AnyValue::from("é"), AnyValue::from(-1.5)] {
        let answer = client.call("any", (&value, AnyValue::Null)).expect("it answers");
        let read = |index| answer.args().read::<AnyValue>(index).expect("any value is one");
        assert_eq!((read(0), read(1)), (value.clone(), "null".into()));
        assert_eq!(client.received().remove(0).first::<AnyValue>(), Ok(value.clone()));
        assert_eq!(
            client.call("any", &value).expect("it answers").args().read::<String>(1).as_deref(),
            Ok("missing")
        );
        client.received();
        assert_eq!(
            client.call("last", ()).expect("it answers").first::<Option<AnyValue>>(),
            Ok(Some(value.clone()))
        );
        let asked = client.emit_with_ack("later", &value);
        server.advance(std::time::Duration::from_millis(2));
        assert_eq!(client.received().remove(0).first::<AnyValue>(), Ok(value.clone()));
        assert_eq!(client.answer(asked).expect("it came").first::<AnyValue>(), Ok(value));
    }
}
