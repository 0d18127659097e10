#!/usr/bin/env bash
# Runs the suites that others wrote for the protocols: Engine.IO's and Socket.IO's own, and Autobahn's for WebSocket.
#
#   scripts/conformance.sh [SUITE...]     engine.io socket.io autobahn; all without a name
#
# They are fetched into target/conformance and never committed. Results: target/conformance/results.md, kept in docs/conformance.md.
#
#   ENGINE_IO_PROTOCOL, SOCKET_IO_PROTOCOL   a clone or a git directory of each, in place of the one on GitHub
#   PYTHON2            a Python 2.7 with pip, for Autobahn; python2.7 and pyenv's are found by themselves
#   AUTOBAHN_CASES     which cases, such as "9.*,12.1.*"; all without it, which takes some minutes
#   CONFORMANCE_BIN    the server, an optimized build of examples/conformance.rs if it is not named
set -euo pipefail
cd "$(dirname "$0")/.."

TARGET_DIR=${CARGO_TARGET_DIR:-target}
CONFORMANCE_BIN=${CONFORMANCE_BIN:-$TARGET_DIR/release/examples/conformance}
WORK=$TARGET_DIR/conformance
RESULTS=$WORK/results.md
AUTOBAHN_SECONDS=3000
# Results are comparable as long as the suites are the same.
ENGINE_IO_COMMIT=f21de7b
SOCKET_IO_COMMIT=4f633dd
WS=ws@8.16.0
AUTOBAHN=autobahntestsuite==25.10.1

SUITES=("$@")
[ ${#SUITES[@]} -gt 0 ] || SUITES=(engine.io socket.io autobahn)

mkdir -p "$WORK"
WORK=$(cd "$WORK" && pwd)
RESULTS=$WORK/results.md
LOGS=$WORK

PROGRAM=conformance
# shellcheck source=scripts/servers.sh
. scripts/servers.sh

[ -x "$CONFORMANCE_BIN" ] || fail "$CONFORMANCE_BIN is missing: cargo build --release --example conformance"

# Starts the server for a suite; its port is left in PORT. With one shard: the suites count on requests of several connections being
# handled as they were opened.
start_conformance() { # suite
  PORT=$(free_ports 1)
  start "$1" "$PORT" 1 "$CONFORMANCE_BIN"
}

# ---------------------------------------------------------------- The suites of the protocols' authors

protocol() { # name source commit path
  local name=$1 folder=$WORK/$1 suite=$WORK/$1/test-suite
  if [ "$(git -C "$folder" rev-parse --short=7 HEAD 2>/dev/null)" != "$3" ]; then
    rm -rf "$folder"
    # Only files of the folder are needed; a git directory that lacks old objects will do.
    git clone --quiet --no-checkout "$2" "$folder" && git -C "$folder" checkout --quiet "$3" \
      || fail "$name: no clone of $2 at $3; set $(echo "$name" | tr '[:lower:].' '[:upper:]_')_PROTOCOL to a folder that has it"
  fi
  # The suites wait for one message at a time, as pages do. The ws in their lock hands over two frames of one segment at once, so that
  # nobody waits for the second yet. This one hands over one message a microtask; later ones wait for the next round of the event loop, by
  # which time the answer to a request on another connection may have come, and two cases count on the order of these.
  if [ "$(cat "$suite/.installed" 2>/dev/null)" != "$WS" ]; then
    (cd "$suite" && npm ci --no-audit --no-fund --ignore-scripts --loglevel=error \
      && npm install --no-save --no-audit --no-fund --ignore-scripts --loglevel=error "$WS") || fail "$name: npm could not install what it needs"
    git -C "$folder" checkout --quiet -- test-suite
    echo "$WS" >"$suite/.installed"
  fi

  # No short connect_timeout: three pings take 900 ms, in a session that joins no namespace meanwhile.
  SHARDCAST_PING_INTERVAL=300ms SHARDCAST_PING_TIMEOUT=200ms start_conformance "$name"
  sed "s|^const URL = .*|const URL = \"http://127.0.0.1:$PORT$4\";|" "$suite/test-suite.js" >"$suite/local.js"
  grep -q "127.0.0.1:$PORT" "$suite/local.js" || fail "$name: the suite names its server in another way than before"
  local is_met=true
  (cd "$suite" && timeout --kill-after=5 120 npx --no-install mocha --exit --reporter spec local.js) >"$WORK/$name.txt" 2>&1 || is_met=false
  cat "$WORK/$name.txt"
  echo "| $name-protocol $3 | $(grep -oE '[0-9]+ passing' "$WORK/$name.txt" || echo '0 passing') | $(grep -oE '[0-9]+ failing' "$WORK/$name.txt" || echo '0 failing') |" >>"$RESULTS"
  $is_met
}

# ---------------------------------------------------------------- Autobahn

find_python2() {
  local candidate
  for candidate in "${PYTHON2:-}" python2.7 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/2.7*/bin/python2.7; do
    [ -n "$candidate" ] && "$candidate" -m pip --version >/dev/null 2>&1 && { echo "$candidate"; return; }
  done
  return 1
}

autobahn() {
  local python
  python=$(find_python2) || fail "autobahn: it needs a Python 2.7 with pip (pyenv install 2.7.18, then PYTHON2=path), and none was found"
  local packages=$WORK/autobahn
  if [ "$(cat "$packages/.stamp" 2>/dev/null)" != "$AUTOBAHN" ]; then
    rm -rf "$packages"
    "$python" -m pip install --quiet --disable-pip-version-check --target "$packages" "$AUTOBAHN" 2>"$WORK/autobahn-pip.log" \
      || { tail -n 20 "$WORK/autobahn-pip.log" >&2; fail "autobahn: pip could not install $AUTOBAHN"; }
    echo "$AUTOBAHN" >"$packages/.stamp"
  fi
  # Its largest message has 16 MiB.
  SHARDCAST_PERMESSAGE_DEFLATE=true SHARDCAST_MAX_HTTP_BUFFER_SIZE=20000000 SHARDCAST_OUTBOX_BYTES_MAX=40000000 start_conformance autobahn
  local cases
  cases=$(python3 -c 'import json, sys; print(json.dumps(sys.argv[1].split(",")))' "${AUTOBAHN_CASES:-*}")
  rm -rf "$WORK/autobahn-reports"
  cat >"$WORK/autobahn.json" <<JSON
{
  "outdir": "$WORK/autobahn-reports",
  "servers": [{ "agent": "shardcast", "url": "ws://127.0.0.1:$PORT/ws" }],
  "cases": $cases, "exclude-cases": [], "exclude-agent-cases": {}
}
JSON
  # Its packages of the name "zope" come together through .pth files, which a plain path does not read.
  timeout --kill-after=5 "$AUTOBAHN_SECONDS" "$python" -W ignore -c '
import site, sys
site.addsitedir(sys.argv.pop(1))
from autobahntestsuite.wstest import run
run()' "$packages" -m fuzzingclient -s "$WORK/autobahn.json" \
    >"$WORK/autobahn.txt" 2>&1 || { tail -n 20 "$WORK/autobahn.txt" >&2; fail "autobahn did not come to its end"; }
  python3 scripts/autobahn-summary.py "$WORK/autobahn-reports/index.json" "$AUTOBAHN" "$RESULTS"
}

# ---------------------------------------------------------------- All of them

{
  echo "$(date +%F), Linux $(uname -r), $(nproc) cores, $(grep -m1 'model name' /proc/cpuinfo | cut -d: -f2 | xargs || uname -m)"
  echo
  echo "| suite | met | not met |"
  echo "|---|---|---|"
} >"$RESULTS"
FAILED=()
for suite in "${SUITES[@]}"; do
  echo "== $suite"
  case "$suite" in
    engine.io) protocol engine.io "${ENGINE_IO_PROTOCOL:-https://github.com/socketio/engine.io-protocol}" "$ENGINE_IO_COMMIT" /echo || FAILED+=("$suite") ;;
    socket.io) protocol socket.io "${SOCKET_IO_PROTOCOL:-https://github.com/socketio/socket.io-protocol}" "$SOCKET_IO_COMMIT" "" || FAILED+=("$suite") ;;
    autobahn) autobahn || FAILED+=("$suite") ;;
    *) fail "no such suite: $suite" ;;
  esac
done
for name in $(dead_servers); do FAILED+=("server:$name"); done
echo
cat "$RESULTS"
[ ${#FAILED[@]} -eq 0 ] || fail "not met whole: ${FAILED[*]}"
