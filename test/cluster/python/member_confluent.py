import time

from confluent_kafka import Consumer, KafkaException, TopicPartition

from member import BOOTSTRAP, COMMIT_INTERVAL, GROUP, NAME, PROTOCOL, TOPIC, going, say

conf = {"bootstrap.servers": BOOTSTRAP, "group.id": GROUP, "client.id": NAME, "auto.offset.reset": "earliest", "enable.auto.commit": False,
        "reconnect.backoff.ms": 50, "reconnect.backoff.max.ms": 500, "log_level": 2}
if PROTOCOL == "classic":
    conf |= {"partition.assignment.strategy": "range", "session.timeout.ms": 4000, "heartbeat.interval.ms": 500}
else:
    conf |= {"group.protocol": "consumer"}
c = Consumer(conf)
following = {}


def commit(partitions=None):
    offsets = [TopicPartition(TOPIC, p, at, NAME) for p, at in following.items() if partitions is None or p in partitions]
    for o in offsets:
        del following[o.partition]
    if not offsets:
        return
    try:
        for o in c.commit(offsets=offsets, asynchronous=False):
            if o.error:
                raise KafkaException(o.error)
        say("committed")
    except KafkaException as e:
        say("refused", repr(e))


def assigned(_, partitions):
    say("assigned", *(p.partition for p in partitions))


def revoked(_, partitions):
    commit({p.partition for p in partitions})
    say("revoked", *(p.partition for p in partitions))


def lost(_, partitions):
    for p in partitions:
        following.pop(p.partition, None)
    say("revoked", *(p.partition for p in partitions))


c.subscribe([TOPIC], on_assign=assigned, on_revoke=revoked, on_lost=lost)
last = time.monotonic()
while going():
    r = c.poll(0.1)
    if r is not None and not r.error():  # errors are of connections: it tries again
        say("got", r.partition(), r.offset(), r.value().decode())
        following[r.partition()] = r.offset() + 1
    if time.monotonic() - last > COMMIT_INTERVAL:
        commit()
        last = time.monotonic()
c.close()
