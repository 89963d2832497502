#!/bin/sh
# Checks the system packages the project needs; installs them where it may, else names them in one line.
# usage: deps.sh [test]    with `test` those that only tests need, without which these tests fail or are skipped
set -eu
missing=""
if [ "${1:-}" = test ]; then
    command -v bwrap >/dev/null 2>&1 || missing="$missing bubblewrap"
    browser=""
    for name in chromium chromium-browser google-chrome google-chrome-stable; do
        command -v "$name" >/dev/null 2>&1 && browser=$name
    done
    [ -n "$browser" ] || missing="$missing chromium"
    otherwise="tests that need bubblewrap will fail, those that need a browser are skipped"
else
    command -v g++ >/dev/null 2>&1 || missing="$missing g++"
    command -v lscpu >/dev/null 2>&1 || missing="$missing util-linux"
    python=${PYTHON:-python3}
    "$python" -c 'import sys; sys.exit(not ((3, 11) <= sys.version_info[:2] < (3, 13)))' 2>/dev/null || {
        echo "needs CPython 3.11 or 3.12 as '$python'; found: $("$python" --version 2>&1 || true). Set PYTHON=/path/to/python3.11"
        exit 1
    }
    include=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
    [ -f "$include/Python.h" ] || missing="$missing python3-dev"
    "$python" -c 'import venv, ensurepip' 2>/dev/null || missing="$missing python3-venv"
    otherwise=""
fi
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing system packages:$missing"
    apt-get update -qq || true
    left=""
    for package in $missing; do
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$package" || left="$left $package"
    done
    [ -z "$left" ] && exit 0
    missing=$left
fi
echo "missing system packages; run: sudo apt-get install$missing${otherwise:+ ($otherwise)}"
[ -n "$otherwise" ]
