# SPDX-License-Identifier: GPL-3.0-or-later
"""The extras are what the imports say: the plain install runs what it claims to, and the rest says what it lacks."""

import re
import subprocess
import sys

import pytest

from clearing.cli.extras import MODULES, NEEDS, extra_of, extra_with
from clearing.cli.output import reports_errors
from tests.packaging.commands import brings, declared, distribution_of, leaves, project, reach
from tests.packaging.reach import OURS, ROOT

STANDARD = set(sys.stdlib_module_names)
# What one way through a command needs and the others do not: there it ends with MISSING_EXTRA when it gets that far,
# before it has written anything.
SOME_WAYS = {
    ("receipt export", "numpy"): "a journal that is read from the operator's interface is checked like an audit's",
    ("fill prove", "numpy"): "as receipt export",
}
# Of no use without `operator run`, so they ask for what that needs at once.
OF_THE_VENUE = {"init", "operator", "config", "doctor", "demo"}


@pytest.mark.slow
def test_no_command_imports_what_its_install_lacks() -> None:
    """Whatever a command can load is of the plain install or of the extra that it is declared to need."""
    wrong = []
    for leaf in leaves():
        extra = extra_of(leaf.path)
        present = declared(None) | (declared(extra) if extra is not None else set())
        loaded = sorted(reach(leaf).external.keys() - STANDARD)
        absent = [library for library in loaded if distribution_of(library) not in present]
        wrong += [f"{leaf.name}: {reach(leaf).way(name)}" for name in absent if (leaf.name, name) not in SOME_WAYS]
    assert wrong == []


@pytest.mark.slow
def test_no_command_asks_for_more_than_it_imports() -> None:
    """A command is not held back for an extra of which it can load nothing."""
    for name, extra in NEEDS.items():
        if extra is None or name.split()[0] in OF_THE_VENUE:
            continue
        under = [leaf for leaf in leaves() if leaf.name == name or leaf.name.startswith(f"{name} ")]
        assert under, f"{name} is no command"
        loaded = {library for leaf in under if extra_of(leaf.path) == extra for library in reach(leaf).external}
        smaller = set().union(*(set(MODULES[other]) for other in MODULES if set(MODULES[other]) < set(MODULES[extra])))
        assert loaded & (set(MODULES[extra]) - smaller), f"{name} needs nothing of {extra}"


def test_what_the_plain_install_is_for_needs_no_extra() -> None:
    """Checking proofs, receipts and trades, trading, and leaving."""
    plain = ("verify", "proof get", "receipt verify", "receipt dispute", "fill verify", "page", "exit", "claim",
             "force exit", "force withdraw", "order place", "withdraw", "key register", "deposit", "vault verify",
             "journal fsck", "journal mirror", "witness status", "completion")  # fmt: skip
    assert [name for name in plain if extra_of(name.split()) is not None] == []
    assert {leaf.name for leaf in leaves()} >= set(plain)


def test_extras_name_the_libraries_that_they_are_checked_by() -> None:
    """Each module whose absence is reported comes with the extra that is named, and not with the plain install."""
    for extra, modules in MODULES.items():
        for library in modules:
            assert distribution_of(library) in declared(extra) - declared(None), f"{extra}: {library}"
        missing = declared(extra) - {distribution_of(library) for library in modules}
        assert not missing, f"{extra} brings {missing}, which no command would miss"
    extras = project()["optional-dependencies"]
    assert isinstance(extras, dict)
    assert set(MODULES) == set(extras) - {"all"}
    assert declared("all") == set().union(*(declared(extra) for extra in MODULES))


def test_every_declared_library_is_imported() -> None:
    """No one installs what nothing loads."""
    files = [path for folder in OURS for path in (ROOT / folder).rglob("*.py") if "node_modules" not in path.parts]
    statement = re.compile(r"^\s*(?:import|from) (\w+)", re.MULTILINE)
    loaded = {name for path in files for name in statement.findall(path.read_text(encoding="utf-8"))}
    used = {distribution for library in loaded for distribution in brings(library)}
    assert (declared(None) | declared("all")) - used == set()


def test_a_command_that_starts_others_brings_what_they_need() -> None:
    """The demo runs commands in processes of their own: its extra holds all that theirs hold."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "clearing" / "cli").glob("*.py"))
    calls = re.findall(r"""\bnovate\(\s*((?:"[a-z-]+",\s*)*"[a-z-]+")""", text)
    calls += re.findall(r""""-m", "clearing\.cli", ((?:"[a-z-]+",\s*)*"[a-z-]+")""", text)
    started = {tuple(re.findall(r'"([a-z-]+)"', words)) for words in calls}
    assert {("risk", "account"), ("stress", "run"), ("verify",)} <= {words[:2] for words in started}
    for words in started:
        assert set(MODULES.get(extra_of(words) or "", ())) <= set(MODULES["server"]), words


BLOCKED = """
import sys
sys.modules.update(dict.fromkeys({libraries!r}))
from clearing.cli.main import main
main({arguments!r}, prog_name="novate")
"""


def without(libraries: list[str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    """`novate` where these libraries cannot be imported."""
    code = BLOCKED.format(libraries=libraries, arguments=list(arguments))
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)


@pytest.mark.parametrize(
    ("extra", "library", "arguments"),
    [
        ("server", "starlette", ("demo",)),
        ("server", "eth", ("operator", "run", "venue")),
        ("audit", "numpy", ("audit", "replay", "--journal", "docs")),
        ("audit", "numpy", tuple("greeks --forward 1 --strike 1 --vol 1 --tau 1 --type call".split())),
        ("report", "matplotlib", ("stress", "run", "journal")),
        ("ingest", "databento_dbn", ("ingest", "README.md", "--format", "dbn")),
    ],
)
def test_a_missing_extra_is_named(extra: str, library: str, arguments: tuple[str, ...]) -> None:
    """One line, a stable code, exit status 1, and the name to install; wrong usage is still told first."""
    done = without([library], *arguments)
    if done.returncode == 2:
        pytest.fail(f"the test calls the command wrongly: {done.stderr}")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"novate: MISSING_EXTRA: install novate[{extra}]: this command needs {library}")
    assert len(done.stderr.splitlines()) == 1


def test_help_and_the_plain_commands_work_without_any_extra() -> None:
    """A missing library hides nothing: every command is listed and explains itself."""
    every = sorted({name for modules in MODULES.values() for name in modules} | {"web3", "eth_tester"})
    assert without(every, "--help").returncode == 0
    for leaf in leaves():
        if extra_of(leaf.path) is not None and leaf.path[0] in ("demo", "operator", "audit"):
            shown = without(every, *leaf.path, "--help")
            assert shown.returncode == 0 and f"Usage: novate {leaf.name}" in shown.stdout, shown.stderr
    refused = without(every, "verify", "/dev/null")
    assert refused.returncode == 3 and "MISSING_EXTRA" not in refused.stderr


def test_a_library_that_is_missed_on_the_way_is_no_fault_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    """MISSING_EXTRA for a module that an extra brings; a module that none brings is a fault and called so."""

    @reports_errors
    def command(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    for name, code in (("numpy.linalg", "MISSING_EXTRA: install novate[audit]"), ("nowhere", "INTERNAL")):
        with pytest.raises(SystemExit) as ended:
            command(name)
        assert ended.value.code == 1
        assert f"novate: {code}" in capsys.readouterr().err
    assert extra_with("uvicorn") == "server" and extra_with("click") is None


def test_commands_load_with_what_the_build_has() -> None:
    """The manual pages are written where only click and msgspec are: no module of a command loads more at its top."""
    code = (
        "import sys; from clearing.cli.main import main; import click; c = click.Context(main)\n"
        "[main.get_command(c, n) for n in main.list_commands(c)]\n"
        "print(*sorted({n.split('.')[0] for n in sys.modules} - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert set(done.stdout.split()) - {"__main__", "_virtualenv", "typing_extensions"} <= {
        "clearing",
        "click",
        "msgspec",
    }
