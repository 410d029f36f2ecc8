# SPDX-License-Identifier: GPL-3.0-or-later
"""`novate completion`: real shells complete real commands, and no command is loaded to list them."""

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.packaging.commands import leaves
from tests.packaging.reach import ROOT

BIN = Path(sys.executable).parent
BASH = shutil.which("bash")


def environment() -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("NOVATE_", "COMP_"))}
    return clean | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}


def script(shell: str) -> str:
    command = [str(BIN / "novate"), "completion", shell]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment(), timeout=60).stdout


def answers(tmp_path: Path, *words: str) -> list[str]:
    """What bash offers for the last of the words, by the function that the script registers."""
    assert BASH is not None
    file = tmp_path / "novate.bash"
    file.write_text(script("bash"))
    quoted = " ".join(f"'{word}'" for word in words)
    code = (
        f"source {file}\n"
        "registered=$(complete -p novate)\n"
        f"COMP_WORDS=({quoted}) COMP_CWORD={len(words) - 1}\n"
        "${registered##*-F } 2>/dev/null || _novate_completion novate\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        [BASH, "--norc", "-c", code], capture_output=True, text=True, env=environment(), cwd=ROOT, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.skipif(BASH is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("words", "offered", "withheld"),
    [
        (("novate", "op"), {"operator"}, {"order", "demo"}),
        (("novate", "order", ""), {"place", "cancel", "trigger"}, {"run"}),
        (("novate", "order", "place", "--re"), {"--reduce-only", "--receipts"}, {"--key"}),
        (("novate", "order", "place", "1", "b"), {"buy"}, {"sell"}),
        (("novate", "completion", ""), {"bash", "zsh", "fish"}, set()),
    ],
)
def test_bash_is_offered_commands_options_and_choices(
    tmp_path: Path, words: tuple[str, ...], offered: set[str], withheld: set[str]
) -> None:
    """Commands, subcommands, options, and the words that an argument may be; nothing that cannot follow."""
    given = set(answers(tmp_path, *words))
    assert given >= offered
    assert not given & withheld


@pytest.mark.skipif(BASH is None, reason="bash is not installed")
def test_bash_is_offered_every_command(tmp_path: Path) -> None:
    """The whole list, which is that of --help."""
    assert set(answers(tmp_path, "novate", "")) == {leaf.path[0] for leaf in leaves()}


@pytest.mark.skipif(BASH is None, reason="bash is not installed")
@pytest.mark.slow
def test_a_person_at_a_terminal_completes_with_tab() -> None:
    """In an interactive bash, as ~/.bashrc would set it up: two words are completed and the command runs."""
    assert BASH is not None
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(ROOT)
        os.execve(BASH, [BASH, "--norc", "--noprofile", "-i"], environment() | {"TERM": "dumb", "PS1": "$ "})
    try:
        _type(
            terminal, "bind 'set enable-bracketed-paste off'; source <(novate completion bash); echo rea''dy\n", "ready"
        )
        shown = _type(terminal, "novate opera\tstat\t--help\n", "--help")
        shown += _read(terminal, "Show this message")
        assert "Usage: novate operator status" in shown, shown
    finally:
        os.close(terminal)
        os.waitpid(child, 0)


def _type(terminal: int, keys: str, awaited: str) -> str:
    """Type, a completion at a time as a person would, and read until something is on the screen."""
    for part in keys.replace("\t", "\t\0").split("\0"):
        os.write(terminal, part.encode())
        if part.endswith("\t"):
            _read(terminal, "", 1.5)
    return _read(terminal, awaited)


def _read(terminal: int, awaited: str, seconds: float = 30) -> str:
    """What the terminal shows until it shows `awaited`; with "" whatever comes in that time."""
    shown, deadline = "", time.monotonic() + seconds
    while time.monotonic() < deadline and (not awaited or awaited not in shown):
        if select.select([terminal], [], [], 0.2)[0]:
            shown += os.read(terminal, 4096).decode(errors="replace")
    assert awaited in shown, shown
    return shown


def test_listing_commands_loads_none_of_them() -> None:
    """Completion answers at each press of a key, so it must not import thirty modules to list their names."""
    code = (
        "import atexit, sys\n"
        "atexit.register(lambda: sys.stderr.write(' '.join(n for n in sys.modules if n.startswith('clearing.'))))\n"
        "from clearing.cli.main import main; main(prog_name='novate')"
    )
    given = environment() | {"_NOVATE_COMPLETE": "bash_complete", "COMP_WORDS": "novate ", "COMP_CWORD": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=given, cwd=ROOT, timeout=60)
    assert "plain,operator" in done.stdout
    assert set(done.stderr.split()) <= {"clearing.cli", "clearing.cli.main"}


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_take_their_script(shell: str, tmp_path: Path) -> None:
    """The script is that shell's own, and the shell, where it is installed, finds no fault with it."""
    text = script(shell)
    assert {"zsh": "#compdef novate", "fish": "complete --no-files --command novate"}[shell] in text
    program = shutil.which(shell)
    if program is not None:
        file = tmp_path / f"novate.{shell}"
        file.write_text(text)
        checked = subprocess.run([program, "-n", str(file)], capture_output=True, text=True, timeout=60)
        assert checked.returncode == 0, checked.stderr


def test_help_says_how_to_set_it_up() -> None:
    """The line for each shell's start-up file is in --help, where people look for it."""
    command = [str(BIN / "novate"), "completion", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, env=environment(), timeout=60).stdout
    for line in ("source <(novate completion bash)", "source <(novate completion zsh)", "novate completion fish >"):
        assert line in shown
