#!/usr/bin/env python3
"""Every setting is a key of the file, an environment variable and a flag, and every flag that names a setting sets it.

  settings.py PROGRAM

The table is the program's own, `lectern config schema`: of each setting its variable and its flags. For each one a value other than the
default is given in each way, and `config print --origin` must say so; the flags of a setting's own must be words of their commands; and a
value outside what the schema allows must be refused with the setting's name. What flags do by their command's own code is compared with
what the setting does: the same hits. Settings that only other builds have are refused by name, unknown ones as unknown.
"""
import json
import os
import subprocess
import sys
import tempfile

OWN = {  # settings and values for which a command prints the same whether its flag says so, or --set, or the variable
    "search.k": "1",
    "search.default_retrievers": "bm25",
    "search.fusion": "rrf",
    "search.rrf_k": "3",
}
OTHER_BUILDS = ["server.listen", "auth.required", "limits.k", "admission.search.queue", "rate.default.tokens_per_s", "trace.sample", "snapshot.keep",
                "cluster.shard", "storage.wal_bytes", "storage.disk_watermark", "storage.memory_watermark", "storage.checksum",
                "index.compaction_budget", "models.allow", "reader.kv_bytes", "reader.prefix_cache", "log.slow_ms", "log.content"]


class Broken(Exception):
    pass


def run(program, *args, env=None, code=0):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("LECTERN__")}
    done = subprocess.run([program, *args], env={**clean, **(env or {})}, capture_output=True, text=True, timeout=120)
    if done.returncode != code:
        raise Broken(f"{' '.join(args)} with {env or {}}: exit {done.returncode}, expected {code}\n{done.stdout}{done.stderr}")
    return done


def another(entry):
    """A value that the setting takes and that is not its default."""
    if "enum" in entry:
        return next((v for v in entry["enum"] if v != entry["default"]), entry["default"])
    if entry["type"] == "integer":
        return str(max(entry["minimum"], 1) + (entry["default"] == str(max(entry["minimum"], 1))))
    if entry["default"].endswith("iB"):
        return "77MiB"
    return "another"


def shown(program, key, *args, env=None):
    found = json.loads(run(program, *args, "--json", "config", "print", "--origin", env=env).stdout)[key]
    return str(found["value"]), found["origin"]


def check(program, tmp):
    schema = json.loads(run(program, "config", "schema").stdout)["properties"]
    completion = run(program, "completion", "bash").stdout
    for key, entry in schema.items():
        value, file = another(entry), tmp + "/" + key + ".toml"
        section, name = key.split(".", 1)
        with open(file, "w", encoding="utf-8") as f:
            f.write(f"[{section}]\n{name} = {value if entry['type'] == 'integer' else json.dumps(value)}\n")
        printed = str(77 << 20) if value == "77MiB" else value
        for ways, origin in (((["--set", f"{key}={value}"], {}), "flag"), (([], {entry["environment"]: value}), "environment " + entry["environment"]),
                             ((["--config", file], {}), "file " + file)):
            if (got := shown(program, key, *ways[0], env=ways[1])) != (printed, origin):
                raise Broken(f"{key}: {ways} gives {got}, expected {(printed, origin)}")
        if shown(program, key, "--config", file, "--set", f"{key}={entry['default']}", env={entry["environment"]: value})[1] != "flag":
            raise Broken(f"{key}: a flag does not win")
        wrong = "-1" if entry["type"] == "integer" else "none such" if "enum" in entry else "many" if value == "77MiB" else None
        if wrong is not None:
            done = subprocess.run([program, "--set", f"{key}={wrong}", "config", "check"], capture_output=True, text=True)
            if done.returncode not in (2, 12) or key not in done.stderr:
                raise Broken(f"{key}={wrong} is not refused by name: exit {done.returncode} {done.stderr}")
        for flag in entry["flags"][1:]:
            path, _, word = flag.rpartition(" ")
            words = completion.split(f'"{path}") words="', 1)[1].split('"', 1)[0].split()
            if word not in words:
                raise Broken(f"{key}: {flag} is no flag of the program")
            if any(word in e["flags"][1:] for k, e in schema.items() if k != key):
                raise Broken(f"{flag} means two settings")
    for key in OTHER_BUILDS:
        for args, env in ((["--set", key + "=1"], {}), ([], {"LECTERN__" + key.upper().replace(".", "__"): "1"})):
            if f"the setting {key} (" not in run(program, *args, "config", "check", env=env, code=12).stderr:
                raise Broken(f"{key} is not refused by name")
    run(program, "--set", "search.kk=1", "config", "check", code=2)
    run(program, "config", "check", env={"LECTERN__SEARCH__KK": "1"}, code=2)
    run(program, "--set", "search.k", "config", "check", code=2)
    run(program, "--set", "search.k=1", "--set", "search.k=2", "config", "check", code=2)
    return schema


def check_own(program, tmp, schema):
    source = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    data, encoder = tmp + "/d", {"LECTERN__MODELS__EMBED": source + "/data/tiny/encoder"}
    run(program, "--data", data, "-q", "ingest", "c", source + "/data/tiny/documents/docs.jsonl", source + "/data/tiny/documents/notes.md",
        "--chunk-tokens", "64", "--chunk-overlap", "0", env=encoder)
    for key, value in OWN.items():
        flag, environment = schema[key]["flags"][-1].rpartition(" ")[2], schema[key]["environment"]

        def hits(*args, env=None):
            method = ["--set", "search.fusion=rrf"] if key == "search.rrf_k" else []
            out = json.loads(run(program, "--data", data, "--json", "-q", *method, "search", "c", "the whale and the notes", *args,
                                 env={**encoder, **(env or {})}).stdout)
            return out["hits"]

        by_flag = hits(flag, value)
        if not by_flag == hits("--set", f"{key}={value}") == hits(env={environment: value}):
            raise Broken(f"{key}: {flag} {value}, --set and {environment} differ")
        if by_flag == hits():
            raise Broken(f"{key}: {flag} {value} changes nothing")


def main():
    program = os.path.abspath(sys.argv[1])
    with tempfile.TemporaryDirectory() as tmp:
        schema = check(program, tmp)
        check_own(program, tmp, schema)
    flags = sum(len(entry["flags"]) for entry in schema.values())
    print(f"settings: {len(schema)} settings, each by file, variable and flag; {flags} flags; {len(OTHER_BUILDS)} of other builds refused by name")


if __name__ == "__main__":
    try:
        main()
    except Broken as error:
        sys.exit(f"settings: {error}")
