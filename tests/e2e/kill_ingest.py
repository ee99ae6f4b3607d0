#!/usr/bin/env python3
"""Kills `lectern ingest` at random moments: what it acknowledged must be there, nothing twice, and the index must be clean.

  kill_ingest.py PROGRAM [ROUNDS] [SEED]     default: LECTERN_KILL_ROUNDS or 5 rounds, LECTERN_KILL_SEED or 1
  kill_ingest.py --documents 2000 PROGRAM    documents a round; each round has ids of its own

A round: `ingest --json` runs until kill -9 (some rounds die in the index's publication, which ends an ingest). Its lines
{"durable_seq": n} say what was acknowledged. As every record of a round's file changes something, the i-th takes sequence
number base + i; so what all up to n - base say must hold, and `index verify` be clean, before anyone repairs a thing. Then
`ingest --resume` finishes the file, and every document of every round is listed exactly once with the bytes it was given,
`index verify` is clean, and a search finds the newest.
Between the new documents stand some of the round before: a tenth of them is rewritten, or deleted, or what was deleted comes
back, by turns of the rounds; so that replacing and deleting are killed, too.
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
            cursor = lines.pop()["next_cursor"] if lines and "next_cursor" in lines[-1] else None
            for entry in lines:
                if entry["id"] in found:
                    raise Broken(f"document {entry['id']} is listed twice")
                found[entry["id"]] = entry["seq"]
            if cursor is None:
                break
        if len(set(found.values())) != len(found):
            raise Broken("two documents have one sequence number")
        return found

    def text(self, doc_id):
        return json.loads(self.run("document", "get", self.collection, doc_id).stdout)["text"]

    def last_seq(self):
        return json.loads(self.run("index", "status", self.collection).stdout)["last_seq"]

    def best(self, query):
        """The id of the best hit, None where nothing is found."""
        hits = json.loads(self.run("search", self.collection, query).stdout.splitlines()[0])["hits"]
        return hits[0]["doc_id"] if hits else None

    def verify(self):
        self.run("index", "verify", self.collection)


def check_text(driver, expected, rng, count):
    for doc_id in rng.sample(sorted(expected), min(count, len(expected))):
        got = driver.text(doc_id)
        if got != expected[doc_id]:
            raise Broken(f"document {doc_id} has other text: {got[:80]!r}, expected {expected[doc_id][:80]!r}")


def changes_of_round(number, seed, documents, rng):
    """The lines of the round's file: id and text of new, rewritten and returning documents, {"op": "delete"} of others."""
    changes = [document(seed, number, i) for i in range(documents)]
    for i in range(documents // 10 if number > 0 else 0):
        turn = number % 4
        older = document(seed, number - (2 if turn == 2 else 1), i)
        if turn == 1:
            changes.append({"op": "delete", "id": older["id"]})
        elif turn == 2 and i % 2 == 0:   # half of what the round before deleted
            changes.append(older)
        elif turn == 3:
            changes.append({**older, "text": older["text"] + f" rewritten{number}"})
    rng.shuffle(changes)
    return changes


def check_after_kill(driver, changes, expected, base, last):
    """What a reader finds right after the crash, before any writer has repaired a thing."""
    found = driver.listed()
    for seq, change in enumerate(changes, base + 1):
        if seq > last:
            break
        holds = change["id"] not in found if "op" in change else found.get(change["id"], 0) == seq
        if not holds:
            raise Broken(f"durable_seq {last} was printed, and write {seq} ({change}) is lost")
    deleted = {change["id"] for change in changes if "op" in change}
    lost = [doc_id for doc_id in expected if doc_id not in found and doc_id not in deleted]
    if lost:
        raise Broken(f"{len(lost)} documents of earlier rounds are lost, {lost[0]} among them")
    checked = driver.run("index", "verify", driver.collection, may_fail=True)
    if checked.returncode not in (0, 3):   # 3: killed before anything was published
        raise Broken(f"index verify after the kill: exit code {checked.returncode}: {checked.stdout[-800:]} {checked.stderr[-800:]}")


def one_round(driver, work, expected, number, seed, documents, rng, whole_s):
    """Returns the seconds that the ingest took which ran to its end: for the next round to choose its moment by."""
    changes = changes_of_round(number, seed, documents, rng)
    path = os.path.join(work, f"round-{number}.jsonl")
    with open(path, "w", encoding="utf-8") as out:
        for change in changes:
            out.write(json.dumps(change) + "\n")

    base = driver.last_seq() if expected else 0
    started = time.monotonic()
    acknowledged, killed = driver.ingest(path, kill_after=None if whole_s is None else rng.uniform(0, 1.1 * whole_s))
    took = time.monotonic() - started
    last = acknowledged[-1] if acknowledged else base
    if killed:
        if expected or acknowledged:   # before the first acknowledgement there may be no collection yet
            check_after_kill(driver, changes, expected, base, last)
        started = time.monotonic()
        driver.ingest(path, resume=True)
        took = time.monotonic() - started
    for change in changes:
        if "op" in change:
            expected.pop(change["id"])
        else:
            expected[change["id"]] = change["text"]
    found = driver.listed()
    if set(found) != set(expected):
        missing, extra = set(expected) - set(found), set(found) - set(expected)
        raise Broken(f"after resuming {len(missing)} documents are missing and {len(extra)} too many, such as {sorted(missing | extra)[0]}")
    check_text(driver, expected, rng, 5)
    driver.verify()
    newest = document(seed, number, documents - 1)
    if driver.best(newest["text"].split()[0]) != newest["id"]:
        raise Broken(f"a search for {newest['text'].split()[0]} does not find {newest['id']}")
    for change in changes:
        if "op" in change:
            if driver.best(f"unique{number - 1}x{int(change['id'][-6:])}") is not None:
                raise Broken(f"a search finds {change['id']}, which was deleted")
            break
    os.unlink(path)
    return took, killed, last - base, sum("op" in change for change in changes)


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
    expected, whole_s, kills, acknowledged, deletes = {}, None, 0, 0, 0
    try:
        for number in range(args.rounds + 1):   # round 0 is not killed: it says how long a whole one takes
            whole_s, killed, writes, gone = one_round(driver, work, expected, number, args.seed, args.documents, rng, whole_s)
            kills += killed
            acknowledged += writes
            deletes += gone
    except Broken as problem:
        print(f"kill_ingest: round {number} of {args.rounds}, seed {args.seed}: {problem}\nkept: {work}", file=sys.stderr)
        return 1
    shutil.rmtree(work)
    print(f"kill_ingest: {args.rounds} rounds, {kills} killed, {len(expected)} documents, {acknowledged} acknowledged writes, {deletes} deletes: all there")
    return 0


if __name__ == "__main__":
    sys.exit(main())
