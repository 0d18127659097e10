//! What is lent to a handler cannot be kept. What follows `//~` must be said of the line before: tests/compile.rs compares.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Mutex;

use shardcast::{ClassNamespace, Config, Context, Methods, Namespace, Server, Socket};

thread_local! {
    static KEPT: Cell<Option<&'static str>> = const { Cell::new(None) };
}

static SHARED: Mutex<Vec<&'static [u8]>> = Mutex::new(Vec::new());

#[derive(serde::Deserialize)]
struct Move<'a> {
    name: &'a str,
}

struct Class;

impl ClassNamespace for Class {
    fn register(io: &mut Methods<'_, Self>) {
        io.on("thread local", |_: &Class, _: &mut Context, text| KEPT.set(Some(text)));
        //~ escapes
    }
}

struct Deciding;

impl ClassNamespace for Deciding {
    fn register(io: &mut Methods<'_, Self>) {
        io.on_connect(|_: &Deciding, _: &mut Context, token| KEPT.set(Some(token)));
        //~ escapes
    }
}

fn demands(_: &mut Context<'_>, _: &'static str) {}

/// Whoever calls this would have to have a namespace that lasts for ever.
fn forever(io: &mut Namespace<'static>) {
    io.on("static", demands);
}

// Each in a function of its own: of one lifetime the compiler complains once in each.

fn function(io: &mut Namespace<'_>) {
    io.on("static", demands);
    //~ escapes
}

fn in_static(io: &mut Namespace<'_>) {
    io.on("a static", |_: &mut Context, bytes| SHARED.lock().unwrap().push(bytes));
    //~ escapes
}

fn in_thread_local(io: &mut Namespace<'_>) {
    io.on("thread local", |_: &mut Context, text| KEPT.set(Some(text)));
    //~ escapes
}

fn in_thread(io: &mut Namespace<'_>) {
    io.on("a thread", |_: &mut Context, text: &str| std::thread::spawn(move || println!("{text}")).join().is_ok());
    //~ escapes
}

fn in_task(io: &mut Namespace<'_>) {
    io.on("a task", |cx: &mut Context, step: Move| cx.spawn(async move { println!("{}", step.name) }));
    //~ escapes
}

fn of_its_own(io: &mut Namespace<'_>) {
    let kept = Rc::new(RefCell::new(Vec::new()));
    io.on("of its own", move |_: &mut Context, text: &str| kept.borrow_mut().push(text));
    //~ escapes
}

fn of_a_decision(io: &mut Namespace<'_>) {
    io.on_connect(|_: &mut Context, token| KEPT.set(Some(token)));
    //~ escapes
}

fn of_what_is_asked_before(io: &mut Namespace<'_>) {
    io.use_connect(|cx: &mut Context, step: Move| cx.spawn(async move { println!("{}", step.name) }));
    //~ escapes
}

fn of_an_asynchronous_decision(io: &mut Namespace<'_>) {
    io.on_connect_async(|_: Socket, token: &str| async move { !token.is_empty() });
    //~ not general enough
}

fn asynchronous(io: &mut Namespace<'_>) {
    io.on_async("asynchronous", |_: Socket, text: &str| async move { text.len() });
    //~ not general enough
}

fn main() {
    let _ = Server::new(Config::default()).namespace("/", |io| {
        forever(io);
        //~ escapes
    });
}
