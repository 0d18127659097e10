"""Clients come, do everything and go, again and again: memory stays, and so do the objects of Python. SOAK_MINUTES=20 is the long form."""

import os
import threading
import time

import requests

from conftest import wait_until
from test_faults import Crowd, facts

#: The short form is for CI: enough turns that something kept for each client shows.
SECONDS = float(os.environ.get("SOAK_MINUTES", 0)) * 60 or 20
CLIENTS = 100
THREADS = 16
#: What allocators and lazily made things may take after the first quarter, whatever the length.
GROWTH_BYTES_MAX = 12 << 20
#: Objects that were made since then. One for each gone client would be thousands.
OBJECTS_MAX = 400


def settled(app, gone):
    """Facts as soon as all that left are forgotten."""
    wait_until("the gone are forgotten", lambda: requests.get(f"{app.url}/gone", timeout=30).json()["gone"] >= gone, 60)
    return wait_until("nothing of them is left", lambda: (now := facts(app))["clients"] == 0 and now["sessions"] < 10 and now, 60)


def test_memory_and_references_stay(start):
    app = start("shardcast", "faults.py", "{port}", options=["--shards", "2", "--threads", str(THREADS)])
    begun, gone, samples = time.monotonic(), 0, []
    while time.monotonic() < begun + SECONDS:
        crowd = Crowd(app.port, CLIENTS)
        for number in range(5):
            crowd.send(f'42{number}["use everything","room{number}"]')
        crowd.send('42["fail"]')
        crowd.send('42["no such event",{"a":[1,2,3]}]')
        asked = threading.Thread(target=lambda: [requests.get(f"{app.url}/{page}", timeout=30) for page in ("gone", "fail", "nowhere")])
        asked.start()
        # Some end by the protocol, the others by their connection.
        for each in crowd.sockets[::2]:
            each.sendall(crowd.frame("41"))
        asked.join()
        crowd.leave()
        gone += CLIENTS
        now = settled(app, gone)
        samples.append((app.resident_bytes(), now["objects"], now["threads"], now["environs"]))
        # The log has a traceback for each failure: it is not what is measured.
    assert len(samples) >= 8, f"only {len(samples)} turns in {SECONDS:.0f} s"
    first, last = samples[len(samples) // 4], samples[-1]
    grown = last[0] - first[0]
    print(f"{gone} clients in {len(samples)} turns: {first} -> {last} (bytes, objects, threads, environs)")
    assert last[1] - first[1] < OBJECTS_MAX, samples
    # The pool begins small, and grows to what it may have.
    assert last[2] <= THREADS + 8 and last[3] <= 2, samples
    assert grown < GROWTH_BYTES_MAX, samples
