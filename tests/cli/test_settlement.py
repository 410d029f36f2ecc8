# SPDX-License-Identifier: GPL-3.0-or-later
"""Vouchers and forced requests end to end: through the command line, a running operator and the chain."""

import json
import stat
from pathlib import Path

import pytest

from tests.cli.venue import WINDOW_S, Person, Venue

UNIT = 1_000_000


def held(venue: Venue, person: Person) -> int:
    """Atoms in the person's wallet."""
    token, owner = (bytes.fromhex(text[2:]) for text in (venue.deployed["token"], person.address))
    return int.from_bytes(venue.rpc.call(token, b"\x70\xa0\x82\x31" + owner.rjust(32, b"\0")))


def final(venue: Venue) -> None:
    """Everything that is journalled by now is in a final epoch."""
    venue.next_epoch()
    venue.pass_time(WINDOW_S + 1)


@pytest.mark.slow
def test_a_withdrawal_is_advanced_by_voucher_and_repaid_by_its_claim(venue: Venue, tmp_path: Path) -> None:
    """The operator countersigns what it acknowledged and no more; the higher voucher replaces the lower one; the
    claim pays the owner what the vouchers did not."""
    bob, file = venue.bob, tmp_path / "bob.voucher"
    venue.ok("vault", "mint", "100", who=venue.payer)
    venue.ok("vault", "fund-float", "100", who=venue.payer)
    venue.publish("60.00")
    venue.ok("claim", who=bob)
    venue.ok("withdraw", "20", who=bob)
    before = held(venue, bob)
    more = venue.run("voucher", "request", "20.000001", "-o", str(file), who=bob)
    assert (more.status, more.code) == (1, "VOUCHER_TOO_HIGH") and not file.exists()
    shown = venue.ok("voucher", "request", "5", "-o", str(file), "--json", who=bob).data
    assert (shown["redeemable_atoms"], stat.S_IMODE(file.stat().st_mode)) == (str(5 * UNIT), 0o600)
    venue.ok("voucher", "request", "8", "-o", str(file), who=bob)
    low = venue.run("voucher", "request", "6", "-o", str(file), who=bob)
    assert (low.status, low.code) == (1, "VOUCHER_LOWER")
    paid = venue.ok("voucher", "redeem", str(file), "--json", who=venue.alice).data
    assert paid["paid_atoms"] == str(8 * UNIT) and held(venue, bob) == before + 8 * UNIT
    again = venue.run("voucher", "redeem", str(file), who=bob)
    assert (again.status, again.code) == (1, "VOUCHER_LOWER")
    data = json.loads(file.read_text())
    file.write_text(json.dumps(data | {"cumulative": str(20 * UNIT)}))
    forged = venue.run("voucher", "redeem", str(file), who=bob)
    assert (forged.status, forged.code) == (1, "VOUCHER_SIGNATURE")
    final(venue)
    claimed = venue.ok("claim", "--json", who=bob).data
    assert (claimed["paid_atoms"], claimed["repaid_atoms"]) == ([str(12 * UNIT)], [str(8 * UNIT)])
    assert held(venue, bob) == before + 20 * UNIT


@pytest.mark.slow
def test_a_forced_withdrawal_reaches_the_wallet_without_the_operators_interface(venue: Venue) -> None:
    """Sent to the contract, consumed by an epoch, acknowledged by the reducer, claimed on-chain."""
    bob = venue.bob
    venue.publish("60.00")
    venue.ok("claim", who=bob)
    sent = venue.ok("force", "withdraw", "--amount", "7", "--json", who=bob).data
    assert (sent["state"], sent["amount_atoms"]) == ("waiting", str(7 * UNIT))
    before = held(venue, bob)
    for _ in range(10):
        venue.publish("60.00")
        final(venue)
        told = venue.ok("force", "status", "--json", who=bob).data["requests"][-1]
        if told["state"] == "final":
            break
    assert (told["index"], told["state"]) == (sent["index"], "final")
    venue.next_epoch()
    final(venue)
    venue.ok("claim", who=bob)
    assert held(venue, bob) == before + 7 * UNIT
