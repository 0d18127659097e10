"""Plays the table of behaviours with python-socketio's client, and prints what it saw: the twin of behaviours.mjs.

    behaviours.py URL TRANSPORT <CASES
"""

import json
import os
import sys
import threading
import time

import requests
import socketio

url, transport = sys.argv[1:3]
TRANSPORTS = {"websocket": ["websocket"], "polling": ["polling"], "upgrade": None}
PATIENCE_SECONDS = 5
SILENCE_SECONDS = 0.35
QUIET_SECONDS = 0.06
ANSWERS = {
    "question": lambda number: number + 1, "pair": lambda *_: (1, "two"), "binary question": lambda *_: b"\x01\x02",
    "no values": lambda *_: None,
}


def leave(client):
    """The client waits for the server to close the connection, and Flask-SocketIO sometimes does not."""
    thread = threading.Thread(target=client.disconnect, daemon=True)
    thread.start()
    thread.join(0.05)


class Case:
    def __init__(self, number, case):
        self.number, self.steps, self.sees, self.name = number, case["steps"], case["sees"], case["is"]
        self.seen, self.clients, self.sids, self.cookies, self.changed = {}, {}, {}, {}, time.monotonic()
        self.lock = threading.Lock()

    def say(self, letter, line):
        with self.lock:
            self.seen.setdefault(letter, []).append(line)
            self.changed = time.monotonic()

    def plain(self, value):
        if isinstance(value, (bytes, bytearray)):
            return {"$bytes": value.hex()}
        if isinstance(value, (list, tuple)):
            return [self.plain(each) for each in value]
        if isinstance(value, str):
            return self.sids.get(value, value)
        if isinstance(value, dict):
            return {key: self.plain(value[key]) for key in sorted(value)}
        return value

    def real(self, value):
        if isinstance(value, list):
            return [self.real(each) for each in value]
        if isinstance(value, str) and value.startswith("$sid:"):
            return next(sid for sid, name in self.sids.items() if name == f"<{value[5:]}>")
        if isinstance(value, str) and value.startswith("$mark:"):
            return f"{self.number}{value[6:]}"
        if isinstance(value, dict):
            return bytes.fromhex(value["$bytes"]) if "$bytes" in value else {key: self.real(each) for key, each in value.items()}
        return value

    def text(self, values):
        return json.dumps(self.plain(values), separators=(",", ":"), ensure_ascii=False)

    def connect(self, who, auth=None):
        letter, namespace = who[0], who[1:] or "/"
        client = self.clients[letter] = socketio.Client(reconnection=False, handle_sigint=False)
        done = threading.Event()

        def connected():
            self.sids[client.get_sid(namespace)] = f"<{who}>"
            self.say(letter, f"connected {namespace}")
            done.set()

        def refused(about):
            self.say(letter, f"refused {self.text(about)}")
            done.set()

        def event(name, *args):
            self.say(letter, f"{name} {self.text(args)}")
            if name in ANSWERS:
                return ANSWERS[name](*args)

        client.on("connect", connected, namespace=namespace)
        client.on("connect_error", refused, namespace=namespace)
        client.on("disconnect", lambda reason: self.say(letter, f"disconnected: {reason}"), namespace=namespace)
        client.on("*", event, namespace=namespace)
        headers = {"X-Test": "yes", "Cookie": "; ".join(filter(None, ["tea=green", self.cookies.get(letter)]))}
        client.connect(f"{url}?mark={self.number}{letter}", transports=TRANSPORTS[transport], auth=auth, headers=headers,
                       namespaces=[namespace], wait=False)
        if not done.wait(SILENCE_SECONDS if auth == {"how": "error"} else PATIENCE_SECONDS):
            self.say(letter, "neither connected nor refused")

    def ask(self, who, event, args, patience=PATIENCE_SECONDS):
        done = self.begin_ask(who, event, args)
        if not done.wait(patience):
            self.say(who[0], f"{event} -> no answer")

    def begin_ask(self, who, event, args):
        done = threading.Event()

        def answered(*answers):
            self.say(who[0], f"{event} -> {self.text(answers)}")
            done.set()

        self.clients[who[0]].emit(event, tuple(args), namespace=who[1:] or "/", callback=answered)
        return done

    def ask_at_once(self, who, count, event):
        for done in [self.begin_ask(who, event, [number]) for number in range(count)]:
            done.wait(PATIENCE_SECONDS)

    def page(self, letter, path):
        answer = requests.get(url + path, headers={"Cookie": self.cookies.get(letter, "")}, timeout=PATIENCE_SECONDS)
        if "Set-Cookie" in answer.headers:
            self.cookies[letter] = answer.headers["Set-Cookie"].split(";")[0]
        self.say(letter, f"{path} -> {answer.status_code} {''.join(answer.text.split())}")

    def step(self, who, verb, *rest):
        rest = [self.real(each) for each in rest]
        match verb:
            case "connect":
                self.connect(who, *rest)
            case "emit":
                self.clients[who[0]].emit(rest[0], tuple(rest[1:]), namespace=who[1:] or "/")
            case "ask":
                self.ask(who, rest[0], rest[1:])
            case "ask in vain":
                self.ask(who, rest[0], rest[1:], SILENCE_SECONDS)
            case "ask at once":
                self.ask_at_once(who, *rest)
            case "disconnect":
                leave(self.clients[who[0]])
            case "page":
                self.page(who[0], *rest)
            case "pause":
                time.sleep(rest[0] / 1000)
            case _:
                raise ValueError(f"no such verb: {verb}")

    def play(self):
        for step in self.steps:
            self.step(*step)
        ends = time.monotonic() + PATIENCE_SECONDS
        while not all(len(self.seen.get(letter, [])) >= len(lines) for letter, lines in self.sees.items()) and time.monotonic() < ends:
            time.sleep(0.005)
        while time.monotonic() - self.changed < QUIET_SECONDS and time.monotonic() < ends:
            time.sleep(0.005)
        seen = json.dumps({"is": self.name, "seen": self.seen})
        print(seen, flush=True)
        for client in self.clients.values():
            leave(client)


for at, case in enumerate(json.load(sys.stdin)):
    Case(at, case).play()
os._exit(0)
