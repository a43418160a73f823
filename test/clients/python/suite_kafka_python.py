"""What a kafka-python user does: suite_kafka_python.py BOOTSTRAP PREFIX. Prints "ok NAME" or "not ok NAME: why" a step."""
import sys
import time

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic
from kafka.errors import KafkaError, MessageSizeTooLargeError, UnknownTopicOrPartitionError

from steps import Steps, values

BOOTSTRAP, PREFIX = sys.argv[1], sys.argv[2]
CODECS = [None, "gzip", "snappy", "lz4", "zstd"]
N = 300
steps = Steps()


def topic(name):
    return f"{PREFIX}-{name}"


def consumer(*topics, **kw):
    kw.setdefault("auto_offset_reset", "earliest")
    kw.setdefault("consumer_timeout_ms", 45000)
    return KafkaConsumer(*topics, bootstrap_servers=BOOTSTRAP, **kw)


def drain(c, want):
    got = []
    end = time.time() + 90
    while len(got) < want and time.time() < end:
        for records in c.poll(timeout_ms=500).values():
            got.extend(records)
    return got


@steps.step("create topic")
def _():
    admin = KafkaAdminClient(bootstrap_servers=BOOTSTRAP)
    admin.create_topics([NewTopic(topic("basic"), num_partitions=3, replication_factor=1)])
    assert topic("basic") in admin.list_topics()
    admin.close()


for codec in CODECS:
    for acks in (0, 1, "all"):

        @steps.step(f"produce {codec or 'none'} acks={acks}")
        def _(codec=codec, acks=acks):
            p = KafkaProducer(bootstrap_servers=BOOTSTRAP, compression_type=codec, acks=acks, enable_idempotence=False, linger_ms=5)
            name = topic(codec or "none")
            futures = [p.send(name, key=b"%d" % i, value=v, headers=[("acks", str(acks).encode())]) for i, v in enumerate(values(N))]
            p.flush(30)
            if acks != 0:
                for f in futures:
                    assert f.get(30).offset >= 0
            p.close()

    @steps.step(f"consume {codec or 'none'} by assignment")
    def _(codec=codec):
        name = topic(codec or "none")
        c = consumer(group_id=None)
        c.assign([TopicPartition(name, p) for p in sorted(c.partitions_for_topic(name))])
        c.seek_to_beginning()
        got = drain(c, 3 * N)
        c.close()
        for acks in (b"0", b"1", b"all"):
            assert sorted(r.value for r in got if dict(r.headers)["acks"] == acks) == sorted(values(N)), f"acks {acks}"


@steps.step("idempotent producer")
def _():
    p = KafkaProducer(bootstrap_servers=BOOTSTRAP, enable_idempotence=True, acks="all")
    for v in values(N):
        p.send(topic("idempotent"), v, partition=0)
    p.flush(30)
    p.close()
    c = consumer(group_id=None)
    c.assign([TopicPartition(topic("idempotent"), 0)])
    assert [r.value for r in drain(c, N)] == values(N)
    c.close()


@steps.step("consume in a group and resume")
def _():
    p = KafkaProducer(bootstrap_servers=BOOTSTRAP)
    for i, v in enumerate(values(N)):
        p.send(topic("basic"), v, partition=i % 3)
    p.flush(30)
    group = f"{PREFIX}-group"
    c = consumer(topic("basic"), group_id=group, enable_auto_commit=False)
    assert sorted(r.value for r in drain(c, N)) == sorted(values(N))
    c.commit()
    c.close()
    p.send(topic("basic"), b"after", partition=1)
    p.flush(30)
    c = consumer(topic("basic"), group_id=group, enable_auto_commit=False)
    assert [r.value for r in drain(c, 1)] == [b"after"]
    c.close()
    p.close()


@steps.step("two members share a group")
def _():
    group = f"{PREFIX}-pair"
    a = consumer(topic("basic"), group_id=group)
    b = consumer(topic("basic"), group_id=group)
    end = time.time() + 90
    got = []
    while time.time() < end:
        for c in (a, b):
            for records in c.poll(timeout_ms=200).values():
                got.extend(records)
        if a.assignment() and b.assignment() and len(got) >= N + 1:
            break
    assert a.assignment() and b.assignment() and not a.assignment() & b.assignment()
    assert {r.value for r in got} == set(values(N)) | {b"after"}
    a.close()
    b.close()


@steps.step("seek by offset and timestamp")
def _():
    p = KafkaProducer(bootstrap_servers=BOOTSTRAP)
    tp = TopicPartition(topic("times"), 0)
    base = int(time.time() * 1000) - 100000
    for i in range(100):
        p.send(tp.topic, b"%d" % i, partition=0, timestamp_ms=base + i * 10)
    p.flush(30)
    p.close()
    c = consumer(group_id=None)
    c.assign([tp])
    c.seek(tp, 42)
    assert drain(c, 1)[0].value == b"42"
    found = c.offsets_for_times({tp: base + 505})[tp]
    assert (found.offset, found.timestamp) == (51, base + 510), found
    assert c.beginning_offsets([tp])[tp] == 0 and c.end_offsets([tp])[tp] == 100
    assert c.offsets_for_times({tp: base + 10**8})[tp] is None
    c.close()


@steps.step("error on an oversized record")
def _():
    p = KafkaProducer(bootstrap_servers=BOOTSTRAP, max_request_size=20 << 20, enable_idempotence=False)
    try:
        p.send(topic("basic"), b"x" * (2 << 20)).get(30)
        raise AssertionError("a record of 2 MiB was accepted")
    except MessageSizeTooLargeError:
        pass
    p.close()


@steps.step("error on an unknown topic")
def _():
    admin = KafkaAdminClient(bootstrap_servers=BOOTSTRAP)
    try:
        admin.delete_topics([topic("never-made")])
        raise AssertionError("an unknown topic was deleted")
    except UnknownTopicOrPartitionError:
        pass
    c = consumer(group_id=None, allow_auto_create_topics=False)
    assert not c.partitions_for_topic(topic("never-made"))
    c.close()
    admin.close()


@steps.step("describe, list and delete")
def _():
    admin = KafkaAdminClient(bootstrap_servers=BOOTSTRAP)
    assert f"{PREFIX}-group" in str(admin.list_groups() if hasattr(admin, "list_groups") else admin.list_consumer_groups())
    admin.delete_topics([topic("times")])
    end = time.time() + 20
    while topic("times") in admin.list_topics() and time.time() < end:
        time.sleep(0.1)
    assert topic("times") not in admin.list_topics()
    admin.close()


sys.exit(steps.done())
