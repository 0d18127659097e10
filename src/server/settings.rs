//! Every setting in a sentence, for `--help`: the beginning of what the documentation says of it.

/// The settings with a sentence each, in the order of [`Config::KEYS`](crate::Config::KEYS).
pub(super) const SENTENCES: &[(&str, &str)] = &[
    ("bind", "Where to listen: ADDR:PORT, [IPV6]:PORT, or unix:PATH."),
    (
        "bind_shared",
        "Whether an address that another process of the same user serves is served beside it: for a hand-over to a new version.",
    ),
    ("admin_bind", "Where operators are served, apart from clients: ADDR:PORT or unix:PATH."),
    ("admin_token", "What operators send in Authorization: Bearer, for all but the probes."),
    ("admin_user", "Name of the operator who logs in with a password, HTTP's basic authentication."),
    ("admin_password", "The password of admin_user."),
    ("admin_ui", "What Socket.IO's admin page is shown when it connects."),
    ("admin_ui_auth", "Who may use that page."),
    ("admin_ui_user", "The name to log in to that page with."),
    (
        "admin_ui_password",
        "The password of admin_ui_user: a bcrypt hash of it, as Node's has it, or the password itself, of at least 8 characters.",
    ),
    ("admin_ui_read_only", "Whether that page only shows: what it asks to be done to sockets is not done."),
    ("admin_ui_namespace", "The namespace that the page connects to."),
    ("admin_ui_server_id", "What the page calls this process; two processes with one name are shown as one."),
    (
        "admin_tls",
        "Whether admin_bind speaks TLS, with the certificates of tls_cert; a Unix socket never does.",
    ),
    (
        "bus_required",
        "Whether this server is of no use while a message queue is away: /readyz then says so, and a balancer sends clients to other processes.",
    ),
    ("shards", "Shards, each a thread on a core of its own."),
    ("pin_shards", "Whether each shard stays on its core, if there are as many cores."),
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
    (
        "endpoint",
        "Further endpoints: for each an entry with its path and what it has other than the main one, [[endpoint]] in a file.",
    ),
    ("polling", "Whether clients may start with, or stay on, HTTP long-polling."),
    ("websocket", "Whether clients may use WebSocket."),
    ("allow_upgrades", "Whether a polling session is offered WebSocket."),
    ("ping_interval", "From one ping to the next."),
    ("ping_timeout", "How long a ping may go unanswered."),
    (
        "ping_grace",
        "What clients are told beyond ping_interval: they wait so much longer for a ping before they give the connection up.",
    ),
    ("upgrade_timeout", "How long an upgrade to WebSocket may take."),
    ("connect_timeout", "How long a session may stay without joining a namespace."),
    (
        "always_connect",
        "Whether a client is told that it is connected before its connect handler is asked; one that is refused is disconnected then.",
    ),
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
    (
        "tls_cert",
        "Certificates for TLS, PEM files, each with the chain that leads to a certificate that clients know.",
    ),
    ("tls_key", "The keys of the certificates, PEM files without a password, in the same order."),
    (
        "tls",
        "Whether the TCP addresses of bind speak TLS only, or plain HTTP as well, told apart by a connection's first byte.",
    ),
    (
        "tls_reload_interval",
        "From one look at the files of tls_cert and tls_key to the next: those that have changed are read again.",
    ),
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
    (
        "upload_bytes_max",
        "Bytes of a request's body that a program's fallback may read while it comes; beyond it the answer is 413.",
    ),
    (
        "api_tokens",
        "Tokens of the HTTP API, each with what it may do: the token, of 32 characters at least, then the scopes emit, rooms, disconnect and read, then namespaces.",
    ),
    (
        "api_bind",
        "Where the HTTP API is served, at /api/v1/: admin, on admin_bind, or public, where clients connect.",
    ),
    (
        "api_rate",
        "Requests that one token of the HTTP API may make in a second, each request of a batch being one; beyond it the answer is 429 with Retry-After.",
    ),
    ("api_body_bytes_max", "Bytes of the body of a request to the HTTP API; beyond it the answer is 413."),
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
    (
        "pending_bytes_max",
        "Bytes of events that may wait behind a socket's running asynchronous handler; beyond it the session ends. The same for events of one client that handlers outside their shard have; beyond it the client is not read.",
    ),
    (
        "outside_bytes_max",
        "Bytes of events of all clients that handlers outside their shard may have, in the whole process; each shard has an equal part.",
    ),
    (
        "concurrent_handlers_max",
        "Handlers of on_concurrent that run for one socket at a time; its later events wait then.",
    ),
    ("poll_packets_max", "Packets in one long-polling response."),
    (
        "connections_max",
        "Connections of clients in the whole process; beyond it a new one is closed at once.",
    ),
    (
        "connections_per_address_max",
        "Connections of one address, or of one IPv6 network of 64 bits, in the whole process; beyond it a new one is closed at once.",
    ),
    (
        "handshakes_per_second_max",
        "Sessions, and raw WebSockets, that one shard opens in a second, and as many at once; beyond it a handshake is answered 503 with Retry-After.",
    ),
    (
        "lag_max",
        "When what clients have sent waits for so long on a shard, or one turn of it takes so long, handshakes are answered 503 with Retry-After: newcomers wait before those who are here do.",
    ),
    (
        "handoffs_per_second_max",
        "Connections that one shard hands to others in a second, and as many at once: to the shard of their session, or that their shard_key chooses.",
    ),
    ("sessions_max", "Sessions one shard opens; beyond it a handshake is answered 503 with Retry-After."),
    (
        "events_per_second_max",
        "Messages that one client may send in a second, and as many at once after a pause: events, answers, packets that join and leave, frames of a raw WebSocket.",
    ),
    (
        "bytes_per_second_max",
        "The same in bytes; a message that is larger is taken, and the next waits for longer.",
    ),
    (
        "rate_policy",
        "What is done with a client that sends more than events_per_second_max or bytes_per_second_max.",
    ),
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
        "drain_delay",
        "How long a server that is asked to end by SIGTERM or [Handle::drain](crate::Handle::drain) goes on as before, while Handle::phase says that it drains: for a load balancer that has to notice first.",
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
