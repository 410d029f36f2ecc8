# SPDX-License-Identifier: GPL-3.0-or-later
"""The witness's decisions over real HTTP, status by status (C2SP tlog-witness), and in which order they are made."""

import base64
import random
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from nacl.signing import SigningKey

from clearing.witness.server import build_app, listen
from clearing.witness.state import State, read_memory
from clearing.witness.witness import MAX_NOTE_BYTES, MAX_PROOF_LINES, Refusal, Witness, log_keys
from proofs import cosignature
from proofs.checkpoint import ED25519, Checkpoint, key_id, parse, sign, signature_line, verifier_key
from tests.witness.heads import (
    KEY,
    LOG_KEY,
    LOG_PUBLIC,
    LOG_SEED,
    NAME,
    NOW,
    ORIGIN,
    PUBLIC,
    SEED,
    Clock,
    asked,
    head,
    refused,
    request,
    served,
    served_app,
    witness,
)

ONE, OTHER = head(130), head(130, fork_at=5)


@dataclass
class Place:
    url: str
    folder: Path
    clock: Clock
    told: list[Any]
    http: httpx.Client

    def post(self, body: bytes) -> httpx.Response:
        return self.http.post(f"{self.url}/add-checkpoint", content=body)

    def status(self, body: bytes) -> int:
        return self.post(body).status_code

    def size(self) -> int:
        logs = read_memory(self.folder).logs
        return logs[0].checkpoint.size if logs else 0

    def conflict(self, body: bytes, size: int) -> None:
        """409 in the standard's words, to the byte."""
        answer = self.post(body)
        assert (answer.status_code, answer.content) == (409, b"%d\n" % size)
        assert answer.headers["content-type"] == "text/x.tlog.size"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    clock = Clock()
    told: list[Any] = []
    with witness(tmp_path / "w", clock, told) as one, served(one) as url, httpx.Client(timeout=20) as http:
        yield Place(url, tmp_path / "w", clock, told, http)


def test_a_log_that_grows_is_cosigned(place: Place) -> None:
    """200 with one line of the witness's key at its time; the memory holds the note with both signatures."""
    old = 0
    for size in (1, 1, 2, 7, 64, 65, 128, 130):
        place.clock.now += 1
        answer = place.post(asked(ONE, old, size))
        assert answer.status_code == 200
        note = parse(ONE.note(size) + answer.text)
        assert cosignature.verify(note, NAME, PUBLIC) == place.clock.now
        assert len(note.signatures) == 2
        (known,) = read_memory(place.folder).logs
        assert (known.checkpoint, known.note) == (ONE.tip(size), ONE.note(size) + answer.text)
        old = size


def test_an_unknown_log_is_404_and_comes_before_everything_else(place: Place) -> None:
    """Whoever signed it, and whatever its sizes: the origin is looked at first."""
    for seed in (LOG_SEED, SEED):
        assert place.status(request(0, [], ONE.note(3, seed, "other.example"))) == 404
        assert place.status(request(9, [], ONE.note(3, seed, "other.example"))) == 404


def test_a_checkpoint_that_the_log_did_not_sign_is_403(place: Place) -> None:
    """Unsigned by the trusted key: another key under its name, its signature over another text, its key under another
    name. With the trusted signature beside such lines, the checkpoint is cosigned."""
    stranger = ONE.note(3, sha256(b"stranger").digest())
    moved = ONE.note(4).replace("\n4\n", "\n3\n")
    renamed = parse(ONE.note(3, origin="other.example")).signatures[0]
    foreign = f"{ONE.tip(3).body().decode()}\n" + signature_line(*renamed)
    for note in (stranger, moved, foreign):
        assert place.status(request(0, [], note)) == 403
        assert place.status(request(9, [], note)) == 403  # before the old size is looked at
    assert place.size() == 0
    body, blank, line = stranger.partition("\n\n")
    trusted = ONE.note(3).partition("\n\n")[2]
    assert place.status(request(0, [], body + blank + line + trusted)) == 200


def test_an_old_size_beyond_the_checkpoint_is_400(place: Place) -> None:
    assert place.status(asked(ONE, 0, 5)) == 200
    assert place.status(request(6, [], ONE.note(5))) == 400
    assert place.status(request(4, [], ONE.note(3))) == 400


def test_another_old_size_is_409_with_the_known_one(place: Place) -> None:
    """Before the first checkpoint the known size is 0; later it is that of the last one, proof or not."""
    place.conflict(asked(ONE, 3, 5), 0)
    assert place.status(asked(ONE, 0, 5)) == 200
    for old in (0, 1, 4, 6, 7):
        place.conflict(asked(ONE, old, 7), 5)
    place.conflict(request(0, [], ONE.note(5)), 5)
    place.conflict(request(3, ONE.proof(3, 4), ONE.note(4)), 5)  # a smaller one is never cosigned again
    assert place.status(asked(ONE, 5, 7)) == 200
    place.conflict(asked(ONE, 5, 7), 7)


def test_another_root_of_the_known_size_is_409(place: Place) -> None:
    """And is kept as evidence that the log has forked, however it was sent; the memory of the first stays."""
    assert place.status(asked(ONE, 0, 9)) == 200
    place.conflict(request(9, [], OTHER.note(9)), 9)
    memory = read_memory(place.folder)
    assert [path.read_text() for path in memory.forks] == [OTHER.note(9)]
    assert memory.logs[0].checkpoint == ONE.tip(9)
    third = head(20, fork_at=2, word=b"third")
    place.conflict(request(3, ONE.proof(3, 9), third.note(9)), 9)  # caught although the old size is wrong
    for _ in range(3):
        place.conflict(request(9, [], third.note(9)), 9)  # kept once
    assert [path.read_text() for path in read_memory(place.folder).forks] == [OTHER.note(9), third.note(9)]
    assert [event for event, _ in place.told] == ["cosigned", "fork", "fork"]
    assert place.status(asked(ONE, 9, 12)) == 200  # the first history goes on


def test_a_larger_tree_needs_a_proof(place: Place) -> None:
    """422 for another history, a proof that is empty, too long, of other sizes, or has a flipped bit."""
    assert place.status(asked(ONE, 0, 6)) == 200
    good = ONE.proof(6, 11)
    bad = [[], good[:-1], [*good, good[0]], ONE.proof(5, 11), ONE.proof(6, 12), list(reversed(good))]
    for at in range(len(good)):
        bent = bytes([good[at][0] ^ 1]) + good[at][1:]
        bad.append([*good[:at], bent, *good[at + 1 :]])
    for proof in bad:
        assert place.status(request(6, proof, ONE.note(11))) == 422
    assert place.status(request(6, OTHER.proof(6, 11), OTHER.note(11))) == 422
    assert place.status(request(6, good, OTHER.note(11))) == 422
    assert place.size() == 6
    assert place.status(request(6, good, ONE.note(11))) == 200


def test_where_nothing_is_to_be_proven_the_proof_is_empty(place: Place) -> None:
    """From old size 0, and between equal sizes: 422 for any proof line."""
    assert place.status(request(0, ONE.proof(2, 4), ONE.note(4))) == 422
    assert place.status(asked(ONE, 0, 4)) == 200
    assert place.status(request(4, ONE.proof(2, 4), ONE.note(4))) == 422
    assert place.status(request(4, [], ONE.note(4))) == 200


def test_an_empty_log(place: Place) -> None:
    """It has one root. Another one for size 0 contradicts what everybody knows of it."""
    place.conflict(request(0, [], sign(Checkpoint(ORIGIN, 0, bytes(32)), LOG_SEED)), 0)
    for _ in range(2):
        assert place.status(asked(ONE, 0, 0)) == 200
    assert place.status(asked(ONE, 0, 3)) == 200


def test_only_the_last_unproven_notes_are_kept(place: Place) -> None:
    """Anybody can send a good note with a bad proof: it is no evidence, and must not fill the disk."""
    assert place.status(asked(ONE, 0, 6)) == 200
    for size in range(7, 31):
        assert place.status(request(6, [], ONE.note(size))) == 422
    kept = [parse(path.read_text()).checkpoint.size for path in read_memory(place.folder).unproven]
    assert kept == list(range(15, 31))
    assert read_memory(place.folder).forks == ()


NOTE = ONE.note(3)
HASH = base64.b64encode(bytes(32)).decode()
MALFORMED = [
    b"",
    b"old 0\n",
    b"old 0\n\n",
    b"\n\n" + NOTE.encode(),
    b"\n" + NOTE.encode(),
    f"old 0\n{NOTE}".encode(),
    f"old  0\n\n{NOTE}".encode(),
    f"Old 0\n\n{NOTE}".encode(),
    f"old 00\n\n{NOTE}".encode(),
    f"old -0\n\n{NOTE}".encode(),
    f"old +1\n\n{NOTE}".encode(),
    f"old \n\n{NOTE}".encode(),
    f"old 0 \n\n{NOTE}".encode(),
    f"old 0\r\n\r\n{NOTE}".encode(),
    f"old ٣\n\n{NOTE}".encode(),
    f"old {1 << 63}\n\n{NOTE}".encode(),
    f"old {'9' * 5000}\n\n{NOTE}".encode(),
    f"old 0\n{HASH[:-1]}\n\n{NOTE}".encode(),
    f"old 0\n{HASH} \n\n{NOTE}".encode(),
    f"old 0\n{HASH[:-2]}B=\n\n{NOTE}".encode(),  # bits set that no canonical base64 has
    f"old 0\n{base64.b64encode(bytes(31)).decode()}\n\n{NOTE}".encode(),
    (f"old 0\n{(HASH + chr(10)) * (MAX_PROOF_LINES + 1)}\n{NOTE}").encode(),
    f"old 0\n\n\n{NOTE}".encode(),
    f"old 0\n\n{NOTE[:-1]}".encode(),
    f"old 0\n\n{NOTE}junk\n".encode(),
    f"old 0\n\n{ONE.tip(3).body().decode()}\n".encode(),
    f"old 0\n\n{NOTE.replace(chr(10) + chr(10), chr(10) + 'an extension line' + chr(10) * 2)}".encode(),
    f"old 0\n\n{NOTE.replace(chr(10) + '3' + chr(10), chr(10) + '03' + chr(10))}".encode(),
    f"old 0\n\n{NOTE}".encode("utf-16"),
    b"old 0\n\n" + NOTE.encode().replace(b"venue", b"venue\xff"),
    f"old 0\n\n{NOTE + signature_line('x', bytes(4), bytes(MAX_NOTE_BYTES * 3 // 4))}".encode(),
]


def test_what_is_no_request_is_400(place: Place) -> None:
    """Each is a little off the form; nothing of it is remembered."""
    for body in MALFORMED:
        answer = place.post(body)
        assert (answer.status_code, answer.json()["code"]) == (400, "WITNESS_MALFORMED"), body
    assert place.post(b"old 0\n\n" + NOTE.encode() * 500).status_code == 413
    assert read_memory(place.folder).logs == ()


def test_random_damage_never_breaks_it(rng: random.Random, tmp_path: Path) -> None:
    """A good request with bytes changed, cut or doubled is refused as such or is still good: nothing else happens."""
    with witness(tmp_path / "w") as one:
        one.add_checkpoint(asked(ONE, 0, 6))
        good = asked(ONE, 6, 11)
        for _ in range(1_500):
            body = bytearray(good)
            at = rng.randrange(len(body))
            match rng.randrange(3):
                case 0:
                    body[at] ^= 1 << rng.randrange(8)
                case 1:
                    del body[at : at + rng.randrange(1, 40)]
                case _:
                    body[at:at] = body[at : at + rng.randrange(1, 40)]
            with pytest.raises(Refusal) as caught:
                one.add_checkpoint(bytes(body))
            assert caught.value.status in (400, 403, 404, 409, 422), body
        assert cosignature.verify(parse(ONE.note(11) + one.add_checkpoint(good)), NAME, PUBLIC) == NOW


def test_nothing_else_is_served(place: Place) -> None:
    assert place.http.get(f"{place.url}/add-checkpoint").status_code == 405
    for path in ("/", "/state", "/add-checkpoint/x", "//add-checkpoint"):
        assert place.http.post(place.url + path, content=b"x").status_code == 404


def test_a_sender_who_hangs_up_leaves_nothing_behind(place: Place) -> None:
    """Half a body and no more: nothing is remembered, and the next one is served."""
    host, port = place.url.removeprefix("http://").split(":")
    body = asked(ONE, 0, 4)
    with socket.create_connection((host, int(port)), 10) as raw:
        raw.sendall(b"POST /add-checkpoint HTTP/1.1\r\nhost: w\r\ncontent-length: %d\r\n\r\n" % len(body) + body[:50])
    assert place.status(asked(ONE, 0, 3)) == 200
    assert place.size() == 3


def test_times_never_go_back(place: Place) -> None:
    """A clock that is set back does not make a later cosignature the earlier one."""
    times = []
    for size, now in ((3, NOW), (4, NOW - 500), (5, NOW + 7)):
        place.clock.now = now
        answer = place.post(asked(ONE, place.size(), size))
        times.append(cosignature.verify(parse(ONE.note(size) + answer.text), NAME, PUBLIC))
    assert times == [NOW, NOW, NOW + 7]


def test_lines_in_the_witnesss_name_do_not_get_into_its_memory(place: Place) -> None:
    """A sender adds a false cosignature of the witness: the stored note has the real one alone, and still checks."""
    forged = signature_line(NAME, key_id(NAME, cosignature.COSIGNATURE, PUBLIC), bytes(72))
    assert place.status(request(0, [], ONE.note(2) + forged)) == 200
    (known,) = read_memory(place.folder).logs
    assert len(parse(known.note).signatures) == 2


def test_several_logs_and_changed_keys(tmp_path: Path) -> None:
    """Each origin has its own history; of a log that changed its key, both keys are good."""
    second = sha256(b"the log's second key").digest()
    lines = [
        "# followed",
        "",
        LOG_KEY,
        f"log {verifier_key(ORIGIN, ED25519, bytes(SigningKey(second).verify_key))} https://venue.example/",
        f"  log {verifier_key('other.example', ED25519, LOG_PUBLIC)}",
        LOG_KEY,
    ]
    logs = log_keys(lines)
    assert {origin: len(keys) for origin, keys in logs.items()} == {ORIGIN: 2, "other.example": 1}
    with State(tmp_path / "w", KEY, new=True) as state:
        one = Witness(NAME, SEED, logs, state)
        one.add_checkpoint(asked(ONE, 0, 4))
        one.add_checkpoint(request(4, ONE.proof(4, 6), ONE.note(6, second)))
        one.add_checkpoint(request(0, [], OTHER.note(9, origin="other.example")))
        with pytest.raises(Refusal) as caught:
            one.add_checkpoint(request(0, [], OTHER.note(9, second, "other.example")))
        assert caught.value.status == 403
    assert {known.checkpoint.origin: known.checkpoint.size for known in read_memory(tmp_path / "w").logs} == {
        ORIGIN: 6,
        "other.example": 9,
    }


@pytest.mark.parametrize("line", ["nonsense", KEY, LOG_KEY[:-2], f"witness w {KEY}", f"log {LOG_KEY} a b"])
def test_what_is_no_log_is_refused(line: str) -> None:
    refused("WITNESS_LOGS", log_keys, [LOG_KEY, line])


def test_a_port_that_is_taken_is_said_so(place: Place) -> None:
    port = int(place.url.rpartition(":")[2])
    refused("PORT_UNAVAILABLE", listen, "127.0.0.1", port)


def test_a_fault_of_ours_is_500_without_a_cosignature(tmp_path: Path) -> None:
    """The cause goes to the log, and not to the caller."""
    told: list[Any] = []

    class Broken:
        def add_checkpoint(self, body: bytes) -> str:
            raise ZeroDivisionError("a secret of ours")

    broken: Any = Broken()
    with served_app(build_app(broken, lambda event, **fields: told.append((event, fields)))) as url:
        answer = httpx.post(f"{url}/add-checkpoint", content=b"x")
    assert (answer.status_code, answer.json()["code"]) == (500, "INTERNAL")
    assert "secret" not in answer.text
    assert told == [("failed", {"code": "INTERNAL", "message": "ZeroDivisionError: a secret of ours"})]
