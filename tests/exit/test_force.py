# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests past the operator: where each stands, and from when silence lets anyone freeze."""

from typing import Any

import pytest

from clearing.chain.rpc import Rpc
from clearing.chain.vault import VaultClient
from clearing.exit.assets import read_assets
from clearing.exit.errors import ExitError
from clearing.exit.force import Fate, Request, request_of, requests, require_asset, require_live, sent_in
from tests.exit.proxy import lying_endpoint
from tests.exit.scene import DEADLINE_S, HOUSE, WINDOW_S, Scene, member, wallet_of

OWNER = wallet_of(8)


def _told(scene: Scene, request: Request) -> str:
    return "\n".join(request.lines(read_assets(scene.reader), scene.rpc.time_s()))


def test_a_request_waits_is_consumed_and_becomes_final(scene: Scene) -> None:
    """Each state is read from the contract, the epoch that consumed it from the first header that counts it."""
    client = scene.client(8)
    scene.deposit(OWNER.address, 1_000)
    scene.close({1: (OWNER.address, (1_000, 0), (0, 0))})
    message = sent_in(client, client.force_withdrawal(0, 250_000, 3))
    assert (message.owner, message.amount, int.from_bytes(message.data, "big")) == (OWNER.address, 250_000, 3)
    client.force_exit(0)
    scene.deposit(OWNER.address, 7)
    waiting = request_of(client, message)
    assert (waiting.fate, waiting.deadline_s) == (Fate.WAITING, message.l1_time + DEADLINE_S)
    assert "withdraw 0.25 T0 of sub-account 3" in _told(scene, waiting)
    assert "anyone may freeze the vault: come back then" in _told(scene, waiting)
    scene.close({}, consumed=1)
    scene.close({}, consumed=2)
    first, second = requests(scene.reader, OWNER.address)
    assert (first.fate, first.epoch, second.fate) == (Fate.CONSUMED, 3, Fate.WAITING)
    scene.pass_time(WINDOW_S)
    first, second = requests(scene.reader, OWNER.address)
    assert (first.fate, first.epoch, second.fate) == (Fate.FINAL, 3, Fate.WAITING)
    assert "close everything and pay it out" in _told(scene, second)
    assert requests(scene.reader, member(1)) == []


def test_an_ignored_request_lets_anyone_freeze_at_the_time_that_was_told(scene: Scene) -> None:
    """Not before, although epochs go on; after it the request is void and everyone leaves."""
    client = scene.client(8)
    scene.deposit(OWNER.address, 10)
    scene.close({1: (OWNER.address, (10, 0), (0, 0))})
    client.force_withdrawal(0, 0)
    (request,) = requests(scene.reader, OWNER.address)
    scene.pass_time(request.deadline_s - scene.rpc.time_s() - 60)
    scene.close({}, consumed=1)
    assert scene.vault.freeze_at_s() == request.deadline_s > scene.rpc.time_s()
    scene.pass_time(WINDOW_S + 60)
    (request,) = requests(scene.reader, OWNER.address)
    assert "withdraw all free T0" in _told(scene, request) and "overdue: anyone may freeze" in _told(scene, request)
    scene.stranger().freeze()
    (request,) = requests(scene.reader, OWNER.address)
    assert request.fate is Fate.VOID and "novate exit" in _told(scene, request)
    with pytest.raises(ExitError, match="VAULT_FROZEN"):
        require_live(scene.reader, OWNER.address)


def test_what_the_contract_would_refuse_is_refused_before_a_fee_is_paid(scene: Scene) -> None:
    with pytest.raises(ExitError, match="HOUSE_REQUEST"):
        require_live(scene.reader, HOUSE)
    with pytest.raises(ExitError, match="UNKNOWN_ASSET"):
        require_asset(scene.reader, 2)
    require_live(scene.reader, OWNER.address)
    require_asset(scene.reader, 1)


def test_a_request_that_the_inbox_does_not_know_is_an_error(scene: Scene) -> None:
    """An endpoint that invents or alters a request is found out by the contract's rolling hash."""
    scene.client(8).force_withdrawal(0, 5)

    def alter(method: str, params: list[Any], result: Any) -> Any:
        if method == "eth_getLogs":
            for log in result:
                log["data"] = log["data"].replace(f"{5:064x}", f"{6:064x}", 1)
        return result

    refused = pytest.raises(ExitError, match="UNKNOWN_REQUEST")
    with lying_endpoint(scene.rpc.url, alter) as url, Rpc(url) as rpc, refused:
        requests(VaultClient(rpc, scene.vault.address), OWNER.address)
