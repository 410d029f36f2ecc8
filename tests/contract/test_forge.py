# SPDX-License-Identifier: GPL-3.0-or-later
"""How Foundry's results are read: `make forge` and `make coverage-contracts` stand on it. The suites themselves are
steps of their own in CI, since forge compiles for a minute.
"""

from pathlib import Path

import pytest

from tools import forge

SOURCE = """\
contract C {
    function f() {
        uint256 a = 1;
        assembly ("memory-safe") {
            for {} lt(a, 2) {} {
                a := add(a, 1)
            }
        }
        return a;
    }
}
"""


def test_assembly_is_found_to_its_last_brace() -> None:
    assert forge.assembly_lines(SOURCE) == {4, 5, 6, 7, 8}


def test_lines_are_counted_per_source_without_assembly_and_tests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line in assembly counts neither as run nor as not run; tokens of tests and tests count not at all."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src/C.sol").write_text(SOURCE)
    (tmp_path / "src/TestToken.sol").write_text(SOURCE)
    monkeypatch.setattr(forge, "CONTRACTS", tmp_path)
    body = "DA:3,7\nDA:6,0\nDA:9,0\nend_of_record\n"
    report = f"SF:src/C.sol\n{body}SF:src/TestToken.sol\n{body}SF:test/T.t.sol\n{body}"
    assert forge.lines_of(report) == {"src/C.sol": (1, 2)}


def test_without_forge_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOVATE_TEST_FORGE", str(tmp_path / "forge"))
    with pytest.raises(forge.ForgeError, match="npm ci"):
        forge.binary()


def test_calls_of_a_campaign_are_counted() -> None:
    assert forge.calls_of({"kind": {"Invariant": {"runs": 3, "calls": 450, "reverts": 0}}}) == 450
    assert forge.calls_of({"kind": {"Unit": {"gas": 5}}}) == 0
