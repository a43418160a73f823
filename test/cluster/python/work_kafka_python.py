from kafka import KafkaConsumer, KafkaProducer
from kafka.errors import KafkaConnectionError

from work import BOOTSTRAP, GROUP, MODE, TOPIC, going, produce, say

COMMON = dict(bootstrap_servers=BOOTSTRAP.split(","), reconnect_backoff_ms=50, reconnect_backoff_max_ms=500, retry_backoff_ms=50)

if MODE == "produce":
    p = KafkaProducer(acks="all", enable_idempotence=True, linger_ms=5, **COMMON)

    def send(partition, value):
        f = p.send(TOPIC, value=value, partition=partition)
        f.add_callback(lambda m: say("ack", m.partition, m.offset, value.decode()))
        f.add_errback(lambda e: say("error", repr(e)))

    n = produce(send)
    p.flush(100)
    say("end", n)
else:
    c = KafkaConsumer(TOPIC, group_id=GROUP, auto_offset_reset="earliest", auto_commit_interval_ms=200, session_timeout_ms=6000, heartbeat_interval_ms=500, **COMMON)
    while going():
        try:
            polled = c.poll(timeout_ms=200)
        except KafkaConnectionError:  # it does not try another broker by itself
            continue
        for records in polled.values():
            for r in records:
                say("got", r.partition, r.offset, r.value.decode())
    c.close()
