//! Handlers that borrow from their event.

use std::borrow::Cow;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::testing::{TestClient, TestServer};
use crate::{
    Args, Binary, ClassNamespace, Config, Context, HandlerError, Json, Methods, OwnedArgs, Server, Socket,
    ToArgs,
};

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
        io.use_connect(|class: &Class, _: &mut Context, auth: Option<Login>| {
            class.bytes.set(auth.map_or(0, |login| login.token.len()));
        });
        io.on_connect(Self::connected);
        io.on_raw_async("relay", Self::relay);
        io.on_echo("back", |class: &Class, _: &mut Context, _: Args<'_>| class.bytes.set(0));
        io.on("own", |class: &Class, _: &mut Context| Total { bytes: class.bytes.get() });
        io.on("closure", |class: &Class, _: &mut Context, text: &str| class.bytes.get() + text.len());
    }
}

/// A value that a method returns as it is.
#[derive(serde::Serialize)]
struct Total {
    bytes: usize,
}

impl ToArgs for Total {
    fn to_args(&self) -> impl serde::Serialize + '_ {
        (self,)
    }
}

#[derive(serde::Deserialize)]
struct Login<'a> {
    token: &'a str,
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
}

impl Class {
    fn connected(&self, cx: &mut Context<'_>, auth: Option<Login<'_>>) -> Result<(), String> {
        let Some(login) = auth else { return Ok(()) };
        cx.emit("login", (login.token, login.name));
        if login.token == "secret" { Ok(()) } else { Err(format!("{:?} is no token", login.token)) }
    }

    async fn relay(self: Rc<Self>, socket: Socket, args: OwnedArgs) -> OwnedArgs {
        crate::sleep(Duration::from_millis(1)).await;
        socket.emit("relayed", (self.bytes.get(), args.len()));
        args
    }

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

#[test]
fn auth_is_lent_to_who_decides() {
    let server = Server::new(Config::default())
        .namespace("/", |io| {
            io.use_connect(|cx: &mut Context, auth: Option<Login>| {
                cx.set(auth.map_or(0, |login| login.token.len()));
            });
            io.on_connect(|cx: &mut Context, login: Login| match login.token {
                "a\nb" => Ok(()),
                text => Err(format!("{text} after {:?}", cx.get::<usize>())),
            });
        })
        .namespace_class("/class", |_| Class::default());
    let server = TestServer::new(server).unwrap();
    let refused = |auth: Value| server.client().auth(&auth).connect("/").unwrap_err().message;
    assert!(server.client().auth(&json!({ "token": "a\nb" })).connect("/").is_ok());
    assert_eq!(refused(json!({ "token": "\u{e4}\t" })), "\u{e4}\t after Some(3)");
    assert!(refused(json!({ "token": 7 })).contains("invalid type: integer `7`, expected a borrowed string"));
    let without = server.client().connect("/").unwrap_err().message;
    assert!(without.contains("missing field `token`") || without.contains("it is required"), "{without}");

    let class = |auth: Value| server.client().auth(&auth).connect("/class");
    assert!(class(json!({ "token": null })).is_ok() && server.connect("/class").is_ok());
    assert_eq!(class(json!({ "token": "\"x\"" })).unwrap_err().message, r#""\"x\"" is no token"#);
    let client = class(json!({ "token": "secret", "name": "A\u{7}da" })).unwrap();
    assert_eq!(client.received().remove(0).args().raw(), r#""secret","A\u0007da""#);
}

#[test]
fn methods_of_a_class_may_take_and_return_what_closures_may() {
    let server = serve();
    let client = server.client().auth(&json!({ "token": "secret" })).connect("/class").unwrap();
    client.received();
    assert_eq!(first(&client, "own", ()), json!({ "bytes": 6 }));
    let asked = client.emit_with_ack("relay", ("a", Binary::from(vec![1])));
    assert!(client.received().is_empty(), "it takes its time");
    server.advance(Duration::from_millis(5));
    assert_eq!(client.received().remove(0).args().raw(), "6,2");
    let answer = client.answer(asked).expect("it came");
    assert_eq!(answer.args().read::<Binary>(1).unwrap(), Binary::from(vec![1]));
    assert_eq!(client.call("back", ("b", 2)).unwrap().args().raw(), r#""b",2"#);
    assert_eq!(first(&client, "own", ()), json!({ "bytes": 0 }));
}
