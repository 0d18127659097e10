//! From a CONNECT to a decision: connect handlers are asked, one after the other.

use crate::base::log::SOCKETIO;
use crate::base::slab::Key;
use crate::protocol::socketio::event::Args;
use crate::protocol::socketio::packet::Packet;
use crate::shard::core::lives::REFUSED;
use crate::shard::run::Shard;
use crate::shard::run::connect3::split_connect;
use crate::shard::user::app::ConnectFlow;
use crate::shard::user::context::Context;
use crate::shard::user::socket::Socket;
use crate::shard::value::error::Refused;
use crate::shard::value::kinds::SocketRefused;
use crate::shard::value::recovery::claimed_pid;
use crate::shard::value::session::CloseReason;
use crate::shard::value::socket::SocketState;
use crate::shard::value::task::TaskOwner;

/// What a client is told who comes while handlers outside have more than they may have.
const BUSY_OUTSIDE: &str = "the server is busy, try again later";

impl Shard {
    /// CONNECT: the handler decides.
    pub(crate) fn connect(&mut self, session: Key, packet: &Packet<'_>) {
        let (name, auth) = split_connect(packet, self.core.borrow().tables.is_revision_3(session));
        let joined = self.core.borrow().tables.socket_of(session, name);
        if let Some(socket) = joined {
            if self.core.borrow().tables.may_repeat_connect(session, name) {
                return;
            }
            self.end_repeated(socket, &auth);
        }
        let socket_key = {
            let mut core = self.core.borrow_mut();
            if core.tables.sessions.get(session).is_none_or(|session| session.is_over || session.is_ending) {
                return;
            }
            match core.open_namespace(session, name) {
                Ok(namespace) => core.add_socket(session, namespace),
                Err(refused) => return core.send_connect_error(session, name, &refused),
            }
        };
        self.connect_or_recover(socket_key, &auth);
    }

    /// A client connects to a namespace that it is in: it does not know of that socket any more, and begins anew. So do stock
    /// clients that disconnect and connect before their first CONNECT is answered: they have nothing to take back.
    fn end_repeated(&mut self, socket: Key, auth: &str) {
        let (is_ending, pid) = {
            let core = self.core.borrow();
            (core.tables.is_ending(socket), core.tables.pid_of(socket))
        };
        let reason = match claimed_pid(auth) {
            _ if is_ending => CloseReason::ServerDisconnect,
            Some(claimed) if Some(claimed) == pid => CloseReason::TransportClose,
            _ => CloseReason::ClientDisconnect,
        };
        self.end_socket(socket, reason, is_ending);
    }

    /// Asks the connect handlers from `first` on, until one refuses or takes its time.
    pub(crate) fn ask_connect_handlers(&mut self, socket_key: Key, first: usize, auth: &str) {
        if first == 0 {
            self.core.borrow_mut().open_undecided(socket_key);
            // Each client that comes and goes leaves tickets with who is behind already.
            if self.core.borrow().tables.is_outside_full() {
                let refused = Refused::new(BUSY_OUTSIDE);
                return self.core.borrow_mut().refuse_socket(socket_key, &refused, SocketRefused::Handler);
            }
        }
        let Some(socket) = Socket::of(&self.core, socket_key) else { return };
        let handlers = self.handlers_of(&socket);
        let args = Args::of_value(auth);
        let mut cx = Context::new(socket, "connect", args, None);
        for (step, ask) in handlers.connect.iter().enumerate().skip(first) {
            // The handler before may have disconnected it: the next is not asked.
            if self.core.borrow().tables.is_ending(socket_key) {
                return;
            }
            let name = |cx: &Context<'_>| format!("a connect handler of {}", cx.namespace());
            let decided = self.call(&mut cx, |cx| ask(cx, args), name);
            match decided {
                Ok(Ok(ConnectFlow::Done)) => {}
                Ok(Ok(ConnectFlow::Later(future))) => {
                    self.keep_connect_step(socket_key, step + 1, (handlers.connect.len(), auth));
                    return self.start_task(future, TaskOwner::Connect(socket_key));
                }
                Ok(Ok(ConnectFlow::Outside)) => {
                    return self.keep_connect_step(socket_key, step + 1, (handlers.connect.len(), auth));
                }
                Ok(Err(refused)) => {
                    return self.core.borrow_mut().refuse_socket(
                        socket_key,
                        &refused,
                        SocketRefused::Handler,
                    );
                }
                Err(panic) => {
                    tracing::error!(target: SOCKETIO, message = %panic, "a connect handler panicked; the client is refused");
                    let refused = Refused::new(REFUSED);
                    return self.core.borrow_mut().refuse_socket(socket_key, &refused, SocketRefused::Panic);
                }
            }
        }
        // So may the last one have: the client is refused, as one whose handler took its time.
        if self.core.borrow().tables.is_ending(socket_key) {
            return;
        }
        self.core.borrow_mut().accept_socket(socket_key);
        self.run_waiting(socket_key);
    }

    /// Notes which connect handler is asked once the present one has accepted, if one is left.
    fn keep_connect_step(&mut self, socket: Key, next: usize, (handlers, auth): (usize, &str)) {
        if next >= handlers {
            return;
        }
        let mut core = self.core.borrow_mut();
        if let Some(socket) = core.tables.sockets.get_mut(socket) {
            socket.extra_mut().connect_step = Some((next, auth.to_owned()));
        }
        core.tables.count_waiting(socket);
    }

    /// A connect handler that took its time has decided: ask the next, let the socket in, or send it away.
    pub(crate) fn decide(&mut self, socket_key: Key, decision: Result<(), Refused>) {
        let state = self.core.borrow().tables.sockets.get(socket_key).map(|socket| socket.state);
        if state.is_none_or(SocketState::is_decided) {
            return;
        }
        if let Err(refused) = decision {
            return self.core.borrow_mut().refuse_socket(socket_key, &refused, SocketRefused::Handler);
        }
        let next = {
            let mut core = self.core.borrow_mut();
            let extra = core.tables.sockets.get_mut(socket_key).and_then(|socket| socket.extra.as_mut());
            let next = extra.and_then(|extra| extra.connect_step.take());
            core.tables.count_waiting(socket_key);
            next
        };
        let (first, auth) = next.unwrap_or((usize::MAX, String::new()));
        self.ask_connect_handlers(socket_key, first, &auth);
    }
}
