# SPDX-License-Identifier: GPL-3.0-or-later
"""Where recorded data lies, when it is there: it is not part of the product."""

import os
from pathlib import Path

import pytest

CME_DAY = "cme-esh4-2023-12-25.mbo.dbn.zst"
CME_OPENING = "cme-esh4-2023-12-24.mbo.dbn.zst"


def recorded(name: str) -> Path:
    """The path of a recorded file; skips the test where it is absent.

    Looked for in NOVATE_TEST_DATA, then in `shared/data` beside the repository.
    """
    beside = Path(__file__).parents[2].parent / "shared" / "data"
    folder = Path(os.environ.get("NOVATE_TEST_DATA", str(beside)))
    path = folder / name
    if not path.is_file():
        pytest.skip(f"recorded data {name} is not in {folder}; set NOVATE_TEST_DATA to where it is")
    return path
