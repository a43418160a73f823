#!/usr/bin/env bash
# apache-kafka.sh DIR PORT [key=value ...]: runs one Apache Kafka broker (KRaft, the jars of scripts/clients.sh) in the
# foreground, on 127.0.0.1:PORT (controller on PORT+1), data and log in DIR. Stop it with SIGTERM.
set -eu
dir=$1 port=$2; shift 2
root=$(cd "$(dirname "$0")/.." && pwd)
jars=$root/.cache/clients/java
java=java
for j in /usr/lib/jvm/temurin-25*/bin/java; do [ -x "$j" ] && java=$j; done
mkdir -p "$dir/data"
cat >"$dir/server.properties" <<CONF
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$((port + 1))
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$((port + 1))
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$dir/data
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
CONF
for kv in "$@"; do echo "$kv" >>"$dir/server.properties"; done
run() { "$java" -Xms256m -Xmx1g -XX:+UseG1GC -cp "$jars/*" "$@"; }
[ -f "$dir/data/meta.properties" ] || run kafka.tools.StorageTool format -t AAAAAAAAQACAAAAAAAAAAA -c "$dir/server.properties" >"$dir/format.log" 2>&1 ||
  { cat "$dir/format.log" >&2; exit 1; }
exec "$java" -Xms256m -Xmx1g -XX:+UseG1GC -cp "$jars/*" kafka.Kafka "$dir/server.properties" >"$dir/kafka.log" 2>&1
