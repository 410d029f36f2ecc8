# SPDX-License-Identifier: GPL-3.0-or-later
"""Every finding of the static analysis is explained, every explanation is needed, and the run would notice others."""

import shutil
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tools import build_contracts
from tools.slither.findings import (
    PROGRAM,
    TRIAGE,
    AnalysisError,
    Explanation,
    Finding,
    analyse,
    check,
    deployed_sources,
    findings_in,
    judge,
    read_triage,
)

KNOWN = Finding("timestamp", "Low", "Vault.freeze(): block.timestamp < from", "src/Vault.sol:7")
OTHER = Finding("reentrancy-eth", "High", "Vault.pay(address): to.call()", "src/Vault.sol:9")
REASON = "Promises are in seconds."


def explained(*found: Finding) -> list[Explanation]:
    return [Explanation(one.check, REASON, (one.what,)) for one in found]


def part(name: str, kind: str, file: str = "src/A.sol", **fields: Any) -> dict[str, Any]:
    """An element of a result, as slither gives it."""
    place = {"filename_relative": file, "lines": [3, 4]}
    return {"name": name, "type": kind, "source_mapping": place, "type_specific_fields": fields}


# -- what is right and what is wrong


def test_all_explained_and_nothing_more_is_in_order() -> None:
    """Neither a finding nor an explanation is left over."""
    assert judge([KNOWN, OTHER], explained(OTHER, KNOWN)) == []


def test_a_finding_that_nothing_explains_fails() -> None:
    """Also when another one of its function, or of its check, is explained."""
    for near in (OTHER._replace(check="timestamp"), OTHER._replace(what=KNOWN.what)):
        (problem,) = judge([KNOWN, near], explained(KNOWN))
        assert problem.startswith(f"unexplained: {near.check} (High) at src/Vault.sol:9") and near.what in problem


def test_an_explanation_without_its_finding_fails() -> None:
    """What was mended leaves the file."""
    (problem,) = judge([KNOWN], explained(KNOWN, OTHER))
    assert problem.startswith("explained, but not found any more: reentrancy-eth") and OTHER.what in problem


def test_like_places_are_counted() -> None:
    """A second one in the same function is not covered by the explanation of the first."""
    (problem,) = judge([KNOWN, KNOWN], explained(KNOWN))
    assert problem.startswith("unexplained: timestamp")
    assert judge([KNOWN, KNOWN], explained(KNOWN, KNOWN)) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("explained = [", "cannot be read"),
        ("[[explained]]\ncheck = 'a'\nfindings = ['x']", "cannot be read: KeyError"),
        ("[[explained]]\ncheck = 'a'\nreason = ' '\nfindings = ['x']", "lacks its reason"),
        ("[[explained]]\ncheck = 'a'\nreason = 'fine'\nfindings = ['x']", "lacks its reason"),
        ("[[explained]]\ncheck = 'a'\nreason = 'this is why'\nfindings = []", "lacks its reason or its findings"),
    ],
)
def test_a_triage_file_without_reasons_is_none(tmp_path: Path, text: str, said: str) -> None:
    """Nothing can be waved through."""
    path = tmp_path / "triage.toml"
    path.write_text(text)
    with pytest.raises(AnalysisError, match=said):
        read_triage(path)


def test_the_triage_file_has_a_reason_for_everything_it_lists_once() -> None:
    """The one in the repository can be read, and does not say two things of one place."""
    listed = Counter((entry.check, what) for entry in read_triage(TRIAGE) for what in entry.findings)
    assert listed and set(listed.values()) == {1}


# -- what slither's results mean


def test_a_finding_counts_when_any_part_of_it_is_ours() -> None:
    """A library's own are its authors' business; what we do with it is ours, wherever it is seen."""
    holder = part("Vault", "contract")
    ours = part("pay", "function", signature="pay(address)", parent=holder)
    theirs = part("safeTransfer", "function", file="@openzeppelin/S.sol")
    result = {"check": "c", "impact": "Low", "elements": [theirs, ours, part("to.call()", "node", parent=ours)]}
    (found,) = findings_in([result, {"check": "d", "impact": "High", "elements": [theirs]}])
    assert found == Finding("c", "Low", "Vault.pay(address): to.call()", "src/A.sol:3")


def test_a_finding_keeps_its_text_when_lines_move() -> None:
    """Only names and code make it, with the code in order and on one line."""
    holder = part("Vault", "contract")
    function = part("pay", "function", signature="pay(address)", parent=holder)
    variable = part("left", "variable", parent=function)
    nodes = [part("b\n  < c", "node", parent=function), part("a", "node", parent=function)]
    results = [
        {"check": "x", "impact": "Low", "elements": [variable]},
        {"check": "y", "impact": "High", "elements": [function, *nodes]},
        {"check": "z", "impact": "Low", "elements": nodes[:1]},
    ]
    texts = [one.what for one in findings_in(results)]
    assert texts == ["Vault.pay(address): a; b < c", "Vault.pay(address).left", "Vault.pay(address): b < c"]


def test_all_that_can_be_deployed_is_analysed() -> None:
    """Governance too; of our sources only those for tests are left out."""
    if not build_contracts.MODULES.is_dir():
        pytest.skip("the library is not installed: run `npm ci` in contracts/")
    names = set(deployed_sources())
    folder = build_contracts.CONTRACTS
    ours = {path.relative_to(folder).as_posix() for path in build_contracts.SOURCES.rglob("*.sol")}
    assert ours - names == {name for name in ours if "/test/" in name}
    assert "src/governance/NovateGovernor.sol" in names and any(name.startswith("@openzeppelin/") for name in names)


def test_slither_is_pinned_with_all_it_needs() -> None:
    """One version, and a lock with hashes that names no index but PyPI."""
    folder = build_contracts.ROOT / "tools" / "slither"
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    packages = tomllib.loads((folder / "uv.lock").read_text())["package"]
    locked = {package["name"]: package for package in packages}
    assert project["dependencies"] == [f"slither-analyzer=={locked['slither-analyzer']['version']}"]
    fetched = [package for package in packages if "registry" in package["source"]]
    assert len(fetched) == len(packages) - 1 and {p["source"]["registry"] for p in fetched} == {
        "https://pypi.org/simple"
    }
    assert all(file["hash"].startswith("sha256:") for package in fetched for file in package.get("wheels", []))


# -- the analysis itself


@pytest.fixture
def slither() -> Path:
    if not PROGRAM.exists():
        pytest.skip("slither is not installed: run `make slither` once")
    if shutil.which("node") is None or not build_contracts.MODULES.is_dir():
        pytest.skip("the compiler is not installed: run `npm ci` in contracts/")
    return PROGRAM


FLAWED = """// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

contract Flawed {
    mapping(address => uint256) public owed;

    function take() external {
        (bool ok,) = msg.sender.call{value: owed[msg.sender]}("");
        require(ok);
        owed[msg.sender] = 0;
    }

    function run(address code, bytes calldata data) external {
        // slither-disable-next-line controlled-delegatecall
        (bool ok,) = code.delegatecall(data);
        require(ok);
    }
}
"""


@pytest.mark.slow
def test_planted_flaws_are_found_even_under_a_comment_that_hides_them(slither: Path, tmp_path: Path) -> None:
    """A payment before its effect, and somebody else's code on our storage."""
    found = {one.check: one for one in analyse({"src/Flawed.sol": FLAWED}, tmp_path / "work", slither)}
    assert found["reentrancy-eth"].impact == "High" and found["reentrancy-eth"].what.startswith("Flawed.take(): ")
    assert found["controlled-delegatecall"].place == "src/Flawed.sol:13"


@pytest.mark.slow
def test_sources_that_do_not_compile_are_no_clean_bill(slither: Path, tmp_path: Path) -> None:
    """Nothing analysed is an error, and not a run without findings."""
    with pytest.raises(AnalysisError, match=r"slither failed|nothing usable"):
        analyse({"src/Flawed.sol": FLAWED.replace("require(ok);", "require(ko);")}, tmp_path / "work", slither)


@pytest.mark.slow
def test_every_finding_in_our_contracts_is_explained(slither: Path, tmp_path: Path) -> None:
    """As `make slither`: the sources as they are, against the triage file as it is."""
    found, problems = check(tmp_path / "work", slither)
    assert problems == []
    assert len(found) >= 40, "the analysis saw only a part"
