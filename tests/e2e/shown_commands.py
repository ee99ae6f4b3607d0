#!/usr/bin/env python3
"""Every command that a page shows exists as it is shown: its subcommands, flags, scripts, presets, tests, settings and variables.

  shown_commands.py --lectern PROGRAM --source REPO --build FOLDER --run README.md docs/manifold.md ...

Read are all Markdown files but the sample's articles. The blocks fenced as ```console of the pages --run are run by run_e2e.py, one
test a page; a page with such a block that is not among them fails here. A block that cannot be run in CI says why in the line before it:
<!-- not run: a GPU -->. That block, other blocks and inline code are checked:

  lectern ...          against the words of `lectern completion bash`
  scripts/x bench/x    the file is there, and reads each flag by name
  cmake, ctest         the preset and the target exist, -R and -L choose tests
  --flag alone         some command, script or tool above has it
  a.b, LECTERN_X       `config schema` has it; some source reads it

A flag of a `lectern` command shown in README, CONTRIBUTING, ARCHITECTURE or docs/ must besides be run: in a console block or an .e2e
file, with that subcommand. NOT_RUN lists what is not, with its reason.
"""
import argparse
import json
import os
import re
import shlex
import subprocess
import sys

# (subcommand, flag): why no test gives it.
NOT_RUN = {}

SKIPPED_FOLDERS = {"build", "articles", "documents", "models", "__pycache__", "lectern-data"}
TOOL_FLAGS = {"--preset", "--build", "--target", "--only-binary"}   # of cmake, ctest and pip
FILE_ENDINGS = ("h", "cc", "cu", "cuh", "md", "py", "sh", "json", "jsonl", "bin", "txt", "html", "toml", "hpp", "xz", "gz")


def pages(source):
    for folder, subfolders, files in os.walk(source):
        subfolders[:] = sorted(d for d in subfolders if d not in SKIPPED_FOLDERS and not d.startswith("."))
        for name in sorted(files):
            if name.endswith(".md"):
                yield os.path.relpath(os.path.join(folder, name), source)


def shown(text):
    """(line, kind, code): kind is inline, block, console (to be run) or not-run."""
    prose, fence, before = [], None, ""
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith("```"):
            if fence is None:
                fence = "block" if line != "```console" else "not-run" if before.startswith("<!-- not run: ") else "console"
            else:
                fence = None
        elif fence is None:
            prose.append((number, line))
        elif fence == "block" or line.startswith("$ "):
            yield number, fence, line.removeprefix("$ ")
        before = line
    joined = "\n".join(line for _, line in prose)
    for match in re.finditer(r"`([^`]+)`", joined):
        if "\n\n" not in match.group(1):
            yield prose[joined.count("\n", 0, match.start())][0], "inline", " ".join(match.group(1).split())


def commands_of(code):
    """The words of each command of a line of shell, without redirections; [] where a quote is open."""
    lexer = shlex.shlex(code, posix=True, punctuation_chars=";&|<>")
    lexer.commenters = ""
    lexer.whitespace_split = True
    commands, skip = [[]], False
    try:
        for word in lexer:
            if word in ("<", ">", ">>", "<<<"):
                skip = True
            elif set(word) <= set(";&|()"):
                commands.append([])
            elif not skip:
                commands[-1].append(word)
            else:
                skip = False
    except ValueError:
        return [code.split()]
    return [c for c in commands if c]


class Known:
    """What exists: in the program, in the source tree, in the build folder."""

    def __init__(self, lectern, source, build):
        self.source, self.build, self.counted = source, build, {}
        out = subprocess.run([lectern, "completion", "bash"], capture_output=True, text=True, check=True).stdout
        self.words = {path: set(words.split()) for path, words in re.findall(r'^      "([a-z ]*)"\) words="(.*)" ;;$', out, re.M)}
        schema = json.loads(subprocess.run([lectern, "config", "schema"], capture_output=True, text=True, check=True).stdout)
        self.settings = {key: entry["environment"] for key, entry in schema["properties"].items()}
        self.flags = set(TOOL_FLAGS).union(*({w for w in words if w.startswith("--")} for words in self.words.values()))
        texts = []
        for folder in ("base", "decoder", "index", "service", "tests", "scripts", "bench", "cmake", ".ci", "attention", "manifold"):
            for at, subfolders, files in os.walk(os.path.join(source, folder)):
                for name in files:
                    if name.endswith((".cc", ".h", ".py", ".sh", ".txt", ".cmake", ".cu", ".cuh")) and name != "shown_commands.py":
                        with open(os.path.join(at, name), encoding="utf-8") as f:
                            text = f.read()
                        texts.append(text)
                        if name.endswith((".py", ".sh")):
                            self.flags |= set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", text))
        with open(os.path.join(source, "CMakeLists.txt"), encoding="utf-8") as f:
            texts.append(f.read())
        self.names = set(re.findall(r"\w+", "\n".join(texts)))   # every word of the sources
        with open(os.path.join(source, "CMakePresets.json"), encoding="utf-8") as f:
            self.presets = {p["name"] for p in json.load(f)["configurePresets"]}

    def program(self, words):
        """What is wrong with `lectern WORDS`, and the (subcommand, flags) it gives."""
        wrong, path, flags, i = [], "", set(), 0
        while i < len(words):
            word = words[i]
            i += 1
            name = word.split("=")[0]
            subcommands = {w for w in self.words[path] if not w.startswith("--")}
            if name.startswith("--"):
                flags.add(name)
                if path == "" and i < len(words) and words[i] not in subcommands and not words[i].startswith("-"):
                    i += 1   # the flag's value
            elif word.startswith("-") and len(word) == 2:
                if word not in ("-q", "-v", "-y", "-h") and path == "":
                    wrong.append(f"lectern has no {word}")
            elif subcommands and set(word.split("|")) <= subcommands:
                if "|" in word:
                    break
                path = f"{path} {word}".strip()
            elif subcommands and not re.fullmatch(r"\.\.\.|…|\[?[A-Z]+\]?", word):
                wrong.append(f"`lectern {path}` has no {word}".replace(" `", "`"))
                break
        for flag in sorted(flags):
            if flag not in self.words[path] and flag not in self.words[""]:
                wrong.append(f"`lectern {path}` has no {flag}")
        return wrong, path, flags - self.words[""]

    def ctest(self, words):
        wrong = []
        chosen = [w for flag, w in zip(words, words[1:]) if flag in ("-R", "-L")]
        if chosen and not [w for w in chosen if re.search(r"[A-Z]{2}", w)]:
            arguments = [a for i in range(len(words) - 1) if words[i] in ("-R", "-L") for a in words[i:i + 2]]
            key = tuple(arguments)
            if key not in self.counted:
                out = subprocess.run(["ctest", "--test-dir", self.build, "-N", *arguments], capture_output=True, text=True).stdout
                self.counted[key] = int(re.search(r"Total Tests: (\d+)", out).group(1))
            if self.counted[key] == 0:
                wrong.append(f"ctest {' '.join(arguments)} chooses no test")
        return wrong

    def command(self, words, page):
        """What is wrong with a command; None: these words are none."""
        while words and re.fullmatch(r"[A-Z][A-Z0-9_]*=.*", words[0]):
            words = words[1:]
        if not words:
            return []
        first = words[0]
        if first == "lectern":
            return self.program(words[1:])[0]
        if first in ("cmake", "ctest"):
            wrong = []
            for flag, value in zip(words, words[1:]):
                if flag == "--preset" and value not in self.presets:
                    wrong.append(f"there is no preset {value}")
                if flag == "--target" and value.removeprefix("lectern_") not in self.names:
                    wrong.append(f"there is no target {value}")
            return wrong + (self.ctest(words) if first == "ctest" else [])
        if first == "python3" and len(words) > 1 and words[1].endswith(".py"):
            return self.command(words[1:], page)
        if re.fullmatch(r"(\.\./)*\.?[a-z_0-9/]+/[a-z_0-9]+\.(py|sh)|\.ci/run", first):
            for root in (self.source, os.path.join(self.source, os.path.dirname(page))):
                if os.path.isfile(path := os.path.join(root, first)):
                    break
            else:
                return [f"there is no {first}"]
            if len(words) > 1 and not os.access(path, os.X_OK):
                return [f"{first} is not executable"]
            with open(path, encoding="utf-8") as f:
                text = f.read()
            return [f"{first} has no {w.split('=')[0]}" for w in words[1:] if w.startswith("--") and w.split("=")[0] not in text]
        if re.fullmatch(r"[a-z_0-9]+_peer\.py", first):
            return []   # lies beside the data that are shared, not here
        if first.startswith("bench_") and re.fullmatch(r"bench_[a-z0-9_]+", first):
            return [] if first in self.names else [f"there is no {first}"]
        if len(words) > 1 and first in self.words and any(w.startswith("--") for w in words):
            return self.program(words)[0]
        return None

    def code(self, code, page):
        wrong, found = [], False
        for words in commands_of(code):
            result = self.command(words, page)
            found |= result is not None
            wrong += result or []
        if not found:
            wrong += [f"nothing has the flag {f}" for f in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", code) if f not in self.flags]
        sections = {key.split(".")[0] for key in self.settings}
        for section, key in re.findall(r"(?<![\w./-])([a-z]+)\.([a-z_]+)(?![\w(/.])", code):
            if section in sections and key not in FILE_ENDINGS and f"{section}.{key}" not in self.settings:
                wrong.append(f"there is no setting {section}.{key}")
        for name in re.findall(r"\bLECTERN_[A-Z0-9_]*[A-Z0-9]\b", code):
            if name.startswith("LECTERN__"):
                if name not in self.settings.values() and name != "LECTERN__SECTION__KEY":
                    wrong.append(f"no setting has the variable {name}")
            elif name not in self.names:
                wrong.append(f"nothing reads {name}")
        return wrong


def check_the_check(known):
    """Wrong ones are found, right ones are not."""
    for code in ("lectern serch c q", "lectern index bild c", "lectern search c q --fuse rrf", "lectern --jsn search c q", "lectern eval answers --topics t",
                 "printf x | lectern ingest c - --no-such", "LECTERN__READER__MODELL=x lectern ask c q", "LECTERN_NO_SUCH=1 scripts/test.sh", "reader.modell",
                 "scripts/none.py", "scripts/test.sh --everything", "cmake --preset none", "cmake --build --preset release --target none_such", "ctest --preset release -R '^none/'",
                 "bench_none", "--no-such", "index build --no-such"):
        assert known.code(code, "README.md"), f"nothing was found wrong with: {code}"
    for code in ("lectern --data D -q search c 'q' --k 3 | head -1", "lectern document get|delete C ID", "scripts/test.sh --all --within 22", "reader.model", "reader.h",
                 "cmake --preset release && ctest --preset release -L e2e", "--fusion rrf", "index build --denoise on"):
        assert not known.code(code, "README.md"), f"found wrong: {code}: {known.code(code, 'README.md')}"


def given(known, code, into):
    for words in commands_of(code):
        while words and re.fullmatch(r"[A-Z][A-Z0-9_]*=.*", words[0]):
            words = words[1:]
        if words and words[0] == "lectern":
            wrong, path, flags = known.program(words[1:])
            if not wrong:
                into.setdefault(path, set()).update(flags)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lectern", required=True)
    parser.add_argument("--source", required=True)
    parser.add_argument("--build", required=True)
    parser.add_argument("--run", nargs="*", default=[], help="pages whose console blocks are run")
    args = parser.parse_args()
    known = Known(args.lectern, args.source, args.build)
    check_the_check(known)
    run, promised, failures, count = {}, [], [], 0
    for folder, _, files in os.walk(os.path.join(args.source, "tests/e2e")):
        for name in files:
            if name.endswith(".e2e"):
                with open(os.path.join(folder, name), encoding="utf-8") as f:
                    for line in f:
                        if line.startswith("$ "):
                            given(known, line[2:], run)
    for page in pages(args.source):
        with open(os.path.join(args.source, page), encoding="utf-8") as f:
            text = f.read()
        for line, kind, code in shown(text):
            count += 1
            if kind == "console":
                given(known, code, run)
                if page not in args.run:
                    failures.append(f"{page}:{line}: no test runs this page: {code}")
                continue
            failures += [f"{page}:{line}: {wrong}: {code}" for wrong in known.code(code, page)]
            if kind == "inline" and (page.startswith("docs/") or "/" not in page):
                shows = {}
                given(known, code, shows)
                promised += [(page, line, path, flags) for path, flags in shows.items()]
    for page, line, path, flags in promised:
        if path not in run and (path, "") not in NOT_RUN and path in known.words and not {w for w in known.words[path] if not w.startswith("--")}:
            failures.append(f"{page}:{line}: no test runs `lectern {path}`")
        failures += [f"{page}:{line}: no test runs `lectern {path} {flag}`" for flag in sorted(flags - run.get(path, set())) if (path, flag) not in NOT_RUN]
    for path, flag in NOT_RUN:
        if flag in run.get(path, set()) or flag not in known.words[path]:
            failures.append(f"NOT_RUN is out of date: {path} {flag}")
    print("\n".join(failures) or f"{count} commands and names as they are shown")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
