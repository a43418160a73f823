"""What an aiokafka user does: suite_aiokafka.py BOOTSTRAP PREFIX. Prints "ok NAME" or "not ok NAME: why" a step."""
import asyncio
import sys
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import MessageSizeTooLargeError, OffsetOutOfRangeError

from steps import Steps, values

BOOTSTRAP, PREFIX = sys.argv[1], sys.argv[2]
N = 300
steps = Steps()


def topic(name):
    return f"{PREFIX}-{name}"


def step(name):
    """A step that is a coroutine, with at most a minute; what it leaves open when it fails would keep the loop alive."""

    async def run(f):
        try:
            await asyncio.wait_for(f(), 60)
        finally:
            while open_clients:
                client = open_clients.pop()
                await (client.close() if isinstance(client, AIOKafkaAdminClient) else client.stop())

    return lambda f: steps.step(name)(lambda: asyncio.run(run(f)))


open_clients = []


async def started(client):
    open_clients.append(client)
    await client.start()
    return client


def producer(**kw):
    return started(AIOKafkaProducer(bootstrap_servers=BOOTSTRAP, **kw))


def consumer(*topics, **kw):
    kw.setdefault("auto_offset_reset", "earliest")
    return started(AIOKafkaConsumer(*topics, bootstrap_servers=BOOTSTRAP, **kw))


async def drain(c, want):
    got = []
    while len(got) < want:
        for records in (await c.getmany(timeout_ms=200)).values():
            got.extend(records)
    return got


@step("create topic")
async def _():
    admin = await started(AIOKafkaAdminClient(bootstrap_servers=BOOTSTRAP))
    await admin.create_topics([NewTopic(topic("basic"), 3, 1)])
    assert topic("basic") in await admin.list_topics()
    assert len((await admin.describe_cluster())["brokers"]) >= 1
    await admin.close()


for codec in [None, "gzip", "snappy", "lz4", "zstd"]:
    for acks in (0, 1, "all"):

        @step(f"produce {codec or 'none'} acks={acks}")
        async def _(codec=codec, acks=acks):
            p = await producer(compression_type=codec, acks=acks, linger_ms=5)
            sent = [await p.send(topic(codec or "none"), v, headers=[("acks", str(acks).encode())]) for v in values(N)]
            for m in await asyncio.gather(*sent):
                assert acks == 0 or m.offset >= 0
            await p.stop()

    @step(f"consume {codec or 'none'} by assignment")
    async def _(codec=codec):
        c = await consumer()
        c.assign([TopicPartition(topic(codec or "none"), 0)])
        got = await drain(c, 3 * N)
        await c.stop()
        for acks in (b"0", b"1", b"all"):
            assert sorted(r.value or b"" for r in got if dict(r.headers)["acks"] == acks) == sorted(values(N)), f"acks {acks}"


@step("idempotent producer")
async def _():
    p = await producer(enable_idempotence=True, max_batch_size=2000)
    sent = [await p.send(topic("idempotent"), v, partition=0) for v in values(N)]
    assert [m.offset for m in await asyncio.gather(*sent)] == list(range(N))
    await p.stop()


@step("seek by offset and timestamp")
async def _():
    tp = TopicPartition(topic("times"), 0)
    base = int(time.time() * 1000) - 100000
    p = await producer()
    for i in range(100):
        await p.send(tp.topic, b"%d" % i, partition=0, timestamp_ms=base + i * 10)
    await p.stop()
    c = await consumer(auto_offset_reset="none")
    c.assign([tp])
    c.seek(tp, 42)
    assert (await c.getone()).value == b"42"
    found = (await c.offsets_for_times({tp: base + 505}))[tp]
    assert (found.offset, found.timestamp) == (51, base + 510), found
    assert (await c.beginning_offsets([tp]))[tp] == 0 and (await c.end_offsets([tp]))[tp] == 100
    c.seek(tp, 1000)
    try:
        await c.getone()
        raise AssertionError("a record behind the end")
    except OffsetOutOfRangeError:
        pass
    await c.stop()


@step("two members share a group and commit")
async def _():
    p = await producer()
    for i, v in enumerate(values(N)):
        await p.send(topic("basic"), v, partition=i % 3)
    await p.flush()
    one = {"group_id": topic("group"), "enable_auto_commit": False, "heartbeat_interval_ms": 200}
    a = await consumer(topic("basic"), **one)
    assert sorted(r.value or b"" for r in await drain(a, N)) == sorted(values(N))
    await a.commit()
    b = await consumer(topic("basic"), **one)
    while not (a.assignment() and b.assignment() and len(a.assignment()) + len(b.assignment()) == 3):
        for c in (a, b):
            assert not await c.getmany(timeout_ms=100)
    assert not a.assignment() & b.assignment()
    await a.stop()
    await p.send(topic("basic"), b"after", partition=0)
    await p.stop()
    assert [r.value for r in await drain(b, 1)] == [b"after"]
    await b.stop()


@step("error on an oversized record")
async def _():
    p = await producer(max_request_size=20 << 20)
    try:
        await p.send_and_wait(topic("basic"), b"x" * (2 << 20))
        raise AssertionError("a record of 2 MiB was accepted")
    except MessageSizeTooLargeError:
        pass
    await p.stop()


@step("administer")
async def _():
    admin = await started(AIOKafkaAdminClient(bootstrap_servers=BOOTSTRAP))
    tp = TopicPartition(topic("basic"), 0)
    resource = ConfigResource(ConfigResourceType.TOPIC, tp.topic, configs={"retention.ms": "3600000"})
    await admin.alter_configs([resource])
    assert "3600000" in str(await admin.describe_configs([resource]))
    await admin.create_partitions({tp.topic: NewPartitions(5)})
    assert len((await admin.describe_topics([tp.topic]))[0]["partitions"]) == 5
    assert (await admin.delete_records({tp: RecordsToDelete(before_offset=10)}))[tp] == 10
    assert (topic("group"), "consumer") in await admin.list_consumer_groups()
    assert "Empty" in str(await admin.describe_consumer_groups([topic("group")]))
    assert (await admin.list_consumer_group_offsets(topic("group")))[tp].offset == N // 3
    await admin.delete_topics([tp.topic])
    assert tp.topic not in await admin.list_topics()
    await admin.close()


sys.exit(steps.done())
