#!/usr/bin/env python3
"""How soon `lectern ask` says its first word, and how soon it stops when told to.

  ask_latency.py LECTERN DATA COLLECTION QUESTION [--repeats 5] [--rows FILE]

Prints the first token and the whole answer in seconds (median, smallest, largest; a new process each time, as users start it), then the time
from SIGINT to the end of the process, sent at moments spread over such a run, loading included. --rows appends all values as a JSON line.
"""
import argparse
import json
import signal
import statistics
import subprocess
import time


def spread(values):
    return f"median {statistics.median(values):.2f}, {min(values):.2f} to {max(values):.2f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lectern")
    parser.add_argument("data")
    parser.add_argument("collection")
    parser.add_argument("question")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rows")
    args, more = parser.parse_known_args()
    command = [args.lectern, "--data", args.data, "--json", "ask", args.collection, args.question, *more]
    first, total, whole = [], [], []
    for _ in range(args.repeats):
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        whole.append(time.perf_counter() - start)
        result = json.loads(done.stdout.splitlines()[-1])
        took = result["took_ms"]
        first.append((took["search"] + took["load"] + took["ttft"]) / 1000)
        total.append(took["total"] / 1000)
    print(f"packed {result['context']['used_tokens']} of {result['context']['budget_tokens']} tokens, prompt {result['usage']['prompt_tokens']}, "
          f"{result['answer_mode']}")
    print(f"first token, search and loading included: {spread(first)} s")
    print(f"whole answer: {spread(total)} s; process: {spread(whole)} s")
    stops, codes = {}, set()
    for i in range(4 * args.repeats):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        after = statistics.median(whole) * (i + 0.5) / (4 * args.repeats + 1)
        time.sleep(after)
        sent = time.perf_counter()
        process.send_signal(signal.SIGINT)
        codes.add(process.wait())
        stops[round(after, 3)] = round(1000 * (time.perf_counter() - sent), 1)
    print(f"stopped after SIGINT: {spread(stops.values())} ms, exit codes {sorted(codes)}")
    if args.rows:
        with open(args.rows, "a", encoding="utf-8") as out:
            out.write(json.dumps({"question": args.question, "prompt_tokens": result["usage"]["prompt_tokens"], "mode": result["answer_mode"],
                                  "first_token_s": [round(v, 3) for v in first], "answer_s": [round(v, 3) for v in total],
                                  "process_s": [round(v, 3) for v in whole], "stopped_ms_after_s": stops}) + "\n")


if __name__ == "__main__":
    main()
