"""What packaging/ has for service managers, judged by their own tools. No service manager runs."""

import pathlib
import shutil
import subprocess
import sys

import pytest

PACKAGING = pathlib.Path(__file__).parents[3] / "packaging"
KUBERNETES_VERSION = "1.27"


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def validate(file):
    tool = pathlib.Path(sys.executable).with_name("kubernetes-validate")
    return run(tool, "-k", KUBERNETES_VERSION, "--strict", file)


def test_the_manifest_is_what_kubernetes_publishes_as_its_schema(tmp_path):
    manifest = (PACKAGING / "kubernetes.yaml").read_text()
    code, said = validate(PACKAGING / "kubernetes.yaml")
    assert code == 0 and said.count("passed for resource") == 2, said
    for right, wrong in [("readinessProbe:", "readynessProbe:"), ("replicas: 2", "replicas: two"), ("containerPort: 5000", "port: 5000")]:
        assert right in manifest
        (tmp_path / "wrong.yaml").write_text(manifest.replace(right, wrong))
        code, said = validate(tmp_path / "wrong.yaml")
        assert code != 0, f"{wrong}: {said}"


@pytest.fixture
def units(tmp_path):
    assert shutil.which("systemd-analyze"), "systemd-analyze is missing: scripts/install-test-deps.sh installs Debian's systemd"
    for unit in ["shardcast.service", "shardcast.socket"]:
        # The program is not installed here; the tool wants one that is there.
        text = (PACKAGING / unit).read_text().replace("/usr/local/bin/shardcast", "/bin/true")
        (tmp_path / unit).write_text(text)
    return tmp_path


def test_systemd_finds_nothing_wrong_with_the_units(units):
    code, said = run("systemd-analyze", "verify", units / "shardcast.service", units / "shardcast.socket")
    assert code == 0 and said == "", said
    service = units / "shardcast.service"
    service.write_text(service.read_text().replace("WatchdogSec", "WatchdogSecs"))
    assert "WatchdogSecs" in run("systemd-analyze", "verify", service)[1], "a mistake is found"
