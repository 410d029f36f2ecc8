# SPDX-License-Identifier: GPL-3.0-or-later
"""The vault's assets as people know them: symbol and decimals, read from the tokens.

Rules: a token says what it likes about itself, so its words are only shown, never relied on: printable
ASCII, a few characters, and the address decides which token it is. A token that says nothing usable is
shown as "asset N", in atoms.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from clearing.chain.abi import interface
from clearing.chain.errors import ChainError
from clearing.chain.vault import VaultClient

MAX_SYMBOL: Final = 12
MAX_DECIMALS: Final = 36


@dataclass(frozen=True, slots=True)
class Asset:
    """An asset of the vault by its number; `decimals` None when the token does not tell."""

    number: int
    token: bytes
    symbol: str
    decimals: int | None

    def text(self, atoms: int) -> str:
        """An amount, exact: `1,234.5 USD`, or atoms."""
        if self.decimals is None:
            return f"{atoms:,} atoms of {self.symbol}"
        whole, fraction = divmod(abs(atoms), 10**self.decimals)
        digits = str(fraction).rjust(self.decimals, "0").rstrip("0") if fraction else ""
        return f"{'-' if atoms < 0 else ''}{whole:,}{'.' + digits if digits else ''} {self.symbol}"


def read_assets(vault: VaultClient) -> tuple[Asset, ...]:
    """All assets of the vault. Raises `ChainError` when the chain cannot be read."""
    found, seen = [], set[str]()
    for number, token in enumerate(vault.tokens()):
        symbol = _symbol(vault, token)
        if not symbol or symbol in seen:
            symbol = f"{symbol}#{number}" if symbol else f"asset {number}"
        seen.add(symbol)
        found.append(Asset(number, token, symbol, _decimals(vault, token)))
    return tuple(found)


def shown(assets: Sequence[Asset], amounts: Sequence[int]) -> str:
    """Amounts by asset, the zeros left out."""
    parts = [asset.text(amount) for asset, amount in zip(assets, amounts, strict=False) if amount]
    return ", ".join(parts) if parts else assets[0].text(0) if assets else "nothing"


def _answer(vault: VaultClient, token: bytes, name: str) -> bytes:
    """What the token answers; empty when it refuses."""
    try:
        return vault.rpc.call(token, interface("TestToken").call(name))
    except ChainError as error:
        if error.code in ("RPC_UNREACHABLE", "RPC_DISAGREE"):
            raise
        return b""


def _symbol(vault: VaultClient, token: bytes) -> str:
    data = _answer(vault, token, "symbol")
    try:
        text = str(interface("TestToken").result("symbol", data))
    except ChainError:
        # Old tokens answer with 32 bytes instead of a string.
        text = data.rstrip(b"\0").decode("ascii", "replace") if len(data) == 32 else ""
    usable = text.isascii() and text.isprintable() and not any(character.isspace() for character in text)
    return text[:MAX_SYMBOL] if usable else ""


def _decimals(vault: VaultClient, token: bytes) -> int | None:
    data = _answer(vault, token, "decimals")
    value = int.from_bytes(data[:32], "big") if len(data) == 32 else MAX_DECIMALS + 1
    return value if value <= MAX_DECIMALS else None
