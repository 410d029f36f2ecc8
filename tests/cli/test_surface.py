# SPDX-License-Identifier: GPL-3.0-or-later
"""What every command promises: quick help, one-line errors with a code, exit codes, a true README."""

import re
import resource
import subprocess
import sys

import click
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from clearing.cli.main import main
from clearing.cli.options import SEVERAL
from clearing.cli.output import parse_usd, usd
from clearing.model.ids import MAX_AMOUNT_ATOMS
from tests.cli.venue import DEAD, ROOT, checked, command_line

VAULT = "0x" + "11" * 20


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


def test_help_lists_every_command_and_loads_nothing_heavy() -> None:
    """`novate --help` must answer at once, so the heavy libraries wait for a command that needs them."""
    shown = command_line("--help")
    assert shown.returncode == 0
    listed = set(re.findall(r"^  ([a-z]+)  +[A-Z]", shown.stdout, re.MULTILINE))
    assert listed == {name for name in COMMANDS if " " not in name}
    heavy = "web3 eth_account eth_abi numpy lmdb httpx starlette rich nacl msgspec coincurve"
    code = f"import sys, clearing.cli.main; print([n for n in {heavy.split()!r} if n in sys.modules])"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert out.strip() == "[]"
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5


def test_every_command_that_asks_a_chain_takes_several_endpoints() -> None:
    """Each --rpc says so, and none is opened but through the pool that cross-checks them. (The demo knows its one.)"""
    told = {
        name: option.help or ""
        for name, command in COMMANDS.items()
        for option in command.params
        if isinstance(option, click.Option) and "--rpc" in option.opts
    }
    assert len(told) >= 20
    assert [name for name, text in told.items() if SEVERAL not in text] == []
    folders = [ROOT / "clearing" / part for part in ("cli", "exit")]
    sources = {path.name: path.read_text() for folder in folders for path in folder.glob("*.py")}
    assert [name for name, text in sources.items() if re.search(r"\bRpc\(", text)] == ["stage.py"]


# --- README ---


def readme_commands() -> list[str]:
    """Every `novate ...` of README, from code blocks and from inline code, without comments."""
    text = (ROOT / "README.md").read_text()
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```[a-z]*\n.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    lines = [part for line in [*"\n".join(blocks).splitlines(), *inline] for part in line.split("#")[0].split("&&")]
    found = [re.match(r"(?:\$ )?novate (.+)", line.strip()) for line in lines]
    return [match[1] for match in found if match is not None]


def test_readme_names_only_commands_and_options_that_exist() -> None:
    """Whoever types what README shows meets no usage error for a name that is not there."""
    commands = readme_commands()
    assert len(commands) >= 15
    for line in commands:
        words = line.split()
        assert words[0] in COMMANDS, line
        alone = words[0] == "exit" and words[1:2] and words[1].startswith("-")  # a group that is a command as well
        name = " ".join(words[:2]) if isinstance(COMMANDS[words[0]], click.Group) and not alone else words[0]
        assert name in COMMANDS, line
        known = {option for parameter in COMMANDS[name].params for option in parameter.opts}
        assert [word for word in words if re.fullmatch(r"--?[a-z-]+", word) and word not in known] == [], line


def test_readme_names_only_targets_variables_and_modules_that_exist() -> None:
    """`make X`, NOVATE_X, and what is started with `python -m`."""
    text = (ROOT / "README.md").read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"make ([a-z-]+)", text)) - {"sure"} <= targets
    variables = {p.envvar for command in COMMANDS.values() for p in command.params if p.envvar}
    told = set(re.findall(r"NOVATE_[A-Z]+", text))
    assert told and told <= variables
    for module, options in re.findall(r"python -m ([a-z.]+)([^\n&`]*)", text):
        command = [sys.executable, "-m", module, "--help"]
        shown = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True, timeout=60).stdout
        assert [word for word in options.split() if word.startswith("-") and word not in shown] == []


# --- errors ---


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["exit", "--rpc", DEAD, "--vault", VAULT, "--owner", VAULT, "--dry-run"], 4, "RPC_UNREACHABLE"),
        (["vault", "verify", "--rpc", DEAD, "--vault", VAULT], 4, "RPC_UNREACHABLE"),
        (["account", "show", "3", "--api", DEAD], 4, "OPERATOR_UNREACHABLE"),
        (["proof", "get", VAULT, "--api", DEAD], 4, "OPERATOR_UNREACHABLE"),
        (["exit", "--rpc", DEAD, "--vault", "0x12", "--wallet", "w"], 2, "not an address"),
        (["claim", "--rpc", DEAD, "--vault", VAULT], 2, "--wallet FILE"),
        (["key", "register", "--wallet", "w", "--key", "k", "--scope", "all"], 2, "trade,withdraw,transfer"),
        (["key", "register", "--wallet", "w", "--key", "k", "--days", "0"], 2, "--days"),
        (["key", "revoke", "--wallet", "w", "--public", "0x12"], 2, "66 hex digits"),
        (["oracle", "publish", "60.00", "--publisher-key", "k"], 2, "UNDERLYING=PRICE"),
        (["key", "new", "/nonexistent/k"], 1, "/nonexistent/k: No such file"),
        (["vault", "verify", "--rpc", "ftp://x", "--vault", VAULT], 4, "http(s) URL"),
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
    done = checked(command_line(*arguments), False)
    assert says in done.err
    assert done.status == status, done.err


def test_a_fault_of_ours_is_one_line_too() -> None:
    """What no one foresaw ends in INTERNAL, and shows its traceback to those who ask for it."""
    code = "from clearing.cli.output import reports_errors\nreports_errors(lambda: {}['a\\nb'])()"
    command = [sys.executable, "-c", code]
    plain = checked(subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60), False)
    assert (plain.status, plain.code) == (1, "INTERNAL") and "KeyError" in plain.err
    env = {"NOVATE_DEBUG": "1", "PATH": ""}
    verbose = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, env=env)
    assert "Traceback" in verbose.stderr and verbose.stderr.splitlines()[-1].startswith("novate: INTERNAL: ")


# --- amounts ---


@given(st.integers(0, 2**63 - 1))
def test_amounts_come_back_as_they_went(atoms: int) -> None:
    """Printing and reading agree to the atom."""
    assert parse_usd(usd(atoms).replace(",", "")) == atoms


@pytest.mark.parametrize("text", ["", "-1", "1.1234567", "1e6", "1,000", " 1", "٣", ".5", "nan", "0x10"])
def test_other_spellings_of_amounts_are_usage_errors(text: str) -> None:
    """Only plain decimals with at most six places; a point needs digits before it."""
    with pytest.raises(click.UsageError):
        parse_usd(text)


@given(st.from_regex(r"[1-9][0-9]{13,60}(\.[0-9]{0,6})?", fullmatch=True))
@example("9" * 5_000)
@example(usd(MAX_AMOUNT_ATOMS + 1).replace(",", ""))
def test_amounts_past_the_limit_are_usage_errors_however_long(text: str) -> None:
    """Not an overflow somewhere later, nor Python's own limit on digits."""
    with pytest.raises(click.UsageError, match="too large"):
        parse_usd(text)


def test_a_point_may_end_an_amount() -> None:
    """As people type it."""
    assert parse_usd("1.") == 1_000_000
