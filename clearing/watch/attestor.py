# SPDX-License-Identifier: GPL-3.0-or-later
"""The attestor: one `turn` after the other, it reads on, signs what is true and objects to what is not.

Rules:
- Nothing is signed that our own replay did not produce, nor while a vault of the venue is frozen and its payouts are
  not debited in the journal: otherwise two vaults would pay the same money. So who signs watches every vault.
- Every posted header is compared with ours, each time the chain is looked at, so that a reorganised chain is looked
  at anew: another header is judged, and an objection that the chain forgot is sent again.
- An objection is written down as evidence first. Then the header is vetoed, or another's veto seconded, inside its
  window; a lapsed veto of ours is settled before the next. Who is no attestor of the vault, or only watches, says so
  and no more.
- Whatever goes wrong in one part, with one vault, or in what the operator or an endpoint sends, the others go on: an
  attestor who can be made to stop is a veto that never comes. Only a journal copy of unknown content ends it.
- Losing the operator or an endpoint is a fault that is reported and tried again, and never an objection by
  itself: only a posted header whose journal stays out for `grace_s` is.
"""

import json
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from clearing.audit.chain import identity, number_of
from clearing.chain.errors import ChainError
from clearing.chain.structs import VETO_OPEN, VETO_UPHELD
from clearing.chain.vault import VaultClient
from clearing.chain.wallet import Wallet
from clearing.client.http import ApiClient
from clearing.model.errors import NovateError
from clearing.service.doorbell import Stop
from clearing.watch import evidence, verdict
from clearing.watch.follow import Follower
from clearing.watch.signer import SigningLog, attest
from journal import JournalError
from journal.errors import FatalJournalError

_HOOK_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Settings:
    """`grace_s`: how long the journal behind a posted header may stay out, well below the vaults' challenge window.
    `alarm_s`: how close a vault's freeze deadline may come unannounced. `hook`: a command that gets every alert as
    JSON on standard input."""

    watch_only: bool = False
    grace_s: float = 600.0
    alarm_s: int = 86_400
    hook: tuple[str, ...] = ()


@dataclass(slots=True)
class _Posted:
    """A header on the chain that is not known to be ours: when it was first seen (on `clock_s`), what was found
    (reason and evidence), and how many attestors objected when we had (0: we have not)."""

    header_hash: bytes
    header: bytes
    since_s: float
    reason: str = ""
    evidence: bytes = b""
    objectors: int = 0


@dataclass(slots=True)
class _Seen:
    """What is known of one vault: by epoch, the hash of a posted header that is ours, or what is posted instead;
    and the last epoch that we signed, and that the operator got the signature of."""

    agreed: dict[int, bytes] = field(default_factory=dict)
    doubted: dict[int, _Posted] = field(default_factory=dict)
    signed: int = 0
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
        try:
            self.follower = Follower(folder, client)
        except BaseException:
            self._signing.close()
            raise
        self._vaults: dict[int, VaultClient] = {}
        self._unsound: set[int] = set()
        self._seen: dict[int, _Seen] = {}
        self._told: dict[str, str] = {}
        self.alerts: list[dict[str, Any]] = []

    def close(self) -> None:
        self.follower.close()
        self._signing.close()

    # --- the loop ---

    def run(self, stop: Stop, interval_s: float) -> None:
        """Turn until `stop`; faults are reported and tried again."""
        while not stop.is_set():
            self.turn()
            stop.wait(interval_s)

    def turn(self) -> None:
        """Read on, judge, sign, object; every part though another one failed."""
        self._part("journal", self._read)
        if self.follower.state is not None:
            for vault in list(self._given):
                self._part(f"vault 0x{vault.address.hex()}", partial(self._match, vault))
            for number in self._vaults:
                self._part(f"chain {number}", partial(self._look, number))
            self._part("signing", self._sign)
        self._save_status()

    def _part(self, name: str, work: Callable[[], object]) -> None:
        """Do it; a fault is reported once until it is over or changes. Raises `FatalJournalError`."""
        try:
            work()
        except FatalJournalError:
            raise
        except (NovateError, JournalError) as error:
            self._alert_once(name, error.code, error.message)
        except Exception as error:  # noqa: BLE001 - what others send must not end the watch
            self._alert_once(name, "INTERNAL", f"{type(error).__name__}: {error}")
        else:
            if self._told.pop(name, None) is not None:
                self._log.info("over", part=name)

    def _read(self) -> None:
        try:
            self.follower.turn()
        except NovateError as error:
            if error.code != "BLOCKS_REFUSED":
                raise
            self._alert_once("history", error.code, error.message)  # and its checkpoint may prove it
        if self.follower.divergence is not None:
            self._alert_once("divergence", "JOURNAL_DIVERGED", str(self.follower.divergence))
            return
        for text in self.follower.check_head():
            self._alert_once("checkpoint", "CHECKPOINT_DIFFERS", text)

    def _match(self, vault: VaultClient) -> None:
        """Find a client's vault in the genesis, and look once at what does not change.

        Raises `NovateError` WRONG_VAULT, `ChainError`.
        """
        state, settings = self.follower.state, self._settings
        assert state is not None, "the caller has looked"
        number = number_of(state.genesis, vault)
        if number is None:
            message = f"0x{vault.address.hex()} on chain {vault.rpc.chain_id()} is no vault of this journal"
            raise NovateError("WRONG_VAULT", f"{message}; check --vault")
        differences, window_s = identity(state, number, vault), vault.challenge_window_s()
        named = self._wallet is None or settings.watch_only or self._wallet.address in vault.attestors()
        self._vaults[number] = vault
        self._seen[number] = _Seen(signed=self._signing.last(number))
        self._given.remove(vault)
        if differences:  # still watched: a header that stands on another genesis is objected to
            self._unsound.add(number)
            self._alert_once(f"genesis {number}", "GENESIS_DIFFERS", "; ".join(found.message for found in differences))
        if self._wallet is not None and not named:
            text = f"0x{self._wallet.address.hex()} is no attestor of vault {number}; it signs and vetoes nothing there"
            self._alert_once(f"role {number}", "NOT_ATTESTOR", text)
        if settings.grace_s >= window_s:
            text = f"vault {number} has a challenge window of {window_s} s: choose a shorter --grace, or a withheld "
            self._alert_once(f"grace {number}", "GRACE_TOO_LONG", text + "header is final before it is objected to")

    # --- signing ---

    def _sign(self) -> None:
        state = self.follower.state
        if self._wallet is None or self._settings.watch_only or state is None or self.follower.divergence is not None:
            return
        unwatched = [n for n, vault in enumerate(state.vaults) if not vault.settled and n not in self._vaults]
        if unwatched:
            text = f"vault {unwatched[0]} of the venue is not watched, and it may be frozen; no header is signed"
            raise NovateError("VAULT_UNWATCHED", f"{text} before its chain answers (--vault and --rpc for each)")
        unsettled = verdict.frozen_unsettled(state, self._vaults)
        if unsettled:
            text = f"vault {unsettled[0]} is frozen and its payouts are not debited; no header is signed until they are"
            raise NovateError("ESCAPE_UNSETTLED", text)
        for number, vault in self._vaults.items():
            if number not in self._unsound and not state.vaults[number].settled:
                self._part(f"signing {number}", partial(self._sign_for, number, vault))

    def _sign_for(self, number: int, vault: VaultClient) -> None:
        """Sign the one header of this vault that may be posted next."""
        state, wallet = self.follower.state, self._wallet
        assert state is not None and wallet is not None, "the caller has looked"
        spec, epoch = state.genesis.vaults[number], vault.epoch_count() + 1
        own = self.follower.epochs.get(epoch)
        header = own.replayed.headers[number] if own is not None else None
        if own is None or header is None or wallet.address not in spec.attestors:
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
        self._seen[number].signed = epoch
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
                seen.doubted.pop(epoch, None)  # of a header that a reorganisation took away
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
        seen = self._seen[number]
        own = self.follower.epochs.get(epoch)
        mine = own.replayed.headers[number] if own is not None else None
        if mine is not None and mine.hash() == posted:
            seen.agreed[epoch] = posted
            seen.doubted.pop(epoch, None)
            return
        seen.agreed.pop(epoch, None)
        doubt = seen.doubted.get(epoch)
        if doubt is None or doubt.header_hash != posted:
            doubt = seen.doubted[epoch] = _Posted(posted, self._header(number, epoch, posted), self._clock_s())
        waited = self._clock_s() - doubt.since_s
        found = verdict.of_posted(self.follower, number, epoch, doubt.header, waited, self._settings.grace_s)
        if found is None:
            self._log.info("not judged yet", vault=number, epoch=epoch, seconds=round(waited))
            return
        if found.reason != doubt.reason:  # the detail goes on changing while the journal grows
            details = {
                "detail": found.detail,
                "posted_header": "0x" + doubt.header.hex(),
                "own_header": "0x" + mine.encode().hex() if mine is not None else None,
                "replayed_entries": self.follower.size,
            }
            doubt.evidence = evidence.save(self._folder, evidence.encode(found.reason, number, epoch, **details))
            doubt.reason = found.reason
            self._alert_once(f"epoch {epoch} of vault {number}", found.reason, found.detail)
        self._object(number, epoch, doubt)

    def _header(self, number: int, epoch: int, posted: bytes) -> bytes:
        """The bytes of a posted header. Raises `ChainError`."""
        vault = self._vaults[number]
        block = vault.header_block(epoch)
        for event in vault.epochs(block, block, epoch):
            if event.header_hash == posted:
                return event.header
        raise ChainError("RPC_BAD_DATA", f"the header of epoch {epoch} is not in the logs; try another --rpc")

    # --- objecting ---

    def _object(self, number: int, epoch: int, doubt: _Posted) -> None:
        """Veto or second, once per header as long as the chain remembers it. Raises `ChainError`."""
        vault = self._vaults[number]
        if self._wallet is None or self._settings.watch_only or vault.finalised_epoch() >= epoch:
            return
        if doubt.objectors and vault.veto_of(epoch).objectors >= doubt.objectors:
            return
        if self._wallet.address not in vault.attestors():
            return
        try:
            self._send_objection(vault, epoch, doubt.header_hash, doubt.evidence)
        except ChainError as error:
            if error.reason not in ("AlreadyObjected", "VaultFrozen", "WindowOver"):
                raise
        doubt.objectors = vault.veto_of(epoch).objectors

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
                    "last_signed": seen.signed,
                    "objections": [
                        {
                            "epoch": epoch,
                            "header": "0x" + doubt.header_hash.hex(),
                            "reason": doubt.reason,
                            "evidence": "0x" + doubt.evidence.hex(),
                        }
                        for epoch, doubt in sorted(seen.doubted.items())
                        if doubt.reason
                    ],
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
