//! Events that wait behind a socket's asynchronous handler, or for the socket to open, and how they are taken up: in order, and
//! no more at a time than their client's share of a turn (`share`).

use bytes::Bytes;

use crate::base::slab::Key;
use crate::protocol::socketio::packet::Packet;
use crate::shard::run::Shard;
use crate::shard::table::waiting::Next;
use crate::shard::value::socket::Waiting;

impl Shard {
    /// Keeps an event until the socket's asynchronous handler is done.
    pub(crate) fn postpone(&mut self, session: Key, socket: Key, packet: &Packet<'_>, attachments: &[Bytes]) {
        let is_over = {
            let mut core = self.core.borrow_mut();
            let bytes_max = core.tables.env.config.pending_bytes_max;
            let Some(entry) = core.tables.sockets.get_mut(socket) else { return };
            let extra = entry.extra_mut();
            let (payload, attachments) = (packet.payload.to_owned(), attachments.to_vec());
            let waiting = Waiting { payload, id: packet.id, attachments };
            extra.waiting_bytes += waiting.len_bytes();
            extra.waiting.push_back(waiting);
            let is_over = extra.waiting_bytes > bytes_max;
            core.tables.count_waiting(socket);
            core.tables.meters().events_waiting.add(1);
            is_over
        };
        if is_over {
            self.break_session(
                session,
                "more events wait behind an asynchronous handler than pending_bytes_max",
            );
        }
    }

    /// A socket's handler is done, or the socket has opened: takes up what waited, until another handler takes its time or the
    /// client's share of the turn is used up.
    pub(crate) fn run_waiting(&mut self, socket: Key) {
        // A handler of this very loop was done at once: the loop goes on by itself, so the stack does not grow.
        if self.running == Some(socket) {
            return;
        }
        let session = {
            let core = self.core.borrow();
            let Some(session) = core.tables.sockets.get(socket).map(|socket| socket.session) else { return };
            // Its next share begins with these.
            if core.tables.awaits_share(session) {
                return;
            }
            session
        };
        self.take_up(session, socket);
    }

    /// Goes on with what has waited for the sockets of a session. True when more of it waits for the next share.
    pub(crate) fn continue_waiting(&mut self, session: Key) -> bool {
        let sockets = self.core.borrow().tables.sockets_of(session);
        sockets.into_iter().any(|socket| self.take_up(session, socket))
    }

    /// True when the share is used up before everything is taken up that can be.
    fn take_up(&mut self, session: Key, socket: Key) -> bool {
        let outer = self.running.replace(socket);
        let must_wait = loop {
            let next = self.core.borrow_mut().tables.next_waiting(session, socket);
            match next {
                Next::Nothing => break false,
                Next::Later => break true,
                Next::Event(Waiting { payload, id, attachments }) => {
                    self.dispatch(socket, &payload, id, &attachments);
                }
            }
            // What a handler asked for holds before the next event.
            if !self.core.borrow().tables.effects.deferred.is_empty() {
                self.settle();
            }
        };
        self.running = outer;
        must_wait
    }
}
