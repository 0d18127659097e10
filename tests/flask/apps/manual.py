"""Runs one program of the manual, as it stands there, with a test client for each of its handlers, and prints what came of it.

    manual.py FILE      on either server; what a program leaves out (app, socketio, imports) is here
"""

import contextlib
import inspect
import io
import json
import sys

import flask_socketio
from flask import Flask, render_template, request, session  # noqa: F401
from flask_socketio import *  # noqa: F401, F403
from flask_socketio import Namespace, SocketIO

#: What handlers are given: the manual's rooms and texts.
OBJECT = {"username": "ada", "room": "tea", "data": "text"}
found = []


def noted(original):
    """A registration that is also kept here."""

    def register(self, *args, **kwargs):
        result = original(self, *args, **kwargs)
        if len(args) == 1 and callable(args[0]) and not kwargs:
            found.append((args[0].__name__, "/", args[0]))
            return result
        if original.__name__ == "on_event":
            found.append((args[0], kwargs.get("namespace", "/"), args[1]))
            return result

        def decorator(handler):
            found.append((args[0] if args else handler.__name__, kwargs.get("namespace") or "/", handler))
            return result(handler)

        return decorator

    register.__name__ = original.__name__
    return register


for name in ("on", "event", "on_event"):
    setattr(SocketIO, name, noted(getattr(SocketIO, name)))


def values_for(handler):
    """Each way to call it that is tried: texts and objects for as many as it takes."""
    count = len([each for each in inspect.signature(handler).parameters.values() if each.default is each.empty])
    return [["text"] * count, [OBJECT] * count] if count else [[]]


def told(error):
    return f"{type(error).__name__}: {error}"


def main():
    with open(sys.argv[1]) as file:
        source = file.read()
    app = Flask("manual")
    app.config["SECRET_KEY"] = "manual"
    names = dict(globals(), app=app, socketio=SocketIO(app), __name__="manual")
    printed, seen = io.StringIO(), []
    with contextlib.redirect_stdout(printed):
        try:
            exec(compile(source, "manual", "exec"), names)
        except Exception as error:
            seen.append(told(error))
        else:
            app, socketio = names["app"], names["socketio"]
            with_functions(app, socketio, names, seen)
            handlers = dict.fromkeys((event, namespace or "/") for event, namespace, _ in found)
            for event, namespace in handlers:
                handler = [each for name, space, each in found if (name, space or "/") == (event, namespace)][-1]
                if event not in ("connect", "disconnect") and isinstance(event, str):
                    seen += tries(app, socketio, event, namespace, values_for(handler))
            for each in [each for each in names.values() if isinstance(each, type) and issubclass(each, Namespace) and each is not Namespace]:
                seen += tries(app, socketio, "my_event", "/test", [[OBJECT]])
            if any(event in ("connect", "disconnect") for event, _ in handlers):
                seen += tries(app, socketio, "no such event", "/", [[]])
    json.dump({"handlers": sorted(f"{namespace} {event}" for event, namespace, _ in found), "seen": seen, "printed": printed.getvalue().splitlines()}, sys.stdout)


def with_functions(app, socketio, names, seen):
    """Functions that the manual calls from elsewhere."""
    if callable(names.get("some_function")):
        client = socketio.test_client(app)
        names["some_function"]()
        seen.append(plain(client.get_received()))


def tries(app, socketio, event, namespace, values):
    seen = []
    for arguments in values:
        try:
            client = socketio.test_client(app, namespace=namespace)
            seen.append([namespace, "connected", client.is_connected(namespace), plain(client.get_received(namespace))])
            answer = client.emit(event, *arguments, namespace=namespace, callback=True)
            seen.append([event, answer, plain(client.get_received(namespace)) if client.is_connected(namespace) else "gone"])
            client.disconnect(namespace)
        except Exception as error:
            seen.append([event, told(error)])
    return seen


def plain(received):
    return [[each["name"], each["args"], each["namespace"]] for each in received]


assert flask_socketio
main()
