//! What is said on a WebSocket: the upgrade's probe, and nothing at all for a while.

use std::time::{Duration, Instant};

use super::request::{Request, WEBSOCKET_ACCEPT};
use super::seen::{Idle, Talk};
use crate::bench::websocket::{Mask, Opcode, close_code, decode_frame, encode_frame};
use crate::client::{Answer, Exchange, Failure, Way, Wire, now};

/// Asks for a WebSocket, says `first` on it unless that is empty, and hears the first text.
pub(super) fn talk(way: &Way, request: &Request, end: Instant, first: &str) -> Talk {
    let mut wire = match way.open(end) {
        Ok(wire) => wire,
        Err(failure) => return Talk { head: Err(failure.clone()), heard: Err(failure) },
    };
    let head = open(&mut wire, request, end);
    let heard = match &head {
        Ok(answer) if answer.status == 101 => first_text(&mut wire, first, end),
        Ok(_) => Err(Failure::Closed),
        Err(failure) => Err(failure.clone()),
    };
    if heard.as_deref() == Ok("3probe") {
        let _ = say(&mut wire, Opcode::Text, b"5", end);
    }
    let _ = say(&mut wire, Opcode::Close, &1000u16.to_be_bytes(), end);
    Talk { head, heard }
}

/// Opens a session by WebSocket, joins the namespace, and says nothing but pongs for a while.
pub(super) fn listen(
    way: &Way,
    request: &Request,
    end: Instant,
    watched: Duration,
    namespace: &str,
) -> Result<Idle, Failure> {
    let mut wire = way.open(end)?;
    let answer = open(&mut wire, request, end)?;
    if answer.status != 101 {
        return Ok(Idle { end: Some(format!("it was answered {}", answer.status)), ..Idle::default() });
    }
    let namespace = if namespace == "/" { String::new() } else { format!("{namespace},") };
    say(&mut wire, Opcode::Text, format!("40{namespace}").as_bytes(), end)?;
    let began = now();
    let mut idle = Idle::default();
    while idle.end.is_none() && idle.pings == 0 {
        match hear(&mut wire, began + watched) {
            Ok((Opcode::Text, text)) if text == b"2" => {
                idle.pings += 1;
                say(&mut wire, Opcode::Text, b"3", now() + watched)?;
            }
            Ok((Opcode::Close, payload)) => {
                let code = close_code(&payload).map_or_else(String::new, |code| format!(" with code {code}"));
                idle.end = Some(format!("it was closed{code}"));
            }
            Ok((Opcode::Ping, payload)) => say(&mut wire, Opcode::Pong, &payload, now() + watched)?,
            Ok(_) => {}
            Err(Failure::Timeout) => break,
            Err(failure) => idle.end = Some(failure.to_string()),
        }
    }
    idle.waited = began.elapsed();
    let _ = say(&mut wire, Opcode::Close, &1000u16.to_be_bytes(), now() + watched);
    Ok(idle)
}

fn open(wire: &mut Wire, request: &Request, end: Instant) -> Exchange {
    let answer: Answer = wire.exchange(&request.encode(), end)?;
    if answer.status == 101 && answer.header("sec-websocket-accept") != Some(WEBSOCKET_ACCEPT) {
        return Err(Failure::Frame(
            "the answer to the key is wrong: it comes from a cache, or from no WebSocket server".into(),
        ));
    }
    Ok(answer)
}

fn first_text(wire: &mut Wire, first: &str, end: Instant) -> Result<String, Failure> {
    if !first.is_empty() {
        say(wire, Opcode::Text, first.as_bytes(), end)?;
    }
    loop {
        match hear(wire, end)? {
            (Opcode::Text, text) => return Ok(String::from_utf8_lossy(&text).into_owned()),
            (Opcode::Close, _) => return Err(Failure::Closed),
            _ => {}
        }
    }
}

fn say(wire: &mut Wire, opcode: Opcode, payload: &[u8], end: Instant) -> Result<(), Failure> {
    let mut frame = Vec::new();
    encode_frame(&mut frame, opcode, payload, &mut Mask::Zero);
    wire.send(&frame, end)
}

/// The next frame. Servers send what is heard here in one frame each.
fn hear(wire: &mut Wire, end: Instant) -> Result<(Opcode, Vec<u8>), Failure> {
    loop {
        let found = match decode_frame(&wire.heard) {
            Ok(found) => found.map(|(frame, len)| (frame.opcode, frame.payload.to_vec(), len)),
            Err(fault) => return Err(Failure::Frame(fault.to_string())),
        };
        if let Some((opcode, payload, len)) = found {
            wire.heard.drain(..len);
            return Ok((opcode, payload));
        }
        if !wire.hear(end)? {
            return Err(Failure::Closed);
        }
    }
}
