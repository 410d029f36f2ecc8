# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo's story, chapter by chapter. Each chapter states what it proves through the narrator."""

import json
import random
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from clearing.chain.deploy import deploy_token, mint
from clearing.chain.embedded import CHAIN_ID
from clearing.chain.errors import ChainError
from clearing.chain.vault import VaultClient
from clearing.chain.wallet import Wallet
from clearing.cli.chapters import fail_desk, let_bots_trade, open_desk, show_risk
from clearing.cli.heist import Attestor, forge, post_forged
from clearing.cli.market import Market
from clearing.cli.output import usd
from clearing.cli.public_log import ask_to_cosign, published, second_head
from clearing.cli.stage import (
    Member,
    Narrator,
    Operator,
    Place,
    StageError,
    make_member,
    must,
    novate,
    posted_epoch,
    start_chain,
    wait_for,
)
from clearing.client.http import ApiClient, ApiError
from clearing.client.session import Session
from clearing.model import commands as c
from clearing.model import ids
from clearing.model.signature import public_key_of, sign, sign_owner
from clearing.service.layout import read_key
from proofs.checkpoint import parse as parse_note
from proofs.header import Header

UNIT = 1_000_000
EPOCH_SECONDS = 6
DEADLINE_S = 7 * 86_400
WINDOW_S = 3_600
# Half of the members deposit on the second chain. Trading does not know.
_TRIES = 5
CHAIN_IDS = (CHAIN_ID, CHAIN_ID + 1)


class Story:
    """Everything lives in `folder`; the market is simulated from `seed`."""

    def __init__(self, folder: Path, members: int, orders: int, seed: int) -> None:
        self.folder = folder
        self.data = folder / "operator"
        self.orders = orders
        self.rng = random.Random(seed)
        self.tell_ = Narrator()
        self.treasury = make_member(folder, "treasury", bytes(32))
        names = ["alice", "bob", "carol", "dave", *(f"member{n}" for n in range(5, members + 1))]
        self.members = [make_member(folder, name, self.rng.randbytes(32)) for name in names[:members]]
        for number, member in enumerate(self.members):
            member.place = number % len(CHAIN_IDS)
        self.late = make_member(folder, "latecomer", bytes(32))
        keepers = [make_member(folder, f"attestor{n}", bytes(32)) for n in range(1, 4)]
        self.keepers = sorted(keepers, key=lambda keeper: keeper.wallet.address)
        self.places: list[Place] = []
        self.attestors: list[Attestor] = []
        self.operator: Operator
        self.api: ApiClient
        self.market: Market

    def tell(self) -> bool:
        """Run the story; True if everything was proven."""
        try:
            self._deploy()
            self._fund()
            self._register()
            self._trade()
            open_desk(self, _operator_seed(self.data))
            show_risk(self)
            self._shock()
            fail_desk(self)
            self._withdraw()
            self._verify()
            self._audit()
            self._steal()
            self._vanish()
            self._leave()
        except StageError as error:
            self.tell_.prove("the demo ran to its end", False, str(error))
        finally:
            if hasattr(self, "operator") and self.operator.process.poll() is None:
                self.operator.kill()
            for attestor in self.attestors:
                attestor.stop()
            for place in self.places:
                place.evm.stop()
        return self.tell_.table()

    # --- chapters ---

    def _deploy(self) -> None:
        n = self.tell_
        n.chapter("Two chains, two vaults, one operator, three attestors")
        people = [*self.members, self.treasury, self.late, *self.keepers]
        operator = Wallet(_operator_key(self.data))
        deployment = "0x" + self.rng.randbytes(32).hex()
        for chain_id in CHAIN_IDS:
            evm, rpc = start_chain(people, [operator], self.folder, chain_id)
            token = deploy_token(rpc, self.treasury.wallet)
            options = ["--rpc", evm.url, "--wallet", str(self.treasury.wallet_file), "--deployment", deployment]
            options += ["--operator", "0x" + operator.address.hex(), "--token", "0x" + token.hex()]
            options += ["--treasury", "0x" + self.treasury.wallet.address.hex()]
            options += ["--deadline", str(DEADLINE_S), "--window", str(WINDOW_S), "--threshold", "2"]
            options += [word for k in self.keepers for word in ("--attestor", "0x" + k.wallet.address.hex())]
            options += ["--veto-bond", "1", "--operator-bond", "10", "--post-bond", "--json"]
            deployed = must(novate("vault", "deploy", *options), "vault deploy").data
            vault = VaultClient(rpc, bytes.fromhex(deployed["vault"][2:]))
            self.places.append(Place(evm, rpc, vault, token))
            n.say(f"vault {deployed['vault']} on chain {chain_id}, freeze deadline 7 days, window 1 h")
        self.where = [word for place in self.places for word in place.where]
        must(novate("operator", "init", str(self.data), *self.where, "--confirmations", "0"), "operator init")
        self.operator = Operator(self.data, self.folder, EPOCH_SECONDS)
        self.api = ApiClient(self.operator.url())
        n.say(f"operator process {self.operator.process.pid} serves {self.api.url}")
        self.attestors = [Attestor(k, self.folder, ["--api", self.api.url, *self.where]) for k in self.keepers]
        n.say(
            f"attestors: processes {', '.join(str(a.process.pid) for a in self.attestors)}; two of three sign a header"
        )
        checked = [novate("vault", "verify", *place.where, "--api", self.api.url).code for place in self.places]
        n.prove("the vaults are the published code", checked == [0, 0], "bytecode and genesis equal the artifacts")

    def _fund(self) -> None:
        n = self.tell_
        n.chapter("Members deposit, some on one chain, some on the other")
        amounts = [250_000, 100_000, 100_000, 11_000] + [50_000] * (len(self.members) - 4)
        for member, amount in [*zip(self.members, amounts, strict=True), (self.treasury, 40_000)]:
            self._deposit(member, amount * UNIT)
        wait_for(lambda: self.api.status()["accounts"] >= len(self.members), "the operator to see the deposits")
        for member in self.members:
            member.account = self._account_of(member)
            where = f"on chain {CHAIN_IDS[member.place]}"
            n.say(f"{member.name:<10} account {member.account:>2}  deposited {usd(member.deposited):>18} {where}")
        total = sum(member.deposited for member in self.members) + self.treasury.deposited
        held = self._held()
        n.prove("deposits are in the vaults", held == total, f"{usd(held)} held, {usd(total)} deposited")

    def _deposit(self, member: Member, atoms: int) -> None:
        place = self.places[member.place]
        mint(place.rpc, self.treasury.wallet, place.token, member.wallet.address, atoms)
        place.as_payer(member).deposit(0, atoms, member.wallet.address)
        member.deposited = atoms

    def _account_of(self, member: Member) -> int:
        found: list[int] = []

        def seen() -> bool:
            try:
                found[:] = [int(row["account"]) for row in self.api.owner(member.wallet.address)["accounts"]]
            except ApiError:
                return False
            return bool(found)

        wait_for(seen, f"{member.name}'s deposit to be consumed")
        return found[0]

    def _held(self) -> int:
        """Atoms that the vaults hold, by the tokens' word."""
        return sum(place.vault.token_balance(0, place.vault.address) for place in self.places)

    def _register(self) -> None:
        n = self.tell_
        n.chapter("Wallets register session keys")
        deployment = bytes.fromhex(str(self.api.status()["deployment"])[2:])
        now = time.time_ns() // 1_000
        for member in self.members:
            key = public_key_of(member.seed)
            secret = self.rng.randbytes(32)
            action = c.RegisterKey(member.wallet.address, key, ids.SCOPE_ALL, now + 30 * ids.DAY_US, 1, secret)
            receipt = self.api.submit(sign_owner(deployment, action, read_key(member.wallet_file)))
            if receipt["rejected"]:
                raise StageError(f"{member.name}'s key was refused: {receipt['rejected']}")
            member.session = Session(self.api, deployment, member.account, member.seed)
        capital = c.HouseTransfer(ids.OPERATOR_CAPITAL, ids.INSURANCE_FUND, 30_000 * UNIT)
        self.api.submit(sign(c.OperatorBatch(deployment, now, (capital,)), _operator_seed(self.data)))
        n.say(f"{len(self.members)} keys registered by EIP-712; the insurance fund holds {usd(30_000 * UNIT)}")
        self.market = Market(self.api, deployment, read_key(self.data / "keys" / "publisher-0.ed25519"), self.rng)
        self.market.publish()

    def _trade(self) -> None:
        n = self.tell_
        n.chapter("A market, in signed orders")
        n.say(f"oracle at {usd(self.market.price)} per lot")
        let_bots_trade(self, self.members[0], self.members[1])
        n.say(f"then everybody: {self.orders:,} orders, 20 per signature")
        started = time.monotonic()
        stats = self.market.trade(self.members, self.orders, lambda done: n.say(f"{done:,} orders sent ..."))
        seconds = time.monotonic() - started
        n.say(
            f"{stats.placed:,} placed, {stats.fills:,} fills, {stats.rejected:,} refused with a reason; {seconds:.1f} s"
        )
        bad = self.members[0].session
        assert bad is not None
        forged = bytearray(bad.sign((c.CancelAll(),)))
        forged[-1] ^= 1
        before = int(self.api.status()["accounts"])
        refused = self.api.submit_many([bytes(forged)])[0].get("code")
        n.prove(
            "a forged order is refused",
            refused == "BAD_SIGNATURE" and before > 0,
            f"code {refused}, not journalled",
        )
        n.prove("orders met", stats.fills > 0, f"{stats.fills:,} fills, each with a receipt")

    def _shock(self) -> None:
        n = self.tell_
        n.chapter("A price shock")
        dave = self.members[3]
        self.market.gear_up(dave, self.members[0])
        before = self.api.account(dave.account)
        n.say(f"dave is long {_position(before):,} lots with equity {usd(int(before['equity_atoms']))}")
        for drop_ppm in (40_000, 40_000, 40_000):
            self.market.move(-drop_ppm)
        n.say(f"the oracle falls to {usd(self.market.price)}")
        wait_for(lambda: _position(self.api.account(dave.account)) == 0, "the liquidation", 20)
        after = self.api.account(dave.account)
        fund = int(self.api.account(ids.INSURANCE_FUND)["equity_atoms"])
        n.say(f"dave's equity {usd(int(after['equity_atoms']))}, insurance fund {usd(fund)}")
        n.prove("the failing account was liquidated", _position(after) == 0, "position closed, orders cancelled")

    def _withdraw(self) -> None:
        n = self.tell_
        n.chapter("A withdrawal through an epoch")
        bob = self.members[1]
        assert bob.session is not None
        amount = 5_000 * UNIT
        self.market.publish()  # money leaves at a fresh price alone
        bob.session.submit(c.CancelAll())
        other = 1 - bob.place  # deposited here, withdrawn there: the balance is one
        receipt = bob.session.submit(c.Withdraw(other, 0, amount))
        if receipt["rejected"]:
            raise StageError(f"bob's withdrawal was refused: {receipt['rejected']}")
        epoch = int(self.api.status()["epoch"]) + 1
        wait_for(lambda: posted_epoch(self.api) >= epoch, f"epoch {epoch} to be posted")
        for place in self.places:
            place.pass_time(WINDOW_S + 1)
        claimed = novate("claim", *self.places[other].where, "--wallet", str(bob.wallet_file), "--json")
        held = self.places[other].held_by(bob)
        n.prove(
            "a withdrawal is claimed, on the other chain",
            claimed.code == 0 and held == amount,
            f"bob deposited on {CHAIN_IDS[bob.place]}; his wallet on {CHAIN_IDS[other]} holds {usd(held)}",
        )

    def _verify(self) -> None:
        n = self.tell_
        n.chapter("Every member verifies a proof of the balance")
        epoch = int(self.api.status()["epoch"]) + 1
        wait_for(lambda: posted_epoch(self.api) >= max(epoch, 3), "three epochs to be posted")
        people = [*self.members, self.treasury]

        def check(member: Member) -> bool:
            path = self.folder / f"{member.name}.bundle.json"
            address = "0x" + member.wallet.address.hex()
            must(novate("proof", "get", address, "--api", self.api.url, "-o", str(path)), "proof get")
            result = novate("verify", str(path), *self.places[0].where, "--json")
            return result.code == 0 and bool(result.data["complete"])

        with ThreadPoolExecutor(2) as pool:
            good = sum(pool.map(check, people))
        n.say(f"{posted_epoch(self.api)} epochs posted so far")
        n.prove("every bundle verifies against the chain", good == len(people), f"{good} of {len(people)} bundles")
        path = self.folder / "alice.bundle.json"
        bundle = json.loads(path.read_text())
        bundle["exit"]["exits"][0] = str(int(bundle["exit"]["exits"][0]) + 1)
        tampered = self.folder / "tampered.json"
        tampered.write_text(json.dumps(bundle))
        code = novate("verify", str(tampered)).code
        n.prove("a bundle one atom off is refused", code == 3, f"verify exits {code}")

    def _audit(self) -> None:
        n = self.tell_
        n.chapter("The journal is public: two witnesses, a mirror, an auditor who replays everything")
        with published(self.folder, self.data) as (mirror, policy, witnesses):
            tip = parse_note((mirror / "checkpoint").read_text()).checkpoint
            n.say(
                f"{tip.size:,} entries as static files, cosigned by {' and '.join(w.name for w in witnesses)}, mirrored"
            )
            note = second_head(mirror, self.data)
            answers = [ask_to_cosign(w.url(), tip.size, note) for w in witnesses]
            n.prove("no witness cosigns a second history", answers == [409, 409], "the same size, another root: 409")
        report = self.folder / "audit.html"
        options = ["--journal", str(mirror), "--policy", str(policy), "--report", str(report), *self.where, "--json"]
        # The story moved the chains' clocks over the windows that claims wait for.
        result = novate("audit", "run", *options, "--time-tolerance", str(4 * WINDOW_S))
        if result.code not in (0, 5):
            raise StageError(f"audit run exited {result.code}: {result.err[-600:]}")
        data = result.data
        n.say(
            f"{data['entries']:,} entries, {data['epochs']} epochs, root {data['root'][:18]}…; report in {report.name}"
        )
        how = "outcomes byte for byte, headers, money and times against both chains"
        n.prove("replay gives every outcome and every posted root", result.code == 0, how)

    def _steal(self) -> None:
        n = self.tell_
        n.chapter("A thief with the operator's key, and two attestors' keys, posts a forged root")
        place, alice = self.places[1], self.members[0]
        for attestor in self.attestors:
            attestor.require_alive()
            attestor.hold()
        last = place.vault.epoch_count()
        wait_for(lambda: int(self.api.status()["epoch"]) > last, "the operator to close the next epoch")
        stolen = [keeper.wallet for keeper in self.keepers[:2]]
        forged, digest = self._forge(place, alice.wallet.address, stolen)
        taken = place.vault.header_hash(forged.epoch) == digest
        n.say(
            f"epoch {forged.epoch} on chain {CHAIN_IDS[1]}: alice's exit moved to another leaf; solvent, signed, posted"
        )
        for attestor in self.attestors:
            attestor.resume()
        wait_for(place.vault.frozen, "the attestors' vetoes", 60)
        veto = place.vault.veto_of(forged.epoch)
        n.say(f"vetoed by 0x{veto.by.hex()[:8]}…, {veto.objectors} attestors object; evidence beside their logs")
        void = place.vault.escape_epoch() < forged.epoch and not self.places[0].vault.frozen()
        n.prove("a forged root is vetoed and void", taken and void, f"chain {CHAIN_IDS[1]} froze with epoch "
                f"{place.vault.escape_epoch()}, chain {CHAIN_IDS[0]} lives")  # fmt: skip

    def _forge(self, place: Place, victim: bytes, stolen: list[Wallet]) -> tuple[Header, bytes]:
        """The forged header and its hash, once it is posted. The operator may still post an epoch whose attestations it
        had before the attestors were held: then the thief builds on that one."""
        for _ in range(_TRIES):
            forged, chunks = forge(place.vault, victim, self.treasury.wallet.address)
            try:
                return forged, post_forged(
                    place.as_payer(self.late), forged, chunks, Wallet(_operator_key(self.data)), stolen
                )
            except ChainError as error:
                if "StaleHeader" not in error.message:
                    raise
        raise StageError("the operator posted faster than the thief")

    def _vanish(self) -> None:
        n = self.tell_
        n.chapter("The operator disappears")
        self.operator.kill()
        for attestor in self.attestors:
            attestor.stop()
        shutil.rmtree(self.data)
        n.say(f"process {self.operator.process.pid} killed, {self.data} deleted, the attestors gone too")
        place = self.places[self.late.place]
        self._deposit(self.late, 1_234_560_000)
        n.say(f"a latecomer deposits {usd(self.late.deposited)}, and nobody is there to consume it")
        early = novate("exit", *place.where, "--wallet", str(self.members[0].wallet_file), "--json")
        n.say("before the deadline: " + early.err.strip().splitlines()[-1].strip())
        n.prove("nobody can freeze early", not place.vault.frozen(), "the deadline has not passed")
        place.pass_time(DEADLINE_S + 1)

    def _leave(self) -> None:
        n = self.tell_
        n.chapter("Everyone leaves, with the two chains' data alone")
        people = [*self.members, self.treasury, self.late]
        before = {person.name: self._owned(person) for person in people}
        held = self._held()
        empty = self.folder / "empty"

        def go(person: Member) -> bool:
            room = empty / person.name
            room.mkdir(parents=True)
            result = novate("exit", *self.where, "--wallet", str(person.wallet_file), "--json", cwd=room)
            if result.code != 0:
                n.say(f"{person.name}: {result.err.strip()[-300:]}")
            return result.code == 0

        results = [go(people[0])]  # the first one freezes the vault that lived on
        frozen = all(place.vault.frozen() for place in self.places)
        epochs = ", ".join(str(place.vault.escape_epoch()) for place in self.places)
        n.prove("the other vault is frozen by a member", frozen, f"escape epochs {epochs}")
        with ThreadPoolExecutor(2) as pool:
            results += pool.map(go, people[1:])
        paid = 0
        for person in people:
            gained = self._owned(person) - before[person.name]
            paid += gained
            n.say(f"{person.name:<10} deposited {usd(person.deposited):>18}   left with {usd(gained):>18}")
        n.prove(
            "everyone's exit went through",
            all(results),
            f"{sum(results)} of {len(people)}, each its own process",
        )
        n.prove("paid out is what the vaults held", paid == held, f"{usd(paid)} of {usd(held)}")
        rest = self._held()
        n.prove("the vaults' remainder is exactly zero", rest == 0, f"{rest} atoms left")

    def _owned(self, person: Member) -> int:
        """Atoms in someone's wallets on both chains."""
        return sum(place.held_by(person) for place in self.places)


def _operator_key(data: Path) -> bytes:
    """The operator's wallet key; made on first use, since the vault is deployed for its address."""
    if not data.exists():
        must(novate("operator", "keys", str(data)), "operator keys")
    return read_key(data / "keys" / "operator.secp256k1")


def _operator_seed(data: Path) -> bytes:
    return read_key(data / "keys" / "operator.ed25519")


def _position(account: dict[str, object]) -> int:
    positions = account["positions"]
    assert isinstance(positions, list)
    return sum(int(position["size_lots"]) for position in positions)
