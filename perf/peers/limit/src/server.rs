//! The loop: readable sockets in, bytes out. A connection is found by its descriptor's number.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::net::{self, SendFlags, SocketFlags, sockopt};

use crate::http;
use crate::session::{Packet, Session};
use crate::websocket;

const READ_BUFFER_BYTES: usize = 256 * 1024;
const EVENTS_MAX: usize = 1024;
const OPEN: &str =
    r#""upgrades":["websocket"],"pingInterval":300000,"pingTimeout":200000,"maxPayload":1000000}"#;
const ATTACHMENT: &[u8] = br#"[{"_placeholder":true,"num":0}]"#;

pub struct Server {
    epoll: OwnedFd,
    listener: OwnedFd,
    connections: Vec<Option<Connection>>,
    sessions: Vec<Session>,
    everyone: Vec<usize>,
    room_names: HashMap<Vec<u8>, usize>,
    rooms: Vec<Vec<usize>>,
    buffer: Vec<u8>,
    /// What the connection that is being read is answered with.
    reply: Vec<u8>,
    /// The frame that is being broadcast.
    frame: Vec<u8>,
}

struct Connection {
    socket: OwnedFd,
    session: Option<usize>,
    is_websocket: bool,
    /// The start of a frame or request that is not whole.
    partial: Vec<u8>,
    /// The rest of a send that the kernel did not take. While there is one, broadcasts pass this connection by.
    owed: Vec<u8>,
}

impl Server {
    pub fn bind(port: u16) -> io::Result<Server> {
        let listener: OwnedFd = std::net::TcpListener::bind(("127.0.0.1", port))?.into();
        net::listen(&listener, 4096)?;
        rustix::io::ioctl_fionbio(&listener, true)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let data = EventData::new_u64(u64::MAX);
        epoll::add(&epoll, &listener, data, EventFlags::IN)?;
        Ok(Server {
            epoll,
            listener,
            connections: Vec::new(),
            sessions: Vec::new(),
            everyone: Vec::new(),
            room_names: HashMap::new(),
            rooms: Vec::new(),
            buffer: vec![0; READ_BUFFER_BYTES],
            reply: Vec::new(),
            frame: Vec::new(),
        })
    }

    pub fn run(mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        loop {
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), None) {
                Err(rustix::io::Errno::INTR) => continue,
                result => result?,
            };
            for event in &events {
                let (data, flags) = (event.data, event.flags);
                if data.u64() == u64::MAX {
                    self.accept()?;
                    continue;
                }
                let index = data.u64() as usize;
                if flags.contains(EventFlags::OUT) {
                    self.send(index, &[]);
                }
                if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
                    self.read(index);
                }
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        while let Ok(socket) = net::accept_with(&self.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)
        {
            sockopt::set_tcp_nodelay(&socket, true)?;
            let index = socket.as_raw_fd() as usize;
            epoll::add(&self.epoll, &socket, EventData::new_u64(index as u64), EventFlags::IN)?;
            if self.connections.len() <= index {
                self.connections.resize_with(index + 1, || None);
            }
            let (partial, owed) = (Vec::new(), Vec::new());
            self.connections[index] =
                Some(Connection { socket, session: None, is_websocket: false, partial, owed });
        }
        Ok(())
    }

    fn read(&mut self, index: usize) {
        let Some(connection) = &mut self.connections[index] else { return };
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut partial = std::mem::take(&mut connection.partial);
        let read = match net::recv(&connection.socket, &mut buffer[..], net::RecvFlags::empty()) {
            Ok((read, _)) => read,
            Err(rustix::io::Errno::AGAIN) => {
                connection.partial = partial;
                self.buffer = buffer;
                return;
            }
            Err(_) => 0,
        };
        let consumed = if partial.is_empty() {
            self.receive(index, &mut buffer[..read])
        } else {
            partial.extend_from_slice(&buffer[..read]);
            self.receive(index, &mut partial)
        };
        self.flush(index);
        match &mut self.connections[index] {
            _ if read == 0 => self.close(index),
            Some(connection) if partial.is_empty() => {
                connection.partial.extend_from_slice(&buffer[consumed..read])
            }
            Some(connection) => connection.partial.extend_from_slice(&partial[consumed..]),
            None => {}
        }
        self.buffer = buffer;
    }

    /// Takes whole frames or requests, and says how many bytes they were.
    fn receive(&mut self, index: usize, input: &mut [u8]) -> usize {
        let mut at = 0;
        while let Some(connection) = &self.connections[index] {
            let rest = &mut input[at..];
            if let (true, Some(session)) = (connection.is_websocket, connection.session) {
                let Some((opcode, payload)) = websocket::decode(rest) else { break };
                at += payload.end;
                self.handle_frame(index, session, opcode, &rest[payload]);
            } else {
                let Some((request, len)) = http::decode(rest) else { break };
                at += len;
                self.handle_request(index, &request);
            }
        }
        at
    }

    fn handle_request(&mut self, index: usize, request: &http::Request<'_>) {
        let known = request.session.filter(|&session| session < self.sessions.len());
        if request.session.is_some() && known.is_none() {
            return http::respond("400 Bad Request", b"", &mut self.reply);
        }
        let session = known.unwrap_or_else(|| {
            self.sessions.push(Session::default());
            self.sessions.len() - 1
        });
        let Some(connection) = &mut self.connections[index] else { return };
        connection.session = Some(session);
        if let Some(key) = request.key {
            connection.is_websocket = true;
            http::accept(key, &mut self.reply);
            if known.is_none() {
                self.sessions[session].websocket = Some(index);
                websocket::encode(websocket::TEXT, &[open(session).as_bytes()], &mut self.reply);
            }
        } else if known.is_none() {
            http::respond("200 OK", open(session).as_bytes(), &mut self.reply);
        } else if request.is_post {
            for packet in request.body.split(|&byte| byte == 0x1e) {
                self.handle_packet(session, packet);
            }
            http::respond("200 OK", b"ok", &mut self.reply);
            self.flush(index);
            self.answer_poll(session);
        } else {
            self.sessions[session].poll = Some(index);
            self.flush(index);
            self.answer_poll(session);
        }
    }

    fn handle_frame(&mut self, index: usize, session: usize, opcode: u8, payload: &[u8]) {
        match (opcode, payload) {
            (websocket::TEXT, b"2probe") => {
                websocket::encode(websocket::TEXT, &[b"3probe"], &mut self.reply);
                self.flush(index);
                self.sessions[session].queue.extend_from_slice(b"6");
                self.answer_poll(session);
            }
            (websocket::TEXT, b"5") => {
                let queue = std::mem::take(&mut self.sessions[session].queue);
                self.sessions[session].websocket = Some(index);
                for packet in
                    queue.split(|&byte| byte == 0x1e).filter(|packet| !packet.is_empty() && *packet != b"6")
                {
                    websocket::encode(websocket::TEXT, &[packet], &mut self.reply);
                }
            }
            (websocket::TEXT, packet) => self.handle_packet(session, packet),
            (websocket::BINARY, payload) => {
                let id = &self.sessions[session].attachment_id;
                websocket::encode(websocket::TEXT, &[b"461-", id, ATTACHMENT], &mut self.reply);
                websocket::encode(websocket::BINARY, &[payload], &mut self.reply);
            }
            (websocket::PING, payload) => websocket::encode(websocket::PONG, &[payload], &mut self.reply),
            (websocket::CLOSE, _) => self.close(index),
            _ => {}
        }
    }

    fn handle_packet(&mut self, session: usize, packet: &[u8]) {
        match Packet::decode(packet) {
            Packet::Ping(rest) => self.answer(session, &[b"3", rest]),
            Packet::Connect => {
                self.sessions[session].place = Some(self.everyone.len());
                self.everyone.push(session);
                let sid = format!(r#"40{{"sid":"sock{session:016}"}}"#);
                self.answer(session, &[sid.as_bytes()]);
            }
            Packet::Disconnect => self.leave(session),
            Packet::Echo { id, payload } => self.answer(session, &[b"43", id, b"[", payload]),
            Packet::Attach { id } => {
                let slot = &mut self.sessions[session].attachment_id;
                slot.clear();
                slot.extend_from_slice(id);
            }
            Packet::Broadcast { id, payload } => {
                let everyone = std::mem::take(&mut self.everyone);
                self.broadcast(&everyone, payload);
                self.everyone = everyone;
                self.acknowledge(session, id);
            }
            Packet::Join { id, room } => {
                self.join(session, room);
                self.acknowledge(session, id);
            }
            Packet::Room { id, room, payload } => {
                if let Some(&room) = self.room_names.get(room) {
                    let members = std::mem::take(&mut self.rooms[room]);
                    self.broadcast(&members, payload);
                    self.rooms[room] = members;
                }
                self.acknowledge(session, id);
            }
            Packet::Other => {}
        }
    }

    fn acknowledge(&mut self, session: usize, id: &[u8]) {
        if !id.is_empty() {
            self.answer(session, &[b"43", id, b"[true]"]);
        }
    }

    /// Answers the session that is being read.
    fn answer(&mut self, session: usize, parts: &[&[u8]]) {
        let session = &mut self.sessions[session];
        if session.websocket.is_some() {
            return websocket::encode(websocket::TEXT, parts, &mut self.reply);
        }
        push(&mut session.queue, parts);
    }

    /// One send per connection, now.
    fn broadcast(&mut self, members: &[usize], payload: &[u8]) {
        let parts: [&[u8]; 2] = [br#"42["msg","#, payload];
        let mut frame = std::mem::take(&mut self.frame);
        frame.clear();
        websocket::encode(websocket::TEXT, &parts, &mut frame);
        for &member in members {
            match self.sessions[member].websocket {
                Some(index) => self.broadcast_to(index, &frame),
                None => {
                    push(&mut self.sessions[member].queue, &parts);
                    self.answer_poll(member);
                }
            }
        }
        self.frame = frame;
    }

    fn broadcast_to(&mut self, index: usize, frame: &[u8]) {
        if self.connections[index].as_ref().is_some_and(|connection| connection.owed.is_empty()) {
            self.send(index, frame);
        }
    }

    fn join(&mut self, session: usize, name: &[u8]) {
        let next = self.rooms.len();
        let room = *self.room_names.entry(name.to_vec()).or_insert(next);
        if room == next {
            self.rooms.push(Vec::new());
        }
        self.rooms[room].push(session);
        self.sessions[session].rooms.push(room);
    }

    fn leave(&mut self, session: usize) {
        if let Some(place) = self.sessions[session].place.take() {
            self.everyone.swap_remove(place);
            if let Some(&moved) = self.everyone.get(place) {
                self.sessions[moved].place = Some(place);
            }
        }
        for room in std::mem::take(&mut self.sessions[session].rooms) {
            self.rooms[room].retain(|&member| member != session);
        }
    }

    fn answer_poll(&mut self, session: usize) {
        let waiting = &mut self.sessions[session];
        if waiting.queue.is_empty() {
            return;
        }
        let Some(index) = waiting.poll.take() else { return };
        let mut response = Vec::with_capacity(128 + waiting.queue.len());
        http::respond("200 OK", &waiting.queue, &mut response);
        waiting.queue.clear();
        self.send(index, &response);
    }

    fn flush(&mut self, index: usize) {
        if self.reply.is_empty() {
            return;
        }
        let mut reply = std::mem::take(&mut self.reply);
        self.send(index, &reply);
        reply.clear();
        self.reply = reply;
    }

    fn send(&mut self, index: usize, bytes: &[u8]) {
        let Some(connection) = &mut self.connections[index] else { return };
        let was_owed = !connection.owed.is_empty();
        if was_owed {
            connection.owed.extend_from_slice(bytes);
        }
        let bytes = if was_owed { &connection.owed[..] } else { bytes };
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let sent = match net::send(&connection.socket, bytes, flags) {
            Ok(sent) => sent,
            Err(rustix::io::Errno::AGAIN) => 0,
            // The socket is readable now, and its end is read there: nothing may close in the midst of a broadcast.
            Err(_) => return,
        };
        if was_owed {
            connection.owed.drain(..sent);
        } else if sent < bytes.len() {
            connection.owed = bytes[sent..].to_vec();
        }
        let is_owed = !connection.owed.is_empty();
        if is_owed != was_owed {
            let flags = if is_owed { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
            epoll::modify(&self.epoll, &connection.socket, EventData::new_u64(index as u64), flags)
                .expect("an open connection is registered");
        }
    }

    fn close(&mut self, index: usize) {
        let Some(connection) = self.connections[index].take() else { return };
        let Some(session) = connection.session else { return };
        if self.sessions[session].poll == Some(index) {
            self.sessions[session].poll = None;
        }
        if self.sessions[session].websocket == Some(index) {
            self.leave(session);
        }
    }
}

fn push(queue: &mut Vec<u8>, parts: &[&[u8]]) {
    if !queue.is_empty() {
        queue.push(0x1e);
    }
    for part in parts {
        queue.extend_from_slice(part);
    }
}

fn open(session: usize) -> String {
    format!(r#"0{{"sid":"limit{session:015}",{OPEN}"#)
}
