#!/usr/bin/env python3
"""llama.cpp's answers to given prompts, to be laid beside ours by `lectern eval answers --baseline`.

  llama_answers.py MODEL.gguf PROMPTS.jsonl OUT.jsonl --peers ../shared/peers/cpu

Each line of PROMPTS: {"id", "system", "user"} (bench/peer_prompts.py). The model's own chat template, greedy, flash attention
off (its faster setting on a CPU). Each line of OUT: {"id", "reply", "prompt_tokens", "took_s"}, written as it comes; a run that
was stopped goes on where it was.
"""
import argparse
import json
import os
import sys
import time


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("prompts")
    parser.add_argument("out")
    parser.add_argument("--peers", default="../shared/peers/cpu", help="folder of llamalow.py")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--max-new", type=int, default=32)
    parser.add_argument("--context", type=int, default=2048)
    args = parser.parse_args()
    sys.path.insert(0, args.peers)
    from llamalow import Model
    done = set()
    if os.path.exists(args.out):
        with open(args.out, encoding="utf-8") as f:
            done = {json.loads(line)["id"] for line in f}
    model = Model(args.model, n_ctx=args.context, threads=args.threads, flash="off")
    with open(args.prompts, encoding="utf-8") as f, open(args.out, "a", encoding="utf-8") as out:
        for line in f:
            prompt = json.loads(line)
            if prompt["id"] in done:
                continue
            messages = [{"role": "system", "content": prompt["system"]}, {"role": "user", "content": prompt["user"]}]
            ids = model.tokenize(model.render_chat(messages))
            start = time.perf_counter()
            reply = model.text(model.greedy(ids, args.max_new), special=False).strip()
            row = {"id": prompt["id"], "reply": reply, "prompt_tokens": len(ids), "took_s": round(time.perf_counter() - start, 3)}
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
            out.flush()


if __name__ == "__main__":
    main()
