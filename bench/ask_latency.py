#!/usr/bin/env python3
"""How soon `lectern ask` says its first word, and how soon it stops when told to.

  ask_latency.py LECTERN DATA COLLECTION QUESTION... [--before LECTERN] [--repeats 1] [--stops 20] [--rows FILE]

Prints the first token and the whole answer in seconds (median, smallest, largest; a new process for each question, as users start it), then
the time from SIGINT to the end of the process, sent at moments spread over such a run, loading included. --before asks another program the
same questions in turns. --rows appends all values as a JSON line a program, among them each process's largest resident memory and the cores
that others (steal included) used meanwhile.
"""
import argparse
import json
import os
import signal
import statistics
import subprocess
import time


def spread(values):
    return f"median {statistics.median(values):.2f}, {min(values):.2f} to {max(values):.2f}"


def busy_s():
    with open("/proc/stat", encoding="ascii") as stat:
        ticks = [int(v) for v in stat.readline().split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")   # idle, iowait


def ask(command):
    start, busy = time.perf_counter(), busy_s()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        lines = process.stdout.read().splitlines()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    whole = time.perf_counter() - start
    others = (busy_s() - busy - used.ru_utime - used.ru_stime) / whole
    if process.returncode != 0:
        raise SystemExit(f"exit code {process.returncode}: {command}")
    result = json.loads(lines[-1])
    took = result["took_ms"]
    if "ttft" not in took:
        raise SystemExit(f"nothing was read, so there is no first token: {command[-1]}: {result['reason']}")
    return result, {"first_token_s": round((took["search"] + took["load"] + took["ttft"]) / 1000, 3), "answer_s": round(took["total"] / 1000, 3),
                    "process_s": round(whole, 3), "search_ms": round(took["search"]), "load_ms": round(took["load"]), "read_ms": round(took["ttft"]),
                    "prompt_tokens": result["usage"]["prompt_tokens"], "packed_tokens": result["context"]["used_tokens"],
                    "max_rss_mib": round(used.ru_maxrss / 1024, 1), "others": round(max(0.0, others), 2)}


def stop_times(command, whole, count):
    stops, codes = {}, set()
    for i in range(count):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        after = whole * (i + 0.5) / (count + 1)
        time.sleep(after)
        sent = time.perf_counter()
        process.send_signal(signal.SIGINT)
        codes.add(process.wait())
        stops[round(after, 3)] = round(1000 * (time.perf_counter() - sent), 1)
    print(f"stopped after SIGINT: {spread(stops.values())} ms, exit codes {sorted(codes)}")
    return stops


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lectern")
    parser.add_argument("data")
    parser.add_argument("collection")
    parser.add_argument("questions", nargs="+")
    parser.add_argument("--before")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--stops", type=int, default=20)
    parser.add_argument("--rows")
    args = parser.parse_args()
    programs = {"now": args.lectern} if args.before is None else {"before": args.before, "now": args.lectern}
    taken = {name: [] for name in programs}
    for question in args.repeats * args.questions:
        for name in programs if len(taken["now"]) % 2 == 0 else reversed(programs):
            result, values = ask([programs[name], "--data", args.data, "--json", "ask", args.collection, question])
            taken[name].append({**values, "mode": result["answer_mode"]})
    for name, rows in taken.items():
        print(f"{name}: first token, search and loading included: {spread([r['first_token_s'] for r in rows])} s; "
              f"whole answer: {spread([r['answer_s'] for r in rows])} s; process: {spread([r['process_s'] for r in rows])} s, "
              f"at most {max(r['max_rss_mib'] for r in rows):.0f} MiB")
    stops = {}
    if args.stops > 0:
        whole = statistics.median(r["process_s"] for r in taken["now"])
        stops = stop_times([args.lectern, "--data", args.data, "--json", "ask", args.collection, args.questions[0]], whole, args.stops)
    if args.rows:
        with open(args.rows, "a", encoding="utf-8") as out:
            for name, rows in taken.items():
                row = {"program": name, "questions": args.repeats * args.questions, **{key: [r[key] for r in rows] for key in rows[0]}}
                out.write(json.dumps({**row, "stopped_ms_after_s": stops} if name == "now" and stops else row) + "\n")


if __name__ == "__main__":
    main()
