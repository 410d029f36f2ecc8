# SPDX-License-Identifier: GPL-3.0-or-later
"""Vouchers on the owner's side: only what both signed, only upwards, and only while the contract would pay."""

import json
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clearing.chain.rpc import Rpc
from clearing.exit import vouchers
from clearing.exit.assets import read_assets
from clearing.exit.errors import ExitError
from clearing.exit.vouchers import SignedVoucher
from tests.exit.scene import DEADLINE_S, WINDOW_S, Scene, wallet_of

OWNER = wallet_of(8)
CAP = 1_000


@pytest.fixture(scope="module")
def capped(fresh_vault: tuple[Rpc, bytes]) -> Any:
    """A vault whose vouchers are capped; its books are fresh for each test."""
    rpc, address = fresh_vault
    snapshot = rpc.request("evm_snapshot")
    known = Scene.attach(rpc, address).vault.tokens()
    yield rpc, Scene.deploy(rpc, tokens=known, float_caps=[CAP, CAP], beside=address).vault.address
    assert rpc.request("evm_revert", snapshot) is True


@pytest.fixture
def place(capped: tuple[Rpc, bytes]) -> Any:
    rpc, address = capped
    snapshot = rpc.request("evm_snapshot")
    yield Scene.attach(rpc, address)
    assert rpc.request("evm_revert", snapshot) is True


def _signed(scene: Scene, amount: int, asset: int = 0, valid_s: int = 600) -> SignedVoucher:
    """A voucher for `amount` more, as `novate voucher request` makes it with an honest operator."""
    drafted = vouchers.draft(scene.reader, OWNER, asset, amount, valid_s)
    answer = {"operator_signature": "0x" + scene.wallet.sign_digest(drafted.digest).hex()}
    return vouchers.countersigned(scene.reader, drafted, answer)


def _redeem(scene: Scene, signed: SignedVoucher) -> None:
    vouchers.require_payable(scene.reader, signed)
    scene.stranger().redeem_voucher(signed.voucher, signed.owner_signature, signed.operator_signature)


def _code(scene: Scene, signed: SignedVoucher) -> str:
    with pytest.raises(ExitError) as caught:
        vouchers.require_payable(scene.reader, signed)
    return caught.value.code


def test_a_voucher_is_kept_paid_and_topped_up(place: Scene, tmp_path: Path) -> None:
    """Through its file, which only its owner can read; the second one pays what it adds."""
    place.vault.fund_float(0, 500)
    path = tmp_path / "mine.voucher"
    first = _signed(place, 100)
    vouchers.save(path, first)
    assert vouchers.load(path) == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    _redeem(place, vouchers.load(path))
    assert place.balances(OWNER.address) == [100, 0]
    second = _signed(place, 250)
    assert second.voucher.cumulative == 350
    vouchers.save(path, second)
    _redeem(place, vouchers.load(path))
    standing = vouchers.read_standing(place.reader, OWNER.address, 0)
    assert (place.balances(OWNER.address)[0], standing.total, standing.outstanding) == (350, 350, 350)
    assert (standing.float_atoms, standing.redeemable(second)) == (150, 0)
    lines = "\n".join(vouchers.lines(second, standing, read_assets(place.reader)[0]))
    assert "0.00035 T0 will be taken from the next claims" in lines


def test_the_highest_figure_wins_and_a_lower_one_is_refused_with_the_reason(place: Scene, tmp_path: Path) -> None:
    """A lower voucher neither replaces a higher file nor costs a fee after a higher one was paid."""
    place.vault.fund_float(0, 500)
    path = tmp_path / "mine.voucher"
    low, high = _signed(place, 100), _signed(place, 300)
    vouchers.save(path, high)
    with pytest.raises(ExitError, match=r"VOUCHER_LOWER.*300 atoms in all.*at least 200 atoms more"):
        vouchers.save(path, low)
    assert vouchers.load(path) == high
    with pytest.raises(ExitError, match="VOUCHER_OTHER"):
        vouchers.save(path, _signed(place, 900, asset=1))
    _redeem(place, high)
    assert (_code(place, low), _code(place, high)) == ("VOUCHER_LOWER", "VOUCHER_LOWER")


def test_only_what_both_signed_is_a_voucher(place: Scene, scene: Scene) -> None:
    """Any changed field, a stranger's signature, none, or another vault's is refused before a fee is spent."""
    place.vault.fund_float(0, 500)
    signed = _signed(place, 100)
    stranger = wallet_of(3).sign_digest(signed.digest)
    forged = [
        replace(signed, voucher=type(signed.voucher)(**{**_fields(signed), "cumulative": 101})),
        replace(signed, voucher=type(signed.voucher)(**{**_fields(signed), "expiry": signed.voucher.expiry + 1})),
        replace(signed, operator_signature=stranger),
        replace(signed, owner_signature=stranger),
        replace(signed, operator_signature=b""),
    ]
    assert {_code(place, one) for one in forged} == {"VOUCHER_SIGNATURE"}
    assert _code(scene, signed) == "VOUCHER_OTHER"
    drafted = vouchers.draft(place.reader, OWNER, 0, 100, 600)
    for answer in ({}, {"operator_signature": "0x" + stranger.hex()}, {"operator_signature": "nonsense"}):
        with pytest.raises(ExitError, match="VOUCHER_SIGNATURE"):
            vouchers.countersigned(place.reader, drafted, answer)


def _fields(signed: SignedVoucher) -> dict[str, Any]:
    return {name: getattr(signed.voucher, name) for name in signed.voucher.__struct_fields__}


def test_what_the_contract_would_not_pay_now_is_named(place: Scene) -> None:
    """An empty float, more than the hourly cap, an expired voucher, a frozen vault."""
    assert _code(place, _signed(place, 100)) == "FLOAT_TOO_LOW"
    place.vault.fund_float(0, 5_000)
    assert _code(place, _signed(place, CAP + 1)) == "OUTFLOW_CAPPED"
    old = _signed(place, 100, valid_s=10)
    place.pass_time(60)
    assert _code(place, old) == "VOUCHER_EXPIRED"
    signed = _signed(place, 100, valid_s=DEADLINE_S * 10)
    place.pass_time(DEADLINE_S + WINDOW_S)
    place.stranger().freeze()
    assert _code(place, signed) == "VAULT_FROZEN"
    with pytest.raises(ExitError, match="VAULT_FROZEN"):
        vouchers.draft(place.reader, OWNER, 0, 1, 600)


def test_what_is_no_voucher_is_named(place: Scene, tmp_path: Path) -> None:
    path = tmp_path / "mine.voucher"
    vouchers.save(path, _signed(place, 100))
    good = json.loads(path.read_text())
    bad: list[Any] = [{**good, "format": "x"}, {**good, "cumulative": "-1"}, {**good, "owner": "0x12"}, [], "x"]
    bad += [{name: value for name, value in good.items() if name != "expiry"}, {**good, "vault": "0x"}]
    for content in [*map(json.dumps, bad), "", "{" * 100_000]:
        path.write_text(content)
        with pytest.raises(ExitError, match="VOUCHER_MALFORMED"):
            vouchers.load(path)
