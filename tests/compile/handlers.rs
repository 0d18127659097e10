//! Mistakes in the shape of a handler. What follows `//~` must be said of the line before: tests/compile.rs compares.

use shardcast::{ClassNamespace, Config, Context, Json, Methods, Server, Socket};

#[derive(serde::Serialize)]
struct Point {
    x: i32,
}

/// Neither `Serialize` nor `Deserialize`.
struct Opaque;

/// An error that is no `std::error::Error`.
struct NoError;

struct Class;

impl ClassNamespace for Class {
    fn register(io: &mut Methods<'_, Self>) {
        io.on("an argument", Class::argument);
        //~ a handler cannot take a `Opaque`
        io.on("no context", Class::no_context);
        //~ this method cannot be the handler of an event
        io.on_connect(Class::decision);
        //~ `i32` cannot be a connect handler's decision
    }
}

impl Class {
    fn argument(&self, _: &mut Context<'_>, _: Opaque) {}

    fn no_context(&self, _: i32) {}

    fn decision(&self, _: &mut Context<'_>) -> i32 {
        7
    }
}

fn main() {
    let _ = Server::new(Config::default()).namespace("/", |io| {
        io.on("no Json", |_: &mut Context| Point { x: 1 });
        //~ `Point` cannot be sent as it is
        io.on("not Serialize", |_: &mut Context| Json(Opaque));
        //~ `Opaque: serde::Serialize` is not satisfied
        io.on("async", |_: &mut Context, _: i64| async move {});
        //~ register it with `on_async` or `on_concurrent`
        io.on("not Deserialize", |_: &mut Context, _: Opaque| {});
        //~ a handler cannot take a `Opaque`
        io.on("no context", |_: String, _: i64| {});
        //~ first the context, with its type written out
        io.on("nine", |_: &mut Context, _: i8, _: i8, _: i8, _: i8, _: i8, _: i8, _: i8, _: i8, _: i8| {});
        //~ a handler takes at most eight arguments
        io.on("an error", |_: &mut Context| Err::<(), _>(NoError));
        //~ `Result<(), NoError>` cannot be a handler's answer
        io.on_async("a context", |_: &mut Context, _: i64| async move {});
        //~ first the socket
        io.on_async("no future", |_: Socket, _: i64| {});
        //~ `()` is not a future
        io.on_async("not Deserialize", |_: Socket, _: Opaque| async move {});
        //~ a handler cannot take a `Opaque`
        io.on_async("no Json", |_: Socket| async move { Point { x: 1 } });
        //~ `Point` cannot be sent as it is
        io.on_connect(|_: &mut Context| 7_i32);
        //~ `i32` cannot be a connect handler's decision
        io.on_connect(|_: &mut Context, _: Opaque| true);
        //~ `Opaque: serde::Deserialize<'de>` is not satisfied
        io.on_connect(|_: String| true);
        //~ this cannot be a connect handler
        io.on_connect_async(|_: Socket, _: i32| async move { 7_i32 });
        //~ `i32` cannot be a connect handler's decision
        io.on_connect_async(|_: &mut Context, _: i32| async move { true });
        //~ expected closure signature `fn(Socket, _) -> _`
    });
}
