#!/usr/bin/env bash
# Runs `chronik bench suite` in a network namespace of its own, loopback only, with TCP congestion control reno: under
# BBR, which some machines have as their default, a loopback is half as fast and sendfile looks six times as expensive.
# Without root it runs on the plain loopback and says so. Arguments go to the suite; BENCH_PEER=kafka also measures
# against Apache Kafka (installed by scripts/clients.sh).
set -eu
cd "$(dirname "$0")/.."
mkdir -p .run
inner() {
  local peer=()
  if [ "${BENCH_PEER:-}" = kafka ]; then
    rm -rf .run/kafka
    scripts/apache-kafka.sh "$PWD/.run/kafka" 19092 &
    kafka=$!
    trap "kill $kafka 2>/dev/null || true" EXIT
    for _ in $(seq 120); do bin/chronik topic list -b 127.0.0.1:19092 >/dev/null 2>&1 && break; sleep 0.5; done
    peer=(--peer 127.0.0.1:19092 --peer-name "Apache Kafka")
  fi
  # BENCH_NODES=1 or 3 for one of the two suites.
  [ "${BENCH_NODES:-1}" != 1 ] || bin/chronik bench suite --dir .run "${peer[@]}" "$@"
  [ "${BENCH_NODES:-3}" != 3 ] || { echo; bin/chronik bench suite --nodes 3 --dir .run "$@"; }
}
if [ "${1:-}" = --inner ]; then shift; inner "$@"; exit; fi
if [ "$(id -u)" = 0 ] && unshare -n true 2>/dev/null; then
  exec unshare -n sh -c 'ip link set lo up && sysctl -qw net.ipv4.tcp_congestion_control=reno; exec "$@"' quiet-net "$0" --inner "$@"
fi
echo "bench: not root, so this runs on the plain loopback ($(sysctl -n net.ipv4.tcp_congestion_control 2>/dev/null)): ratios to the ceiling still hold, absolute figures are lower"
inner "$@"
