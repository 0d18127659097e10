#!/usr/bin/env bash
# Starts message brokers on ports of the loopback interface, without touching those that the machine may run.
#
#   scripts/brokers.sh KIND...    starts them on free ports, prints their URLs, and stops them at Ctrl-C
#
# Kinds: redis redis-cluster sentinel valkey rabbitmq nats kafka. A script that has sourced scripts/servers.sh sources this, too, and
# calls start_broker; the brokers end with its servers. What is missing is installed by scripts/install-test-deps.sh.

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
  set -euo pipefail
  cd "$(dirname "$0")/.."
  PROGRAM=brokers
  LOGS=$(mktemp -d)
  # shellcheck source=scripts/servers.sh
  . scripts/servers.sh
fi

# Where Debian has servers, which not every user's path names.
PATH=$PATH:/usr/sbin:/usr/local/sbin
# Distances from a broker's port to others that it has; 20000 to 31999 lies below what the kernel gives to clients.
BROKER_SECOND=4000
BROKER_THIRD=8000
BROKER_FOLDERS=()
BROKER_EPMDS=()
JAVA=(java -Xms64m -Xmx192m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp '.deps/kafka/*')

need_tool() { command -v "$1" >/dev/null || [ -e "$1" ] || fail "$1 is missing: run scripts/install-test-deps.sh"; }

# A port for a broker, with room for its others.
broker_port() {
  python3 - "$BROKER_SECOND" "$BROKER_THIRD" <<'PY'
import random, socket, sys
above = [0, *map(int, sys.argv[1:])]
while True:
    port = random.randrange(20000, 24000)
    held = []
    try:
        held = [socket.create_server(("127.0.0.1", port + distance)) for distance in above]
    except OSError:
        continue
    print(port)
    break
PY
}

stop_brokers() {
  local folder port
  stop_all
  for port in "${BROKER_EPMDS[@]}"; do epmd -port "$port" -kill >/dev/null 2>&1 || true; done
  for folder in "${BROKER_FOLDERS[@]}"; do rm -rf "$folder"; done
}
trap stop_brokers EXIT

run_broker() { # name port command...
  local name=$1 port=$2
  shift 2
  "$@" >"$LOGS/$name.log" 2>&1 </dev/null &
  PIDS+=($!)
  NAMES+=("$name")
  READY_SECONDS=60 await_port "$name" "$port" $!
}

# Starts a broker of a kind on a port; a sentinel watches the Redis on the port behind, as mymaster.
start_broker() { # kind port [watched port]
  local kind=$1 port=$2 folder
  folder=$(mktemp -d)
  BROKER_FOLDERS+=("$folder")
  case "$kind" in
    redis | valkey)
      local program=redis-server
      [ "$kind" = redis ] || program=.deps/valkey/valkey-server
      need_tool "$program"
      run_broker "$kind" "$port" "$program" --bind 127.0.0.1 --port "$port" --save "" --appendonly no --maxmemory 256mb --dir "$folder" ;;
    redis-cluster)
      need_tool redis-server
      need_tool redis-cli
      run_broker "$kind" "$port" redis-server --bind 127.0.0.1 --port "$port" --save "" --dir "$folder" \
        --cluster-enabled yes --cluster-config-file nodes.conf --cluster-port $((port + BROKER_SECOND))
      redis-cli -p "$port" cluster addslotsrange 0 16383 >/dev/null || fail "the cluster took no slots"
      until redis-cli -p "$port" cluster info | grep -q cluster_state:ok; do sleep 0.1; done ;;
    sentinel)
      need_tool redis-server
      printf 'port %s\nbind 127.0.0.1\nsentinel monitor mymaster 127.0.0.1 %s 1\nsentinel down-after-milliseconds mymaster 1000\n' \
        "$port" "$3" >"$folder/sentinel.conf"
      run_broker "$kind" "$port" redis-server "$folder/sentinel.conf" --sentinel ;;
    nats)
      need_tool nats-server
      run_broker "$kind" "$port" nats-server -a 127.0.0.1 -p "$port" -js -sd "$folder/js" ;;
    rabbitmq) start_rabbitmq "$port" "$folder" ;;
    kafka) start_kafka "$port" "$folder" ;;
    *) fail "no such broker: $kind (redis redis-cluster sentinel valkey rabbitmq nats kafka)" ;;
  esac
}

# What Debian has in the path insists on root or its own user, and on folders of the system: this is what it calls.
start_rabbitmq() { # port folder
  local port=$1 folder=$2
  need_tool /usr/lib/rabbitmq/bin/rabbitmq-server
  BROKER_EPMDS+=($((port + BROKER_THIRD)))
  echo '[].' >"$folder/plugins"
  printf '%s\n' 'loopback_users = none' 'vm_memory_high_watermark.absolute = 256MB' 'disk_free_limit.absolute = 50MB' \
    'log.console = true' 'log.console.level = warning' >"$folder/rabbitmq.conf"
  run_broker rabbitmq "$port" env HOME="$folder" ERL_EPMD_PORT=$((port + BROKER_THIRD)) ERL_EPMD_ADDRESS=127.0.0.1 \
    RABBITMQ_NODENAME="shardcast$port@localhost" RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_NODE_PORT="$port" \
    RABBITMQ_DIST_PORT=$((port + BROKER_SECOND)) RABBITMQ_MNESIA_BASE="$folder/mnesia" RABBITMQ_LOG_BASE="$folder/log" RABBITMQ_LOGS=- \
    RABBITMQ_PID_FILE="$folder/pid" RABBITMQ_CONFIG_FILE="$folder/rabbitmq" RABBITMQ_ENABLED_PLUGINS_FILE="$folder/plugins" \
    RABBITMQ_CONF_ENV_FILE=/dev/null RUNNING_UNDER_SYSTEMD=yes \
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}" \
    /usr/lib/rabbitmq/bin/rabbitmq-server
}

start_kafka() { # port folder
  local port=$1 folder=$2 controller=$(($1 + BROKER_SECOND))
  need_tool java
  need_tool .deps/kafka
  printf '%s\n' process.roles=broker,controller node.id=1 "controller.quorum.voters=1@127.0.0.1:$controller" \
    "listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller" "advertised.listeners=PLAINTEXT://127.0.0.1:$port" \
    controller.listener.names=CONTROLLER listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT "log.dirs=$folder/data" \
    offsets.topic.num.partitions=1 offsets.topic.replication.factor=1 transaction.state.log.num.partitions=1 \
    transaction.state.log.replication.factor=1 transaction.state.log.min.isr=1 share.coordinator.state.topic.num.partitions=1 \
    share.coordinator.state.topic.replication.factor=1 share.coordinator.state.topic.min.isr=1 group.initial.rebalance.delay.ms=0 \
    log.segment.bytes=16777216 log.retention.bytes=67108864 log.cleaner.dedupe.buffer.size=4194304 num.network.threads=2 num.io.threads=2 \
    >"$folder/server.properties"
  "${JAVA[@]}" kafka.tools.StorageTool format -t 4L6g3nShT-eMCtK--X86sw -c "$folder/server.properties" >"$LOGS/kafka-format.log" 2>&1 \
    || { tail -n 20 "$LOGS/kafka-format.log" >&2; fail "Kafka's folder could not be prepared"; }
  run_broker kafka "$port" "${JAVA[@]}" kafka.Kafka "$folder/server.properties"
}

broker_url() { # kind port
  case "$1" in
    redis | valkey | nats | kafka) echo "$1://127.0.0.1:$2" ;;
    redis-cluster) echo "redis://127.0.0.1:$2?mode=sharded" ;;
    sentinel) echo "redis+sentinel://127.0.0.1:$2/0/mymaster" ;;
    rabbitmq) echo "amqp://guest:guest@127.0.0.1:$2" ;;
  esac
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
  [ $# -gt 0 ] || fail "which brokers? (redis redis-cluster sentinel valkey rabbitmq nats kafka)"
  for kind in "$@"; do
    port=$(broker_port)
    watched=
    if [ "$kind" = sentinel ]; then
      watched=$(broker_port)
      start_broker redis "$watched"
    fi
    start_broker "$kind" "$port" $watched
    echo "$(broker_url "$kind" "$port")"
  done
  echo "logs in $LOGS"
  while [ -z "$(dead_servers)" ]; do sleep 1; done
  fail "a broker has ended"
fi
