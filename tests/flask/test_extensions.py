"""Flask-Login, Flask-Session, blueprints, a factory, processes that only emit, and nginx in front: on both servers."""

import os
import shutil
import subprocess

import pytest
import requests

from conftest import DIES_WITH_US, free_port, interpreter, is_open, wait_until

EMITTER = """
import sys
from flask_socketio import SocketIO
socketio = SocketIO(message_queue=sys.argv[1])
socketio.emit("told", {"from": "a task", "bytes": b"\\x00\\x01"}, to=sys.argv[2])
socketio.emit("told", "to all")
socketio.send("plain")
"""
NGINX = """
daemon off; error_log stderr; pid {folder}/nginx.pid; worker_processes 1;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_set_header Host $http_host; proxy_set_header X-Real-IP $remote_addr; proxy_set_header X-Forwarded-Proto https;
      proxy_set_header X-Forwarded-For 203.0.113.7; proxy_set_header X-Forwarded-Host example.test;
      proxy_pass http://127.0.0.1:{upstream};
    }}
    location /socket.io {{
      proxy_http_version 1.1; proxy_buffering off; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "Upgrade";
      proxy_set_header Host $http_host;
      proxy_pass http://127.0.0.1:{upstream}/socket.io;
    }}
  }}
}}
"""


@pytest.fixture
def app(start, side, tmp_path):
    return start(side, "extensions.py", "{port}", SESSION_FOLDER=str(tmp_path / "sessions"))


@pytest.fixture
def redis(tmp_path):
    port = free_port()
    process = subprocess.Popen([*DIES_WITH_US, "redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)], stdout=subprocess.DEVNULL)
    wait_until("Redis listens", lambda: is_open(port))
    yield f"redis://127.0.0.1:{port}/0"
    process.kill()
    process.wait()


def headers_of(browser):
    return {"Cookie": "; ".join(f"{cookie.name}={cookie.value}" for cookie in browser.cookies)}


def test_a_login_is_known_to_handlers(app, connect):
    browser = requests.Session()
    assert browser.get(f"{app.url}/chat/login/ada").status_code == 204
    members = connect(app.url, "/members", headers=headers_of(browser))
    assert members.call("who", namespace="/members") == "ada"
    assert connect(app.url, headers=headers_of(browser)).call("get") == {"value": None, "user": "ada"}


def test_without_a_login_a_namespace_refuses(app, connect):
    import socketio

    with pytest.raises(socketio.exceptions.ConnectionError):
        connect(app.url, "/members", wait=True)


def test_a_handler_sends_away_who_is_not_logged_in(app, connect):
    stranger = connect(app.url)
    stranger.emit("guarded")
    wait_until("the end", lambda: [got for got in stranger.got if got[0] == "disconnect"])


def test_a_session_on_disk_is_shared_by_pages_and_handlers(app, connect):
    browser = requests.Session()
    browser.post(f"{app.url}/chat/value", json={"value": "by a page"}).raise_for_status()
    client = connect(app.url, headers=headers_of(browser))
    assert client.call("get")["value"] == "by a page"
    client.call("set", "by a handler")
    assert browser.get(f"{app.url}/chat/value").json()["value"] == "by a handler"
    browser.post(f"{app.url}/chat/value", json={"value": "again"}).raise_for_status()
    assert client.call("get")["value"] == "again"


def test_a_login_in_between_is_seen(app, connect):
    browser = requests.Session()
    browser.post(f"{app.url}/chat/value", json={"value": 1}).raise_for_status()
    client = connect(app.url, headers=headers_of(browser))
    assert client.call("get")["user"] is None
    browser.get(f"{app.url}/chat/login/bob")
    assert client.call("get")["user"] == "bob"
    browser.get(f"{app.url}/chat/logout")
    assert client.call("get")["user"] is None


def test_a_page_of_a_blueprint_emits_to_a_room(app, connect):
    client = connect(app.url)
    assert client.call("join", "tea") is True
    browser = requests.Session()
    browser.get(f"{app.url}/chat/login/ada")
    browser.get(f"{app.url}/chat/tell/tea")
    wait_until("the page's event", lambda: ("told", {"from": "ada"}) in client.got)


def test_a_factory_is_named_on_the_command_line(start, connect, tmp_path):
    """Flask-SocketIO leaves this to gunicorn."""
    port = free_port()
    app = start("shardcast", "extensions:create_app()", options=["--bind", f"127.0.0.1:{port}", "--shards", "2"], port=port, SESSION_FOLDER=str(tmp_path))
    assert connect(app.url).call("join", "x") is True


def emit_from_a_process(side, queue, room, tmp_path):
    (tmp_path / "emitter.py").write_text(EMITTER)
    launcher = ["-m", "flask_shardcast"] if side == "shardcast" else []
    done = subprocess.run([interpreter(side), *launcher, tmp_path / "emitter.py", queue, room], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("emitter", ["flask-socketio", "shardcast"])
def test_a_process_that_only_emits_does_so_through_redis(start, side, emitter, connect, redis, tmp_path):
    """As a task of Celery would: a SocketIO without an application. Each kind of process with each kind of server."""
    app = start(side, "extensions.py", "{port}", SESSION_FOLDER=str(tmp_path / "sessions"), QUEUE=redis)
    member, other = connect(app.url), connect(app.url)
    member.call("join", "tea")
    # Flask-SocketIO subscribes some time after its first client has come.
    wait_until("a first event", lambda: (emit_from_a_process(emitter, redis, "tea", tmp_path), ("message", "plain") in other.got)[1])
    wait_until("the room's event", lambda: ("told", {"from": "a task", "bytes": b"\x00\x01"}) in member.got)
    wait_until("everybody's", lambda: ("told", "to all") in member.got and ("told", "to all") in other.got)
    assert ("told", {"from": "a task", "bytes": b"\x00\x01"}) not in other.got


def test_two_servers_of_two_kinds_share_rooms_through_redis(start, connect, redis, tmp_path):
    servers = [start(side, "extensions.py", "{port}", SESSION_FOLDER=str(tmp_path / "sessions"), QUEUE=redis) for side in ("flask-socketio", "shardcast")]
    clients = [connect(server.url) for server in servers]
    for client in clients:
        client.call("join", "tea")
    for server in servers:
        wait_until("both have heard", lambda: (requests.get(f"{server.url}/chat/tell/tea"), all(("told", {"from": None}) in client.got for client in clients))[1])
        for client in clients:
            client.got.clear()


@pytest.fixture
def proxy(tmp_path):
    """The manual's nginx configuration, with its headers."""
    processes = []

    def start(upstream):
        port = free_port()
        (tmp_path / "nginx.conf").write_text(NGINX.format(folder=tmp_path, port=port, upstream=upstream))
        nginx = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")
        processes.append(subprocess.Popen([*DIES_WITH_US, nginx, "-p", tmp_path, "-c", tmp_path / "nginx.conf"], stderr=subprocess.DEVNULL))

        def answers():
            try:
                return requests.get(f"http://127.0.0.1:{port}/chat/address", timeout=5)
            except requests.RequestException:
                return None

        wait_until("nginx", answers)
        return f"http://127.0.0.1:{port}"

    yield start
    for process in processes:
        process.terminate()
        process.wait()


@pytest.mark.parametrize("transports", [["polling"], ["websocket"], ["polling", "websocket"]], ids=["polling", "websocket", "upgrade"])
def test_behind_nginx(start, side, proxy, connect, transports, tmp_path):
    app = start(side, "extensions.py", "{port}", SESSION_FOLDER=str(tmp_path / "sessions"), PROXIES="1")
    url = proxy(app.port)
    assert requests.get(f"{url}/chat/address").json() == {"address": "203.0.113.7", "scheme": "https", "host": "example.test"}
    client = connect(url, transports=transports)
    assert client.call("join", "tea") is True
    requests.get(f"{url}/chat/tell/tea")
    wait_until("the page's event", lambda: ("told", {"from": None}) in client.got)
