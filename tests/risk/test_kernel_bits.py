# SPDX-License-Identifier: GPL-3.0-or-later
"""The same bits everywhere: one option or many, with or without SIMD, on old and new numpy."""

import os
import random
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearing.core.risk import kernel, kernel_check
from clearing.core.risk.kernel import UNIT, YEAR_US
from clearing.model.errors import NovateError

ROOT = Path(__file__).resolve().parents[2]
OLDEST_NUMPY = "1.26.4"
OPTIONS = 20_000
# The digest, and which of numpy's optional CPU features are in use.
CODE = """
import numpy
from clearing.core.risk import kernel_check
try:
    from numpy._core import _multiarray_umath as inner
except ImportError:
    from numpy.core import _multiarray_umath as inner
used = [name for name in inner.__cpu_dispatch__ if inner.__cpu_features__[name]]
print(kernel_check.digest().hex(), numpy.__version__, *used)
"""


def _run(python: str = sys.executable, **env: str) -> list[str]:
    """Digest, numpy version and the CPU features in use, of a fresh interpreter."""
    settled = {**os.environ, "PYTHONPATH": str(ROOT), **env}
    shown = subprocess.run([python, "-c", CODE], env=settled, cwd=ROOT, capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    return shown.stdout.split()


def _magnitudes(draw: random.Random, bits: int) -> int:
    return draw.randrange(1, 1 << draw.randrange(1, bits + 1))


def _option(draw: random.Random) -> tuple[int, int, int, int, bool, int]:
    """Half realistic, half anything that fits; some without vol or time."""
    if draw.random() < 0.5:
        forward = draw.randrange(10**6, 10**12)
        strike = max(1, int(forward * draw.uniform(0.3, 3)))
        vol, tau_us = draw.randrange(10**10, 10**13), int(YEAR_US * 10 ** draw.uniform(-7, 0.7))
        return forward, strike, vol, tau_us, draw.random() < 0.5, draw.randrange(0, UNIT // 5)
    rate = draw.choice([0, 1, -1]) * _magnitudes(draw, 62)
    vol, tau_us = _magnitudes(draw, 62) - 2, _magnitudes(draw, 62) - 2
    return _magnitudes(draw, 50), _magnitudes(draw, 50), vol, tau_us, draw.random() < 0.5, rate


def test_arrays_equal_scalars_bit_for_bit() -> None:
    """Values, all Greeks and logarithms of 20,000 options: numpy gives what CPython gives."""
    draw = random.Random(754)
    table = [_option(draw) for _ in range(OPTIONS)]
    forward, strike, vol, tau_us, is_call, rate = (list(column) for column in zip(*table, strict=True))
    with np.errstate(all="raise", under="ignore"):
        worth = kernel.values(forward, strike, vol, tau_us, is_call)
        fine = kernel.values(forward, strike, vol, tau_us, is_call, 11)
        greeks = kernel.greeks_array(forward, strike, vol, tau_us, is_call, rate)
        logs = kernel.log_ratios(strike, forward)
    assert worth.tolist() == [kernel.value(*option[:5]) for option in table]
    assert fine.tolist() == [kernel.value(*option[:5], scale_bits=11) for option in table]
    assert logs.tolist() == [kernel.log_ratio(option[1], option[0]) for option in table]
    rows = list(zip(*(column.tolist() for column in greeks), strict=True))
    wrong = [(option, row) for option, row in zip(table, rows, strict=True) if row != kernel.greeks(*option)]
    assert wrong == []
    assert sum(row[0] != 0 for row in rows) > OPTIONS // 2, "most options must be worth something to compare"


@given(
    forwards=st.lists(st.integers(1, 1 << 50), min_size=1, max_size=4),
    strikes=st.lists(st.integers(1, 1 << 50), min_size=1, max_size=4),
    vol=st.integers(-1, 1 << 62), tau_us=st.integers(-1, 1 << 62), is_call=st.booleans(),
    rate=st.integers(-(1 << 62), 1 << 62),
)  # fmt: skip
@settings(max_examples=200)
def test_arrays_broadcast(
    forwards: list[int], strikes: list[int], vol: int, tau_us: int, is_call: bool, rate: int
) -> None:
    """Columns against rows and plain ints, as in a risk array of strikes by scenarios."""
    column = np.array(strikes, dtype=np.int64)[:, None]
    worth = kernel.values(forwards, column, vol, tau_us, is_call)
    greeks = kernel.greeks_array(forwards, column, vol, tau_us, is_call, rate)
    assert worth.tolist() == [[kernel.value(f, k, vol, tau_us, is_call) for f in forwards] for k in strikes]
    for name, figures in greeks._asdict().items():
        plain = [[getattr(kernel.greeks(f, k, vol, tau_us, is_call, rate), name) for f in forwards] for k in strikes]
        assert figures.tolist() == plain, name


def test_blocks_do_not_show() -> None:
    """More options than a block holds give the same as each alone; none at all give none."""
    count = 2 * kernel._BLOCK + 3
    strikes = np.arange(1, count + 1, dtype=np.int64) * 10_000_000
    worth = kernel.values(50_000_000_000, strikes, UNIT, YEAR_US, True)
    for at in (0, kernel._BLOCK - 1, kernel._BLOCK, count - 1):
        assert worth[at] == kernel.value(50_000_000_000, int(strikes[at]), UNIT, YEAR_US, True)
    assert kernel.values(np.empty((0, 3)), 1, 1, 1, True).shape == (0, 3)
    assert kernel.values(7, 7, UNIT, YEAR_US, True).shape == ()


def test_dead_options_leave_the_others_alone() -> None:
    """An array in which every option lives skips what corrects dead ones; with an expired one and one without
    vol among them it does not, and the others keep their bits."""
    live = [(50_000_000_000, 40_000_000_000 + at * 10**9, UNIT // 2, YEAR_US // (at + 1)) for at in range(20)]
    mixed = [*live, (50_000_000_000, 50_000_000_000, UNIT // 2, 0), (50_000_000_000, 45_000_000_000, 0, YEAR_US)]
    for options in (live, mixed):
        for is_call in (True, False):
            forward, strike, vol, tau_us = np.array(options).T
            figures = kernel.greeks_array(forward, strike, vol, tau_us, is_call, UNIT // 20)
            alone = [kernel.greeks(*option, is_call, UNIT // 20) for option in options]
            assert list(zip(*(column.tolist() for column in figures), strict=True)) == alone


def test_known_answers() -> None:
    """This machine computes the recorded bits."""
    kernel_check.require()
    assert kernel_check.digest() == kernel_check.EXPECTED


@pytest.mark.parametrize("name", ["_PHI_0", "_P3", "_Q0", "_L0", "_LN2_HIGH"])
def test_a_last_bit_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One ulp in one constant of one form is enough to refuse, with advice."""
    monkeypatch.setattr(kernel, name, float(np.nextafter(getattr(kernel, name), 9)))
    with pytest.raises(NovateError, match="official CPython and numpy") as caught:
        kernel_check.require()
    assert caught.value.code == "KERNEL_BITS_DIFFER"


def test_digest_without_simd() -> None:
    """Disabling numpy's AVX2, FMA and AVX512 code, alone and together, changes no bit."""
    found, _, *used = _run()
    assert found == kernel_check.EXPECTED.hex()
    if not used:
        pytest.skip("numpy uses no optional CPU features on this machine")
    # From the strongest down: each name goes off with all that build upon it.
    for first in range(len(used)):
        off = used[first:]
        digest, _, *left = _run(NPY_DISABLE_CPU_FEATURES=" ".join(off))
        assert not set(off) & set(left), "the features were not disabled, so nothing was tested"
        assert digest == kernel_check.EXPECTED.hex(), off


@pytest.mark.slow
def test_digest_on_the_oldest_numpy(tmp_path: Path) -> None:
    """The oldest numpy that pyproject.toml allows gives the same bits."""
    venv.create(tmp_path / "old", with_pip=True)
    python = str(tmp_path / "old" / "bin" / "python")
    wanted = [f"numpy=={OLDEST_NUMPY}"]
    install = [python, "-m", "pip", "install", "--quiet", "--only-binary=:all:", *wanted]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"pip cannot install numpy {OLDEST_NUMPY} here: {done.stderr.strip()[-200:]}")
    digest, version, *_ = _run(python)
    assert version == OLDEST_NUMPY
    assert digest == kernel_check.EXPECTED.hex()
