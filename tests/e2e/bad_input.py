#!/usr/bin/env python3
"""Bad input to the real program: malformed files of each format, damaged index files and models, odd queries. Each ends
with a clear error or as rejects, never in a crash; under AddressSanitizer also without a leak.

  bad_input.py PROGRAM [SEED]        LECTERN_MUTATIONS: mutated files of each kind (default 12)

`tests/decoder/mutation_test.cc`, `tests/index/*_test.cc` mutate the same formats a thousand times each inside one process;
here the whole program meets them.
"""
import gzip
import json
import lzma
import os
import random
import shutil
import subprocess
import sys
import tempfile

from program import Broken, Program, write_records

REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DEEP = b'{"id":"deep","text":"x","f":' + b"[" * 5000 + b"]" * 5000 + b"}\n"

# name, bytes, what the reason must mention (None: nothing to reject)
MALFORMED = [
    ("cut.jsonl", b'{"id":"a","text":"x"}\n{"id":"b","te', "JSON"),
    ("noid.jsonl", b'{"text":"x"}\n', "id"),
    ("notext.jsonl", b'{"id":"a"}\n', "text"),
    ("array.jsonl", b'[1,2,3]\n', ""),
    ("deep.jsonl", DEEP, ""),
    ("utf8.jsonl", b'{"id":"a","text":"caf\xe9 \xff\xfe"}\n', "UTF-8"),
    ("nul.jsonl", b'{"id":"a","text":"x\x00y"}\n', ""),
    ("surrogate.jsonl", b'{"id":"a","text":"\\ud800 lone"}\n', ""),
    ("longid.jsonl", b'{"id":"' + b"i" * 2000 + b'","text":"x"}\n', "id"),
    ("cut.jsonl.gz", gzip.compress(b'{"id":"a","text":"x"}\n' * 1000)[:-20], "gzip"),
    ("junk.jsonl.gz", b"\x1f\x8b\x08\x00" + b"\xff" * 500, "gzip"),
    ("cut.jsonl.xz", lzma.compress(b'{"id":"a","text":"x"}\n' * 1000)[:-9], "xz"),
    ("junk.jsonl.zst", b"\x28\xb5\x2f\xfd" + b"\xff" * 500, "zstd"),
    ("bad.csv", b'id,text\na,"open quote\nb,c\n', ""),
    ("ragged.csv", b"id,text\na,b,c,d\n", ""),
    ("blank.csv", b"\n", None),
    ("utf8.csv", b"id,text\na,caf\xe9\n", "UTF-8"),
    ("bad.tsv", b"id\ttext\na\n", ""),
    ("utf8.md", b"# caf\xe9\n", "UTF-8"),
    ("utf8.txt", b"caf\xe9 \xc3", "UTF-8"),
    ("utf8.html", b"<p>caf\xe9</p>", "UTF-8"),
    ("deep.html", b"<div>" * 20000 + b"x", ""),
    ("open.html", b"<html><body><p>never closed <b>bold", None),
    ("cut.pdf", None, ""),
    ("junk.pdf", b"%PDF-1.7\n" + b"\x00\xff" * 3000, "PDF"),
    ("open.trec", b"<DOC>\n<DOCNO>a</DOCNO>\n<TEXT>never closed", ""),
    ("noid.trec", b"<DOC>\n<TEXT>x</TEXT>\n</DOC>\n", ""),
]


def mutate(data, rng):
    data = bytearray(data)
    kind = rng.randrange(4)
    if kind == 0:
        del data[rng.randrange(len(data)):]
    elif kind == 1:
        for _ in range(rng.randrange(1, 9)):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == 2:
        at = rng.randrange(len(data))
        data[at:at + 8] = rng.randbytes(8)
    else:
        at = rng.randrange(len(data))
        data[at:at] = rng.randbytes(rng.randrange(1, 40))
    return bytes(data)


def malformed_files(lectern, work):
    pdf = open(os.path.join(REPO, "data/tiny/documents/ferns.pdf"), "rb").read()
    for name, data, reason in MALFORMED:
        path = f"{work}/{name}"
        with open(path, "wb") as out:
            out.write(pdf[:len(pdf) // 2] if data is None else data)
        form = ["--format", "trectext"] if name.endswith(".trec") else []
        rejects = path + ".rejects"
        done = lectern.run("ingest", "bad", path, *form, "--embed-model", "none", "--no-index", "--rejects", rejects, exits=None)
        told = done.stderr + (open(rejects, encoding="utf-8").read() if os.path.exists(rejects) else "")
        if reason is None and done.returncode != 0:
            raise Broken(f"{name} was refused: {told}")
        if reason is not None and (done.returncode == 0 or reason.lower() not in told.lower()):
            raise Broken(f"{name}: exit code {done.returncode}, and '{reason}' is not named: {told[-600:]}")
    # BEIR and MS MARCO are folders and tables.
    os.mkdir(work + "/beir")
    with open(work + "/beir/corpus.jsonl", "wb") as out:
        out.write(b'{"_id":"1","title":"t","text":"fine"}\n{"_id":2\n')
    lectern.run("ingest", "beir", work + "/beir", "--format", "beir", "--embed-model", "none", "--rejects", work + "/r1", exits=6)
    with open(work + "/collection.tsv", "wb") as out:
        out.write(b"0\tfine text\nno tab here\n\ttext without id\n2\tcaf\xe9\n")
    lectern.run("ingest", "marco", work + "/collection.tsv", "--format", "msmarco", "--embed-model", "none", "--rejects", work + "/r2", exits=6)
    if len(open(work + "/r2", encoding="utf-8").readlines()) != 3:
        raise Broken("of three bad MS MARCO lines the rejects file does not list three")
    return len(MALFORMED) + 2


def odd_questions(lectern, work):
    write_records(work + "/docs.jsonl", 50)
    lectern.run("ingest", "c", work + "/docs.jsonl", "--embed-model", "none", "--rejects", work + "/rejects")
    lectern.run("search", "c", "whale", "--k", "0", exits=2)
    lectern.run("search", "c", "whale", "--k", "-3", exits=2)
    lectern.run("search", "c", "", exits=2)
    for command in ("search", "ask"):
        done = lectern.run(command, "c", b"caf\xe9 \xff", exits=2)
        if "UTF-8" not in done.stderr:
            raise Broken(f"a question of invalid UTF-8 is refused without saying so: {done.stderr[-300:]}")
        lectern.run(command, "c", "whale", "--filter", b"\xff", exits=2)
    done = lectern.run("ask", "c", "whale ledger " * 8000, exits=2)
    if "8192" not in done.stderr:
        raise Broken(f"a question of 100 KB is refused without its limit: {done.stderr[-300:]}")
    lectern.run("ask", "c", "", exits=2)
    lectern.run("ask", "c", "whale", "--k", "0", exits=2)
    done = lectern.run("search", "c", ("whale ledger " * 8000)[:100_000], exits=(0, 2))
    if done.returncode == 2 and not any(digit in done.stderr for digit in "0123456789"):
        raise Broken(f"a question of 100 KB is refused without its limit: {done.stderr[-300:]}")
    lectern.run("search", "c", "x" * 100_000, exits=(0, 2))
    for filter_text in ("(" * 3000, "year >=", "a = 'x' and", "\xff", "a in (" + ",".join("1" for _ in range(5000)) + ")"):
        lectern.run("search", "c", "whale", "--filter", filter_text, exits=2)
    # An empty corpus is a corpus.
    lectern.run("collection", "create", "empty", "--embed-model", "none")
    lectern.run("index", "build", "empty")
    lectern.run("search", "empty", "whale")
    lectern.run("ask", "empty", "whale", exits=(0, 8))   # 8: no reader here
    lectern.run("index", "verify", "empty")
    open(work + "/empty.jsonl", "wb").close()
    lectern.run("ingest", "empty", work + "/empty.jsonl", "--rejects", work + "/rejects")


def damaged_files(lectern, work, rng, each):
    """Every file of the data directory that we write, mutated: damage is named, quarantined and repaired."""
    write_records(work + "/docs.jsonl", 300)
    lectern.run("ingest", "d", work + "/docs.jsonl", "--embed-model", "none", "--rejects", work + "/rejects")
    lectern.run("document", "delete", "d", "d0000005")   # makes a deletes file
    good = lectern.data + ".good"
    shutil.copytree(lectern.data, good)
    files = [os.path.relpath(os.path.join(folder, name), good) for folder, _, names in os.walk(good + "/collections/d") for name in names]
    files += [name for name in os.listdir(good) if name.startswith("manifest-") or name in ("CURRENT", "VERSION")]
    mutations, noticed = 0, 0
    for name in files:
        original = open(os.path.join(good, name), "rb").read()
        for _ in range(each):
            damaged = mutate(original, rng)
            if damaged == original:
                continue
            with open(os.path.join(lectern.data, name), "wb") as out:
                out.write(damaged)
            mutations += 1
            verified = lectern.run("index", "verify", "d", exits=None).returncode
            noticed += verified != 0
            if verified == 0 and name.startswith("collections") and damaged != original:
                current = json.load(open(os.path.join(good, sorted(n for n in os.listdir(good) if n.startswith("manifest-"))[-1])))
                if os.path.basename(name) in json.dumps(current):
                    raise Broken(f"{name}: damage was not noticed by index verify")
            lectern.run("search", "d", "unique1x7", exits=None)
            shutil.rmtree(lectern.data)
            shutil.copytree(good, lectern.data)
    if noticed < mutations // 2:
        raise Broken(f"of {mutations} damaged files {noticed} were noticed")
    return mutations, len(files)


def damaged_models(lectern, work, rng, each):
    count = 0
    for folder, names in (("data/tiny/encoder", ("model.safetensors", "config.json", "tokenizer.json")),):
        for name in names:
            original = open(os.path.join(REPO, folder, name), "rb").read()
            for _ in range(each):
                broken = work + "/model"
                shutil.rmtree(broken, ignore_errors=True)
                shutil.copytree(os.path.join(REPO, folder), broken)
                with open(os.path.join(broken, name), "wb") as out:
                    out.write(mutate(original, rng))
                lectern.run("model", "inspect", broken, exits=None)
                lectern.run("embed", "--model", broken, stdin=b"some words\n", exits=None)
                count += 2
    return count


def main():
    rng = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    each = int(os.environ.get("LECTERN_MUTATIONS") or 12)
    with tempfile.TemporaryDirectory(prefix="lectern-bad-") as work:
        lectern = Program(sys.argv[1], work + "/data")
        formats = malformed_files(lectern, work)
        odd_questions(lectern, work)
        lectern = Program(sys.argv[1], work + "/data2")
        mutations, files = damaged_files(lectern, work, rng, each)
        models = damaged_models(lectern, work, rng, each)
    print(f"bad_input: {formats} malformed inputs, {mutations} mutations of {files} index files, {models} runs over mutated models: clear errors, no crash")


if __name__ == "__main__":
    try:
        main()
    except Broken as problem:
        sys.exit(f"bad_input: {problem}")
