"""What the protocol of the kill tests asks of a program: stop when standard input ends, a line for each ack or record."""
import sys
import threading
import time

PARTITIONS = 3
MODE, BOOTSTRAP, TOPIC, GROUP = sys.argv[1:5]
_stop = threading.Event()
_out = threading.Lock()


def _watch():
    sys.stdin.read()
    _stop.set()


threading.Thread(target=_watch, daemon=True).start()


def going():
    return not _stop.is_set()


def say(*words):
    with _out:
        print(*words, flush=True)


def produce(send):
    """Calls send(partition, value) with numbers as long as it is wanted; returns how many."""
    n = 0
    while going():
        for p in range(PARTITIONS):
            send(p, b"%d" % n)
            n += 1
        time.sleep(0.01)
    return n
