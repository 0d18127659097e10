//! Content codings: which one a client takes, and what is worth it (RFC 9110 §8.4, §12.5.3).
//!
//! `gzip` and `deflate`, whole bodies only. Does not decide how large a body must be.

use flate2::{Compress, Compression, FlushCompress, Status};

/// The width of a compressor's window, in bits: the widest there is.
const WINDOW_BITS: u8 = 15;

/// A body that does not shrink by so much is sent as it is: a header says more than is saved.
const SAVED_BYTES_MIN: usize = 64;

/// How a body is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Coding {
    #[default]
    Identity,
    Gzip,
    /// In the zlib format, as the standard says.
    Deflate,
}

impl Coding {
    /// The one to use for these values of `Accept-Encoding`: the client's weights decide, then the better.
    ///
    /// Unlike Flask-SocketIO's server, a weight of 0 is honoured. What is no weight counts as 0.
    pub(crate) fn choose<'a>(fields: impl Iterator<Item = &'a str>) -> Coding {
        let (mut gzip, mut deflate, mut identity, mut any) = (None, None, None, None);
        for item in fields.flat_map(|field| field.split(',')) {
            let (name, params) = item.split_once(';').unwrap_or((item, ""));
            let name = name.trim_ascii();
            let place = if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") {
                &mut gzip
            } else if name.eq_ignore_ascii_case("deflate") {
                &mut deflate
            } else if name.eq_ignore_ascii_case("identity") {
                &mut identity
            } else if name == "*" {
                &mut any
            } else {
                continue;
            };
            *place = Some(weight(params));
        }
        let (gzip, deflate) = (gzip.or(any).unwrap_or(0), deflate.or(any).unwrap_or(0));
        if gzip.max(deflate) == 0 || identity.unwrap_or(0) > gzip.max(deflate) {
            Coding::Identity
        } else if gzip >= deflate {
            Coding::Gzip
        } else {
            Coding::Deflate
        }
    }

    /// The value of `Content-Encoding`.
    pub(crate) fn name(self) -> Option<&'static str> {
        match self {
            Coding::Identity => None,
            Coding::Gzip => Some("gzip"),
            Coding::Deflate => Some("deflate"),
        }
    }
}

/// `;q=0.5` in thousandths; 1000 where none is given (RFC 9110 §12.4.2).
fn weight(params: &str) -> u16 {
    let mut weight = 1000;
    for param in params.split(';').map(str::trim_ascii) {
        if let Some((name, value)) = param.split_once('=')
            && name.trim_ascii().eq_ignore_ascii_case("q")
        {
            let value: Option<f32> = value.trim_ascii().parse().ok().filter(|q| (0.0..=1.0).contains(q));
            weight = value.map_or(0, |q| (q * 1000.0).round() as u16);
        }
    }
    weight
}

/// Whether content of this type usually shrinks: text, and what is written as text.
pub(crate) fn is_text_like(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
    kind.starts_with("text/")
        || kind.ends_with("+json")
        || kind.ends_with("+xml")
        || matches!(kind.as_str(), "application/json" | "application/javascript" | "application/xml")
}

/// Compressors for bodies, each made when it is first needed and used for those that follow.
// Invariant: what is kept has ended its last body. After an abandoned one a reset is not enough: the backend's fastest level
// goes on with the block that it had begun, into the next client's body.
#[derive(Debug, Default)]
pub(crate) struct BodyEncoder {
    gzip: Option<Compress>,
    deflate: Option<Compress>,
}

impl BodyEncoder {
    /// The body in another coding; `None` if that is not worth it.
    pub(crate) fn encode(&mut self, coding: Coding, body: &[u8]) -> Option<Vec<u8>> {
        let (kept, fresh): (_, fn() -> Compress) = match coding {
            Coding::Identity => return None,
            Coding::Gzip => (&mut self.gzip, || Compress::new_gzip(Compression::fast(), WINDOW_BITS)),
            Coding::Deflate => (&mut self.deflate, || Compress::new(Compression::fast(), true)),
        };
        let mut compress = kept.take().unwrap_or_else(fresh);
        // What does not fit is not worth it.
        let mut out = Vec::with_capacity(body.len().checked_sub(SAVED_BYTES_MIN)?);
        let status = compress.compress_vec(body, &mut out, FlushCompress::Finish);
        if !matches!(status, Ok(Status::StreamEnd)) {
            return None;
        }
        compress.reset();
        *kept = Some(compress);
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::{GzDecoder, ZlibDecoder};
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::mixed::{Mixed, mixed};

    #[test]
    fn s12_5_3_the_clients_weights_decide() {
        let rows = [
            (&["gzip, deflate, br"][..], Coding::Gzip),
            (&["deflate, gzip"], Coding::Gzip),
            (&["deflate"], Coding::Deflate),
            (&["br", "x-gzip"], Coding::Gzip),
            (&["GZIP ; Q=0.2 , deflate;q=0.8"], Coding::Deflate),
            (&["gzip;q=0"], Coding::Identity),
            (&["gzip;q=0, deflate;q=0.001"], Coding::Deflate),
            (&["*"], Coding::Gzip),
            (&["*;q=0"], Coding::Identity),
            (&["gzip;q=0, *"], Coding::Deflate),
            (&["identity, gzip;q=0.5"], Coding::Identity),
            (&["identity;q=0, gzip;q=0.5"], Coding::Gzip),
            (&["gzip;q=nonsense"], Coding::Identity),
            (&["gzip;q=2"], Coding::Identity),
            (&["gzip;q=nan"], Coding::Identity),
            (&["br"], Coding::Identity),
            (&[""], Coding::Identity),
            (&[], Coding::Identity),
        ];
        for (fields, expected) in rows {
            assert_eq!(Coding::choose(fields.iter().copied()), expected, "{fields:?}");
        }
    }

    #[test]
    fn s8_4_1_what_is_encoded_decodes_and_the_next_body_starts_from_nothing() {
        let mut encoder = BodyEncoder::default();
        for body in ["a".repeat(5000), "{\"a\":1}".repeat(400), "b".repeat(70_000)] {
            let gzip = encoder.encode(Coding::Gzip, body.as_bytes()).unwrap();
            let mut text = String::new();
            GzDecoder::new(&gzip[..]).read_to_string(&mut text).unwrap();
            assert!(text == body && gzip.len() < body.len());
            let deflate = encoder.encode(Coding::Deflate, body.as_bytes()).unwrap();
            let mut text = String::new();
            ZlibDecoder::new(&deflate[..]).read_to_string(&mut text).unwrap();
            assert!(text == body && deflate.len() < body.len());
        }
    }

    #[test]
    fn what_does_not_shrink_is_not_encoded() {
        let mut state = 1_u32;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .take(3000)
        .collect();
        let mut encoder = BodyEncoder::default();
        for body in [&noise[..], b"", &[b'a'; 63], &[b'a'; 70]] {
            assert_eq!(encoder.encode(Coding::Gzip, body), None, "{} bytes", body.len());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn any_sequence_of_bodies_decodes_one_by_one(
            bodies in prop::collection::vec((mixed(), any::<bool>()), 1..8)
        ) {
            let mut encoder = BodyEncoder::default();
            // The last one shrinks, so that something is decoded after whatever came before.
            let last = [true, false].map(|is_gzip| (Mixed { len: 5_000, noise: 0, seed: 1 }, is_gzip));
            for (body, is_gzip) in bodies.iter().chain(&last) {
                let body = body.bytes();
                let coding = if *is_gzip { Coding::Gzip } else { Coding::Deflate };
                let Some(encoded) = encoder.encode(coding, &body) else { continue };
                let mut decoded = Vec::new();
                let read = match is_gzip {
                    true => GzDecoder::new(&encoded[..]).read_to_end(&mut decoded),
                    false => ZlibDecoder::new(&encoded[..]).read_to_end(&mut decoded),
                };
                prop_assert!(read.is_ok() && decoded == body, "{} bytes", body.len());
            }
        }
    }

    #[test]
    fn text_is_told_from_what_is_compressed_already() {
        for kind in
            ["text/plain; charset=UTF-8", "text/html", "application/json", "image/svg+xml", "TEXT/CSS"]
        {
            assert!(is_text_like(kind), "{kind}");
        }
        for kind in ["image/png", "application/octet-stream", "video/mp4", "font/woff2", ""] {
            assert!(!is_text_like(kind), "{kind}");
        }
    }
}
