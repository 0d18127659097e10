"""docs/deploy.md typed as it stands, to a systemd that is the first process of namespaces of its own, with the units of packaging/.

Left out are `cargo build`, in whose place the program that CONTAINER_BIN names is put where it would be, and `sudo`, which root needs not.
"""

import os
import pathlib
import re
import shutil
import subprocess
import time

import pytest

ROOT = pathlib.Path(__file__).parents[3]
GUIDE = ROOT / "docs" / "deploy.md"
WAIT_SECONDS = 60
NAMESPACES = ["--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup"]
# What the units name and what systemd itself does; each is empty.
TARGETS = ["sysinit", "basic", "shutdown", "network-online", "multi-user", "sockets", "test"]
JOURNAL = "[Unit]\nDefaultDependencies=no\n[Service]\nExecStart=/lib/systemd/systemd-journald\n"

# Connects again and again, each time with a whole request, until it is told to stop; says how often, and what failed.
VISITOR = """
import pathlib, socket, sys
count, faults = 0, []
while not pathlib.Path(sys.argv[1]).exists():
    try:
        with socket.create_connection(("127.0.0.1", 5000), 30) as one:
            one.sendall(b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n")
            head = one.recv(12)
            if head != b"HTTP/1.1 200":
                faults.append(repr(head))
    except OSError as error:
        faults.append(repr(error))
    count += 1
print(count, faults[:5])
"""


def until(what, attempt):
    deadline = time.monotonic() + WAIT_SECONDS
    while not (result := attempt()):
        assert time.monotonic() < deadline, f"{what}: not within {WAIT_SECONDS} s"
        time.sleep(0.1)
    return result


def typed(heading):
    """The commands of the first block below a heading of the guide, as a reader types them."""
    section = GUIDE.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.search(r"```sh\n(.*?)```", section, re.DOTALL).group(1)


class Machine:
    """A systemd, and shells beside it, in a folder that has what a checkout has after `cargo build --release`."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "units").mkdir()
        for target in TARGETS:
            wants = "Wants=journal.service multi-user.target\n" if target == "test" else ""
            (folder / "units" / f"{target}.target").write_text(f"[Unit]\nDefaultDependencies=no\n{wants}")
        (folder / "units" / "journal.service").write_text(JOURNAL)
        self.checkout = folder / "shardcast"
        shutil.copytree(ROOT / "packaging", self.checkout / "packaging")
        self.program = self.checkout / "target" / "release" / "shardcast"
        self.program.parent.mkdir(parents=True)
        shutil.copy(ROOT / os.environ["CONTAINER_BIN"], self.program)
        shims = folder / "shims"
        shims.mkdir()
        for name, line in [("sudo", 'exec "$@"'), ("cargo", 'test "$*" = "build --release"')]:
            (shims / name).write_text(f"#!/bin/sh\n{line}\n")
            (shims / name).chmod(0o755)
        self.path = f"{shims}:{os.environ['PATH']}:/usr/sbin:/sbin"
        boot = pathlib.Path(__file__).with_name("boot-systemd.sh")
        self.unshare = subprocess.Popen(["unshare", *NAMESPACES, "--fork", "--kill-child", boot, folder])
        self.first = until("systemd is there", self.find)
        until("systemd runs", lambda: self.run("systemctl is-system-running")[1].strip() == "running")

    def find(self):
        assert self.unshare.poll() is None, (self.folder / "systemd.log").read_text() if (self.folder / "systemd.log").exists() else "no systemd"
        pid = self.unshare.pid
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return children and pathlib.Path(f"/proc/{children[0]}/comm").read_text() == "systemd\n" and children[0]

    def command(self, *words):
        return ["nsenter", "--target", self.first, "--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup", f"--wd={self.checkout}",
                "env", f"PATH={self.path}", "SYSTEMD_PAGER=cat", *words]

    def run(self, commands):
        done = subprocess.run(self.command("bash", "-euc", commands), capture_output=True, text=True, timeout=2 * WAIT_SECONDS)
        return done.returncode, done.stdout + done.stderr

    def type(self, commands):
        code, said = self.run(commands)
        assert code == 0, f"{commands}: {said}{self.journal()}"
        return said.strip()

    def journal(self):
        return self.run("journalctl --no-pager --unit shardcast; systemctl --no-pager --full status shardcast shardcast.socket")[1]

    def main(self):
        return self.type("systemctl show --property MainPID --value shardcast")

    def status(self, path="/"):
        return self.run(f"curl -s -o /dev/null -w '%{{http_code}}' http://127.0.0.1:5000{path}")[1].strip()

    def end(self):
        self.unshare.kill()
        self.unshare.wait()


@pytest.fixture
def machine(tmp_path):
    for tool in ["unshare", "nsenter", "systemctl"]:
        assert shutil.which(tool), f"{tool} is missing: scripts/install-test-deps.sh installs Debian's systemd and util-linux"
    assert os.geteuid() == 0, "namespaces with a systemd in them need root"
    machine = Machine(tmp_path)
    yield machine
    machine.end()


def test_the_service_of_the_guide_starts_reloads_comes_back_and_is_updated_without_a_gap(machine, tmp_path):
    machine.type(typed("A service of systemd"))
    assert machine.type("systemctl is-active shardcast; systemctl is-enabled shardcast") == "active\nenabled"
    assert machine.status() == "200", "the service is started when it serves, and not before"
    uid = machine.type("awk '/^Uid:/ {print $2}' /proc/$(systemctl show --property MainPID --value shardcast)/status")
    assert int(uid) > 0, "DynamicUser"

    # Settings.
    machine.type("printf 'bind = \"0.0.0.0:5000\"\\ndrain_delay = \"500ms\"\\nshutdown_spread = \"1s\"\\nshards = 3\\n' >/etc/shardcast.toml")
    machine.type(typed("New settings, without a restart").split("#")[0])
    until("the journal says what has changed", lambda: re.search("a setting has changed setting=\"drain_delay\"", machine.journal()))
    assert "a new value needs a restart setting=\"shards\"" in machine.journal(), machine.journal()
    machine.type("echo 'shard = 3' >>/etc/shardcast.toml")
    machine.type(typed("New settings, without a restart").split("#")[0])
    until("the journal says what is wrong", lambda: "all settings stay as they were" in machine.journal())
    machine.type("sed -i '/^shard /d' /etc/shardcast.toml")

    # A new version.
    before, over = machine.main(), tmp_path / "over"
    visitors = [subprocess.Popen(machine.command("python3", "-c", VISITOR, over), stdout=subprocess.PIPE, text=True) for _ in range(2)]
    machine.type(typed("A new version, without a gap").split("#")[0])
    until("another process is the service's main one", lambda: machine.main() not in (before, "0"))
    after = machine.main()
    until("the old one has ended", lambda: machine.run(f"test -e /proc/{before}")[0] != 0)
    time.sleep(0.5)
    over.touch()
    for visitor in visitors:
        count, faults = visitor.communicate(timeout=WAIT_SECONDS)[0].strip().split(" ", 1)
        assert int(count) > 10 and faults == "[]", f"{count} {faults} {machine.journal()}"
    assert machine.type("systemctl is-active shardcast") == "active"
    assert machine.type("systemctl show --property NRestarts --value shardcast") == "0", "it was no restart"
    journal = machine.journal()
    assert "the new process serves" in journal and "the server's sessions have ended" in journal, journal

    # One that dies is started again, and a stop ends in order.
    machine.type("systemctl kill --kill-whom=main --signal=KILL shardcast")
    until("it is back", lambda: machine.main() not in (after, "0") and machine.status() == "200")
    machine.type("systemctl stop shardcast")
    assert machine.type("systemctl show --property Result --value shardcast") == "success", machine.journal()
    assert machine.status() == "000"

    # The port that systemd opens.
    machine.type("install -m 644 packaging/shardcast.socket /etc/systemd/system/ && systemctl daemon-reload")
    machine.type("systemctl start shardcast.socket")
    assert machine.status() == "200", "the first client starts the service"
    assert "another process has opened the listeners" in machine.journal()
    first = machine.main()
    machine.type("systemctl restart shardcast & sleep 0.2; curl -sf --max-time 60 -o /dev/null http://127.0.0.1:5000/; wait")
    assert machine.main() not in (first, "0"), "who connects meanwhile waits and is served"
