"""What the end-to-end tests in Python share: running the program, and made-up documents.

  lectern = Program("build/release/service/lectern", data="/tmp/x/data")
  done = lectern.run("ingest", "books", path)              # raises Broken unless it exits with 0
  done = lectern.run("search", "books", "", exits=2)       # or with what is asked for
  done.returncode, done.stdout, done.stderr, done.peak_bytes
"""
import json
import os
import random
import subprocess
import tempfile

WORDS = ("whale harbour ledger lantern orchard granite meadow copper thistle window signal river anchor basil cinder "
         "dapple ember fathom gable hollow island jasper kernel lattice marble nettle opal pebble quarry").split()


class Broken(Exception):
    pass


def record(i, words=60, seed=1):
    rng = random.Random(f"{seed}/{i}")
    text = " ".join(rng.choice(WORDS) for _ in range(words))
    return {"id": f"d{i:07d}", "title": f"Document {i}", "text": f"unique{seed}x{i} {text}"}


def write_records(path, count, words=60, seed=1):
    with open(path, "w", encoding="utf-8") as out:
        for i in range(count):
            out.write(json.dumps(record(i, words, seed)) + "\n")


class Program:
    def __init__(self, program, data):
        self.program, self.data = os.path.abspath(program), data
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("LECTERN_")}
        self.env.update(NO_COLOR="1", LC_ALL="C.UTF-8")

    def command(self, *args):
        return [self.program, "--data", self.data, "--no-progress", *args]

    def run(self, *args, exits=0, stdin=None, timeout=600, cwd=None):
        """exits: a code, several, or None for any but a crash."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            process = subprocess.Popen(self.command(*args), stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
                                       stdout=out, stderr=err, env=self.env, cwd=cwd)
            if stdin is not None:
                try:
                    process.stdin.write(stdin)
                    process.stdin.close()
                except BrokenPipeError:
                    pass
            # wait4 gives this child's own peak, which getrusage does not.
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            out.seek(0)
            err.seek(0)
            done = subprocess.CompletedProcess(args, process.returncode, out.read().decode("utf-8", "replace"),
                                               err.read().decode("utf-8", "replace"))
        done.peak_bytes = usage.ru_maxrss << 10
        # Signals are negative; a sanitizer's report ends with 1 and says so.
        crashed = done.returncode < 0 or "Sanitizer" in done.stderr or "runtime error:" in done.stderr
        wanted = None if exits is None else {exits} if isinstance(exits, int) else set(exits)
        if crashed or (wanted is not None and done.returncode not in wanted):
            raise Broken(f"{' '.join(map(str, args))[:200]} ended with exit code {done.returncode}, expected {exits}:\n"
                         f"{done.stdout[-600:]}{done.stderr[-3000:]}")
        return done

    def start(self, *args, **more):
        return subprocess.Popen(self.command(*args), env=self.env, **more)
