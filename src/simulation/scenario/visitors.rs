//! Visitors over HTTP beside the clients: they ask routes that wait, send bodies piece by piece, and read answers that are streams.
//!
//! Each answer must be what was asked for, in the order of the requests. A visitor may go in the middle of anything; then the shards
//! must keep nothing of its requests, which the end of the scenario sees.

use std::collections::VecDeque;

use crate::simulation::scenario::Scenario;
use crate::simulation::world::{WireId, World};

const VISITORS_MAX: usize = 4;

/// Requests that a visitor sends without having heard the answer to the first.
const PIPELINED_MAX: usize = 3;

/// Bytes of a piece of a body.
const PIECE_BYTES_MAX: usize = 4000;

/// Lines of an answer that is a stream: beyond what a connection is owed of one at a time.
const LINES_MAX: usize = 900;

/// Somebody who asks routes.
pub(super) struct Visitor {
    wire: WireId,
    /// What of the last request's body is still to be sent.
    unsent: VecDeque<Vec<u8>>,
    /// The bodies of the answers that are to come.
    expected: VecDeque<Vec<u8>>,
}

impl Scenario {
    /// One visitor comes, does something or goes.
    pub(super) fn visit(&mut self) {
        if self.visitors.len() < VISITORS_MAX && self.choice.chance(20) {
            let world = &mut self.simulation.world;
            let wire = world.dial(0);
            // No client reads it.
            world.wires[wire.0].owner = None;
            self.visitors.push(Visitor { wire, unsent: VecDeque::new(), expected: VecDeque::new() });
        }
        if self.visitors.is_empty() {
            return;
        }
        let index = self.choice.below(self.visitors.len());
        if self.choice.chance(6) {
            let wire = self.visitors.swap_remove(index).wire;
            let world = &mut self.simulation.world;
            return if self.choice.chance(50) { world.close(wire) } else { world.reset(wire) };
        }
        let visitor = &mut self.visitors[index];
        visitor.hear(&mut self.simulation.world);
        if let Some(piece) = visitor.unsent.pop_front() {
            self.simulation.world.write(visitor.wire, &piece);
        } else if visitor.expected.len() < PIPELINED_MAX {
            self.ask(index);
        }
    }

    fn ask(&mut self, index: usize) {
        let visitor = &mut self.visitors[index];
        let mut unsent = VecDeque::new();
        let (request, answer) = match self.choice.below(3) {
            0 => {
                let (millis, what) = (self.choice.below(300), self.choice.below(1000));
                (format!("GET /later?ms={millis}&what={what}"), what.to_string())
            }
            1 => {
                let count = self.choice.below(LINES_MAX);
                let lines: Vec<String> = (0..count).map(|number| format!("{number:0>99}\n")).collect();
                (format!("GET /lines?count={count}"), lines.concat())
            }
            _ => {
                let pieces: Vec<usize> =
                    (0..self.choice.below(5)).map(|_| 1 + self.choice.below(PIECE_BYTES_MAX)).collect();
                let chunk = |bytes: &usize| format!("{bytes:x}\r\n{}\r\n", "x".repeat(*bytes)).into_bytes();
                unsent.extend(pieces.iter().map(chunk));
                unsent.push_back(b"0\r\n\r\n".to_vec());
                ("POST /upload".to_owned(), pieces.iter().sum::<usize>().to_string())
            }
        };
        let coding = if unsent.is_empty() { "" } else { "Transfer-Encoding: chunked\r\n" };
        let head = format!("{request} HTTP/1.1\r\nHost: localhost\r\n{coding}\r\n");
        self.simulation.world.write(visitor.wire, head.as_bytes());
        visitor.unsent = unsent;
        visitor.expected.push_back(answer.into_bytes());
    }

    /// What was begun is sent to its end.
    pub(super) fn finish_visits(&mut self) {
        for visitor in &mut self.visitors {
            for piece in visitor.unsent.drain(..) {
                self.simulation.world.write(visitor.wire, &piece);
            }
        }
    }

    /// Everybody has been answered.
    pub(super) fn check_visits(&mut self) {
        for visitor in &mut self.visitors {
            visitor.hear(&mut self.simulation.world);
            let missing: Vec<_> = visitor.expected.iter().map(|body| String::from_utf8_lossy(body)).collect();
            assert!(missing.is_empty(), "a visitor waits for {missing:?}");
            let wire = &self.simulation.world.wires[visitor.wire.0];
            assert!(wire.arrived.is_empty() && !wire.is_over, "a visitor got more: {wire:?}");
        }
    }

    pub(super) fn end_visits(&mut self) {
        for visitor in self.visitors.drain(..) {
            self.simulation.world.close(visitor.wire);
        }
    }
}

impl Visitor {
    /// Takes the answers that have come.
    fn hear(&mut self, world: &mut World) {
        let arrived = &mut world.wires[self.wire.0].arrived;
        while let Some((body, len)) = answer(arrived) {
            arrived.drain(..len);
            let expected = self.expected.pop_front().expect("an answer was asked for");
            let (body, expected) = (String::from_utf8_lossy(&body), String::from_utf8_lossy(&expected));
            assert_eq!(body, expected, "a visitor got another answer");
        }
    }
}

/// The body of the first answer, and the bytes of it all. `None` while it is not whole.
fn answer(arrived: &[u8]) -> Option<(Vec<u8>, usize)> {
    let head_len = memchr::memmem::find(arrived, b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&arrived[..head_len]).to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 200 "), "a visitor was refused: {head}");
    if let Some(length) = head.split("content-length: ").nth(1) {
        let length: usize = length.split('\r').next()?.parse().expect("a length");
        let body = arrived.get(head_len..head_len + length)?;
        return Some((body.to_vec(), head_len + length));
    }
    assert!(head.contains("transfer-encoding: chunked"), "{head}");
    let (mut body, mut at) = (Vec::new(), head_len);
    loop {
        let rest = arrived.get(at..)?;
        let line_len = memchr::memmem::find(rest, b"\r\n")? + 2;
        let length = std::str::from_utf8(&rest[..line_len - 2]).expect("a length in hexadecimal digits");
        let length = usize::from_str_radix(length, 16).expect("a length in hexadecimal digits");
        body.extend_from_slice(rest.get(line_len..line_len + length)?);
        at += line_len + length + 2;
        arrived.get(..at)?;
        if length == 0 {
            return Some((body, at));
        }
    }
}
