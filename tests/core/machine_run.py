# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the risk machine by seed, and make a failing run shorter.

`python -m tests.core.machine_run SEED STEPS [RUNS]` runs SEED, SEED+1, ...; the first failure is shrunk and shown.
"""

from __future__ import annotations

import random
import sys
import time
import traceback
from collections.abc import Sequence

from clearing.core.reducer import Reducer
from clearing.core.snapshot import dump, load
from clearing.core.sweep import sweep
from tests.core import venue as v
from tests.core.machine_steps import STEPS, Watched, clock

_NAMES = [step for step, _ in STEPS]
_WEIGHTS = [weight for _, weight in STEPS]


def step_of(seed: int, number: int) -> tuple[int, random.Random]:
    """(which step, its own generator) of a number in a seed's run; the same whatever came before."""
    rng = random.Random(f"{seed}/{number}")
    return rng.choices(range(len(STEPS)), _WEIGHTS)[0], rng


def run(seed: int, steps: Sequence[int]) -> Watched:
    """These steps of a seed's run, and the end of it. Raises whatever goes wrong."""
    world = Watched(f"world {seed}")
    for number in steps:
        which, rng = step_of(seed, number)
        _NAMES[which](world, rng)
    finish(world, random.Random(f"{seed}/end"))
    return world


def finish(world: Watched, rng: random.Random) -> None:
    """Prices come back, everything due is done, the epoch closes; then the journal is folded again, from the start and
    from a snapshot of the last but one epoch and of any, to the same bytes."""
    world.everybody_votes(rng)
    world.close_epoch()
    clock(world, rng)
    live = dump(world.state)
    final = v.replay(world.journal).state
    assert dump(final) == live
    assert sweep(final) == sweep(world.state)
    for length, payload, closed in {0: world.snapshots[-1], 1: rng.choice(world.snapshots)}.values():
        restored = load(payload, closed)
        assert dump(restored) == payload
        tail = v.replay(world.journal[length:], Reducer(state=restored))
        assert dump(tail.state) == live
        assert sweep(tail.state) == sweep(world.state)


def fault(seed: int, steps: Sequence[int]) -> str:
    """ "" or the innermost frame of the failure, so that shrinking does not wander to another."""
    try:
        run(seed, steps)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what we look for
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} {frame.filename}:{frame.lineno}"
    return ""


def shrink(seed: int, steps: list[int], seconds: float = 120.0) -> list[int]:
    """Leave out ever smaller pieces while the same fault remains."""
    wanted, size, end = fault(seed, steps), len(steps) // 2, time.monotonic() + seconds
    while size and wanted:
        at = len(steps) - size
        while at > -size and time.monotonic() < end:
            shorter = steps[: max(0, at)] + steps[max(0, at) + size :]
            if fault(seed, shorter) == wanted:
                steps = shorter
            at -= size
        size //= 2
    return steps


def main() -> None:
    first, length, runs = int(sys.argv[1]), int(sys.argv[2]), int((*sys.argv, "1")[3])
    totals: dict[str, int] = {}
    for seed in range(first, first + runs):
        began = time.monotonic()
        try:
            world = run(seed, range(length))
        except Exception:  # noqa: BLE001 - shown and shrunk
            traceback.print_exc()
            steps = shrink(seed, list(range(length)))
            print(f"seed {seed}: steps {steps}: {[_NAMES[step_of(seed, n)[0]].__name__ for n in steps]}")
            print(fault(seed, steps))
            continue
        print(f"seed {seed}: {len(world.journal)} entries, {time.monotonic() - began:.1f} s", flush=True)
        for name, count in world.counts.items():
            totals[name] = totals.get(name, 0) + count
    print(dict(sorted(totals.items())))


if __name__ == "__main__":
    main()
