#!/usr/bin/env bash
# Runs the real-client suites of tests/clients against freshly started servers.
#
#   scripts/test-clients.sh [SUITE...]                    against shardcast: the examples as tests have them, the program optimised
#   TARGET=reference scripts/test-clients.sh [SUITE...]   against the npm socket.io server, to prove the tests
#
# Suites: those of SHARING, BROKERS and OWNING below.
# CONFORMANCE_BIN and SHARDCAST_BIN name the binaries. Server logs are kept in test-clients/ of the
# target folder, which CARGO_TARGET_DIR moves.
set -euo pipefail
cd "$(dirname "$0")/.."

TARGET="${TARGET:-shardcast}"
TARGET_DIR="${CARGO_TARGET_DIR:-target}"
CONFORMANCE_BIN="${CONFORMANCE_BIN:-$TARGET_DIR/debug/examples/conformance}"
SHARDCAST_BIN="${SHARDCAST_BIN:-$TARGET_DIR/release/shardcast}"
export -n SHARDCAST_BIN # the server would take it for a misspelt setting
# These share the servers below, so they run one after the other.
SHARING=(engine ends endpoints socketio broadcast targets sharded-polling socketio-wire handlers websocket http variants slow recovery eio3 eio3-python eio3-java eio3-browser events nginx python)
# These start their own, with brokers, and follow them.
BROKERS=(mixed-rabbitmq mixed-kafka mixed-python mixed-eras mixed-node mixed-all node-bytes fleet)
# These start their own, too, or have one of those to themselves: they run beside the others, one after the other. Most of their time they wait.
OWNING=(drain haproxy doctor browser origins examples pages admin-ui operators tls protection deploy)
SUITES=("$@")
[ ${#SUITES[@]} -gt 0 ] || SUITES=("${SHARING[@]}" "${BROKERS[@]}" "${OWNING[@]}")
LOGS=$TARGET_DIR/test-clients
# A suite takes a quarter of this on a quiet machine; the tests bound their own waiting. node:test applies its timeout to whole files.
SUITE_SECONDS=240
TOTAL_SECONDS=1500

PROGRAM=test-clients
# shellcheck source=scripts/servers.sh
. scripts/servers.sh

[ -d tests/clients/js/node_modules ] && [ -x .deps/venv/bin/pytest ] || fail "run scripts/install-test-deps.sh first"
case "$TARGET" in
  reference) ;;
  shardcast)
    for binary in "$CONFORMANCE_BIN" "$SHARDCAST_BIN"; do
      [ -x "$binary" ] || fail "$binary is missing: cargo build --examples and make release"
    done ;;
  *) fail "TARGET=$TARGET: it is shardcast or reference" ;;
esac
export SCREENSHOTS="$TARGET_DIR/screenshots"
mkdir -p "$LOGS" "$SCREENSHOTS"

# ---------------------------------------------------------------- Servers

if [ "$TARGET" = reference ]; then
  conformance=(node tests/clients/reference-server.js)
  demo=("${conformance[@]}")
else
  # A busy machine is no reason to send newcomers away: that is tested where it is meant.
  conformance=(env SHARDCAST_LAG_MAX=0s "$CONFORMANCE_BIN")
  demo=(env SHARDCAST_LAG_MAX=0s "$SHARDCAST_BIN" serve)
fi

read -r main fast sharded http variants older recovery demo_port < <(free_ports 8)
start main "$main" 4 env SHARDCAST_CLIENT_BUNDLE=tests/clients/js/node_modules/socket.io-client/dist "${conformance[@]}"
start fast "$fast" 4 env SHARDCAST_PING_INTERVAL=300ms SHARDCAST_PING_TIMEOUT=200ms \
  SHARDCAST_CONNECT_TIMEOUT=1s SHARDCAST_UPGRADE_TIMEOUT=1s "${conformance[@]}"
start sharded "$sharded" 16 env SHARDCAST_TRUSTED_PROXIES=127.0.0.1 "${conformance[@]}"
start http "$http" 2 env SHARDCAST_HEADER_TIMEOUT=1s "${conformance[@]}"
start variants "$variants" 4 env SHARDCAST_PARSER=auto SHARDCAST_PERMESSAGE_DEFLATE=true "${conformance[@]}"
start older "$older" 4 env SHARDCAST_ALLOW_EIO3=true SHARDCAST_COOKIE=io SHARDCAST_PERMESSAGE_DEFLATE=true \
  SHARDCAST_PING_INTERVAL=1s SHARDCAST_PING_TIMEOUT=1s "${conformance[@]}"
start recovery "$recovery" 4 env SHARDCAST_RECOVERY_MAX_DISCONNECTION=3s SHARDCAST_RECOVERY_EVENTS_MAX=20000 \
  SHARDCAST_RECOVERY_BYTES_MAX=4000000 "${conformance[@]}"
start demo "$demo_port" 4 "${demo[@]}"
export TARGET CONFORMANCE_BIN SERVER_LOG="$LOGS/main.log" EXAMPLES_DIR="${CONFORMANCE_BIN%/*}"
export SERVER_URL="http://127.0.0.1:$main" FAST_URL="http://127.0.0.1:$fast" SHARDED_URL="http://127.0.0.1:$sharded"
export VARIANTS_URL="http://127.0.0.1:$variants" OLDER_URL="http://127.0.0.1:$older" RECOVERY_URL="http://127.0.0.1:$recovery"
export HTTP_URL="http://127.0.0.1:$http" DEMO_URL="http://127.0.0.1:$demo_port"

# ---------------------------------------------------------------- Suites

# For as long as a suite may take, and no longer than this script lives.
bounded() { setpriv --pdeathsig TERM timeout --kill-after=5 "$limit" "$@"; }

node_suite() {
  bounded node --test --test-concurrency=1 --test-timeout=$((SUITE_SECONDS * 1000 - 5000)) --test-reporter=spec "$1"
}

# The Java client of revision 3, then that of revision 4, on the server that serves both.
eio3_java() {
  [ "$TARGET" = shardcast ] || { echo "skipped: the reference does not allow EIO3"; return; }
  local jars=.deps/java release
  for release in 1.0.2:1.0.2 2.1.1:2.1.0; do
    echo "socket.io-client-java ${release%:*}"
    bounded java -cp "$jars/socket.io-client-${release%:*}.jar:$jars/engine.io-client-${release#*:}.jar:$jars/okhttp-3.12.12.jar:$jars/okio-1.15.0.jar:$jars/json-20090211.jar" \
      tests/clients/java/Older.java "$OLDER_URL" || return 1
  done
}

# Other makers' servers beside shardcast's, which each suite starts itself.
mixed() { # suite...
  [ "$TARGET" = shardcast ] || { echo "skipped: they are about shardcast beside others"; return; }
  local suite
  for suite in "$@"; do node_suite "tests/clients/js/test/$suite.test.mjs" || return 1; done
}

run() {
  case "$1" in
    engine | ends | endpoints | socketio | broadcast | targets | sharded-polling | socketio-wire | handlers | websocket | http | variants | slow | recovery | protection | node-bytes | drain | eio3) node_suite "tests/clients/js/test/$1.test.mjs" ;;
    mixed-rabbitmq | mixed-kafka) BROKER=${1#mixed-} mixed mixed-python mixed-eras ;;
    mixed-*) mixed "$1" ;;
    doctor) DOCTOR_BIN=$SHARDCAST_BIN node_suite tests/clients/proxy/doctor.test.mjs ;;
    nginx | fleet | haproxy) node_suite "tests/clients/proxy/$1.test.mjs" ;;
    admin-ui | operators | browser | events | origins | examples) node_suite "tests/clients/browser/$1.test.mjs" ;;
    tls) node_suite "tests/clients/tls/tls.test.mjs" ;;
    pages) DEMO_BIN=$SHARDCAST_BIN node_suite tests/clients/browser/pages.test.mjs ;;
    eio3-python) bounded .deps/venv-eio3/bin/pytest -q -p no:cacheprovider tests/clients/older ;;
    eio3-browser) node_suite tests/clients/browser/eio3.test.mjs ;;
    eio3-java) eio3_java ;;
    deploy) CONTAINER_BIN=$SHARDCAST_BIN bounded .deps/venv/bin/pytest -q -p no:cacheprovider tests/clients/deploy ;;
    python) bounded .deps/venv/bin/pytest -q -p no:cacheprovider tests/clients/python ;;
    *) echo "no such suite: $1"; return 1 ;;
  esac
}

run_all() { # file-for-failures suite...
  local failures=$1 suite began limit
  shift
  for suite in "$@"; do
    began=$SECONDS
    limit=$((TOTAL_SECONDS - SECONDS < SUITE_SECONDS ? TOTAL_SECONDS - SECONDS : SUITE_SECONDS))
    [ "$limit" -gt 0 ] || { echo "$suite:no-time-left" >>"$failures"; continue; }
    echo "== $suite"
    run "$suite" || echo "$suite" >>"$failures"
    echo "== $suite: $((SECONDS - began)) s"
  done
}

first=() owning=()
for suite in "${SUITES[@]}"; do
  case " ${OWNING[*]} " in
    *" $suite "*) owning+=("$suite") ;;
    *) first+=("$suite") ;;
  esac
done
FAILURES=$LOGS/failures
: >"$FAILURES"
if [ ${#first[@]} -gt 0 ] && [ ${#owning[@]} -gt 0 ]; then
  # It ends with this script; what it says is shown when it is done.
  run_all "$FAILURES" "${owning[@]}" >"$LOGS/owning.log" 2>&1 </dev/null &
  beside=$!
  trap 'kill "$beside" 2>/dev/null || true; stop_all' EXIT
  run_all "$FAILURES" "${first[@]}"
  wait "$beside" || true
  trap stop_all EXIT
  cat "$LOGS/owning.log"
else
  run_all "$FAILURES" "${SUITES[@]}"
fi
mapfile -t FAILED <"$FAILURES"

# A server that died under a suite is a failure even when the suite did not notice.
for name in $(dead_servers); do FAILED+=("server:$name"); done

echo "== target $TARGET, $SECONDS s"
[ ${#FAILED[@]} -eq 0 ] || fail "failed: ${FAILED[*]}"
echo "all suites passed: ${SUITES[*]}"
