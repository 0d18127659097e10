"""From what the shards give away to the handlers of an application: one method for each kind of job.

The native half calls them on threads of the pool, in the order of each socket. Each event runs in a `contextvars.Context` of its own,
as if it had a thread to itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextvars import Context as VariableContext
from typing import TYPE_CHECKING, Any

from . import _context, _wsgi
from ._errors import refused_by
from ._signatures import call, call_with, takes

if TYPE_CHECKING:
    from ._native import Client, Exchange
    from ._socketio import SocketIO

log = logging.getLogger("flask_shardcast")

#: There was no handler, or it failed: nothing is acknowledged.
NO_ACK = object()

#: Events that only the server makes; a client that sends one of these names is not heard.
_RESERVED = ("connect", "disconnect")

_REFUSED = "Connection rejected by server"
_REFUSED_ELSEWHERE = "Connection refused by server"

#: Reasons are Node's in the core; these have another name in Python.
_REASONS = {
    "client namespace disconnect": "client disconnect",
    "server namespace disconnect": "server disconnect",
    "server shutting down": "server disconnect",
    "token expired": "server disconnect",
    "slow consumer": "transport error",
    "parse error": "transport error",
    "rate exceeded": "transport error",
    "forced close": "transport close",
}


class Dispatcher:
    """Runs the handlers of one :class:`SocketIO`."""

    NO_ACK = NO_ACK

    def __init__(self, owner: SocketIO) -> None:
        self.owner = owner
        #: What handlers have raised, for a test client; None where no test looks.
        self.raised: list[BaseException] | None = None
        #: The environment of the next connection, in a test.
        self.next_environ: dict | None = None
        self.context = _context.Context

    # One method for each kind of job

    def event(self, client: Client, event: str, args: tuple) -> Any:
        return VariableContext().run(self._event, client, event, args)

    def connect(self, client: Client, auth: Any) -> tuple[str, Any] | None:
        """None lets the client in; otherwise the message and the data that it is refused with."""
        # As upstream: no auth, and an empty one, are None.
        return VariableContext().run(self._connect, client, auth or None)

    def disconnect(self, client: Client, reason: str) -> None:
        VariableContext().run(self._disconnect, client, _REASONS.get(reason, reason))

    def answer(self, callback: Callable[..., Any], args: tuple) -> None:
        VariableContext().run(callback, *args)

    def request(self, exchange: Exchange) -> None:
        VariableContext().run(_wsgi.serve, self.owner, exchange)

    def failed(self, error: BaseException) -> None:
        """What no handler of errors has taken, or what cannot be sent."""
        if self.raised is not None:
            self.raised.append(error)
        else:
            log.error("a handler failed: %s", type(error).__name__, exc_info=error)

    # What they do

    def _event(self, client: Client, event: str, args: tuple) -> Any:
        owner = self.owner
        handlers = owner._handlers.get(client.namespace)
        handler = handlers.get(event) if handlers else None
        if handler is None or event in _RESERVED:
            handler, args = self._find(client, event, args)
            if handler is None:
                return NO_ACK
        context = self.context(owner.app, client, event, args, owner.manage_session)
        context.enter()
        failure = None
        try:
            result = handler(*args)
            if context._session is not None:
                context.save_session()
            return result
        except Exception as error:
            failure = error
            return self._handled(client.namespace, error, event)
        finally:
            context.close(failure)

    def _find(self, client: Client, event: str, args: tuple) -> tuple[Callable[..., Any] | None, tuple]:
        """The handler of an event, and what it is given. Of functions the nearest counts, then of classes."""
        if event in _RESERVED:
            return None, args
        for namespace in (client.namespace, "*"):
            handlers = self.owner._handlers.get(namespace)
            if handlers:
                if event in handlers:
                    return handlers[event], args
                if "*" in handlers:
                    return handlers["*"], (event, *args)
        instance = self._instance(client.namespace)
        if instance is None:
            return None, args
        return lambda *given: instance.trigger_event(event, client.sid, *given), args

    def _instance(self, namespace: str) -> Any:
        namespaces = self.owner._namespaces
        return namespaces.get(namespace) or namespaces.get("*")

    def _function(self, namespace: str, event: str) -> Callable[..., Any] | None:
        """A function that is registered for connect or disconnect, which no catch-all stands in for."""
        handlers = self.owner._handlers
        return handlers.get(namespace, {}).get(event) or handlers.get("*", {}).get(event)

    def _connect(self, client: Client, auth: Any) -> tuple[str, Any] | None:
        if self.next_environ is not None:
            environ = client.connection.environ
            environ.clear()
            environ.update(self.next_environ)
        if not self.owner._accepts(client.namespace):
            return "Invalid namespace", None
        if not self._is_origin_allowed(client):
            return "Not an accepted origin.", None
        handler = self._function(client.namespace, "connect")
        instance: Any = self._instance(client.namespace) if handler is None else None
        if handler is None and instance is None:
            return None
        context = self.context(self.owner.app, client, "connect", (auth,), self.owner.manage_session)
        context.enter()
        failure = None
        try:
            if handler is not None:
                verdict = call_with(handler, auth)
            else:
                verdict = instance.trigger_event("connect", client.sid, context.environ, auth)
            if context._session is not None:
                context.save_session()
            return (_REFUSED, None) if verdict is False else None
        except Exception as error:
            failure = error
            return self._refused(client.namespace, error)
        finally:
            context.close(failure)

    def _is_origin_allowed(self, client: Client) -> bool:
        """Asks the function that an application gave as `cors_allowed_origins`, about pages of another site."""
        allowed = self.owner.server_options.get("cors_allowed_origins")
        if not callable(allowed):
            return True
        environ = _context.environ_of(client, self.owner.app)
        origin = environ.get("HTTP_ORIGIN")
        if origin is None:
            return True
        try:
            return bool(allowed(origin, environ) if takes(allowed, 2) else allowed(origin))
        except Exception as error:
            self.failed(error)
            return False

    def _refused(self, namespace: str, error: Exception) -> tuple[str, Any]:
        """A connect handler that fails refuses, whatever an error handler makes of it: nobody is let in by mistake."""
        told = refused_by(error)
        if told is not None:
            return told["message"], told.get("data")
        try:
            self._handled(namespace, error, "connect")
        except Exception as again:
            self.failed(again)
        # Python's own is of a service that the handler has asked in vain.
        return (_REFUSED_ELSEWHERE if isinstance(error, ConnectionRefusedError) else _REFUSED), None

    def _disconnect(self, client: Client, reason: str) -> None:
        handler = self._function(client.namespace, "disconnect")
        instance: Any = self._instance(client.namespace) if handler is None else None
        if handler is None and instance is None:
            return
        context = self.context(self.owner.app, client, "disconnect", (reason,), self.owner.manage_session)
        context.enter()
        failure = None
        try:
            if handler is not None:
                call_with(handler, reason)
            else:
                instance.trigger_event("disconnect", client.sid, reason)
            if context._session is not None:
                context.save_session()
        except Exception as error:
            failure = error
            self._handled(client.namespace, error, "disconnect")
        finally:
            context.close(failure)

    def _handled(self, namespace: str, error: Exception, event: str | None) -> Any:
        """What the error handler of a namespace answers in place of the handler. Without one: the log."""
        owner = self.owner
        on_error = owner.exception_handlers.get(namespace, owner.default_exception_handler)
        if on_error is not None and refused_by(error) is None:
            return on_error(error)
        if self.raised is not None:
            raise error
        log.error("the handler of %r in %r failed: %s", event, namespace, type(error).__name__, exc_info=error)
        return NO_ACK

    # For callbacks, and for namespaces that call this themselves

    def within(self, callback: Callable[..., Any], client: Client) -> Callable[..., Any]:
        """A callback that runs in the context of a client, as that client's handlers do."""
        def run(*args: Any) -> Any:
            context = self.context(self.owner.app, client, None, args, self.owner.manage_session)
            context.enter()
            failure = None
            try:
                return callback(*args)
            except Exception as error:
                failure = error
                return self._handled(client.namespace, error, None)
            finally:
                context.close(failure)
        return run

    def handle_event(self, handler: Callable[..., Any], event: str | None, namespace: str, args: tuple) -> Any:
        """Calls a class namespace's method, in the context that its event has already."""
        try:
            return call(handler, event, args)
        except Exception as error:
            on_error = self.owner.exception_handlers.get(namespace, self.owner.default_exception_handler)
            if on_error is None or refused_by(error) is not None:
                raise
            return on_error(error)
