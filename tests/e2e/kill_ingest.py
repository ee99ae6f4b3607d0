#!/usr/bin/env python3
"""Kills `lectern ingest` at random moments: what it acknowledged must be there, nothing twice, and the index must be clean.

  kill_ingest.py PROGRAM [ROUNDS] [SEED]     default: LECTERN_KILL_ROUNDS or 5 rounds, LECTERN_KILL_SEED or 1
  kill_ingest.py --documents 2000 PROGRAM    documents a round; each round has ids of its own

A round: `ingest --json` runs until kill -9 (some rounds die in the index's publication, which ends an ingest). Its lines
{"durable_seq": n} say what was acknowledged. As every record of a round's file is new, the i-th takes sequence number
base + i; so all up to n - base must be listed. Then `ingest --resume` finishes the file, and every document of every round is
listed exactly once with the bytes it was given, `index verify` is clean, and a search finds the newest.
Every fourth round rewrites the first documents of the round before, so that replacing is killed, too.
Exit code 0, or 1 with what was wrong; the data directory is kept then, and named."""
import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time

WORDS = ("whale harbour ledger lantern orchard granite meadow copper thistle window signal river anchor basil cinder "
         "dapple ember fathom gable hollow island jasper kernel lattice marble nettle opal pebble quarry").split()


class Broken(Exception):
    pass


def document(seed, round_number, i):
    rng = random.Random(f"{seed}/{round_number}/{i}")
    text = " ".join(rng.choice(WORDS) for _ in range(rng.randrange(20, 120)))
    return {"id": f"r{round_number:04d}-{i:06d}", "title": f"Round {round_number}", "text": f"unique{round_number}x{i} {text}"}


class Driver:
    def __init__(self, program, data, collection):
        self.base = [program, "--data", data, "--json", "--no-progress"]
        self.collection = collection

    def run(self, *args, may_fail=False):
        done = subprocess.run([*self.base, *args], capture_output=True, text=True, check=False)
        if done.returncode != 0 and not may_fail:
            raise Broken(f"{' '.join(args)} ended with exit code {done.returncode}: {done.stdout[-500:]} {done.stderr[-2000:]}")
        return done

    def ingest(self, path, resume=False, kill_after=None):
        """The acknowledged sequence numbers, in order, and whether it was killed."""
        command = [*self.base, "ingest", self.collection, path, "--embed-model", "none", "--rejects", path + ".rejects"]
        if resume:
            command.append("--resume")
        with open(path + ".stderr", "wb") as errors:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors)
            if kill_after is not None:
                try:
                    process.wait(timeout=kill_after)
                except subprocess.TimeoutExpired:
                    process.kill()
            output = process.stdout.read()
            process.wait()
        killed = process.returncode == -9
        if not killed and process.returncode != 0:
            with open(path + ".stderr", encoding="utf-8", errors="replace") as errors:
                raise Broken(f"ingest ended with exit code {process.returncode}: {errors.read()[-2000:]}")
        acknowledged = []
        for line in output.split(b"\n")[:-1]:   # behind the last newline: a line that was not finished
            value = json.loads(line)
            if "durable_seq" in value:
                acknowledged.append(value["durable_seq"])
        if acknowledged != sorted(acknowledged):
            raise Broken(f"durable_seq went backwards: {acknowledged}")
        return acknowledged, killed

    def listed(self):
        """id -> sequence number of every document, page by page."""
        found, cursor = {}, None
        while True:
            page = self.run("document", "list", self.collection, "--limit", "5000", *(["--cursor", cursor] if cursor else []))
            lines = [json.loads(line) for line in page.stdout.splitlines()]
            for entry in lines:
                if entry["id"] in found:
                    raise Broken(f"document {entry['id']} is listed twice")
                found[entry["id"]] = entry["seq"]
            if len(lines) < 5000:
                break
            cursor = lines[-1]["id"]
        if len(set(found.values())) != len(found):
            raise Broken("two documents have one sequence number")
        return found

    def text(self, doc_id):
        return json.loads(self.run("document", "get", self.collection, doc_id).stdout)["text"]

    def verify(self):
        self.run("index", "verify", self.collection)


def check_text(driver, expected, rng, count):
    for doc_id in rng.sample(sorted(expected), min(count, len(expected))):
        got = driver.text(doc_id)
        if got != expected[doc_id]:
            raise Broken(f"document {doc_id} has other text: {got[:80]!r}, expected {expected[doc_id][:80]!r}")


def one_round(driver, work, expected, number, seed, documents, rng, whole_s):
    """Returns the seconds a whole ingest took, where this one was whole."""
    fresh = [document(seed, number, i) for i in range(documents)]
    rewritten = []
    if number % 4 == 3:
        for i in range(documents // 10):
            again = document(seed, number - 1, i)
            again["text"] += f" rewritten{number}"
            rewritten.append(again)
    path = os.path.join(work, f"round-{number}.jsonl")
    with open(path, "w", encoding="utf-8") as out:
        for record in fresh + rewritten:
            out.write(json.dumps(record) + "\n")

    base = max(driver.listed().values()) if expected else 0
    started = time.monotonic()
    acknowledged, killed = driver.ingest(path, kill_after=None if whole_s is None else rng.uniform(0, 1.1 * whole_s))
    took = time.monotonic() - started
    last = acknowledged[-1] if acknowledged else base
    if killed:
        if expected or acknowledged:   # before the first acknowledgement there may be no collection yet
            found = driver.listed()
            for i, record in enumerate(fresh + rewritten):
                if base + i + 1 <= last and found.get(record["id"], 0) < base + i + 1:
                    raise Broken(f"durable_seq {last} was printed, and write {base + i + 1} ({record['id']}) is lost")
            lost = [doc_id for doc_id in expected if doc_id not in found]
            if lost:
                raise Broken(f"{len(lost)} documents of earlier rounds are lost, {lost[0]} among them")
            # What a reader finds right after the crash, before any writer has repaired a thing.
            checked = driver.run("index", "verify", driver.collection, may_fail=True)
            if checked.returncode not in (0, 3):   # 3: killed before anything was published
                raise Broken(f"index verify after the kill: exit code {checked.returncode}: {checked.stdout[-800:]} {checked.stderr[-800:]}")
        driver.ingest(path, resume=True)
    for record in fresh + rewritten:
        expected[record["id"]] = record["text"]
    found = driver.listed()
    if set(found) != set(expected):
        missing, extra = set(expected) - set(found), set(found) - set(expected)
        raise Broken(f"after resuming {len(missing)} documents are missing and {len(extra)} too many, such as {sorted(missing | extra)[0]}")
    check_text(driver, expected, rng, 5)
    driver.verify()
    newest = fresh[-1]
    hits = json.loads(driver.run("search", driver.collection, newest["text"].split()[0]).stdout.splitlines()[0])["hits"]
    if not hits or hits[0]["doc_id"] != newest["id"]:
        raise Broken(f"a search for {newest['text'].split()[0]} does not find {newest['id']}")
    os.unlink(path)
    return took if not killed else None, killed, last - base


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("rounds", nargs="?", type=int, default=int(os.environ.get("LECTERN_KILL_ROUNDS") or 5))
    parser.add_argument("seed", nargs="?", type=int, default=int(os.environ.get("LECTERN_KILL_SEED") or 1))
    parser.add_argument("--documents", type=int, default=2000)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    work = tempfile.mkdtemp(prefix="lectern-kill-")
    driver = Driver(os.path.abspath(args.program), os.path.join(work, "data"), "kill")
    expected, whole_s, kills, acknowledged = {}, None, 0, 0
    try:
        for number in range(args.rounds + 1):   # round 0 is not killed: it says how long a whole one takes
            took, killed, writes = one_round(driver, work, expected, number, args.seed, args.documents, rng, whole_s)
            whole_s = took or whole_s
            kills += killed
            acknowledged += writes
    except Broken as problem:
        print(f"kill_ingest: round {number} of {args.rounds}, seed {args.seed}: {problem}\nkept: {work}", file=sys.stderr)
        return 1
    shutil.rmtree(work)
    print(f"kill_ingest: {args.rounds} rounds, {kills} killed, {len(expected)} documents, {acknowledged} acknowledged writes: all there")
    return 0


if __name__ == "__main__":
    sys.exit(main())
