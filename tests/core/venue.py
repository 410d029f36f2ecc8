# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole clearinghouse in memory, driven only from outside: signed envelope bytes in, outcomes out.

Rules:
- Nothing is mocked. Every envelope is signed, encoded, decoded, verified and only then applied, as
  the sequencer does it. Signatures of equal bytes are cached, since both schemes are deterministic.
- After every entry the invariants are checked, the entry is encoded (so that its size limit holds),
  and (time, raw envelope, outcome bytes) is recorded. `replay` folds such a journal again.
- Keys derive from names: the same steps give the same bytes in every run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache, lru_cache
from typing import NamedTuple

import msgspec

# Loaded here and not on first use: it raises the recursion limit, which must not happen inside a test.
from eth_account import Account as Wallet

from clearing.core.invariants import check, check_books
from clearing.core.leaves import state_leaf_hash
from clearing.core.margin import equity
from clearing.core.reducer import RULES_VERSION, Reducer
from clearing.core.snapshot import dump
from clearing.core.state import Account, State
from clearing.model import commands as c
from clearing.model import ids
from clearing.model.codec import body_hash, decode_any_envelope, encode, encode_entry
from clearing.model.errors import InvariantViolation, Refused
from clearing.model.outcomes import EpochClosed, Outcome, Rejected
from clearing.model.params import Instrument, Params, params_hash
from clearing.model.signature import public_key_of, sign, sign_owner, verify
from proofs.hashtree import StateTree
from proofs.leaf import ExitLeaf

START_US = 1_700_000_000_000_000
SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
USD = 1_000_000
FOREVER = ids.MAX_TIME_US
BTC = 1
ETH = 2

INSTRUMENTS = (
    Instrument(BTC, "BTC-PERP", "BTC", 10_000, 1_000_000, 50_000, 30_000),
    Instrument(ETH, "ETH-PERP", "ETH", 1_000, 5_000_000, 100_000, 60_000),
)


def option(
    number: int, strike: int, expiry_us: int, is_call: bool, underlying: str = "BTC", tick: int = 1_000
) -> Instrument:
    """A European option; strike in atoms per lot."""
    symbol = f"{underlying}-{expiry_us // DAY}-{strike}-{'C' if is_call else 'P'}"
    return Instrument(
        number, symbol, underlying, tick, 1_000_000, 50_000, 30_000, ids.OPTION, expiry_us, strike, is_call
    )


def future(number: int, expiry_us: int, underlying: str = "BTC", tick: int = 10_000) -> Instrument:
    """A dated future."""
    symbol = f"{underlying}-{expiry_us // DAY}"
    return Instrument(number, symbol, underlying, tick, 1_000_000, 50_000, 30_000, ids.FUTURE, expiry_us)


def surface(
    underlying: int, expiry_us: int, forward: int, strikes: tuple[int, ...], vols: tuple[float, ...], rate: float = 0.0
) -> c.Surface:
    """A vote on an expiry: forward in atoms per lot, vols and rate as plain numbers, all confidence full."""
    vol = tuple(round(v * ids.UNIT) for v in vols)
    one = ids.UNIT
    return c.Surface(underlying, expiry_us, forward, 1, round(rate * one), one, one, strikes, vol)


def seed_of(name: str) -> bytes:
    """32 bytes that belong to a name: an Ed25519 seed or a secp256k1 key."""
    return hashlib.sha256(f"test seed of {name}".encode()).digest()


decode_outcomes = msgspec.msgpack.Decoder(list[Outcome]).decode


@cache
def address_of(name: str) -> bytes:
    """The 20-byte wallet address of a name."""
    return bytes.fromhex(Wallet.from_key(seed_of(f"{name}/wallet")).address[2:])


@cache
def session_key(name: str, label: str = "session") -> bytes:
    """The tagged public session key of a name."""
    return public_key_of(seed_of(f"{name}/{label}"))


@lru_cache(maxsize=4_096)
def signed_owner(deployment: bytes, action: c.RegisterKey | c.RevokeKey, wallet: str) -> bytes:
    return sign_owner(deployment, action, seed_of(f"{wallet}/wallet"))


@lru_cache(maxsize=65_536)
def admitted(raw: bytes) -> tuple[c.Envelope, c.Body]:
    """Decode and verify, as the sequencer does before the reducer. Raises `Refused`."""
    envelope, body = decode_any_envelope(raw)
    verify(envelope, body)
    return envelope, body


class Recorded(NamedTuple):
    """One journal entry as replay needs it."""

    time_us: int
    raw: bytes
    outcomes: bytes


def genesis(
    params: Params | None = None,
    instruments: tuple[Instrument, ...] = INSTRUMENTS,
    publishers: int = 1,
    tokens: tuple[str, ...] = ("usd token",),
    more_vaults: tuple[tuple[str, ...], ...] = (),
) -> c.Genesis:
    """A genesis of one vault (one more per further tuple of tokens); publishers are publisher/0, publisher/1, ..."""
    vaults = [
        c.Vault(31_337 + number, address_of(f"vault/{number}" if number else "vault"), tuple(map(address_of, names)))
        for number, names in enumerate((tokens, *more_vaults))
    ]
    return c.Genesis(
        rules_version=RULES_VERSION,
        deployment=hashlib.sha256(b"test deployment").digest(),
        origin="novate.test",
        operator_key=public_key_of(seed_of("operator")),
        operator_address=address_of("operator"),
        treasury=address_of("treasury"),
        vaults=tuple(vaults),
        publishers=tuple(public_key_of(seed_of(f"publisher/{i}")) for i in range(publishers)),
        instruments=instruments,
        params=params or Params(),
    )


class Venue:
    """See the module. `now_us` is the time of the next entry; `results` of `do` are outcomes."""

    def __init__(
        self,
        params: Params | None = None,
        instruments: tuple[Instrument, ...] = INSTRUMENTS,
        publishers: int = 1,
        tokens: tuple[str, ...] = ("usd token",),
        more_vaults: tuple[tuple[str, ...], ...] = (),
        chosen: c.Genesis | None = None,
    ) -> None:
        self.now_us = START_US
        self.genesis = chosen or genesis(params, instruments, publishers, tokens, more_vaults)
        self.deployment = self.genesis.deployment
        self.reducer = Reducer(self.genesis)
        self.journal: list[Recorded] = []
        self.snapshots: list[tuple[int, bytes, EpochClosed]] = []
        self.operator_seed = seed_of("operator")
        self.publisher_seeds = [seed_of(f"publisher/{i}") for i in range(publishers)]
        self.publisher_heads = [bytes(32)] * publishers
        self._nonces: dict[str, int] = {}
        self._client_ids = 0
        self.submit(sign(self.genesis, self.operator_seed))

    # --- entries -----------------------------------------------------------------------------

    @property
    def state(self) -> State:
        return self.reducer.state

    def submit(self, raw: bytes, check_invariants: bool = True) -> list[Outcome]:
        """Verify, apply, check, record. Raises `Refused` when it is not admitted."""
        envelope, body = admitted(raw)
        out = self.reducer.apply(self.now_us, envelope, body)
        encode_entry(len(self.journal), self.now_us, raw, out)
        self.journal.append(Recorded(self.now_us, raw, encode(out)))
        if check_invariants:
            check(self.state)
            check_books(self.state)
        if out and isinstance(out[-1], EpochClosed):
            check_exits(self.state)
            self.snapshots.append((len(self.journal), dump(self.state), out[-1]))
        return out

    def advance(self, duration_us: int) -> None:
        self.now_us += duration_us

    def nonce(self, who: str) -> int:
        """The next unused nonce of a signer."""
        self._nonces[who] = self._nonces.get(who, 0) + 1
        return self._nonces[who]

    def client_id(self) -> int:
        self._client_ids += 1
        return self._client_ids

    # --- operator and publishers -------------------------------------------------------------

    def operator(self, *commands: c.OperatorCommand) -> list[Outcome]:
        batch = c.OperatorBatch(self.deployment, self.nonce("operator"), commands)
        return self.submit(sign(batch, self.operator_seed))

    def deposit(
        self,
        name: str,
        atoms: int,
        kind: int = ids.INBOX_DEPOSIT,
        asset: int = 0,
        vault: int = 0,
        data: bytes = bytes(32),
    ) -> list[Outcome]:
        """A vault's next inbox message; by default a deposit of `atoms` for the wallet of `name`."""
        index = self.state.vaults[vault].inbox_count
        owner = address_of(name)
        return self.operator(c.ConsumeInbox(vault, index, kind, owner, asset, atoms, self.now_us // SECOND, data))

    def oracle(
        self,
        prices: dict[int, int],
        publisher: int = 0,
        confidence: int = 1,
        time_us: int | None = None,
        prev_hash: bytes | None = None,
        surfaces: tuple[c.Surface, ...] = (),
    ) -> list[Outcome]:
        """A signed update of a publisher, chained to its previous one unless told otherwise.

        `prices` by underlying id, atoms per lot.

        Dated now; the clock moves a microsecond when its previous update was dated now already.
        """
        if time_us is None:
            self.now_us = max(self.now_us, self.state.publishers[publisher].time_us + 1)
        body = c.OracleUpdate(
            self.deployment,
            publisher,
            self.publisher_heads[publisher] if prev_hash is None else prev_hash,
            self.now_us if time_us is None else time_us,
            tuple(c.Price(i, price, confidence) for i, price in prices.items()),
            surfaces,
        )
        out = self.submit(sign(body, self.publisher_seeds[publisher]))
        self.publisher_heads[publisher] = body_hash(encode(body))
        return out

    def close_epoch(self) -> EpochClosed:
        epoch = self.state.epoch + 1
        block, none = (epoch * 10, hashlib.sha256(b"l1 %d" % epoch).digest()), (0, bytes(32))
        out = self.operator(c.CloseEpoch(epoch, tuple(block if vault.live else none for vault in self.state.vaults)))
        closed = out[-1]
        assert isinstance(closed, EpochClosed), f"the epoch was refused: {out}"
        return closed

    def liquidate(self, name: str, sub: int = 0) -> list[Outcome]:
        return self.operator(c.Liquidate(self.account(name, sub).number))

    # --- owners and members ------------------------------------------------------------------

    def register(
        self,
        name: str,
        scope: int = ids.SCOPE_ALL,
        expiry_us: int = FOREVER,
        label: str = "session",
        key: bytes | None = None,
    ) -> list[Outcome]:
        """The wallet of `name` delegates to its session key `label`."""
        chosen = session_key(name, label) if key is None else key
        action = c.RegisterKey(
            address_of(name),
            chosen,
            scope,
            expiry_us,
            self.nonce(f"{name}/wallet"),
            seed_of(f"{name}/secret"),
        )
        return self.submit(signed_owner(self.deployment, action, name))

    def revoke(self, name: str, label: str = "session") -> list[Outcome]:
        action = c.RevokeKey(address_of(name), session_key(name, label), self.nonce(f"{name}/wallet"))
        return self.submit(signed_owner(self.deployment, action, name))

    def fund(self, name: str, atoms: int) -> Account:
        """Deposit and register: ready to trade."""
        self.deposit(name, atoms)
        self.register(name)
        return self.account(name)

    def owner_accounts(self, name: str) -> list[Account]:
        owner = self.state.owners.get(address_of(name))
        return owner.accounts if owner else []

    def account(self, name: str, sub: int = 0) -> Account:
        return next(a for a in self.owner_accounts(name) if a.sub == sub)

    def batch(
        self,
        name: str,
        commands: Iterable[c.MemberCommand],
        account: int,
        nonce: int | None = None,
        expiry_us: int = FOREVER,
        label: str = "session",
    ) -> bytes:
        """Signed envelope bytes, not submitted."""
        chosen = self.nonce(f"{name}/{label}") if nonce is None else nonce
        body = c.MemberBatch(self.deployment, account, chosen, expiry_us, tuple(commands))
        return sign(body, seed_of(f"{name}/{label}"))

    def do(
        self,
        name: str,
        *commands: c.MemberCommand,
        sub: int = 0,
        expiry_us: int = FOREVER,
        label: str = "session",
    ) -> list[Outcome]:
        """One signed batch of a member."""
        number = self.account(name, sub).number
        return self.submit(self.batch(name, commands, number, expiry_us=expiry_us, label=label))

    def order(
        self,
        side: int,
        price: int,
        lots: int,
        instrument: int = BTC,
        kind: int = ids.LIMIT,
        tif: int = ids.GTC,
        post_only: bool = False,
        reduce_only: bool = False,
        stp: int = ids.STP_CANCEL_TAKER,
        expiry_us: int = 0,
        client_id: int = 0,
    ) -> c.PlaceOrder:
        """A PlaceOrder with a fresh client order id unless one is given."""
        return c.PlaceOrder(
            instrument, side, price, lots, client_id or self.client_id(),
            kind, tif, post_only, reduce_only, stp, expiry_us,
        )  # fmt: skip

    def buy(self, name: str, price: int, lots: int, instrument: int = BTC) -> list[Outcome]:
        return self.do(name, self.order(ids.BUY, price, lots, instrument))

    def sell(self, name: str, price: int, lots: int, instrument: int = BTC) -> list[Outcome]:
        return self.do(name, self.order(ids.SELL, price, lots, instrument))


def codes(outcomes: Iterable[Outcome]) -> list[str]:
    """The reasons of every rejection among `outcomes`."""
    return [o.code for o in outcomes if isinstance(o, Rejected)]


def refusal(venue: Venue, raw: bytes) -> str:
    """Code with which `raw` is not admitted, or "" (then it was applied).

    Asserts that a refusal changes no byte of the state.
    """
    before = dump(venue.state)
    entries = len(venue.journal)
    try:
        venue.submit(raw)
    except Refused as error:
        code = error.code
    else:
        return ""
    assert dump(venue.state) == before, f"{code} changed the state"
    assert len(venue.journal) == entries
    return code


def check_exits(state: State) -> None:
    """Directly after an epoch: the leaves, their sums and the holdings agree to the atom, and the
    trees that were updated leaf by leaf are those that all accounts and owners give from nothing."""
    owners = list(state.owners.values())
    problems = [(rebuilt_root(state) == state.state_tree.root, "a state leaf is out of date")]
    for lane, asset in enumerate(state.assets):
        exits = [owner.exits[lane] for owner in owners]
        problems += [
            (sum(exits) == asset.held, f"lane {lane}: exits sum to {sum(exits)}, holdings are {asset.held}"),
            (min(exits) >= 0, "an exit is negative"),
        ]
    for vault in state.vaults:
        sums = tuple(sum(owner.exits[lane] + owner.acks[lane] for owner in owners) for lane in vault.every_lane)
        problems.append((vault.exit_tree.sums == sums, f"tree sums {vault.exit_tree.sums}, {sums} are owed"))
        tree = vault.new_tree()
        for owner in owners:
            first, after = vault.first_lane, vault.first_lane + vault.lanes
            mine = tuple(owner.exits[first:after]), tuple(owner.acks[first:after])
            leaf = owner.leaves[vault.number]
            owed = any(map(any, mine))
            problems.append((leaf >= 0 or not owed, "an owner is owed something and has no leaf"))
            problems.append((owner.posted[vault.number] == (mine if leaf >= 0 else None), "a leaf is out of date"))
            if leaf >= 0:
                tree.update([ExitLeaf(leaf, owner.address, *mine)])
        problems.append((tree.root == vault.exit_tree.root, f"the exit tree of vault {vault.number} is out of date"))
    for fine, what in problems:
        if not fine:
            raise InvariantViolation("EXITS_WRONG", what)


def rebuilt_root(state: State) -> bytes:
    """The state root from every account as it is now."""
    committed = params_hash(state.params, state.specs())
    tree = StateTree(state.state_tree.domain)
    tree.update((a.number, state_leaf_hash(state, a, committed)) for a in state.accounts)
    return tree.root


def replay(journal: Iterable[Recorded], start: Reducer | None = None) -> Reducer:
    """Fold a journal again (from genesis, or on `start`), comparing the outcomes of every entry."""
    reducer = start
    for seq, entry in enumerate(journal):
        envelope, body = decode_any_envelope(entry.raw)
        if reducer is None:
            assert isinstance(body, c.Genesis)
            reducer = Reducer(body)
        out = encode(reducer.apply(entry.time_us, envelope, body))
        assert out == entry.outcomes, f"entry {seq} of the tail diverged"
    assert reducer is not None
    return reducer


def total_equity(state: State) -> int:
    return sum(equity(account) for account in state.accounts)
