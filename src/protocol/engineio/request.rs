//! The query of an Engine.IO request and the error replies of the handshake
//! (protocol revision 4, "Handshake"; codes and texts of engine.io 6).

use std::borrow::Cow;

use crate::protocol::engineio::jsonp::Callback;
use crate::protocol::engineio::polling::PollForm;
use crate::protocol::engineio::revision::Revision;
use crate::protocol::http::query;

/// A transport a client may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Polling,
    WebSocket,
}

/// What the query string says. Of a key that occurs twice the last counts, as in Node.
#[derive(Debug, Default)]
pub(crate) struct RequestQuery<'a> {
    pub(crate) revision: Option<Cow<'a, str>>,
    pub(crate) transport: Option<Cow<'a, str>>,
    pub(crate) sid: Option<Cow<'a, str>>,
    pub(crate) shard_key: Option<Cow<'a, str>>,
    /// `j`: the answer is to be a script that calls this function.
    pub(crate) callback: Option<Callback>,
    /// `b64`: the client reads no bytes.
    pub(crate) is_text_only: bool,
}

impl<'a> RequestQuery<'a> {
    pub(crate) fn parse(query: &'a str) -> RequestQuery<'a> {
        let mut parsed = RequestQuery::default();
        for (name, value) in query::pairs(query) {
            match name.as_ref() {
                "EIO" => parsed.revision = Some(value),
                "transport" => parsed.transport = Some(value),
                // An empty sid is a handshake, as in Node.
                "sid" => parsed.sid = Some(value).filter(|sid| !sid.is_empty()),
                "shard_key" => parsed.shard_key = Some(value).filter(|key| !key.is_empty()),
                "j" => parsed.callback = Some(Callback::parse(&value)),
                "b64" => parsed.is_text_only = !value.is_empty(),
                _ => {}
            }
        }
        parsed
    }

    pub(crate) fn transport(&self) -> Option<Transport> {
        match self.transport.as_deref()? {
            "polling" => Some(Transport::Polling),
            "websocket" => Some(Transport::WebSocket),
            _ => None,
        }
    }

    /// The revision that the client speaks. Who names none is older than the name, and 2 was never told from 3.
    pub(crate) fn revision(&self) -> Option<Revision> {
        match self.revision.as_deref() {
            Some("4") => Some(Revision::Four),
            None | Some("" | "2" | "3") => Some(Revision::Three),
            Some(_) => None,
        }
    }

    /// How the client wants its polls answered.
    pub(crate) fn poll_form(&self, revision: Revision) -> PollForm {
        PollForm { revision, is_text_only: self.is_text_only, callback: self.callback }
    }
}

/// Why an Engine.IO request is refused. The numbers travel in the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestError {
    TransportUnknown = 0,
    SessionUnknown = 1,
    BadHandshakeMethod = 2,
    BadRequest = 3,
    Forbidden = 4,
    UnsupportedRevision = 5,
}

/// What is answered for a session of another process of the same fleet, in place of [`RequestError::message`] and with the same code.
pub(crate) const SESSION_ELSEWHERE: &str = "Session ID unknown: another server process opened this session, or this one before it was \
     restarted. If that is seen often, the load balancer must send all requests of a client to one process: in nginx by ip_hash or by \
     a cookie. Clients that use WebSocket only need neither";

impl RequestError {
    pub(crate) fn message(self) -> &'static str {
        match self {
            RequestError::TransportUnknown => "Transport unknown",
            RequestError::SessionUnknown => "Session ID unknown",
            RequestError::BadHandshakeMethod => "Bad handshake method",
            RequestError::BadRequest => "Bad request",
            RequestError::Forbidden => "Forbidden",
            RequestError::UnsupportedRevision => "Unsupported protocol version",
        }
    }

    pub(crate) fn status(self) -> u16 {
        if self == RequestError::Forbidden { 403 } else { 400 }
    }

    /// The JSON body that clients read. A rule of the application's may have a message of its own.
    pub(crate) fn body(self, message: &str) -> String {
        let message = serde_json::Value::from(message);
        format!(r#"{{"code":{},"message":{message}}}"#, self as u8)
    }

    /// What a person should do about it; goes to the log.
    pub(crate) fn advice(self) -> &'static str {
        match self {
            RequestError::TransportUnknown => {
                "the query names no transport this server serves; check `transports` on both sides"
            }
            RequestError::SessionUnknown => {
                "the session ended, or another process opened it: several processes behind a balancer need sticky sessions"
            }
            RequestError::BadHandshakeMethod => "a session opens with GET",
            RequestError::BadRequest => {
                "the request does not fit its session: a proxy that drops the Upgrade header, or a poll after the upgrade"
            }
            RequestError::Forbidden => "allow_request refused it; its message says why",
            RequestError::UnsupportedRevision => {
                "the client speaks another protocol revision than EIO=4 of Socket.IO 3 and 4: set allow_eio3 = true to serve clients of Socket.IO 1.x and 2.x, and pages that poll by JSONP"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_a_repeated_key_counts_and_an_empty_sid_is_none() {
        let query = RequestQuery::parse("EIO=3&EIO=4&transport=polling&sid=a&sid=&shard_key=room%201");
        assert_eq!(query.revision(), Some(Revision::Four));
        assert_eq!(query.transport(), Some(Transport::Polling));
        assert_eq!(query.sid, None);
        assert_eq!(query.shard_key.as_deref(), Some("room 1"));
    }

    #[test]
    fn whatever_is_no_revision_of_ours_is_refused_and_none_is_the_oldest() {
        let rows = [
            ("EIO=4", Some(Revision::Four)),
            ("EIO=3", Some(Revision::Three)),
            ("EIO=2", Some(Revision::Three)),
            ("EIO=", Some(Revision::Three)),
            ("", Some(Revision::Three)),
            ("EIO=5", None),
            ("EIO=abc", None),
            ("EIO=04", None),
        ];
        for (query, expected) in rows {
            assert_eq!(RequestQuery::parse(query).revision(), expected, "{query}");
        }
        let form = RequestQuery::parse("j=2&b64=1").poll_form(Revision::Three);
        assert_eq!((form.callback, form.is_text_only), (Some(Callback::parse("2")), true));
    }

    #[test]
    fn error_bodies_are_nodes() {
        let body = |error: RequestError| error.body(error.message());
        assert_eq!(body(RequestError::TransportUnknown), r#"{"code":0,"message":"Transport unknown"}"#);
        assert_eq!(
            body(RequestError::UnsupportedRevision),
            r#"{"code":5,"message":"Unsupported protocol version"}"#
        );
        let quoted = RequestError::Forbidden.body("no \"x\"\r\n");
        assert_eq!(quoted, r#"{"code":4,"message":"no \"x\"\r\n"}"#);
        assert_eq!((RequestError::Forbidden.status(), RequestError::BadRequest.status()), (403, 400));
    }
}
