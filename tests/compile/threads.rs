//! What belongs to a shard stays on its thread. What follows `//~` must be said of the line before: tests/compile.rs compares.

use std::cell::RefCell;
use std::rc::Rc;

use shardcast::{Ack, Config, Context, Namespace, Server};

fn socket(io: &mut Namespace<'_>) {
    io.on("a thread", |cx: &mut Context| {
        let socket = cx.socket();
        std::thread::spawn(move || socket.emit("late", ()));
        //~ StaysOnTheThreadOfItsShard>` cannot be sent between threads safely
    });
}

fn ack(io: &mut Namespace<'_>) {
    io.on("a thread", |_: &mut Context, ack: Ack| {
        std::thread::spawn(move || ack.send(1));
        //~ StaysOnTheThreadOfItsShard>` cannot be sent between threads safely
    });
}

fn main() {
    let shared = Rc::new(RefCell::new(0));
    let _ = Server::new(Config::default()).background(move |_| {
        //~ cannot be sent between threads safely
        let shared = Rc::clone(&shared);
        async move { *shared.borrow_mut() += 1 }
    });
}
