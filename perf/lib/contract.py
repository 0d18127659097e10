"""What every peer must do before it is timed: the events, answered right, over each transport.

Only the standard library, blocking sockets, one or two clients: this is a check, not a load.
"""

import base64
import json
import os
import socket
import struct
import urllib.request

TIMEOUT_SECONDS = 5


class Broken(Exception):
    """A peer answered other than the events' contract says."""


class Client:
    """One Socket.IO client on a WebSocket."""

    def __init__(self, port, sid=None):
        self.socket = socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS)
        key = base64.b64encode(os.urandom(16)).decode()
        query = "EIO=4&transport=websocket" + (f"&sid={sid}" if sid else "")
        self.socket.sendall(
            f"GET /socket.io/?{query} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self.input = self.socket.makefile("rb")
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self.input.readline()
            expect(line, "the handshake was answered by a close")
            head += line
        expect(head.startswith(b"HTTP/1.1 101"), f"the handshake was answered by {head[:40]!r}")

    def open(self):
        """From the Engine.IO open packet to the namespace."""
        expect(self.receive().startswith("0{"), "the first packet is not an open packet")
        self.send("40")
        expect(self.receive().startswith('40{"sid":'), "the namespace was not connected")
        return self

    def send(self, data):
        opcode, payload = (1, data.encode()) if isinstance(data, str) else (2, data)
        mask = os.urandom(4)
        size = len(payload)
        head = struct.pack("!BB", 0x80 | opcode, 0x80 | size) if size < 126 else struct.pack("!BBH", 0x80 | opcode, 0xFE, size)
        self.socket.sendall(head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload)))

    def receive(self):
        """One message: text, or bytes. Pings are answered."""
        while True:
            opcode, size = struct.unpack("!BB", self.read(2))
            if size >= 126:
                size = struct.unpack("!H", self.read(2))[0] if size == 126 else struct.unpack("!Q", self.read(8))[0]
            payload = self.read(size)
            expect(opcode != 0x88, "the server closed the WebSocket")
            if opcode == 0x81 and payload == b"2":
                self.send("3")
            elif opcode == 0x81:
                return payload.decode()
            elif opcode == 0x82:
                return payload

    def read(self, size):
        data = self.input.read(size)
        expect(len(data) == size, "the server closed the connection")
        return data

    def ask(self, text, *expected):
        self.send(text)
        for wanted in expected:
            got = self.receive()
            expect(same(got, wanted), f"{text} was answered by {got!r}, not {wanted!r}")

    def close(self):
        self.input.close()
        self.socket.close()


def expect(condition, text):
    if not condition:
        raise Broken(text)


def same(got, wanted):
    """Equal, white space in JSON aside."""
    if isinstance(got, bytes) or isinstance(wanted, bytes):
        return got == wanted
    strip = lambda text: text.replace(", ", ",").replace(": ", ":")
    return strip(got) == strip(wanted)


def check(port):
    """Raises [`Broken`] with the first thing that is wrong."""
    websocket(port)
    polling(port)
    upgrade(port)


def websocket(port):
    one, two = Client(port).open(), Client(port).open()
    long = "x" * 3000
    one.ask('421["echo","a"]', '431["a"]')
    one.ask(f'4212["echo","{long}"]', f'4312["{long}"]')
    one.send('451-3["bin",{"_placeholder":true,"num":0}]')
    attachment = bytes(range(256)) * 4
    one.send(attachment)
    got = one.receive()
    expect(same(got, '461-3[{"_placeholder":true,"num":0}]'), f"bin was acknowledged by {got!r}")
    expect(one.receive() == attachment, "the attachment came back with other bytes")
    one.ask('42["broadcast","b"]', '42["msg","b"]')
    expect(same(two.receive(), '42["msg","b"]'), "a broadcast did not reach the other client")
    for client in (one, two):
        client.send('425["join","r1"]')
        expect(client.receive().startswith("435["), "join was not acknowledged")
    one.ask('42["room","r1","c"]', '42["msg","c"]')
    expect(same(two.receive(), '42["msg","c"]'), "a room's event did not reach the other member")
    two.ask('42["room","r2","d"]')
    two.ask('429["echo","e"]', '439["e"]')
    one.close()
    two.close()


def polling(port):
    url, _ = open_polling(port)
    post(url, '421["echo","a"]\x1e422["echo","b"]')
    answers = []
    while len(answers) < 2:
        answers += poll(url)
    expect(answers == ['431["a"]', '432["b"]'], f"two echoes over polling were answered by {answers}")


def upgrade(port):
    _, sid = open_polling(port)
    client = Client(port, sid)
    client.ask("2probe", "3probe")
    client.send("5")
    client.ask('421["echo","a"]', '431["a"]')
    client.close()


def open_polling(port):
    url = f"http://127.0.0.1:{port}/socket.io/?EIO=4&transport=polling"
    sid = json.loads(request(url)[1:])["sid"]
    url += f"&sid={sid}"
    post(url, "40")
    packets = poll(url)
    expect(packets[0].startswith('40{"sid":'), f"the namespace was answered by {packets} over polling")
    return url, sid


def post(url, body):
    answer = request(url, body)
    expect(answer.lower() == "ok", f"a POST was answered by {answer!r}")


def poll(url):
    """The packets of the next GET that has any but pings, which are answered."""
    while True:
        packets = request(url).split("\x1e")
        if "2" in packets:
            post(url, "3")
        packets = [packet for packet in packets if packet != "2"]
        if packets:
            return packets


def request(url, body=None):
    data = None if body is None else body.encode()
    headers = {"Content-Type": "text/plain;charset=UTF-8"} if data else {}
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=TIMEOUT_SECONDS) as response:
        return response.read().decode()
