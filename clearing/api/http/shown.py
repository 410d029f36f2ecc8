# SPDX-License-Identifier: GPL-3.0-or-later
"""State and records as the public interface writes them: what counts atoms, lots and the like as decimal strings.

Rules: a name that ends in `_atoms` or `_lots`, client order ids and nonces hold decimal strings, in lists too; a null
stays null. Everything else is as clearing.service.views makes it. JavaScript would round what is above 2^53, and a type
that depends on the value is a trap.
"""

from functools import lru_cache
from typing import Any, Final

from starlette.responses import Response

from clearing.api.http import errors

_NESTED: Final = (dict, list)
_SUFFIXES: Final = ("_atoms", "_lots")
_NAMES: Final = frozenset(("client_order_id", "nonce", "oco", "funding_atoms_per_lot", "per_lot_atoms"))


def shown(value: Any) -> Any:
    """A value of clearing.service.views by the rules above."""
    if isinstance(value, dict):
        # Plain values here, without a call for each: an account has hundreds of them.
        return {
            name: _text(item) if _is_amount(name) else shown(item) if isinstance(item, _NESTED) else item
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [shown(item) for item in value]
    return value


@lru_cache(1_000)
def _is_amount(name: object) -> bool:
    return isinstance(name, str) and (name.endswith(_SUFFIXES) or name in _NAMES)


def _text(value: Any) -> Any:
    if type(value) is int:
        return str(value)
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list):
        return [_text(item) for item in value]
    return shown(value)


def answer(value: Any, status: int = 200) -> Response:
    """A value of clearing.service.views as an answer."""
    return errors.json(shown(value), status)
