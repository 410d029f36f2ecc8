# SPDX-License-Identifier: GPL-3.0-or-later
"""The attestor: one `turn` after the other, it reads on, signs what is true and objects to what is not.

Rules:
- Nothing is signed that our own replay did not produce, nor while a vault of the venue is frozen and its payouts are
  not debited in the journal: otherwise two vaults would pay the same money.
- Every posted header is compared with ours, each time the chain is looked at, so that a reorganised chain is looked
  at anew.
- An objection is written down as evidence first. Then the header is vetoed, or another's veto seconded, inside its
  window; a lapsed veto of ours is settled before the next. Who is no attestor of the vault, or only watches, says so
  and no more.
- Losing the operator or an endpoint is a fault that is reported and tried again, and never an objection by
  itself: only a posted header whose journal stays out for `grace_s` is.
"""

import json
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clearing.chain.errors import ChainError
from clearing.chain.structs import VETO_OPEN, VETO_UPHELD
from clearing.chain.vault import VaultClient
from clearing.chain.wallet import Wallet
from clearing.client.http import ApiClient
from clearing.model.errors import NovateError
from clearing.watch import evidence, verdict
from clearing.watch.follow import Follower
from clearing.watch.signer import SigningLog, attest

_HOOK_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Settings:
    """`grace_s`: how long the journal behind a posted header may stay out. `alarm_s`: how close a vault's freeze
    deadline may come unannounced. `hook`: a command that gets every alert as JSON on standard input."""

    watch_only: bool = False
    grace_s: float = 600.0
    alarm_s: int = 86_400
    hook: tuple[str, ...] = ()


@dataclass(slots=True)
class _Seen:
    """What is known of one vault: the epochs whose posted header was compared, by number, and when one without its
    journal was first seen."""

    agreed: dict[int, bytes] = field(default_factory=dict)
    objected: dict[int, bytes] = field(default_factory=dict)
    waiting: dict[int, float] = field(default_factory=dict)
    handed_in: int = 0


class Attestor:
    """Watches the venue of one journal. `vaults`: clients of its vaults, each with the attestor's wallet."""

    def __init__(
        self,
        folder: Path,
        client: ApiClient,
        vaults: Sequence[VaultClient],
        wallet: Wallet | None,
        settings: Settings,
        log: Any,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises `NovateError` ATTESTOR_RUNS, DISK_FULL, `JournalError`."""
        self._folder, self._client, self._given = folder, client, list(vaults)
        self._wallet, self._settings, self._log, self._clock_s = wallet, settings, log, clock_s
        self._signing = SigningLog(folder)
        self.follower = Follower(folder, client)
        self._vaults: dict[int, VaultClient] = {}
        self._seen: dict[int, _Seen] = {}
        self._told: dict[str, str] = {}
        self.alerts: list[dict[str, Any]] = []

    def close(self) -> None:
        self.follower.close()
        self._signing.close()

    # --- the loop ---

    def run(self, stop: threading.Event, interval_s: float) -> None:
        """Turn until `stop`; faults are reported and tried again."""
        while not stop.is_set():
            self.turn()
            stop.wait(interval_s)

    def turn(self) -> None:
        """Read on, judge, sign, object; every part though another one failed."""
        self._part("journal", self._read)
        if self.follower.state is None:
            return
        self._part("vaults", self._match)
        for number in self._vaults:
            self._part(f"chain {number}", lambda number=number: self._look(number))  # type: ignore[misc]
        self._part("signing", self._sign)
        self._save_status()

    def _part(self, name: str, work: Callable[[], object]) -> None:
        try:
            work()
        except (NovateError, ChainError) as error:
            self._alert_once(name, error.code, error.message)
        else:
            if self._told.pop(name, None) is not None:
                self._log.info("over", part=name)

    def _read(self) -> None:
        self.follower.turn()
        if self.follower.divergence is not None:
            self._alert_once("divergence", "JOURNAL_DIVERGED", str(self.follower.divergence))
            return
        for text in self.follower.check_head():
            self._alert_once("checkpoint", "CHECKPOINT_DIFFERS", text)

    def _match(self) -> None:
        """Find each client's vault in the genesis. Raises `NovateError` WRONG_VAULT."""
        state = self.follower.state
        assert state is not None, "the caller has looked"
        places = {(spec.chain_id, spec.address): number for number, spec in enumerate(state.genesis.vaults)}
        for vault in list(self._given):
            place = vault.rpc.chain_id(), vault.address
            if place not in places:
                message = f"0x{vault.address.hex()} on chain {place[0]} is no vault of this journal; check --vault"
                raise NovateError("WRONG_VAULT", message)
            self._vaults[places[place]] = vault
            self._seen.setdefault(places[place], _Seen())
            self._given.remove(vault)

    # --- signing ---

    def _sign(self) -> None:
        state = self.follower.state
        if self._wallet is None or self._settings.watch_only or state is None or self.follower.divergence is not None:
            return
        unsettled = verdict.frozen_unsettled(state, self._vaults)
        if unsettled and self.follower.epochs:
            text = f"vault {unsettled[0]} is frozen and its payouts are not debited; no header is signed until they are"
            self._alert_once("order", "ESCAPE_UNSETTLED", text)
            return
        self._told.pop("order", None)
        for number, vault in self._vaults.items():
            self._sign_for(number, vault, state.epoch)

    def _sign_for(self, number: int, vault: VaultClient, closed: int) -> None:
        """Sign the one header of this vault that may be posted next."""
        state, wallet = self.follower.state, self._wallet
        assert state is not None and wallet is not None, "the caller has looked"
        spec, epoch = state.genesis.vaults[number], vault.epoch_count() + 1
        own = self.follower.epochs.get(epoch)
        header = own.replayed.headers[number] if own is not None else None
        if own is None or header is None or epoch > closed or wallet.address not in spec.attestors:
            return
        if self._seen[number].handed_in == epoch and wallet.address not in self._missing(epoch, number):
            return
        if epoch > 1 and vault.header_hash(epoch - 1) != header.prev_header:
            return  # what stands there is judged by `_look`
        doubts = verdict.before_signing(own, number, vault)
        if doubts:
            self._log.info("not signed yet", vault=number, epoch=epoch, reasons=doubts)
            return
        place = spec.chain_id, spec.address
        signature = attest(self._signing, wallet, place, epoch, number, header.hash())
        self._client.attest(number, epoch, header.hash(), signature)
        self._seen[number].handed_in = epoch
        self._log.info("signed", vault=number, epoch=epoch, header="0x" + header.hash().hex())

    def _missing(self, epoch: int, number: int) -> list[bytes]:
        """Who has not signed by the operator's word, so that a lost hand-in is repeated."""
        rows = [row for row in self._client.attestations(epoch) if int(row["vault"]) == number]
        return [bytes.fromhex(str(text)[2:]) for row in rows for text in row["missing"]]

    # --- what is posted ---

    def _look(self, number: int) -> None:
        """Compare every header on the chain with ours, and watch the deadline."""
        vault, seen = self._vaults[number], self._seen[number]
        if vault.frozen():
            self._alert_once(
                f"frozen {number}", "VAULT_FROZEN", f"vault {number} is frozen (reason {vault.freeze_reason()})"
            )
            return
        count = vault.epoch_count()
        for epoch in range(max(1, self._first_open(number, count)), count + 1):
            posted = vault.header_hash(epoch)
            if seen.agreed.get(epoch) == posted:
                continue
            self._judge(number, epoch, posted)
        left = vault.freeze_at_s() - vault.rpc.time_s()
        if left < self._settings.alarm_s:
            text = f"anyone may freeze vault {number} in {left} s: the operator is behind with headers or messages"
            self._alert_once(f"deadline {number}", "DEADLINE_NEAR", text)
        else:
            self._told.pop(f"deadline {number}", None)

    def _first_open(self, number: int, count: int) -> int:
        """The first epoch that could still be objected to, or that we have not compared."""
        vault, agreed = self._vaults[number], self._seen[number].agreed
        final = vault.finalised_epoch()
        unknown = next((epoch for epoch in range(1, count + 1) if epoch not in agreed), count + 1)
        return min(final + 1, unknown)

    def _judge(self, number: int, epoch: int, posted: bytes) -> None:
        vault, seen = self._vaults[number], self._seen[number]
        own = self.follower.epochs.get(epoch)
        mine = own.replayed.headers[number] if own is not None else None
        if mine is not None and mine.hash() == posted:
            seen.agreed[epoch] = posted
            seen.waiting.pop(epoch, None)
            return
        block = vault.header_block(epoch)
        found = [event for event in vault.epochs(block, block, epoch) if event.header_hash == posted]
        if not found:
            raise ChainError("RPC_BAD_DATA", f"the header of epoch {epoch} is not in the logs; try another --rpc")
        since = seen.waiting.setdefault(epoch, self._clock_s())
        waited = self._clock_s() - since
        objection = verdict.of_posted(self.follower, number, epoch, found[0].header, waited, self._settings.grace_s)
        if objection is None:
            self._log.info("not judged yet", vault=number, epoch=epoch, seconds=round(waited))
            return
        details = {
            "detail": objection.detail,
            "posted_header": "0x" + found[0].header.hex(),
            "own_header": "0x" + mine.encode().hex() if mine is not None else None,
            "replayed_entries": self.follower.size,
        }
        digest = evidence.save(self._folder, evidence.encode(objection.reason, number, epoch, **details))
        self._alert_once(f"epoch {epoch} of vault {number}", objection.reason, objection.detail)
        self._object(number, epoch, posted, digest)

    # --- objecting ---

    def _object(self, number: int, epoch: int, posted: bytes, digest: bytes) -> None:
        """Veto or second, once per header. Raises `ChainError`."""
        state, vault, seen = self.follower.state, self._vaults[number], self._seen[number]
        if self._wallet is None or self._settings.watch_only or state is None or seen.objected.get(epoch) == posted:
            return
        if self._wallet.address not in vault.attestors() or vault.finalised_epoch() >= epoch:
            return
        try:
            self._send_objection(vault, epoch, posted, digest)
        except ChainError as error:
            if error.reason not in ("AlreadyObjected", "VaultFrozen", "WindowOver"):
                raise
        seen.objected[epoch] = posted

    def _send_objection(self, vault: VaultClient, epoch: int, posted: bytes, digest: bytes) -> None:
        state = vault.veto_of(epoch).state
        if state == VETO_UPHELD:
            return
        if state == VETO_OPEN:
            try:
                vault.second(epoch, posted)
                self._log.warning("seconded", epoch=epoch, header="0x" + posted.hex())
                return
            except ChainError as error:
                if error.reason != "NoStandingVeto":
                    raise
        try:
            vault.veto(epoch, posted, digest)
        except ChainError as error:
            if error.reason == "VetoStanding":  # another one was faster
                vault.second(epoch, posted)
            elif error.reason == "VetoUnsettled":
                self._settle_own(vault)
                vault.veto(epoch, posted, digest)
            else:
                raise
        self._log.warning("vetoed", epoch=epoch, header="0x" + posted.hex(), evidence="0x" + digest.hex())

    def _settle_own(self, vault: VaultClient) -> None:
        """End lapsed vetoes of ours, which the contract wants settled before the next one."""
        assert self._wallet is not None
        for event in vault.vetoes(vault.first_block()):
            state = vault.veto_of(event.epoch)
            if state.by == self._wallet.address and state.state == VETO_OPEN:
                vault.settle_veto(event.epoch)

    # --- telling ---

    def _alert_once(self, part: str, code: str, message: str) -> None:
        """Say a thing when it begins or changes; the hook's failure changes nothing."""
        if self._told.get(part) == f"{code} {message}":
            return
        self._told[part] = f"{code} {message}"
        alert = {"part": part, "code": code, "message": message}
        self.alerts.append(alert)
        del self.alerts[:-1_000]
        self._log.error("alert", **alert)
        if self._settings.hook:
            try:
                text = json.dumps(alert)
                subprocess.run(self._settings.hook, input=text, text=True, timeout=_HOOK_SECONDS, check=False)
            except (OSError, subprocess.SubprocessError) as error:
                self._log.error("hook failed", message=str(error))

    def status(self) -> dict[str, Any]:
        """What is known now, for people and `novate attest status`."""
        state = self.follower.state
        return {
            "entries": self.follower.size,
            "epoch": state.epoch if state is not None else 0,
            "divergence": str(self.follower.divergence) if self.follower.divergence is not None else None,
            "vaults": [
                {
                    "vault": number,
                    "agreed_epochs": len(seen.agreed),
                    "last_signed": seen.handed_in,
                    "objections": [{"epoch": e, "header": "0x" + h.hex()} for e, h in sorted(seen.objected.items())],
                }
                for number, seen in sorted(self._seen.items())
            ],
            "alerts": [f"{alert['code']}: {alert['message']}" for alert in self.alerts[-20:]],
        }

    def _save_status(self) -> None:
        path = self._folder / "status.json"
        temporary = path.with_suffix(".tmp")
        try:
            temporary.write_text(json.dumps(self.status(), indent=1) + "\n")
            temporary.replace(path)
        except OSError as error:
            self._log.error("status not written", message=str(error))
