//! The PROXY protocol, versions 1 and 2: what a proxy says of its client before the client's first byte.
//!
//! HAProxy's specification "The PROXY protocol", sections 2.1 and 2.2. Does not know whom to believe.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// How every header of version 2 begins.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, command, family and length of version 2.
const FIXED_BYTES: usize = 16;

/// The longest line of version 1, with its line end.
const LINE_BYTES_MAX: usize = 107;

/// Addresses and extensions of version 2. A certificate's names are some hundred bytes.
const REST_BYTES_MAX: usize = 4096;

/// What the beginning of a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProxyHeader {
    /// There must be more.
    Incomplete,
    /// A header of so many bytes. No source: the proxy speaks for itself, or of a client without an IP address.
    Whole { len: usize, source: Option<SocketAddr> },
    /// No header.
    Invalid,
}

/// Reads the header at the beginning of a connection.
pub(crate) fn decode(input: &[u8]) -> ProxyHeader {
    let begins = |with: &[u8]| {
        let len = input.len().min(with.len());
        input[..len] == with[..len]
    };
    if begins(SIGNATURE) {
        decode_binary(input)
    } else if begins(b"PROXY ") {
        decode_line(input)
    } else {
        ProxyHeader::Invalid
    }
}

fn decode_line(input: &[u8]) -> ProxyHeader {
    let seen = &input[..input.len().min(LINE_BYTES_MAX)];
    let Some(end) = memchr::memmem::find(seen, b"\r\n") else {
        return if seen.len() < LINE_BYTES_MAX { ProxyHeader::Incomplete } else { ProxyHeader::Invalid };
    };
    let len = end + 2;
    let Ok(line) = std::str::from_utf8(&input[..end]) else { return ProxyHeader::Invalid };
    let words: Vec<&str> = line.split(' ').collect();
    match words.as_slice() {
        ["PROXY", "UNKNOWN", ..] => ProxyHeader::Whole { len, source: None },
        ["PROXY", family @ ("TCP4" | "TCP6"), from, to, from_port, to_port] => {
            let address =
                |text: &str| text.parse().ok().filter(|ip: &IpAddr| ip.is_ipv4() == (*family == "TCP4"));
            let (source, is_sound) = (address(from), address(to).is_some() && port(to_port).is_some());
            match (source, port(from_port)) {
                (Some(ip), Some(port)) if is_sound => {
                    ProxyHeader::Whole { len, source: Some(SocketAddr::new(ip, port)) }
                }
                _ => ProxyHeader::Invalid,
            }
        }
        _ => ProxyHeader::Invalid,
    }
}

/// Digits without a leading zero.
fn port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain)
}

fn decode_binary(input: &[u8]) -> ProxyHeader {
    let Some(fixed) = input.first_chunk::<FIXED_BYTES>() else { return ProxyHeader::Incomplete };
    let (command, family) = (fixed[12], fixed[13]);
    let rest_len = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if !matches!(command, 0x20 | 0x21) || rest_len > REST_BYTES_MAX {
        return ProxyHeader::Invalid;
    }
    let len = FIXED_BYTES + rest_len;
    let Some(rest) = input.get(FIXED_BYTES..len) else { return ProxyHeader::Incomplete };
    let source = match (command, family) {
        // LOCAL: a health check.
        (0x20, _) => Some(None),
        (_, 0x11) => rest.first_chunk::<12>().map(|rest| {
            let ip = Ipv4Addr::new(rest[0], rest[1], rest[2], rest[3]);
            Some(SocketAddr::new(ip.into(), u16::from_be_bytes([rest[8], rest[9]])))
        }),
        (_, 0x21) => rest.first_chunk::<36>().map(|rest| {
            let mut bytes = [0; 16];
            bytes.copy_from_slice(&rest[..16]);
            Some(SocketAddr::new(Ipv6Addr::from(bytes).into(), u16::from_be_bytes([rest[32], rest[33]])))
        }),
        // Datagrams, Unix sockets, and what is not said: nothing that has an address here.
        (_, 0x00 | 0x12 | 0x22 | 0x31 | 0x32) => Some(None),
        _ => None,
    };
    match source {
        Some(source) => ProxyHeader::Whole { len, source },
        None => ProxyHeader::Invalid,
    }
}

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz {
    use super::*;

    /// Whatever it is: a header lies within its bounds, and is not one that could still become another.
    pub(crate) fn header(input: &[u8]) {
        let whole = decode(input);
        for cut in 0..input.len().min(FIXED_BYTES + REST_BYTES_MAX) {
            match (decode(&input[..cut]), whole) {
                (ProxyHeader::Incomplete, _) => {}
                (ProxyHeader::Invalid, ProxyHeader::Invalid) => return,
                (early, whole) => {
                    assert_eq!(early, whole, "cut at {cut}");
                    let ProxyHeader::Whole { len, .. } = early else { panic!("{early:?}") };
                    assert_eq!(len, cut);
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(len: usize, source: &str) -> ProxyHeader {
        let source = (!source.is_empty()).then(|| source.parse().expect("an address"));
        ProxyHeader::Whole { len, source }
    }

    #[test]
    fn lines() {
        let rows = [
            ("PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n", whole(45, "192.0.2.1:56324")),
            ("PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n", whole(44, "[2001:db8::1]:1")),
            ("PROXY UNKNOWN\r\n", whole(15, "")),
            ("PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", whole(35, "")),
            ("PROXY TCP4 2001:db8::1 198.51.100.1 1 2\r\n", ProxyHeader::Invalid),
            ("PROXY TCP4 192.0.2.1 198.51.100.1 56324\r\n", ProxyHeader::Invalid),
            ("PROXY TCP4 192.0.2.1 198.51.100.1 056 443\r\n", ProxyHeader::Invalid),
            ("PROXY TCP4 192.0.2.1 198.51.100.1 65536 443\r\n", ProxyHeader::Invalid),
            ("PROXY TCP4  192.0.2.1 198.51.100.1 1 2\r\n", ProxyHeader::Invalid),
            ("PROXY UDP4 192.0.2.1 198.51.100.1 1 2\r\n", ProxyHeader::Invalid),
            ("PROXY \r\n", ProxyHeader::Invalid),
            ("proxy TCP4 192.0.2.1 198.51.100.1 1 2\r\n", ProxyHeader::Invalid),
            ("GET / HTTP/1.1\r\n", ProxyHeader::Invalid),
            ("", ProxyHeader::Incomplete),
        ];
        for (line, expected) in rows {
            assert_eq!(decode(line.as_bytes()), expected, "{line:?}");
            fuzz::header(line.as_bytes());
            let more = format!("{line}GET / HTTP/1.1\r\n");
            if !line.is_empty() {
                assert_eq!(decode(more.as_bytes()), expected, "{more:?}");
            }
        }
        let endless = format!("PROXY UNKNOWN {}", "x".repeat(200));
        assert_eq!(decode(&endless.as_bytes()[..106]), ProxyHeader::Incomplete);
        assert_eq!(decode(endless.as_bytes()), ProxyHeader::Invalid);
    }

    fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let len = u16::try_from(rest.len()).expect("short").to_be_bytes();
        [SIGNATURE.as_slice(), &[command, family], &len, rest].concat()
    }

    #[test]
    fn binary_headers() {
        let ipv4 = [192, 0, 2, 1, 198, 51, 100, 1, 0x1f, 0x90, 1, 0xbb];
        let mut ipv6 = [0; 36];
        (ipv6[0], ipv6[1], ipv6[15], ipv6[33]) = (0x20, 0x01, 1, 80);
        let with_extension = [ipv4.as_slice(), &[0x03, 0, 4, 1, 2, 3, 4]].concat();
        let rows = [
            (binary(0x21, 0x11, &ipv4), whole(28, "192.0.2.1:8080")),
            (binary(0x21, 0x11, &with_extension), whole(35, "192.0.2.1:8080")),
            (binary(0x21, 0x21, &ipv6), whole(52, "[2001::1]:80")),
            (binary(0x20, 0x00, &[]), whole(16, "")),
            (binary(0x20, 0x11, &ipv4), whole(28, "")),
            (binary(0x21, 0x31, &[0; 216]), whole(232, "")),
            (binary(0x21, 0x00, &[]), whole(16, "")),
            (binary(0x21, 0x11, &ipv4[..11]), ProxyHeader::Invalid),
            (binary(0x21, 0x21, &ipv4), ProxyHeader::Invalid),
            (binary(0x22, 0x11, &ipv4), ProxyHeader::Invalid),
            (binary(0x11, 0x11, &ipv4), ProxyHeader::Invalid),
            (binary(0x21, 0x41, &ipv4), ProxyHeader::Invalid),
            (binary(0x21, 0x11, &[0; REST_BYTES_MAX + 1]), ProxyHeader::Invalid),
        ];
        for (bytes, expected) in rows {
            assert_eq!(decode(&bytes), expected, "{bytes:x?}");
            fuzz::header(&bytes);
        }
    }
}
