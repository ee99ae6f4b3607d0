#!/usr/bin/env python3
"""Every member of Abseil's synchronisation that a program of a tsan build calls must be one that base/tsan_absl.cc has, or
one that orders nothing: what is still undefined in the program is called in the library, where ThreadSanitizer is blind.

  tsan_symbols.py BUILD_FOLDER
"""
import os
import re
import subprocess
import sys

ORDERS_NOTHING = {"Mutex::AssertHeld() const", "Mutex::AssertReaderHeld() const"}
SYNCHRONISATION = re.compile(
    r" U absl::\w+::((?:\w*Mutex\w*|CondVar|Notification|BlockingCounter|Barrier|base_internal::(?:SpinLock|CallOnce)\w*)::.*)")


def programs(folder):
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        if os.path.isdir(path) and name != "CMakeFiles":
            yield from programs(path)
        elif os.path.isfile(path) and os.access(path, os.X_OK):
            with open(path, "rb") as file:
                if file.read(4) == b"\x7fELF":
                    yield path


def main():
    count, unseen = 0, []
    for program in programs(sys.argv[1]):
        count += 1
        symbols = subprocess.run(["nm", "--dynamic", "--demangle", program], check=True, capture_output=True, text=True).stdout
        unseen += [f"{program}: {name}" for name in SYNCHRONISATION.findall(symbols) if name not in ORDERS_NOTHING]
    print(f"tsan_symbols: {count} programs, {len(unseen)} calls that ThreadSanitizer does not see")
    sys.exit("\n".join(unseen) if unseen or count == 0 else 0)


if __name__ == "__main__":
    main()
