//! Every setting in a sentence, for `--help`: the beginning of what the documentation says of it.

/// The settings with a sentence each, in the order of [`Config::KEYS`](crate::Config::KEYS).
pub(super) const SENTENCES: &[(&str, &str)] = &[
    ("bind", "Where to listen: ADDR:PORT, [IPV6]:PORT, or unix:PATH."),
    (
        "bind_shared",
        "Whether an address that another process of the same user serves is served beside it: for a hand-over to a new version.",
    ),
    ("shards", "Shards, each a thread on a core of its own."),
    ("io", "Which of the kernel's interfaces to use."),
    (
        "log",
        "What to log: error, warn, info, debug, trace, off, or levels by target such as info,shardcast::socketio=debug,my_app=trace.",
    ),
    (
        "socketio_log",
        "Level of what is said about Socket.IO (packets, namespaces, handlers), as Flask-SocketIO's logger.",
    ),
    (
        "engineio_log",
        "Level of what is said about Engine.IO (requests, sessions, transports), as Flask-SocketIO's engineio_logger.",
    ),
    (
        "log_rate",
        "Lines of one kind that shardcast::log writes a second, ten times as many at once; a line says how many were left out.",
    ),
    ("path", "Path of the Engine.IO endpoint."),
    ("polling", "Whether clients may start with, or stay on, HTTP long-polling."),
    ("websocket", "Whether clients may use WebSocket."),
    ("allow_upgrades", "Whether a polling session is offered WebSocket."),
    ("ping_interval", "From one ping to the next."),
    ("ping_timeout", "How long a ping may go unanswered."),
    ("upgrade_timeout", "How long an upgrade to WebSocket may take."),
    ("connect_timeout", "How long a session may stay without joining a namespace."),
    (
        "max_http_buffer_size",
        "The largest message and the largest request body, in bytes, on either transport.",
    ),
    (
        "attachments_bytes_max",
        "Bytes of one packet's attachments together; each of them is a message and keeps to max_http_buffer_size, as in Node and Python.",
    ),
    ("fragments_max", "Frames of one WebSocket message."),
    ("cors_allowed_origins", "Which web pages may connect."),
    ("cors_credentials", "Whether pages of other origins may send cookies."),
    ("cors_allowed_headers", "Request headers that a preflight allows, separated by commas."),
    ("cors_max_age", "How long a browser may remember the answer to a preflight."),
    (
        "subprotocols",
        "WebSocket subprotocols that are served, of which the first that a client offers is answered.",
    ),
    ("trust_forwarded", "Whether X-Forwarded-Proto and X-Forwarded-Host count as this server's own origin."),
    ("allowed_hosts", "Names that requests may be for, in Host: chat.example.com, *.example.com, * for all."),
    (
        "trusted_proxies",
        "Proxies whose word on a client's address counts: networks such as 10.0.0.0/8, addresses, and unix for whoever comes through a Unix socket.",
    ),
    (
        "proxy_protocol",
        "Whether every connection begins with a header of the PROXY protocol, version 1 or 2, which names the client.",
    ),
    (
        "cookie",
        "Name of a cookie with the Engine.IO session's id, set when a session opens by long-polling: for balancers that stick by cookie.",
    ),
    (
        "allow_eio3",
        "Whether clients of Socket.IO 1.x and 2.x (Engine.IO 3) are served beside newer ones, and pages that poll by JSONP.",
    ),
    (
        "serve_client",
        "Whether the browser client is served below path, /socket.io/socket.io.js: Node's serveClient.",
    ),
    (
        "client_bundle",
        "Folder of another browser client, npm's socket.io-client/dist, whose files are served in place of the one that is compiled in.",
    ),
    (
        "message_queue",
        "The broker on which this endpoint meets other processes: redis://USER:PASSWORD@HOST:6379/0, amqp://, kafka://, nats:// and others.",
    ),
    ("channel", "The name on the broker that processes have in common which belong together."),
    (
        "queue_formats",
        "Which formats are spoken on the queue besides our own: python, node, node-sharded, node-streams, or none.",
    ),
    (
        "node_key",
        "What the names of Node's channels begin with, where Node's adapters have an option key (streamName of the streams adapter).",
    ),
    ("queue_pickle", "Whether messages of python-socketio before 5.14 are read, which are pickles."),
    (
        "queue_bytes_max",
        "Bytes of messages that may wait for one broker while it is slow or away; beyond it they are refused, and an emit says so.",
    ),
    ("queue_message_bytes_max", "The largest message that a broker is sent, in bytes; it must take so much."),
    ("header_timeout", "How long a client may take for a request head, and for each part of a body."),
    ("head_bytes_max", "Bytes of a request's line and headers together; beyond it the answer is 431."),
    ("keep_alive_timeout", "How long an idle HTTP connection is kept."),
    (
        "route_timeout",
        "How long a route that waits may take until its answer begins; then it is dropped, and the client is answered 504.",
    ),
    (
        "routes_waiting_max",
        "Requests that may wait for routes, or be answered piece by piece, at a time, in the whole process; each shard has an equal part.",
    ),
    (
        "routes_waiting_per_address_max",
        "The same on one shard for the clients of one address, an IPv6 network of 64 bits being one; those of this host and of Unix sockets are not counted, for they are a proxy's.",
    ),
    ("ack_timeout", "How long the server waits for an acknowledgement unless the call says otherwise."),
    ("outbox_bytes_max", "Bytes one connection may be owed before it is closed as a slow consumer."),
    (
        "outboxes_bytes_max",
        "Bytes that clients who are behind may be owed together, in the whole process; each shard has an equal part.",
    ),
    (
        "partial_bytes_max",
        "Bytes that all clients may have sent of frames, bodies and packets whose rest has not come, and of events that wait for an asynchronous handler, in the whole process; each shard has an equal part, and no less than four messages of max_http_buffer_size.",
    ),
    (
        "flush_window",
        "How long messages may gather before they are sent: more throughput for later delivery.",
    ),
    ("pending_bytes_max", "Bytes of events that may wait behind a socket's running asynchronous handler."),
    (
        "concurrent_handlers_max",
        "Handlers of on_concurrent that run for one socket at a time; its later events wait then.",
    ),
    ("poll_packets_max", "Packets in one long-polling response."),
    ("connections_max", "Connections one shard accepts; beyond it a new one is closed at once."),
    ("sessions_max", "Sessions one shard opens; beyond it a handshake is answered 503 with Retry-After."),
    (
        "unjoined_sessions_max",
        "Sessions on one shard that have joined no namespace; beyond it, or beyond a quarter of sessions_max, the oldest of them are closed for newer ones.",
    ),
    (
        "unjoined_sessions_per_address_max",
        "The same for the clients of one address, an IPv6 network of 64 bits being one; those of this host and of Unix sockets are not counted, for they are a proxy's.",
    ),
    (
        "shard_key",
        "Whether a client may choose its shard by shard_key in its query: those with equal keys are served by one.",
    ),
    ("rooms_per_socket_max", "Rooms one socket may be in, its own id not counted."),
    (
        "namespaces_per_session_max",
        "Namespaces of patterns that one session may be in; beyond it a further one is refused.",
    ),
    (
        "namespaces_max",
        "Namespaces that patterns may have made on one shard at a time; beyond it a client that asks for another one is refused.",
    ),
    ("backlog", "Connections the kernel holds before they are accepted, for each shard."),
    ("static_file_bytes_max", "The largest static file served, in bytes."),
    ("parser", "Which Socket.IO parser clients use."),
    ("expiry_grace", "How long before a socket's deadline (expires_in) on_expiry is called."),
    (
        "slow_handler",
        "A handler, a tick or a task that holds its shard for longer than this is named in the log, at most once a second, and counted in handlers_slow.",
    ),
    (
        "recovery_max_disconnection",
        "How long a client whose connection is lost may take to come back as the socket that it was, with its id, its rooms and what it has missed: Node's connectionStateRecovery.",
    ),
    ("recovery_events_max", "Events that each socket keeps for its recovery, the last ones."),
    ("recovery_bytes_max", "Bytes that they may have."),
    (
        "recovery_sessions_max",
        "Lost sockets that one shard waits for; beyond it those go that were lost first.",
    ),
    (
        "recovery_survives",
        "What of a process recovery survives: with stop, a process that ends leaves its sockets with the message queue, and their clients come back to another process as the sockets that they were.",
    ),
    (
        "permessage_deflate",
        "Whether large WebSocket messages are compressed with clients that can (RFC 7692).",
    ),
    (
        "inflate_ratio_max",
        "Bytes that a connection's compressed messages may inflate to for each byte of them, beyond one message of max_http_buffer_size.",
    ),
    (
        "http_compression",
        "Whether polls, and text that routes and folders answer, are compressed for clients that accept it.",
    ),
    (
        "compression_threshold",
        "WebSocket payloads and HTTP bodies smaller than this many bytes are not compressed.",
    ),
    (
        "shutdown_spread",
        "Over how long a shutdown ends its sessions, so that clients come back to another process one after another.",
    ),
    ("shutdown_timeout", "How long a shutdown waits for what is still owed to clients."),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    /// What the documentation of a setting's field says, without backticks.
    fn documented(key: &str) -> String {
        let sources = [include_str!("../config/mod.rs"), include_str!("../config/engine.rs")];
        let field = format!("    pub {key}: ");
        let source = sources.into_iter().find(|source| source.contains(&field)).expect("a field of its name");
        let before = source.split(&field).next().unwrap_or_default();
        let mut lines: Vec<&str> = before.lines().rev().skip_while(|line| line.is_empty()).collect();
        lines.retain(|line| !line.trim_start().starts_with("#["));
        let docs: Vec<&str> = lines.iter().map_while(|line| line.trim_start().strip_prefix("/// ")).collect();
        docs.into_iter().rev().collect::<Vec<_>>().join(" ").replace('`', "")
    }

    #[test]
    fn each_setting_has_the_beginning_of_its_documentation() {
        let keys: Vec<&str> = SENTENCES.iter().map(|(key, _)| *key).collect();
        assert_eq!(keys, Config::KEYS);
        for (key, sentence) in SENTENCES {
            let documented = documented(key);
            // Of the broker's address only some kinds are named.
            let begins = if *key == "message_queue" { "The broker on which this endpoint" } else { sentence };
            assert!(documented.starts_with(begins), "{key}: {sentence:?} is not {documented:?}");
            assert!(sentence.ends_with('.') && sentence.len() < 300, "{key}");
        }
    }
}
