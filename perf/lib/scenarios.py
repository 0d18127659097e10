"""What is measured. The names are those of `perf/run --only`; numbers come from what users of such servers do."""

from dataclasses import dataclass, replace

QUICK_SECONDS = 2


@dataclass(frozen=True)
class Scenario:
    """One load. What one message is: `unit`; CPU time is divided by their number."""

    name: str
    title: str
    workload: str
    unit: str
    connections: int
    payload: int = 64
    # Closed loop: messages that each client keeps in flight. Open loop: events each client sends a second.
    in_flight: int = 1
    rate: float = 0
    transport: str = "websocket"
    room_size: int = 0
    # Share of the clients that do not read.
    slow: float = 0
    seconds: float = 8
    shards: int = 1
    # Whether the loop is closed, and the server should be busy all the time.
    is_full_load: bool = True
    # Whether memory is what matters, and the kernel's is told as well.
    is_memory: bool = False
    # Whether what counts is all that the server did, and not a window of it.
    is_whole: bool = False
    note: str = ""


ALL = [
    Scenario("echo", "Echo with acknowledgement, 200 connections, 4 in flight, 64 B", "echo", "echo", 200, in_flight=4),
    Scenario("fanout", "Fan-out, closed loop, 1,000 connections, 64 B", "broadcast", "delivery", 1000),
    Scenario("fanout-5000", "Fan-out, closed loop, 5,000 connections, 64 B", "broadcast", "delivery", 5000),
    Scenario(
        "rooms", "Rooms of 10, 1,000 clients, each 20 events a second, 64 B", "room", "delivery", 1000,
        room_size=10, rate=20, is_full_load=False,
        note="Open loop: 200,000 deliveries a second are asked for, and latency counts from when an event was due. A server "
        "or a generator that cannot keep up shows it in deliveries a second and in latency.",
    ),
    Scenario("polling", "HTTP long-polling echo, 100 clients, 64 B", "echo", "echo", 100, transport="polling"),
    Scenario(
        "binary", "Binary echo with acknowledgement, 200 connections, 4 in flight, 1 KiB", "binary", "echo", 200,
        payload=1024, in_flight=4,
    ),
    Scenario(
        "upgrade", "Sessions that begin with polling and upgrade, opened and reset, 50 at once", "sessions", "session", 50,
        transport="upgrade", note="Latency is from the first byte to the namespace on the WebSocket.",
    ),
    Scenario(
        "connect", "Connect 10,000 WebSockets to the namespace, 100 at once", "held", "connection", 10_000,
        seconds=1, is_whole=True, note="CPU time from the first connection to the last.",
    ),
    Scenario(
        "memory", "Memory per idle connection, 10,000 WebSockets", "held", "connection", 10_000,
        seconds=5, is_full_load=False, is_memory=True,
        note="Resident memory of the server, from before the first connection. With fewer connections what is fixed weighs more.",
    ),
    Scenario(
        "slow", "Fan-out, 1,000 connections, 10 % of them do not read, 16 KiB", "slow", "delivery", 1000,
        payload=16_384, slow=0.1, seconds=12, is_full_load=False,
        note="Deliveries and latency are of those that do read.",
    ),
    Scenario("shards", "Fan-out on two cores against one, 1,000 connections, 64 B", "broadcast", "delivery", 1000, shards=2),
]


def choose(names, is_quick):
    """The scenarios of these names, all when there are none; a name also chooses `name-...`."""
    unknown = [name for name in names if not any(scenario.name == name for scenario in ALL)]
    if unknown:
        raise SystemExit(f"no scenario {', '.join(unknown)}; there are {', '.join(scenario.name for scenario in ALL)}")
    chosen = [scenario for scenario in ALL if not names or matches(scenario.name, names)]
    return [replace(scenario, seconds=min(QUICK_SECONDS, scenario.seconds)) for scenario in chosen] if is_quick else chosen


def matches(name, names):
    return name in names or any(name.startswith(f"{wanted}-") for wanted in names)
