# SPDX-License-Identifier: GPL-3.0-or-later
"""What every command promises: quick help, one-line errors with a code, exit codes, a true README."""

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clearing.cli.main import main
from clearing.cli.output import parse_usd, usd

ROOT = Path(__file__).resolve().parents[2]
DEAD = "http://127.0.0.1:9"
VAULT = "0x" + "11" * 20


def novate(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """The command line in a process of its own."""
    command = [sys.executable, "-m", "clearing.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)


def tree(group: click.Command, context: click.Context) -> dict[str, click.Command]:
    """Every command by its full name."""
    found: dict[str, click.Command] = {}
    if isinstance(group, click.Group):
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None, name
            found[name] = command
            found |= {f"{name} {inner}": item for inner, item in tree(command, context).items()}
    return found


COMMANDS = tree(main, click.Context(main))


def test_every_command_that_must_exist_does() -> None:
    """The names users script against."""
    needed = (
        "demo", "operator run", "operator rotate", "account show", "proof get", "verify", "withdraw", "exit", "claim",
        "audit replay", "journal fsck", "ingest", "vault deploy", "vault verify", "deposit", "key register",
        "key revoke", "order place", "order cancel",
    )  # fmt: skip
    assert [name for name in needed if name not in COMMANDS] == []
    assert [name for name, command in COMMANDS.items() if not command.help] == []


def test_help_loads_nothing_heavy() -> None:
    """`novate --help` must answer at once, so the heavy libraries wait for a command that needs them."""
    heavy = "web3 eth_account numpy lmdb httpx starlette rich nacl"
    code = f"import sys, clearing.cli.main; print([n for n in {heavy.split()!r} if n in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert out.strip() == "[]"


def test_readme_names_only_commands_and_options_that_exist() -> None:
    """Every `novate ...` line of README parses against the command tree."""
    text = (ROOT / "README.md").read_text()
    lines = [line for line in re.findall(r"novate ((?:[a-z]+ ?)+[^\n`#&]*)", text) if line.split()[0] in COMMANDS]
    assert len(lines) >= 12
    for line in lines:
        words = line.split()
        name = " ".join(words[:2]) if " ".join(words[:2]) in COMMANDS else words[0]
        known = {option for parameter in COMMANDS[name].params for option in parameter.opts}
        assert [word for word in words if re.fullmatch(r"--?[a-z-]+", word) and word not in known] == [], line
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`?make ([a-z-]+)", text)) <= targets


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["exit", "--rpc", DEAD, "--vault", VAULT, "--owner", VAULT], 4, "RPC_UNREACHABLE"),
        (["vault", "verify", "--rpc", DEAD, "--vault", VAULT], 4, "RPC_UNREACHABLE"),
        (["account", "show", "3", "--api", DEAD], 4, "OPERATOR_UNREACHABLE"),
        (["proof", "get", VAULT, "--api", DEAD], 4, "OPERATOR_UNREACHABLE"),
        (["exit", "--rpc", DEAD, "--vault", "0x12"], 2, "not an address"),
        (["deposit", "1e3", "--rpc", DEAD, "--vault", VAULT, "--wallet", "none"], 2, "not a positive decimal"),
        (["deposit", "1", "--rpc", DEAD, "--vault", VAULT, "--wallet", "/nonexistent"], 1, "KEY_FILE"),
        (["account", "show"], 2, "NUMBER or --owner"),
        (["audit", "replay"], 2, "--journal DIR or --api URL"),
        (["journal", "fsck", "/nonexistent"], 1, "JOURNAL_NOT_FOUND"),
        (["operator", "run", "/nonexistent"], 1, "CONFIG_NOT_FOUND"),
        (["verify", "pyproject.toml"], 3, "BUNDLE_MALFORMED"),
        (["ingest", "pyproject.toml", "--format", "lobster"], 1, "INGEST_"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_with_a_code_and_the_documented_status(
    arguments: list[str], status: int, says: str
) -> None:
    """Never a traceback; what it says tells what to do."""
    done = novate(*arguments)
    assert says in done.stderr
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr + done.stdout


@given(st.integers(0, 2**63 - 1))
def test_amounts_come_back_as_they_went(atoms: int) -> None:
    """Printing and reading agree to the atom."""
    assert parse_usd(usd(atoms).replace(",", "")) == atoms


@pytest.mark.parametrize("text", ["", "-1", "1.1234567", "1e6", "1,000", " 1", "٣", "1.", "nan"])
def test_other_spellings_of_amounts_are_usage_errors(text: str) -> None:
    """Only plain decimals with at most six places; a point needs digits before it."""
    if text == "1.":
        assert parse_usd(text) == 1_000_000
        return
    with pytest.raises(click.UsageError):
        parse_usd(text)
