#!/usr/bin/env python3
"""Writes the seeds of the model-file and tokenizer fuzz entries under data/fuzz/: small valid files and close misses.
Standard library only; the same bytes at every run (no random numbers)."""
import json
import os
import struct

ROOT = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "data", "fuzz")


def write(folder, name, data):
    path = os.path.join(ROOT, folder, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(data.encode() if isinstance(data, str) else data)


def text(s):
    return struct.pack("<Q", len(s.encode())) + s.encode()


def gguf(pairs, tensors, version=3, count=None):
    out = b"GGUF" + struct.pack("<IQQ", version, len(tensors) if count is None else count, len(pairs))
    for key, kind, value in pairs:
        out += text(key) + struct.pack("<I", kind) + value
    data = b""
    for name, kind, extents, size, offset in tensors:
        out += text(name) + struct.pack("<I", len(extents)) + b"".join(struct.pack("<Q", e) for e in extents)
        out += struct.pack("<IQ", kind, len(data) if offset is None else offset)
        data += b"\1" * size + b"\0" * (-size % 32)
    return out + b"\0" * (-len(out) % 32) + data


def strings(values):
    return struct.pack("<IQ", 8, len(values)) + b"".join(text(v) for v in values)


def safetensors(header, data):
    h = header if isinstance(header, bytes) else json.dumps(header).encode()
    h += b" " * (-len(h) % 8)
    return struct.pack("<Q", len(h)) + h + data


def main():
    arch = ("general.architecture", 8, text("llama"))
    f32 = ("a", 0, [4, 2], 32, None)
    write("gguf", "valid", gguf([arch, ("n", 4, struct.pack("<I", 7)), ("t", 9, strings(["a", "bc", ""]))],
                                [f32, ("b", 8, [32], 34, None), ("c", 12, [256], 144, None)]))
    write("gguf", "version2", gguf([arch], [f32], version=2))
    write("gguf", "version1", gguf([arch], [f32], version=1))
    write("gguf", "big-endian", gguf([arch], [f32], version=0x03000000))
    write("gguf", "huge-count", gguf([arch], [f32], count=1 << 62))
    write("gguf", "overflowing-extents", gguf([arch], [("a", 0, [1 << 62, 1 << 62, 4], 32, None)]))
    write("gguf", "overlap", gguf([arch], [f32, ("b", 0, [8], 32, 0)]))
    write("gguf", "misaligned", gguf([arch], [f32, ("b", 0, [2], 8, 4)]))
    write("gguf", "unknown-type", gguf([arch], [("a", 77, [4], 32, None)]))
    write("gguf", "nested-array", gguf([("x", 9, struct.pack("<IQ", 9, 1) + struct.pack("<IQ", 4, 1) + b"\0" * 4)], []))
    write("gguf", "huge-string", gguf([("x", 8, struct.pack("<Q", (1 << 64) - 1))], []))
    write("gguf", "huge-array", gguf([("x", 9, struct.pack("<IQ", 11, 1 << 61))], []))
    write("gguf", "twice", gguf([arch, arch], []))
    write("gguf", "alignment-0", gguf([("general.alignment", 4, struct.pack("<I", 0))], [f32]))
    write("gguf", "empty", b"")

    one = {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
    write("safetensors", "valid", safetensors({"__metadata__": {"format": "pt"}, **one}, b"\0" * 8))
    write("safetensors", "overlap", safetensors({**one, "b": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}, b"\0" * 12))
    write("safetensors", "hole", safetensors({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, b"\0" * 8))
    write("safetensors", "huge-header", struct.pack("<Q", 1 << 63) + b"{}")
    write("safetensors", "huge-shape", safetensors({"a": {"dtype": "F32", "shape": [1 << 62, 1 << 62], "data_offsets": [0, 8]}}, b"\0" * 8))
    write("safetensors", "negative", safetensors({"a": {"dtype": "F32", "shape": [-2], "data_offsets": [8, 0]}}, b"\0" * 8))
    write("safetensors", "unknown-type", safetensors({"a": {"dtype": "F8_E4M3", "shape": [8], "data_offsets": [0, 8]}}, b"\0" * 8))
    write("safetensors", "twice", safetensors(b'{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}', b""))
    write("safetensors", "deep", safetensors(b"[" * 200, b""))
    write("safetensors", "index", json.dumps({"metadata": {}, "weight_map": {"a": "model-00001-of-00002.safetensors"}}))
    write("safetensors", "index-path", json.dumps({"weight_map": {"a": "../../etc/passwd"}}))

    write("model_config", "valid", json.dumps({"architectures": ["LlamaForCausalLM"], "hidden_size": 64, "rope_theta": 1e4,
                                               "rope_scaling": {"factor": 8.0}, "eos_token_id": [1, 2], "tie": True, "x": None}))
    write("model_config", "twice", '{"hidden_size":1,"hidden_size":2}')
    write("model_config", "huge-number", '{"hidden_size":99999999999999999999,"rope_theta":1e999}')
    write("model_config", "deep", '{"a":' * 100 + "1" + "}" * 100)
    write("model_config", "mixed", '{"architectures":[1,"a",[2]],"eos_token_id":[1,2.5]}')

    wordpiece = {"added_tokens": [{"id": 0, "content": "[UNK]", "special": True}], "normalizer": {"type": "BertNormalizer"},
                 "pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": None,
                 "model": {"type": "WordPiece", "unk_token": "[UNK]", "vocab": {"[UNK]": 0, "the": 1, "##s": 2}}}
    write("tokenizer_json", "wordpiece", json.dumps(wordpiece))
    write("tokenizer_json", "id-out-of-range", json.dumps({**wordpiece, "added_tokens": [{"id": 1 << 40, "content": "x"}]}))
    write("tokenizer_json", "id-twice", json.dumps({**wordpiece, "added_tokens": [{"id": 1, "content": "x"}]}))
    write("tokenizer_json", "unigram", json.dumps({"model": {"type": "Unigram", "vocab": []}}))
    write("tokenizer_json", "bpe-no-merge-token", json.dumps(
        {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False}, "model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}}))
    write("tokenizer_json", "bpe", json.dumps(
        {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False},
         "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}}))

    write("tokenizer_text", "words", "The café isn't 12345 the\n\n  the\r\n\tthe   \n x")
    write("tokenizer_text", "invalid", b"\xff\xc3 the\xe2\x96 \xed\xa0\x80\xf4\x90\x80\x80 \xf0\x9f\x98")
    write("tokenizer_text", "marks", "a\u0301\u0327\u0301 \u1100\u1161\u11a8 \u0130 \ufb01 \u2581the \u4e2d\u6587 \u200d")
    write("tokenizer_text", "specials", "<|im_end|>[CLS]<|im_start|>[SEP] <|im_")
    write("tokenizer_text", "runs", b"a" * 300 + b" " * 300 + b"\n" * 300 + b"7" * 300)

    write("chat_template", "chatml", "{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{{ '<|im_start|>assistant\\n' }}")
    write("chat_template", "llama3", "<|start_header_id|>user<|end_header_id|>\n\n<|eot_id|>")
    write("chat_template", "gemma", "<start_of_turn>model\n<end_of_turn>\n")
    write("chat_template", "open", "<|im_start|>system\nYou are")


if __name__ == "__main__":
    main()
