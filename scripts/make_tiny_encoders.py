#!/usr/bin/env python3
"""Writes data/tiny/encoder (a sentence encoder) and data/tiny/cross-encoder: random weights, a small vocabulary, and
reference.json with what a plain NumPy float64 forward pass gives for some texts. Needs numpy, safetensors and tokenizers
(2.4, 0.8, 0.23).

  make_tiny_encoders.py [--out data/tiny]
"""
import argparse
import json
import math
import os

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer

SEED = 20261124
HIDDEN, HEADS, LAYERS, WIDE, POSITIONS = 32, 2, 2, 64, 64
WORDS = """the a of and in to is was on for with as by at from it that this are be an or which city river stone tree light
water fire old new large small long short found built made water road sea king queen book word letter night day year sun
moon star iron gold salt bread bridge tower garden bird horse ship north south east west one two three four five""".split()
TEXTS = ["", "the old bridge of stone", "A ship on the sea at night!", "gold, salt & iron from the south",
         "unknownword zzz the", "the long road to the city was built by the old king in the year of the sun and the moon"]
PAIRS = [("old bridge", "the bridge of stone was built by the old king"), ("gold", "a ship on the sea"), ("", "the"),
         ("the king", "bread and salt " * 40)]


def vocabulary():
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces += [chr(c) for c in range(33, 127) if not chr(c).isupper()]
    pieces += ["##" + chr(c) for c in range(ord("a"), ord("z") + 1)] + ["##s", "##ed", "##ing"]
    return {p: i for i, p in enumerate(dict.fromkeys(pieces + WORDS))}


def tokenizer_json(vocab):
    frame = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
             {"SpecialToken": {"id": "[SEP]", "type_id": 0}}]
    pair = frame + [{"Sequence": {"id": "B", "type_id": 1}}, {"SpecialToken": {"id": "[SEP]", "type_id": 1}}]
    special = {p: {"id": p, "ids": [vocab[p]], "tokens": [p]} for p in ("[CLS]", "[SEP]")}
    added = [{"id": vocab[p], "special": True, "content": p, "single_word": False, "lstrip": False, "rstrip": False,
              "normalized": False} for p in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")]
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
            "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None,
                           "lowercase": True},
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {"type": "TemplateProcessing", "single": frame, "pair": pair, "special_tokens": special},
            "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
            "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                      "max_input_chars_per_word": 100, "vocab": vocab}}


def weights(vocab_size, rng, prefix="", head=False):
    w = {}

    def linear(name, out, inner):
        w[prefix + name + ".weight"] = rng.normal(0, 1.5 / math.sqrt(inner), (out, inner)).astype(np.float32)
        w[prefix + name + ".bias"] = rng.normal(0, 0.1, out).astype(np.float32)

    def norm(name):
        w[prefix + name + ".weight"] = rng.normal(1, 0.2, HIDDEN).astype(np.float32)
        w[prefix + name + ".bias"] = rng.normal(0, 0.2, HIDDEN).astype(np.float32)

    for name, rows in (("word", vocab_size), ("position", POSITIONS), ("token_type", 2)):
        w[prefix + f"embeddings.{name}_embeddings.weight"] = rng.normal(0, 1, (rows, HIDDEN)).astype(np.float32)
    norm("embeddings.LayerNorm")
    for i in range(LAYERS):
        at = f"encoder.layer.{i}."
        for part in ("query", "key", "value"):
            linear(at + "attention.self." + part, HIDDEN, HIDDEN)
        linear(at + "attention.output.dense", HIDDEN, HIDDEN)
        norm(at + "attention.output.LayerNorm")
        linear(at + "intermediate.dense", WIDE, HIDDEN)
        linear(at + "output.dense", HIDDEN, WIDE)
        norm(at + "output.LayerNorm")
    if head:
        linear("pooler.dense", HIDDEN, HIDDEN)
        w["classifier.weight"] = rng.normal(0, 0.3, (1, HIDDEN)).astype(np.float32)
        w["classifier.bias"] = rng.normal(0, 0.3, 1).astype(np.float32)
    return w


def forward(w, ids, types, prefix=""):
    g = lambda n: w[prefix + n].astype(np.float64)
    lin = lambda x, n: x @ g(n + ".weight").T + g(n + ".bias")
    erf = np.vectorize(math.erf)

    def ln(x, n):
        m = x.mean(-1, keepdims=True)
        return (x - m) / np.sqrt(((x - m) ** 2).mean(-1, keepdims=True) + 1e-12) * g(n + ".weight") + g(n + ".bias")

    n = len(ids)
    x = (g("embeddings.word_embeddings.weight")[ids] + g("embeddings.position_embeddings.weight")[:n] +
         g("embeddings.token_type_embeddings.weight")[types])
    x = ln(x, "embeddings.LayerNorm")
    for i in range(LAYERS):
        at = f"encoder.layer.{i}."
        q, k, v = (lin(x, at + "attention.self." + p).reshape(n, HEADS, -1).transpose(1, 0, 2)
                   for p in ("query", "key", "value"))
        s = q @ k.transpose(0, 2, 1) / math.sqrt(HIDDEN // HEADS)
        s = np.exp(s - s.max(-1, keepdims=True))
        a = (s / s.sum(-1, keepdims=True) @ v).transpose(1, 0, 2).reshape(n, -1)
        x = ln(x + lin(a, at + "attention.output.dense"), at + "attention.output.LayerNorm")
        y = lin(x, at + "intermediate.dense")
        x = ln(x + lin(0.5 * y * (1 + erf(y / math.sqrt(2))), at + "output.dense"), at + "output.LayerNorm")
    return x


def write(folder, vocab, w, architecture, extra, reference):
    os.makedirs(folder, exist_ok=True)
    config = {"architectures": [architecture], "model_type": "bert", "hidden_act": "gelu", "hidden_size": HIDDEN,
              "intermediate_size": WIDE, "layer_norm_eps": 1e-12, "max_position_embeddings": POSITIONS,
              "num_attention_heads": HEADS, "num_hidden_layers": LAYERS, "position_embedding_type": "absolute",
              "type_vocab_size": 2, "vocab_size": len(vocab)}
    files = {"config.json": config, "tokenizer.json": tokenizer_json(vocab), "reference.json": reference, **extra}
    for name, value in files.items():
        os.makedirs(os.path.dirname(os.path.join(folder, name)), exist_ok=True)
        with open(os.path.join(folder, name), "w") as f:
            json.dump(value, f, indent=None, separators=(",", ":"))
            f.write("\n")
    save_file(w, os.path.join(folder, "model.safetensors"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="data/tiny")
    out = parser.parse_args().out
    vocab = vocabulary()
    tok = Tokenizer.from_str(json.dumps(tokenizer_json(vocab)))
    rng = np.random.default_rng(SEED)

    w = weights(len(vocab), rng)
    embeddings = []
    for text in TEXTS:
        ids = tok.encode(text).ids
        x = forward(w, ids, [0] * len(ids)).mean(0)
        embeddings.append(list(x / np.linalg.norm(x)))
    pooling = {"word_embedding_dimension": HIDDEN, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True,
               "pooling_mode_max_tokens": False, "pooling_mode_mean_sqrt_len_tokens": False}
    write(os.path.join(out, "encoder"), vocab, w, "BertModel", {"1_Pooling/config.json": pooling},
          {"made_by": f"scripts/make_tiny_encoders.py, seed {SEED}, numpy float64", "texts": TEXTS,
           "ids": [tok.encode(t).ids for t in TEXTS], "embeddings": embeddings})

    w = weights(len(vocab), rng, "bert.", head=True)
    tok.enable_truncation(POSITIONS, strategy="longest_first")
    scores, lengths = [], []
    for query, passage in PAIRS:
        e = tok.encode(query, passage)
        x = forward(w, e.ids, e.type_ids, "bert.")[0]
        pooled = np.tanh(w["bert.pooler.dense.weight"].astype(np.float64) @ x + w["bert.pooler.dense.bias"])
        scores.append(float(w["classifier.weight"][0].astype(np.float64) @ pooled + w["classifier.bias"][0]))
        lengths.append(len(e.ids))
    write(os.path.join(out, "cross-encoder"), vocab, w, "BertForSequenceClassification", {},
          {"made_by": f"scripts/make_tiny_encoders.py, seed {SEED}, numpy float64", "pairs": PAIRS, "tokens": lengths,
           "scores": scores})


if __name__ == "__main__":
    main()
