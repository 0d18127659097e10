//! What a WebSocket says that is to become a session's transport.

use crate::base::log::ENGINEIO;
use crate::base::slab::Key;
use crate::protocol::engineio::packet;
use crate::protocol::engineio::revision::Revision;
use crate::protocol::engineio::session::{Step as PacketStep, Via, step};
use crate::shard::run::Shard;

impl Shard {
    pub(crate) fn receive_probe(&mut self, key: Key, session: Key, text: &str) {
        let asked = packet::decode(text).map(|packet| step(Revision::default(), Via::Probe, packet));
        match asked {
            Ok(PacketStep::AnswerProbe) => self.core.borrow_mut().tables.answer_probe(key, session),
            Ok(PacketStep::Upgrade) => self.core.borrow_mut().tables.upgrade(key, session),
            _ => self.fail_probe(key, session),
        }
    }

    /// The WebSocket does not become a transport; polling goes on.
    pub(crate) fn fail_probe(&mut self, key: Key, session: Key) {
        tracing::debug!(target: ENGINEIO, "upgrade given up: its WebSocket sent neither a probe nor an upgrade");
        let mut core = self.core.borrow_mut();
        core.tables.forget_upgrade(session, key);
        core.tables.close_websocket(key, None, "");
    }
}
