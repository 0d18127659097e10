"""Runs an application whose `flask_socketio` is this package: ``python -m flask_shardcast [settings] app.py [its arguments]``."""

from __future__ import annotations

import importlib
import os
import runpy
import sys
from typing import Any, NoReturn

from . import install
from ._launch import launch

USAGE = """usage: python -m flask_shardcast [SETTINGS] APP.py [ARGUMENTS OF APP.py]
       python -m flask_shardcast [SETTINGS] MODULE:APPLICATION

Runs a Flask-SocketIO application on shardcast, unchanged. APPLICATION is a Flask application, or a call that makes one: myapp:app,
myapp:create_app().

settings, each as --NAME VALUE or --NAME=VALUE; they win over what the program says:
  --bind ADDRESS:PORT   where to listen; unix:PATH is a socket file; several with commas. Default: what run() is given, 127.0.0.1:5000
  --shards NUMBER       threads for the network. Default: the CPUs
  --threads NUMBER      threads for handlers and pages. Default: 64
  --config FILE         a file with settings, in TOML
  --settings            lists all settings of the core
  --help                this
"""


def main(arguments: list[str] | None = None) -> None:
    """Reads the command line and runs what it names."""
    program, rest = _read(sys.argv[1:] if arguments is None else arguments)
    install()
    if _is_script(program):
        _run_script(program, rest)
    else:
        _run_module(program, rest)


def _is_script(program: str) -> bool:
    return program.endswith(".py") or os.path.exists(program)


def _read(arguments: list[str]) -> tuple[str, list[str]]:
    """Takes the settings off, and returns the program with its own arguments."""
    from ._native import setting_needs_value, settings_help
    rest = list(arguments)
    while rest and rest[0].startswith("-"):
        argument = rest.pop(0)
        if argument in ("-h", "--help"):
            print(USAGE, end="")
            sys.exit(0)
        if argument == "--settings":
            print(settings_help(), end="")
            sys.exit(0)
        name, equals, value = argument.partition("=")
        if not name.startswith("--"):
            _fail(f"{argument} is no setting; settings have two dashes")
        try:
            needs_value = name == "--threads" or setting_needs_value(name)
        except OSError as error:
            _fail(str(error))
        if not equals:
            if needs_value:
                if not rest:
                    _fail(f"{name} needs a value")
                value = rest.pop(0)
            elif rest and rest[0] in ("true", "false"):
                value = rest.pop(0)
            else:
                value = "true"
        _take(name, value)
    if not rest:
        _fail("no application is named")
    return rest[0], rest[1:]


def _take(name: str, value: str) -> None:
    if name == "--threads":
        if not value.isdecimal() or not 2 <= int(value) <= 10_000:
            _fail(f"--threads {value}: it is a number from 2 to 10000")
        launch.threads = int(value)
        return
    launch.arguments.append(f"{name}={value}")


def _fail(text: str) -> NoReturn:
    sys.exit(f"flask_shardcast: {text}\n\n{USAGE}")


def _run_script(path: str, arguments: list[str]) -> None:
    """As `python app.py` would. A script that leaves the start to somebody else is served when it has ended."""
    sys.argv = [path, *arguments]
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    _serve_what_flask_runs()
    names = runpy.run_path(path, run_name="__main__")
    if not launch.has_served and not _only_emits(names):
        _serve(_application_in(names, path))


def _only_emits(names: dict[str, Any]) -> bool:
    """Whether a script is done when it has ended: it has a SocketIO without an application, to emit through a queue."""
    import flask

    from ._socketio import SocketIO
    values = list(names.values())
    return any(isinstance(value, SocketIO) and value.app is None for value in values) and not any(isinstance(value, flask.Flask) for value in values)


def _run_module(program: str, arguments: list[str]) -> None:
    name, colon, expression = program.partition(":")
    sys.argv = [name, *arguments]
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    module = importlib.import_module(name)
    if not colon:
        _serve(_application_in(vars(module), name))
        return
    called = expression.removesuffix("()")
    found: Any = module
    for part in called.split("."):
        if not hasattr(found, part):
            _fail(f"{program}: {name} has no {called!r}")
        found = getattr(found, part)
    _serve(found() if expression.endswith("()") else found)


def _application_in(names: dict[str, Any], where: str) -> Any:
    """The application among a module's names: that of a SocketIO, else the one that is called `app` or `application`."""
    import flask

    from ._socketio import SocketIO
    for value in names.values():
        if isinstance(value, SocketIO) and value.app is not None:
            return value.app
    for name in ("app", "application"):
        if isinstance(names.get(name), flask.Flask):
            return names[name]
    factory = next((name for name in ("create_app", "make_app") if callable(names.get(name))), None)
    advice = f"it has a {factory}: say {where.removesuffix('.py')}:{factory}()" if factory else "say MODULE:APPLICATION"
    _fail(f"{where} has no Flask application in it that is called app; {advice}")


def _serve(found: Any) -> None:
    import flask

    from ._socketio import SocketIO
    if isinstance(found, SocketIO):
        found = found.app
    if not isinstance(found, flask.Flask):
        _fail(f"{found!r} is no Flask application")
    socketio = found.extensions.get("socketio")
    if not isinstance(socketio, SocketIO):
        # An application without Socket.IO has its pages served all the same.
        socketio = SocketIO(found)
    if not launch.has_served:
        socketio.run(found)


def _serve_what_flask_runs() -> None:
    """`app.run()` starts Werkzeug's server, which speaks no WebSocket: it starts this one instead, if the application has a SocketIO."""
    import flask
    flask_run = flask.Flask.run

    def run(self: flask.Flask, host: str | None = None, port: int | None = None, debug: bool | None = None, load_dotenv: bool = True,
            **options: Any) -> None:
        socketio = self.extensions.get("socketio")
        if socketio is None:
            return flask_run(self, host, port, debug, load_dotenv, **options)
        socketio.run(self, host=host, port=port, debug=debug, **options)
        return None

    flask.Flask.run = run  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
