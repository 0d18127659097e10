"""JSON to Python objects: this crate's two readers beside serde_json, orjson and Python's json; and what writes it.

    cargo build --release -p flask-shardcast --features bench-support
    cp target/release/lib_native.so python/flask_shardcast/_native.abi3.so
    pip install orjson && PYTHONPATH=python python python/benches/json.py

Prints the fastest of several rounds, in microseconds a text. Each reader's answer is compared with Python's before it is timed.
"""

import json
import sys
import time

import orjson

from flask_shardcast import _native

ROUNDS = 7
SECONDS_A_ROUND = 0.1


def texts():
    row = {"id": 1234, "name": "Ada Lovelace", "email": "ada@example.com", "score": 12.5, "tags": ["a", "b"], "active": True}
    yield "a text of 64 B", "x" * 64
    yield "an object of 70 B", {"room": "lobby", "text": "hello there", "n": 7, "at": 1700000000.25}
    yield "an object of 110 B", row
    for count in (4, 10, 100, 1000):
        yield f"{count} objects", [dict(row, id=number) for number in range(count)]
    yield "1,000 numbers", list(range(1000))
    yield "1,000 floats", [number / 7 for number in range(1000)]
    yield "a text of 10 KB with escapes", 'line "quoted"\n' * 700
    yield "a text of 100 KB", "x" * 100_000


def fastest(work):
    times = []
    for _ in range(ROUNDS):
        count, started = 0, time.perf_counter()
        while time.perf_counter() - started < SECONDS_A_ROUND:
            for _ in range(20):
                work()
            count += 20
        times.append((time.perf_counter() - started) / count)
    return min(times) * 1e6


def main():
    readers = {"direct": _native.read_direct, "tape": _native.read_tape, "serde_json": _native.read_serde, "orjson": orjson.loads,
               "json": json.loads}
    writers = {"write": _native.write_args, "orjson.dumps": orjson.dumps, "json.dumps": json.dumps}
    print("| value | bytes | " + " | ".join([*readers, *writers]) + " |")
    print("|---|" + "---|" * (1 + len(readers) + len(writers)))
    for name, value in texts():
        text = json.dumps(value, separators=(",", ":"))
        found = []
        for read in readers.values():
            answer = read(text)
            assert value == (answer[0] if isinstance(answer, tuple) else answer)
            found.append(fastest(lambda read=read: read(text)))
        args = (value,)
        found.append(fastest(lambda: _native.write_args(args)))
        found += [fastest(lambda write=write: write(value)) for write in list(writers.values())[1:]]
        print(f"| {name} | {len(text)} | " + " | ".join(f"{micros:.2f}" for micros in found) + " |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
