# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds of the package and environments to install them into, away from the checkout.

Rules: what is built is a copy of the tree as git would commit it, so that a test neither sees nor leaves anything in
the checkout. Environments take the locked versions, from the index that pip and uv are set up for.
"""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.packaging.reach import ROOT

EPOCH = "1767312000"  # any moment will do; both builds of a comparison have the same


def environment(**more: str) -> dict[str, str]:
    """The caller's variables without any that would lead back to the checkout."""
    dropped = ("NOVATE_", "PYTHON", "PIP_", "VIRTUAL_ENV", "UV_PROJECT", "MAKE", "_NOVATE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    indexes = {name: value for name, value in os.environ.items() if name.startswith("PIP_") and "INDEX" in name}
    return kept | indexes | {"PYTHONDONTWRITEBYTECODE": "1"} | more


def call(command: Sequence[str | Path], cwd: Path, **more: str) -> "subprocess.CompletedProcess[str]":
    """Run a program that must succeed."""
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, cwd=cwd, env=environment(**more), timeout=900
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
    return done


def copy_tree(target: Path) -> Path:
    """The files of the checkout that git has or would take, at `target`."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listing.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target / name)
    return target


def build(source: Path, output: Path, *kinds: str) -> list[Path]:
    """Build a tree as `make dist` does; the files, by name."""
    command = [sys.executable, "-m", "build", "--no-isolation", *(f"--{kind}" for kind in kinds)]
    call([*command, "--outdir", str(output), str(source)], source, SOURCE_DATE_EPOCH=EPOCH)
    return sorted(output.iterdir())


def _uv() -> str | None:
    fetched = ROOT / ".tools" / "uv" / "bin" / "uv"
    return shutil.which("uv") or (str(fetched) if fetched.is_file() else None)


def locked() -> str:
    """name==version of each package that the lock has in one version."""
    versions = defaultdict(list)
    for package in tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))["package"]:
        if "registry" in package["source"]:
            versions[package["name"]].append(package["version"])
    return "".join(f"{name}=={found[0]}\n" for name, found in sorted(versions.items()) if len(found) == 1)


@dataclass
class Installed:
    """A virtual environment with `novate` in it, used from a folder of its own."""

    folder: Path

    @property
    def bin(self) -> Path:
        return self.folder / "venv" / "bin"

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def run(self, *words: str | Path, **more: str) -> "subprocess.CompletedProcess[str]":
        """`novate` with these arguments, as somebody who has never seen the checkout."""
        command = [str(self.bin / "novate"), *map(str, words)]
        given = environment(HOME=str(self.home), **more)
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.home, env=given, timeout=300)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def ok(self, *words: str | Path, **more: str) -> str:
        """`run` that must succeed; what it printed."""
        done = self.run(*words, **more)
        assert done.returncode == 0, f"novate {' '.join(map(str, words))}: {done.stdout[-1500:]}{done.stderr[-1500:]}"
        return done.stdout

    def python(self, code: str) -> str:
        """What a program printed in this environment."""
        return call([self.bin / "python", "-c", code], self.home).stdout

    @cached_property
    def packages(self) -> dict[str, int]:
        """Bytes on disk of every distribution here, novate's own not counted."""
        code = (
            "import json, pathlib; from importlib.metadata import distributions as all\n"
            "size = lambda d: sum(p.stat().st_size for f in d.files or () for p in [pathlib.Path(d.locate_file(f))]"
            " if p.is_file() and p.suffix != '.pyc')\n"
            "ours = ('novate', 'pip', 'setuptools')\n"
            "print(json.dumps({d.name.lower(): size(d) for d in all() if d.name not in ours}))"
        )
        found: dict[str, Any] = json.loads(self.python(code))
        return {name: int(size) for name, size in found.items()}


def install(folder: Path, requirement: str) -> Installed:
    """A fresh environment with `requirement`, such as "/tmp/novate-0.1.0-py3-none-any.whl[server]"."""
    made = Installed(folder)
    made.home.mkdir(parents=True)
    constraints = folder / "constraints.txt"
    constraints.write_text(locked())
    uv = _uv()
    if uv is not None:
        call([uv, "venv", "--quiet", "--no-config", "--python", sys.executable, folder / "venv"], folder)
        call([uv, "pip", "install", "--quiet", "--no-config", "--python", made.bin / "python",
              "--constraint", constraints, requirement], folder)  # fmt: skip
    else:
        call([sys.executable, "-m", "venv", folder / "venv"], folder)
        call([made.bin / "python", "-m", "pip", "install", "--quiet", "-c", constraints, requirement], folder)
    return made
