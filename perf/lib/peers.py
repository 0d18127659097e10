"""The servers that are compared: how each is built, started and stopped."""

import os
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

PERF = Path(__file__).resolve().parent.parent
PROJECT = PERF.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", PROJECT / "target"))
RELEASE = TARGET / "release"
START_SECONDS_MAX = 15
STOP_SECONDS_MAX = 10
COMPLAINT_BYTES_MAX = 600


class PeerError(Exception):
    """A server could not be built or started, or ended by itself."""


@dataclass
class Peer:
    """One server. `{port}` and `{shards}` in its command are filled in."""

    name: str
    command: list
    about: str
    environment: dict = field(default_factory=dict)
    # What two cores are used with; a peer without it cannot use a second.
    command_two_cores: list = None


PEERS = {
    peer.name: peer
    for peer in [
        Peer("limit", [RELEASE / "peer-limit", "{port}"], "plain epoll, nothing parsed: what the kernel costs"),
        Peer(
            "shardcast",
            [RELEASE / "examples/bench_server", "{port}", "--shards", "{shards}"],
            "this project, io_uring where the kernel lets it",
            command_two_cores=[RELEASE / "examples/bench_server", "{port}", "--shards", "{shards}"],
        ),
        Peer(
            "shardcast-raw",
            [RELEASE / "examples/bench_server", "{port}", "--shards", "{shards}", "--handlers", "raw"],
            "this project with handlers that pass on what came without reading it",
            command_two_cores=[RELEASE / "examples/bench_server", "{port}", "--shards", "{shards}", "--handlers", "raw"],
        ),
        Peer(
            "shardcast-epoll",
            [RELEASE / "examples/bench_server", "{port}", "--shards", "{shards}", "--io", "epoll"],
            "this project on epoll",
            command_two_cores=[RELEASE / "examples/bench_server", "{port}", "--shards", "{shards}", "--io", "epoll"],
        ),
        Peer(
            "shardcast-monoio",
            [RELEASE / "examples/bench_server", "{port}", "--shards", "{shards}", "--io", "monoio"],
            "this project on io_uring through monoio",
            command_two_cores=[RELEASE / "examples/bench_server", "{port}", "--shards", "{shards}", "--io", "monoio"],
        ),
        Peer(
            "socketioxide",
            [RELEASE / "peer-socketioxide", "{port}", "--threads", "current"],
            "socketioxide on axum and tokio, one thread, mimalloc",
            {"TOKIO_WORKER_THREADS": "{shards}"},
            command_two_cores=[RELEASE / "peer-socketioxide", "{port}", "--threads", "multi"],
        ),
        Peer("node", ["node", PERF / "peers/node/server.js", "{port}"], "socket.io on ws, Node", {"NODE_ENV": "production"}),
    ]
}
# All but what is there for comparison.
PEERS_DEFAULT = [name for name in PEERS if name not in ("shardcast-monoio", "shardcast-raw")]


def build(names, with_generator):
    """Builds what the chosen peers need, with the probe, one job after the other."""
    cargo = ["cargo", "build", "--release", "--quiet"]
    if any(name.startswith("shardcast") for name in names):
        run(cargo + ["--example", "bench_server"], PROJECT)
    if with_generator:
        run(cargo + ["--bin", "shardcast"], PROJECT)
    run(cargo, PERF / "peers/limit")
    if "socketioxide" in names:
        run(cargo, PERF / "peers/socketioxide")
    if "node" in names and not (PERF / "peers/node/node_modules").exists():
        run(["npm", "ci", "--no-audit", "--no-fund"], PERF / "peers/node")


def run(command, folder):
    print("+", *command, f"({folder.relative_to(PROJECT)})", flush=True)
    result = subprocess.run(command, cwd=folder, env={**os.environ, "CARGO_TARGET_DIR": str(TARGET)})
    if result.returncode != 0:
        raise PeerError(f"{' '.join(map(str, command))} failed in {folder}")


class Running:
    """A server that runs, pinned, on a port of its own; stopped when the `with` block ends."""

    def __init__(self, peer, cores, shards=1, is_fifo=False):
        self.port = free_port()
        command = (peer.command_two_cores or peer.command) if shards > 1 else peer.command
        fill = lambda value: str(value).format(port=self.port, shards=shards)
        self.command = ["taskset", "-c", ",".join(map(str, cores))]
        if is_fifo:
            self.command += ["chrt", "--fifo", "10"]
        self.command += [fill(part) for part in command]
        self.environment = {name: fill(value) for name, value in peer.environment.items()}
        self.process = None
        # A file and not a pipe: a server that complains a lot must not block on it.
        self.log = tempfile.TemporaryFile()

    def __enter__(self):
        self.process = subprocess.Popen(
            self.command,
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self.log,
        )
        deadline = time.monotonic() + START_SECONDS_MAX
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            except OSError:
                ended = self.process.poll() is not None
                if ended or time.monotonic() > deadline:
                    complaints = self.complaints()
                    self.__exit__()
                    raise PeerError(f"{' '.join(self.command)} did not listen: {complaints}") from None
                time.sleep(0.05)

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()

    @property
    def pid(self):
        """taskset and chrt become the server, so the process is the server."""
        return self.process.pid

    def is_alive(self):
        return self.process.poll() is None

    def complaints(self):
        """The end of what it wrote to standard error."""
        size = self.log.seek(0, os.SEEK_END)
        self.log.seek(max(0, size - COMPLAINT_BYTES_MAX))
        return self.log.read().decode(errors="replace").strip()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
