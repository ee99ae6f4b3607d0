#!/usr/bin/env python3
"""Runs one .e2e file: what a user types, and what is printed.

  run_e2e.py --lectern PROGRAM --source REPO FILE.e2e [--cpu avx2]

  $ lectern --data $TMP/d ingest books data/tiny/docs.jsonl     a command, run by bash in the repository
  ingested 12 documents, 31 chunks                              each line printed, stdout and stderr together
  ...                                                           any lines, or none
  took {{[0-9.]+}} ms                                           {{regular expression}}
  [exit 2]                                                      the exit code, where it is not 0
# a comment.  `need FILE` skips the test where the file is missing (exit 77); $MODELS is the models folder.

Of a Markdown file, the blocks fenced as ```console are run, one after another, so that what the documentation shows stays true;
numbers in the output may differ there (times and scores do), so may the reasons for leaving passages out, which change with the
last bits of a processor's scores, and `<!-- need FILE -->` is the form of need. A block behind `<!-- not run: REASON -->` is left to
shown_commands.py.
"""
import argparse
import os
import re
import subprocess
import sys
import tempfile


def parse(path):
    steps, needs = [], []
    inside, before = not path.endswith(".md"), ""
    with open(path, encoding="utf-8") as f:
        for number, line in enumerate(f, 1):
            line = line.rstrip("\n")
            if match := re.fullmatch(r"<!-- need (.*) -->", line):
                needs.append(match.group(1))
            if path.endswith(".md") and line.startswith("```"):
                inside = line == "```console" and not before.startswith("<!-- not run: ")
                continue
            before = line
            if not inside or line.startswith("#") or (not line and not steps):
                continue
            if line.startswith("need "):
                needs.append(line[5:])
            elif line.startswith("$ "):
                steps.append({"line": number, "command": line[2:], "expect": [], "exit": 0})
            elif match := re.fullmatch(r"\[exit (\d+)\]", line):
                steps[-1]["exit"] = int(match.group(1))
            else:
                steps[-1]["expect"].append(line)
    for step in steps:
        while step["expect"] and not step["expect"][-1]:
            step["expect"].pop()
    return steps, needs


def without_numbers(lines):
    lines = [re.sub(r" \(left out: [a-z0-9, ]+\)", "", line) for line in lines]
    return [re.sub(r"[0-9]+(\.[0-9]+)?", "0", line).rstrip() for line in lines]


def matches(expect, got):
    """Whether the lines got are the lines expected; '...' stands for any lines."""
    if not expect:
        return not got
    if expect[0] == "...":
        return any(matches(expect[1:], got[i:]) for i in range(len(got) + 1))
    if not got:
        return False
    parts = re.split(r"\{\{(.*?)\}\}", expect[0])
    pattern = "".join(re.escape(p) if i % 2 == 0 else p for i, p in enumerate(parts))
    return re.fullmatch(pattern, got[0]) is not None and matches(expect[1:], got[1:])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--lectern", required=True)
    parser.add_argument("--source", required=True)
    parser.add_argument("--cpu", default="")
    args = parser.parse_args()
    steps, needs = parse(args.file)
    models = os.environ.get("LECTERN_MODELS_DIR") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "lectern", "models")
    env = {k: v for k, v in os.environ.items() if not k.startswith("LECTERN_")}
    env.update(PATH=os.path.dirname(os.path.abspath(args.lectern)) + ":" + env["PATH"], NO_COLOR="1", MODELS=models,
               LECTERN_MODELS_DIR=models, LECTERN_NO_PROGRESS="1", LC_ALL="C.UTF-8")
    if args.cpu:
        env["LECTERN_CPU"] = args.cpu
        if "unsupported" in subprocess.run([args.lectern, "doctor"], env=env, capture_output=True, text=True).stderr:
            sys.exit(77)
    for need in needs:
        if not os.path.exists(need.replace("$MODELS", models)):
            print(f"left out: {need} is not there")
            sys.exit(77)
    with tempfile.TemporaryDirectory() as tmp:
        env.update(TMP=tmp, LECTERN_DATA=tmp + "/lectern-data")
        for step in steps:
            done = subprocess.run(["bash", "-c", step["command"]], cwd=args.source, env=env, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, timeout=300)
            got = done.stdout.decode("utf-8", "replace").split("\n")
            while got and not got[-1]:
                got.pop()
            if args.file.endswith(".md"):
                got = [line.replace(tmp + "/", "") for line in got]   # the documentation's data directory is ./lectern-data
            loose = without_numbers if args.file.endswith(".md") else list
            if done.returncode != step["exit"] or not matches(loose(step["expect"]), loose(got)):
                print(f"{args.file}:{step['line']}: $ {step['command']}")
                print("expected" + (f" (exit {step['exit']})" if step["exit"] else "") + ":")
                print("\n".join("  " + line for line in step["expect"]))
                print(f"got (exit {done.returncode}):")
                print("\n".join("  " + line for line in got))
                sys.exit(1)
    print(f"{len(steps)} commands as expected")


if __name__ == "__main__":
    main()
