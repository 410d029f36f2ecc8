# SPDX-License-Identifier: GPL-3.0-or-later
"""What leaving costs on chain: one asset, 20 levels of siblings with non-zero sums, on the embedded EVM.

The scene is the contract tests' own: a full tree, an owner who is owed an exit and a withdrawal, and
whose token balance was zero before, which is the dearest case. Gas is exact: one round is all of them.
"""

import contextlib
import io
import random

from tools.bench.measure import Figure, Plan, at_most

CLAIM_GAS = 115_000
ESCAPE_GAS = 150_000


def gas(plan: Plan) -> list[Figure]:
    from tests.contract.chain import Chain, Embedded
    from tests.contract.test_gas import crowded
    from tests.contract.world import VAULT

    with contextlib.redirect_stdout(io.StringIO()):
        chain = Chain(Embedded())
        world, proof, _ = crowded(chain, random.Random(7), 1)
        with chain.sandbox():
            claim = chain.send(VAULT, world.vault, "claim", *proof.arguments()).gas_used
        world.freeze()
        escape = chain.send(VAULT, world.vault, "escape", *proof.arguments()).gas_used
    return [_row("exit", escape, ESCAPE_GAS), _row("claim", claim, CLAIM_GAS)]


def _row(name: str, used: int, limit: int) -> Figure:
    title = f"{name} gas, one asset, 20 levels"
    row = at_most(title, "gas used / limit", 1.0, [used / limit], f"{used:,} gas", f"{limit:,} gas")
    return row
