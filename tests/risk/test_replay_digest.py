# SPDX-License-Identifier: GPL-3.0-or-later
"""A journal over 300 instruments replays to the same bytes whatever numpy does underneath.

The journal is made here by seeded traders: perpetuals, futures and options of two underlyings, standard and portfolio
margin, resting orders, moving prices and surfaces, liquidations, epochs. A fresh interpreter then folds it again, with
numpy's optional CPU features taken away one after another, and under the oldest numpy that is allowed.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import venv
from pathlib import Path

import msgspec
import pytest

from clearing.core.sweep import sweep
from clearing.model import commands as c
from clearing.model import ids
from clearing.model import outcomes as o
from clearing.model.params import Instrument, Params
from tests.core import venue as v

ROOT = Path(__file__).resolve().parents[2]
OLDEST_NUMPY = "1.26.4"
SPOTS = {v.BTC: 60_000_000, v.ETH: 3_000_000}
NAMES = {v.BTC: "BTC", v.ETH: "ETH"}
EXPIRIES = tuple(v.START_US + days * v.DAY for days in (2, 9, 30, 180))
STRIKES = tuple(range(60, 150, 5))
TRADERS = [f"trader{number}" for number in range(10)]
# Folds the file it is given; prints the digest of all outcomes and the state, and the CPU features in use.
PROGRAM = """
import hashlib, sys
import msgspec, numpy
from clearing.core.reducer import Reducer
from clearing.core.snapshot import dump
from clearing.model.codec import decode_any_envelope, encode
try:
    from numpy._core import _multiarray_umath as inner
except ImportError:
    from numpy.core import _multiarray_umath as inner
found, reducer = hashlib.sha256(), None
for time_us, raw in msgspec.msgpack.decode(open(sys.argv[1], "rb").read()):
    envelope, body = decode_any_envelope(raw)
    reducer = reducer or Reducer(body)
    found.update(encode(reducer.apply(time_us, envelope, body)))
found.update(dump(reducer.state))
used = [name for name in inner.__cpu_dispatch__ if inner.__cpu_features__[name]]
print(found.hexdigest(), numpy.__version__, len(reducer.state.instruments), *used)
"""


def instruments() -> tuple[Instrument, ...]:
    """Two perpetuals, eight futures, and calls and puts at 18 strikes of 4 expiries of 2 underlyings: 298 in all."""
    found = list(v.INSTRUMENTS)
    number = 100
    for under, spot in SPOTS.items():
        for expiry_us in EXPIRIES:
            found.append(v.future(number, expiry_us, NAMES[under], 1_000))
            number += 1
            for percent in STRIKES:
                for is_call in (True, False):
                    found.append(v.option(number, spot * percent // 100, expiry_us, is_call, NAMES[under]))
                    number += 1
    return tuple(found)


def vote(venue: v.Venue, dice: random.Random, spots: dict[int, int]) -> None:
    """Prices and all surfaces, moved a little."""
    for under in spots:
        spots[under] = spots[under] * dice.randrange(970, 1_031) // 1_000
    surfaces = []
    for under, spot in spots.items():
        strikes = tuple(SPOTS[under] * percent // 100 for percent in STRIKES)
        for at, expiry_us in enumerate(EXPIRIES):
            vols = tuple(dice.randrange(450, 900) / 1_000 for _ in strikes)
            surfaces.append(v.surface(under, expiry_us, spot * (1_000 + at) // 1_000, strikes, vols, 0.03))
    venue.advance(v.SECOND)
    venue.oracle(dict(spots), surfaces=tuple(surfaces))


def trade(venue: v.Venue, dice: random.Random, count: int) -> int:
    """Random orders around the marks; returns the number of fills."""
    markets = [inst for inst in venue.state.instruments.values() if inst.mark > 2_000]
    fills = 0
    for _ in range(count):
        inst, side = dice.choice(markets), dice.randrange(2)
        away = inst.mark * dice.randrange(-20, 21) // 1_000
        price = max(1, (inst.mark + away) // inst.tick) * inst.tick
        out = venue.do(dice.choice(TRADERS), venue.order(side, price, dice.randrange(1, 60), inst.id))
        fills += sum(isinstance(x, o.TradeNovated) for x in out)
    return fills


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The journal as a file of [time, envelope], and beside it the digest of the venue that wrote it."""
    dice = random.Random(300)
    venue = v.Venue(Params(max_positions=200), instruments())
    for number, name in enumerate(TRADERS):
        venue.fund(name, (40_000 if number % 3 else 400_000) * v.USD)
    spots = dict(SPOTS)
    vote(venue, dice, spots)
    for name in TRADERS[::2]:
        assert not v.codes(venue.do(name, c.SetMarginMode(ids.PORTFOLIO)))
    fills = steps = 0
    for _ in range(3):
        fills += trade(venue, dice, 200)
        vote(venue, dice, spots)
        for number, scenario in sweep(venue.state):
            steps += not v.codes(venue.operator(c.Liquidate(number, scenario)))
        venue.close_epoch()
    assert fills > 10, f"only {fills} fills: the journal shows too little"
    path = tmp_path_factory.mktemp("digest") / "journal"
    path.write_bytes(msgspec.msgpack.encode([(entry.time_us, entry.raw) for entry in venue.journal]))
    return path


def fold(journal: Path, python: str = sys.executable, **env: str) -> list[str]:
    """Digest, numpy version, number of instruments and CPU features in use, of a fresh interpreter."""
    settled = {**os.environ, "PYTHONPATH": str(ROOT), **env}
    done = subprocess.run(
        [python, "-c", PROGRAM, str(journal)], env=settled, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.slow
def test_replay_without_simd(journal: Path) -> None:
    """Outcomes and final state are the same bytes with numpy's fast paths taken away, from the strongest down."""
    digest, _, count, *used = fold(journal)
    assert int(count) >= 298
    assert fold(journal)[0] == digest
    if not used:
        pytest.skip("numpy uses no optional CPU features on this machine")
    for first in range(len(used)):
        found, _, _, *left = fold(journal, NPY_DISABLE_CPU_FEATURES=" ".join(used[first:]))
        assert not set(used[first:]) & set(left), "the features were not disabled, so nothing was tested"
        assert found == digest, used[first:]


@pytest.mark.slow
def test_replay_on_the_oldest_numpy(journal: Path, tmp_path: Path) -> None:
    """The oldest numpy that is allowed gives the same bytes as the one that is installed."""
    venv.create(tmp_path / "old", with_pip=True)
    python = str(tmp_path / "old" / "bin" / "python")
    wanted = [f"numpy=={OLDEST_NUMPY}", f"msgspec=={msgspec.__version__}", "pynacl"]
    install = [python, "-m", "pip", "install", "--quiet", "--only-binary=:all:", *wanted]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"pip cannot install numpy {OLDEST_NUMPY} here: {done.stderr.strip()[-200:]}")
    digest, version, *_ = fold(journal, python)
    assert version == OLDEST_NUMPY
    assert digest == fold(journal)[0]
