#!/usr/bin/env bash
# Installs the Kafka clients that the tests run, pinned, into .cache/clients: kcat and strace (Debian), kafka-python, confluent-kafka
# and aiokafka (PyPI), kafkajs (npm), Kafka's Java client, tools and broker (Maven), sarama and kafka-go (Go modules). What
# cannot be installed is said out loud and left out; with CHRONIK_REQUIRE_CLIENTS=1 (as CI sets it) that is an error.
set -u
cd "$(dirname "$0")/.."
cache=$PWD/.cache/clients
mkdir -p "$cache"
missing=()

stamp_ok() { [ -f "$cache/$1.stamp" ] && [ "$(cat "$cache/$1.stamp")" = "$2" ]; }
sum() { cat "$@" | sha256sum | cut -d' ' -f1; }
log=$cache/install.log
: >"$log"

apt_install() { # package
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
  export DEBIAN_FRONTEND=noninteractive
  apt-get install -y -q "$@" >>"$log" 2>&1 || { apt-get update -q >>"$log" 2>&1 && apt-get install -y -q "$@" >>"$log" 2>&1; }
}

kcat() {
  type -P kcat >/dev/null || apt_install kcat
}
strace() { # counts what leaves by sendfile
  type -P strace >/dev/null || apt_install strace
}
python() {
  local want; want=$(sum test/clients/python/requirements.txt)
  stamp_ok python "$want" && [ -x "$cache/python/bin/python" ] && return 0
  python3 -m venv "$cache/python" >>"$log" 2>&1 || { apt_install python3-venv && python3 -m venv "$cache/python" >>"$log" 2>&1; } || return 1
  "$cache/python/bin/pip" install -q --disable-pip-version-check -r test/clients/python/requirements.txt >>"$log" 2>&1 || return 1
  echo "$want" >"$cache/python.stamp"
}
js() {
  local want; want=$(sum test/clients/js/package.json test/clients/js/package-lock.json)
  stamp_ok js "$want" && [ -d "$cache/js/node_modules/kafkajs" ] && return 0
  command -v npm >/dev/null || apt_install nodejs npm || return 1
  mkdir -p "$cache/js" && cp test/clients/js/package.json test/clients/js/package-lock.json "$cache/js/"
  (cd "$cache/js" && npm ci --no-audit --no-fund >>"$log" 2>&1) || return 1
  echo "$want" >"$cache/js.stamp"
}
java() {
  local want; want=$(sum test/clients/java/pom.xml)
  stamp_ok java "$want" && ls "$cache"/java/kafka-clients-*.jar >/dev/null 2>&1 && return 0
  command -v javac >/dev/null || apt_install default-jdk-headless || return 1
  command -v mvn >/dev/null || apt_install maven || return 1
  rm -rf "$cache/java"
  mvn -q -B -f test/clients/java/pom.xml dependency:copy-dependencies -DoutputDirectory="$cache/java" >>"$log" 2>&1 || return 1
  echo "$want" >"$cache/java.stamp"
}

gomodules() {
  local want; want=$(sum test/clients/go/go.mod test/clients/go/go.sum)
  stamp_ok go "$want" && return 0
  (cd test/clients/go && ${GO:-go} build ./... >>"$log" 2>&1) || return 1
  echo "$want" >"$cache/go.stamp"
}

for client in kcat strace python js java gomodules; do
  if "$client"; then echo "clients: $client is here"; else missing+=("$client"); fi
done
if [ ${#missing[@]} -gt 0 ]; then
  echo "clients: COULD NOT INSTALL: ${missing[*]} (${#missing[@]} of 6; see $log). Their tests will be skipped."
  if [ "${CHRONIK_REQUIRE_CLIENTS:-0}" = 1 ]; then tail -20 "$log"; exit 1; fi
fi
