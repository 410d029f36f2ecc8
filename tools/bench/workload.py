# SPDX-License-Identifier: GPL-3.0-or-later
"""A venue filled without signatures, and reproducible order streams for it."""

import random
from typing import NamedTuple

from clearing.core.accounts import open_account, owner_of
from clearing.core.reducer import RULES_VERSION, Reducer
from clearing.core.state import SessionKey, State
from clearing.model import codec, ids, signature
from clearing.model import commands as c
from clearing.model.params import Instrument, Params

DEPLOYMENT = b"bench-deployment-bench-deploymen"
OPERATOR = b"bench-operator-key-bench-operato"
PUBLISHER = b"bench-publisher-key-bench-publis"
NOW = 1_700_000_000_000_000
MID = 100_000
FOREVER = 2**62


def genesis() -> c.Genesis:
    market = Instrument(1, "BTC-PERP", "BTC", 1, 10**9, 50_000, 30_000)
    return c.Genesis(
        rules_version=RULES_VERSION,
        deployment=DEPLOYMENT,
        origin="bench.novate",
        operator_key=signature.public_key_of(OPERATOR),
        operator_address=b"O" * 20,
        treasury=b"T" * 20,
        vaults=(c.Vault(1, b"V" * 20, (b"K" * 20,)),),
        publishers=(signature.public_key_of(PUBLISHER),),
        instruments=(market,),
        params=Params(max_levels=1_000_000),
    )


def member_seed(member: int) -> bytes:
    return b"bench-member" + member.to_bytes(20, "big")


def account_number(member: int) -> int:
    return ids.HOUSE_ACCOUNTS + member


def venue(members: int, *, real_keys: bool) -> Reducer:
    """A reducer with funded members at a fresh mark. Without real keys, signing is impossible."""
    reducer = Reducer(genesis())
    envelope, body = codec.decode_any_envelope(signature.sign(genesis(), OPERATOR))
    reducer.apply(NOW, envelope, body)
    state = reducer.state
    for member in range(members):
        fund(state, member, real_keys)
    market = state.instruments[1]
    market.index = market.mark = MID
    market.index_time = market.funding_time = NOW + 10**12
    return reducer


def fund(state: State, member: int, real_keys: bool) -> None:
    owner = owner_of(state, b"owner" + member.to_bytes(15, "big"))
    account = open_account(state, owner, 0)
    account.cash = account.basis = 10**15
    state.assets[0].held += 10**15
    state.assets[0].deposited += 10**15
    key = key_of(member, real_keys)
    record = SessionKey(key, owner, ids.SCOPE_ALL, FOREVER)
    state.keys[key] = owner.keys[key] = record


def key_of(member: int, real_keys: bool) -> bytes:
    if real_keys:
        return signature.public_key_of(member_seed(member))
    return b"\x01" + member.to_bytes(32, "big")


class Step(NamedTuple):
    member: int
    command: c.PlaceOrder | c.CancelOrder


def order_stream(count: int, members: int, seed: int = 7) -> list[Step]:
    """Two thirds limit orders around the mid (one in six crosses), one third cancels."""
    rng = random.Random(seed)
    live: list[tuple[int, int]] = []
    steps: list[Step] = []
    for number in range(1, count + 1):
        if live and rng.random() < 0.35:
            member, order = live.pop(rng.randrange(len(live)))
            steps.append(Step(member, c.CancelOrder(order)))
            continue
        member, side = rng.randrange(members), rng.randrange(2)
        away = rng.randrange(-8, 40)
        price = MID - away if side == ids.BUY else MID + away
        steps.append(Step(member, c.PlaceOrder(1, side, price, rng.randrange(1, 20), number, stp=0)))
        live.append((member, number))
    return steps


def bodies(steps: list[Step], per_batch: int = 1) -> list[tuple[int, c.MemberBatch]]:
    """Member batches; with `per_batch` > 1 each member's steps are grouped, order kept per member."""
    waiting: dict[int, list[c.PlaceOrder | c.CancelOrder]] = {}
    nonces: dict[int, int] = {}
    found: list[tuple[int, c.MemberBatch]] = []

    def flush(member: int) -> None:
        commands = waiting.pop(member)
        nonces[member] = nonces.get(member, 0) + 1
        batch = c.MemberBatch(DEPLOYMENT, account_number(member), nonces[member], FOREVER, tuple(commands))
        found.append((member, batch))

    for member, command in steps:
        waiting.setdefault(member, []).append(command)
        if len(waiting[member]) >= per_batch:
            flush(member)
    for member in list(waiting):
        flush(member)
    return found


def unsigned(batches: list[tuple[int, c.MemberBatch]]) -> list[bytes]:
    return [
        codec.encode(c.Envelope(codec.encode(batch), key_of(member, False), bytes(64))) for member, batch in batches
    ]


def signed(batches: list[tuple[int, c.MemberBatch]]) -> list[bytes]:
    return [signature.sign(batch, member_seed(member)) for member, batch in batches]
