#!/usr/bin/env python3
"""Steps of scripts/soak.sh, and the rows they leave. bench/report_tables.py makes the tables of docs/durability.md of them.

  soak_rows.py list
  soak_rows.py run ROWS [STEP...]      over the release build; without steps those that have no good row of this commit

A row: {"step", "date", "commit", "cpu", "cores", "command", "environment", "figures", "exit", "seconds"}. Figures are what the step's
program printed, or a gtest recorded, as numbers. Of mutations: {"kind": [made, read, refused]}."""
import collections
import datetime
import fcntl
import json
import os
import re
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROGRAM = "build/release/service/lectern"
INDEX_TEST = "build/release/tests/index/index_test"
DISK_FAULTS = ("NoSpaceOnce", "NoSpace", "IoErrorOnce", "IoError")


def gtest(cases, **environment):
    return [INDEX_TEST, f"--gtest_filter={cases}"], environment


def script(name, *args, **environment):
    return ["python3", f"tests/e2e/{name}.py", PROGRAM, *args], environment


# step -> (command, environment). "-1" and its like are seeds, MiB and faults: commands_of() takes any.
STEPS = {
    "power-cut": gtest("PowerCut.*", LECTERN_SOAK="1"),
    "missing-sync": gtest("*MissingSync.*", LECTERN_SOAK="1"),
    **{f"failing-disk-{fault}": gtest(f"*FailingStep.*/{fault}", LECTERN_SOAK="1") for fault in DISK_FAULTS},
    "store-kill": gtest("Kill.*", LECTERN_KILL_ROUNDS="200"),
    "follow": gtest("Follower.*", LECTERN_FOLLOW_SECONDS="600"),
    "search-beside": script("search_beside_writer", LECTERN_SOAK_SECONDS="600"),
    **{f"kill-{seed}": script("kill_ingest", "25", str(seed), "--documents", "500") for seed in range(1, 9)},
    "full-disk": script("full_disk"),
    "stop": script("stop_and_resume"),
    "mutations": (["python3", "scripts/mutations.py", "release"], {"LECTERN_SOAK": "1"}),
    "bad-input": script("bad_input", LECTERN_MUTATIONS="240"),
    **{f"memory-{mib}": script("memory", "--mib", str(mib), "--times", "4") for mib in (64, 256, 512)},
    "steady-memory": script("steady_memory", "data/sample"),
}

# What to read out of a step's output: each group is a figure, and one that is met again is added.
PATTERNS = {
    "kill": r"kill_ingest: (?P<rounds>\d+) rounds, (?P<killed>\d+) killed, (?P<documents>\d+) documents, "
            r"(?P<acknowledged_writes>\d+) acknowledged writes, (?P<deletes>\d+) deletes",
    "search-beside": r"(?P<searches>\d+) searches over (?P<generations>\d+) generations beside (?P<ingests>\d+) ingests and "
                     r"(?P<builds>\d+) builds in (?P<in_seconds>\d+) s",
    "bad-input": r"(?P<malformed_inputs>\d+) malformed inputs, (?P<mutations>\d+) mutations of (?P<index_files>\d+) index files, "
                 r"(?P<runs_over_models>\d+) runs over mutated models",
    "memory": r"memory: (?P<documents>\d+) documents, (?P<input_MiB>\d+) MiB, --memory (?P<budget_MiB>\d+) MiB; peak MiB: ingest "
              r"(?P<ingest_MiB>\d+), index update (?P<update_MiB>\d+), index build (?P<build_MiB>\d+); (?P<segments>\d+) segments|"
              r"memory: 100 searches (?P<after_100_searches_MiB>[\d.]+) MiB, 1,100 searches (?P<after_1100_searches_MiB>[\d.]+) MiB",
    "steady-memory": r"searches: (?P<after_100_searches_MiB>[\d.]+) MiB early, (?P<after_1100_searches_MiB>[\d.]+) MiB|"
                     r"answers: (?P<after_6_answers_MiB>[\d.]+) MiB early, (?P<after_50_answers_MiB>[\d.]+) MiB",
}
MUTATED = re.compile(r"^\| (?P<kind>.+?) +\| +(?P<made>[\d,]+) \| +(?P<read>[\d,]+) \| +(?P<refused>[\d,]+) \|$", re.MULTILINE)

# The table's lines: steps that belong together (as a pattern), what they show, and the sentence the figures are put in.
LINES = [
    (r"kill-\d+", "kill -9 at random moments of ingest and publish; documents written, rewritten, deleted",
     "{rounds} rounds, {killed} killed in the act, {acknowledged_writes} acknowledged writes, {deletes} deletes: all there once, the index clean"),
    (r"store-kill", "the same of the store alone", "{rounds} rounds, {acknowledged_writes} acknowledged writes, all there"),
    (r"power-cut", "power cut at every operation, all or some unsynced bytes and names gone", "{cuts} cuts, nothing acknowledged lost"),
    (r"missing-sync", "the same with one kind of sync left out", "{tests} kinds, each noticed"),
    (r"failing-disk-\w+", "every operation fails in turn: ENOSPC and EIO, once and from then on",
     "{faults} faults, of which {failures} ended the work, each with a clean status; nothing acknowledged lost"),
    (r"follow", "a follower beside commits, publishes and compaction", "{reads} reads beside {writes} writes in ten minutes, none failed"),
    (r"search-beside", "searches from other processes beside ingests, deletes and builds",
     "{searches} searches over {generations} generations beside {ingests} ingests and {builds} builds in ten minutes, none failed"),
    (r"full-disk", "a full tmpfs, a read-only mount, a second writer", "clean errors, nothing lost"),
    (r"stop", "SIGINT, SIGTERM, `--timeout`, a silent pipe", "all documents there after resuming"),
    (r"mutations", "damaged files, in the process", "{mutations} mutations of {kinds} kinds, {fewest} or more of each: read within themselves, or refused with a clear message"),
    (r"bad-input", "malformed input, damaged index and model files, through the program",
     "{malformed_inputs} malformed inputs, {mutations} mutations of {index_files} index files, {runs_over_models} runs over damaged models: clear errors"),
    *((f"memory-{mib}", f"`--memory {mib}MiB`, {4 * mib:,} MiB of JSON lines",
       "peak MiB: ingest {ingest_MiB}, `index update` {update_MiB}, `index build` {build_MiB}") for mib in (64, 256, 512)),
    (r"steady-memory", "1,000 more searches, and 44 more answers, in one process",
     "{after_100_searches_MiB} and {after_1100_searches_MiB} MiB; {after_6_answers_MiB} and {after_50_answers_MiB} MiB"),
]


def commands_of(step):
    if step in STEPS:
        return STEPS[step]
    if match := re.fullmatch(r"kill-(\d+)", step):
        return script("kill_ingest", "25", match[1], "--documents", "500")
    if match := re.fullmatch(r"memory-(\d+)", step):
        return script("memory", "--mib", match[1], "--times", "4")
    sys.exit(f"no step is called {step}; there are {', '.join(STEPS)}")


def processor():
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        about = dict(re.split(r"\s*:\s*", line.strip(), maxsplit=1) for line in lines if re.match(r"(model name|cpu family|model)\s*:", line))
    return f"{about.get('model name', 'unknown')}, family {about.get('cpu family', '?')}, model {about.get('model', '?')}"


def commit():
    if "SOAK_COMMIT" in os.environ:   # where a build is run that came without its repository
        return os.environ["SOAK_COMMIT"]
    return subprocess.run(["git", "describe", "--always", "--dirty", "--exclude=*"], cwd=ROOT, capture_output=True, text=True).stdout.strip()


def rows_of(path):
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.endswith("\n")]


def number(text):
    return float(text) if "." in text else int(text.replace(",", ""))


def add(figures, found):
    for name, value in found.items():
        if value is not None:
            figures[name] = figures.get(name, 0) + number(value)


def figures_of(step, output, recorded):
    figures = {}
    if step == "mutations":
        return {match["kind"]: [number(match[i]) for i in ("made", "read", "refused")] for match in MUTATED.finditer(output)}
    pattern = PATTERNS.get(step) or PATTERNS.get(step.rsplit("-", 1)[0])
    for match in re.finditer(pattern, output) if pattern else ():
        add(figures, match.groupdict())
    if os.path.exists(recorded):
        with open(recorded, encoding="utf-8") as file:
            report = json.load(file)
        figures["tests"] = report["tests"]
        known = {"name", "file", "line", "status", "result", "timestamp", "time", "classname", "value_param", "type_param"}
        for suite in report["testsuites"]:
            for test in suite["testsuite"]:
                add(figures, {name: value for name, value in test.items() if name not in known and re.fullmatch(r"\d+", str(value))})
    return figures


def run(step, path, at):
    command, environment = commands_of(step)
    logs = os.path.join(ROOT, "build/soak")
    os.makedirs(logs, exist_ok=True)
    log, recorded = f"{logs}/{step}.log", f"{logs}/{step}.json"
    if os.path.exists(recorded):
        os.unlink(recorded)
    more = [f"--gtest_output=json:{recorded}"] if command[0] == INDEX_TEST else []
    started = time.monotonic()
    print(f"{step}: {' '.join([f'{k}={v}' for k, v in environment.items()] + command)}", flush=True)
    with open(log, "w", encoding="utf-8") as out:
        code = subprocess.run([*command, *more], cwd=ROOT, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=out,
                              stderr=subprocess.STDOUT, check=False).returncode
    with open(log, encoding="utf-8", errors="replace") as file:
        output = file.read()
    row = {"step": step, "date": datetime.date.today().isoformat(), "commit": at, "cpu": processor(), "cores": len(os.sched_getaffinity(0)),
           "command": " ".join(command), "environment": environment, "figures": figures_of(step, output, recorded), "exit": code,
           "seconds": round(time.monotonic() - started, 1)}
    with open(path, "a", encoding="utf-8") as out:
        fcntl.flock(out, fcntl.LOCK_EX)
        out.write(json.dumps(row, ensure_ascii=False) + "\n")
    brief = {k: v for k, v in row["figures"].items() if not isinstance(v, list)} or f"{len(row['figures'])} kinds"
    print(f"{step}: exit code {code} after {row['seconds']} s: {brief}" + ("" if code == 0 else f"\n{output[-2000:]}"), flush=True)
    return code


def run_all(path, steps):
    at = commit()
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    for step in steps:
        commands_of(step)
    done = {row["step"] for row in rows_of(path) if row["commit"] == at and row["exit"] == 0}
    codes = [run(step, path, at) for step in steps or [step for step in STEPS if step not in done]]
    sys.exit(any(code not in (0, 77) for code in codes))   # 77: left out


def spelled(value):
    return f"{value:,}" if isinstance(value, int) else f"{value:.1f}"


def total(rows):
    figures = collections.Counter()
    for row in rows:
        figures.update(row["figures"])
    return figures


def counted_mutations(row):
    made = [counts[0] for counts in row["figures"].values()]
    return {"mutations": sum(made), "kinds": len(made), "fewest": min(made)}


def table(rows):
    lines = ["| what | seen | steps, commit, processor |", "| --- | --- | --- |"]
    for pattern, what, sentence in LINES:
        mine = [row for row in rows if re.fullmatch(pattern, row["step"])]
        good = [row for row in mine if row["exit"] == 0]
        where = collections.defaultdict(list)
        for row in good:
            where[f"{row['commit']}, {row['cores']} cores of {row['cpu']}"].append(row["step"])
        if good:
            figures = counted_mutations(good[-1]) if good[-1]["step"] == "mutations" else total(good)
            seen = sentence.format(**{name: spelled(value) for name, value in figures.items()})
            lines.append(f"| {what} | {seen} | {'; '.join(', '.join(f'`{step}`' for step in sorted(steps)) + ' ' + at for at, steps in where.items())} |")
        lines += [f"| {what} | FAILED, exit code {row['exit']} | `{row['step']}` {row['commit']} |" for row in mine if row["exit"] not in (0, 77)]
    return lines


def mutation_table(rows):
    """Of the last run, good or not."""
    last = [row for row in rows if row["step"] == "mutations"][-1]
    width = max(map(len, last["figures"]))
    total_made = sum(counts[0] for counts in last["figures"].values())
    return [f"{spelled(total_made)} mutations of {len(last['figures'])} kinds at {last['commit']}, exit code {last['exit']}:", "",
            f"| {'kind':{width}} | mutations |   read | refused |", f"| {'-' * width} | --------: | -----: | ------: |",
            *(f"| {kind:{width}} | {made:9,} | {read:6,} | {refused:7,} |" for kind, (made, read, refused) in last["figures"].items())]


def main():
    verb, args = sys.argv[1] if len(sys.argv) > 1 else "", sys.argv[2:]
    if verb == "list":
        for step in STEPS:
            command, environment = commands_of(step)
            print(f"{step:24} {' '.join([f'{k}={v}' for k, v in environment.items()] + command)}")
    elif verb == "run" and args:
        run_all(args[0], args[1:])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
