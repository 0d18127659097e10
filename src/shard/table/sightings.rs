//! What somebody who watches is told of sockets, in the words of Socket.IO's admin page (`@socket.io/admin-ui`).
//!
//! Each of these is called where something happens, if [`Sightings::is_on`](crate::shard::value::sighting::Sightings) says that somebody
//! watches. Only the configuration's own endpoint is shown: names of namespaces are all that the page knows, and another endpoint may
//! have the same.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::base::ids::Sid;
use crate::base::slab::Key;
use crate::message::target::Target;
use crate::protocol::http::described::{headers_of, iso_text, query_of, time_text};
use crate::protocol::socketio::event::Event;
use crate::protocol::socketio::frames::FramedEvent;
use crate::shard::table::Tables;
use crate::shard::value::endpoint::MAIN;
use crate::shard::value::session::{CloseReason, Link, Session};
use crate::shard::value::sighting::EVENT_SHOWN_BYTES_MAX;
use crate::shard::value::socket::SocketState;

/// Of a header's or a parameter's value, and of an event's name, so many characters are shown.
const SHOWN_CHARS_MAX: usize = 256;

/// Headers, and parameters of the query, that are shown.
const PAIRS_MAX: usize = 48;

/// Headers whose values let somebody pass for the client.
const SECRET_HEADERS: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

/// Stands in their place.
const NOT_SHOWN: &str = "(not shown)";

/// Characters by which the page tells clients from each other; Node's are the beginning of the session's id, which is a secret.
const CLIENT_ID_BYTES: usize = 9;

/// A socket, as the page knows it.
#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Described<'a> {
    id: &'a str,
    client_id: String,
    transport: &'static str,
    nsp: &'a str,
    data: Data<'a>,
    handshake: DescribedHandshake<'a>,
    rooms: Vec<String>,
}

#[derive(serde::Serialize)]
struct DescribedHandshake<'a> {
    address: String,
    headers: Pairs<'a>,
    query: Pairs<'a>,
    issued: u64,
    secure: bool,
    time: String,
    url: Cow<'a, str>,
    xdomain: bool,
}

/// An object, in the order of its members.
struct Pairs<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl Serialize for Pairs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        self.0.iter().try_for_each(|(name, value)| map.serialize_entry(name, value))?;
        map.end()
    }
}

/// What a socket's handlers have published, which is JSON already.
struct Data<'a>(Option<&'a str>);

impl Serialize for Data<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.and_then(|text| serde_json::from_str::<&RawValue>(text).ok()) {
            Some(text) => text.serialize(serializer),
            None => serializer.serialize_map(Some(0))?.end(),
        }
    }
}

impl Tables {
    /// Now, as the page reads times.
    fn iso_now(&self) -> String {
        iso_text(self.env.unix_origin + self.env.now.0)
    }

    /// The namespace and the id of a socket that is shown, and its namespace's number.
    fn shown(&self, key: Key) -> Option<(String, Sid, u16)> {
        let socket = self.sockets.get(key)?;
        let namespace = &self.namespaces[socket.namespace].namespace;
        (namespace.endpoint == MAIN).then(|| (text(&namespace.name), socket.sid, socket.namespace))
    }

    fn is_open(&self, key: Key) -> bool {
        self.sockets.get(key).is_some_and(|socket| socket.state.is_told())
    }

    /// A socket as the page knows it, as JSON, and when its session opened. `None` for one that is not open, or not shown.
    pub(crate) fn describe_sighted(&self, key: Key) -> Option<(String, u64)> {
        let socket = self.sockets.get(key).filter(|socket| socket.state.is_told())?;
        let namespace = &self.namespaces[socket.namespace].namespace;
        if namespace.endpoint != MAIN {
            return None;
        }
        let session = self.sessions.get(socket.session)?;
        let data = socket.extra.as_ref().and_then(|extra| extra.data.as_deref());
        let described = Described {
            id: socket.sid.as_str(),
            client_id: client_id(&session.sid),
            transport: transport(session),
            nsp: &namespace.name,
            data: Data(data),
            handshake: describe_handshake(session),
            rooms: self.rooms_of(key),
        };
        Some((serde_json::to_string(&described).ok()?, session.handshake.issued()))
    }

    /// A socket was let in.
    #[cold]
    pub(crate) fn saw_opened(&mut self, key: Key) {
        let Some((described, _)) = self.describe_sighted(key) else { return };
        self.saw_room("room_joined", key, None);
        let now = self.iso_now();
        self.sightings.change("socket_connected", format!("{described},\"{now}\""));
    }

    /// A socket has ended; its rooms are still there.
    #[cold]
    pub(crate) fn saw_closed(&mut self, key: Key, reason: CloseReason) {
        let Some((namespace, sid, _)) = self.shown(key) else { return };
        let now = self.iso_now();
        self.sightings.change(
            "socket_disconnected",
            format!("{namespace},\"{sid}\",\"{}\",\"{now}\"", reason.as_str()),
        );
        for room in self.rooms_of(key) {
            self.sightings.change("room_left", format!("{namespace},{},\"{sid}\",\"{now}\"", text(&room)));
        }
    }

    /// A socket that is open joined a room or left it; `None` is the one that its id is.
    #[cold]
    pub(crate) fn saw_room(&mut self, event: &'static str, key: Key, room: Option<&str>) {
        let Some((namespace, sid, _)) = self.shown(key).filter(|_| self.is_open(key)) else { return };
        let room = text(room.unwrap_or(sid.as_str()));
        let now = self.iso_now();
        self.sightings.change(event, format!("{namespace},{room},\"{sid}\",\"{now}\""));
    }

    /// A socket's handlers have published data.
    #[cold]
    pub(crate) fn saw_data(&mut self, key: Key) {
        let Some((namespace, sid, _)) = self.shown(key).filter(|_| self.is_open(key)) else { return };
        let extra = self.sockets.get(key).and_then(|socket| socket.extra.as_ref());
        let data = serde_json::to_string(&Data(extra.and_then(|extra| extra.data.as_deref())));
        let data = data.unwrap_or_else(|_| "{}".to_owned());
        self.sightings
            .change("socket_updated", format!("{{\"id\":\"{sid}\",\"nsp\":{namespace},\"data\":{data}}}"));
    }

    /// A client has gone on from polling to a WebSocket.
    #[cold]
    pub(crate) fn saw_upgraded(&mut self, session: Key) {
        for socket in self.sockets_of(session) {
            let Some((namespace, sid, _)) = self.shown(socket).filter(|_| self.is_open(socket)) else {
                continue;
            };
            let args = format!("{{\"id\":\"{sid}\",\"nsp\":{namespace},\"transport\":\"websocket\"}}");
            self.sightings.change("socket_updated", args);
        }
    }

    /// A client has sent an event.
    #[cold]
    pub(crate) fn saw_received(&mut self, key: Key, payload: &str, attachments: &[Bytes]) {
        let Some((namespace, sid, number)) = self.shown(key) else { return };
        if number == self.sightings.own || !self.sightings.may_show_event(self.env.now) {
            return;
        }
        let bytes = payload.len() + attachments.iter().map(Bytes::len).sum::<usize>();
        let (event, attachments) = match bytes <= EVENT_SHOWN_BYTES_MAX {
            true => (payload.to_owned(), attachments.to_vec()),
            false => {
                let name = Event::decode(payload, &[]).map(|event| event.name.into_owned());
                (sized(&name.unwrap_or_default(), bytes), Vec::new())
            }
        };
        let now = self.iso_now();
        let args = format!("{namespace},\"{sid}\",{event},\"{now}\"");
        self.sightings.event("event_received", args, attachments);
    }

    /// The sockets of a target, without the sender, are sent an event.
    #[cold]
    pub(crate) fn saw_broadcast(
        &mut self,
        namespace: u16,
        target: &Target,
        sender: Option<Key>,
        (frames, has_offset): (&[u8], bool),
    ) {
        if namespace == self.sightings.own {
            return;
        }
        let mut sockets = self.members_of(namespace, target);
        sockets.retain(|key| Some(*key) != sender);
        self.saw_sent(&sockets, frames, has_offset);
    }

    /// Some sockets are sent what these frames are, each once, if that is an event; it may end with its name for recovery.
    #[cold]
    pub(crate) fn saw_sent(&mut self, sockets: &[Key], frames: &[u8], has_offset: bool) {
        let Ok(framed) = FramedEvent::split(frames) else { return };
        let args = match has_offset {
            true => framed.args.rsplit_once(',').map_or("", |(args, _)| args),
            false => framed.args,
        };
        let bytes =
            framed.name.len() + args.len() + framed.attachments.iter().map(|one| one.len()).sum::<usize>();
        let (event, attachments) = match bytes <= EVENT_SHOWN_BYTES_MAX {
            true => {
                let separator = if args.is_empty() { "" } else { "," };
                let event = format!("[{}{separator}{args}]", text(&framed.name));
                (event, framed.attachments.iter().map(|one| Bytes::copy_from_slice(one)).collect())
            }
            false => (sized(&framed.name, bytes), Vec::new()),
        };
        for (place, key) in sockets.iter().enumerate() {
            let is_there = self.sockets.get(*key).is_some_and(|socket| socket.state != SocketState::Closed);
            let Some((namespace, sid, number)) = self.shown(*key).filter(|_| is_there) else { continue };
            if number == self.sightings.own {
                return;
            }
            if !self.sightings.may_show_event(self.env.now) {
                return self.sightings.leave_out(sockets.len() - place - 1);
            }
            let now = self.iso_now();
            let args = format!("{namespace},\"{sid}\",{event},\"{now}\"");
            self.sightings.event("event_sent", args, Vec::clone(&attachments));
        }
    }
}

fn describe_handshake(session: &Session) -> DescribedHandshake<'_> {
    let handshake = &session.handshake;
    let (request, ..) = handshake.parts();
    let url = handshake.url();
    let mut headers = headers_of(request);
    let is_cross_origin = headers.iter().any(|(name, _)| name == "origin");
    headers.truncate(PAIRS_MAX);
    for (name, value) in &mut headers {
        if SECRET_HEADERS.contains(&&**name) {
            *value = Cow::Borrowed(NOT_SHOWN);
        }
        cut(value, SHOWN_CHARS_MAX);
    }
    let mut query = query_of(url);
    query.truncate(PAIRS_MAX);
    query.iter_mut().for_each(|(_, value)| cut(value, SHOWN_CHARS_MAX));
    let mut url = Cow::Borrowed(url);
    cut(&mut url, 4 * SHOWN_CHARS_MAX);
    DescribedHandshake {
        address: handshake.address().map_or_else(|| "unix".to_owned(), |address| address.to_string()),
        headers: Pairs(headers),
        query: Pairs(query),
        issued: handshake.issued(),
        secure: handshake.is_secure(),
        time: time_text(handshake.issued()),
        url,
        xdomain: is_cross_origin,
    }
}

fn transport(session: &Session) -> &'static str {
    match session.link {
        Link::WebSocket(_) => "websocket",
        Link::Polling { .. } => "polling",
    }
}

/// One id for all sockets of a session, from which the session's cannot be found.
fn client_id(session: &Sid) -> String {
    let digest = Sha256::digest(session.as_str());
    URL_SAFE_NO_PAD.encode(&digest[..CLIENT_ID_BYTES])
}

/// A text as JSON.
fn text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// What is shown of an event that is too large.
fn sized(name: &str, bytes: usize) -> String {
    let mut name = Cow::Borrowed(name);
    cut(&mut name, SHOWN_CHARS_MAX);
    format!("[{},\"({bytes} bytes, not shown)\"]", text(&name))
}

/// Leaves the beginning of a text.
fn cut(value: &mut Cow<'_, str>, chars_max: usize) {
    if let Some((end, _)) = value.char_indices().nth(chars_max) {
        *value = Cow::Owned(format!("{}..", &value[..end]));
    }
}
