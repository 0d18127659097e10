"""``SocketIO.run``: the server's beginning and end, debug mode, the reloader."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

import flask

from . import _log, _options
from ._launch import THREADS_DEFAULT, launch

if TYPE_CHECKING:
    from ._socketio import SocketIO

log = logging.getLogger("flask_shardcast")

#: How long the main thread waits at a time: signals are handled in between.
_PATIENCE_SECONDS = 0.5


def run(owner: SocketIO, app: flask.Flask, host: str | None, port: int | None, options: dict[str, Any]) -> None:
    """Serves until :meth:`SocketIO.stop`, SIGINT or SIGTERM."""
    launch.has_served = True
    debug = options.pop("debug", None)
    app.debug = app.debug if debug is None else bool(debug)
    use_reloader = options.pop("use_reloader", None)
    reloader_options = dict(options.pop("reloader_options", None) or {})
    extra_files = options.pop("extra_files", None)
    if extra_files:
        reloader_options["extra_files"] = extra_files
    owner._logs_pages = bool(options.pop("log_output", None) if "log_output" in options else app.debug)
    if app.debug if use_reloader is None else use_reloader:
        from werkzeug._reloader import run_with_reloader
        run_with_reloader(lambda: _serve(owner, app, host, port, options), **reloader_options)
    else:
        _serve(owner, app, host, port, options)


def _serve(owner: SocketIO, app: flask.Flask, host: str | None, port: int | None, options: dict[str, Any]) -> None:
    addresses = start(owner, app, host, port, options)
    for address in addresses:
        log.info("serving on %s%s", address, " (debug mode)" if app.debug else "")
    owner._stopped.clear()
    restore = _stop_at_signals(owner)
    try:
        while not owner._stopped.wait(_PATIENCE_SECONDS):
            pass
    except KeyboardInterrupt:
        pass
    finally:
        restore()
        stop(owner)


def start(owner: SocketIO, app: flask.Flask, host: str | None = None, port: int | None = None,
          options: dict[str, Any] | None = None) -> list[str]:
    """Starts the server and returns where it listens."""
    options = dict(options or {})
    if owner.server is None or owner.app is None:
        owner.init_app(app)
    threads = launch.threads or options.pop("threads", None) or THREADS_DEFAULT
    options.pop("threads", None)
    variables = _options.settings(owner.server_options)
    variables.update(_options.tls(options))
    shards = options.pop("shards", None)
    if shards is not None:
        variables["shards"] = str(shards)
    variables["bind"] = _bind(app, host, port)
    variables.setdefault("log", "warn")
    # Python's threads share the cores with the shards, and move.
    variables.setdefault("pin_shards", "false")
    # What the environment says of the same things counts.
    variables = {f"SHARDCAST_{name.upper()}": value for name, value in variables.items()}
    variables.update((name, value) for name, value in os.environ.items() if name.startswith("SHARDCAST_"))
    _options.warn_foreign(options)
    _log.forward(owner.server_options)
    owner._pages = _pages(app)
    core = owner._make_core(threads)
    try:
        addresses = core.start(
            variables=variables, arguments=launch.arguments, namespaces=owner._patterns(), folders=_folders(app),
        )
    except OSError as error:
        sys.exit(f"flask_shardcast: {error}")
    owner._core = core
    return addresses


def stop(owner: SocketIO) -> None:
    """Ends the server, and waits until it has ended."""
    core, owner._core = owner._core, None
    if core is not None:
        core.stop()


def _bind(app: flask.Flask, host: str | None, port: int | None) -> str:
    if port is None:
        name = app.config.get("SERVER_NAME")
        port = int(name.rsplit(":", 1)[1]) if name and ":" in name else 5000
    host = host or "127.0.0.1"
    if host.startswith("unix:"):
        return host
    if host == "localhost":
        host = "127.0.0.1"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _pages(app: flask.Flask) -> Any:
    if not app.debug:
        return app
    from werkzeug.debug import DebuggedApplication
    return DebuggedApplication(app, evalex=True)


def _folders(app: flask.Flask) -> list[tuple[str, str]]:
    """The application's static folder, if the shards may serve it themselves: no code of the application's has a say in its files."""
    path, folder = app.static_url_path, app.static_folder
    if not path or path == "/" or not folder or not os.path.isdir(folder):
        return []
    has_hooks = bool(app.before_request_funcs.get(None) or app.after_request_funcs.get(None))
    is_wrapped = "wsgi_app" in vars(app)
    own = type(app)
    has_rules = own.send_static_file is not flask.Flask.send_static_file or own.get_send_file_max_age is not flask.Flask.get_send_file_max_age
    ages = app.config.get("SEND_FILE_MAX_AGE_DEFAULT")
    others = any(rule.rule.startswith(f"{path}/") and rule.endpoint != "static" for rule in app.url_map.iter_rules())
    if has_hooks or is_wrapped or has_rules or ages is not None or others:
        return []
    return [(path, str(folder))]


def _stop_at_signals(owner: SocketIO) -> Any:
    """SIGTERM ends the server as SIGINT does. In the reloader's child this is not the main thread, which has the signals."""
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    before = signal.signal(signal.SIGTERM, lambda *_: owner._stopped.set())
    return lambda: signal.signal(signal.SIGTERM, before)
