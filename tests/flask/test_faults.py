"""Applications that fail: the server goes on, says what went wrong, and keeps nothing of who has gone."""

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest
import requests

from conftest import HERE, interpreter, is_open, wait_until

#: Clients that leave at once: CROWD=10000 is the long form.
CROWD = int(os.environ.get("CROWD", 1_000))
ERRORS = {
    "fail": "error in a handler", "fail in callback": "error in a callback", "fail in background": "error in a background task",
    "fail in thread": "error in a thread", "recursion": "RecursionError",
}


def still_works(app, connect):
    assert connect(app.url).call("echo", "fine", timeout=10) == "fine"


@pytest.mark.parametrize("event", ERRORS)
def test_an_error_is_told_with_its_traceback(start, side, connect, event):
    app = start(side, "faults.py", "{port}")
    client = connect(app.url, on={"question": lambda *_: 1})
    client.emit(event)
    wait_until("the error's text", lambda: ERRORS[event] in app.said())
    wait_until("a traceback", lambda: "Traceback (most recent call last)" in app.said())
    assert "faults.py" in app.said()
    assert client.call("echo", 1, timeout=10) == 1
    still_works(app, connect)


def test_an_error_in_connect_refuses(start, connect):
    """Flask-SocketIO leaves such a client half connected: README.md."""
    import socketio

    app = start("shardcast", "faults.py", "{port}")
    with pytest.raises(socketio.exceptions.ConnectionError):
        connect(app.url, auth={"fail": True})
    wait_until("the error's text", lambda: "error in connect" in app.said())
    still_works(app, connect)


def test_an_error_in_disconnect(start, side, connect):
    app = start(side, "faults.py", "{port}")
    threading.Thread(target=connect(app.url + "?fail=disconnect").disconnect, daemon=True).start()
    wait_until("the error's text", lambda: "error in disconnect" in app.said())
    still_works(app, connect)


def test_an_error_in_an_error_handler(start, side, connect):
    app = start(side, "faults.py", "{port}")
    client = connect(app.url, "/twice")
    client.emit("fail in error handler", namespace="/twice")
    wait_until("the error's text", lambda: "error in an error handler" in app.said())
    assert client.call("echo", 1, namespace="/twice", timeout=10) == 1


def test_an_error_in_teardown(start, side, connect):
    app = start(side, "faults.py", "{port}")
    client = connect(app.url)
    client.emit("fail in teardown")
    wait_until("the error's text", lambda: "error in teardown" in app.said())
    assert client.call("echo", 1, timeout=10) == 1


def test_an_error_in_a_page(start, side, connect):
    app = start(side, "faults.py", "{port}")
    assert requests.get(f"{app.url}/fail").status_code == 500
    wait_until("the error's text", lambda: "error in a page" in app.said())
    still_works(app, connect)


def test_exit_in_a_handler_does_not_end_the_server(start, connect):
    app = start("shardcast", "faults.py", "{port}")
    connect(app.url).emit("exit")
    still_works(app, connect)
    assert app.process.poll() is None


def test_a_handler_that_never_returns_holds_nobody_up(start, side, connect):
    app = start(side, "faults.py", "{port}", PING="1")
    stuck, other = connect(app.url), connect(app.url)
    for _ in range(5):
        stuck.emit("stick", 60)
    assert other.call("echo", 1, timeout=10) == 1
    assert requests.get(f"{app.url}/gone", timeout=10).status_code == 200
    # Pings go on: both are there after several intervals and timeouts.
    time.sleep(4)
    assert other.call("echo", 2, timeout=10) == 2
    # Its own next event is handled as well: handlers that wait are overtaken.
    assert stuck.call("echo", 3, timeout=10) == 3
    assert stuck.connected and ("disconnect" not in [got[0] for got in stuck.got])
    still_works(app, connect)


def test_pages_that_never_return_hold_nobody_up(start, side, connect):
    app = start(side, "faults.py", "{port}")
    for _ in range(5):
        threading.Thread(target=requests.get, args=(f"{app.url}/slow?seconds=60",), daemon=True).start()
    assert requests.get(f"{app.url}/gone", timeout=10).status_code == 200
    still_works(app, connect)


def test_pings_go_on_while_python_computes(start, connect):
    app = start("shardcast", "faults.py", "{port}", PING="1")
    client = connect(app.url)
    assert client.call("compute", 4, timeout=20) == "computed"
    assert client.connected and client.call("echo", 1, timeout=10) == 1


def test_more_stuck_handlers_than_threads(start, connect):
    """The pool is full: the network goes on, and so does everything as soon as a handler ends."""
    app = start("shardcast", "faults.py", "{port}", options=["--threads", "4"], PING="1")
    stuck = [connect(app.url) for _ in range(6)]
    for client in stuck:
        client.emit("stick", 6)
    late = connect(app.url, wait=False)
    time.sleep(3)
    assert all(client.connected for client in stuck)
    wait_until("the late client", lambda: "/" in late.namespaces, 30)
    assert late.call("echo", 1, timeout=30) == 1


class Crowd:
    """Many clients that only exist: WebSockets by hand, since a thread for each would be the test's own load."""

    def __init__(self, port, count, namespace="40"):
        self.sockets = []
        for start in range(0, count, 50):
            fresh = [socket.create_connection(("127.0.0.1", port)) for _ in range(min(50, count - start))]
            for each in fresh:
                each.settimeout(30)
                each.sendall(
                    b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n" + self.frame(namespace)
                )
            for each in fresh:
                got = b""
                while b'40{"sid"' not in got:
                    more = each.recv(4096)
                    assert more, f"the server closed: {got!r}"
                    got += more
            self.sockets += fresh

    @staticmethod
    def frame(text):
        return b"\x81" + bytes([0x80 | len(text)]) + bytes(4) + text.encode()

    def send(self, text):
        for each in self.sockets:
            each.sendall(self.frame(text))

    def leave(self):
        for each in self.sockets:
            each.close()


def facts(app):
    return requests.get(f"{app.url}/facts", timeout=60).json()


def test_a_crowd_that_leaves_at_once_is_forgotten(start, connect):
    app = start("shardcast", "faults.py", "{port}", options=["--shards", "2"])
    Crowd(app.port, 20).leave()
    wait_until("the first have gone", lambda: requests.get(f"{app.url}/gone").json()["gone"] == 20)
    before = facts(app)
    crowd = Crowd(app.port, CROWD)
    crowd.send('421["use everything","room"]')
    wait_until("all are there", lambda: facts(app)["clients"] == CROWD, 60)
    crowd.leave()
    wait_until("each disconnect handler has run", lambda: requests.get(f"{app.url}/gone").json()["gone"] == CROWD + 20, 60)
    still_works(app, connect)
    after = wait_until("nothing is kept", lambda: (now := facts(app))["sessions"] <= before["sessions"] + 5 and now, 30)
    assert after["environs"] <= before["environs"] + 2 and after["clients"] <= 2, (before, after)
    # Reasons of the gone are the application's own; nothing else grows with them.
    assert after["objects"] < before["objects"] + CROWD, (before, after)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_ends_it(start, number):
    """Also while a handler does not return: clients are told, and the port is free."""
    app = start("shardcast", "faults.py", "{port}")
    crowd = Crowd(app.port, 2)
    crowd.sockets[0].sendall(crowd.frame('42["stick",60]'))
    time.sleep(0.3)
    assert app.signal(number) in (0, 130, -number)
    for each in crowd.sockets:
        assert b"\x03\xe9" in each.recv(4096), "no close frame with 1001, going away"
    assert "Traceback" not in app.said()
    assert not is_open(app.port)


def test_a_second_start_on_the_same_port_is_refused(start, side):
    app = start(side, "faults.py", "{port}")
    second = start(side, "faults.py", "{port}", port=app.port, wait=False)
    assert second.process.wait(30) != 0
    assert str(app.port) in second.said() or "in use" in second.said()
    assert requests.get(f"{app.url}/gone").status_code == 200


def run(words, folder):
    return subprocess.run([interpreter("shardcast"), "-m", "flask_shardcast", *words], cwd=folder, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    "words, says",
    [
        (["missing.py"], "missing.py"), (["broken.py"], "ModuleNotFoundError: No module named 'nothing_such'"),
        (["syntax.py"], "SyntaxError"), (["broken:app"], "nothing_such"), (["empty:app"], "app"), (["empty.py"], "no Flask application"),
        (["nowhere:app"], "nowhere"), (["--bindd", "1", "fine.py", "1"], "bindd"), (["--shards", "many", "fine.py", "1"], "shards"),
        (["--threads", "0", "fine.py", "1"], "threads"), ([], "usage"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_start_that_fails_says_why(tmp_path, words, says):
    (tmp_path / "broken.py").write_text("import nothing_such\n")
    (tmp_path / "syntax.py").write_text("def (:\n")
    (tmp_path / "empty.py").write_text("")
    shutil.copy(HERE / "apps/faults.py", tmp_path / "fine.py")
    done = run(words, tmp_path)
    assert done.returncode not in (0, None) and says in done.stdout + done.stderr, done
    assert "panicked" not in done.stderr


def test_a_change_is_reloaded(start, connect, tmp_path):
    shutil.copy(HERE / "apps/faults.py", tmp_path / "app.py")
    app = start("shardcast", "app.py", "{port}", "--debug", folder=tmp_path)
    still_works(app, connect)
    source = (tmp_path / "app.py").read_text()
    # The reloader compares whole seconds.
    time.sleep(1.1)
    (tmp_path / "app.py").write_text(source.replace('return {"gone": len(gone)}', 'return {"gone": "reloaded"}'))

    def is_new():
        try:
            return requests.get(f"{app.url}/gone", timeout=5).json()["gone"] == "reloaded"
        except (requests.RequestException, json.JSONDecodeError):
            return False

    wait_until("the new code", is_new, 30)
    still_works(app, connect)
    # A mistake shows, and the next change mends it.
    time.sleep(1.1)
    (tmp_path / "app.py").write_text("def (:\n")
    wait_until("the mistake is told", lambda: "SyntaxError" in app.said(), 30)


def test_the_debugger_shows_a_page_of_an_error(start):
    app = start("shardcast", "faults.py", "{port}", "--debug")
    page = requests.get(f"{app.url}/fail")
    assert page.status_code == 500 and "ValueError: error in a page" in page.text and "Traceback" in page.text


def test_stop_ends_run(start, tmp_path):
    (tmp_path / "app.py").write_text(
        "import sys, threading\nfrom flask import Flask\nfrom flask_socketio import SocketIO\napp = Flask(__name__)\nsocketio = SocketIO(app)\n"
        "@app.route('/stop')\ndef stop():\n    socketio.stop()\n    return 'stopping'\n"
        "socketio.run(app, port=int(sys.argv[1]))\nprint('run has returned')\n"
    )
    app = start("shardcast", "app.py", "{port}", folder=tmp_path)
    try:
        requests.get(f"{app.url}/stop", timeout=10)
    except requests.RequestException:
        pass
    assert app.process.wait(15) == 0 and "run has returned" in app.said()
