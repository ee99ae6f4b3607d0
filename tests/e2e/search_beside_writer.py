#!/usr/bin/env python3
"""Searches from other processes while one ingests, deletes and compacts: every one must succeed.

  search_beside_writer.py PROGRAM [SECONDS]       default: LECTERN_SOAK_SECONDS or 10

A search, a batch of searches (one process, many queries) and a reader of documents run in turn. A document that was
indexed before the writer began and is never touched must be found by every search; a deleted one never comes back.
"""
import json
import os
import subprocess
import sys
import tempfile
import threading
import time

from program import Broken, Program, record, write_records

BASE = 500


class Writer(threading.Thread):
    """Ingests, replaces, deletes, updates and builds until told to stop."""

    def __init__(self, lectern, work):
        super().__init__()
        self.lectern, self.work = lectern, work
        self.stop, self.problem, self.rounds = threading.Event(), None, 0

    def run(self):
        try:
            while not self.stop.is_set():
                self.rounds += 1
                path = f"{self.work}/round.jsonl"
                with open(path, "w", encoding="utf-8") as out:
                    for i in range(300):
                        out.write(json.dumps(record(BASE + (self.rounds * 200 + i) % 5000, seed=self.rounds)) + "\n")
                self.lectern.run("ingest", "c", path, "--embed-model", "none", "--rejects", f"{self.work}/rejects")
                if self.rounds % 3 == 0:
                    self.lectern.run("index", "build", "c")
        except Exception as problem:   # told by the main thread
            self.problem = problem


def main():
    seconds = float(sys.argv[2] if len(sys.argv) > 2 else os.environ.get("LECTERN_SOAK_SECONDS") or 10)
    with tempfile.TemporaryDirectory(prefix="lectern-beside-") as work:
        lectern = Program(sys.argv[1], work + "/data")
        path = work + "/docs.jsonl"
        write_records(path, BASE)
        lectern.run("ingest", "c", path, "--embed-model", "none")
        lectern.run("document", "delete", "c", "d0000003")
        topics = work + "/topics.tsv"
        with open(topics, "w", encoding="utf-8") as out:
            for i in range(10, 60):
                out.write(f"{i}\tunique1x{i}\n")
        writer = Writer(lectern, work)
        writer.start()
        searches, generations, end = 0, set(), time.monotonic() + seconds
        try:
            while time.monotonic() < end and writer.is_alive():
                i = 10 + searches % (BASE - 10)
                reply = json.loads(lectern.run("--json", "-q", "search", "c", f"unique1x{i}").stdout)
                if not reply["hits"] or reply["hits"][0]["doc_id"] != f"d{i:07d}":
                    raise Broken(f"search {searches}: unique1x{i} does not find d{i:07d}: {reply}")
                generations.add(reply["generation"])
                if json.loads(lectern.run("--json", "-q", "search", "c", "unique1x3").stdout)["hits"]:
                    raise Broken(f"search {searches}: a deleted document came back")
                run_file = work + "/run"
                lectern.run("-q", "search", "c", "--topics", topics, "--k", "1", "--run", run_file)
                with open(run_file, encoding="utf-8") as lines:
                    found = {line.split()[0]: line.split()[2] for line in lines}
                if any(found.get(str(i)) != f"d{i:07d}" for i in range(10, 60)):
                    raise Broken(f"a batch of searches found {found}")
                lectern.run("document", "get", "c", f"d{i:07d}")
                lectern.run("index", "status", "c")
                searches += 52
        finally:
            writer.stop.set()
            writer.join()
        if writer.problem:
            raise Broken(f"the writer: {writer.problem}")
        lectern.run("index", "verify", "c")
    if searches == 0 or writer.rounds == 0:
        raise Broken("nothing happened")
    print(f"search_beside_writer: {searches} searches over {len(generations)} generations beside {writer.rounds} ingests and "
          f"{writer.rounds // 3} builds in {seconds:.0f} s, none failed")


if __name__ == "__main__":
    try:
        main()
    except Broken as problem:
        sys.exit(f"search_beside_writer: {problem}")
