#!/usr/bin/env bash
# Installs the Debian packages that building, running or testing needs; does nothing where they are there.
#   scripts/packages.sh build|test
# As root, or with sudo. Without either it names what is missing and the command that installs it (exit code 1).
set -euo pipefail
build=(g++ cmake ninja-build ccache pkg-config python3 python3-pip xz-utils
  libfaiss-dev libopenblas-dev librocksdb-dev libabsl-dev libboost1.81-dev libdnnl-dev libicu-dev libstemmer-dev
  libcli11-dev libtomlplusplus-dev libfmt-dev libsimdjson-dev nlohmann-json3-dev libgumbo-dev libcmark-dev
  libpoppler-cpp-dev libzstd-dev libxxhash-dev libssl-dev zlib1g-dev liblzma-dev
  libsnappy-dev liblz4-dev libbz2-dev libgflags-dev)
testing=(libgtest-dev libgmock-dev clang-format-14 git jq procps)
case "${1:-build}" in
  build) wanted=("${build[@]}") ;;
  test) wanted=("${build[@]}" "${testing[@]}") ;;
  *) echo "usage: scripts/packages.sh build|test" >&2; exit 2 ;;
esac
missing=()
for package in "${wanted[@]}"; do
  [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0
if [ "$(id -u)" = 0 ]; then
  run=()
elif command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
  run=(sudo)
else
  echo "These packages are missing, and this user is neither root nor has sudo. Ask an administrator to run:" >&2
  echo "  apt-get install --no-install-recommends ${missing[*]}" >&2
  exit 1
fi
echo "installing ${#missing[@]} packages: ${missing[*]}"
# CMake needs neither a running service nor documentation, so nothing asks and nothing is recommended.
"${run[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq
"${run[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
