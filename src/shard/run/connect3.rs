//! Clients of Socket.IO 1.x and 2.x: where their sessions differ from the rest once packets are decoded
//! (Socket.IO protocol 4, the one below Engine.IO 3).
//!
//! They are in `/` without asking, bring what others call auth in the query of a namespace, and know their sockets by the
//! session's id, which other clients are not told. The bytes are in `protocol/engineio`; the form of what they are sent is in `form`.

use std::borrow::Cow;

use crate::base::slab::Key;
use crate::protocol::http::query;
use crate::protocol::socketio::packet::{Packet, PacketKind};
use crate::shard::run::Shard;
use crate::shard::table::revision3::DEFAULT_NAMESPACE;

impl Shard {
    /// Lets a client of revision 3 into `/`, which it takes for granted. A server without that namespace does not answer.
    pub(crate) fn connect_default(&mut self, session: Key) {
        let is_wanted = {
            let core = self.core.borrow();
            let endpoint = core.tables.sessions.get(session).map(|session| session.endpoint);
            core.tables.is_revision_3(session)
                && endpoint.is_some_and(|endpoint| {
                    core.tables.namespaces.find(endpoint, DEFAULT_NAMESPACE).is_some()
                })
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
