//! Sockets as servers describe them to each other: `{id, handshake, rooms, data}`, what `fetchSockets` gives a user on Node.
//!
//! A handshake there has `{headers, time, address, xdomain, secure, issued, url, query, auth}`, of which a session here keeps the
//! request and the peer. Ours has an empty `auth`, which handlers here have for themselves. Theirs loses its `auth`, and a header
//! that is no text.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use crate::base::ids::Sid;
use crate::message::inquiry::SocketFacts;
use crate::message::peer::Peer;
use crate::protocol::http::described::{headers_of, query_of, time_text};

use super::buffers::with_buffers;
use super::parts::{check_attachments, read_names, write_names};
use super::sink::Sink;
use super::source::Source;
use super::{Payload, Unreadable};

pub(super) fn write_all(sink: &mut Sink, sockets: &[SocketFacts]) {
    sink.array(sockets.len(), |sink| {
        for socket in sockets {
            sink.object(4, |sink| {
                sink.key("id").string(socket.sid.as_str());
                write_handshake(sink.key("handshake"), socket);
                let rooms = socket.rooms.iter().map(String::as_str).collect();
                write_names(sink.key("rooms"), &rooms);
                let data = socket.data.as_deref().unwrap_or("{}");
                sink.key("data").value(&Payload { json: data.to_owned(), attachments: Vec::new() });
            });
        }
    });
}

fn write_handshake(sink: &mut Sink, socket: &SocketFacts) {
    let url = socket.request.split('\n').next().unwrap_or_default();
    let headers = headers_of(&socket.request);
    let is_cross_origin = headers.iter().any(|(name, _)| name == "origin");
    sink.object(9, |sink| {
        write_pairs(sink.key("headers"), &headers);
        sink.key("time").string(&time_text(socket.issued_unix_millis));
        let address = socket.address.or(socket.peer.ip());
        sink.key("address").string(&address.map_or_else(String::new, |address| address.to_string()));
        sink.key("xdomain").literal(Some(is_cross_origin));
        // The connection's own encryption: a proxy has taken it off.
        sink.key("secure").literal(Some(false));
        sink.key("issued").number(socket.issued_unix_millis);
        sink.key("url").string(url);
        write_pairs(sink.key("query"), &query_of(url));
        sink.key("auth").object(0, |_| {});
    });
}

fn write_pairs(sink: &mut Sink, pairs: &[(Cow<'_, str>, Cow<'_, str>)]) {
    sink.object(pairs.len(), |sink| {
        pairs.iter().for_each(|(name, value)| sink.key(name).string(value));
    });
}

/// Reads a list of descriptions. One without an id that sockets can have is left out.
pub(super) fn read_all(source: &mut Source<'_>) -> Result<Vec<SocketFacts>, Unreadable> {
    let mut sockets = Vec::new();
    let mut inside = source.array()?;
    while source.has_more(&mut inside)? {
        sockets.extend(read(source)?);
    }
    Ok(sockets)
}

fn read(source: &mut Source<'_>) -> Result<Option<SocketFacts>, Unreadable> {
    let (mut sid, mut client_id, mut rooms, mut data) = (None, None, Vec::new(), None);
    let mut handshake = Handshake::default();
    let mut inside = source.object()?;
    while let Some(key) = source.key(&mut inside)? {
        match &*key {
            "id" => (sid, client_id) = read_id(&source.string()?),
            "handshake" if source.is_object() => handshake = read_handshake(source)?,
            "rooms" => rooms = read_names(source)?.iter().map(str::to_owned).collect(),
            "data" => data = source.value()?,
            _ => source.skip()?,
        }
    }
    let Some(sid) = sid else { return Ok(None) };
    let Handshake { url, headers, address, issued } = handshake;
    Ok(Some(SocketFacts {
        sid,
        client_id,
        rooms,
        request: (url + &headers).into(),
        peer: address.map_or(Peer::Unix, |address| Peer::tcp(SocketAddr::new(address, 0))),
        address,
        issued_unix_millis: issued,
        data: data.map(data_text).transpose()?.flatten(),
    }))
}

/// Node calls a socket of a client of Socket.IO 2 by the namespace and the session: `/admin#ID`.
fn read_id(id: &str) -> (Option<Sid>, Option<Box<str>>) {
    match id.split_once('#') {
        None => (Sid::parse(id), None),
        Some((_, session)) => (Sid::parse(session), Some(id.into())),
    }
}

/// What is read of a handshake: the headers as lines, each behind a line feed.
#[derive(Default)]
struct Handshake {
    url: String,
    headers: String,
    address: Option<IpAddr>,
    issued: u64,
}

fn read_handshake(source: &mut Source<'_>) -> Result<Handshake, Unreadable> {
    let mut handshake = Handshake::default();
    let mut inside = source.object()?;
    while let Some(key) = source.key(&mut inside)? {
        match &*key {
            "headers" if source.is_object() => read_headers(source, &mut handshake.headers)?,
            "url" => handshake.url = one_line(&text(source)?).into_owned(),
            "address" => handshake.address = text(source)?.parse().ok().map(|ip: IpAddr| ip.to_canonical()),
            "issued" => {
                handshake.issued =
                    source.value()?.and_then(|value| value.json.parse().ok()).unwrap_or_default();
            }
            _ => source.skip()?,
        }
    }
    Ok(handshake)
}

/// A value of another kind than text, as a list of values is, is left out.
fn read_headers(source: &mut Source<'_>, headers: &mut String) -> Result<(), Unreadable> {
    let mut inside = source.object()?;
    while let Some(name) = source.key(&mut inside)? {
        let value = text(source)?;
        let is_name = !name.is_empty() && !name.starts_with('=') && !name.contains([':', '\n']);
        if is_name && !value.is_empty() {
            let _ = write!(headers, "\n{name}: {}", one_line(&value));
        }
    }
    Ok(())
}

/// A text, or nothing if it is a value of another kind.
fn text(source: &mut Source<'_>) -> Result<String, Unreadable> {
    let value = source.value()?.map(|value| value.json).filter(|json| json.starts_with('"'));
    let text = value.as_deref().and_then(crate::protocol::socketio::json::unescape);
    Ok(text.map(Cow::into_owned).unwrap_or_default())
}

/// Lines end values here, and what another server says must not make headers of its own.
fn one_line(text: &str) -> Cow<'_, str> {
    if text.contains(['\n', '\r']) { text.replace(['\n', '\r'], " ").into() } else { text.into() }
}

/// JSON alone, without what says nothing.
fn data_text(data: Payload) -> Result<Option<Box<str>>, Unreadable> {
    check_attachments(&data)?;
    let mut out = Vec::new();
    with_buffers(&mut out, &data).map_err(|_| Unreadable::NotExpected)?;
    let text = String::from_utf8(out).map_err(|_| Unreadable::NotUtf8)?;
    Ok(Some(text.into_boxed_str()).filter(|text| !matches!(&**text, "null" | "{}")))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::{Value, json};

    use super::*;

    fn facts() -> SocketFacts {
        let request = "/socket.io/?EIO=4&a=1&b=%C3%A9&a=2\nHost: a.example\nhost: b\nX-One: 1\nx-one: 2\nCookie: a=b\n\
                       Cookie: c=d\nOrigin: http://o\n=3 ff";
        let peer = Peer::tcp("192.0.2.1:80".parse().unwrap());
        SocketFacts {
            sid: Sid::parse("qu6x9d3Zy3p4LoxoAAAB").unwrap(),
            client_id: None,
            rooms: vec!["qu6x9d3Zy3p4LoxoAAAB".into(), "\"é".into()],
            request: request.into(),
            peer,
            address: "2001:db8::1".parse().ok(),
            issued_unix_millis: 1_795_202_442_575,
            data: Some(r#"{"user":"bo"}"#.into()),
        }
    }

    #[test]
    fn a_description_has_what_a_remote_socket_of_node_has() {
        let mut sink = Sink::json();
        write_all(&mut sink, &[facts()]);
        let written: Value = serde_json::from_slice(&sink.finish().unwrap()).unwrap();
        let expected = json!([{
            "id": "qu6x9d3Zy3p4LoxoAAAB",
            "handshake": {
                "headers": {
                    "host": "a.example", "x-one": "1, 2", "cookie": "a=b; c=d", "origin": "http://o",
                },
                "time": "Fri Nov 20 2026 19:20:42 GMT+0000 (Coordinated Universal Time)",
                "address": "2001:db8::1",
                "xdomain": true,
                "secure": false,
                "issued": 1_795_202_442_575_u64,
                "url": "/socket.io/?EIO=4&a=1&b=%C3%A9&a=2",
                "query": {"EIO": "4", "a": "2", "b": "é"},
                "auth": {},
            },
            "rooms": ["qu6x9d3Zy3p4LoxoAAAB", "\"é"],
            "data": {"user": "bo"},
        }]);
        assert_eq!(written, expected);
    }

    #[test]
    fn a_description_of_ours_is_read_as_it_was_but_for_the_port_and_the_case_of_names() {
        for sink in [Sink::json(), Sink::msgpack()] {
            let mut sink = sink;
            write_all(&mut sink, &[facts()]);
            let bytes = sink.finish().unwrap();
            let is_json = bytes.starts_with(b"[");
            let source = if is_json { Source::json(&bytes) } else { Source::msgpack(&bytes) };
            let read = read_all(&mut source.unwrap()).unwrap();
            let expected = SocketFacts {
                request:
                    "/socket.io/?EIO=4&a=1&b=%C3%A9&a=2\nhost: a.example\nx-one: 1, 2\ncookie: a=b; c=d\n\
                          origin: http://o"
                        .into(),
                peer: Peer::tcp("[2001:db8::1]:0".parse().unwrap()),
                ..facts()
            };
            assert_eq!(read, [expected]);
        }
    }

    #[test]
    fn what_another_server_describes_cannot_make_headers_or_sockets() {
        let described = json!([
            {"id": "short", "rooms": ["a"]},
            {"rooms": ["a"], "handshake": null},
            {
                "id": "qu6x9d3Zy3p4LoxoAAAB",
                "handshake": {
                    "url": "/\nx-evil: 1",
                    "address": "::ffff:127.0.0.1",
                    "issued": -5,
                    "headers": {"a": "1\r\nx-evil: 2", "=0": "ff", "b\nx-evil": "3", "c": ["4"], "d": "5"},
                },
                "rooms": null,
                "data": null,
            },
        ]);
        let bytes = Bytes::from(described.to_string());
        let read = read_all(&mut Source::json(&bytes).unwrap()).unwrap();
        let expected = SocketFacts {
            request: "/ x-evil: 1\na: 1  x-evil: 2\nd: 5".into(),
            peer: Peer::tcp("127.0.0.1:0".parse().unwrap()),
            address: "127.0.0.1".parse().ok(),
            rooms: Vec::new(),
            issued_unix_millis: 0,
            data: None,
            ..facts()
        };
        assert_eq!(read, [expected]);
    }

    #[test]
    fn a_socket_of_an_older_client_is_called_by_its_namespace_and_session() {
        let described =
            Bytes::from_static(br##"[{"id":"/chat#qu6x9d3Zy3p4LoxoAAAB"},{"id":"/chat#"},{"id":"#a#b"}]"##);
        let read = read_all(&mut Source::json(&described).unwrap()).unwrap();
        let ids: Vec<_> = read.iter().map(|facts| (facts.sid.as_str(), facts.client_id.as_deref())).collect();
        assert_eq!(ids, [("qu6x9d3Zy3p4LoxoAAAB", Some("/chat#qu6x9d3Zy3p4LoxoAAAB"))]);
    }
}
