# SPDX-License-Identifier: GPL-3.0-or-later
"""Collecting cosignatures: from real witnesses, and from servers that answer as they like."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from nacl.signing import SigningKey

from clearing.client.witness import GRAVE, Asked, collect, witness_at, witnesses_of
from clearing.witness.state import State, read_memory
from clearing.witness.witness import Witness
from proofs import cosignature
from proofs.checkpoint import ED25519, key_id, parse, signature_line, verifier_key
from proofs.errors import CheckpointError
from proofs.policy import Policy
from tests.witness.heads import KEY, LOGS, NAME, NOW, PUBLIC, SEED, Clock, asked, head, refused, served, witness

ONE, OTHER = head(130), head(130, fork_at=5)


def one_asked(url: str, size: int, previous: int = 0, history: Any = ONE, **named: Any) -> tuple[str, Asked]:
    found = collect(history.note(size), [witness_at(KEY, url)], history.proof, previous, now=Clock(), **named)
    (only,) = found.asked
    return found.note, only


# --- real witnesses ---


def test_a_note_comes_back_cosigned(tmp_path: Path) -> None:
    """Whatever the collector believes that the witness knows: 409 tells it, and it asks again from there."""
    with witness(tmp_path / "w") as one, served(one) as url:
        for size, previous in ((3, 0), (9, 3), (64, 1), (65, 70), (66, 66), (66, 0), (130, 129)):
            note, only = one_asked(url + "/", size, previous)
            assert (only.time_s, only.code) == (NOW, "")
            assert note.startswith(ONE.note(size))
            assert cosignature.verify(parse(note), NAME, PUBLIC) == NOW


@pytest.mark.slow
def test_a_missing_witness_holds_nobody_up(tmp_path: Path) -> None:
    """Three witnesses, of whom one is gone and one never answers: the third's line comes back within the deadline."""
    silent = socket.create_server(("127.0.0.1", 0))
    gone = socket.create_server(("127.0.0.1", 0))
    port = gone.getsockname()[1]
    gone.close()
    keys = [cosignature.verifier_key(f"w{n}", bytes(SigningKey(sha256(b"%d" % n).digest()).verify_key)) for n in (1, 2)]
    with silent, witness(tmp_path / "w") as one, served(one) as url:
        places = [
            witness_at(keys[0], f"http://127.0.0.1:{silent.getsockname()[1]}"),
            witness_at(KEY, url),
            witness_at(keys[1], f"http://127.0.0.1:{port}"),
        ]
        before = time.monotonic()
        found = collect(ONE.note(9), places, ONE.proof, timeout_s=2.0)
        assert time.monotonic() - before < 10
    assert [one.code for one in found.asked] == ["WITNESS_UNREACHABLE", "", "WITNESS_UNREACHABLE"]
    assert [one.name for one in found.missing] == ["w1", "w2"]
    policy = Policy.parse(f"witness a {keys[0]}\nwitness b {KEY}\ngroup g any a b\nquorum g\n")
    assert policy.check(found.note) == ("b",)


def test_what_the_witness_holds_against_the_log_has_its_own_code(tmp_path: Path) -> None:
    """A fork, another history, a journal that was set back; and the note is left as it was."""
    with witness(tmp_path / "w") as one, served(one) as url:
        one.add_checkpoint(asked(ONE, 0, 20))
        for history, size, previous, code in (
            (OTHER, 20, 20, "WITNESS_FORK"),
            (OTHER, 20, 0, "WITNESS_FORK"),
            (OTHER, 33, 20, "WITNESS_UNPROVEN"),
            (OTHER, 33, 7, "WITNESS_UNPROVEN"),
            (ONE, 19, 19, "WITNESS_AHEAD"),
        ):
            note, only = one_asked(url, size, previous, history)
            assert (note, only.code, only.time_s) == (history.note(size), code, None)
            assert code in GRAVE
        assert read_memory(tmp_path / "w").logs[0].checkpoint == ONE.tip(20)


def test_a_witness_that_follows_other_logs_or_keys(tmp_path: Path) -> None:
    with State(tmp_path / "w", KEY, new=True) as state:
        with served(Witness(NAME, SEED, {"other.example": (PUBLIC,)}, state)) as url:
            assert one_asked(url, 3)[1].code == "WITNESS_UNKNOWN_LOG"
        with served(Witness(NAME, SEED, dict.fromkeys(LOGS, (PUBLIC,)), state)) as url:
            assert one_asked(url, 3)[1].code == "WITNESS_UNSIGNED"


def test_a_fresh_line_is_not_asked_for_again(tmp_path: Path) -> None:
    """Within ten minutes; after that the new line takes the place of the old one, and the note does not grow."""
    clock = Clock()
    with witness(tmp_path / "w", clock) as one, served(one) as url:
        place = [witness_at(KEY, url)]
        first = collect(ONE.note(9), place, ONE.proof, now=clock).note
        clock.now += 599
        assert collect(first, place, ONE.proof, 9, now=clock).note == first
        clock.now += 1
        second = collect(first, place, ONE.proof, 9, now=clock)
        assert (second.asked[0].time_s, len(parse(second.note).signatures)) == (NOW + 600, 2)
        assert len(second.note) == len(first)
        again = collect(second.note, place, ONE.proof, 9, now=clock, fresh_s=0)
        assert len(parse(again.note).signatures) == 2


def test_lines_of_others_stay(tmp_path: Path) -> None:
    """The log's own lines, other witnesses', and those of keys that nobody knows."""
    other = cosignature.sign(ONE.tip(9), "other.example", sha256(b"other").digest(), 5)
    namesake = signature_line(NAME, b"\0\1\2\3", bytes(72))
    false = signature_line(NAME, key_id(NAME, cosignature.COSIGNATURE, PUBLIC), bytes(72))
    with witness(tmp_path / "w") as one, served(one) as url:
        found = collect(ONE.note(9) + other + false + namesake, [witness_at(KEY, url)], ONE.proof, now=Clock())
    assert found.note == ONE.note(9) + other + namesake + cosignature.sign(ONE.tip(9), NAME, SEED, NOW)


# --- servers that are none ---


Answer = tuple[int, bytes]


@contextlib.contextmanager
def answering(answer: Callable[[bytes], Answer]) -> Iterator[str]:
    """A server that says what the test wants to each request's body."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status, body = answer(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.send_header("location", "/elsewhere")
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


GOOD = cosignature.sign(ONE.tip(9), NAME, SEED, NOW)
STRANGE = cosignature.sign(ONE.tip(9), NAME, sha256(b"stranger").digest(), NOW)
FALSE = cosignature.sign(ONE.tip(8), NAME, SEED, NOW)


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (200, b"", "WITNESS_ANSWER"),
        (200, b"hello", "WITNESS_ANSWER"),
        (200, b"\xff\xfe", "WITNESS_ANSWER"),
        (200, GOOD[:-1].encode(), "WITNESS_ANSWER"),
        (200, ("\n" + GOOD).encode(), "WITNESS_ANSWER"),
        (200, FALSE.encode(), "WITNESS_ANSWER"),
        (200, (GOOD + FALSE).encode(), "WITNESS_ANSWER"),
        (200, STRANGE.encode(), "WITNESS_OTHER_KEY"),
        (200, GOOD.encode() * 200, "WITNESS_ANSWER"),
        (204, b"", "WITNESS_ANSWER"),
        (301, b"", "WITNESS_ANSWER"),
        (409, b"", "WITNESS_ANSWER"),
        (409, b"many\n", "WITNESS_ANSWER"),
        (409, b"9" * 5000, "WITNESS_ANSWER"),
        (409, b"0\n", "WITNESS_ANSWER"),
        (409, b"10\n", "WITNESS_AHEAD"),
        (422, b'{"message": "so it is"}', "WITNESS_UNPROVEN"),
        (422, b'{"message": 7}', "WITNESS_UNPROVEN"),
        (403, b"[]", "WITNESS_UNSIGNED"),
        (404, b"\xff", "WITNESS_UNKNOWN_LOG"),
        (500, b"", "WITNESS_ANSWER"),
    ],
)
def test_answers_that_are_none(status: int, body: bytes, code: str) -> None:
    """A code and a sentence for each; the note is left as it was."""
    with answering(lambda _: (status, body)) as url:
        note, only = one_asked(url, 9)
    assert (note, only.code, only.time_s) == (ONE.note(9), code, None)
    assert url in only.reason


def test_more_lines_than_its_own_are_left_out() -> None:
    """A witness may sign with several keys, and may add what it likes: only the known key's line is taken."""
    junk = signature_line("junk", b"1234", b"x" * 90)
    with answering(lambda _: (200, (junk + STRANGE + GOOD).encode())) as url:
        assert one_asked(url, 9)[0] == ONE.note(9) + GOOD


def test_a_size_that_never_stays() -> None:
    """A witness that names another size each time is given up."""
    sizes = iter(range(1, 9))
    with answering(lambda _: (409, b"%d\n" % next(sizes))) as url:
        assert one_asked(url, 9)[1].code == "WITNESS_BUSY"
    assert next(sizes) == 5


def test_what_is_sent_is_the_standards_form() -> None:
    """Old size, proof lines in base64, an empty line, the note: as the witness's own tests have it, to the byte."""
    sent: list[bytes] = []

    def answer(body: bytes) -> Answer:
        sent.append(body)
        return (409, b"6\n") if len(sent) == 1 else (200, GOOD.encode())

    with answering(answer) as url:
        assert one_asked(url, 9, 3)[1].time_s == NOW
    assert sent == [asked(ONE, 3, 9), asked(ONE, 6, 9)]


def test_a_trickle_does_not_outlast_the_deadline() -> None:
    """A server that sends a byte now and then, for ever, is left when the time is up."""
    listener = socket.create_server(("127.0.0.1", 0))
    done = threading.Event()

    def trickle() -> None:
        peer, _ = listener.accept()
        with peer, contextlib.suppress(OSError):
            peer.sendall(b"HTTP/1.1 200 OK\r\n")
            while not done.wait(0.05):
                peer.sendall(b"x-a: b\r\n")

    thread = threading.Thread(target=trickle, daemon=True)
    thread.start()
    before = time.monotonic()
    note, only = one_asked(f"http://127.0.0.1:{listener.getsockname()[1]}", 9, timeout_s=0.5)
    assert time.monotonic() - before < 8
    assert (note, only.code) == (ONE.note(9), "WITNESS_UNREACHABLE")
    done.set()
    thread.join(10)
    listener.close()


# --- who is asked ---


@pytest.mark.parametrize("url", ["", "w.example", "ftp://w.example", "http://", "file:///etc", "http://a:b/"])
def test_urls_that_are_none(url: str) -> None:
    refused("WITNESS_URL", witness_at, KEY, url)


@pytest.mark.parametrize("host", ["[", "a" * 100, "a..b", "nobody.invalid"])
def test_hosts_that_no_resolver_takes(host: str) -> None:
    assert one_asked(f"http://{host}/", 3)[1].code == "WITNESS_UNREACHABLE"


@pytest.mark.parametrize("key", ["", "nonsense", KEY[:-1], verifier_key(NAME, ED25519, PUBLIC)])
def test_keys_that_are_no_witnesss(key: str) -> None:
    refused("WITNESS_KEY", witness_at, key, "http://w.example")


def test_the_witnesses_of_a_policy() -> None:
    """Those that have a URL, under their names in the policy; a URL that is none is named."""
    other = cosignature.verifier_key("o.example", bytes(SigningKey(bytes(32)).verify_key))
    policy = Policy.parse(f"witness a {KEY} https://w.example/p/\nwitness b {other}\nquorum none\n")
    assert witnesses_of(policy) == (witness_at(KEY, "https://w.example/p", "a"),)
    refused("WITNESS_URL", witnesses_of, Policy.parse(f"witness a {KEY} w.example\nquorum none\n"))


def test_nobody_to_ask_and_no_note() -> None:
    assert collect(ONE.note(9), [], ONE.proof).note == ONE.note(9)
    with pytest.raises(CheckpointError):
        collect("no note", [], ONE.proof)
