//! Packets of socket.io-msgpack-parser: a map with `type`, `nsp`, `data` and `id`, in one binary message.
//!
//! They are translated to and from the text packets that `packet.rs` knows: what is compared is the same, and only this file knows the
//! other form. It costs the generator more than JSON; nothing is said of the server's cost by that. Bytes within `data` are attachments of
//! the text packet.

use serde_json::{Map, Value};

/// How deep values may be within each other.
const DEPTH_MAX: u32 = 64;

/// A packet as text, and its attachments.
pub(super) struct Translated {
    /// As the stock parser writes it, with Engine.IO's `4`.
    pub(super) text: Vec<u8>,
    /// In the order of their placeholders.
    pub(super) attachments: Vec<Vec<u8>>,
}

/// Appends what a text packet is in msgpack; `attachment` takes the place of its placeholder. False if the text is no packet.
pub(super) fn encode(out: &mut Vec<u8>, text: &[u8], attachment: Option<&[u8]>) -> bool {
    let Some([b'4', kind, rest @ ..]) = text.get(..) else { return false };
    let rest = rest.strip_prefix(b"1-").unwrap_or(rest);
    let (namespace, rest) = match rest.first() {
        Some(b'/') => rest.split_at(rest.iter().position(|&byte| byte == b',').unwrap_or(rest.len())),
        _ => (&b"/"[..], rest),
    };
    let rest = rest.strip_prefix(b",").unwrap_or(rest);
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (id, data) = rest.split_at(digits);
    let id: Option<u64> = std::str::from_utf8(id).ok().and_then(|id| id.parse().ok());
    let data: Option<Value> = if data.is_empty() { None } else { serde_json::from_slice(data).ok() };
    // The parser leaves an event with bytes an event.
    let kind = match kind {
        b'5' => 2,
        b'6' => 3,
        digit => digit - b'0',
    };
    out.push(0x80 | (2 + u8::from(data.is_some()) + u8::from(id.is_some())));
    push_text(out, "type");
    out.push(kind);
    push_text(out, "nsp");
    push_text(out, &String::from_utf8_lossy(namespace));
    if let Some(data) = &data {
        push_text(out, "data");
        push_value(out, data, attachment);
    }
    if let Some(id) = id {
        push_text(out, "id");
        push_number(out, id);
    }
    true
}

/// Reads one packet.
pub(super) fn decode(bytes: &[u8]) -> Option<Translated> {
    let mut reader = Reader { rest: bytes, attachments: Vec::new() };
    let Value::Object(mut packet) = reader.value(DEPTH_MAX)? else { return None };
    let kind = packet.get("type")?.as_u64().filter(|&kind| kind <= 6)?;
    let namespace = packet.get("nsp")?.as_str()?.to_owned();
    let attachments = reader.attachments;
    let mut text = match (kind, attachments.len()) {
        (2 | 3, count) if count > 0 => format!("4{}{count}-", kind + 3),
        _ => format!("4{kind}"),
    };
    if namespace != "/" {
        text.push_str(&namespace);
        text.push(',');
    }
    if let Some(id) = packet.get("id").and_then(Value::as_u64) {
        text.push_str(&id.to_string());
    }
    match packet.remove("data") {
        None | Some(Value::Null) => {}
        Some(data) => text.push_str(&data.to_string()),
    }
    Some(Translated { text: text.into_bytes(), attachments })
}

fn push_value(out: &mut Vec<u8>, value: &Value, attachment: Option<&[u8]>) {
    match value {
        Value::Null => out.push(0xC0),
        Value::Bool(is) => out.push(0xC2 + u8::from(*is)),
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => push_number(out, number),
            (None, Some(number)) => {
                out.push(0xD3);
                out.extend_from_slice(&number.to_be_bytes());
            }
            _ => {
                out.push(0xCB);
                out.extend_from_slice(&number.as_f64().unwrap_or_default().to_be_bytes());
            }
        },
        Value::String(text) => push_text(out, text),
        Value::Array(values) => {
            push_len(out, values.len(), [0x90, 0xDC, 0xDD]);
            values.iter().for_each(|value| push_value(out, value, attachment));
        }
        Value::Object(fields) => match attachment.filter(|_| fields.contains_key("_placeholder")) {
            Some(bytes) => {
                out.push(0xC6);
                out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
                out.extend_from_slice(bytes);
            }
            None => {
                push_len(out, fields.len(), [0x80, 0xDE, 0xDF]);
                for (name, value) in fields {
                    push_text(out, name);
                    push_value(out, value, attachment);
                }
            }
        },
    }
}

/// Up to 15, up to 65,535, more.
fn push_len(out: &mut Vec<u8>, len: usize, [short, medium, long]: [u8; 3]) {
    match len {
        0..=15 => out.push(short | len as u8),
        16..=0xFFFF => {
            out.push(medium);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            out.push(long);
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
    }
}

fn push_number(out: &mut Vec<u8>, number: u64) {
    match number {
        0..=0x7F => out.push(number as u8),
        0x80..=0xFFFF_FFFF => {
            out.push(0xCE);
            out.extend_from_slice(&(number as u32).to_be_bytes());
        }
        _ => {
            out.push(0xCF);
            out.extend_from_slice(&number.to_be_bytes());
        }
    }
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    match text.len() {
        len @ 0..=31 => out.push(0xA0 | len as u8),
        len => {
            out.push(0xDB);
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
    }
    out.extend_from_slice(text.as_bytes());
}

struct Reader<'a> {
    rest: &'a [u8],
    attachments: Vec<Vec<u8>>,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: u32) -> Option<Value> {
        let depth = depth.checked_sub(1)?;
        let tag = self.number(1)? as u8;
        Some(match tag {
            0x00..=0x7F => Value::from(tag),
            0x80..=0x8F => self.map(usize::from(tag & 0x0F), depth)?,
            0x90..=0x9F => self.array(usize::from(tag & 0x0F), depth)?,
            0xA0..=0xBF => self.text(usize::from(tag & 0x1F))?,
            0xC0 => Value::Null,
            0xC2 | 0xC3 => Value::Bool(tag == 0xC3),
            0xC4..=0xC6 => {
                let len = self.number(1 << (tag - 0xC4))? as usize;
                let bytes = self.take(len)?.to_vec();
                let number = self.attachments.len();
                self.attachments.push(bytes);
                serde_json::json!({ "_placeholder": true, "num": number })
            }
            0xCA => Value::from(f64::from(f32::from_bits(self.number(4)? as u32))),
            0xCB => Value::from(f64::from_bits(self.number(8)?)),
            0xCC..=0xCF => Value::from(self.number(1 << (tag - 0xCC))?),
            0xD0 => Value::from(self.number(1)? as u8 as i8),
            0xD1 => Value::from(self.number(2)? as u16 as i16),
            0xD2 => Value::from(self.number(4)? as u32 as i32),
            0xD3 => Value::from(self.number(8)? as i64),
            0xD9..=0xDB => {
                let len = self.number(1 << (tag - 0xD9))? as usize;
                self.text(len)?
            }
            0xDC | 0xDD => {
                let len = self.number(2 << (tag - 0xDC))? as usize;
                self.array(len, depth)?
            }
            0xDE | 0xDF => {
                let len = self.number(2 << (tag - 0xDE))? as usize;
                self.map(len, depth)?
            }
            0xE0..=0xFF => Value::from(tag as i8),
            // Extensions, of which a server here sends none.
            _ => return None,
        })
    }

    fn array(&mut self, len: usize, depth: u32) -> Option<Value> {
        // Every value takes a byte, so a length beyond the rest cannot reserve memory: collecting stops before.
        (0..len).map(|_| self.value(depth)).collect::<Option<Vec<Value>>>().map(Value::Array)
    }

    fn map(&mut self, len: usize, depth: u32) -> Option<Value> {
        let mut fields = Map::new();
        for _ in 0..len {
            let Value::String(name) = self.value(depth)? else { return None };
            fields.insert(name, self.value(depth)?);
        }
        Some(Value::Object(fields))
    }

    fn text(&mut self, len: usize) -> Option<Value> {
        String::from_utf8(self.take(len)?.to_vec()).ok().map(Value::String)
    }

    fn number(&mut self, len: usize) -> Option<u64> {
        Some(self.take(len)?.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_what_the_stock_parser_writes() {
        // notepack.io 3.0.1: encode({ type: 0, nsp: "/" }), encode({ type: 2, nsp: "/", data: ["echo", "a"], id: 7 }).
        let rows: [(&str, &[u8]); 2] = [
            ("40", b"\x82\xa4type\x00\xa3nsp\xa1/"),
            ("427[\"echo\",\"a\"]", b"\x84\xa4type\x02\xa3nsp\xa1/\xa4data\x92\xa4echo\xa1a\xa2id\x07"),
        ];
        for (text, expected) in rows {
            let mut out = Vec::new();
            assert!(encode(&mut out, text.as_bytes(), None));
            assert_eq!(out, expected, "{text}");
            assert_eq!(decode(expected).unwrap().text, text.as_bytes());
        }
    }

    #[test]
    fn packets_come_back_as_they_were_and_no_part_is_one() {
        let long = format!(
            "42/a,12345678901[\"x\",\"{}\",{{\"a\":[-5,1.5,null,true,{}]}}]",
            "y".repeat(70_000),
            u64::MAX
        );
        let rows: [(&str, Option<&[u8]>); 6] = [
            ("40/a,{\"token\":\"t\"}", None),
            ("41", None),
            ("43/a,7[]", None),
            (&long, None),
            ("451-3[\"bin\",{\"_placeholder\":true,\"num\":0}]", Some(b"\x00\xff")),
            ("461-3[{\"_placeholder\":true,\"num\":0}]", Some(b"")),
        ];
        for (text, attachment) in rows {
            let mut out = Vec::new();
            assert!(encode(&mut out, text.as_bytes(), attachment));
            let back = decode(&out).unwrap();
            assert_eq!(String::from_utf8_lossy(&back.text), text);
            assert_eq!(back.attachments, attachment.iter().map(|bytes| bytes.to_vec()).collect::<Vec<_>>());
            for cut in (0..out.len()).take(200) {
                assert!(decode(&out[..cut]).is_none(), "cut at {cut} of {text:.60}");
            }
        }
    }

    #[test]
    fn what_is_no_packet_is_none_and_costs_no_memory() {
        let deep = [&[0x91; 5_000][..], &[0xC0]].concat();
        let rows: [&[u8]; 6] = [
            b"",
            b"\xdd\xff\xff\xff\xff",
            b"\xc6\xff\xff\xff\xff",
            b"\x81\xa4type\x02",
            b"\x82\xa4type\x09\xa3nsp\xa1/",
            &deep,
        ];
        for row in rows {
            assert!(decode(row).is_none(), "{:?}", row.get(..8));
        }
        assert!(!encode(&mut Vec::new(), b"2", None));
    }
}
