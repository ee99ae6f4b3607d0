#!/usr/bin/env python3
"""The program on a disk that is full, a folder that is read-only, a mount that is read-only, and beside another writer.

  full_disk.py PROGRAM        needs to mount a tmpfs; without that right it is left out (exit code 77)
"""
import json
import os
import subprocess
import sys
import tempfile
import time

from program import Broken, Program, write_records


def listed(lectern):
    out = lectern.run("--json", "document", "list", "c", "--limit", "1000000").stdout
    return [json.loads(line)["id"] for line in out.splitlines()]


def main():
    with tempfile.TemporaryDirectory(prefix="lectern-disk-") as work:
        disk = work + "/disk"
        os.mkdir(disk)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", disk], capture_output=True, check=False).returncode != 0:
            print("left out: no right to mount a tmpfs")
            return 77
        try:
            check(work, disk)
        finally:
            subprocess.run(["umount", disk], check=False)
    print("full_disk: clean errors, nothing acknowledged was lost")
    return 0


def holds_lock(pid):
    folder = f"/proc/{pid}/fd"
    names = []
    for fd in os.listdir(folder):
        try:
            names.append(os.readlink(f"{folder}/{fd}"))
        except FileNotFoundError:   # closed meanwhile
            pass
    return any(name.endswith("/store/LOCK") for name in names)


def check(work, disk):
    lectern = Program(sys.argv[1], disk + "/data")
    path = work + "/docs.jsonl"
    write_records(path, 60000, words=100)
    done = lectern.run("--json", "ingest", "c", path, "--embed-model", "none", "--rejects", work + "/rejects", exits=7)
    acknowledged = [json.loads(line)["durable_seq"] for line in done.stdout.splitlines() if "durable_seq" in line]
    problem = json.loads(done.stderr.strip().splitlines()[-1])
    if problem["code"] != "resource-limit" or "No space left" not in problem["detail"]:
        raise Broken(f"a full disk is reported as {problem}")
    if not acknowledged:
        raise Broken("nothing was acknowledged before the disk was full: the test is too small")
    # As long as it is full: reading works, nothing acknowledged is missing.
    found = listed(lectern)
    if len(found) < acknowledged[-1]:
        raise Broken(f"{acknowledged[-1]} writes were acknowledged, {len(found)} documents are there")
    # With room again, the same command finishes.
    subprocess.run(["mount", "-o", "remount,size=400m", disk], check=True)
    lectern.run("ingest", "c", path, "--embed-model", "none", "--rejects", work + "/rejects", "--resume")
    if len(set(listed(lectern))) != 60000:
        raise Broken("after the disk had room again, documents are missing")
    lectern.run("index", "verify", "c")

    # A build that fills the disk leaves the published generation as it was.
    used = sum(os.stat(os.path.join(folder, name)).st_blocks * 512 for folder, _, names in os.walk(disk) for name in names)
    subprocess.run(["mount", "-o", f"remount,size={(used >> 10) + 4096}k", disk], check=True)
    lectern.run("index", "build", "c", exits=7)
    lectern.run("search", "c", "unique1x59999")
    lectern.run("index", "verify", "c")
    subprocess.run(["mount", "-o", "remount,size=400m", disk], check=True)
    lectern.run("index", "build", "c")

    # Another writer, while one has the lock.
    reading, writing = os.pipe()
    holder = lectern.start("--json", "ingest", "c", "-", "--embed-model", "none", stdin=reading, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    os.write(writing, b'{"id":"new","text":"one more"}\n' * 2)
    while holder.poll() is None and not holds_lock(holder.pid):
        time.sleep(0.02)
    done = lectern.run("index", "update", "c", exits=5)
    if str(holder.pid) not in done.stderr:
        raise Broken(f"the lock's holder, pid {holder.pid}, is not named: {done.stderr}")
    os.close(writing)
    holder.communicate(timeout=60)

    # A mount that cannot be written.
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    for reader in (("search", "c", "unique1x59999"), ("document", "get", "c", "d0000007"), ("index", "status", "c"), ("index", "verify", "c")):
        lectern.run(*reader)
    done = lectern.run("ingest", "c", path, exits=1)
    if "ead-only" not in done.stderr:
        raise Broken(f"a read-only mount is reported as {done.stderr}")
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Broken as problem:
        sys.exit(f"full_disk: {problem}")
