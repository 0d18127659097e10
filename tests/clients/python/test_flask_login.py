"""A login of a real Flask application with Flask-Login, believed by the example `flask_login`; and the way back."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest
import requests
import socketio

from conftest import WAIT_SECONDS

SECRET_KEY = "tests' own: ż and 🦀"
ROOT = pathlib.Path(__file__).parents[3]
os.environ["SECRET_KEY"] = SECRET_KEY
sys.path.insert(0, str(ROOT / "examples" / "flask_login"))

from app import app  # noqa: E402

pytestmark = pytest.mark.skipif(os.environ.get("TARGET") == "reference", reason="the example is not one of Node's")


@pytest.fixture(scope="module")
def url():
    with socket.create_server(("127.0.0.1", 0)) as held:
        address = "127.0.0.1:%d" % held.getsockname()[1]
    folder = os.environ.get("EXAMPLES_DIR", "target/release/examples")
    server = subprocess.Popen(
        [ROOT / folder / "flask_login"],
        env={**os.environ, "SHARDCAST_BIND": address, "SHARDCAST_SHARDS": "2", "SECRET_KEY": SECRET_KEY},
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        try:
            requests.get(f"http://{address}/visits", timeout=1)
            break
        except requests.RequestException:
            assert server.poll() is None, "the example ended"
            time.sleep(0.05)
    yield f"http://{address}"
    server.send_signal(signal.SIGTERM)
    assert server.wait(WAIT_SECONDS) == 0


@pytest.fixture
def browser():
    """Flask's own client, logged in."""
    with app.test_client() as client:
        assert client.post("/login", data={"name": "żaneta"}).status_code == 302
        yield client


def cookie_of(browser):
    return browser.get_cookie("session").value


@pytest.mark.parametrize("transports", [["polling"], ["websocket"], None], ids=["polling", "websocket", "upgrade"])
def test_a_login_is_believed(url, browser, transports):
    client = socketio.SimpleClient()
    client.connect(url, headers={"Cookie": f"session={cookie_of(browser)}"}, transports=transports)
    assert client.receive(timeout=WAIT_SECONDS) == ["entered", "żaneta"]
    client.emit("say", "hello")
    assert client.receive(timeout=WAIT_SECONDS) == ["said", "żaneta", "hello"]
    client.disconnect()


@pytest.mark.parametrize("change", ["none", "cut", "tampered", "another key"])
def test_anything_else_is_refused(url, browser, change):
    cookie = cookie_of(browser)
    if change == "cut":
        cookie = cookie[:-1]
    elif change == "tampered":
        cookie = ("B" if cookie[0] == "A" else "A") + cookie[1:]
    elif change == "another key":
        serializer = app.session_interface.get_signing_serializer(app)
        serializer.secret_keys = [b"another"]
        cookie = serializer.dumps({"_user_id": "mallory"})
    headers = {} if change == "none" else {"Cookie": f"session={cookie}"}
    client = socketio.SimpleClient()
    with pytest.raises(socketio.exceptions.ConnectionError):
        client.connect(url, headers=headers, transports=["websocket"])


def test_the_guard_of_one_event_disconnects(url, browser):
    for headers, answer in [({"Cookie": f"session={cookie_of(browser)}"}, "żaneta"), ({}, None)]:
        client = socketio.Client()
        client.connect(url, headers=headers, namespaces=["/public"], transports=["websocket"])
        assert client.call("look", namespace="/public", timeout=WAIT_SECONDS) == "at your leisure"
        if answer:
            assert client.call("touch", namespace="/public", timeout=WAIT_SECONDS) == answer
        else:
            with pytest.raises((socketio.exceptions.TimeoutError, socketio.exceptions.DisconnectedError)):
                client.call("touch", namespace="/public", timeout=1)
            assert "/public" not in client.namespaces
        client.disconnect()


def test_flask_reads_what_a_route_wrote(url, browser):
    for visit in (1, 2):
        response = requests.get(f"{url}/visits", cookies={"session": cookie_of(browser)}, timeout=WAIT_SECONDS)
        assert response.text == f"visit {visit}"
        browser.set_cookie("session", response.cookies["session"])
    page = browser.get("/")
    assert page.status_code == 200, "the login has survived"
    assert "2 times" in page.text and "żaneta" in page.text
