//! What is registered on every shard: it gives everything away.

use std::sync::Arc;

use shardcast::{Args, ConnectTicket, Context, Namespace, Server, Socket};

use crate::courier::Courier;
use crate::exchange::Head;
use crate::job::{Ended, Job};

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
        taker.push(Job::Connect { ticket, auth: auth.raw().to_owned(), handshake });
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
