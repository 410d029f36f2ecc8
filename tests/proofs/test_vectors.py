# SPDX-License-Identifier: GPL-3.0-or-later
"""The golden vectors are what the code computes; tests/contract/test_vectors.py holds Solidity to them."""

import json

from tools.vectors import PATH, vectors


def test_the_vectors_are_made_again_exactly() -> None:
    """A difference means that a hashed format changed."""
    assert json.loads(PATH.read_text()) == vectors()
