"""Routes and files with clients of HTTP that are not ours: http.client of Python's library, and curl."""

import http.client
import os
import subprocess
from urllib.parse import urlsplit

import pytest

pytestmark = pytest.mark.skipif(os.environ.get("TARGET") == "reference", reason="the npm server has no such routes")

PIECES = [b"x" * 50_000] * 40


@pytest.fixture
def connection(url):
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=8)
    yield connection
    connection.close()


def test_answers_and_bodies_piece_by_piece_on_one_connection(connection):
    connection.request("GET", "/lines?count=300")
    answer = connection.getresponse()
    assert answer.getheader("transfer-encoding") == "chunked"
    assert len(answer.read(1000)) == 1000 and len(answer.read()) == 299_000
    connection.request("POST", "/upload", body=iter(PIECES), encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
    assert connection.getresponse().read() == b"2000000"
    connection.request("POST", "/upload", body=b"".join(PIECES))
    assert connection.getresponse().read() == b"2000000"
    connection.request("HEAD", "/lines?count=300")
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (200, b"")
    connection.request("GET", "/later?ms=50")
    assert connection.getresponse().read() == b"later"


def test_a_part_of_a_file(connection):
    for asked, status, body, part in [
        ("bytes=0-4", 206, b"hello", "bytes 0-4/18"),
        ("bytes=-5", 206, b"file\n", "bytes 13-17/18"),
        ("bytes=18-", 416, None, "bytes */18"),
        ("bytes=0-1,3-4", 200, b"hello from a file\n", None),
    ]:
        connection.request("GET", "/static/hello.txt", headers={"Range": asked})
        answer = connection.getresponse()
        text = answer.read()
        assert (answer.status, answer.getheader("content-range")) == (status, part)
        assert body is None or text == body


def curl(*arguments):
    done = subprocess.run(["curl", "-sS", "--max-time", "8", *arguments], capture_output=True, check=True)
    return done.stdout


def test_curl_uploads_resumes_and_reads_events(url, tmp_path):
    whole, half = tmp_path / "whole", tmp_path / "half"
    whole.write_bytes(b"".join(PIECES))
    assert curl("-T", str(whole), "-X", "POST", f"{url}/upload") == b"2000000"
    with whole.open("rb") as body:
        done = subprocess.run(["curl", "-sS", "--max-time", "8", "-T", "-", "-X", "POST", f"{url}/upload"], stdin=body, capture_output=True, check=True)
    assert done.stdout == b"2000000"
    half.write_bytes(b"hello fr")
    curl("-C", "-", "-o", str(half), f"{url}/static/hello.txt")
    assert half.read_bytes() == b"hello from a file\n"
    events = curl("-N", "-H", "Last-Event-ID: 7", f"{url}/ticks")
    assert events.startswith(b"event: tick\nid: 8\nretry: 10\ndata: tick\ndata: 8\n\n") and events.count(b"id: ") == 3
    assert len(curl("--http1.0", f"{url}/lines?count=20")) == 20_000
