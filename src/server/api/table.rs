//! What the HTTP API has, as tables: its errors, its paths, and the fields of each. `docs/openapi.json` says the same, and a test compares them.

use crate::config::api::Scope;

/// Why a request is refused. The word is stable: programs compare it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    BadJson,
    UnknownField,
    MissingField,
    BadValue,
    EmptyList,
    Unauthorized,
    ForbiddenScope,
    ForbiddenNamespace,
    NotFound,
    UnknownEndpoint,
    UnknownNamespace,
    MethodNotAllowed,
    SlowBody,
    IdempotencyMismatch,
    IdempotencyInProgress,
    TooLarge,
    BusTooLarge,
    ReservedEvent,
    TooManyRequests,
    Internal,
    ShardBusy,
    BusFull,
    Busy,
    NotAsked,
    Late,
    Draining,
}

impl Code {
    #[cfg(test)]
    pub(crate) const ALL: &'static [Code] = &[
        Code::BadJson,
        Code::UnknownField,
        Code::MissingField,
        Code::BadValue,
        Code::EmptyList,
        Code::Unauthorized,
        Code::ForbiddenScope,
        Code::ForbiddenNamespace,
        Code::NotFound,
        Code::UnknownEndpoint,
        Code::UnknownNamespace,
        Code::MethodNotAllowed,
        Code::SlowBody,
        Code::IdempotencyMismatch,
        Code::IdempotencyInProgress,
        Code::TooLarge,
        Code::BusTooLarge,
        Code::ReservedEvent,
        Code::TooManyRequests,
        Code::Internal,
        Code::ShardBusy,
        Code::BusFull,
        Code::Busy,
        Code::NotAsked,
        Code::Late,
        Code::Draining,
    ];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Code::BadJson => "bad_json",
            Code::UnknownField => "unknown_field",
            Code::MissingField => "missing_field",
            Code::BadValue => "bad_value",
            Code::EmptyList => "empty_list",
            Code::Unauthorized => "unauthorized",
            Code::ForbiddenScope => "forbidden_scope",
            Code::ForbiddenNamespace => "forbidden_namespace",
            Code::NotFound => "not_found",
            Code::UnknownEndpoint => "unknown_endpoint",
            Code::UnknownNamespace => "unknown_namespace",
            Code::MethodNotAllowed => "method_not_allowed",
            Code::SlowBody => "slow_body",
            Code::IdempotencyMismatch => "idempotency_mismatch",
            Code::IdempotencyInProgress => "idempotency_in_progress",
            Code::TooLarge => "too_large",
            Code::BusTooLarge => "bus_too_large",
            Code::ReservedEvent => "reserved_event",
            Code::TooManyRequests => "too_many_requests",
            Code::Internal => "internal",
            Code::ShardBusy => "shard_busy",
            Code::BusFull => "bus_full",
            Code::Busy => "busy",
            Code::NotAsked => "not_asked",
            Code::Late => "late",
            Code::Draining => "draining",
        }
    }

    pub(crate) fn status(self) -> u16 {
        match self {
            Code::BadJson | Code::UnknownField | Code::MissingField | Code::BadValue | Code::EmptyList => 400,
            Code::Unauthorized => 401,
            Code::ForbiddenScope | Code::ForbiddenNamespace => 403,
            Code::NotFound | Code::UnknownEndpoint | Code::UnknownNamespace => 404,
            Code::MethodNotAllowed => 405,
            Code::SlowBody => 408,
            Code::IdempotencyMismatch | Code::IdempotencyInProgress => 409,
            Code::TooLarge | Code::BusTooLarge => 413,
            Code::ReservedEvent => 422,
            Code::TooManyRequests => 429,
            Code::Internal => 500,
            Code::ShardBusy | Code::BusFull | Code::Busy | Code::NotAsked | Code::Late | Code::Draining => {
                503
            }
        }
    }
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Emit,
    Ask,
    Batch,
    Join,
    Leave,
    Disconnect,
    Count,
    Sockets,
    Rooms,
    Info,
    OpenApi,
}

/// One path, with what it takes and gives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) verb: Verb,
    /// What follows `/api/v1/`.
    pub(crate) path: &'static str,
    pub(crate) may_post: bool,
    pub(crate) may_get: bool,
    /// None: a batch, whose requests need theirs, and the description, which needs no token.
    pub(crate) scope: Option<Scope>,
    pub(crate) fields: &'static [&'static str],
    /// What is in an answer; the second list may be left out.
    #[cfg_attr(not(test), allow(dead_code, reason = "the test of the description compares it"))]
    pub(crate) answers: (&'static [&'static str], &'static [&'static str]),
}

const ENDPOINT: &str = "endpoint";
const WHOM: (&str, &str, &str, &str) = ("namespace", "to", "except", "local");

pub(crate) const ENTRIES: &[Entry] = &[
    Entry {
        verb: Verb::Emit,
        path: "emit",
        may_post: true,
        may_get: false,
        scope: Some(Scope::Emit),
        fields: &[ENDPOINT, WHOM.0, WHOM.1, WHOM.2, WHOM.3, "event", "args", "binary", "volatile"],
        answers: (&["id", "receivers"], &["bus", "shards_missing"]),
    },
    Entry {
        verb: Verb::Ask,
        path: "ask",
        may_post: true,
        may_get: false,
        scope: Some(Scope::Emit),
        fields: &[ENDPOINT, WHOM.0, WHOM.1, WHOM.2, WHOM.3, "event", "args", "binary", "timeout_ms"],
        answers: (&["answers", "missing"], &["shards_missing", "nodes_missing"]),
    },
    Entry {
        verb: Verb::Batch,
        path: "batch",
        may_post: true,
        may_get: false,
        scope: None,
        fields: &["requests"],
        answers: (&["results"], &[]),
    },
    Entry {
        verb: Verb::Join,
        path: "join",
        may_post: true,
        may_get: false,
        scope: Some(Scope::Rooms),
        fields: &[ENDPOINT, WHOM.0, WHOM.1, WHOM.2, WHOM.3, "everyone", "rooms"],
        answers: (&["sockets"], &["shards_missing", "nodes_missing"]),
    },
    Entry {
        verb: Verb::Leave,
        path: "leave",
        may_post: true,
        may_get: false,
        scope: Some(Scope::Rooms),
        fields: &[ENDPOINT, WHOM.0, WHOM.1, WHOM.2, WHOM.3, "everyone", "rooms"],
        answers: (&["sockets"], &["shards_missing", "nodes_missing"]),
    },
    Entry {
        verb: Verb::Disconnect,
        path: "disconnect",
        may_post: true,
        may_get: false,
        scope: Some(Scope::Disconnect),
        fields: &[ENDPOINT, WHOM.0, WHOM.1, WHOM.2, WHOM.3, "everyone", "close", "reason"],
        answers: (&["sockets"], &["shards_missing", "nodes_missing"]),
    },
    Entry {
        verb: Verb::Count,
        path: "count",
        may_post: true,
        may_get: true,
        scope: Some(Scope::Read),
        fields: &[ENDPOINT, WHOM.0, WHOM.1, WHOM.2, WHOM.3],
        answers: (&["sockets"], &["nodes_missing"]),
    },
    Entry {
        verb: Verb::Sockets,
        path: "sockets",
        may_post: true,
        may_get: true,
        scope: Some(Scope::Read),
        fields: &[ENDPOINT, WHOM.0, WHOM.1, WHOM.2, WHOM.3, "limit", "after"],
        answers: (&["sockets", "next"], &["nodes_missing"]),
    },
    Entry {
        verb: Verb::Rooms,
        path: "rooms",
        may_post: false,
        may_get: true,
        scope: Some(Scope::Read),
        fields: &[ENDPOINT, WHOM.0, WHOM.3, "limit", "after"],
        answers: (&["rooms", "next"], &["nodes_missing"]),
    },
    Entry {
        verb: Verb::Info,
        path: "info",
        may_post: false,
        may_get: true,
        scope: Some(Scope::Read),
        fields: &[ENDPOINT],
        answers: (
            &["version", "node", "shards", "uptime_seconds", "sessions", "namespaces", "nodes", "draining"],
            &[],
        ),
    },
    Entry {
        verb: Verb::OpenApi,
        path: "openapi.json",
        may_post: false,
        may_get: true,
        scope: None,
        fields: &[],
        answers: (&["openapi", "info", "servers", "paths", "components"], &[]),
    },
];

/// What every answer to a request with a body may be, beside 200.
#[cfg(test)]
const OF_BODIES: &[Code] = &[
    Code::BadJson,
    Code::UnknownField,
    Code::MissingField,
    Code::BadValue,
    Code::EmptyList,
    Code::SlowBody,
    Code::TooLarge,
    Code::IdempotencyMismatch,
    Code::IdempotencyInProgress,
];

#[cfg(test)]
const OF_TOKENS: &[Code] = &[
    Code::Unauthorized,
    Code::ForbiddenScope,
    Code::TooManyRequests,
    Code::Internal,
    Code::Busy,
    Code::Draining,
];

#[cfg(test)]
const OF_NAMESPACES: &[Code] = &[Code::ForbiddenNamespace, Code::UnknownEndpoint, Code::UnknownNamespace];

impl Verb {
    pub(crate) fn entry(self) -> &'static Entry {
        ENTRIES.iter().find(|entry| entry.verb == self).expect("each verb has an entry")
    }

    /// How a request may fail, when it is asked by POST, or by GET.
    #[cfg(test)]
    pub(crate) fn codes(self, by_post: bool) -> Vec<Code> {
        let by_get: &[Code] = &[Code::UnknownField, Code::BadValue];
        let mut codes = if by_post { OF_BODIES.to_vec() } else { by_get.to_vec() };
        codes.extend(OF_TOKENS);
        let more: &[Code] = match self {
            Verb::OpenApi => return Vec::new(),
            Verb::Batch => &[],
            Verb::Info => &[Code::NotAsked, Code::Late, Code::ForbiddenNamespace, Code::UnknownEndpoint],
            Verb::Emit => &[
                Code::ReservedEvent,
                Code::ShardBusy,
                Code::BusFull,
                Code::BusTooLarge,
                Code::NotAsked,
                Code::Late,
            ],
            Verb::Ask => &[Code::ReservedEvent, Code::NotAsked, Code::Late],
            Verb::Join | Verb::Leave | Verb::Disconnect | Verb::Count | Verb::Sockets | Verb::Rooms => {
                &[Code::NotAsked, Code::Late]
            }
        };
        codes.extend(more);
        if !matches!(self, Verb::Batch | Verb::Info) {
            codes.extend(OF_NAMESPACES);
        }
        codes
    }
}
