# How the scripts that test a server start it and stop it. Not run by itself: a script names itself in PROGRAM, a folder for logs in
# LOGS, and sources this.
#
# shellcheck shell=bash

READY_SECONDS=10

fail() { echo "$PROGRAM: $*" >&2; exit 1; }

# Started servers, and the names that they were started under, in the same order.
PIDS=()
NAMES=()

stop_all() {
  local pid
  for pid in "${PIDS[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${PIDS[@]}"; do wait "$pid" 2>/dev/null || true; done
}
trap stop_all EXIT
trap 'exit 130' INT TERM

# All at once, so that the kernel cannot hand out one port twice.
free_ports() { # count
  python3 - "$1" <<'PY'
import socket, sys
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(*(server.getsockname()[1] for server in held))
PY
}

await_port() { # name port pid
  local deadline=$((SECONDS + READY_SECONDS))
  until (exec 3<>"/dev/tcp/127.0.0.1/$2") 2>/dev/null; do
    kill -0 "$3" 2>/dev/null || { tail -n 20 "$LOGS/$1.log" >&2; fail "server $1 ended before it listened"; }
    [ $SECONDS -lt $deadline ] || { tail -n 20 "$LOGS/$1.log" >&2; fail "server $1 did not listen within $READY_SECONDS s"; }
    sleep 0.05
  done
}

start() { # name port shards binary... ; settings come from the environment
  local name=$1 port=$2 shards=$3
  shift 3
  "$@" --bind "127.0.0.1:$port" --shards "$shards" >"$LOGS/$name.log" 2>&1 &
  PIDS+=($!)
  NAMES+=("$name")
  await_port "$name" "$port" $!
}

# The names of servers that are gone although nobody stopped them, each with the end of its log on standard error.
dead_servers() {
  local index
  for index in "${!PIDS[@]}"; do
    kill -0 "${PIDS[$index]}" 2>/dev/null || { tail -n 20 "$LOGS/${NAMES[$index]}.log" >&2; echo "${NAMES[$index]}"; }
  done
}
