//! What a peer can get wrong in HTTP, and the status that answers it.
//!
//! After any of these the rest of the connection cannot be trusted: answer, then close (RFC 9112 §9.6).

use super::status::Status;

/// How a request broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HttpError {
    /// The first byte cannot begin a request line.
    BadFirstByte,
    /// The first byte begins a TLS handshake.
    TlsOnPlainPort,
    /// More empty lines before the request line than we skip (RFC 9112 §2.2).
    EmptyLinesTooMany,
    /// A line of the head ends in LF without CR (RFC 9112 §2.2).
    BareLineFeed,
    /// CR without LF (RFC 9112 §2.2).
    BareCarriageReturn,
    /// The method is empty or not a token (RFC 9110 §9.1).
    MethodInvalid,
    /// The request target has none of the four forms (RFC 9112 §3.2).
    TargetInvalid,
    /// The request line is longer than we read.
    TargetTooLong,
    /// The request line does not end in an HTTP version (RFC 9112 §2.3).
    VersionInvalid,
    /// A well-formed version that is neither 1.0 nor 1.1.
    VersionUnsupported,
    /// The head does not end within the setting `head_bytes_max`.
    HeadTooLarge,
    /// More fields than `HEADERS_MAX`.
    HeadersTooMany,
    /// Not a token, space before the colon, or a folded line (RFC 9112 §5).
    HeaderNameInvalid,
    /// A control character in a value (RFC 9110 §5.5).
    HeaderValueInvalid,
    /// HTTP/1.1 without Host (RFC 9112 §3.2).
    HostMissing,
    /// More than one Host (RFC 9112 §3.2).
    HostRepeated,
    /// Host is no host and port (RFC 9112 §3.2).
    HostInvalid,
    /// Not plain digits, or too big for this machine (RFC 9112 §6.3).
    ContentLengthInvalid,
    /// More than one Content-Length, even an equal one (RFC 9112 §6.3).
    ContentLengthRepeated,
    /// Two ways to frame one body (RFC 9112 §6.1).
    LengthWithTransferEncoding,
    /// HTTP/1.0 has no transfer codings (RFC 9112 §6.1).
    TransferEncodingInHttp10,
    /// Repeated, empty or malformed (RFC 9112 §6.1).
    TransferEncodingInvalid,
    /// A coding other than chunked (RFC 9112 §6.1).
    TransferEncodingUnsupported,
    /// An expectation other than 100-continue (RFC 9110 §10.1.1).
    ExpectationUnknown,
    /// Not 1 to 16 hexadecimal digits (RFC 9112 §7.1).
    ChunkSizeInvalid,
    /// A control character in an extension, or too many of them (RFC 9112 §7.1.1).
    ChunkExtensionInvalid,
    /// A chunk's data is not followed by CRLF (RFC 9112 §7.1).
    ChunkEndInvalid,
    /// A line after the last chunk is no field (RFC 9112 §7.1.2).
    TrailerInvalid,
    /// Trailers beyond `TRAILER_BYTES_MAX`.
    TrailersTooLarge,
    /// The body would exceed the caller's limit.
    BodyTooLarge,
}

impl HttpError {
    /// The status that answers the request.
    pub(crate) fn status(self) -> Status {
        match self {
            HttpError::TargetTooLong => Status::URI_TOO_LONG,
            HttpError::VersionUnsupported => Status::HTTP_VERSION_NOT_SUPPORTED,
            HttpError::HeadTooLarge | HttpError::HeadersTooMany | HttpError::TrailersTooLarge => {
                Status::REQUEST_HEADER_FIELDS_TOO_LARGE
            }
            HttpError::TransferEncodingUnsupported => Status::NOT_IMPLEMENTED,
            HttpError::ExpectationUnknown => Status::EXPECTATION_FAILED,
            HttpError::BodyTooLarge => Status::CONTENT_TOO_LARGE,
            _ => Status::BAD_REQUEST,
        }
    }

    /// A sentence that tells a human what to change. Holds nothing that the peer sent.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            HttpError::BadFirstByte => "the connection did not start with an HTTP request line",
            HttpError::TlsOnPlainPort => {
                "the client speaks TLS to a plain HTTP port: use http:// or ws://, set tls_cert and tls_key, or put TLS in front"
            }
            HttpError::EmptyLinesTooMany => "too many empty lines before the request line",
            HttpError::BareLineFeed => "a line ends in LF without CR",
            HttpError::BareCarriageReturn => "a CR is not followed by LF",
            HttpError::MethodInvalid => "the method is not a token",
            HttpError::TargetInvalid => {
                "the request target is not a path, an absolute http URL, or * with OPTIONS"
            }
            HttpError::TargetTooLong => "the request line is longer than 8 KiB",
            HttpError::VersionInvalid => "the request line does not end in HTTP/1.1 or HTTP/1.0",
            HttpError::VersionUnsupported => {
                "only HTTP/1.1 and HTTP/1.0 are spoken here; HTTP/2 must be translated by a proxy"
            }
            HttpError::HeadTooLarge => "the request line and headers together are longer than head_bytes_max",
            HttpError::HeadersTooMany => "the request has more than 256 headers",
            HttpError::HeaderNameInvalid => {
                "a header name is empty, has a space or an illegal character, or its line is folded"
            }
            HttpError::HeaderValueInvalid => "a header value holds a control character",
            HttpError::HostMissing => "the Host header is missing",
            HttpError::HostRepeated => "there is more than one Host header",
            HttpError::HostInvalid => "the Host header is not a host name with an optional port",
            HttpError::ContentLengthInvalid => "Content-Length is not a plain decimal number",
            HttpError::ContentLengthRepeated => "there is more than one Content-Length header",
            HttpError::LengthWithTransferEncoding => "Content-Length and Transfer-Encoding are both present",
            HttpError::TransferEncodingInHttp10 => "Transfer-Encoding is not allowed in HTTP/1.0",
            HttpError::TransferEncodingInvalid => "Transfer-Encoding is malformed; send exactly: chunked",
            HttpError::TransferEncodingUnsupported => {
                "the only Transfer-Encoding understood here is: chunked"
            }
            HttpError::ExpectationUnknown => "the only expectation understood here is: 100-continue",
            HttpError::ChunkSizeInvalid => "a chunk size is not 1 to 16 hexadecimal digits followed by CRLF",
            HttpError::ChunkExtensionInvalid => "chunk extensions are too long or hold a control character",
            HttpError::ChunkEndInvalid => "a chunk is longer than its announced size",
            HttpError::TrailerInvalid => "a trailer line after the last chunk is not a header",
            HttpError::TrailersTooLarge => "the trailers after the last chunk are longer than 4 KiB",
            HttpError::BodyTooLarge => "the request body has more bytes than max_http_buffer_size allows",
        }
    }
}

impl std::fmt::Display for HttpError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}: {}", self.status(), self.reason())
    }
}

impl std::error::Error for HttpError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::HEADERS_MAX;
    use crate::protocol::http::limits::{REQUEST_LINE_BYTES_MAX, TRAILER_BYTES_MAX};

    #[test]
    fn the_reasons_name_the_limits_that_hold() {
        for (error, number) in [
            (HttpError::HeadersTooMany, HEADERS_MAX),
            (HttpError::TargetTooLong, REQUEST_LINE_BYTES_MAX / 1024),
            (HttpError::TrailersTooLarge, TRAILER_BYTES_MAX / 1024),
        ] {
            assert!(error.reason().contains(&format!(" {number} ")), "{error}");
        }
    }
}
