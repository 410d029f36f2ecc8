# SPDX-License-Identifier: GPL-3.0-or-later
"""Attestors when things break or lie: operators, endpoints, chains, disks, their own processes."""

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from clearing.chain.structs import VETO_NONE, VETO_OPEN
from clearing.model import codec
from clearing.model import commands as c
from clearing.model.errors import NovateError
from clearing.service.node import Node
from clearing.watch import attestor as watching
from clearing.watch.signer import SigningLog
from journal import Store
from journal.block import build
from journal.block import decode as decode_block
from tests.chain.nodes import Down, altering
from tests.service.chains import Deployed, command
from tests.service.world import USD
from tests.watch.gate import Served
from tests.watch.scene import GRACE_S, STRANGER, WATCHERS, Scene, codes


def signed_hash(scene: Scene, name: str, epoch: int) -> bytes:
    return bytes.fromhex((scene.folder(name) / f"signed/{epoch:010d}-0.hash").read_text())


# --- the attestor's own process ---


@pytest.mark.slow
def test_a_newcomer_catches_up_in_order(scene: Scene) -> None:
    """With nothing on disk and three headers on the chain: the true ones are agreed with, the forged one is vetoed, and
    no epoch is signed that was posted without its help."""
    scene.steal()
    late = scene.attestor("late", WATCHERS[1])
    late.turn()
    assert late.follower.size == scene.node.store.head().next_seq
    assert list(late.follower.epochs) == [1, 2, 3]
    told = late.status()["vaults"][0]
    assert (told["agreed_epochs"], [row["epoch"] for row in told["objections"]], told["last_signed"]) == (2, [3], 0)
    assert scene.vault.veto_of(1).state == scene.vault.veto_of(2).state == VETO_NONE
    assert scene.vault.veto_of(3).state == VETO_OPEN


def test_a_restart_goes_on_and_hands_in_the_same_signature(scene: Scene) -> None:
    """Ended between signing and handing in: the next process hands in that very signature; its log is as before."""
    scene.gate.shut = ("/v1/attestations",)
    first = scene.watcher(1)
    first.turn()
    assert codes(first) == ["OPERATOR_UNREACHABLE"]
    path = scene.folder("w1") / "signed/0000000003-0.hash"
    before = path.stat().st_mtime_ns, path.read_text()
    assert first.status()["vaults"][0]["last_signed"] == 3
    first.close()
    scene.gate.reset()
    again = scene.watcher(1)
    again.turn()
    assert codes(again) == [] and (path.stat().st_mtime_ns, path.read_text()) == before
    (row,) = [row for row in scene.node.attestations.of(0, 3) if row.attestor == WATCHERS[1].address]
    assert row.header_hash == bytes.fromhex(before[1]) == scene.node.book.load(3).part(0).header_hash
    assert sorted(path.name[:10] for path in (scene.folder("w1") / "signed").iterdir())[-2:] == [
        "0000000002",
        "0000000003",
    ]


def test_a_restart_does_not_object_twice(scene: Scene) -> None:
    """A process that ended after its veto comes back, sees its objection on the chain, and leaves it at that."""
    scene.steal()
    scene.watcher(0).turn()
    scene.end_attestors()
    again = scene.watcher(0)
    again.turn()
    again.turn()
    assert codes(again) == ["HEADER_DIFFERS"] and len(scene.vault.vetoes()) == 1
    assert scene.vault.veto_of(3).objectors == 1


def test_two_processes_do_not_share_a_folder(scene: Scene) -> None:
    """The second is refused; when the first has ended it is let in."""
    scene.watcher(0)
    with pytest.raises(NovateError) as raised:
        scene.watcher(0)
    assert raised.value.code == "ATTESTOR_RUNS"
    scene.end_attestors()
    scene.watcher(0).turn()


# --- the operator ---


@contextmanager
def other_history(scene: Scene, folder: Path) -> Iterator[Node]:
    """The gate leads to an operator with the same keys who closed another epoch 3."""
    kept = scene.gate.upstream
    shutil.copytree(scene.before_three, folder)
    node = Deployed(folder, scene.deployed.places).node()
    command(node, "bob", c.Withdraw(0, 0, 2 * USD))
    node.poster.turn()
    served = Served(node)
    scene.gate.upstream = served.url
    yield node
    scene.gate.upstream = kept
    served.stop()
    node.close()


def test_an_operator_with_two_histories_gets_one_signature(scene: Scene, tmp_path: Path) -> None:
    """Shown another journal than before, shorter or longer, the attestor refuses its blocks and says that the
    checkpoint contradicts what was served. Robbed of its copy, so that it believes the other history, it still refuses
    to sign a second header of the epoch."""
    for _ in range(5):
        scene.something()
    honest = scene.watcher(0)
    honest.turn()
    mine = signed_hash(scene, "w0", 3)
    with other_history(scene, tmp_path / "other") as node:
        assert node.store.head().next_seq < honest.follower.size
        honest.turn()
        assert codes(honest) == ["BLOCKS_REFUSED", "CHECKPOINT_DIFFERS", "HEADER_DIFFERS"]
        while node.store.head().next_seq <= honest.follower.size:
            command(node, "bob", c.Withdraw(0, 0, USD))
        honest.turn()
        assert codes(honest)[3:] == ["BLOCKS_REFUSED"]
        honest.close()
        shutil.rmtree(scene.folder("w0") / "journal")
        robbed = scene.watcher(0)
        robbed.turn()
        assert 3 in robbed.follower.epochs and robbed.follower.divergence is None
        assert codes(robbed) == ["ALREADY_SIGNED_OTHER"]
        assert WATCHERS[0].address not in [row.attestor for row in node.attestations.of(0, 3)]
    assert signed_hash(scene, "w0", 3) == mine == scene.node.book.load(3).part(0).header_hash


def false_entry(path: str, body: bytes, size: int) -> bytes:
    """The journal's blocks from entry `size` on, the first outcome there claimed to be none."""
    if not path.startswith("/v1/blocks"):
        return body
    blocks = [decode_block(raw) for raw in msgspec.msgpack.decode(body, type=list[bytes])]
    kept = [block.raw for block in blocks if block.first_seq < size]
    for block in blocks[len(kept) :][:1]:
        first = codec.decode_entry(block.entries[0])
        lie = codec.encode_entry(first.seq, first.time_us, first.envelope, first.outcomes[:-1])
        kept.append(build(block.term, block.first_seq, block.prev_hash, [lie, *block.entries[1:]]).raw)
    return msgspec.msgpack.encode(kept)


def test_an_entry_that_does_not_reproduce_voids_its_header(scene: Scene) -> None:
    """A header over a journal with a false outcome: nothing is waited for, the evidence names the first entry that does
    not reproduce, and nothing is signed any more, after a restart neither."""
    size = scene.node.book.load(2).snapshot_seq
    scene.gate.alter = lambda path, body: false_entry(path, body, size)
    attestor = scene.watcher(0)
    attestor.turn()
    assert codes(attestor) == ["JOURNAL_DIVERGED"] and attestor.follower.size == size
    assert not (scene.folder("w0") / "signed/0000000003-0.hash").exists()
    scene.post_honest(3)
    attestor.turn()
    (content,) = scene.evidence("w0").values()
    assert (content["reason"], content["replayed_entries"]) == ("JOURNAL_DIVERGED", size)
    assert (
        content["detail"] == f"entry {size}, OUTCOMES: outcomes[1]: missing from the journal, replay has MarginChanged"
    )
    assert scene.vault.veto_of(3).state == VETO_OPEN
    attestor.close()
    again = scene.watcher(0)
    again.turn()
    assert "JOURNAL_DIVERGED" in codes(again) and again.follower.size == size
    assert again.follower.store.head().next_seq == size


@pytest.mark.parametrize(
    "path, lie",
    [
        ("/v1/attestations", b'{"vaults": [{}]}'),
        ("/v1/attestations", b"[]"),
        ("/v1/attestations", b'{"vaults": [{"vault": 0, "missing": ["0xzz"]}]}'),
        ("/v1/checkpoint", b"\xff\xfe"),
        ("/v1/checkpoint", b"no note at all"),
        ("/v1/blocks", b"\x91\xc4\x02ab"),
        ("/v1/blocks", b"\xc1"),
    ],
)
def test_no_answer_of_the_operator_ends_the_watch(scene: Scene, path: str, lie: bytes) -> None:
    """Whatever is sent instead of an answer is an alert, and the forged header is vetoed all the same."""
    attestor = scene.watcher(0)
    attestor.turn()
    attestor.turn()
    assert codes(attestor) == []
    scene.gate.alter = lambda asked, body: lie if asked.startswith(path) else body
    attestor.turn()
    assert len(codes(attestor)) == 1, codes(attestor)
    scene.steal()
    attestor.turn()
    assert scene.vault.veto_of(3).state == VETO_OPEN
    assert "HEADER_DIFFERS" in codes(attestor)


# --- the chain ---


def test_an_endpoint_that_is_gone_is_an_alert(scene: Scene) -> None:
    """No chain: nothing is vetoed and nothing signed, one alert; when it is back the forged header is vetoed."""
    down: list[int] = []

    def alter(method: str, params: object, result: object) -> object:
        if down:
            raise Down
        return result

    with altering(scene.evm.url, alter) as url:
        attestor = scene.watcher(0, rpc=url)
        attestor.turn()
        scene.steal()
        down.append(1)
        for _ in range(2):
            attestor.turn()
        assert set(codes(attestor)) == {"RPC_UNREACHABLE"} and len(codes(attestor)) == 2
        assert scene.vault.vetoes() == []
        down.clear()
        attestor.turn()
        assert scene.vault.veto_of(3).by == WATCHERS[0].address
        scene.end_attestors()


def test_an_endpoint_that_hides_the_header_is_an_alert(scene: Scene) -> None:
    """The contract has the header and the logs do not: the endpoint is blamed, and not the operator."""
    scene.steal()

    def hide(method: str, params: object, result: object) -> object:
        return [] if method == "eth_getLogs" else result

    with altering(scene.evm.url, hide) as url:
        attestor = scene.watcher(0, rpc=url)
        attestor.turn()
        assert codes(attestor) == ["RPC_BAD_DATA"] and scene.vault.vetoes() == []
        scene.end_attestors()


def test_a_reorganised_header_is_looked_at_anew(scene: Scene) -> None:
    """A true header was agreed with; the chain forgets it and holds a forged one under the same number: vetoed. The
    other way round the chain holds the true one in the end, and it is agreed with."""
    attestor = scene.watcher(0)
    before = scene.vault.rpc.request("evm_snapshot")
    scene.post_honest(3)
    attestor.turn()
    assert attestor.status()["vaults"][0]["agreed_epochs"] == 3
    assert scene.vault.rpc.request("evm_revert", before)
    before = scene.vault.rpc.request("evm_snapshot")
    scene.steal()
    attestor.turn()
    assert scene.vault.veto_of(3).state == VETO_OPEN and codes(attestor) == ["HEADER_DIFFERS"]
    assert scene.vault.rpc.request("evm_revert", before)
    scene.post_honest(3)
    attestor.turn()
    assert scene.vault.vetoes() == []
    assert attestor.status()["vaults"][0]["objections"] == []


def test_a_veto_that_the_chain_forgot_is_sent_again(scene: Scene) -> None:
    """The header survives a reorganisation and the objection does not: it is made once more, and a second time no more
    than once."""
    scene.steal()
    attestor = scene.watcher(0)
    before = scene.vault.rpc.request("evm_snapshot")
    attestor.turn()
    assert scene.vault.veto_of(3).objectors == 1
    assert scene.vault.rpc.request("evm_revert", before)
    assert scene.vault.veto_of(3).state == VETO_NONE
    attestor.turn()
    attestor.turn()
    assert (scene.vault.veto_of(3).objectors, len(scene.vault.vetoes())) == (1, 1)
    assert codes(attestor) == ["HEADER_DIFFERS"]


# --- who may, and what was set ---


def test_who_is_no_attestor_says_so_and_no_more(scene: Scene) -> None:
    """Another wallet, a watcher without one, and one told only to watch: the forged header is reported with evidence,
    and nothing is sent to the chain or signed."""
    scene.steal()
    cases = (("stranger", STRANGER, False), ("nobody", None, False), ("quiet", WATCHERS[2], True))
    for name, wallet, quiet in cases:
        attestor = scene.attestor(name, wallet, watch_only=quiet)
        attestor.turn()
        assert codes(attestor) == (["NOT_ATTESTOR"] if wallet is STRANGER else []) + ["HEADER_DIFFERS"]
        assert len(scene.evidence(name)) == 1 and not list((scene.folder(name) / "signed").iterdir())
    assert scene.vault.vetoes() == []


def test_a_quiet_watcher_signs_nothing_true_either(scene: Scene) -> None:
    attestor = scene.watcher(0, watch_only=True)
    attestor.turn()
    assert codes(attestor) == [] and not (scene.folder("w0") / "signed/0000000003-0.hash").exists()


def test_a_vault_of_another_venue_is_an_alert(scene: Scene, tmp_path: Path) -> None:
    """An address that genesis does not name is not watched, and as the venue's own is not either, nothing is signed."""
    attestor = scene.watcher(0)
    attestor.close()
    attestor = watching.Attestor(
        scene.folder("w0"), attestor._client, [type(scene.vault)(scene.vault.rpc, b"\x77" * 20, WATCHERS[0])],
        WATCHERS[0], watching.Settings(grace_s=GRACE_S, alarm_s=0), attestor._log,
    )  # fmt: skip
    scene.attestors.append(attestor)
    attestor.turn()
    assert codes(attestor) == ["WRONG_VAULT", "VAULT_UNWATCHED"]
    assert not (scene.folder("w0") / "signed/0000000003-0.hash").exists()


def test_a_grace_beyond_the_window_is_an_alert(scene: Scene) -> None:
    """Such a grace would let a withheld header become final."""
    attestor = scene.watcher(0, grace_s=60.0)
    attestor.turn()
    assert codes(attestor) == ["GRACE_TOO_LONG"]
    assert signed_hash(scene, "w0", 3)


def test_a_near_deadline_is_told_once(scene: Scene) -> None:
    """An operator that falls behind is announced before anyone may freeze the vault."""
    attestor = scene.watcher(0, alarm_s=1_000)
    attestor.turn()
    assert codes(attestor) == []
    scene.pass_time(scene.vault.freeze_at_s() - scene.vault.rpc.time_s() - 500)
    attestor.turn()
    attestor.turn()
    assert codes(attestor).count("DEADLINE_NEAR") >= 1 and set(codes(attestor)) == {"DEADLINE_NEAR"}


def test_alerts_reach_the_command(scene: Scene, tmp_path: Path) -> None:
    """Each alert is one JSON object on the command's standard input; a command that fails or is missing changes
    nothing."""
    heard = tmp_path / "heard"
    hook = (sys.executable, "-c", f"import sys; open({str(heard)!r}, 'a').write(sys.stdin.read() + '\\n')")
    scene.steal()
    scene.attestor("loud", hook=hook).turn()
    (alert,) = [json.loads(line) for line in heard.read_text().splitlines()]
    assert alert["code"] == "HEADER_DIFFERS" and "exit_root" in alert["message"]
    mute = scene.watcher(0, hook=("/nonexistent/pager",))
    mute.turn()
    assert scene.vault.veto_of(3).state == VETO_OPEN


# --- disks ---


def test_a_full_copy_goes_on_when_there_is_room(scene: Scene) -> None:
    """A journal copy that cannot grow is an alert; what was replayed still counts, and with room again nothing is lost
    and nobody is blamed."""
    attestor = scene.watcher(0)
    follower, path = attestor.follower, scene.folder("w0") / "journal"
    used = follower.store.space().map_used_bytes
    follower.store.close()
    follower.store = Store.open(path, map_bytes=used, grow_bytes=4_096)
    size = follower.size
    for _ in range(2):
        attestor.turn()
    assert codes(attestor) == ["JOURNAL_FULL"], attestor.alerts
    assert follower.size > size == follower.store.head().next_seq
    follower.store.close()
    follower.store = Store.open(path)
    attestor.turn()
    assert codes(attestor) == ["JOURNAL_FULL"]
    assert follower.store.head().next_seq == follower.size == scene.node.store.head().next_seq
    assert signed_hash(scene, "w0", 3)


def test_a_damaged_log_signs_nothing_of_that_epoch(scene: Scene) -> None:
    """A file that cannot be read is one that may have said something else."""
    with SigningLog(scene.folder("w0")) as log:
        log.record(3, 0, bytes(range(32)))
    attestor = scene.watcher(0)
    attestor.turn()
    assert codes(attestor) == ["ALREADY_SIGNED_OTHER"]
    scene.steal()
    attestor.turn()
    assert scene.vault.veto_of(3).state == VETO_OPEN
