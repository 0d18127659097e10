//! Clients of Socket.IO 1.x and 2.x: where their sessions differ from the rest once packets are decoded
//! (Socket.IO protocol 4, the one below Engine.IO 3).
//!
//! They are in `/` without asking, bring what others call auth in the query of a namespace, and know their sockets by the
//! session's id, which nobody else is told. The bytes are in `protocol/engineio`; the form of what they are sent is in `wire`.

use std::borrow::Cow;
use std::rc::Rc;

use crate::base::ids::Sid;
use crate::base::slab::Key;
use crate::protocol::engineio::payload3;
use crate::protocol::engineio::revision::Revision;
use crate::protocol::http::query;
use crate::protocol::socketio::encode;
use crate::protocol::socketio::packet::{Packet, PacketKind};
use crate::shard::Shard;
use crate::shard::app::Refused;
use crate::shard::core::Core;

/// The namespace that nobody has to ask for.
const DEFAULT_NAMESPACE: &str = "/";

impl Shard {
    /// Lets a client of revision 3 into `/`, which it takes for granted. A server without that namespace says nothing.
    pub(crate) fn connect_default(&mut self, session: Key) {
        let is_wanted = {
            let core = self.core.borrow();
            let endpoint = core.sessions.get(session).map(|session| session.endpoint);
            core.is_revision_3(session)
                && endpoint
                    .is_some_and(|endpoint| core.namespaces.find(endpoint, DEFAULT_NAMESPACE).is_some())
        };
        if is_wanted {
            let kind = PacketKind::Connect;
            let packet = Packet { kind, namespace: DEFAULT_NAMESPACE, id: None, attachments: 0, payload: "" };
            self.connect(session, &packet);
        }
    }
}

/// The namespace and the auth of a CONNECT. Revision 3 has the latter in the query of the former: an object of strings here.
pub(crate) fn split_connect<'a>(packet: &Packet<'a>, is_revision_3: bool) -> (&'a str, Cow<'a, str>) {
    match packet.namespace.split_once('?').filter(|_| is_revision_3) {
        Some((name, query)) => {
            let pairs = query::pairs(query).map(|(name, value)| (name.into_owned(), value.into()));
            (name, Cow::Owned(serde_json::Value::Object(pairs.collect()).to_string()))
        }
        None => (packet.namespace, Cow::Borrowed(packet.payload)),
    }
}

impl Core {
    pub(crate) fn is_revision_3(&self, session: Key) -> bool {
        self.sessions.get(session).is_some_and(|session| session.poll_form.revision == Revision::Three)
    }

    /// The message of a binary frame: revision 3 has a type in front of it. `None` if that is no message's.
    pub(crate) fn untyped<'a>(&self, session: Key, frame: &'a [u8]) -> Option<&'a [u8]> {
        if !self.is_revision_3(session) {
            return Some(frame);
        }
        payload3::message(frame)
    }

    /// A repeated CONNECT to `/` is no fault of a client that was let in before it could ask.
    pub(crate) fn may_repeat_connect(&self, session: Key, namespace: &str) -> bool {
        namespace == DEFAULT_NAMESPACE && self.is_revision_3(session)
    }

    /// The id by which a client of revision 3 knows its socket: its session's, with which anybody could speak for it, so the
    /// socket has another one for the rest of the world.
    pub(crate) fn client_id(&self, socket: Key) -> Option<String> {
        let socket = self.sockets.get(socket).filter(|socket| self.is_revision_3(socket.session))?;
        let name = &self.namespaces[socket.namespace].namespace.name;
        let sid = self.sessions.get(socket.session)?.sid;
        Some(if **name == *DEFAULT_NAMESPACE { sid.to_string() } else { format!("{name}#{sid}") })
    }

    /// Makes the id that the client knows a room, so that whoever hears of it can write to it.
    pub(crate) fn join_client_id(&mut self, socket: Key) {
        if let Some(id) = self.client_id(socket) {
            self.join_alias(socket, &id);
        }
    }

    /// The answer to a CONNECT: revision 3 has the id already.
    pub(crate) fn send_connect(&mut self, socket: Key, session: Key, namespace: u16, sid: Sid) {
        let namespace = Rc::clone(&self.namespaces[namespace].namespace);
        let name = &namespace.name;
        if self.is_revision_3(session) {
            self.send_message(session, |out| encode::encode_connect3(out, name));
        } else {
            let pid = self.pid_of(socket);
            let pid = pid.as_ref().map(Sid::as_str);
            self.send_message(session, |out| encode::encode_connect(out, name, sid.as_str(), pid));
        }
    }

    /// The refusal of a CONNECT: revision 3 gets the data, or else the message, and no object around it.
    pub(crate) fn send_connect_error(&mut self, session: Key, namespace: &str, refused: &Refused) {
        let (message, data) = (&refused.message, refused.data.as_ref());
        if self.is_revision_3(session) {
            self.send_message(session, |out| encode::encode_error3(out, namespace, message, data));
        } else {
            self.send_message(session, |out| encode::encode_connect_error(out, namespace, message, data));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_of_a_namespace_is_its_auth() {
        let rows = [
            ("/admin?tok=5", true, ("/admin", r#"{"tok":"5"}"#)),
            ("/admin?a=%22&b=c+d&a=2", true, ("/admin", r#"{"a":"2","b":"c d"}"#)),
            ("/admin?", true, ("/admin", "{}")),
            ("/admin", true, ("/admin", "")),
            ("/admin?tok=5", false, ("/admin?tok=5", "")),
        ];
        for (namespace, is_revision_3, expected) in rows {
            let kind = PacketKind::Connect;
            let packet = Packet { kind, namespace, id: None, attachments: 0, payload: "" };
            let (name, auth) = split_connect(&packet, is_revision_3);
            assert_eq!((name, auth.as_ref()), expected, "{namespace}");
        }
    }
}
