# SPDX-License-Identifier: GPL-3.0-or-later
"""`novate bot`: both bots as processes, against a running operator, with key files and NOVATE_* variables alone."""

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from clearing.cli.stage import wait_for
from tests.cli.venue import DEAD, ROOT, Person, Result, Venue, checked

_LIMITS = ("--max-position", "60", "--size", "4")


@contextmanager
def maker(venue: Venue, who: Person, *options: str) -> Iterator["subprocess.Popen[str]"]:
    """A market maker that runs meanwhile, with its quotes in the book."""
    command = [sys.executable, "-m", "clearing.cli", "bot", "maker", *_LIMITS, "--json", "--every", "0.5", *options]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("NOVATE_")}
    given = clean | {"PYTHONPATH": str(ROOT)} | venue.env | who.env()
    process = subprocess.Popen(command, env=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: process.poll() is not None or quotes(venue, who) > 0, "the maker's quotes", 30)
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def quotes(venue: Venue, who: Person) -> int:
    """Open orders of an account; a price is kept fresh on the way."""
    venue.fresh()
    with venue.api() as client:
        return len(client.account(who.account)["orders"])


def ended(process: "subprocess.Popen[str]") -> Result:
    out, err = process.communicate(timeout=30)
    done = subprocess.CompletedProcess(process.args, process.returncode, out, err)
    return checked(done, as_json=True)


@pytest.mark.slow
def test_a_maker_and_a_taker_meet(venue: Venue) -> None:
    """The taker's orders are filled by the maker's quotes; asked to stop, the maker leaves nothing open and says so."""
    venue.flatten()
    with maker(venue, venue.alice) as process:
        venue.fresh()
        taker = venue.ok(
            "bot", "taker", *_LIMITS, "--orders", "10", "--per-second", "20", "--seconds", "20", "--json",
            who=venue.bob,
        ).data  # fmt: skip
        process.send_signal(signal.SIGTERM)
        made = ended(process)
    assert taker["orders"] == 10 and taker["fills"] >= 10 and taker["rejected"] == {}, taker
    assert made.status == 0, made.err
    assert made.data["fills"] >= 10 and made.data["open_orders"] == 0, made.data
    assert int(made.data["position_lots"]) == -int(taker["position_lots"])
    assert " orders in " in made.err and "position" in made.err  # a line now and then
    with venue.api() as client:
        assert client.account(venue.alice.account)["orders"] == []


@pytest.mark.slow
def test_a_killed_maker_leaves_nothing_open(venue: Venue) -> None:
    """SIGKILL gives it no chance to cancel: the operator does, when the connection ends."""
    with maker(venue, venue.alice) as process:
        process.kill()
        wait_for(lambda: quotes(venue, venue.alice) == 0, "the cancel", 10)


@pytest.mark.slow
def test_it_ends_by_itself(venue: Venue) -> None:
    """After `--seconds`, with a summary in words."""
    venue.fresh()
    started = time.monotonic()
    done = venue.ok("bot", "maker", *_LIMITS, "--seconds", "1", who=venue.alice)
    assert time.monotonic() - started < 60
    lines = [line.split()[0] for line in done.out.splitlines()]
    assert lines[:5] == ["maker", "sent", "filled", "fees", "position"], done.out
    assert quotes(venue, venue.alice) == 0


@pytest.mark.slow
def test_what_is_wrong_is_said_with_a_code(venue: Venue) -> None:
    """A key that is not the account's, a market that is not there, settings out of bounds, an open key file, nobody
    there: one line, nothing sent."""
    alice, bob = venue.alice, venue.bob
    strange = {"NOVATE_KEY": str(bob.key)}
    assert venue.run("bot", "maker", *_LIMITS, who=alice, env=strange).code == "UNKNOWN_KEY"
    assert venue.run("bot", "taker", *_LIMITS, "--instrument", "9", who=alice).code == "UNKNOWN_INSTRUMENT"
    assert venue.run("bot", "maker", *_LIMITS, "--levels", "99", who=alice).code == "BAD_SETTINGS"
    gone = venue.run("bot", "maker", *_LIMITS, who=alice, env={"NOVATE_API": DEAD})
    assert (gone.status, gone.code) == (4, "OPERATOR_UNREACHABLE")
    assert venue.run("bot", "maker", who=alice).status == 2
    mode = stat.S_IMODE(alice.key.stat().st_mode)
    alice.key.chmod(0o644)
    try:
        assert venue.run("bot", "maker", *_LIMITS, who=alice).status == 1
    finally:
        alice.key.chmod(mode)
