"""A server on a port, with stock clients: threads, order, pages, the end."""

import http.client
import io
import json
import os
import threading
import time
import urllib.error
import urllib.request

import flask
import pytest
import socketio as stock
from conftest import PATIENCE_SECONDS, Gate, wait_until
from flask import request

from flask_shardcast import SocketIO, emit


def get(url, **options):
    with urllib.request.urlopen(urllib.request.Request(url, **options), timeout=PATIENCE_SECONDS) as answer:
        return answer.status, answer.read()


@pytest.mark.parametrize("transport", ["websocket", "polling"])
def test_echo(app, serve, connect, transport):
    socketio = SocketIO(app)

    @socketio.event
    def echo(*args):
        emit("came", args)
        return args

    server = serve(socketio, app)
    client = connect(server.url, transports=[transport])
    came = []
    client.on("came", lambda *args: came.append(args))
    value = {"text": "é€😀", "list": [1, 2.5, None, True], "bytes": b"\x00\xff"}
    assert client.call("echo", (value, 2), timeout=PATIENCE_SECONDS) == (value, 2)
    wait_until(lambda: came == [(value, 2)], "the event")


def test_a_handler_that_waits_holds_up_nobody_else(app, serve, connect):
    socketio = SocketIO(app, ping_interval=1, ping_timeout=1)
    gate = Gate()
    socketio.on_event("wait", lambda: gate.wait())
    socketio.on_event("quick", lambda: "done")
    app.add_url_rule("/page", view_func=lambda: "page")
    server = serve(socketio, app)
    slow, other = connect(server.url), connect(server.url)
    slow.emit("wait")
    gate.await_entered()
    started = time.monotonic()
    while time.monotonic() - started < 3:
        assert other.call("quick", timeout=PATIENCE_SECONDS) == "done"
        assert get(server.url + "/page") == (200, b"page")
        time.sleep(0.1)
    # Its own client has answered pings meanwhile, and its later events overtake the one that waits.
    assert slow.connected and slow.call("quick", timeout=PATIENCE_SECONDS) == "done"
    gate.open()


def test_many_handlers_wait_at_a_time(app, serve, connect):
    socketio = SocketIO(app)
    barrier = threading.Barrier(20)
    socketio.on_event("meet", lambda: barrier.wait(PATIENCE_SECONDS) >= 0)
    server = serve(socketio, app)
    clients = [connect(server.url) for _ in range(20)]
    met = []
    for client in clients:
        client.emit("meet", callback=met.append)
    wait_until(lambda: met == [True] * 20, "that all meet")


@pytest.mark.parametrize("async_handlers", [True, False])
def test_events_of_a_client_are_handled_in_order(app, serve, connect, async_handlers):
    socketio = SocketIO(app, async_handlers=async_handlers)
    seen = {}

    @socketio.event
    def note(number):
        if number % 50 == 0:
            time.sleep(0.01)
        seen.setdefault(request.sid, []).append(number)

    server = serve(socketio, app)
    clients = [connect(server.url) for _ in range(4)]
    for number in range(400):
        for client in clients:
            client.emit("note", number)
    wait_until(lambda: sum(map(len, seen.values())) == 1600, "all events")
    assert all(numbers == list(range(400)) for numbers in seen.values())


def test_strict_order_is_not_overtaken(app, serve, connect):
    socketio = SocketIO(app, async_handlers=False)
    gate, seen = Gate(), []

    @socketio.event
    def note(number):
        if number == 0:
            gate.wait()
        seen.append(number)

    server = serve(socketio, app)
    client, other = connect(server.url), connect(server.url)
    for number in range(3):
        client.emit("note", number)
    gate.await_entered()
    time.sleep(0.3)
    assert seen == []
    other.call("note", 7, timeout=PATIENCE_SECONDS)
    gate.open()
    wait_until(lambda: seen == [7, 0, 1, 2], "the rest, in order")


def test_a_loop_with_sleep_is_ended_by_a_later_event(app, serve, connect):
    socketio = SocketIO(app)
    state = {"runs": False}

    @socketio.event
    def run():
        state["runs"] = True
        while state["runs"]:
            emit("tick")
            socketio.sleep(0.01)
        return "stopped"

    @socketio.event
    def stop():
        state["runs"] = False

    server = serve(socketio, app)
    client = connect(server.url)
    ticks, ended = [], []
    client.on("tick", lambda: ticks.append(1))
    client.emit("run", callback=ended.append)
    wait_until(lambda: len(ticks) >= 3, "ticks")
    client.emit("stop")
    wait_until(lambda: ended == ["stopped"], "the end")


def test_call_and_callbacks(app, serve, connect):
    socketio = SocketIO(app)
    answers = []

    @socketio.event
    def ask():
        return socketio.call("question", 20, to=request.sid, timeout=PATIENCE_SECONDS)

    @socketio.event
    def ask_all():
        emit("question", 1, broadcast=True, callback=lambda *args: answers.append((request.sid, args)))

    server = serve(socketio, app)
    clients = [connect(server.url) for _ in range(3)]
    for client in clients:
        client.on("question", lambda number: (number + 1, "x"))
    assert clients[0].call("ask", timeout=PATIENCE_SECONDS) == (21, "x")
    clients[0].emit("ask_all")
    wait_until(lambda: len(answers) == 3, "an answer of each")
    # As in Flask-SocketIO the callback runs in the context of the client whose event it was.
    assert set(answers) == {(clients[0].get_sid(), (2, "x"))}


def test_emits_from_pages_and_threads(app, serve, connect):
    socketio = SocketIO(app)

    @app.route("/emit")
    def page():
        socketio.emit("news", "page")
        return "sent"

    server = serve(socketio, app)
    client = connect(server.url)
    came = []
    client.on("news", came.append)
    assert get(server.url + "/emit") == (200, b"sent")
    socketio.start_background_task(socketio.emit, "news", "thread").join()
    wait_until(lambda: came == ["page", "thread"], "both")


def test_exceptions_are_logged_with_their_traceback(app, serve, connect, caplog):
    socketio = SocketIO(app)

    @socketio.event
    def fail():
        raise ZeroDivisionError("a fault in a handler")

    @socketio.event
    def unsendable():
        return {1, 2}

    socketio.on_event("well", lambda: "well")
    server = serve(socketio, app)
    client = connect(server.url)
    client.emit("fail")
    client.emit("unsendable", callback=lambda *_: None)
    assert client.call("well", timeout=PATIENCE_SECONDS) == "well"
    shown = "\n".join(str(record.exc_info) for record in caplog.records if record.exc_info)
    assert "a fault in a handler" in shown and "set is not JSON serializable" in shown


def test_refused_clients_are_told_why(app, serve, connect):
    from flask_shardcast import ConnectionRefusedError
    socketio = SocketIO(app)

    @socketio.on("connect")
    def enter(auth):
        raise ConnectionRefusedError("not you", {"code": 7})

    server = serve(socketio, app)
    client = stock.Client(reconnection=False)
    told = []
    client.on("connect_error", told.append)
    with pytest.raises(stock.exceptions.ConnectionError):
        client.connect(server.url, transports=["websocket"])
    assert told == [{"message": "not you", "data": {"code": 7}}]
    assert len(socketio.server.environ) == 0


def test_with_always_connect_a_client_is_connected_and_then_sent_away(app, serve):
    socketio = SocketIO(app, always_connect=True)
    asked = []

    @socketio.on("connect")
    def enter():
        asked.append(request.sid)
        return False

    server = serve(socketio, app)
    client = stock.Client(reconnection=False)
    heard = []
    client.on("connect", lambda: heard.append("connect"))
    client.on("disconnect", lambda *_: heard.append("disconnect"))
    client.connect(server.url, transports=["websocket"])
    # The client has a thread for each of its handlers.
    wait_until(lambda: sorted(heard) == ["connect", "disconnect"] and len(asked) == 1, "both")
    wait_until(lambda: socketio._core.clients() == [], "that it is forgotten")
    client.disconnect()


def test_a_function_decides_about_origins(app, serve, connect):
    asked = []

    def allowed(origin, environ):
        asked.append((origin, environ["PATH_INFO"]))
        return origin == "https://good.example"

    socketio = SocketIO(app, cors_allowed_origins=allowed)
    socketio.on_event("hello", lambda: "hello")
    server = serve(socketio, app)
    assert connect(server.url, transports=["polling"], headers={"Origin": "https://good.example"}).call("hello", timeout=PATIENCE_SECONDS) == "hello"
    assert connect(server.url, transports=["polling"]).call("hello", timeout=PATIENCE_SECONDS) == "hello"
    with pytest.raises(stock.exceptions.ConnectionError):
        connect(server.url, transports=["polling"], headers={"Origin": "https://evil.example"})
    assert asked == [("https://good.example", "/socket.io/"), ("https://evil.example", "/socket.io/")]


def test_nothing_is_kept_of_clients_that_are_gone(app, serve, connect):
    socketio = SocketIO(app)
    ended = []
    socketio.on_event("disconnect", lambda reason: ended.append(reason))
    server = serve(socketio, app)
    for _ in range(3):
        clients = [connect(server.url) for _ in range(10)]
        wait_until(lambda: len(socketio._core.clients()) == 10, "ten clients")
        for client in clients:
            client.disconnect()
        wait_until(lambda: not socketio._core.clients() and not len(socketio.server.environ), "that all are forgotten")
    assert len(ended) == 30


# Pages


def test_pages(app, serve):
    @app.route("/echo", methods=["GET", "POST", "PUT", "DELETE"])
    def echo():
        return {"method": request.method, "args": request.args, "form": request.form, "size": len(request.data), "path": request.path,
                "url": request.url, "type": request.content_type}

    @app.route("/cookie")
    def cookie():
        answer = flask.make_response("set", 201)
        answer.set_cookie("a", "1")
        answer.set_cookie("b", "2")
        return answer

    @app.route("/fail")
    def fail():
        raise KeyError("in a page")

    server = serve(SocketIO(app), app)
    host = server.address
    status, body = get(server.url + "/echo?a=1&b=%C3%A9")
    assert json.loads(body) == {"args": {"a": "1", "b": "é"}, "form": {}, "method": "GET", "path": "/echo", "size": 0, "type": None,
                                "url": f"{server.url}/echo?a=1&b=é"}
    status, body = get(server.url + "/echo", data=b"x=1&y=2", method="POST")
    assert b'"form":{"x":"1","y":"2"}' in body and status == 200
    status, body = get(server.url + "/echo", data=b"0" * 5000, method="PUT", headers={"Content-Type": "text/plain"})
    assert b'"size":5000' in body
    connection = http.client.HTTPConnection(host, timeout=PATIENCE_SECONDS)
    connection.request("GET", "/cookie")
    answer = connection.getresponse()
    assert answer.status == 201 and len(answer.headers.get_all("Set-Cookie")) == 2 and answer.read() == b"set"
    connection.request("HEAD", "/cookie")
    answer = connection.getresponse()
    assert answer.headers["Content-Length"] == "3" and answer.read() == b""
    for path, wanted in (("/nowhere", 404), ("/fail", 500)):
        with pytest.raises(urllib.error.HTTPError) as error:
            get(server.url + path)
        assert error.value.code == wanted


def test_streams(app, serve):
    gate, closed = Gate(), threading.Event()

    @app.route("/stream")
    def stream():
        def pieces():
            try:
                yield "one "
                gate.wait()
                yield "two"
            finally:
                closed.set()
        return flask.Response(pieces(), mimetype="text/plain")

    server = serve(SocketIO(app), app)
    with urllib.request.urlopen(server.url + "/stream", timeout=PATIENCE_SECONDS) as answer:
        assert answer.read1() == b"one "
        gate.open()
        assert answer.read() == b"two"
    assert closed.wait(PATIENCE_SECONDS)


def test_a_stream_whose_client_has_gone_is_closed(app, serve):
    closed = threading.Event()

    @app.route("/endless")
    def endless():
        def pieces():
            try:
                while True:
                    yield "x" * 10_000
            finally:
                closed.set()
        return flask.Response(pieces())

    server = serve(SocketIO(app), app)
    answer = urllib.request.urlopen(server.url + "/endless", timeout=PATIENCE_SECONDS)
    assert answer.read(20_000)
    answer.close()
    assert closed.wait(PATIENCE_SECONDS)


def test_uploads_larger_than_a_message(app, serve):
    @app.route("/upload", methods=["POST"])
    def upload():
        data = request.get_data()
        return {"size": len(data), "sum": sum(data[::4096]) % 256}

    server = serve(SocketIO(app), app)
    body = bytes(range(256)) * 20_000
    status, answer = get(server.url + "/upload", data=body, method="POST", headers={"Content-Type": "application/octet-stream"})
    assert b'"size":%d' % len(body) in answer
    # Without a length, in chunks.
    connection = http.client.HTTPConnection(server.address, timeout=PATIENCE_SECONDS)
    connection.request("POST", "/upload", body=io.BytesIO(body[:300_000]), headers={"Transfer-Encoding": "chunked"}, encode_chunked=True)
    assert b'"size":300000' in connection.getresponse().read()


def test_files(serve, tmp_path):
    static = tmp_path / "static"
    static.mkdir()
    (static / "a.txt").write_text("static file")
    large = tmp_path / "large.bin"
    large.write_bytes(os.urandom(1_000_000))
    app = flask.Flask(__name__, static_folder=str(static))

    @app.route("/large")
    def send():
        return flask.send_file(large, conditional=True)

    server = serve(SocketIO(app), app)
    assert get(server.url + "/static/a.txt") == (200, b"static file")
    assert get(server.url + "/large") == (200, large.read_bytes())
    status, part = get(server.url + "/large", headers={"Range": "bytes=1000-1999"})
    assert (status, part) == (206, large.read_bytes()[1000:2000])
    with pytest.raises(urllib.error.HTTPError):
        get(server.url + "/static/../large.bin")


def test_a_port_that_is_taken_is_an_error(app, serve):
    server = serve(SocketIO(app), app)
    other = flask.Flask("other")
    with pytest.raises(SystemExit, match="flask_shardcast: .*in use"):
        serve_at(SocketIO(other), other, server.address)


def serve_at(socketio, app, address):
    from flask_shardcast import _run
    host, _, port = address.rpartition(":")
    _run.start(socketio, app, host, int(port))


def test_the_session_is_shared_with_pages_where_it_is_kept_on_the_server(serve, connect, tmp_path):
    flask_session = pytest.importorskip("flask_session")
    cachelib = pytest.importorskip("cachelib")
    app = flask.Flask(__name__)
    app.config.update(SECRET_KEY="x", SESSION_TYPE="cachelib", SESSION_CACHELIB=cachelib.FileSystemCache(str(tmp_path)))
    flask_session.Session(app)
    socketio = SocketIO(app, manage_session=False)

    @app.route("/get")
    def read():
        return flask.session.get("value", "none")

    @app.route("/set/<value>")
    def write(value):
        flask.session["value"] = value
        return "ok"

    @socketio.event
    def swap(value):
        before = flask.session.get("value")
        flask.session["value"] = value
        return before

    server = serve(socketio, app)
    connection = http.client.HTTPConnection(server.address, timeout=PATIENCE_SECONDS)
    connection.request("GET", "/set/page")
    answer = connection.getresponse()
    cookie = answer.headers["Set-Cookie"].split(";")[0]
    answer.read()
    client = connect(server.url, headers={"Cookie": cookie})
    assert client.call("swap", "socket", timeout=PATIENCE_SECONDS) == "page"
    assert get(server.url + "/get", headers={"Cookie": cookie}) == (200, b"socket")


def test_flask_login_in_handlers(serve, connect):
    flask_login = pytest.importorskip("flask_login")
    app = flask.Flask(__name__)
    app.config["SECRET_KEY"] = "x"
    login = flask_login.LoginManager(app)

    class User(flask_login.UserMixin):
        def __init__(self, name):
            self.id = name

    login.user_loader(User)
    socketio = SocketIO(app)

    @app.route("/login/<name>")
    def enter(name):
        flask_login.login_user(User(name))
        return "in"

    @socketio.on("connect")
    def check():
        return flask_login.current_user.is_authenticated

    @socketio.event
    def who():
        return flask_login.current_user.id

    server = serve(socketio, app)
    with pytest.raises(stock.exceptions.ConnectionError):
        connect(server.url)
    connection = http.client.HTTPConnection(server.address, timeout=PATIENCE_SECONDS)
    connection.request("GET", "/login/ann")
    cookie = connection.getresponse().headers["Set-Cookie"].split(";")[0]
    client = connect(server.url, headers={"Cookie": cookie})
    assert client.call("who", timeout=PATIENCE_SECONDS) == "ann"
