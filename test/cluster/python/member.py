"""What the tests of groups ask of a member: BOOTSTRAP TOPIC GROUP NAME PROTOCOL as arguments; a line for each partition that is
assigned or revoked, for each record before it is committed, and for each commit; to leave when standard input ends."""
import sys
import threading

BOOTSTRAP, TOPIC, GROUP, NAME, PROTOCOL = sys.argv[1:6]
COMMIT_INTERVAL = 0.2
_stop = threading.Event()


def _watch():
    sys.stdin.read()
    _stop.set()


threading.Thread(target=_watch, daemon=True).start()


def going():
    return not _stop.is_set()


def say(*words):
    print(*words, flush=True)
