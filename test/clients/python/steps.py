"""Steps that report themselves in the form that the Go test reads."""
import traceback


def values(n):
    """The same n values for everyone: varied lengths, an empty one among them, not all text."""
    return [b"" if i == 7 else b"value-%d-" % i + bytes([i % 256]) * (i * 13 % 400) for i in range(n)]


class Steps:
    def __init__(self):
        self.failed = 0

    def step(self, name):
        def run(f):
            try:
                f()
                print(f"ok {name}", flush=True)
            except BaseException as e:  # also what a client raises outside of Exception
                self.failed += 1
                where = traceback.extract_tb(e.__traceback__)[-1]
                print(f"not ok {name}: {type(e).__name__}: {e} ({where.filename.rsplit('/', 1)[-1]}:{where.lineno})".replace("\n", " "), flush=True)
            return f

        return run

    def done(self):
        return 1 if self.failed else 0
