# SPDX-License-Identifier: GPL-3.0-or-later
"""Parameters as people write them: by name, in JSON, by path."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clearing.cli.params import changed, named, read_params, unnamed
from clearing.model.errors import NovateError
from clearing.model.params import Asset, Params, Underlying
from clearing.model.presets import PRESET_B

RICH = Params(
    underlyings=(Underlying(7, "BTC", preset=1),), assets=(Asset(0, "USDC", ""), Asset(1, "WBTC", "BTC", cap_atoms=9))
)


@pytest.mark.parametrize("params", [Params(), RICH])
def test_naming_loses_nothing(params: Params) -> None:
    """Through JSON and back every field is what it was, presets with their scenarios too."""
    tree = json.loads(json.dumps(named(params)))
    assert unnamed(Params, tree, Params()) == params


def test_a_part_of_the_file_keeps_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "params.json"
    path.write_text('{"ladder": {"cooldown_us": 5}, "underlyings": [{"id": 3, "symbol": "ETH"}]}')
    found = read_params(path)
    assert found.ladder.cooldown_us == 5 and found.ladder.slice_ppm == Params().ladder.slice_ppm
    assert found.underlyings == (Underlying(3, "ETH"),)


@pytest.mark.parametrize(
    "text",
    ["[", "[]", '{"nope": 1}', '{"version": "1"}', '{"version": true}', '{"underlyings": [{"id": 3}]}',
     '{"ladder": 5}', '{"assets": {"lane": 0}}', '{"version": 1.5}'],
)  # fmt: skip
def test_a_bad_file_is_one_error_that_names_the_place(tmp_path: Path, text: str) -> None:
    path = tmp_path / "params.json"
    path.write_text(text)
    with pytest.raises(NovateError) as caught:
        read_params(path)
    assert caught.value.code == "PARAMS_FILE_INVALID"


def leaves(value: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if isinstance(value, dict):
        return [leaf for name, item in value.items() for leaf in leaves(item, (*path, name))]
    if isinstance(value, list):
        return [leaf for index, item in enumerate(value) for leaf in leaves(item, (*path, str(index)))]
    return [path] if isinstance(value, int) and not isinstance(value, bool) else []


@given(path=st.sampled_from(leaves(named(RICH))), number=st.integers(-(2**62), 2**62))
def test_a_change_by_path_changes_that_number_alone(path: tuple[str, ...], number: int) -> None:
    """The named tree afterwards is the tree before with this one number in its place."""
    tree: Any = named(RICH)
    node = tree
    for step in path[:-1]:
        node = node[int(step)] if isinstance(node, list) else node[step]
    last: Any = int(path[-1]) if isinstance(node, list) else path[-1]
    node[last] = number
    assert named(changed(RICH, list(path), number)) == tree


@pytest.mark.parametrize("path", ["nope", "ladder", "ladder.nope", "underlyings.1.id", "underlyings.0.symbol", ""])
def test_a_path_to_nowhere_is_refused(path: str) -> None:
    with pytest.raises(NovateError) as caught:
        changed(RICH, path.split("."), 1)
    assert caught.value.code == "UNKNOWN_PARAMETER"


def test_presets_are_reached_by_path() -> None:
    new = changed(Params(), ["presets", "1", "scenarios", "0", "spot"], 5)
    assert new.presets[1].scenarios[0].spot == 5 and new.presets[1].scenarios[1:] == PRESET_B.scenarios[1:]
