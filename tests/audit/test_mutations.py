# SPDX-License-Identifier: GPL-3.0-or-later
"""Tampered journals, each canonically encoded and numbered anew, so that hashes and tree are whole and only an audit
can notice. Every one is caught, and at the right address."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from clearing.audit.replay import ReplayReport, replay
from clearing.audit.source import StoreSource
from clearing.model import commands as c
from clearing.model import outcomes as o
from clearing.model.codec import decode_any_envelope, decode_entry, encode, encode_entry
from clearing.model.errors import NovateError
from clearing.model.signature import sign
from journal import Store
from journal.fsck import fsck
from proofs.log import leaf_hash
from proofs.log import root as log_root
from tests.audit.stories import NAMES, OPERATOR, Story, renumbered, story
from tests.core.venue import seed_of

Found = tuple[str, int]
PLACES = [
    name if name in ("golden", "adl", "portfolio") else pytest.param(name, marks=pytest.mark.slow) for name in NAMES
]
SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 20))]


def audited(entries: list[bytes]) -> ReplayReport:
    return replay(enumerate(entries))


def caught(told: Story, tampered: list[bytes]) -> Found:
    """(how, entry) of the first thing an auditor finds: a divergence; else the first posted header that is not the
    tampered journal's, at the entry that closed its epoch; else the signed checkpoint, at the journal's end."""
    report = audited(tampered)
    if report.divergence is not None:
        return report.divergence.what, report.divergence.seq
    for mine, posted in zip(report.epochs, told.posted, strict=False):
        if mine.header_hashes != posted.header_hashes:
            return "HEADER", mine.journal_size - 1
    assert report.root != told.root, "a tampered journal passed for the honest one"
    return "CHECKPOINT", report.size


def within(told: Story, seq: int, slack: int = 0) -> range:
    """From an entry to the close of its epoch, where whatever it changed is committed at the latest. After the last
    close only the checkpoint tells, at the end."""
    close = next((at for at in told.closes() if at >= seq), len(told.entries))
    return range(seq, close + slack + 1)


def changed(
    told: Story,
    seq: int,
    outcomes: Callable[[tuple[o.Outcome, ...]], list[o.Outcome]] | None = None,
    envelope: bytes | None = None,
    time_us: int | None = None,
) -> list[bytes]:
    """The journal with one entry written anew."""
    entry = decode_entry(told.entries[seq])
    told_now = outcomes(told.outcomes[seq]) if outcomes is not None else entry.outcomes
    raw = entry.envelope if envelope is None else envelope
    at = entry.time_us if time_us is None else time_us
    data = encode_entry(seq, at, raw, told_now)
    assert data != told.entries[seq]
    return [*told.entries[:seq], data, *told.entries[seq + 1 :]]


def somewhere(told: Story, seed: int, *label: str, least: int = 1) -> tuple[random.Random, int]:
    rng = random.Random(f"{told.name}/{seed}/{'/'.join(label)}")
    return rng, rng.randrange(least, len(told.entries))


# --- whatever the entry ---


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("seed", SEEDS)
def test_one_flipped_byte_is_caught_in_its_entry(name: str, seed: int) -> None:
    """Any byte of any entry, whatever it belongs to. Only a time that is still in order is nobody's but the operator's
    word: it is caught where the next entry is older, or what was posted differs."""
    told = story(name)
    rng, seq = somewhere(told, seed, "flip", least=0)
    data = bytearray(told.entries[seq])
    data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
    tampered = [*told.entries[:seq], bytes(data), *told.entries[seq + 1 :]]
    how, at = caught(told, tampered)
    if only_later(told.entries[seq], bytes(data)):
        assert (how, at) == ("TIME", seq + 1) or (how == "HEADER" and at in within(told, seq))
    else:
        assert at == seq and how in ("ENCODING", "SEQUENCE", "ADMISSION", "SIGNATURE", "TIME", "OUTCOMES")


def only_later(true: bytes, tampered: bytes) -> bool:
    """Whether nothing differs but the time, and that is a later one."""
    try:
        one, other = decode_entry(true), decode_entry(tampered)
    except NovateError:
        return False
    same = (one.seq, one.envelope, one.outcomes) == (other.seq, other.envelope, other.outcomes)
    return same and other.time_us > one.time_us


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_flipped_bit_of_what_was_signed_is_caught_in_its_entry(name: str, seed: int) -> None:
    """The entry around it is canonical again, so it is the signature, or the decoder, that refuses."""
    told = story(name)
    rng, seq = somewhere(told, seed, "signed", least=0)
    raw = bytearray(decode_entry(told.entries[seq]).envelope)
    raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    how, at = caught(told, changed(told, seq, envelope=bytes(raw)))
    assert at == seq and how in ("SIGNATURE", "ADMISSION")


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_dropped_entry_is_caught_before_its_epoch_is_over(name: str, seed: int) -> None:
    """With a hole in the numbers: there. Closed up: where the state first tells, at the epoch's close at the latest."""
    told = story(name)
    _, seq = somewhere(told, seed, "drop")
    rest = [*told.entries[:seq], *told.entries[seq + 1 :]]
    if seq + 1 < len(told.entries):
        assert caught(told, rest) == ("SEQUENCE", seq)
    _, at = caught(told, renumbered(rest, seq))
    assert at in within(told, seq)


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_duplicated_entry_is_caught_as_the_second(name: str, seed: int) -> None:
    """No nonce, oracle update, epoch or inbox message counts twice."""
    told = story(name)
    _, seq = somewhere(told, seed, "twice")
    doubled = renumbered([*told.entries[: seq + 1], *told.entries[seq:]], seq)
    assert caught(told, doubled) == ("ADMISSION", seq + 1)


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("seed", SEEDS)
def test_reordered_entries_are_caught_before_their_epoch_is_over(name: str, seed: int) -> None:
    """Times stay where they were, so only the order of commands is another."""
    told = story(name)
    _, seq = somewhere(told, seed, "swap")
    seq = min(seq, len(told.entries) - 2)
    one, two = decode_entry(told.entries[seq]), decode_entry(told.entries[seq + 1])
    swapped = [
        encode_entry(seq, one.time_us, two.envelope, two.outcomes),
        encode_entry(seq + 1, two.time_us, one.envelope, one.outcomes),
    ]
    _, at = caught(told, [*told.entries[:seq], *swapped, *told.entries[seq + 2 :]])
    assert at in within(told, seq, slack=1)


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_changed_time_is_caught(name: str, seed: int) -> None:
    """Back before the entry before it: there. Forward within bounds: at the epoch's close at the latest."""
    told = story(name)
    _, seq = somewhere(told, seed, "time")
    before, now = (decode_entry(told.entries[at]).time_us for at in (seq - 1, seq))
    assert caught(told, changed(told, seq, time_us=before - 1)) == ("TIME", seq)
    _, at = caught(told, changed(told, seq, time_us=now + 1))
    assert at in within(told, seq)


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_forged_signature_is_caught_in_its_entry(name: str, seed: int) -> None:
    """Noise in its place; and a true signature by a key that has no say, or is of no kind that could have."""
    told = story(name)
    rng, seq = somewhere(told, seed, "forge")
    envelope, _ = decode_any_envelope(decode_entry(told.entries[seq]).envelope)
    noise = replace(envelope, signature=rng.randbytes(len(envelope.signature)))
    assert caught(told, changed(told, seq, envelope=encode(noise))) == ("SIGNATURE", seq)
    stranger = sign(told.bodies[seq], seed_of("a stranger"))
    how, at = caught(told, changed(told, seq, envelope=stranger))
    of_owner = isinstance(told.bodies[seq], c.OwnerAction)  # what only a wallet signs
    assert (how, at) == ("SIGNATURE" if of_owner else "ADMISSION", seq)


# --- what an operator might want ---


def every(told: Story, kind: type, change: Callable[..., o.Outcome]) -> list[tuple[int, list[bytes]]]:
    """Per entry with an outcome of a kind: the journal with the first of them changed."""

    def one(found: tuple[o.Outcome, ...]) -> list[o.Outcome]:
        at = next(n for n, outcome in enumerate(found) if isinstance(outcome, kind))
        return [change(outcome) if n == at else outcome for n, outcome in enumerate(found)]

    return [(seq, changed(told, seq, outcomes=one)) for seq in told.seqs(kind)]


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        (o.TradeNovated, "price_atoms"),
        (o.TradeNovated, "size_lots"),
        (o.TradeNovated, "taker_fee_atoms"),
        (o.Deleveraged, "price_atoms"),
        (o.Deleveraged, "counterparty"),
        (o.Liquidated, "fee_atoms"),
        (o.FundingApplied, "rate_ppm"),
        (o.PositionSettled, "paid_atoms"),
        (o.WithdrawalAcked, "amount_atoms"),
        (o.ForcedDone, "index"),
        (o.AuctionFilled, "discount_atoms"),
        (o.TrancheDrawn, "drawn_atoms"),
        (o.MarginChanged, "margin_maintenance_atoms"),
        (o.EpochClosed, "failing_accounts"),
        (o.EpochClosed, "shortfall_atoms"),
    ],
)
def test_a_changed_figure_is_named_with_both_values(kind: type, field: str) -> None:
    """In whatever journal it occurs: the entry, the field, what the journal says and what replay gives."""
    found = 0
    for name in NAMES:
        told = story(name)
        cases = every(told, kind, lambda outcome: replace(outcome, **{field: getattr(outcome, field) + 1}))
        for seq, tampered in cases[:1] + cases[1:][-1:]:
            found += 1
            divergence = audited(tampered).divergence
            assert divergence is not None and (divergence.what, divergence.seq) == ("OUTCOMES", seq)
            (line,) = divergence.fields
            true = next(getattr(x, field) for x in told.outcomes[seq] if isinstance(x, kind))
            assert f"{kind.__name__}.{field}" in line
            assert f"the journal says {true + 1}, replay {true}" in line
    assert found, f"no journal shows {kind.__name__}"


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("change", [1, -1])
def test_an_altered_fill_price_is_caught(name: str, change: int) -> None:
    """A tick more or less, in the first and last fills: the entry, the field, both prices; nothing else is named."""
    told = story(name)
    cases = every(told, o.TradeNovated, lambda x: replace(x, price_atoms=x.price_atoms + change))
    for seq, tampered in cases[:3] + cases[3:][-1:]:
        divergence = audited(tampered).divergence
        assert divergence is not None and (divergence.what, divergence.seq) == ("OUTCOMES", seq)
        true = next(x.price_atoms for x in told.outcomes[seq] if isinstance(x, o.TradeNovated))
        (line,) = divergence.fields
        assert line.endswith(f"TradeNovated.price_atoms: the journal says {true + change}, replay {true}")


def test_another_adl_victim_is_caught() -> None:
    """Two in line change places, with the figures of each: who is first in line is not the operator's to choose."""
    told = story("adl")
    (seq, *_) = told.seqs(o.Deleveraged)

    def other(found: tuple[o.Outcome, ...]) -> list[o.Outcome]:
        first, second = [x for x in found if isinstance(x, o.Deleveraged)][:2]
        assert first.counterparty != second.counterparty
        places = {
            id(first): replace(second, rank=first.rank, size_lots=first.size_lots),
            id(second): replace(first, rank=second.rank, size_lots=second.size_lots),
        }
        return [places.get(id(x), x) for x in found]

    divergence = audited(changed(told, seq, outcomes=other)).divergence
    assert divergence is not None and (divergence.what, divergence.seq) == ("OUTCOMES", seq)
    assert any("Deleveraged.counterparty" in line for line in divergence.fields)


@pytest.mark.parametrize("name", ["golden", "adl", "waterfall"])
def test_a_skipped_liquidation_is_caught(name: str) -> None:
    """Left out, or journalled as refused: the accounts that fail are counted at each close, and all else follows."""
    told = story(name)
    for seq in told.seqs(o.Liquidated)[:3]:
        _, at = caught(told, renumbered([*told.entries[:seq], *told.entries[seq + 1 :]], seq))
        assert at in within(told, seq)
        refused = changed(told, seq, outcomes=lambda _: [o.Rejected(0, "NOT_LIQUIDATABLE")])
        assert caught(told, refused) == ("OUTCOMES", seq)


@pytest.mark.parametrize("name", NAMES)
def test_a_changed_parameter_is_caught(name: str) -> None:
    """A genesis with other parameters, signed by the operator itself and said to be applied: its outcome if that was
    left, else the first thing that depends on it, at the first close at the latest."""
    told = story(name)
    genesis = told.bodies[0]
    assert isinstance(genesis, c.Genesis)
    params = replace(genesis.params, liquidation_fee_ppm=genesis.params.liquidation_fee_ppm + 1)
    other = sign(replace(genesis, params=params), OPERATOR)
    assert caught(told, changed(told, 0, envelope=other)) == ("OUTCOMES", 0)
    alone = changed(told, 0, envelope=other)
    applied = replay(enumerate(alone)).divergence
    assert applied is not None and any("params_hash" in line for line in applied.fields)

    def agreed(found: tuple[o.Outcome, ...]) -> list[o.Outcome]:
        from clearing.model.params import params_hash

        digest = params_hash(params, genesis.instruments)
        return [replace(x, params_hash=digest) if isinstance(x, o.GenesisApplied) else x for x in found]

    _, at = caught(told, changed(told, 0, outcomes=agreed, envelope=other))
    assert at in within(told, 1)


# --- through a journal on disk ---


def test_a_tampered_journal_that_is_whole_is_caught_by_the_audit_alone(tmp_path: Path) -> None:
    """Blocks, hash chain, tiles and head of the tampered journal are right, so its own check finds nothing."""
    told = story("adl")
    (seq, *_) = told.seqs(o.TradeNovated)
    ((_, tampered), *_) = every(told, o.TradeNovated, lambda x: replace(x, price_atoms=x.price_atoms + 10_000))
    store = Store.create(tmp_path / "journal")
    for first in range(0, len(tampered), 100):
        store.append(tampered[first : first + 100], store.head())
    store.close()
    assert fsck(tmp_path / "journal").ok
    report = replay(StoreSource(tmp_path / "journal").entries())
    assert report.divergence is not None and report.divergence.seq == seq
    assert "TradeNovated.price_atoms" in str(report.divergence)
    assert report.root == log_root([leaf_hash(data) for data in tampered[:seq]])
