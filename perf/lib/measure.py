"""One run: a probe, a fresh server, the generator, a probe; and what can be said of it, doubts included."""

import threading
import time

import generator
import machine
import peers

SAMPLE_SECONDS = 0.05
# A generator that used this share of its core may be what was measured.
CLIENT_BUSY_MAX = 0.90
# Below this share of its core the server was not at full load.
SERVER_BUSY_MIN = 0.90
# CPU time that is charged to the server and what its core did may differ by this much: above, one of them lies.
ACCOUNTS_DIFFER_MAX = 0.10
# With less CPU time than this the core's 10 ms ticks and its other work are too coarse to compare with.
ACCOUNTED_SECONDS_MIN = 0.5
STOLEN_SHARE_MAX = 0.01


class Sampler(threading.Thread):
    """Keeps samples of a server while the generator runs; it costs the client's core about 0.3 %."""

    def __init__(self, pid, cores):
        super().__init__(daemon=True)
        self.pid, self.cores = pid, cores
        self.samples, self.resident = [], []
        self.ended = threading.Event()

    def run(self):
        while not self.ended.is_set():
            self.take()
            self.ended.wait(SAMPLE_SECONDS)

    def take(self):
        self.samples.append(machine.sample(self.pid, self.cores.server, self.cores.client))
        self.resident.append((machine.resident_bytes(self.pid), machine.slab_bytes()))

    def stop(self):
        self.ended.set()
        self.join()
        self.take()

    def between(self, start, end):
        """The counters' change over a window, from the samples nearest inside it."""
        inside = [sample for sample in self.samples if start <= sample.at <= end]
        if len(inside) < 2:
            inside = [self.samples[0], self.samples[-1]]
        return inside[-1].since(inside[0])

    def resident_at(self, end):
        """The resident bytes in the last sample before then."""
        found = [resident for sample, (resident, _) in zip(self.samples, self.resident) if sample.at <= end]
        return found[-1] if found else self.resident[0][0]


def run(scenario, entry, cores, settings):
    """Measures once; returns a flat record for the JSON."""
    record = {"scenario": scenario.name, "server": entry.name, "shards": entry.shards}
    is_shared = not set(cores.server[: entry.shards]).isdisjoint(cores.client)
    # Where the generator shares a core with the server, SCHED_FIFO would starve it.
    is_fifo = settings.is_fifo and not is_shared
    before = machine.round_trip(settings.probe, cores.server[0], cores.client[0])
    with peers.Running(entry.peer, cores.server[: entry.shards], entry.shards, is_fifo) as server:
        time.sleep(0.2)
        rest = (machine.resident_bytes(server.pid), machine.slab_bytes())
        sampler = Sampler(server.pid, cores.only(entry.shards))
        sampler.start()
        try:
            result = generator.run(scenario, server, cores, settings)
        finally:
            sampler.stop()
        record |= {"server_command": server.command, "complaints": server.complaints(), "ended": not server.is_alive()}
    after = machine.round_trip(settings.probe, cores.server[0], cores.client[0])
    record |= {"probe_before": before, "probe_after": after, "client": result.raw, "client_command": result.command}
    record |= counts(scenario, result, sampler, rest)
    record["doubts"] = doubts(scenario, record, result, is_shared)
    return record


def counts(scenario, result, sampler, rest):
    used = sampler.between(*result.window)
    messages, seconds = max(1, result.messages), max(1e-9, result.seconds)
    server_busy = used.process_cpu / used.at if result.server_cpu is None else result.server_cpu / seconds
    core_busy = used.core_busy / used.at
    found = {
        "messages": result.messages,
        "seconds": result.seconds,
        "messages_per_second": messages / seconds,
        "cpu_us": server_busy * seconds / messages * 1e6,
        "core_us": core_busy * seconds / messages * 1e6,
        "sampled_us": used.process_cpu / used.at * seconds / messages * 1e6,
        "server_busy": server_busy,
        "core_busy": core_busy,
        "client_busy": result.client_busy if result.client_busy is not None else used.client_busy / used.at,
        "stolen": used.core_stolen / used.at,
        "switches_involuntary": used.switches_involuntary,
        "p50_us": result.p50,
        "p99_us": result.p99,
        "p999_us": result.p999,
        "connections": result.connections,
    }
    if result.connections:
        peak, slab = (max(values) for values in zip(*sampler.resident))
        at_end = sampler.resident_at(result.window[1])
        found["resident_per_connection"] = (at_end - rest[0]) / result.connections
        found["resident_peak_per_connection"] = (peak - rest[0]) / result.connections
        found["resident_peak"] = (peak - rest[0]) / 1e6
        found["slab_per_pair"] = (slab - rest[1]) / result.connections
    return found


def doubts(scenario, record, result, is_shared):
    """Why a reader should not believe this run, in words. A run without any is a clean one."""
    found = list(result.faults)
    if record["ended"]:
        found.append("the server ended")
    if record["complaints"]:
        found.append("the server complained")
    probe = machine.moved(record["probe_before"], record["probe_after"])
    if probe:
        found.append(f"machine moved: {probe}")
    if record["stolen"] > STOLEN_SHARE_MAX:
        found.append(f"{record['stolen']:.1%} of the server's core was stolen")
    busy = record["server_busy"] / record["shards"]
    if scenario.is_full_load and record["client_busy"] > CLIENT_BUSY_MAX and busy < SERVER_BUSY_MIN:
        found.append(f"client-bound: client {record['client_busy']:.0%} busy, server {busy:.0%}")
    return found if is_shared else found + account_doubts(scenario, record, busy)


def account_doubts(scenario, record, busy):
    """Whether the time that was charged to the server is the time that it took."""
    found = []
    cpu, core = record["cpu_us"], record["core_us"]
    is_long = record["server_busy"] * record["seconds"] > ACCOUNTED_SECONDS_MIN
    if is_long and abs(cpu - core) > ACCOUNTS_DIFFER_MAX * core:
        found.append(f"accounts differ: {cpu:.2f} us charged, core busy {core:.2f} us")
    wall = 1e6 / record["messages_per_second"]
    if scenario.is_full_load and busy >= SERVER_BUSY_MIN and abs(wall - cpu) > ACCOUNTS_DIFFER_MAX * wall:
        found.append(f"CPU time {cpu:.2f} us, wall time {wall:.2f} us at full load")
    return found
