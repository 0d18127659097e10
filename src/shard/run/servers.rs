//! What other processes' servers say to this one's.

use std::rc::Rc;

use crate::base::log::SOCKETIO;
use crate::base::shown::Shown;
use crate::message::inquiry::{AckError, AnswerText, Findings};
use crate::message::server_event::{ServerCall, ServerEvent};
use crate::protocol::socketio::event::Args;
use crate::shard::run::Shard;
use crate::shard::run::guard::words;
use crate::shard::user::servers::ServerContext;
use crate::shard::value::error::HandlerError;

impl Shard {
    /// Calls the handler of an event, and gives whoever waits its answer, or says that there is none.
    pub(crate) fn receive_server_event(&mut self, call: ServerCall) {
        let ServerCall { event, from, reply } = call;
        let answer = self.call_server_handler(&event, &from);
        let Some(reply) = reply else { return };
        let found = answer.map(|text| {
            let bytes = text.len_bytes();
            Findings { servers: vec![(String::new(), text)], bytes, ..Findings::default() }
        });
        self.reply(reply, found.ok_or(AckError::NotSent));
    }

    fn call_server_handler(&mut self, event: &ServerEvent, from: &str) -> Option<AnswerText> {
        let core = Rc::clone(&self.core);
        let namespace = core.borrow().tables.namespaces.refer_address(&event.namespace);
        let namespace = namespace?;
        let handlers = Rc::clone(self.app.namespaces.get(usize::from(namespace.setup))?);
        let Some(handler) = handlers.server_events.get(event.name.as_str()) else {
            tracing::debug!(
                target: SOCKETIO,
                namespace = %event.namespace,
                event = ?Shown(&event.name),
                "another process has said an event that on_server_event has no handler for"
            );
            return None;
        };
        let args = Args::of_elements(&event.args.json, &event.args.attachments);
        let mut cx = ServerContext { core: &core, namespace: &namespace, event: &event.name, from };
        let name = |cx: &ServerContext<'_>| format!("the handler of the server's event {:?}", cx.event());
        let fault = match self.call(&mut cx, |cx| handler(cx, args), name) {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(HandlerError::NoAck)) => return None,
            Ok(Err(error)) => words(&error),
            Err(panic) => format!("it panicked: {panic}"),
        };
        tracing::error!(
            target: SOCKETIO,
            namespace = %event.namespace,
            event = ?Shown(&event.name),
            from,
            "a handler of a server's event failed: {fault}"
        );
        None
    }
}
