//! How clients of Socket.IO 1.x and 2.x are told that they are in.

use std::rc::Rc;

use crate::base::ids::Sid;
use crate::base::slab::Key;
use crate::protocol::socketio::encode;
use crate::shard::core::Core;
use crate::shard::value::error::Refused;

impl Core {
    /// Makes the id that the client knows a room, so that whoever hears of it can write to it.
    pub(crate) fn join_client_id(&mut self, socket: Key) {
        if let Some(id) = self.tables.client_id(socket) {
            self.tables.join_alias(socket, &id);
        }
    }

    /// The answer to a CONNECT: revision 3 has the id already.
    pub(crate) fn send_connect(&mut self, socket: Key, session: Key, namespace: u16, sid: Sid) {
        let namespace = Rc::clone(&self.tables.namespaces[namespace].namespace);
        let name = &namespace.name;
        if self.tables.is_revision_3(session) {
            self.tables.send_message(session, |out| encode::encode_connect3(out, name));
        } else {
            let pid = self.tables.pid_of(socket);
            let pid = pid.as_ref().map(Sid::as_str);
            self.tables.send_message(session, |out| encode::encode_connect(out, name, sid.as_str(), pid));
        }
    }

    /// The refusal of a CONNECT: revision 3 gets the data, or else the message, and no object around it.
    pub(crate) fn send_connect_error(&mut self, session: Key, namespace: &str, refused: &Refused) {
        let (message, data) = (&refused.message, refused.data.as_ref());
        if self.tables.is_revision_3(session) {
            self.tables.send_message(session, |out| encode::encode_error3(out, namespace, message, data));
        } else {
            self.tables
                .send_message(session, |out| encode::encode_connect_error(out, namespace, message, data));
        }
    }
}
