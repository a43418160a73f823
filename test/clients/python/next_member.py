"""next_member.py BOOTSTRAP GROUP NAME INSTANCE|- PROTOCOL TOPIC,TOPIC|^PATTERN: what java/NextMember.java is, with librdkafka."""
import sys
import threading

from confluent_kafka import Consumer

bootstrap, group, name, instance, protocol, subscription = sys.argv[1:]
going = threading.Event()
lock = threading.Lock()


def say(*words):
    with lock:
        print(*words, flush=True)


def partitions(list):
    return (f"{p.topic}/{p.partition}" for p in list)


def watch():
    sys.stdin.read()
    going.set()


threading.Thread(target=watch, daemon=True).start()
conf = {"bootstrap.servers": bootstrap, "group.id": group, "client.id": name, "group.protocol": protocol, "auto.offset.reset": "earliest",
        "auto.commit.interval.ms": 200, "topic.metadata.refresh.interval.ms": 2000, "log_level": 2}
if instance != "-":
    conf["group.instance.id"] = instance
if protocol == "classic":
    conf |= {"partition.assignment.strategy": "cooperative-sticky", "session.timeout.ms": 6000, "heartbeat.interval.ms": 300}
c = Consumer(conf)
c.subscribe([subscription] if subscription.startswith("^") else subscription.split(","),
            on_assign=lambda _, p: say("assigned", *partitions(p)), on_revoke=lambda _, p: say("revoked", *partitions(p)))
while not going.is_set():
    r = c.poll(0.1)
    if r is not None and not r.error():
        say("got", f"{r.topic()}/{r.partition()}", r.offset())
c.close()
