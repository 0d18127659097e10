"""The HTTP API: its description is one that tools read, and what the server answers is what the description says."""

import base64
import json
import os
import pathlib
import secrets
import socket
import subprocess
import time

import pytest
import requests
import socketio
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

WAIT_SECONDS = 8
TOKEN = secrets.token_hex(24)
READER = secrets.token_hex(24)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def api():
    """A server of two shards with the API on its operators' listener, and a token of which another is a part."""
    binary = os.environ.get("CONFORMANCE_BIN")
    if not binary or os.environ.get("TARGET") == "reference":
        pytest.skip("the npm server has no such API")
    public, admin = free_port(), free_port()
    settings = {
        "BIND": f"127.0.0.1:{public}",
        "ADMIN_BIND": f"127.0.0.1:{admin}",
        "SHARDS": "2",
        "API_TOKENS": f"{TOKEN}; {READER} read /",
        "API_BODY_BYTES_MAX": "20000",
    }
    environment = {**os.environ, **{f"SHARDCAST_{name}": value for name, value in settings.items()}}
    process = subprocess.Popen([binary], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                requests.get(f"http://127.0.0.1:{admin}/livez", timeout=2)
                break
            except requests.ConnectionError:
                assert process.poll() is None and time.monotonic() < deadline, "the server does not start"
                time.sleep(0.05)
        yield Api(f"http://127.0.0.1:{public}", f"http://127.0.0.1:{admin}/api/v1")
    finally:
        process.terminate()
        process.wait(WAIT_SECONDS)


class Api:
    """Asks, and compares each request that is done and each answer with the description."""

    def __init__(self, public, base):
        self.public, self.base = public, base
        self.spec = requests.get(f"{base}/openapi.json", timeout=WAIT_SECONDS).json()
        self.seen = set()

    def check(self, pointer, value):
        found = {**self.spec, "$ref": "#/" + "/".join(part.replace("~", "~0").replace("/", "~1") for part in pointer)}
        Draft202012Validator(found).validate(value)

    def ask(self, method, path, body=None, token=TOKEN, **options):
        headers = {"Authorization": f"Bearer {token}", **options.pop("headers", {})}
        text = body if isinstance(body, (str, type(None))) else json.dumps(body)
        answer = requests.request(
            method, f"{self.base}/{path}", data=text, headers=headers, timeout=WAIT_SECONDS, **options
        )
        value = answer.json()
        path = path.split("?")[0]
        operation = self.spec["paths"].get(f"/{path}", {}).get(method.lower())
        if operation is None:
            self.check(["components", "schemas", "Error"], value)
            return answer.status_code, value
        status = str(answer.status_code)
        assert status in operation["responses"], f"{method} {path} answers {status}, which the description has not"
        self.seen.add((method, path, status))
        response = operation["responses"][status]
        codes = response.get("x-codes")
        assert codes is None or value["error"]["code"] in codes, f"{method} {path}: {value}"
        at = ["paths", f"/{path}", method.lower()]
        if "$ref" in response:
            at = response["$ref"].removeprefix("#/").split("/")
        else:
            at = [*at, "responses", status]
        self.check([*at, "content", "application/json", "schema"], value)
        if status == "200" and method == "POST":
            self.check(["paths", f"/{path}", "post", "requestBody", "content", "application/json", "schema"], json.loads(text))
        return answer.status_code, value


def test_the_description_is_valid_and_the_one_of_the_repository(api):
    validate(api.spec)
    written = pathlib.Path(__file__).parents[3] / "docs/openapi.json"
    assert api.spec == json.loads(written.read_text())


def test_what_is_answered_is_what_the_description_says(api):
    client = socketio.Client(reconnection=False)
    news = []
    client.on("news", lambda *args: (news.append(args), ("seen", b"\x01\x02"))[1])
    client.connect(api.public, transports=["websocket"], wait_timeout=WAIT_SECONDS)
    try:
        to = client.get_sid()
        binary = [base64.b64encode(b"\x00\xff").decode()]
        done = [
            ("POST", "join", {"to": to, "rooms": ["red", "green"]}),
            ("POST", "emit", {"to": "red", "except": ["blue"], "event": "news", "args": [1, {"a": None}], "volatile": True}),
            ("POST", "emit", {"event": "news", "args": [{"_placeholder": True, "num": 0}], "binary": binary, "local": True}),
            ("POST", "ask", {"to": [to], "event": "news", "timeout_ms": 5000}),
            ("POST", "count", {"to": "red"}),
            ("GET", "count", None),
            ("POST", "sockets", {"to": "red", "limit": 1}),
            ("GET", "sockets", None),
            ("GET", "rooms", None),
            ("GET", "info", None),
            ("GET", "openapi.json", None),
            ("POST", "leave", {"to": to, "rooms": "green"}),
            ("POST", "batch", {"requests": [{"emit": {"event": "x"}}, {"count": {"to": "red"}}, {"emit": {"event": "connect"}}]}),
            ("POST", "disconnect", {"to": to, "reason": "tested"}),
        ]
        for method, path, body in done:
            status, value = api.ask(method, path, body)
            assert status == 200, f"{method} {path}: {value}"
            if path == "ask":
                assert value["missing"] == 0 and value["answers"][0][0] == to, value
        assert len(news) == 3
    finally:
        client.disconnect()
    paths = {(method.upper(), path[1:]) for path, item in api.spec["paths"].items() for method in item}
    assert {(method, path) for method, path, status in api.seen if status == "200"} == paths


def test_clients_of_a_further_endpoint_are_reached_by_its_path(api):
    main, other = (socketio.Client(reconnection=False) for _ in range(2))
    heard = []
    for name, client, path in [("main", main, "socket.io"), ("other", other, "websocket-only.io")]:
        client.on("where", lambda *_, name=name: heard.append(name))
        client.connect(api.public, transports=["websocket"], socketio_path=path, wait_timeout=WAIT_SECONDS)
    try:
        for endpoint, client in [("/websocket-only.io/", other), ("/socket.io/", main)]:
            to = client.get_sid()
            assert api.ask("POST", "emit", {"endpoint": endpoint, "event": "where", "to": to})[1]["receivers"] == 1
            # Its answer comes after what was sent before.
            assert api.ask("POST", "ask", {"endpoint": endpoint, "event": "nothing", "to": to, "timeout_ms": 200})[0] == 200
            ids = api.ask("POST", "sockets", {"endpoint": endpoint})[1]["sockets"]
            assert [socket["id"] for socket in ids] == [to]
        assert api.ask("POST", "emit", {"event": "where", "to": other.get_sid()})[1]["receivers"] == 0
        deadline = time.monotonic() + WAIT_SECONDS
        while len(heard) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert heard == ["other", "main"]
    finally:
        main.disconnect()
        other.disconnect()


def test_what_is_refused_has_one_shape(api):
    key = {"Idempotency-Key": secrets.token_hex(8)}
    assert api.ask("POST", "emit", {"event": "once"}, headers=key)[0] == 200
    rows = [
        ("POST", "emit", "{", 400, "bad_json", {}),
        ("POST", "emit", {"event": "a", "rom": "b"}, 400, "unknown_field", {}),
        ("POST", "emit", {}, 400, "missing_field", {}),
        ("POST", "emit", {"event": "a", "to": []}, 400, "empty_list", {}),
        ("POST", "emit", {"event": "a", "args": 7}, 400, "bad_value", {}),
        ("GET", "count", None, 401, "unauthorized", {"token": "nobody"}),
        ("POST", "emit", {"event": "a"}, 403, "forbidden_scope", {"token": READER}),
        ("POST", "count", {"namespace": "/custom"}, 403, "forbidden_namespace", {"token": READER}),
        ("POST", "emit", {"event": "a", "namespace": "/nowhere/at/all"}, 404, "unknown_namespace", {}),
        ("POST", "emit", {"event": "a", "endpoint": "/nowhere.io/"}, 404, "unknown_endpoint", {}),
        ("GET", "info?endpoint=/nowhere.io/", None, 404, "unknown_endpoint", {}),
        ("POST", "count", {"endpoint": "/admin.io/"}, 403, "forbidden_namespace", {"token": READER}),
        ("POST", "emit", {"event": "twice"}, 409, "idempotency_mismatch", {"headers": key}),
        ("POST", "emit", {"event": "a", "args": ["x" * 20000]}, 413, "too_large", {}),
        ("POST", "emit", {"event": "disconnect"}, 422, "reserved_event", {}),
        ("GET", "emit", None, 405, "method_not_allowed", {}),
        ("PURGE", "emit", None, 405, "method_not_allowed", {}),
        ("GET", "nowhere", None, 404, "not_found", {}),
        ("GET", "", None, 404, "not_found", {}),
    ]
    for method, path, body, status, code, options in rows:
        answer = api.ask(method, path, body, **options)
        assert (answer[0], answer[1]["error"]["code"]) == (status, code), f"{method} {path} {str(body)[:80]}"
