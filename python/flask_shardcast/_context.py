"""Flask's contexts around one event, made only as far as the handler looks.

Flask-SocketIO builds a request context for every event: a request, a match of its URL, a session from its cookie. Here one small
object stands in for both of Flask's contexts, and request, session and g come into being when somebody asks for them. What runs at
the end of a context (teardown functions, on which database sessions rely) runs all the same.

It rests on the context variables of Flask, which have private names. Where they have gone, :class:`WholeContext` uses Flask's own
contexts: right, and much slower.
"""

from __future__ import annotations

import contextvars
import io
import sys
from typing import TYPE_CHECKING, Any

import flask
from flask import globals as flask_globals
from flask import signals
from flask.sessions import SessionMixin

if TYPE_CHECKING:
    from ._native import Client

_cv_app: Any = getattr(flask_globals, "_cv_app", None)
#: Flask 3.2 has one context for both.
_cv_request: Any = getattr(flask_globals, "_cv_request", None)

#: The event whose handler runs, if one does.
current: contextvars.ContextVar[EventContext] = contextvars.ContextVar("flask_shardcast.event")


class ManagedSession(dict, SessionMixin):
    """The copy of a session that the handlers of one connection share, and that no page sees."""


class EventContext:
    """Stands in for Flask's AppContext and RequestContext while a handler runs."""

    __slots__ = ("app", "client", "event", "args", "manage_session", "flashes", "preserved", "_after_request_functions",
                 "_g", "_request", "_session", "_tokens", "_url_adapter", "__weakref__")

    def __init__(self, app: flask.Flask, client: Client, event: str | None, args: tuple, manage_session: bool) -> None:
        self.app = app
        self.client = client
        self.event = event
        self.args = args
        self.manage_session = manage_session
        self.flashes = None
        self.preserved = False
        self._after_request_functions: list = []
        self._g: Any = None
        self._request: Any = None
        self._session: Any = None
        self._tokens: Any = None
        self._url_adapter: Any = None

    # What Flask's proxies ask for

    @property
    def g(self) -> Any:
        if self._g is None:
            self._g = self.app.app_ctx_globals_class()
        return self._g

    @property
    def environ(self) -> dict:
        return environ_of(self.client, self.app)

    @property
    def request(self) -> Any:
        request: Any = self._request
        if request is None:
            client, app = self.client, self.app
            deferred = _deferred.get(app.request_class) or _defer(app.request_class)
            self._request = request = deferred.__new__(deferred)
            of = (client, app, self.event, self.args)
            request.__dict__.update(sid=client.sid, namespace=client.namespace, _of=of)
        return request

    @property
    def session(self) -> Any:
        session = self._session
        if session is None:
            self._session = session = self._managed() if self.manage_session else self._opened()
        return session

    @property
    def url_adapter(self) -> Any:
        if self._url_adapter is None:
            self._url_adapter = self.app.create_url_adapter(self.request)
        return self._url_adapter

    @property
    def has_request(self) -> bool:
        """Flask 3.2 asks its one context for this."""
        return True

    def _managed(self) -> Any:
        # The cookie does not change after the handshake, so it makes no difference when the copy is made.
        environ = self.environ
        session = environ.get("saved_session")
        if session is None:
            session = environ["saved_session"] = ManagedSession(self._opened())
        return session

    def _opened(self) -> Any:
        interface = self.app.session_interface
        session = interface.open_session(self.app, self.request)
        return interface.make_null_session(self.app) if session is None else session

    # Around the handler

    def enter(self) -> None:
        """Makes this the context of what follows, for good: an event has a `contextvars.Context` of its own."""
        _cv_app.set(self)
        if _cv_request is not None:
            _cv_request.set(self)
        current.set(self)

    def save_session(self) -> None:
        """Saves the session if a handler has looked at it, and it is Flask's to save."""
        session = self._session
        if session is not None and not self.manage_session and getattr(session, "modified", True):
            self.app.session_interface.save_session(self.app, session, self.app.response_class())

    def close(self, error: BaseException | None = None) -> None:
        """Runs what an application has registered for the end of a request and of a context."""
        app = self.app
        try:
            # An event matches no route, so it has no blueprint, whose own functions would run first.
            for function in reversed(app.teardown_request_funcs.get(None, ())):
                app.ensure_sync(function)(error)
            if _has_receivers(signals.request_tearing_down):
                signals.request_tearing_down.send(app, exc=error)
        finally:
            if app.teardown_appcontext_funcs or _has_receivers(signals.appcontext_tearing_down):
                app.do_teardown_appcontext(error)

    # For `copy_current_request_context`, and what else uses a context with `with`

    def copy(self) -> EventContext:
        copied = type(self)(self.app, self.client, self.event, self.args, self.manage_session)
        copied._request, copied._session = self._request, self._session
        return copied

    def push(self) -> None:
        in_request = _cv_request.set(self) if _cv_request is not None else None
        self._tokens = (_cv_app.set(self), in_request, current.set(self))

    def pop(self, error: BaseException | None = None) -> None:
        tokens, self._tokens = self._tokens, None
        try:
            self.close(error)
        finally:
            if tokens is not None:
                in_app, in_request, in_event = tokens
                current.reset(in_event)
                if in_request is not None:
                    _cv_request.reset(in_request)
                _cv_app.reset(in_app)

    def __enter__(self) -> EventContext:
        self.push()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self.pop(error)


#: By the application's class of requests.
_deferred: dict[type, type] = {}


def _defer(request_class: type) -> type:
    """A class of requests that are made when somebody looks at more of one than what tells an event's sender.

    Most handlers ask for ``request.sid`` alone, and to make a request takes longer than all else around such a handler.
    """

    class Deferred(request_class):
        def __getattr__(self, name: str) -> Any:
            known = self.__dict__
            client, app, event, args = known.pop("_of")
            environ = environ_of(client, app)
            # What was set before is newer than what a request begins with.
            set_before = {"event": _told(environ, event, args), **known}
            self.__class__ = request_class
            self.__init__(environ)
            known.update(set_before)
            return getattr(self, name)

    Deferred.__name__, Deferred.__qualname__ = request_class.__name__, request_class.__qualname__
    Deferred.__module__, Deferred.__doc__ = request_class.__module__, request_class.__doc__
    return _deferred.setdefault(request_class, Deferred)


class WholeContext(EventContext):
    """The same on Flask's own request context, made anew for every event as Flask-SocketIO does."""

    __slots__ = ("_whole",)

    def enter(self) -> None:
        environ = self.environ
        self._whole = whole = self.app.request_context(environ)
        whole.push()
        request: Any = flask.request
        request.sid = self.client.sid
        request.namespace = self.client.namespace
        request.event = _told(environ, self.event, self.args)
        if self.manage_session:
            session = environ.get("saved_session")
            if session is None:
                session = environ["saved_session"] = ManagedSession(flask.session)
            # Flask 3.1.3 has renamed it.
            setattr(whole, "_session" if hasattr(whole, "_session") else "session", session)
        self._session = flask.session
        self._tokens = current.set(self)

    def push(self) -> None:
        self.enter()

    def close(self, error: BaseException | None = None) -> None:
        self._whole.pop(error)

    def pop(self, error: BaseException | None = None) -> None:
        current.reset(self._tokens)
        self.close(error)


#: What events run in.
Context: type[EventContext] = EventContext if _cv_app is not None else WholeContext


def _told(environ: dict, event: str | None, args: tuple) -> dict:
    """``request.event``. A connect event has the environment as its first argument."""
    return {"message": event, "args": (environ, *args) if event == "connect" else args}


def _has_receivers(signal: Any) -> bool:
    """Whether anybody listens. Without blinker the signals of Flask 2.2 are stand-ins, to which nobody can."""
    return bool(getattr(signal, "receivers", None))


def environ_of(client: Client, app: flask.Flask) -> dict:
    """The environment of the client's handshake, made when it is first asked for."""
    environ = client.connection.environ
    if "flask.app" not in environ:
        complete(environ)
        environ["wsgi.input"] = io.BytesIO()
        environ["flask.app"] = app
    return environ


def complete(environ: dict) -> None:
    """Adds what PEP 3333 wants of a server and is not in the request."""
    host = environ.get("HTTP_HOST") or "127.0.0.1"
    name, colon, port = host.rpartition(":")
    if not colon or not port.isdecimal():
        name, port = host, ""
    scheme = environ.setdefault("wsgi.url_scheme", "http")
    environ.setdefault("SERVER_NAME", name)
    environ.setdefault("SERVER_PORT", port or ("443" if scheme in ("https", "wss") else "80"))
    environ["wsgi.version"] = (1, 0)
    environ["wsgi.errors"] = sys.stderr
    environ["wsgi.multithread"] = True
    environ["wsgi.multiprocess"] = False
    environ["wsgi.run_once"] = False
