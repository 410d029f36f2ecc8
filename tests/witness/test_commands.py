# SPDX-License-Identifier: GPL-3.0-or-later
"""`novate witness run|status` and `novate journal publish --witness`: what they print, exit with, and leave behind."""

import json
import re
import signal
import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from clearing.cli.main import main
from clearing.cli.witness import KEY_VARIABLE
from clearing.witness.state import read_memory
from proofs import cosignature
from proofs.checkpoint import parse
from proofs.policy import Policy
from tests.tlog import logs as tlog
from tests.tlog.logs import Journal
from tests.witness.heads import KEY, LOG_KEY, NAME, SEED, asked, head, request, served, witness
from tests.witness.processes import Process

ONE, OTHER = head(130), head(130, fork_at=5)


def run(*arguments: object, env: dict[str, str] | None = None) -> Result:
    """The command in this process; no traceback, whatever happens."""
    result = CliRunner().invoke(main, list(map(str, arguments)), env=env)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return result


def ok(*arguments: object) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def failed(status: int, code: str, *arguments: object, env: dict[str, str] | None = None) -> str:
    result = run(*arguments, env=env)
    assert result.exit_code == status, result.output
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith(f"novate: {code}: ") if code else last.startswith("Error: "), result.stderr
    return last


# --- witness run, status ---


@pytest.mark.slow
def test_a_witness_runs_cosigns_and_remembers(tmp_path: Path) -> None:
    """From a fresh key to a cosignature, SIGTERM, a second run that knows what the first one did, and its status."""
    process = Process(tmp_path / "w", NAME, tlog.KEY)
    name, public_key = cosignature.parse_witness_key(process.key)
    assert name == NAME
    assert stat.S_IMODE((tmp_path / "w" / "key").stat().st_mode) == 0o600
    policy = tmp_path / "policy"
    with process:
        policy.write_text(f"log {tlog.KEY}\nwitness w {process.key} {process.url}\nquorum w\n")
        told = ok(*_publish(tmp_path, 300), "--policy", policy)
        assert [(one["name"], one["code"]) for one in told["witnesses"]] == [("w", "")]
        assert process.stop() == 0
    text = (tmp_path / "log" / "checkpoint").read_text()
    assert Policy.parse(policy.read_text()).check(text) == ("w",)
    (known,) = read_memory(process.memory).logs
    assert (known.checkpoint.size, known.time_s) == (300, told["witnesses"][0]["time_s"])
    assert {json.loads(line)["event"] for line in process.log().splitlines()} == {"serving", "cosigned", "stopped"}

    with process.start():
        answer = run(*_publish(tmp_path, 310), "--witness", process.key, process.url)
        assert f"cosigned by {NAME}" in answer.stdout
        assert process.stop(signal.SIGINT) == 0
    status = ok("witness", "status", "--state", process.memory)
    assert (status["witness"], [one["size"] for one in status["logs"]]) == (process.key, [310])
    assert cosignature.verify(parse(Path(status["logs"][0]["note"]).read_text()), NAME, public_key)
    assert (status["forks"], status["unproven"]) == ([], [])


def _publish(tmp_path: Path, size: int) -> list[object]:
    """The command that publishes the first `size` entries of a journal, which is made at the first call."""
    if not (tmp_path / "journal").exists():
        journal = Journal(tmp_path / "journal", 310)
        for number in (20, 300, 310):
            (tmp_path / f"note-{number}").write_text(journal.note(number))
        journal.store.close()
    source = ["--journal", tmp_path / "journal", "--note", tmp_path / f"note-{size}"]
    return ["journal", "publish", tmp_path / "log", *source]


def test_status_shows_a_fork(tmp_path: Path) -> None:
    """In words and in JSON: what was cosigned, the note that contradicts it, and the ones without a proof."""
    folder = tmp_path / "w"
    with witness(folder) as one:
        assert "no log has been cosigned yet" in run("witness", "status", "--state", folder).stdout
        one.add_checkpoint(asked(ONE, 0, 9))
        for body in (request(9, [], OTHER.note(9)), request(9, [], OTHER.note(12))):
            with pytest.raises(Exception, match="WITNESS_"):
                one.add_checkpoint(body)
        told = run("witness", "status", "--state", folder).stdout  # beside the running witness
    status = ok("witness", "status", "--state", folder)
    assert [Path(path).read_text() for path in status["forks"]] == [OTHER.note(9)]
    assert [Path(path).read_text() for path in status["unproven"]] == [OTHER.note(12)]
    assert f"FORK: {status['forks'][0]}" in told
    assert re.search(r"9 entries, root [0-9a-f]{16}…, cosigned 2023-11-14 22:13:20 UTC", told)


def test_the_key_from_the_environment(tmp_path: Path) -> None:
    """Instead of a file, not beside one. Nobody knows whether it has cosigned: its memory must be there, or --new."""
    env = {KEY_VARIABLE: SEED.hex()}
    start = ["witness", "run", "--name", NAME, "--log", LOG_KEY, "--state", tmp_path / "w", "--port", "0"]
    assert run("witness", "run", "--name", NAME, "--vkey", env=env).stdout == KEY + "\n"
    assert "--new" in failed(1, "WITNESS_NO_STATE", *start, env=env)
    failed(2, "", *start, "--key", tmp_path / "key", env=env)
    failed(2, "", *start)
    assert "hexadecimal" in failed(1, "KEY_MALFORMED", *start, env={KEY_VARIABLE: "no key"})


def test_what_a_witness_does_not_start_with(tmp_path: Path) -> None:
    """One line, a code, and nothing left behind that would count as a memory."""
    key = tmp_path / "key"
    start = ["witness", "run", "--name", NAME, "--key", key]
    folder = tmp_path / "w"
    state = ["--state", folder]
    assert "--log" in failed(2, "", *start, *state)
    assert "--state" in failed(2, "", *start, "--log", LOG_KEY)
    failed(2, "", "witness", "run", "--name", "two words", "--key", key)
    failed(1, "WITNESS_LOGS", *start, *state, "--log", "nonsense")
    failed(1, "WITNESS_LOGS", *start, *state, "--log", KEY)
    logs = tmp_path / "logs"
    logs.write_bytes(b"\xff\xfe")
    failed(1, "WITNESS_LOGS", *start, *state, "--logs", logs)
    logs.write_text(f"# ours\nlog {LOG_KEY}\n")
    failed(1, "WITNESS_NO_STATE", *start, *state, "--logs", logs)  # the key was made by an earlier command
    assert not folder.exists()
    key.chmod(0o644)
    failed(1, "KEY_FILE_UNSAFE", *start, *state, "--logs", logs)
    failed(1, "WITNESS_NO_STATE", "witness", "status", "--state", folder)
    with witness(folder):
        failed(
            1,
            "WITNESS_LOCKED",
            "witness",
            "run",
            "--name",
            NAME,
            "--log",
            LOG_KEY,
            *state,
            env={KEY_VARIABLE: SEED.hex()},
        )


# --- journal publish ---


def test_a_missing_witness_is_named_and_the_log_is_published(tmp_path: Path) -> None:
    """Published without it, exit 0; at the next run, with nothing new, it is asked again and its line is added."""
    away = run(*_publish(tmp_path, 20), "--witness", KEY, "http://127.0.0.1:1")
    assert away.exit_code == 0
    assert "NOT COSIGNED: WITNESS_UNREACHABLE: witness witness.example/w at http://127.0.0.1:1" in away.stderr
    assert "cosigned by nobody" in away.stdout
    before = (tmp_path / "log" / "checkpoint").read_text()
    with witness(tmp_path / "w") as one, served(one) as url:
        told = ok(*_publish(tmp_path, 20), "--witness", KEY, url)
        assert (told["size"], told["previous"], told["witnesses"][0]["code"]) == (20, 20, "")
    text = (tmp_path / "log" / "checkpoint").read_text()
    assert text.startswith(before)
    assert Policy.parse(f"witness w {KEY}\nquorum w\n").check(text) == ("w",)


def test_a_quorum_that_is_not_met_is_said(tmp_path: Path) -> None:
    """Two of three are asked for, and one has no URL, one is away: who is missing is named, and the log published."""
    keys = [cosignature.verifier_key(f"w{n}", bytes([n]) * 32) for n in (1, 2)]
    with witness(tmp_path / "w") as one, served(one) as url:
        policy = tmp_path / "policy"
        policy.write_text(
            f"witness a {keys[0]}\nwitness b {keys[1]} http://127.0.0.1:1/\nwitness c {KEY} {url}\n"
            "group g 2 a b c\nquorum g\n"
        )
        result = run(*_publish(tmp_path, 20), "--policy", policy)
    assert result.exit_code == 0
    assert "NOT COSIGNED: POLICY_UNSATISFIED: quorum g is not met (cosigned by c): group g has 1 of 2" in result.stderr
    assert "NOT COSIGNED: WITNESS_UNREACHABLE: witness b" in result.stderr
    assert "cosigned by c" in result.stdout


def test_a_fork_is_shouted_and_the_policy_fails(tmp_path: Path) -> None:
    """The witness has cosigned another journal of this log: its refusal is on stderr, and no line is on the note."""
    with witness(tmp_path / "w") as one, served(one) as url:
        one.add_checkpoint(asked(head(50, 3), 0, 20))
        result = run(*_publish(tmp_path, 20), "--witness", KEY, url)
    assert "NOT COSIGNED: WITNESS_FORK" in result.stderr
    assert len(parse((tmp_path / "log" / "checkpoint").read_text()).signatures) == 1


@pytest.mark.parametrize(
    ("option", "code"),
    [
        (("--witness", "nonsense", "http://w.example"), "WITNESS_KEY"),
        (("--witness", KEY, "w.example"), "WITNESS_URL"),
        (("--policy", "POLICY"), "POLICY_INVALID"),
    ],
)
def test_witnesses_that_are_none_stop_before_anything_is_written(
    tmp_path: Path, option: tuple[str, ...], code: str
) -> None:
    (tmp_path / "POLICY").write_text("witness w\n")
    arguments = [str(tmp_path / part) if part == "POLICY" else part for part in option]
    failed(1, code, *_publish(tmp_path, 20), *arguments)
    assert not (tmp_path / "log").exists()


def test_a_policy_without_urls_asks_nobody_and_says_so(tmp_path: Path) -> None:
    policy = tmp_path / "policy"
    policy.write_text(f"witness w {KEY}\nquorum none\n")
    result = run(*_publish(tmp_path, 20), "--policy", policy)
    assert result.exit_code == 0
    assert "no witness of the policy has a URL" in result.stderr
