"""`shardcast bench`: its options for each workload, and what is taken from its JSON. Nothing else knows either."""

import json
import shlex
import subprocess
import tempfile
import time
from dataclasses import dataclass, field

WARMUP_SECONDS = 1
DRAIN_SECONDS = 5
# Connecting 10,000 clients to the slowest server, and room to spare.
SETUP_SECONDS_MAX = 60
# Below every listen backlog here, so that a handshake never waits for TCP's one-second retry.
CONNECT_WINDOW = 100
WORKLOADS = {"echo": "echo", "binary": "binary", "broadcast": "fanout", "room": "rooms", "sessions": "connect", "held": "idle",
             "slow": "slow"}


class GeneratorError(Exception):
    """The generator made no run."""


@dataclass
class Result:
    """One run as the generator saw it. Times of the window are `time.monotonic()`'s."""

    command: list
    raw: dict
    seconds: float
    messages: float
    client_busy: float
    window: tuple
    # CPU time of the server in the window; nothing when the samples must tell.
    server_cpu: float = None
    p50: float = None
    p99: float = None
    p999: float = None
    connections: int = 0
    faults: list = field(default_factory=list)


def command(scenario, server, cores, settings):
    """The generator's command line."""
    words = ["taskset", "-c", str(cores.client[0]), *shlex.split(settings.generator)]
    words += [WORKLOADS[scenario.workload], f"http://127.0.0.1:{server.port}"]
    words += ["--connections", str(scenario.connections), "--payload", str(scenario.payload)]
    words += ["--transport", scenario.transport, "--mask", "random"]
    words += ["--duration", f"{scenario.seconds}s", "--warmup", f"{WARMUP_SECONDS}s"]
    words += ["--drain", f"{DRAIN_SECONDS}s", "--connect-window", str(CONNECT_WINDOW)]
    if scenario.workload in ("echo", "binary"):
        words += ["--in-flight", str(scenario.in_flight)]
    if scenario.workload in ("broadcast", "slow"):
        words += ["--publish-in-flight", str(scenario.in_flight)]
    if scenario.workload == "room":
        words += ["--room-size", str(scenario.room_size), "--rate-per-client", str(scenario.rate)]
    if scenario.workload == "slow":
        words += ["--slow-share", str(scenario.slow)]
    return words + ["--pid", str(server.pid), "--json", "-"]


def run(scenario, server, cores, settings):
    """Runs it to its end, or stops it when it takes too long."""
    words = command(scenario, server, cores, settings)
    limit = scenario.seconds + WARMUP_SECONDS + DRAIN_SECONDS + SETUP_SECONDS_MAX
    started = time.monotonic()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=complaints)
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            raise GeneratorError(f"the generator did not end within {limit:.0f} s") from None
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        out.seek(0)
        complaints.seek(0)
        text, errors = out.read().decode(errors="replace"), complaints.read().decode(errors="replace").strip()
    if not text.strip():
        raise GeneratorError(f"the generator ended with {code}: {errors[-300:] or 'without a word'}")
    return read(scenario, words, json.loads(text), code, started)


def read(scenario, words, report, code, started):
    """What the JSON says. The generator does not tell when its window was; it follows from how long connecting took."""
    connect, latency = report["connect"], report["latency_us"]
    if scenario.is_whole:
        seconds, messages, window, server_cpu = connect["seconds"], connect["sessions"], (started, started + connect["seconds"]), None
    else:
        opened = started + WARMUP_SECONDS + (0 if scenario.workload == "sessions" else connect["seconds"])
        seconds, window = report["seconds"], (opened, opened + report["seconds"])
        messages = report["received"] if latency else connect["sessions"]
        server_cpu = report["server"]["cpu_seconds"]
    times = latency or connect["time_us"] or {}
    held = scenario.connections if scenario.workload != "sessions" else 0
    return Result(
        words, report, seconds, messages, None if scenario.is_whole else report["generator"]["cpu_share"], window, server_cpu,
        times.get("p50"), times.get("p99"), times.get("p999"), held, faults(scenario, report, code),
    )


def faults(scenario, report, code):
    """What the generator found wrong, in its words; what `measure` judges by itself aside."""
    judged = ("the generator used", "the window is under 1 s") if scenario.is_whole else ("the generator used",)
    found = [warning for warning in report["warnings"] if not warning.startswith(judged)]
    if not report["ok"]:
        counts = {name: count for name, count in report["checks"].items() if isinstance(count, int) and count}
        counts.pop("checked", None)
        found.insert(0, f"checks failed: {counts}: {report['checks']['first']}")
    elif code:
        found.insert(0, f"the generator ended with {code}")
    return found
