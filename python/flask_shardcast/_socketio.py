"""The class ``SocketIO``: what an application registers, and how it sends."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import flask

from . import _context, _options
from ._dispatch import Dispatcher
from ._json import Codec
from ._namespace import Namespace
from ._queue import Queue
from ._rooms import names_of
from ._server import Server

if TYPE_CHECKING:
    from ._native import Core
    from ._test_client import SocketIOTestClient

log = logging.getLogger("flask_shardcast")

Handler = TypeVar("Handler", bound=Callable[..., Any])


def _sid_of_request() -> str:
    """The id of the client whose event is handled, which Flask's types do not know of."""
    return flask.request.sid  # type: ignore[attr-defined]


class SocketIO:
    """Flask-SocketIO's class of this name. Give it the application, or call :meth:`init_app` later.

    Every option of Flask-SocketIO is taken; docs/flask.md says what each is here.
    """

    reason = Server.reason

    def __init__(self, app: flask.Flask | None = None, **kwargs: Any) -> None:
        self.app: Any = None
        self.server: Any = None
        self.server_options: dict[str, Any] = {}
        self.wsgi_server: Any = None
        self.sockio_mw: Any = None
        self.exception_handlers: dict[str, Callable[[Exception], Any]] = {}
        self.default_exception_handler: Callable[[Exception], Any] | None = None
        self.manage_session = True
        self.async_mode = "threading"
        self._handlers: dict[str, dict[str, Callable[..., Any]]] = {}
        self._namespaces: dict[str, Namespace] = {}
        self._dispatcher = Dispatcher(self)
        self._core: Any = None
        self._kit: Any = None
        self._stopped = threading.Event()
        self._has_warned = False
        #: The WSGI application that answers pages, and whether each request is logged.
        self._pages: Any = None
        self._logs_pages = False
        # Without an application it is for a process that only sends, if there is a queue; otherwise for a later `init_app`.
        if app is not None or "message_queue" in kwargs:
            self.init_app(app, **kwargs)
        else:
            self.server_options.update(kwargs)

    def init_app(self, app: flask.Flask | None, **kwargs: Any) -> None:
        """Gives it the application, and more options."""
        self.server_options.update(kwargs)
        options = self.server_options
        self.manage_session = options.pop("manage_session", self.manage_session)
        self._check_manager(options.get("client_manager"))
        queue = options.get("message_queue")
        if queue and not isinstance(options.get("client_manager"), Queue):
            options["client_manager"] = Queue(queue, options.get("channel") or "flask-socketio", app is None)
        # What is wrong with an option is said here, and not only once the server starts.
        _options.check(options)
        self.app = app
        self.server = Server(self, options)
        for namespace in self._namespaces.values():
            namespace._set_server(self.server)
        if app is not None:
            if not hasattr(app, "extensions"):
                app.extensions = {}
            app.extensions["socketio"] = self

    def _check_manager(self, manager: Any) -> None:
        if manager is None or isinstance(manager, Queue):
            return
        url = getattr(manager, "redis_url", None) or getattr(manager, "url", None)
        raise ValueError(
            f"client_manager={type(manager).__name__}(..) is not possible: the core speaks with the queue itself. "
            f"Say message_queue={url or 'redis://..'!r}, channel={getattr(manager, 'channel', 'socketio')!r}"
        )

    @property
    def handlers(self) -> list[tuple[str, Callable[..., Any], str]]:
        """What was registered: event, handler and namespace of each."""
        return [(event, handler, namespace) for namespace, handlers in self._handlers.items() for event, handler in handlers.items()]

    @property
    def namespace_handlers(self) -> list[Namespace]:
        """The class namespaces that were registered."""
        return list(self._namespaces.values())

    # Registration. It may go on while the server runs: handlers are looked up for each event.

    def on(self, message: str, namespace: str | None = None) -> Callable[[Handler], Handler]:
        """Registers a handler: ``@socketio.on('my event')``. ``'*'`` is every event that has none, or every namespace."""
        def register(handler: Handler) -> Handler:
            self._handlers.setdefault(namespace or "/", {})[message] = handler
            return handler
        return register

    def on_event(self, message: str, handler: Callable[..., Any], namespace: str | None = None) -> None:
        """The same without a decorator."""
        self.on(message, namespace=namespace)(handler)

    def event(self, *args: Any, **kwargs: Any) -> Any:
        """Registers a handler for the event that has the function's name: ``@socketio.event``."""
        if len(args) == 1 and not kwargs and callable(args[0]):
            return self.on(args[0].__name__)(args[0])
        return lambda handler: self.on(handler.__name__, *args, **kwargs)(handler)

    def on_namespace(self, namespace_handler: Namespace) -> None:
        """Registers a class namespace."""
        if not isinstance(namespace_handler, Namespace):
            raise ValueError("Not a namespace instance.")
        namespace_handler._set_socketio(self)
        namespace_handler._set_server(self.server)
        self._namespaces[namespace_handler.namespace] = namespace_handler

    def on_error(self, namespace: str | None = None) -> Callable[[Handler], Handler]:
        """Registers what handles the exceptions of a namespace's handlers: ``@socketio.on_error('/chat')``."""
        def register(handler: Handler) -> Handler:
            if not callable(handler):
                raise ValueError("exception_handler must be callable")
            self.exception_handlers[namespace or "/"] = handler
            return handler
        return register

    def on_error_default(self, exception_handler: Handler) -> Handler:
        """Registers what handles the exceptions of namespaces that have nothing of their own for it."""
        if not callable(exception_handler):
            raise ValueError("exception_handler must be callable")
        self.default_exception_handler = exception_handler
        return exception_handler

    def _registered(self) -> set[str]:
        """The namespaces that clients may connect to."""
        more = self.server_options.get("namespaces") or ()
        return {"/", *self._handlers, *self._namespaces, *([more] if isinstance(more, str) else more)}

    def _patterns(self) -> list[str]:
        """What the core lets through to the connect handler: every namespace, because one may be registered while the server runs."""
        return sorted(self._registered() | {"*"})

    def _accepts(self, namespace: str) -> bool:
        """Whether clients may connect to a namespace."""
        if namespace == "/" or namespace in self._handlers or namespace in self._namespaces:
            return True
        registered = self._registered()
        return namespace in registered or "*" in registered

    def _handle_event(self, handler: Callable[..., Any], message: str | None, namespace: str, sid: str, *args: Any) -> Any:
        """What class namespaces with a ``trigger_event`` of their own call, as in Flask-SocketIO."""
        return self._dispatcher.handle_event(handler, message, namespace, args)

    # Sending

    def emit(self, event: str, *args: Any, **kwargs: Any) -> None:
        """Sends an event to everybody in a namespace, or to ``to``: from anywhere, handlers, pages and threads."""
        namespace = kwargs.pop("namespace", "/")
        to = kwargs.pop("to", None) or kwargs.pop("room", None)
        include_self = kwargs.pop("include_self", True)
        skip_sid = kwargs.pop("skip_sid", None)
        if not include_self and not skip_sid:
            skip_sid = _sid_of_request()
        callback = kwargs.pop("callback", None)
        ignore_queue = kwargs.pop("ignore_queue", False)
        data = args[0] if args else kwargs.pop("data", None)
        if len(args) > 1:
            raise TypeError("emit() takes one argument with data; give several as a tuple: emit('my event', (1, 2))")
        if kwargs:
            raise TypeError(f"emit() got an unexpected keyword argument {next(iter(kwargs))!r}")
        self._emit(event, data, namespace, to, skip_sid, callback, ignore_queue)

    @property
    def _is_plain(self) -> bool:
        """Whether :meth:`emit` is ours: a subclass or a test may have another."""
        return type(self).emit is SocketIO.emit and "emit" not in self.__dict__

    def send(self, data: Any, json: bool = False, namespace: str | None = None, to: Any = None, callback: Callable[..., Any] | None = None,
             include_self: bool = True, skip_sid: Any = None, **kwargs: Any) -> None:
        """Sends a ``message`` event, or with ``json=True`` a ``json`` event."""
        to = to or kwargs.pop("room", None)
        self.emit("json" if json else "message", data, namespace=namespace or "/", to=to, callback=callback, include_self=include_self,
                  skip_sid=skip_sid, **kwargs)

    def call(self, event: str, *args: Any, **kwargs: Any) -> Any:
        """Sends an event to one client and waits for its answer: None, a value, or a tuple of several."""
        namespace = kwargs.pop("namespace", "/")
        to = kwargs.pop("to", None) or kwargs.pop("room", None)
        return self.server.call(event, *args, namespace=namespace, to=to, **kwargs)

    def close_room(self, room: Any, namespace: str | None = None) -> None:
        """Has everybody leave a room."""
        self.server.close_room(room, namespace)

    def _emit(self, event: str, data: Any, namespace: str, to: Any, skip_sid: Any, callback: Callable[..., Any] | None,
              ignore_queue: bool = False) -> None:
        if not to and to is not None:
            self._warn_everybody(to)
            to = None
        if self._core is None:
            return self._emit_from_elsewhere(event, data, namespace, to, skip_sid, callback)
        handled = _context.current.get(None)
        if callback is not None and handled is not None:
            callback = self._dispatcher.within(callback, handled.client)
        client = handled.client if handled is not None else None
        if client is not None and to is client.sid and not skip_sid and namespace == client.namespace:
            return self._core.emit_to_client(client, event, data, callback)
        self._core.emit(event, data, namespace, names_of(to), names_of(skip_sid or None), callback, ignore_queue, client)

    def _warn_everybody(self, to: Any) -> None:
        if not self._has_warned:
            self._has_warned = True
            log.warning("emit(to=%r) is sent to everybody, as Flask-SocketIO does with an empty receiver; say broadcast=True if that is "
                        "meant. This is said once", to)

    def _emit_from_elsewhere(self, event: str, data: Any, namespace: str, to: Any, skip_sid: Any, callback: Any) -> None:
        """From a process that serves nobody: through the message queue."""
        queue = self.server_options.get("client_manager")
        if not isinstance(queue, Queue):
            # Nobody is connected to a server that does not run.
            return
        if callback is not None:
            raise RuntimeError("Callbacks can only be issued from the context of a server.")
        queue.emit(event, data, namespace, names_of(to), names_of(skip_sid or None), self._codec(), self._default())

    # Running

    def run(self, app: flask.Flask, host: str | None = None, port: int | None = None, **kwargs: Any) -> None:
        """Serves the application until it is asked to stop: pages and Socket.IO on one port. See docs/flask.md for the options."""
        from . import _run
        _run.run(self, app, host, port, kwargs)

    def stop(self) -> None:
        """Ends the server, from any thread."""
        self._stopped.set()

    def start_background_task(self, target: Callable[..., Any], *args: Any, **kwargs: Any) -> threading.Thread:
        """Runs a function on a thread of its own."""
        thread = threading.Thread(target=target, args=args, kwargs=kwargs, daemon=True)
        thread.start()
        return thread

    def sleep(self, seconds: float = 0) -> None:
        """Waits, and lets other handlers run meanwhile."""
        if self._core is not None:
            self._core.about_to_block()
        time.sleep(seconds)

    def test_client(self, app: flask.Flask, namespace: str | None = None, query_string: str | None = None,
                    headers: Any = None, auth: Any = None, flask_test_client: Any = None) -> SocketIOTestClient:
        """A client for tests: on real shards, which run in the test's own thread, without a port."""
        from ._test_client import SocketIOTestClient
        return SocketIOTestClient(app, self, namespace=namespace, query_string=query_string, headers=headers, auth=auth,
                                  flask_test_client=flask_test_client)

    # For the native half

    def _need_core(self) -> Core:
        if self._core is None:
            raise RuntimeError("the server does not run: call socketio.run(app), or start it with `python -m flask_shardcast`")
        return self._core

    def _make_core(self, threads: int) -> Core:
        from ._native import Core
        is_ordered = not self.server_options.get("async_handlers", True)
        return Core(self._dispatcher, threads, is_ordered, self._codec(), self._default())

    def _codec(self) -> Codec | None:
        """A module of the application's that reads and writes JSON. Flask's own is the native one, which asks the application for types."""
        module = self.server_options.get("json")
        return None if module is None or _options.is_flask_json(module) else Codec(module)

    def _default(self) -> Callable[[Any], Any] | None:
        """What makes JSON of types that JSON does not know, with ``json=flask.json``."""
        if not _options.is_flask_json(self.server_options.get("json")) or self.app is None:
            return None
        return getattr(self.app.json, "default", None)
