//! Status codes and their reason phrases (RFC 9110 §15, RFC 6585).

/// The three digits of an answer.
///
/// ```
/// use shardcast::http::Status;
///
/// assert_eq!(Status::NOT_FOUND.code(), 404);
/// assert_eq!(Status::new(299).map(Status::reason), Some(""));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Status(u16);

impl Status {
    /// 100 Continue
    pub const CONTINUE: Status = Status(100);
    /// 101 Switching Protocols
    pub const SWITCHING_PROTOCOLS: Status = Status(101);
    /// 200 OK
    pub const OK: Status = Status(200);
    /// 201 Created
    pub const CREATED: Status = Status(201);
    /// 202 Accepted
    pub const ACCEPTED: Status = Status(202);
    /// 204 No Content
    pub const NO_CONTENT: Status = Status(204);
    /// 206 Partial Content
    pub const PARTIAL_CONTENT: Status = Status(206);
    /// 301 Moved Permanently
    pub const MOVED_PERMANENTLY: Status = Status(301);
    /// 302 Found
    pub const FOUND: Status = Status(302);
    /// 303 See Other
    pub const SEE_OTHER: Status = Status(303);
    /// 304 Not Modified
    pub const NOT_MODIFIED: Status = Status(304);
    /// 307 Temporary Redirect
    pub const TEMPORARY_REDIRECT: Status = Status(307);
    /// 308 Permanent Redirect
    pub const PERMANENT_REDIRECT: Status = Status(308);
    /// 400 Bad Request
    pub const BAD_REQUEST: Status = Status(400);
    /// 401 Unauthorized
    pub const UNAUTHORIZED: Status = Status(401);
    /// 403 Forbidden
    pub const FORBIDDEN: Status = Status(403);
    /// 404 Not Found
    pub const NOT_FOUND: Status = Status(404);
    /// 405 Method Not Allowed
    pub const METHOD_NOT_ALLOWED: Status = Status(405);
    /// 406 Not Acceptable
    pub const NOT_ACCEPTABLE: Status = Status(406);
    /// 408 Request Timeout
    pub const REQUEST_TIMEOUT: Status = Status(408);
    /// 409 Conflict
    pub const CONFLICT: Status = Status(409);
    /// 410 Gone
    pub const GONE: Status = Status(410);
    /// 411 Length Required
    pub const LENGTH_REQUIRED: Status = Status(411);
    /// 413 Content Too Large
    pub const CONTENT_TOO_LARGE: Status = Status(413);
    /// 414 URI Too Long
    pub const URI_TOO_LONG: Status = Status(414);
    /// 415 Unsupported Media Type
    pub const UNSUPPORTED_MEDIA_TYPE: Status = Status(415);
    /// 416 Range Not Satisfiable
    pub const RANGE_NOT_SATISFIABLE: Status = Status(416);
    /// 417 Expectation Failed
    pub const EXPECTATION_FAILED: Status = Status(417);
    /// 421 Misdirected Request
    pub const MISDIRECTED_REQUEST: Status = Status(421);
    /// 422 Unprocessable Content
    pub const UNPROCESSABLE_CONTENT: Status = Status(422);
    /// 426 Upgrade Required
    pub const UPGRADE_REQUIRED: Status = Status(426);
    /// 429 Too Many Requests
    pub const TOO_MANY_REQUESTS: Status = Status(429);
    /// 431 Request Header Fields Too Large
    pub const REQUEST_HEADER_FIELDS_TOO_LARGE: Status = Status(431);
    /// 500 Internal Server Error
    pub const INTERNAL_SERVER_ERROR: Status = Status(500);
    /// 501 Not Implemented
    pub const NOT_IMPLEMENTED: Status = Status(501);
    /// 502 Bad Gateway
    pub const BAD_GATEWAY: Status = Status(502);
    /// 503 Service Unavailable
    pub const SERVICE_UNAVAILABLE: Status = Status(503);
    /// 504 Gateway Timeout
    pub const GATEWAY_TIMEOUT: Status = Status(504);
    /// 505 HTTP Version Not Supported
    pub const HTTP_VERSION_NOT_SUPPORTED: Status = Status(505);

    /// A status from its number; `None` outside 100 to 599, where no client knows what to do.
    pub const fn new(code: u16) -> Option<Status> {
        match code {
            100..=599 => Some(Status(code)),
            _ => None,
        }
    }

    /// The number.
    pub const fn code(self) -> u16 {
        self.0
    }

    /// 1xx: an answer before the answer.
    pub const fn is_informational(self) -> bool {
        self.0 < 200
    }

    /// 2xx.
    pub const fn is_success(self) -> bool {
        self.0 / 100 == 2
    }

    /// Whether an answer with this status may carry a body (RFC 9110 §6.4.1).
    pub const fn may_have_body(self) -> bool {
        !self.is_informational() && self.0 != 204 && self.0 != 304
    }

    /// The phrase after the number, empty for a code without a name here; clients ignore it.
    pub const fn reason(self) -> &'static str {
        match self {
            Status::CONTINUE => "Continue",
            Status::SWITCHING_PROTOCOLS => "Switching Protocols",
            Status::OK => "OK",
            Status::CREATED => "Created",
            Status::ACCEPTED => "Accepted",
            Status::NO_CONTENT => "No Content",
            Status::PARTIAL_CONTENT => "Partial Content",
            Status::MOVED_PERMANENTLY => "Moved Permanently",
            Status::FOUND => "Found",
            Status::SEE_OTHER => "See Other",
            Status::NOT_MODIFIED => "Not Modified",
            Status::TEMPORARY_REDIRECT => "Temporary Redirect",
            Status::PERMANENT_REDIRECT => "Permanent Redirect",
            Status::BAD_REQUEST => "Bad Request",
            Status::UNAUTHORIZED => "Unauthorized",
            Status::FORBIDDEN => "Forbidden",
            Status::NOT_FOUND => "Not Found",
            Status::METHOD_NOT_ALLOWED => "Method Not Allowed",
            Status::NOT_ACCEPTABLE => "Not Acceptable",
            Status::REQUEST_TIMEOUT => "Request Timeout",
            Status::CONFLICT => "Conflict",
            Status::GONE => "Gone",
            Status::LENGTH_REQUIRED => "Length Required",
            Status::CONTENT_TOO_LARGE => "Content Too Large",
            Status::URI_TOO_LONG => "URI Too Long",
            Status::UNSUPPORTED_MEDIA_TYPE => "Unsupported Media Type",
            Status::RANGE_NOT_SATISFIABLE => "Range Not Satisfiable",
            Status::EXPECTATION_FAILED => "Expectation Failed",
            Status::MISDIRECTED_REQUEST => "Misdirected Request",
            Status::UNPROCESSABLE_CONTENT => "Unprocessable Content",
            Status::UPGRADE_REQUIRED => "Upgrade Required",
            Status::TOO_MANY_REQUESTS => "Too Many Requests",
            Status::REQUEST_HEADER_FIELDS_TOO_LARGE => "Request Header Fields Too Large",
            Status::INTERNAL_SERVER_ERROR => "Internal Server Error",
            Status::NOT_IMPLEMENTED => "Not Implemented",
            Status::BAD_GATEWAY => "Bad Gateway",
            Status::SERVICE_UNAVAILABLE => "Service Unavailable",
            Status::GATEWAY_TIMEOUT => "Gateway Timeout",
            Status::HTTP_VERSION_NOT_SUPPORTED => "HTTP Version Not Supported",
            _ => "",
        }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.reason() {
            "" => write!(formatter, "{}", self.0),
            reason => write!(formatter, "{} {reason}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s15_a_status_is_three_digits_and_a_phrase() {
        for (code, text) in
            [(200, Some("200 OK")), (418, Some("418")), (599, Some("599")), (99, None), (600, None)]
        {
            assert_eq!(Status::new(code).map(|status| status.to_string()).as_deref(), text, "{code}");
        }
    }

    #[test]
    fn s6_4_1_these_answers_have_no_body() {
        for (status, may) in
            [(100, false), (101, false), (204, false), (304, false), (200, true), (404, true)]
        {
            assert_eq!(Status(status).may_have_body(), may, "{status}");
        }
    }
}
