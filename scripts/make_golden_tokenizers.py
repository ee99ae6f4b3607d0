#!/usr/bin/env python3
"""Writes data/golden/tokenizers.json.xz: small tokenizers and what the `tokenizers` package makes of text with them.

  llama3, qwen2   byte-level BPE of 600 merges, trained here on data/sample/articles, with the splitting rules of those
                  models; ids of 900 random strings each
  wordpiece       the outcome of "a" + c + "b" for every code point c, run-length encoded
  split           into what the rules of llama3, qwen2, smollm cut "a" + c + c + "1" + " " + c + "\\n", for every code point

Needs tokenizers 0.23.3. Seed 31.   scripts/make_golden_tokenizers.py > data/golden/tokenizers.json.xz
"""
import glob
import hashlib
import json
import lzma
import os
import random
import sys
from importlib.metadata import version

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LETTERS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
RULES = {"llama3": LETTERS + r"\p{N}{1,3}" + REST, "qwen2": LETTERS + r"\p{N}" + REST}


def splitter(name):
    if name == "smollm":
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(RULES[name]), "isolated"),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def train(name, texts):
    tokenizer = Tokenizer(models.BPE(ignore_merges=name == "llama3"))
    tokenizer.pre_tokenizer = splitter(name)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=856, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False))
    names = {"llama3": ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"], "qwen2": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]}
    tokenizer.add_special_tokens([AddedToken(n, special=True, normalized=False) for n in names[name]])
    if name == "llama3":
        bos = tokenizer.token_to_id("<|begin_of_text|>")
        tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), processors.TemplateProcessing(
            single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", bos)])])
    else:
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.add_tokens([AddedToken("<tool_call>", special=False, normalized=False)])
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def random_text(rng, words):
    parts = []
    for _ in range(rng.randrange(12)):
        kind = rng.randrange(9)
        if kind < 3:
            parts.append(rng.choice(words))
        elif kind == 3:
            parts.append(rng.choice([" ", "  ", "\n", "\n\n", "\t", "\r\n", " \n ", "\u00a0", "\u3000", "   "]))
        elif kind == 4:
            parts.append(str(rng.randrange(10 ** rng.randrange(1, 9))))
        elif kind == 5:
            parts.append(rng.choice(["'s", "'LL", "'Ve", "don't", "'", "''d", "x'M"]))
        elif kind == 6:
            parts.append("".join(chr(rng.choice([rng.randrange(0x20, 0x250), rng.randrange(0x300, 0x370), rng.randrange(0x900, 0x980),
                                                 rng.randrange(0x4e00, 0x4f00), rng.randrange(0xac00, 0xad00), rng.randrange(0x1f600, 0x1f650)]))
                                 for _ in range(rng.randrange(1, 6))))
        elif kind == 7:
            parts.append(rng.choice(["e\u0301", "\u1100\u1161\u11a8", "o\u0328\u0301", "\u212b", "\u0958", "\u2126m"]))
        else:
            parts.append(rng.choice(["...", "!?", "(", ")", "<|eot_id|>", "<|im_end|>", "<tool_call>", "##", "\u2019s", "--\n"]))
    return "".join(parts)


def runs(outcome):
    """[[last code point, value], ...] of a function of the code point; surrogates take the value before them."""
    out, value = [], None
    for c in range(0x110000):
        now = value if 0xd800 <= c < 0xe000 else outcome(c)
        if now != value and c > 0:
            out.append([c - 1, value])
        value = now
    return out + [[0x10ffff, value]]


def main():
    rng = random.Random(31)
    texts = [open(p, encoding="utf-8").read() for p in sorted(glob.glob(os.path.join(ROOT, "data/sample/articles/*.md")))[:20]]
    words = sorted({w for t in texts for w in t.split()})
    golden = {"made_by": "scripts/make_golden_tokenizers.py, seed 31", "tokenizers": version("tokenizers"),
              "trained_on_sha256": hashlib.sha256("".join(texts).encode()).hexdigest(), "bpe": {}, "split": {}}
    for name in ("llama3", "qwen2"):
        tokenizer = train(name, texts)
        vectors = []
        for _ in range(900):
            text = random_text(rng, words)
            vectors.append([text, tokenizer.encode(text).ids])
        golden["bpe"][name] = {"tokenizer": json.loads(tokenizer.to_str()), "vectors": vectors}
    wordpiece = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1, "b": 2, "##b": 3}, unk_token="[UNK]"))
    wordpiece.normalizer = normalizers.BertNormalizer()
    wordpiece.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    golden["wordpiece"] = {"tokenizer": json.loads(wordpiece.to_str()), "runs": runs(lambda c: wordpiece.encode(f"a{chr(c)}b").ids)}
    for name in ("llama3", "qwen2", "smollm"):
        cut = splitter(name)
        golden["split"][name] = runs(lambda c: [b - a for _, (a, b) in cut.pre_tokenize_str(f"a{chr(c)}{chr(c)}1 {chr(c)}\n")])
    sys.stdout.buffer.write(lzma.compress(json.dumps(golden, ensure_ascii=True, separators=(",", ":"), sort_keys=True).encode(), preset=9))


if __name__ == "__main__":
    main()
