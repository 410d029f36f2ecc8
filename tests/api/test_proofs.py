# SPDX-License-Identifier: GPL-3.0-or-later
"""Bundles of the interface's process: the writer's, byte for byte, with nothing of the writer's but a signature."""

import pytest

from clearing.api.proofs import Bundles
from clearing.model import commands as c
from clearing.model.errors import NovateError
from clearing.service.node import Node
from clearing.service.prover import Prover
from proofs import bundle, verify
from tests.api.venue import PATIENCE_S, linked, node_of, run, trades, until
from tests.service.world import World, owner_of


def close_and_post(node: Node, world: World, epoch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trades, an epoch's close, and the word that the vault holds it (there is no chain here)."""
    for raw in [*trades(world, 100 * epoch, 5), world.operator(c.CloseEpoch(epoch, ((1, bytes(32)),)))]:
        node.sequencer.submit(raw).result(PATIENCE_S)
    node.book.flush()
    node.prover.posted(0, node.book.load(epoch))
    monkeypatch.setattr(node.venue, "posted", lambda: [epoch])
    assert node.link is not None
    node.link.answers._known["posted"] = (tuple[()], node.venue.posted)


def test_a_bundle_is_the_writers_and_verifies(venue: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same bytes as the writer's process would make, of the newest posted epoch each time; they verify offline."""

    async def body(node: Node) -> None:
        async with linked(venue.path) as link:
            bundles = Bundles(link, node.book)
            with pytest.raises(NovateError) as error:
                await bundles.bundle(owner_of("alice"))
            assert error.value.code == "NOT_POSTED"
            for epoch in (1, 2):
                close_and_post(node, venue, epoch, monkeypatch)
                for name in ("alice", "bob"):
                    made = await bundles.bundle(owner_of(name))
                    assert made == node.prover.bundle(owner_of(name))
                    assert bundle.decode(made).exit.owner == owner_of(name).hex()
                    assert verify.verify_bytes(made).ok
            for owner, vault, code in ((bytes(20), 0, "UNKNOWN_OWNER"), (owner_of("alice"), 3, "UNKNOWN_VAULT")):
                with pytest.raises(NovateError) as error:
                    await bundles.bundle(owner, vault)
                assert error.value.code == code

    with node_of(venue.path) as node:
        run(body(node))


def test_the_writer_restores_nothing(venue: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The epoch's state is restored here; the writer's process is asked for one signature per epoch. When it is gone,
    bundles of the epochs that it named go on."""

    async def body() -> None:
        with node_of(venue.path) as node:
            close_and_post(node, venue, 1, monkeypatch)
            loads: list[Prover] = []
            view = Prover._view

            def noting(prover: Prover, vault: int) -> object:
                loads.append(prover)
                return view(prover, vault)

            monkeypatch.setattr(Prover, "_view", noting)
            async with linked(venue.path) as link:
                bundles, asked = Bundles(link, node.book), []
                ask = link.ask

                async def noted(name: str, *args: object) -> object:
                    asked.append(name)
                    return await ask(name, *args)

                monkeypatch.setattr(link, "ask", noted)
                made = [await bundles.bundle(owner_of(name)) for name in ("alice", "bob", "alice")]
                assert asked.count("epoch_note") == 1 and made[0] == made[2]
                assert node.prover not in loads and len(loads) == 3
                assert node.link is not None
                node.link.close()
                await until(lambda: not link.connected)
                assert await bundles.bundle(owner_of("alice")) == made[0]

    run(body())
