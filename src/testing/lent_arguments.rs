//! Handlers that borrow from their event.

use std::borrow::Cow;
use std::cell::Cell;
use std::rc::Rc;

use serde_json::{Value, json};

use crate::testing::{TestClient, TestServer};
use crate::{Binary, ClassNamespace, Config, Context, HandlerError, Json, Methods, Server};

#[derive(serde::Deserialize)]
struct Move<'a> {
    player: &'a str,
    to: (i32, i32),
    #[serde(borrow)]
    note: Option<Cow<'a, str>>,
}

#[derive(serde::Deserialize)]
struct Picture<'a> {
    name: &'a str,
    data: &'a [u8],
}

#[derive(serde::Deserialize)]
struct Owned {
    name: String,
}

/// A function may say that its answer is lent, too.
fn echo<'a>(_: &mut Context<'_>, text: &'a str) -> &'a str {
    text
}

fn sum(_: &mut Context<'_>, bytes: &[u8], more: Option<&[u8]>) -> usize {
    bytes.iter().chain(more.unwrap_or_default()).map(|byte| usize::from(*byte)).sum()
}

#[derive(Default)]
struct Class {
    bytes: Cell<usize>,
}

impl ClassNamespace for Class {
    fn register(io: &mut Methods<'_, Self>) {
        io.on("echo", Self::echo);
        io.on("count", Self::count);
        io.on("closure", |class: &Class, _: &mut Context, text: &str| class.bytes.get() + text.len());
    }
}

impl Class {
    fn echo<'a>(&self, _: &mut Context<'_>, text: &'a str) -> &'a str {
        text
    }

    fn count(&self, _: &mut Context<'_>, step: Move<'_>, bytes: &[u8], owned: String) {
        self.bytes.set(self.bytes.get() + step.player.len() + bytes.len() + owned.len());
    }
}

fn serve() -> TestServer {
    let server = Server::new(Config::default())
        .namespace("/", |io| {
            io.on("echo", echo);
            io.on("sum", sum);
            io.on("length", |_: &mut Context, text: &str| text.len());
            io.on("maybe", |_: &mut Context, text: Option<&str>| text.is_none());
            io.on("join", |_: &mut Context, texts: Vec<&str>| texts.join("+"));
            io.on("cow", |_: &mut Context, text: Cow<str>| text.len());
            io.on("move", |cx: &mut Context, step: Move| {
                cx.emit("moved", (step.player, step.to, step.note));
            });
            io.on("picture", |_: &mut Context, picture: Picture| (picture.name.len(), picture.data.len()));
            io.on(
                "mixed",
                |cx: &mut Context,
                 a: &str,
                 b: String,
                 c: Move<'_>,
                 d: i64,
                 e: Owned,
                 f: Option<&str>,
                 g: Value,
                 h: &[u8]| {
                    let text = format!("{a}{b}{}{d}{}{}{g}", c.player, e.name, f.unwrap_or("-"));
                    cx.emit("mixed", (text, Binary::from(h.to_vec())));
                },
            );
            // What a body says of its parameters still decides.
            io.on("inferred", |_: &mut Context, a, b| {
                let both: (u8, String) = (a, b);
                Json(both)
            });
            let last = Rc::new(Cell::new(0));
            io.on("kept", move |_: &mut Context, text: &str| last.replace(text.len()));
            io.on_error(|_: &mut Context, error: &HandlerError| error.to_string());
        })
        .namespace_class("/class", |_| Class::default());
    TestServer::new(server).unwrap()
}

fn first(client: &TestClient, event: &str, args: impl crate::ToArgs) -> Value {
    client.call(event, args).unwrap().first().unwrap()
}

#[test]
fn texts_of_every_kind_are_lent() {
    let server = serve();
    let client = server.connect("/").unwrap();
    for text in ["", "plain", "two\nlines", "\"quoted\\\"", "ä\u{1f600}", "\u{7}"] {
        assert_eq!(first(&client, "echo", text), text);
        assert_eq!(first(&client, "length", text), text.len());
        assert_eq!(first(&client, "cow", text), text.len());
    }
    assert_eq!(first(&client, "maybe", ()), true);
    assert_eq!(first(&client, "maybe", "x"), false);
    assert_eq!(first(&client, "join", (vec!["a", "\n", "b"],)), "a+\n+b");
    assert_eq!((first(&client, "kept", "abc"), first(&client, "kept", "")), (json!(0), json!(3)));
}

#[test]
fn bytes_and_structs_are_lent_beside_what_is_owned() {
    let server = serve();
    let client = server.connect("/").unwrap();
    let bytes = |bytes: &[u8]| Binary::from(bytes.to_vec());
    assert_eq!(first(&client, "sum", bytes(&[1, 2])), 3);
    assert_eq!(first(&client, "sum", (bytes(&[1, 2]), bytes(&[4]))), 7);
    assert_eq!(first(&client, "sum", (bytes(&[1, 2]), None::<u8>)), 3);
    client.emit("move", json!({ "player": "A\tda", "to": [1, 2], "note": "n" }));
    let moved = client.received().remove(0);
    assert_eq!(moved.args().raw(), r#""A\tda",[1,2],"n""#);
    #[derive(serde::Serialize)]
    struct Sent {
        name: &'static str,
        data: Binary,
    }
    let answer = client.call("picture", &Sent { name: "a\nb", data: bytes(&[1; 70]) }).unwrap();
    assert_eq!((answer.args().read::<u8>(0), answer.args().read::<u8>(1)), (Ok(3), Ok(70)));
    let step = json!({ "player": "\u{1}", "to": [0, 0] });
    let args = ("a", "b\n", step, 7, json!({ "name": "e" }), None::<&str>, json!([null]), bytes(&[9]));
    client.emit("mixed", args);
    let mixed = client.received().remove(0);
    assert_eq!(mixed.args().read::<String>(0).unwrap(), "ab\n\u{1}7e-[null]");
    assert_eq!(mixed.args().attachments()[0].as_ref(), [9]);
    assert_eq!(first(&client, "inferred", (1, "x")), json!([1, "x"]));
}

#[test]
fn what_does_not_fit_goes_to_the_error_handler() {
    let server = serve();
    let client = server.connect("/").unwrap();
    assert_eq!(first(&client, "echo", ()), "argument 0 is missing");
    let rows = [
        (
            "echo",
            json!(7),
            "argument 0 is of another type: invalid type: integer `7`, expected a borrowed string",
        ),
        ("sum", json!({ "_placeholder": true, "num": 0 }), "argument 0 is of another type"),
        ("move", json!({ "player": "\n" }), "argument 0 is of another type"),
    ];
    for (event, arg, expected) in rows {
        let said = first(&client, event, &arg);
        assert!(said.as_str().is_some_and(|said| said.starts_with(expected)), "{event}: {said}");
    }
}

#[test]
fn methods_of_a_class_are_lent_their_arguments() {
    let server = serve();
    let client = server.connect("/class").unwrap();
    assert_eq!(first(&client, "echo", "a\nb"), "a\nb");
    client.emit("count", (json!({ "player": "Ada", "to": [0, 0] }), Binary::from(vec![0; 10]), "100"));
    assert_eq!(first(&client, "closure", "four"), 20);
}
