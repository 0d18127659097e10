"""The first commands of docs/scaling.md typed as they stand, each in a terminal of its own, on a machine of their own: namespaces.

The program is what CONTAINER_BIN names; it is called by its name.
"""

import os
import pathlib
import pty
import re
import shutil
import subprocess
import time

import pytest

ROOT = pathlib.Path(__file__).parents[3]
GUIDE = ROOT / "docs" / "scaling.md"
WAIT_SECONDS = 120


class Terminal:
    """A command at a terminal, which sees all that it writes."""

    def __init__(self, path, command):
        self.master, slave = pty.openpty()
        self.child = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env={**os.environ, "PATH": path, "TERM": "xterm"})
        os.close(slave)
        os.set_blocking(self.master, False)
        self.text = ""

    def read(self):
        try:
            self.text += os.read(self.master, 1 << 20).decode(errors="replace")
        except (BlockingIOError, OSError):
            pass  # nothing is there, or the other end is closed
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.text)

    def until(self, pattern):
        deadline = time.monotonic() + WAIT_SECONDS
        while not re.search(pattern, self.read()):
            assert self.child.poll() is None or re.search(pattern, self.read()), f"it has ended: {self.read()}"
            assert time.monotonic() < deadline, f"no {pattern}: {self.read()[-2000:]}"
            time.sleep(0.1)
        return self.read()

    def end(self):
        self.child.kill()
        self.child.wait()
        os.close(self.master)


@pytest.fixture
def machine(tmp_path):
    """Opens terminals on one machine, which has the program, and its loopback interface to itself."""
    assert os.geteuid() == 0, "namespaces need root"
    programs = tmp_path / "bin"
    programs.mkdir()
    shutil.copy(ROOT / os.environ["CONTAINER_BIN"], programs / "shardcast")
    path = f"{programs}:{os.environ['PATH']}:/usr/sbin:/sbin"
    first = subprocess.Popen(["unshare", "--net", "--pid", "--mount-proc", "--fork", "--kill-child", "sleep", "infinity"])
    deadline = time.monotonic() + WAIT_SECONDS
    while not (children := pathlib.Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()):
        assert time.monotonic() < deadline, "the namespaces are not there"
        time.sleep(0.05)
    enter = ["nsenter", "--target", children[0], "--net", "--pid", "--mount"]
    subprocess.run([*enter, "ip", "link", "set", "lo", "up"], check=True, env={**os.environ, "PATH": path})
    terminals = []

    def open_terminal(command):
        terminals.append(Terminal(path, [*enter, "bash", "-c", command]))
        return terminals[-1]

    yield open_terminal
    for terminal in terminals:
        terminal.end()
    first.kill()
    first.wait()


def test_three_terminals_show_a_server_its_figures_and_its_clients(machine):
    serve, top, bench = re.findall(r"```sh\n(.*?)\n```", GUIDE.read_text(), re.DOTALL)[:3]
    server = machine(serve)
    server.until(r"serving operators at http://127\.0\.0\.1:9090")
    figures = machine(top)
    figures.until(r"shardcast")
    clients = machine(bench)
    figures.until(r"\b2,?000\b|\b1,?0\d\d\b")  # of all, or of one of two shards
    said = clients.until(r"checks {6}\w+")
    assert clients.child.wait(WAIT_SECONDS) == 0, said
    assert re.search(r"sessions {4}2000 in ", said) and "checks      ok" in said, said
    # What is said of the server's memory is said of the server, and not of what looks at it.
    memory = re.search(r"server .*", said)
    assert memory, said
    assert figures.child.poll() is None and server.child.poll() is None
