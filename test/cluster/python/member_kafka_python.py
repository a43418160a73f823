import time

from kafka import ConsumerRebalanceListener, KafkaConsumer, OffsetAndMetadata, TopicPartition
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.errors import KafkaConnectionError, KafkaError

from member import BOOTSTRAP, COMMIT_INTERVAL, GROUP, NAME, TOPIC, going, say

c = KafkaConsumer(
    group_id=GROUP, client_id=NAME, bootstrap_servers=BOOTSTRAP.split(","), auto_offset_reset="earliest", enable_auto_commit=False,
    session_timeout_ms=4000, heartbeat_interval_ms=500, partition_assignment_strategy=[RangePartitionAssignor],
    reconnect_backoff_ms=50, reconnect_backoff_max_ms=500, retry_backoff_ms=50)
following = {}


def commit():
    if not following:
        return
    offsets = {TopicPartition(TOPIC, p): OffsetAndMetadata(at, NAME, -1) for p, at in following.items()}
    following.clear()
    try:
        c.commit(offsets)
        say("committed")
    except KafkaError as e:
        say("refused", repr(e))


class Listener(ConsumerRebalanceListener):
    def on_partitions_revoked(self, revoked):
        following.clear()  # no commit is possible here: whoever comes next gets some records again
        say("revoked", *(p.partition for p in revoked))

    def on_partitions_assigned(self, assigned):
        say("assigned", *(p.partition for p in assigned))


c.subscribe([TOPIC], listener=Listener())
last = time.monotonic()
while going():
    try:
        polled = c.poll(timeout_ms=100)
    except KafkaConnectionError:  # it does not try another broker by itself
        continue
    for records in polled.values():
        for r in records:
            say("got", r.partition, r.offset, r.value.decode())
            following[r.partition] = r.offset + 1
    if time.monotonic() - last > COMMIT_INTERVAL:
        commit()
        last = time.monotonic()
c.close()
