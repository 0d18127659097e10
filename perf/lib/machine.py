"""What is known of the machine and of a running process: /proc and /sys, read and subtracted."""

import glob
import json
import os
import platform
import subprocess
import time
from dataclasses import dataclass

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
# A wake-up across cores that took this much longer or shorter than before: another host, in effect.
ROUND_TRIP_MOVED = 0.25
# The same arithmetic on the server's core.
ARITHMETIC_MOVED = 0.08


@dataclass
class Sample:
    """Counters at one moment. Times are seconds since some start; only differences mean anything."""

    at: float
    process_cpu: float
    core_busy: float
    core_stolen: float
    client_busy: float
    switches_involuntary: int

    def since(self, earlier):
        return Sample(*(now - then for now, then in zip(vars(self).values(), vars(earlier).values())))


def sample(pid, server_cores, client_cores):
    busy, stolen = core_seconds(server_cores)
    return Sample(time.monotonic(), process_cpu(pid), busy, stolen, core_seconds(client_cores)[0], switches(pid))


def process_cpu(pid):
    """Nanosecond accounting of all living threads; servers that end threads lose them, as Flask-SocketIO's with threads does."""
    total = 0
    for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
        # A thread may have ended meanwhile: then there is nothing to read.
        total += int((read(path).split() or [0])[0])
    return total / 1e9


def core_seconds(cores):
    """What these cores did for anybody, soft interrupts included, and what the hypervisor took from them."""
    busy = stolen = 0
    for line in read("/proc/stat").splitlines():
        name, *fields = line.split()
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in cores:
            user, nice, system, _idle, _wait, hard, soft, steal = map(int, fields[:8])
            busy += user + nice + system + hard + soft
            stolen += steal
    return busy / TICKS_PER_SECOND, stolen / TICKS_PER_SECOND


def switches(pid):
    total = 0
    for path in glob.glob(f"/proc/{pid}/task/*/status"):
        total += int(field(read(path), "nonvoluntary_ctxt_switches") or 0)
    return total


def resident_bytes(pid):
    return int((field(read(f"/proc/{pid}/status"), "VmRSS") or "0 kB").split()[0]) * 1024


def slab_bytes():
    """Unreclaimable kernel memory of the whole machine: sockets of both ends are in it."""
    return int((field(read("/proc/meminfo"), "SUnreclaim") or "0 kB").split()[0]) * 1024


def round_trip(program, server_core, client_core, millis=150):
    """Runs the probe; its quartiles in nanoseconds."""
    command = [program, str(server_core), str(client_core), str(millis)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, timeout=30).stdout)


def moved(before, after):
    """Which of the probe's two numbers changed, in words, or nothing."""
    found = []
    for key, limit in (("round_trip_ns", ROUND_TRIP_MOVED), ("arithmetic_ns", ARITHMETIC_MOVED)):
        then, now = before[key][1], after[key][1]
        if abs(now - then) > limit * then:
            found.append(f"{key.removesuffix('_ns').replace('_', ' ')} {then / 1000:.1f} -> {now / 1000:.1f} us")
    return ", ".join(found)


def describe():
    """The machine, as a reader must know it to compare."""
    cpuinfo = read("/proc/cpuinfo")
    sysctl = lambda name: read(f"/proc/sys/{name.replace('.', '/')}").strip()
    return {
        "host": platform.node(),
        "cpu": (field(cpuinfo, "model name") or platform.machine()).strip(),
        "cores": os.cpu_count(),
        "hypervisor": "hypervisor" in (field(cpuinfo, "flags") or ""),
        "memory_gib": round(int((field(read("/proc/meminfo"), "MemTotal") or "0 kB").split()[0]) / 2**20, 1),
        "kernel": platform.release(),
        "mitigations": mitigations(),
        "command_line_mitigations": [word for word in read("/proc/cmdline").split() if "mitigations" in word],
        "governor": read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip() or "not visible",
        "congestion_control": sysctl("net.ipv4.tcp_congestion_control"),
        "somaxconn": sysctl("net.core.somaxconn"),
        "io_uring_disabled": sysctl("kernel.io_uring_disabled"),
        "load_before": os.getloadavg()[0],
        "rustc": output("rustc", "--version"),
        "node": output("node", "--version"),
        "python": platform.python_version(),
    }


def mitigations():
    """Only what costs something: those that read `Mitigation` or `Vulnerable`."""
    found = {}
    for path in sorted(glob.glob("/sys/devices/system/cpu/vulnerabilities/*")):
        text = read(path).strip()
        if not text.startswith("Not affected"):
            found[os.path.basename(path)] = text
    return found


def field(text, name):
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return None


def read(path):
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def output(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return "absent"
