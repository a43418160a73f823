from confluent_kafka import Consumer, Producer

from work import BOOTSTRAP, GROUP, MODE, TOPIC, going, produce, say

COMMON = {"bootstrap.servers": BOOTSTRAP, "reconnect.backoff.ms": 50, "reconnect.backoff.max.ms": 500, "log_level": 2}

if MODE == "produce":
    p = Producer({"acks": "all", "enable.idempotence": True, "linger.ms": 5, "retry.backoff.ms": 50, **COMMON})

    def done(err, m):
        if err:
            say("error", str(err))
        else:
            say("ack", m.partition(), m.offset(), m.value().decode())

    def send(partition, value):
        p.produce(TOPIC, value, partition=partition, on_delivery=done)
        p.poll(0)

    n = produce(send)
    p.flush(100)
    say("end", n)
else:
    c = Consumer({"group.id": GROUP, "auto.offset.reset": "earliest", "auto.commit.interval.ms": 200, "session.timeout.ms": 6000, "heartbeat.interval.ms": 500, **COMMON})
    c.subscribe([TOPIC])
    while going():
        for r in c.consume(100, 0.2):
            if not r.error():  # of the connection: it tries again
                say("got", r.partition(), r.offset(), r.value().decode())
    c.close()
