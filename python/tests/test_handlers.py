"""What handlers see and say, by the test client: on one shard and on three."""

import flask
import pytest
from flask import copy_current_request_context, current_app, g, request, session

from flask_shardcast import (
    ConnectionRefusedError, Namespace, SocketIO, close_room, disconnect, emit, join_room, leave_room, rooms, send,
)


@pytest.fixture(autouse=True, params=["1", "3"])
def shards(request, monkeypatch):
    monkeypatch.setenv("SHARDCAST_SHARDS", request.param)


def names(client, namespace=None):
    return [(event["name"], event["args"]) for event in client.get_received(namespace)]


def test_answers(app, socketio):
    answers = {"nothing": None, "empty": (), "list": [], "several": ("one", 2), "false": False, "none": (None,), "bytes": b"\x00\x01"}

    @socketio.on("ask")
    def ask(what):
        return answers[what]

    client = socketio.test_client(app)
    found = {what: client.emit("ask", what, callback=True) for what in answers}
    assert found == {"nothing": [], "empty": [], "list": [], "several": ["one", 2], "false": False, "none": None, "bytes": b"\x00\x01"}
    assert client.emit("nobody handles this", callback=True) is None


def test_request_and_contexts(app, socketio):
    seen = {}

    @socketio.event
    def look(value):
        seen.update(sid=request.sid, namespace=request.namespace, event=request.event, ip=request.remote_addr, args=request.args["a"],
                    header=request.headers["X-One"], app=current_app.name, path=request.path, url=flask.url_for("page"))
        g.value = value
        return flask.has_request_context(), flask.has_app_context(), g.value

    @app.route("/page")
    def page():
        return "page"

    client = socketio.test_client(app, query_string="?a=1", headers={"X-One": "1"})
    assert client.emit("look", 5, callback=True) == [True, True, 5]
    assert seen["event"] == {"message": "look", "args": (5,)}
    assert (seen["namespace"], seen["args"], seen["header"], seen["url"]) == ("/", "1", "1", "/page")
    assert len(seen["sid"]) == 20


def test_a_request_is_of_the_application_s_class_whatever_is_looked_at_first(app, socketio):
    class Request(flask.Request):
        made = 0

        def __init__(self, environ, **options):
            super().__init__(environ, **options)
            type(self).made += 1
            self.tenant = environ["HTTP_HOST"]

        @property
        def shouted(self):
            return self.path.upper()

    class Lenient(Request):
        def __getattr__(self, name):
            if name.startswith("missing"):
                return name
            raise AttributeError(name)

    looks = {
        "sid": lambda: [len(request.sid), request.namespace],
        "class": lambda: [isinstance(request._get_current_object(), app.request_class), type(request._get_current_object()).__name__],
        "tenant": lambda: request.tenant,
        "event": lambda: request.event["message"],
        "property": lambda: request.shouted,
        "nothing": lambda: [hasattr(request, "nothing"), getattr(request, "missing", None)],
        "kept": lambda: [setattr(request, "path", "/mine"), request.method, request.path, request.tenant],
    }

    @socketio.on("look")
    def look(what):
        return looks[what]()

    for request_class, missing in ((Request, None), (Lenient, "missing")):
        app.request_class = request_class
        client = socketio.test_client(app)
        made = request_class.made
        found = {what: client.emit("look", what, callback=True) for what in looks}
        assert found == {
            "sid": [20, "/"], "class": [True, request_class.__name__], "tenant": "localhost", "event": "look",
            "property": "/SOCKET.IO", "nothing": [False, missing], "kept": [None, "GET", "/mine", "localhost"],
        }
        assert request_class.made == made + 5, "two of them looked at nothing for which one must be made"


def test_g_lasts_for_one_event(app, socketio):
    @socketio.event
    def count():
        g.count = getattr(g, "count", 0) + 1
        return g.count

    client = socketio.test_client(app)
    assert [client.emit("count", callback=True) for _ in range(3)] == [1, 1, 1]


def test_teardown_runs_for_each_event_and_hears_of_its_exception(app, socketio):
    ends = []
    app.teardown_appcontext(lambda error: ends.append(("context", type(error))))
    app.teardown_request(lambda error: ends.append(("request", type(error))))

    @socketio.event
    def good():
        pass

    @socketio.event
    def bad():
        raise KeyError("x")

    @socketio.on_error_default
    def on_error(error):
        return "handled"

    client = socketio.test_client(app)
    ends.clear()
    client.emit("good")
    assert client.emit("bad", callback=True) == "handled"
    assert ends == [("request", type(None)), ("context", type(None)), ("request", KeyError), ("context", KeyError)]


def test_a_session_is_shared_by_the_namespaces_of_a_connection_and_seen_by_no_page(app, socketio):
    @app.route("/login")
    def login():
        session["user"] = "ann"
        return "in"

    @app.route("/who")
    def who():
        return session.get("seen", "nobody")

    def note(key):
        session.setdefault("notes", []).append(key)
        session["seen"] = "socket"
        return session["user"], session["notes"]

    socketio.on_event("note", note)
    socketio.on_event("note", note, namespace="/other")
    browser = app.test_client()
    browser.get("/login")
    client = socketio.test_client(app, flask_test_client=browser)
    client.connect("/other")
    assert client.emit("note", "a", callback=True) == ["ann", ["a"]]
    assert client.emit("note", "b", namespace="/other", callback=True) == ["ann", ["a", "b"]]
    assert browser.get("/who").text == "nobody"
    assert socketio.test_client(app, flask_test_client=browser).emit("note", "c", callback=True) == ["ann", ["c"]]


def test_rooms(app, socketio):
    socketio.on_event("join", lambda room: join_room(room))
    socketio.on_event("leave", lambda room: leave_room(room))
    socketio.on_event("close", lambda room: close_room(room))
    socketio.on_event("say", lambda room, text: emit("said", text, to=room))
    socketio.on_event("rooms", lambda: sorted(map(str, rooms())))
    ann, ben, cy = (socketio.test_client(app) for _ in range(3))
    ann.emit("join", "a")
    ben.emit("join", "a")
    ben.emit("join", 1)
    cy.emit("join", "1")
    ann.emit("say", "a", "hello")
    assert [names(client) for client in (ann, ben, cy)] == [[("said", ["hello"])], [("said", ["hello"])], []]
    ann.emit("say", 1, "number")
    ann.emit("say", ["a", "1", "a"], "list")
    assert names(ann) == [("said", ["list"])]
    assert names(ben) == [("said", ["number"]), ("said", ["list"])]
    assert names(cy) == [("said", ["list"])]
    sid = socketio.server.environ.aliases[ben.eio_sid]
    assert ben.emit("rooms", callback=True) == sorted([sid, "a", "1"])
    assert dict(socketio.server.manager.get_participants("/", 1)) == {sid: sid}
    assert 1 in socketio.server.manager.rooms["/"] and "nobody" not in socketio.server.manager.rooms["/"]
    assert len(socketio.server.manager.rooms["/"]["a"]) == 2
    ben.emit("leave", 1)
    ann.emit("close", "a")
    ann.emit("say", ["a", 1], "gone")
    assert [names(client) for client in (ann, ben, cy)] == [[], [], []]


def test_a_room_with_the_name_of_a_client_reaches_its_members(app, socketio):
    socketio.on_event("follow", lambda sid: join_room(sid))
    socketio.on_event("self", lambda: emit("mine", 1))
    ann, ben = socketio.test_client(app), socketio.test_client(app)
    sid = socketio.server.environ.aliases[ann.eio_sid]
    ben.emit("follow", sid)
    ann.emit("self")
    assert names(ann) == names(ben) == [("mine", [1])]


def test_broadcasts_leave_out_whom_they_are_told_to(app, socketio):
    @socketio.event
    def say(how):
        emit("said", how, broadcast=True, include_self=how != "others", skip_sid=how if len(how) == 20 else None)

    ann, ben = socketio.test_client(app), socketio.test_client(app)
    ann.emit("say", "others")
    ann.emit("say", socketio.server.environ.aliases[ben.eio_sid])
    ann.emit("say", "all")
    assert [args[0] for _, args in names(ben)] == ["others", "all"]
    assert len(names(ann)) == 2


def test_order_of_what_a_handler_does(app, socketio):
    @socketio.event
    def work():
        emit("one")
        join_room("r")
        emit("two", to="r")
        send("three")
        emit("four", broadcast=True)
        emit("five")
        leave_room("r")
        emit("never", to="r")
        emit("six")

    client = socketio.test_client(app)
    client.emit("work")
    assert [name for name, _ in names(client)] == ["one", "two", "message", "four", "five", "six"]


def test_callbacks_run_in_the_context_of_the_client(app, socketio):
    client = socketio.test_client(app)
    assert client.is_connected()
    with pytest.raises(Exception, match="not answered"):
        socketio.call("question", to=socketio.server.environ.aliases[client.eio_sid], timeout=0.1)
    with pytest.raises(Exception, match="not answered"):
        socketio.call("question", to="nobody", timeout=0.1)
    with pytest.raises(ValueError):
        socketio.call("question")


@pytest.mark.parametrize("raised, told", [
    (ConnectionRefusedError(), {"message": "Connection rejected by server"}),
    (ConnectionRefusedError("no"), {"message": "no"}),
    (ConnectionRefusedError("no", {"a": 1}), {"message": "no", "data": {"a": 1}}),
    (ConnectionRefusedError("no", 1, 2), {"message": "no", "data": [1, 2]}),
])
def test_refusals(raised, told):
    assert raised.error_args == told


def test_a_connect_handler_that_fails_refuses(app, socketio):
    @socketio.on("connect")
    def connect(auth):
        if auth == {"how": "false"}:
            return False
        if auth == {"how": "refuse"}:
            raise ConnectionRefusedError("no")
        if auth == {"how": "fail"}:
            raise KeyError("a fault")
        return None

    @socketio.on_error_default
    def on_error(error):
        return None

    for how in ("false", "refuse", "fail"):
        assert not socketio.test_client(app, auth={"how": how}).is_connected()
    assert socketio.test_client(app, auth={"how": "well"}).is_connected()
    assert len(socketio.server.environ) == 1


def test_connect_and_disconnect_may_leave_out_their_argument(app, socketio):
    seen = []

    @socketio.on("connect")
    def connect():
        seen.append("connect")

    @socketio.on("disconnect")
    def gone():
        seen.append("disconnect")

    @socketio.on("disconnect", namespace="/reason")
    def gone_with(reason):
        seen.append((reason, sorted(rooms())))

    @socketio.on("connect", namespace="/reason")
    def enter(auth):
        seen.append(auth)
        join_room("r")

    client = socketio.test_client(app)
    client.connect("/reason", auth={"a": 1})
    sid = next(iter(socketio.server.manager.rooms["/reason"]["r"]))
    client.disconnect("/reason")
    client.disconnect()
    assert seen == ["connect", {"a": 1}, (socketio.reason.CLIENT_DISCONNECT, sorted([sid, "r"])), "disconnect"]
    assert socketio._core.clients() == [] and len(socketio.server.environ) == 0


def test_lookup_of_handlers(app, socketio):
    for namespace in ("/a", "*"):
        for event in ("known", "*"):
            @socketio.on(event, namespace=namespace)
            def handler(*args, namespace=namespace, event=event):
                return f"{namespace} {event}", *args, request.namespace
    client = socketio.test_client(app, namespace="/a")
    client.connect("/b")
    rows = [("/a", "known", ["/a known", 1, "/a"]), ("/a", "else", ["/a *", "else", 1, "/a"]), ("/b", "known", ["* known", 1, "/b"]),
            ("/b", "else", ["* *", "else", 1, "/b"])]
    for namespace, event, answer in rows:
        assert client.emit(event, 1, namespace=namespace, callback=True) == answer


def test_namespaces_may_be_registered_while_the_server_runs(app, socketio):
    first = socketio.test_client(app)
    assert not socketio.test_client(app, namespace="/late").is_connected("/late")
    socketio.on_event("hello", lambda: "late", namespace="/late")
    first.connect("/late")
    assert first.emit("hello", namespace="/late", callback=True) == "late"
    assert len(socketio.server.environ) == 1


def test_reserved_names_of_clients_reach_no_handler(app, socketio):
    seen = []
    socketio.on_event("connect", lambda: seen.append("connect"))
    socketio.on_event("disconnect", lambda: seen.append("disconnect"))
    client = socketio.test_client(app)
    assert socketio._dispatcher._event(socketio._core.client(next(iter(socketio.server.environ))), "disconnect", ("forged",)) \
        is socketio._dispatcher.NO_ACK
    assert seen == ["connect"] and client.is_connected()


class Chat(Namespace):
    def on_connect(self, auth):
        return auth != {"no": 1}

    def on_disconnect(self):
        self.ended = True

    def on_add(self, a, b):
        return a + b

    def on_everybody(self, text):
        self.emit("told", text)

    def on_fail(self):
        raise KeyError("x")

    def error(self, error):
        return f"error {type(error).__name__}"


def test_class_namespaces(app, socketio):
    chat = Chat("/chat")
    socketio.on_namespace(chat)
    socketio.on_event("over", lambda: "function", namespace="/chat")
    client = socketio.test_client(app, namespace="/chat")
    assert not socketio.test_client(app, namespace="/chat", auth={"no": 1}).is_connected("/chat")
    assert client.emit("add", 1, 2, namespace="/chat", callback=True) == 3
    assert client.emit("over", namespace="/chat", callback=True) == "function"
    assert client.emit("unknown", namespace="/chat", callback=True) == []
    assert client.emit("fail", namespace="/chat", callback=True) == "error KeyError"
    client.emit("everybody", "hi", namespace="/chat")
    assert names(client, "/chat") == [("told", ["hi"])]
    client.disconnect("/chat")
    assert chat.ended
    with pytest.raises(ValueError, match="Not a namespace instance"):
        socketio.on_namespace(object())


def test_a_class_namespace_may_trigger_events_itself(app, socketio):
    class Own(Namespace):
        def trigger_event(self, event, *args):
            if event in ("connect", "disconnect"):
                return None
            return self.socketio._handle_event(self.anything, event, self.namespace, *args)

        def anything(self, *args):
            return request.event["message"], *args

    socketio.on_namespace(Own("/own"))
    client = socketio.test_client(app, namespace="/own")
    assert client.emit("ev", 1, namespace="/own", callback=True) == ["ev", 1]


def test_errors_come_to_the_test_or_to_their_handlers(app, socketio):
    @socketio.event
    def fail():
        raise ZeroDivisionError("x")

    socketio.on_event("fail", fail, namespace="/b")

    @socketio.on_error("/b")
    def on_error(error):
        return f"{type(error).__name__} in {request.event['message']}"

    client = socketio.test_client(app)
    client.connect("/b")
    with pytest.raises(ZeroDivisionError):
        client.emit("fail")
    assert client.emit("fail", namespace="/b", callback=True) == "ZeroDivisionError in fail"
    with pytest.raises(ValueError, match="must be callable"):
        socketio.on_error()(1)


def test_disconnect_in_a_handler(app, socketio):
    socketio.on_event("leave", lambda: disconnect())
    client = socketio.test_client(app)
    client.emit("leave")
    assert not client.is_connected()
    with pytest.raises(RuntimeError, match="not connected"):
        client.emit("leave")


def test_copied_contexts_serve_background_tasks(app, socketio):
    done = []

    @socketio.event
    def work():
        @copy_current_request_context
        def task(text):
            done.append((request.sid, current_app.name, text))
            emit("done", text)
        thread = socketio.start_background_task(task, "x")
        thread.join()

    client = socketio.test_client(app)
    client.emit("work")
    assert done and names(client) == [("done", ["x"])]


def test_an_empty_receiver_is_everybody_and_is_warned_of_once(app, socketio, caplog):
    ann = socketio.test_client(app)
    socketio.emit("all", 1, to="")
    socketio.emit("all", 2, to=[])
    socketio.server.emit("all", 3, room=0)
    assert len(names(ann)) == 3
    assert len([line for line in caplog.messages if "sent to everybody" in line]) == 1
    socketio.emit("nobody", to="no such room")
    assert names(ann) == []


def test_options_of_emit(app, socketio):
    client = socketio.test_client(app)
    with pytest.raises(TypeError):
        socketio.emit("a", 1, 2)
    with pytest.raises(TypeError, match="broadcast"):
        socketio.emit("a", 1, broadcast=True)
    socketio.emit("tuple", (1, [2], {"a": 3}))
    socketio.send({"a": 1}, json=True)
    socketio.send("text", to=None)
    assert names(client) == [("tuple", [1, [2], {"a": 3}]), ("json", {"a": 1}), ("message", "text")]


def test_sessions_of_python_socketio(app, socketio):
    client = socketio.test_client(app)
    sid = socketio.server.environ.aliases[client.eio_sid]
    with socketio.server.session(sid) as kept:
        kept["a"] = 1
    socketio.server.save_session(sid, {**socketio.server.get_session(sid), "b": 2})
    assert socketio.server.get_session(sid) == {"a": 1, "b": 2}
    with pytest.raises(KeyError):
        socketio.server.get_session("nobody")
    assert socketio.server.transport(sid) == "websocket"


def test_a_json_module_of_the_applications(app):
    class Marking:
        @staticmethod
        def dumps(value, **kwargs):
            return flask.json.dumps([*value, "marked"], **kwargs)

        @staticmethod
        def loads(text, **kwargs):
            return flask.json.loads(text, **kwargs)

    socketio = SocketIO(app, json=Marking)
    socketio.on_event("echo", lambda value: value)
    client = socketio.test_client(app)
    assert client.emit("echo", {"a": ["b", b"bytes"]}, callback=True) == [{"a": ["b", b"bytes"]}, "marked"]
    assert client.emit("echo", "text", callback=True) == ["text", "marked"]


def test_flask_json_knows_more_types(app):
    import datetime
    import uuid
    socketio = SocketIO(app, json=flask.json)
    socketio.on_event("types", lambda: (datetime.date(2026, 11, 29), uuid.UUID(int=1)))
    client = socketio.test_client(app)
    assert client.emit("types", callback=True) == ["Sun, 29 Nov 2026 00:00:00 GMT", "00000000-0000-0000-0000-000000000001"]


def test_a_test_client_needs_no_queue(app):
    socketio = SocketIO(app, message_queue="redis://")
    with pytest.raises(RuntimeError, match="message queue"):
        socketio.test_client(app)
    with pytest.raises(RuntimeError, match="does not run"):
        SocketIO(app).server.rooms("x")
