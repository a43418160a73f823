"""What a confluent-kafka (librdkafka) user does: suite_confluent.py BOOTSTRAP PREFIX."""
import sys
import time
import warnings

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewPartitions, NewTopic

from steps import Steps, values

BOOTSTRAP, PREFIX = sys.argv[1], sys.argv[2]
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
N = 300
steps = Steps()
warnings.simplefilter("ignore", DeprecationWarning)  # alter_configs is tested because it is old


def topic(name):
    return f"{PREFIX}-{name}"


def producer(**kw):
    return Producer({"bootstrap.servers": BOOTSTRAP, **{k.replace("_", "."): v for k, v in kw.items()}})


def consumer(group, **kw):
    return Consumer({
        "bootstrap.servers": BOOTSTRAP, "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False,
        "enable.partition.eof": False, **{k.replace("_", "."): v for k, v in kw.items()}})


def drain(c, want, seconds=30):
    got = []
    end = time.time() + seconds
    while len(got) < want and time.time() < end:
        m = c.poll(0.5)
        if m is None:
            continue
        if m.error():
            if m.error().retriable() or m.error().code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                continue
            raise KafkaException(m.error())
        got.append(m)
    return got


class Acks:
    def __init__(self):
        self.errors, self.offsets = [], []

    def __call__(self, err, msg):
        self.errors.append(err) if err else self.offsets.append(msg.offset())


admin = AdminClient({"bootstrap.servers": BOOTSTRAP})


@steps.step("create topic, raise its partitions, describe and alter its configuration")
def _():
    for f in admin.create_topics([NewTopic(topic("basic"), num_partitions=2, replication_factor=1, config={"retention.ms": "86400000"})]).values():
        f.result(20)
    for f in admin.create_partitions([NewPartitions(topic("basic"), 3)]).values():
        f.result(20)
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic("basic"))
    for f in admin.describe_configs([resource]).values():
        assert f.result(20)["retention.ms"].value == "86400000"
    for f in admin.alter_configs([ConfigResource(ConfigResource.Type.TOPIC, topic("basic"), set_config={"retention.ms": "3600000"})]).values():
        f.result(20)
    for f in admin.describe_configs([resource]).values():
        assert f.result(20)["retention.ms"].value == "3600000"


for codec in CODECS:
    for acks in ("0", "1", "all"):

        @steps.step(f"produce {codec} acks={acks}")
        def _(codec=codec, acks=acks):
            p = producer(compression_type=codec, acks=acks, linger_ms=20)
            seen = Acks()
            for i, v in enumerate(values(N)):
                p.produce(topic(codec), v, key=b"%d" % i, headers={"acks": acks}, on_delivery=seen)
            assert p.flush(30) == 0
            assert not seen.errors and len(seen.offsets) == N, seen.errors[:1]

    @steps.step(f"consume {codec} by assignment")
    def _(codec=codec):
        c = consumer(f"{PREFIX}-unused")
        parts = c.list_topics(topic(codec)).topics[topic(codec)].partitions
        c.assign([TopicPartition(topic(codec), p, OFFSET_BEGINNING) for p in parts])
        got = drain(c, 3 * N)
        c.close()
        for acks in (b"0", b"1", b"all"):
            assert sorted(m.value() for m in got if dict(m.headers())["acks"] == acks) == sorted(values(N)), f"acks {acks}"


@steps.step("idempotent producer")
def _():
    p = producer(enable_idempotence="true", linger_ms=1)
    seen = Acks()
    for v in values(N):
        p.produce(topic("idempotent"), v, partition=0, on_delivery=seen)
        p.poll(0)
    assert p.flush(30) == 0
    assert seen.offsets == list(range(N)), (seen.errors[:1], seen.offsets[:5])
    c = consumer(f"{PREFIX}-unused")
    c.assign([TopicPartition(topic("idempotent"), 0, 0)])
    assert [m.value() for m in drain(c, N)] == values(N)
    c.close()


for strategy in ("range", "cooperative-sticky"):

    @steps.step(f"consume in a group and resume, {strategy}")
    def _(strategy=strategy):
        p = producer()
        for i, v in enumerate(values(N)):
            p.produce(topic(f"group-{strategy}"), v)
        assert p.flush(30) == 0
        group = f"{PREFIX}-group-{strategy}"
        c = consumer(group, partition_assignment_strategy=strategy)
        c.subscribe([topic(f"group-{strategy}")])
        assert sorted(m.value() for m in drain(c, N)) == sorted(values(N))
        c.commit(asynchronous=False)
        c.close()
        p.produce(topic(f"group-{strategy}"), b"after")
        assert p.flush(30) == 0
        c = consumer(group, partition_assignment_strategy=strategy)
        c.subscribe([topic(f"group-{strategy}")])
        assert [m.value() for m in drain(c, 1)] == [b"after"]
        c.close()


@steps.step("a static member comes back without a rebalance")
def _():
    group = f"{PREFIX}-static"
    assigned = []
    for _i in range(2):
        c = consumer(group, group_instance_id="one", session_timeout_ms=30000)
        c.subscribe([topic("basic")], on_assign=lambda c, parts: assigned.append(sorted(p.partition for p in parts)))
        end = time.time() + 30
        while len(assigned) < _i + 1 and time.time() < end:
            c.poll(0.2)
        c.close()
    assert assigned == [[0, 1, 2], [0, 1, 2]], assigned


@steps.step("seek by offset and timestamp")
def _():
    p = producer()
    base = int(time.time() * 1000) - 100000
    for i in range(100):
        p.produce(topic("times"), b"%d" % i, partition=0, timestamp=base + i * 10)
    assert p.flush(30) == 0
    c = consumer(f"{PREFIX}-unused")
    c.assign([TopicPartition(topic("times"), 0, 42)])
    assert drain(c, 1)[0].value() == b"42"
    found = c.offsets_for_times([TopicPartition(topic("times"), 0, base + 505)], timeout=20)[0]
    assert found.offset == 51, found
    c.seek(TopicPartition(topic("times"), 0, found.offset))
    assert drain(c, 1)[0].value() == b"51"
    assert c.get_watermark_offsets(TopicPartition(topic("times"), 0), timeout=20) == (0, 100)
    c.close()


@steps.step("delete records")
def _():
    for f in admin.delete_records([TopicPartition(topic("times"), 0, 10)]).values():
        assert f.result(20).low_watermark == 10
    c = consumer(f"{PREFIX}-unused")
    assert c.get_watermark_offsets(TopicPartition(topic("times"), 0), timeout=20) == (10, 100)
    c.close()


@steps.step("error on an oversized record")
def _():
    p = producer(message_max_bytes=20 << 20)
    seen = Acks()
    p.produce(topic("basic"), b"x" * (2 << 20), on_delivery=seen)
    p.flush(30)
    assert [e.code() for e in seen.errors] == [KafkaError.MSG_SIZE_TOO_LARGE], seen.errors


@steps.step("error on an unknown topic")
def _():
    for f in admin.delete_topics([topic("never-made")]).values():
        try:
            f.result(20)
            raise AssertionError("an unknown topic was deleted")
        except KafkaException as e:
            assert e.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART, e
    c = consumer(f"{PREFIX}-unused", topic_metadata_propagation_max_ms=1000)
    c.subscribe([topic("never-made")])
    end = time.time() + 20
    code = None
    while code is None and time.time() < end:
        m = c.poll(0.5)
        if m is not None and m.error():
            code = m.error().code()
    assert code in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION), code
    c.close()


@steps.step("describe and delete a group")
def _():
    group = f"{PREFIX}-group-range"
    assert group in [g.group_id for g in admin.list_consumer_groups().result(20).valid]
    description = admin.describe_consumer_groups([group])[group].result(20)
    assert description.state.name == "EMPTY", description.state
    for f in admin.delete_consumer_groups([group]).values():
        f.result(20)
    assert group not in [g.group_id for g in admin.list_consumer_groups().result(20).valid]


sys.exit(steps.done())
