#!/usr/bin/env python3
"""Stopping: SIGINT once, twice, SIGTERM, --timeout, a silent pipe; and going on behind each.  stop_and_resume.py PROGRAM"""
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

from program import Broken, Program, write_records

COUNT = 60000


def first_commit(process):
    """Waits until something was acknowledged, so that the stop comes in the middle."""
    line = process.stdout.readline()
    if b"durable_seq" not in line:
        raise Broken(f"no acknowledgement before the end: {line!r} {process.stderr.read()!r}")


def at_work(process, seconds):
    """Returns so many seconds after the process took SIGINT into its own hands: before that a signal just kills it."""
    while process.poll() is None:
        with open(f"/proc/{process.pid}/status", encoding="utf-8") as status:
            caught = next(int(line.split()[1], 16) for line in status if line.startswith("SigCgt:"))
        if caught >> (signal.SIGINT - 1) & 1:
            break
        time.sleep(0.01)
    time.sleep(seconds)


def stopped_ingest(lectern, path, signals):
    process = lectern.start("--json", "ingest", "c", path, "--embed-model", "none", "--resume", "--no-index",
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    first_commit(process)
    for one in signals:
        process.send_signal(one)
    out, err = process.communicate(timeout=60)
    return process.returncode, out.decode(), err.decode()


def main():
    with tempfile.TemporaryDirectory(prefix="lectern-stop-") as work:
        lectern = Program(sys.argv[1], work + "/data")
        path = work + "/docs.jsonl"
        write_records(path, COUNT, words=40)

        for one in (signal.SIGINT, signal.SIGTERM):
            code, _, err = stopped_ingest(lectern, path, [one])
            if code != 11 or "--resume" not in err:
                raise Broken(f"{one.name} once: exit code {code}, expected 11 and how to go on: {err}")
            problem = json.loads(err.strip().splitlines()[-1])
            if problem["code"] != "cancelled" or problem["exit_code"] != 11:
                raise Broken(f"the last object on stderr is no problem document of exit code 11: {err}")
        code, _, err = stopped_ingest(lectern, path, [signal.SIGINT, signal.SIGINT])
        if code not in (11, 130):   # 11 where the first was obeyed before the second came
            raise Broken(f"SIGINT twice: exit code {code}, expected 130: {err}")

        lectern.run("--timeout", "300ms", "ingest", "other", path, "--embed-model", "none", "--no-index", exits=11)

        # Every document is there once it was let finish.
        lectern.run("ingest", "c", path, "--embed-model", "none", "--resume", "--no-index")
        show = json.loads(lectern.run("--json", "collection", "show", "c").stdout)
        if show["documents"] != COUNT:
            raise Broken(f"after four stops {show['documents']} documents are there, expected {COUNT}")

        # Stopped while it indexes: the documents stay, and the next update finishes.
        process = lectern.start("index", "build", "c", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        at_work(process, 0.3)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        if process.returncode not in (0, 11):   # 0: it was through already
            raise Broken(f"SIGINT during index build: exit code {process.returncode}: {err.decode()}")
        lectern.run("index", "update", "c")
        lectern.run("index", "verify", "c")

        # A pipe that says nothing: once is enough, and soon.
        reading, writing = os.pipe()
        process = lectern.start("ingest", "pipe", "-", "--embed-model", "none", stdin=reading, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        os.write(writing, b'{"id":"a","text":"first"}\n')
        at_work(process, 1.5)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
        os.close(writing)
        if process.returncode != 11:
            raise Broken(f"SIGINT beside a silent pipe: exit code {process.returncode}: {err.decode()}")
        lectern.run("document", "get", "pipe", "a")

        # What leaves nothing to go on with ends with the signal's own code.
        for one, expected in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
            reading, writing = os.pipe()
            process = lectern.start("--json", "search", "c", "-", stdin=reading, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            at_work(process, 1.5)
            process.send_signal(one)
            _, err = process.communicate(timeout=20)
            os.close(writing)
            if process.returncode != expected or json.loads(err.decode().strip().splitlines()[-1])["exit_code"] != expected:
                raise Broken(f"{one.name} beside a silent question: exit code {process.returncode}, expected {expected}: {err.decode()}")
    print("stop_and_resume: stopped by signals, by time and at a silent pipe; all documents are there")


if __name__ == "__main__":
    try:
        main()
    except Broken as problem:
        sys.exit(f"stop_and_resume: {problem}")
