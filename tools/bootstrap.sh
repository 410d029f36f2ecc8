#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Make the environment from uv.lock, where only python3, pip and make can be counted on.
#   tools/bootstrap.sh [arguments for `uv sync`, such as --group bench]
# Order: uv from PATH; else uv fetched with pip into .tools (--target needs no venv module and is
# allowed where Debian marks Python as externally managed); else a virtual environment and pip,
# held to the locked versions. Nothing is written outside this directory.
#
#   PYTHON                  the interpreter to use (default: the first of python3, python3.11 ... that fits)
#   UV_PROJECT_ENVIRONMENT  where the environment goes (default .venv)
#   NOVATE_BOOTSTRAP=pip    skip uv
set -euo pipefail
cd "$(dirname "$0")/.."

UV_PIN=0.13.9
ENV_DIR=${UV_PROJECT_ENVIRONMENT:-.venv}
export UV_PROJECT_ENVIRONMENT=$ENV_DIR UV_PYTHON_DOWNLOADS=never
# A user's or Debian's `user = true` cannot be combined with --target.
export PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

say() { printf 'bootstrap: %s\n' "$*" >&2; }
die() { printf 'bootstrap: error: %s\n' "$1" >&2; shift; for line in "$@"; do printf '  %s\n' "$line" >&2; done; exit 1; }

fits() {
    command -v "$1" >/dev/null 2>&1 &&
        "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))' >/dev/null 2>&1
}

find_python() {
    local candidate
    if [ -n "${PYTHON:-}" ]; then
        fits "$PYTHON" || die "PYTHON=$PYTHON is not a working Python 3.11 to 3.14"
        printf '%s' "$PYTHON"
        return
    fi
    for candidate in python3 python3.13 python3.12 python3.11 python3.14; do
        if fits "$candidate"; then printf '%s' "$candidate"; return; fi
    done
    die "no Python 3.11 to 3.14 found; python3 is $(python3 --version 2>&1 || echo missing)" \
        "Debian 12 or later, Ubuntu 23.04 or later:  sudo apt-get install python3 python3-pip" \
        "Older ones: install uv (https://docs.astral.sh/uv/), run \`uv python install 3.12\`, then" \
        "\`make setup PYTHON=\$(uv python find 3.12)\`." \
        "If it is installed elsewhere: make setup PYTHON=/path/to/python3.12"
}

# Any Python's pip can fetch uv: its wheel holds one static program.
fetch_uv() {
    local pip
    for pip in "$PY -m pip" "python3 -m pip" "pip3" "pip"; do
        $pip --version >/dev/null 2>&1 || continue
        say "fetching uv $UV_PIN with $pip into .tools"
        rm -rf .tools/uv.tmp
        if $pip install --quiet --target .tools/uv.tmp "uv==$UV_PIN" >.tools/pip.log 2>&1; then
            rm -rf .tools/uv && mv .tools/uv.tmp .tools/uv
            return 0
        fi
        say "$pip could not install uv: $(tail -n 1 .tools/pip.log)"
    done
    return 1
}

find_uv() {
    if command -v uv >/dev/null 2>&1 && uv --version >/dev/null 2>&1; then UV=uv; return 0; fi
    UV=.tools/uv/bin/uv
    [ "$($UV --version 2>/dev/null | cut -d' ' -f2)" = "$UV_PIN" ] && return 0
    fetch_uv && $UV --version >/dev/null 2>&1
}

# name==version of every package that the lock knows in one version only.
locked_versions() {
    "$PY" - <<'PY'
import collections
import pathlib
import tomllib

versions = collections.defaultdict(list)
for package in tomllib.loads(pathlib.Path("uv.lock").read_text())["package"]:
    if "registry" in package["source"]:
        versions[package["name"]].append(package["version"])
print("\n".join(f"{name}=={found[0]}" for name, found in sorted(versions.items()) if len(found) == 1))
PY
}

sync_with_pip() {
    say "falling back to a virtual environment and pip, at the locked versions but without their hashes"
    if [ ! -x "$ENV_DIR/bin/python" ] || ! "$ENV_DIR/bin/python" -m pip --version >/dev/null 2>&1; then
        rm -rf "$ENV_DIR"
        if ! "$PY" -m venv "$ENV_DIR" >.tools/venv.log 2>&1; then
            rm -rf "$ENV_DIR"
            "$PY" -m pip install --quiet --target .tools/virtualenv virtualenv >>.tools/venv.log 2>&1 &&
                PYTHONPATH=.tools/virtualenv "$PY" -m virtualenv --quiet "$ENV_DIR" >>.tools/venv.log 2>&1 ||
                die "cannot make a virtual environment (see .tools/venv.log)" \
                    "Debian, Ubuntu: sudo apt-get install python3-venv python3-pip; then run make again"
        fi
    fi
    local groups=(--group dev)
    while [ $# -gt 0 ]; do
        case "$1" in
            --group) groups+=(--group "$2"); shift 2 ;;
            *) die "without uv, bootstrap understands --group NAME only, not $1" ;;
        esac
    done
    locked_versions >.tools/constraints.txt
    # --group needs pip 25.1.
    "$ENV_DIR/bin/python" -m pip install --quiet --upgrade 'pip>=25.1' &&
        "$ENV_DIR/bin/python" -m pip install --quiet --constraint .tools/constraints.txt --editable '.[all]' "${groups[@]}" ||
        die "pip could not install the dependencies (its message is above)" \
            "Check the network and proxy (PIP_INDEX_URL, HTTPS_PROXY); then run make again"
}

PY=$(find_python)
mkdir -p .tools
say "$("$PY" --version 2>&1), environment $ENV_DIR"
if [ "${NOVATE_BOOTSTRAP:-uv}" = uv ] && find_uv; then
    say "installing the locked packages"
    "$UV" sync --frozen --quiet --python "$PY" "$@" ||
        die "uv could not install the locked dependencies (its message is above)" \
            "Check the network and proxy (UV_DEFAULT_INDEX, HTTPS_PROXY, SSL_CERT_FILE); then run make again" \
            "Without uv: NOVATE_BOOTSTRAP=pip make setup"
else
    sync_with_pip "$@"
fi
say "ready"
