//! Requests that become WebSockets: their fields judged, the subprotocol chosen, the 101 answered (RFC 6455 §1.9, §4.2.2).
//!
//! Browsers and Node give up when they offer subprotocols and the answer names none. So the answer names the first that is offered,
//! unless the server says which it serves, or chooses itself. Does not know what the frames will mean.

use std::borrow::Cow;

use smallvec::SmallVec;

use crate::base::slab::Key;
use crate::base::time::Time;
use crate::message::peer::{Door, Peer};
use crate::protocol::http::head::{Head, Version};
use crate::protocol::http::method::Method;
use crate::protocol::websocket::extension;
use crate::protocol::websocket::handshake::{self, AcceptKey, HandshakeError, HandshakeView};
use crate::shard::table::Tables;
use crate::shard::value::connection::{Kind, Role, WebSocketState};
use crate::shard::value::form::Form;

/// A handshake that is accepted, and what was agreed on.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) key: AcceptKey,
    pub(crate) protocol: Option<Box<str>>,
}

/// Checks the WebSocket fields of a request.
pub(crate) fn validate_handshake(head: &Head<'_, '_>) -> Result<Accepted, HandshakeError> {
    let (upgrade, connection) = (joined(head, "upgrade"), joined(head, "connection"));
    let (version, key) = (joined(head, "sec-websocket-version"), joined(head, "sec-websocket-key"));
    let protocols = joined(head, "sec-websocket-protocol");
    let extensions = joined(head, "sec-websocket-extensions");
    let key = handshake::validate(HandshakeView {
        is_get: head.method == Method::Get,
        is_http11: head.version == Version::Http11,
        upgrade: upgrade.as_deref(),
        connection: connection.as_deref(),
        version: version.as_deref(),
        key: key.as_deref(),
        protocols: protocols.as_deref(),
        extensions: extensions.as_deref(),
    })?;
    Ok(Accepted { key, protocol: None })
}

/// A field's value; one that appears more than once is a list (RFC 9110 §5.3).
pub(crate) fn joined<'s>(head: &Head<'_, 's>, name: &str) -> Option<Cow<'s, str>> {
    let mut values = head.headers.get_all(name);
    let first = values.next()?;
    Some(values.fold(Cow::Borrowed(first), |all, value| Cow::Owned(format!("{all}, {value}"))))
}

impl Tables {
    /// Who is at the other end of a connection.
    pub(crate) fn peer_of(&self, key: Key) -> Peer {
        self.connections.get(key).map_or(Peer::Unix, |connection| connection.peer)
    }

    /// Who is at the other end of a connection, and whether this server speaks TLS with it.
    pub(crate) fn via(&self, key: Key) -> (Peer, bool) {
        (self.peer_of(key), self.is_secure(key))
    }

    /// Answers 101: from here on the connection carries frames.
    pub(crate) fn become_websocket(
        &mut self,
        key: Key,
        endpoint: u8,
        (head, accepted): (&Head<'_, '_>, &Accepted),
        role: Role,
    ) {
        let grant = self.http_mut(key).and_then(|http| http.grant.take());
        let offers = self
            .endpoint(endpoint)
            .settings
            .permessage_deflate
            .then(|| joined(head, "sec-websocket-extensions"))
            .flatten();
        let deflate = offers.and_then(|offers| extension::accept_deflate(&offers));
        let mut headers: SmallVec<[(&str, &str); 4]> =
            grant.iter().flat_map(|grant| grant.headers()).collect();
        headers.extend(deflate.map(|accepted| ("Sec-WebSocket-Extensions", accepted.answer)));
        let form = Form::of_offer(deflate);
        let protocol = accepted.protocol.as_deref();
        self.write_to(key, |out| handshake::encode_response(out, &accepted.key, protocol, &headers));
        if let Some(connection) = self.connections.get_mut(key) {
            connection.kind = Kind::WebSocket(WebSocketState::new(form, role, endpoint));
            connection.deadline = Time::NEVER;
            if connection.door == Door::Public {
                self.env.counters.meters.connections_websocket.add(1);
            }
        }
    }
}
