#!/usr/bin/env python3
"""Encodes texts for `lectern eval manifold --collection` on a GPU: PyTorch, float32 products, the encoder's own weights.

  lectern eval manifold --collection C ... --cache FOLDER --missing FOLDER/texts.jsonl    # one folder a cell
  manifold_embed.py MODEL FOLDER... [--check N]

Appends to each folder's cache what its texts.jsonl lists (SHA-256 of the text, then float32 values) and makes FOLDER/ready. A text
in several folders is encoded once. --check N: the first folder's cache must hold at least N vectors by the engine itself; the same
texts are encoded here and must agree to 1e-4, or nothing is written."""
import argparse
import concurrent.futures
import glob
import hashlib
import json
import os
import time

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import BertModel

MAX_TOKENS, BATCH_TOKENS, CHUNK, LIMIT = 256, 1 << 17, 8192, 1e-4


def read_texts(folder):
    with open(os.path.join(folder, "texts.jsonl"), encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]


def vectors_path(folder):
    return glob.glob(os.path.join(folder, "*.lock"))[0][:-len(".lock")] + ".vectors"


class Encoder:
    def __init__(self, folder):
        self.tokenizer = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
        self.tokenizer.enable_truncation(MAX_TOKENS)
        self.tokenizer.no_padding()
        torch.backends.cuda.matmul.allow_tf32 = False
        self.model = BertModel.from_pretrained(folder, add_pooling_layer=False).float().eval().cuda()
        self.dim = self.model.config.hidden_size

    def ids(self, texts):
        return [np.asarray(e.ids, np.int64) for e in self.tokenizer.encode_batch(texts)]

    @torch.inference_mode()
    def forward(self, ids):
        width = max(map(len, ids))
        padded, mask = np.zeros((len(ids), width), np.int64), np.zeros((len(ids), width), np.int64)
        for row, one in enumerate(ids):
            padded[row, :len(one)], mask[row, :len(one)] = one, 1
        mask = torch.from_numpy(mask).cuda()
        hidden = self.model(input_ids=torch.from_numpy(padded).cuda(), attention_mask=mask).last_hidden_state
        kept = mask.unsqueeze(-1).float()
        return torch.nn.functional.normalize((hidden * kept).sum(1) / kept.sum(1), dim=1)

    def encode(self, ids):
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        parts, begin = [], 0
        while begin < len(order):
            end = begin + 1
            while end < len(order) and (end + 1 - begin) * len(ids[order[end]]) <= BATCH_TOKENS:
                end += 1
            parts.append(self.forward([ids[i] for i in order[begin:end]]))
            begin = end
        out = np.empty((len(ids), self.dim), np.float32)
        out[order] = torch.cat(parts).cpu().numpy()
        return out


def check(encoder, folder, at_least):
    record = 32 + 4 * encoder.dim
    raw = np.fromfile(vectors_path(folder), np.uint8)
    raw = raw[:len(raw) // record * record].reshape(-1, record)
    theirs = {row[:32].tobytes(): row[32:].tobytes() for row in raw}
    texts = [t for t in read_texts(folder) if hashlib.sha256(t.encode()).digest() in theirs]
    if len(texts) < at_least:
        raise SystemExit(f"{len(texts)} of the texts of {folder} were encoded by the engine, --check asks for {at_least}")
    engine = np.stack([np.frombuffer(theirs[hashlib.sha256(t.encode()).digest()], np.float32) for t in texts])
    worst = float(np.linalg.norm(encoder.encode(encoder.ids(texts)) - engine, axis=1).max())
    print(json.dumps({"checked": len(texts), "greatest_distance_from_the_engine": worst, "device": torch.cuda.get_device_name()}), flush=True)
    if not worst <= LIMIT:
        raise SystemExit(f"vectors differ from the engine's by {worst}, at most {LIMIT} is allowed")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--check", type=int, default=0)
    args = parser.parse_args()
    encoder = Encoder(args.model)
    if args.check > 0:
        check(encoder, args.folders[0], args.check)
    known, begin = {}, time.time()
    with concurrent.futures.ThreadPoolExecutor(1) as ahead:
        for folder in args.folders:
            while not os.path.exists(os.path.join(folder, "texts.done")):
                time.sleep(0.2)
            texts = {hashlib.sha256(t.encode()).digest(): t for t in read_texts(folder)}
            fresh = [key for key in texts if key not in known]
            chunks = [fresh[i:i + CHUNK] for i in range(0, len(fresh), CHUNK)]
            tokens = [ahead.submit(encoder.ids, [texts[key] for key in chunk]) for chunk in chunks]
            for chunk, ids in zip(chunks, tokens):
                known.update(zip(chunk, encoder.encode(ids.result())))
            with open(vectors_path(folder), "ab") as out:
                for key in texts:
                    out.write(key + known[key].tobytes())
            open(os.path.join(folder, "ready"), "w").close()
            print(json.dumps({"folder": folder, "texts": len(texts), "encoded": len(fresh), "seconds": round(time.time() - begin, 1)}), flush=True)


if __name__ == "__main__":
    main()
