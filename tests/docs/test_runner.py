# SPDX-License-Identifier: GPL-3.0-or-later
"""The runner of pages: what it must notice, and what it must overlook. With a real shell."""

import time
from pathlib import Path

import pytest

from tools.docs import compare, shell
from tools.docs.pages import PageError, read
from tools.docs.run import StepFailed, run_page


def page(tmp_path: Path, text: str, name: str = "page.md") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def console(*lines: str) -> str:
    return "\n".join(["```console", *lines, "```", ""])


def test_what_is_shown_must_come(tmp_path: Path) -> None:
    """Same output passes; another fails with file, line, command and both texts."""
    run_page(page(tmp_path, console("$ echo one; echo two", "one", "two")))
    with pytest.raises(StepFailed) as caught:
        run_page(page(tmp_path, "# A\n\n" + console("$ echo three", "two")))
    assert "page.md:4: $ echo three" in str(caught.value)
    assert "-two" in str(caught.value) and "+three" in str(caught.value)


def test_an_exit_status_must_be_told(tmp_path: Path) -> None:
    """A command that fails is an error unless its page shows the status."""
    run_page(page(tmp_path, console("$ (echo no; exit 3)", "no", "[exit status 3]")))
    for shown in ((), ("no",), ("no", "[exit status 4]")):
        with pytest.raises(StepFailed):
            run_page(page(tmp_path, console("$ (echo no; exit 3)", *shown)))


def test_the_shell_keeps_its_state(tmp_path: Path) -> None:
    """Variables, directory, files and background jobs go on; several lines make one command."""
    text = console("$ A=1; mkdir d; cd d", "$ sleep 60 > /dev/null &", "$ cat > f <<'EOF'", "> $A", "> EOF")
    text += "<!-- docs: file d/g -->\n```python\nprint(1)\n```\n"
    text += console("$ cat f; cat g; echo $A; basename $PWD; jobs %1 | wc -l", "$A", "print(1)", "1", "d", "1")
    run_page(page(tmp_path, text))


@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.slow
def test_a_process_in_the_background_is_overheard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, apart: bool) -> None:
    """The next step waits for what the page shows of it, and it ends with the page: also where the system lets no
    page have a network and processes of its own."""
    if not apart:
        monkeypatch.setattr(shell, "can_be_apart", lambda: False)
    mark = tmp_path / "beats"
    text = console(f"$ (sleep 0.5; echo ready; while true; do date > {mark}; sleep 0.1; done) &", "ready")
    run_page(page(tmp_path, text))
    mark.unlink(missing_ok=True)
    time.sleep(0.5)
    assert not mark.exists()


def test_a_page_goes_on_where_another_ends(tmp_path: Path) -> None:
    """`needs` runs the other first, in the same shell; pages that need one another are refused."""
    page(tmp_path, console("$ A=from-the-first"), "first.md")
    run_page(page(tmp_path, "<!-- docs: needs first.md -->\n" + console("$ echo $A", "from-the-first")))
    page(tmp_path, "<!-- docs: needs page.md -->\n" + console("$ true"), "first.md")
    with pytest.raises(PageError):
        run_page(tmp_path / "page.md")


def test_update_writes_what_was_printed(tmp_path: Path) -> None:
    """Only outputs that differ are rewritten; afterwards the page holds."""
    path = page(tmp_path, console("$ echo a", "?", "$ echo b", "b", "$ echo c; echo d", "old"))
    assert run_page(path, update=True) == 2
    assert path.read_text() == console("$ echo a", "a", "$ echo b", "b", "$ echo c; echo d", "c", "d")
    assert run_page(path) == 0


def test_update_writes_no_fault(tmp_path: Path) -> None:
    """A traceback is for the author to see, and the page stays as it was."""
    path = page(tmp_path, console("$ python -c 'import nothing_of_this_name'", "?"))
    with pytest.raises(StepFailed, match="ModuleNotFoundError"):
        run_page(path, update=True)
    assert path.read_text().endswith(console("$ python -c 'import nothing_of_this_name'", "?"))


@pytest.mark.slow
def test_a_command_without_end_is_named(tmp_path: Path) -> None:
    """It does not hold the suite up."""
    with pytest.raises(StepFailed, match=r"page\.md:3: \$ sleep 60"):
        run_page(page(tmp_path, "<!-- docs: timeout 0.5 -->\n" + console("$ sleep 60")))


@pytest.mark.parametrize(
    "shown, printed, same",
    [
        ("tx 0x0ea6cd871b820ea36502 done", "tx 0xffa6cd871b820ea36503 done", True),
        ("at 2026-11-23 14:07:09 UTC", "at 2027-01-01 00:00:00 UTC", True),
        ("replayed 12 entries in 0.7 s", "replayed 12 entries in 2.1 s", True),
        ("replayed 12 entries in 0.7 s", "replayed 13 entries in 0.7 s", False),
        ("equity  999.940000", "equity  999.840000", False),
        ("paid 100 TUSD, gas 115,675", "paid 100 TUSD, gas 115,639", True),
        ("paid 100 TUSD, gas 115,675", "paid 101 TUSD, gas 115,675", False),
        ("bond 0 wei, 136,962 gas", "bond 0 wei, 137,001 gas", True),
        ("ok       header", "FAILED   header", False),
        ("account 3", "account 4", False),
    ],
)
def test_what_varies_is_overlooked_and_nothing_else(shown: str, printed: str, same: bool) -> None:
    """Hashes, times, durations and gas differ from run to run; amounts, counts and verdicts do not."""
    assert compare.matches([shown], [printed]) is same


def test_an_elision_stands_for_any_lines() -> None:
    """... may be empty or long, but what is around it must come."""
    assert compare.matches(["a", "...", "d"], ["a", "b", "c", "d"]) and compare.matches(["a", "...", "d"], ["a", "d"])
    assert not compare.matches(["a", "...", "d"], ["a", "b"])


@pytest.mark.parametrize(
    "text",
    ["```console\nno prompt\n```\n", "```console\n$ open\n", "<!-- docs: odd -->\n", "<!-- docs: skip why -->\n"],
)
def test_a_page_that_cannot_be_read_is_refused(tmp_path: Path, text: str) -> None:
    """A typing error in a directive or a block is no page without commands."""
    with pytest.raises(PageError):
        read(page(tmp_path, text))
