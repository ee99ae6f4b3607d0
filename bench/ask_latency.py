#!/usr/bin/env python3
"""How soon `lectern ask` says its first word, and how soon it stops when told to.

  ask_latency.py LECTERN DATA COLLECTION QUESTION [--repeats 5]

Prints the first token and the whole answer in seconds (median, smallest, largest; a new process each time, as users start it), then the time
from SIGINT to the end of the process, sent at moments spread over such a run.
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
    stops, codes = [], set()
    for i in range(2 * args.repeats):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(statistics.median(whole) * (i + 0.5) / (2 * args.repeats + 1))
        sent = time.perf_counter()
        process.send_signal(signal.SIGINT)
        codes.add(process.wait())
        stops.append(1000 * (time.perf_counter() - sent))
    print(f"stopped after SIGINT: {spread(stops)} ms, exit codes {sorted(codes)}")


if __name__ == "__main__":
    main()
