"""What an application has said to Flask-SocketIO, as settings of the core.

An option that has no meaning here is named in the log, with what to do instead; one that would change what clients see, and cannot be
had, is an error at once.
"""

from __future__ import annotations

import difflib
import json
import logging
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

log = logging.getLogger("flask_shardcast")

#: Options whose setting has the same name and the same kind of value.
SAME = frozenset({
    "allow_upgrades", "always_connect", "compression_threshold", "cors_credentials", "http_compression", "max_http_buffer_size", "ping_timeout",
})

#: Options that this module translates.
TRANSLATED = frozenset({
    "cookie", "cors_allowed_origins", "engineio_logger", "logger", "message_queue", "path", "ping_interval", "resource", "serializer",
    "transports", "channel", "async_handlers", "namespaces", "json", "client_manager", "manage_session",
})

#: Options that say what is the case here anyway.
NEEDLESS = frozenset({"async_mode", "monitor_clients", "write_only", "websocket_compression"})

#: What ``run`` is given for the servers of others. None of it means anything here.
FOREIGN_RUN = frozenset({
    "allow_unsafe_werkzeug", "backlog", "ca_certs", "cert_reqs", "ciphers", "custom_pool", "debug", "do_handshake_on_connect", "environ",
    "handler_class", "keepalive", "load_dotenv", "log", "log_file", "log_format", "log_x_forwarded_for", "max_http_version", "max_size",
    "minimum_chunk_size", "passthrough_errors", "processes", "request_handler", "server_side", "socket_timeout", "spawn", "ssl_version",
    "static_files", "suppress_ragged_eofs", "threaded", "url_length_limit", "use_debugger", "use_evalex",
})


def check(options: Mapping[str, Any]) -> None:
    """Names in the log what is no option. An option that cannot be had is an error."""
    settings(options)
    for name in options:
        if name not in SAME and name not in TRANSLATED and name not in NEEDLESS:
            _warn_unknown(name, "SocketIO", TRANSLATED | SAME)


def settings(options: Mapping[str, Any]) -> dict[str, str]:
    """The core's settings, each as the text that a variable of the environment would have."""
    told: dict[str, Any] = {}
    for name, value in options.items():
        if value is None:
            continue
        if name in SAME:
            told[name] = value
        elif name in _MAKERS:
            told.update(_MAKERS[name](value))
    told.setdefault("channel", options.get("channel") or "flask-socketio")
    return {name: _text(value) for name, value in told.items()}


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else json.dumps(value)


def warn_foreign(options: Mapping[str, Any]) -> None:
    """Names in the log what ``run`` was given and does not need."""
    for name in options:
        if name in FOREIGN_RUN:
            log.debug("run(%s=..) is for another server, and is ignored", name)
        else:
            _warn_unknown(name, "run", FOREIGN_RUN)


def _warn_unknown(name: str, where: str, known: frozenset[str]) -> None:
    near = difflib.get_close_matches(name, known, n=1)
    advice = f"; did you mean {near[0]!r}?" if near else ""
    log.warning("%s(%s=..) is no option, and is ignored%s", where, name, advice)


# One function for each option that is not said the same way


def _path(value: str) -> dict[str, Any]:
    return {"path": f"/{value.strip('/')}/"}


def _ping_interval(value: Any) -> dict[str, Any]:
    if isinstance(value, (tuple, list)):
        interval, grace = value
        return {"ping_interval": interval, "ping_grace": grace}
    return {"ping_interval": value}


def _cors(value: Any) -> dict[str, Any]:
    if callable(value):
        # The function is asked when a client connects to a namespace, on a thread that may wait: see `Dispatcher.connect`.
        return {"cors_allowed_origins": "*"}
    if isinstance(value, str):
        return {"cors_allowed_origins": value}
    origins = list(value)
    if not origins:
        # Upstream checks nothing then.
        return {"cors_allowed_origins": "off"}
    return {"cors_allowed_origins": "*" if origins == ["*"] else origins}


def _cookie(value: Any) -> dict[str, Any]:
    """``cookie`` may be a name, or a dict of the name and attributes, whose values are texts, booleans, or functions of nothing."""
    if isinstance(value, str):
        # Upstream sends `path=/; SameSite=Lax`; HttpOnly beside it keeps scripts away from the id.
        return {"cookie": value}
    attributes = dict(value)
    parts = [str(attributes.pop("name"))]
    has_http_only = False
    for name, said in attributes.items():
        said = said() if callable(said) else said
        has_http_only = has_http_only or name.lower() == "httponly"
        if said is True:
            parts.append(name)
        elif said is not False and said is not None:
            parts.append(f"{name}={said}")
    if not has_http_only:
        parts.append("HttpOnly=false")
    return {"cookie": "; ".join(parts)}


def _transports(value: Any) -> dict[str, Any]:
    names = {value} if isinstance(value, str) else set(value)
    known = names & {"polling", "websocket"}
    if not known:
        raise ValueError(f"transports={value!r}: there are 'polling' and 'websocket'")
    return {"polling": "polling" in known, "websocket": "websocket" in known}


def _serializer(value: Any) -> dict[str, Any]:
    parsers = {"default": "json", "json": "json", "msgpack": "msgpack"}
    if isinstance(value, str) and value in parsers:
        return {"parser": parsers[value]}
    raise ValueError(
        f"serializer={value!r} is not possible: there are 'default' and 'msgpack', which the core reads and writes itself. A packet class "
        "of your own would run for every packet; send bytes, or JSON with a type of your own by json=.."
    )


def _level(value: Any) -> str:
    if isinstance(value, logging.Logger):
        level = value.getEffectiveLevel()
        return "debug" if level <= logging.DEBUG else "info" if level <= logging.INFO else "warn" if level <= logging.WARNING else "error"
    return "debug" if value else "warn"


def _logger(value: Any) -> dict[str, Any]:
    return {"socketio_log": _level(value)} if value else {}


def _engineio_logger(value: Any) -> dict[str, Any]:
    return {"engineio_log": _level(value)} if value else {}


def _message_queue(value: str) -> dict[str, Any]:
    scheme = value.partition(":")[0]
    if scheme.startswith("zmq") or scheme in _KOMBU_ONLY:
        raise ValueError(
            f"message_queue={value!r} is not possible: the core speaks with Redis (redis://, rediss://, valkey://, redis+sentinel://), "
            "RabbitMQ (amqp://, amqps://), Kafka (kafka://) and NATS (nats://)"
        )
    return {"message_queue": value}


_KOMBU_ONLY = frozenset({
    "azureservicebus", "azurestoragequeues", "confluentkafka", "consul", "etcd", "filesystem", "gcpubsub", "librabbitmq", "mongodb", "pyamqp",
    "pyro", "qpid", "slmq", "sqs", "zookeeper",
})

_MAKERS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "path": _path,
    "resource": _path,
    "ping_interval": _ping_interval,
    "cors_allowed_origins": _cors,
    "cookie": _cookie,
    "transports": _transports,
    "serializer": _serializer,
    "logger": _logger,
    "engineio_logger": _engineio_logger,
    "message_queue": _message_queue,
}


def tls(options: dict[str, Any]) -> dict[str, str]:
    """Takes the arguments of ``run`` that say how to speak TLS, and gives the core's settings."""
    cert, key = options.pop("certfile", None), options.pop("keyfile", None)
    context = options.pop("ssl_context", None)
    if isinstance(context, (tuple, list)):
        cert, key = (*context, None)[:2]
    elif context is not None:
        raise ValueError(
            f"ssl_context={context!r} is not possible: the core reads the files itself. Say certfile=.. and keyfile=.., or "
            "ssl_context=('cert.pem', 'key.pem'); for a try, make a pair with `openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem "
            "-out cert.pem -days 30 -subj /CN=localhost`"
        )
    if cert is None:
        return {}
    # One file may hold both.
    return {"tls_cert": str(cert), "tls_key": str(key or cert)}


def is_flask_json(module: Any) -> bool:
    """Whether ``json=`` is Flask's own, whose types the native writer asks the application for."""
    return isinstance(module, ModuleType) and module.__name__ == "flask.json"
