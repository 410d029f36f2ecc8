# SPDX-License-Identifier: GPL-3.0-or-later
"""The venue that recorded flow is replayed on: its genesis, its keys and the hands that sign with them.

Every key, id and nonce is derived from fixed labels and the member's number, so that the same file
gives the same journal anywhere. These keys are public knowledge: nothing of value belongs behind them.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

from clearing.ingest.plan import INSTRUMENT
from clearing.model import commands as c
from clearing.model import ids
from clearing.model.codec import body_hash, encode
from clearing.model.params import Adaptive, Instrument, OracleRules, Params
from clearing.model.signature import CONTEXT, sign_owner
from clearing.service.layout import Ed25519Key, Keys
from clearing.service.setup import Deployment, make_genesis

# What the members deposit together, in equal parts: all that a vault may hold. Recorded flow does not
# say who could have afforded it, so they are rich; margin is checked for every order all the same.
DEPOSITS_ATOMS = ids.MAX_HOLDINGS_ATOMS
_KEY_LIFE_US = 365 * ids.DAY_US
_EXPIRY_US = 60_000_000
_IMF_PPM, _MMF_PPM = 50_000, 25_000


def derive(label: str, number: int = 0) -> bytes:
    """32 bytes for one purpose: the seed of a key, an id."""
    return hashlib.sha256(b"novate/ingest/v1\n" + f"{label}/{number}".encode()).digest()


def _address(account: Any) -> bytes:
    return bytes.fromhex(account.address[2:])


def _seal(body: c.Body, key: Ed25519Key) -> bytes:
    """As `signature.sign`, with a key that was expanded before: half the time, a million times."""
    raw = encode(body)
    return encode(c.Envelope(raw, key.tagged, key.sign(CONTEXT + raw)))


# Its risk was borne by others long ago: what is tested is matching, so no price is too old or too far from the book
# for a fill, and margin does not grow with the day's volatility.
_RULES = Params(
    oracle=OracleRules(fill_max_age_us=60_000_000, divergence_ppm=ids.PPM, twap_band=1_000),
    adaptive=Adaptive(interval_us=0),
)


class Venue:
    """Signs for everyone: operator, publisher, `members` members. Raw envelopes out."""

    def __init__(self, symbol: str, members: int) -> None:
        from clearing.model.signature import eth_account

        account = eth_account().Account
        self.members = members
        self.keys = Keys(derive("operator"), derive("operator wallet"), (derive("publisher"),))
        self._wallets = [derive("wallet", number) for number in range(members)]
        self._owners = [_address(account.from_key(key)) for key in self._wallets]
        self._sessions = [Ed25519Key(derive("session", number)) for number in range(members)]
        self._operator = Ed25519Key(self.keys.operator)
        self._publisher = Ed25519Key(self.keys.publishers[0])
        self._nonces = [0] * members
        self._operator_nonce = 0
        self._oracle_head = bytes(32)
        self.deployment = Deployment(
            deployment=derive("deployment/" + symbol, members),
            origin="ingest.invalid",
            vaults=(c.Vault(1, derive("vault")[:20], (derive("token")[:20],)),),
            operator_address=_address(account.from_key(self.keys.operator_secp256k1)),
            treasury=derive("treasury")[:20],
            instruments=(
                # The source's exchange has checked its own tick; here every unit of price is one.
                Instrument(INSTRUMENT, symbol, symbol, 1, ids.MAX_LOTS, _IMF_PPM, _MMF_PPM),
            ),
            params=_RULES,
        )
        self.genesis = make_genesis(self.deployment, self.keys)

    def opening(self, now_us: int) -> list[bytes]:
        """What follows genesis: every member's deposit, every member's session key."""
        raws: list[bytes] = []
        amount = DEPOSITS_ATOMS // self.members
        deposits = [
            c.ConsumeInbox(0, index, ids.INBOX_DEPOSIT, owner, 0, amount, now_us // 1_000_000, bytes(32))
            for index, owner in enumerate(self._owners)
        ]
        most = ids.MAX_COMMANDS_PER_BATCH
        raws += [self.operate(deposits[at : at + most]) for at in range(0, len(deposits), most)]
        for number, owner in enumerate(self._owners):
            action = c.RegisterKey(
                owner=owner,
                key=self._sessions[number].tagged,
                scope=ids.SCOPE_TRADE,
                expiry_us=now_us + _KEY_LIFE_US,
                nonce=1,
                secret=derive("secret", number),
            )
            raws.append(sign_owner(self.genesis.deployment, action, self._wallets[number]))
        return raws

    def operate(self, commands: Sequence[c.OperatorCommand]) -> bytes:
        """An operator's batch."""
        self._operator_nonce += 1
        body = c.OperatorBatch(self.genesis.deployment, self._operator_nonce, tuple(commands))
        return _seal(body, self._operator)

    def trade(self, member: int, commands: Sequence[c.MemberCommand], now_us: int) -> bytes:
        """A member's batch, signed by the member's session key."""
        self._nonces[member] += 1
        body = c.MemberBatch(
            deployment=self.genesis.deployment,
            account=ids.HOUSE_ACCOUNTS + member,
            nonce=self._nonces[member],
            expiry_us=now_us + _EXPIRY_US,
            commands=tuple(commands),
        )
        return _seal(body, self._sessions[member])

    def price(self, price_atoms: int, now_us: int) -> bytes:
        """The publisher's next update in its hash chain."""
        body = c.OracleUpdate(
            deployment=self.genesis.deployment,
            publisher=0,
            prev_hash=self._oracle_head,
            time_us=now_us,
            prices=(c.Price(INSTRUMENT, price_atoms, 1),),
        )
        raw = _seal(body, self._publisher)
        self._oracle_head = body_hash(encode(body))
        return raw
