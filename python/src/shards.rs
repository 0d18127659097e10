//! What is registered on every shard: it gives everything away.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use shardcast::{Args, ConnectTicket, Context, Handshake, Namespace, Peer, Server, Socket};

use crate::client::Facts;
use crate::courier::Courier;
use crate::exchange::Head;
use crate::job::{Ended, Job};

/// Dead entries are looked for when the table of connections has grown by so many.
const CONNECTIONS_STEP: usize = 1024;

/// Registers a namespace, or a pattern of namespaces, on a server.
pub(crate) fn namespace(server: Server, name: &str, courier: &Arc<Courier>) -> Server {
    let courier = Arc::clone(courier);
    server.namespace(&pattern(name), move |io: &mut Namespace<'_>| register(io, &courier))
}

/// `*` is every namespace that has no name of its own.
pub(crate) fn pattern(name: &str) -> String {
    if name == "*" { "/{*name}".to_owned() } else { name.to_owned() }
}

/// Has everything that happens in a namespace given away.
pub(crate) fn register(io: &mut Namespace<'_>, courier: &Arc<Courier>) {
    let taker = Arc::clone(courier);
    io.on_connect_outside(move |cx: &mut Context<'_>, auth: Args<'_>, ticket: ConnectTicket| {
        // Without a handshake the client is gone, and the ticket goes with it.
        let Some(handshake) = cx.handshake() else { return };
        let facts = facts(&handshake);
        taker.push(Job::Connect { ticket, auth: auth.raw().to_owned(), facts });
    });
    let taker = Arc::clone(courier);
    io.on_any(move |cx: &mut Context<'_>, args: Args<'_>| {
        let ticket = cx.ticket();
        taker.push(Job::Event { ticket, name: cx.event().into(), args: args.into_owned() });
    });
    let taker = Arc::clone(courier);
    io.on_disconnect(move |cx: &mut Context<'_>, reason| {
        let socket: &Socket = cx;
        let (socket, rooms) = (socket.addressee(), socket.rooms());
        taker.push(Job::Disconnect(Ended { socket, reason: reason.as_str(), rooms }));
    });
}

/// Gives the requests away that nothing on the shards answers.
pub(crate) fn pages(server: Server, courier: &Arc<Courier>) -> Server {
    let taker = Arc::clone(courier);
    server.fallback(move |request, responder| {
        taker.push(Job::Request { responder, head: Box::new(Head::of(request)) });
        // A request is not counted among what a turn gives away.
        taker.turn_over();
    })
}

fn facts(handshake: &Rc<Handshake>) -> Facts {
    let mut headers = String::new();
    for (name, value) in handshake.headers() {
        // Neither can hold a line's end.
        headers.push_str(name);
        headers.push_str(": ");
        headers.push_str(value);
        headers.push('\n');
    }
    let peer = match handshake.peer() {
        Peer::Tcp(address) => Some(address),
        Peer::Unix => None,
    };
    Facts {
        connection: connection_number(handshake),
        url: handshake.url().to_owned(),
        headers,
        peer,
        address: handshake.address(),
        is_secure: handshake.is_secure(),
    }
}

/// The connections of one shard: their handshakes, and the numbers that they have outside.
#[derive(Default)]
struct Connections {
    numbers: HashMap<*const Handshake, (Weak<Handshake>, u64)>,
    sweep_at: usize,
}

thread_local! {
    static CONNECTIONS: RefCell<Connections> = RefCell::default();
}

/// What the sockets of one connection have in common. A weak pointer keeps the place from being used for another handshake.
fn connection_number(handshake: &Rc<Handshake>) -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    CONNECTIONS.with_borrow_mut(|connections| {
        if connections.numbers.len() >= connections.sweep_at {
            connections.numbers.retain(|_, (handshake, _)| handshake.strong_count() > 0);
            connections.sweep_at = connections.numbers.len() * 2 + CONNECTIONS_STEP;
        }
        let entry = connections
            .numbers
            .entry(Rc::as_ptr(handshake))
            .or_insert_with(|| (Rc::downgrade(handshake), NEXT.fetch_add(1, Ordering::Relaxed)));
        entry.1
    })
}
