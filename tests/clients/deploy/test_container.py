"""The container recipe: built by buildah, which needs no daemon, and run. Its program is what CONTAINER_BIN names.

Isolation is a chroot with a namespace for mounts and a filter for system calls: the network is the machine's, so ports are private ones.
"""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest
import socketio

ROOT = pathlib.Path(__file__).parents[3]
RECIPE = ROOT / "packaging" / "Containerfile"
WAIT_SECONDS = 60


def free_ports(count):
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    return [one.getsockname()[1] for one in held]


def until(what, attempt):
    deadline = time.monotonic() + WAIT_SECONDS
    while not (result := attempt()):
        assert time.monotonic() < deadline, f"{what}: not within {WAIT_SECONDS} s"
        time.sleep(0.05)
    return result


def ask(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


class Buildah:
    """Images and containers in a folder of the test's own."""

    def __init__(self, folder):
        assert shutil.which("buildah"), "buildah is missing: scripts/install-test-deps.sh installs Debian's"
        self.command = ["buildah", "--root", folder / "images", "--runroot", folder / "run", "--storage-driver", "vfs"]

    def __call__(self, *arguments):
        done = subprocess.run([*self.command, *arguments], capture_output=True, text=True, timeout=4 * WAIT_SECONDS)
        assert done.returncode == 0, f"buildah {arguments[0]}: {done.stdout}{done.stderr}"
        return done.stdout.strip()


@pytest.fixture(scope="module")
def binary():
    path = ROOT / os.environ["CONTAINER_BIN"]
    said = subprocess.run(["readelf", "--program-headers", "--wide", path], capture_output=True, text=True, check=True).stdout
    assert "INTERP" not in said, f"{path} looks for libraries, and an image of one file has none: build it with `make release`"
    return path


@pytest.fixture(scope="module")
def image(tmp_path_factory, binary):
    """The image that the recipe makes, with nothing changed in the recipe."""
    folder = tmp_path_factory.mktemp("container")
    source = re.search(r"^COPY (\S+) /shardcast$", RECIPE.read_text(), re.MULTILINE).group(1)
    (folder / "context" / source).parent.mkdir(parents=True)
    shutil.copy(binary, folder / "context" / source)
    buildah = Buildah(folder)
    buildah("build", "--isolation", "chroot", "--file", RECIPE, "--tag", "shardcast", folder / "context")
    yield buildah
    buildah("rm", "--all")
    buildah("rmi", "--all", "--force")


@pytest.fixture
def container(image):
    return image("from", "localhost/shardcast")


def settings_of(image):
    return json.loads(image("inspect", "--type", "image", "localhost/shardcast"))["OCIv1"]["config"]


def test_the_image_is_one_file_and_says_how_to_run_it(image, container):
    mounted = pathlib.Path(image("mount", container))
    files = [path.relative_to(mounted) for path in mounted.rglob("*") if not path.is_dir()]
    image("umount", container)
    assert files == [pathlib.Path("shardcast")]
    config = settings_of(image)
    assert config["Entrypoint"] == ["/shardcast", "serve"]
    assert config["User"] == "65532:65532"
    assert config["StopSignal"] == "SIGTERM"
    assert list(config["ExposedPorts"]) == ["5000/tcp"]
    assert "SHARDCAST_BIND=0.0.0.0:5000" in config["Env"], "others than the container itself can reach it"


@pytest.fixture
def redis():
    (port,) = free_ports(1)
    server = subprocess.Popen(["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"],
                              stdout=subprocess.DEVNULL)
    yield port
    server.kill()
    server.wait()


class Server:
    """A container that runs, by what its image says. Of its settings it has what is given here, and else its image's."""

    def __init__(self, image, container, log, **settings):
        self.port, self.admin = free_ports(2)
        settings = {"bind": f"127.0.0.1:{self.port}", "admin_bind": f"127.0.0.1:{self.admin}", **settings}
        variables = [f"--env=SHARDCAST_{name.upper()}={value}" for name, value in settings.items()]
        entry = settings_of(image)["Entrypoint"]
        self.log = log
        self.engine = subprocess.Popen([*image.command, "run", "--isolation", "chroot", *variables, container, "--", *entry],
                                       stdout=subprocess.DEVNULL, stderr=log.open("w"))
        self.process = until("the program runs", self.find)

    def find(self):
        """The program itself: the engine's youngest child."""
        assert self.engine.poll() is None, self.log.read_text()
        pid = self.engine.pid
        while True:
            try:
                children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
                if pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0] == b"/shardcast":
                    return pid
            except FileNotFoundError:
                return None
            if not children:
                # Children of another thread of the engine are listed there.
                children = [c for t in pathlib.Path(f"/proc/{pid}/task").iterdir() for c in (t / "children").read_text().split()]
            if not children:
                return None
            pid = int(children[-1])

    def end(self):
        if self.engine.poll() is None:
            self.engine.terminate()
            try:
                self.engine.wait(WAIT_SECONDS)
            except subprocess.TimeoutExpired:
                self.engine.kill()
                self.engine.wait()


def test_it_serves_clients_with_few_rights_and_drains(image, container, redis, tmp_path):
    # The broker is named by its name: a program without libraries has to find it as others do.
    server = Server(image, container, tmp_path / "log", drain_delay="1s", shutdown_spread="1s", bus_required="true",
                    message_queue=f"redis://localhost:{redis}/0")
    try:
        until("it is ready", lambda: ask(server.admin, "/readyz") == (200, "ready\n"))
        status = pathlib.Path(f"/proc/{server.process}/status").read_text()
        assert re.search(r"^Uid:\t65532\t65532\t65532\t65532$", status, re.MULTILINE), status
        assert re.search(r"^CapEff:\t0+$", status, re.MULTILINE), status
        files = sorted(path.name for path in pathlib.Path(f"/proc/{server.process}/root").iterdir())
        assert "shardcast" in files and not {"bin", "lib", "usr", "lib64"} & set(files), files

        client, said = socketio.Client(reconnection=False), []
        client.on("disconnect", said.append)
        client.connect(f"http://127.0.0.1:{server.port}")
        assert client.transport() == "websocket", "the upgrade went through"
        assert ask(server.port, "/")[0] == 200, "the demo's page is in the program"

        # What an engine does with STOPSIGNAL.
        os.kill(server.process, signal.SIGTERM)
        until("the probe says so", lambda: ask(server.admin, "/readyz") == (503, "draining\n"))
        until("the client hears of it", lambda: said)
        assert server.engine.wait(WAIT_SECONDS) == 0, server.log.read_text()
        log = server.log.read_text()
        assert "the server's sessions have ended ended=1 cut=0" in log and log.rstrip().endswith("stopped"), log
    finally:
        server.end()
