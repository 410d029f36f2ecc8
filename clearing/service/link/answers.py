# SPDX-License-Identifier: GPL-3.0-or-later
"""The questions that only the writer's process can answer, by name.

    status                                          what the parts beside the reducer are doing, and what is wrong
    checkpoint                                      the signed head of the last commit
    posted                                          per vault the last epoch that it holds
    epoch_note(epoch, operator_key)                 the signed head of a closed epoch
    bundle(owner, vault)                            an owner's offline proof file, made by the writer's process
    attest(vault, epoch, header_hash, signature)    an attestor's signature; who has signed by now
    attestations(epoch)                             who has signed an epoch's headers
    voucher(vault, asset, cumulative, expiry, owner, signature)     the operator's signature over an owner's voucher
    report(figures)                                 what the asking process tells of itself: names and whole numbers

Rules: arguments are taken strictly, by type; an answer is msgpack of plain values. A fault that has no code is
INTERNAL, and its cause goes to the log.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from clearing.model.errors import NovateError, Refused
from clearing.service import views
from clearing.service.link import frames as f
from clearing.service.venue import Venue
from journal import JournalError

_MOST_FIGURES: Final = 64


class Answers:
    """Answers over a running venue. Thread-safe as the venue is. `report` hears of faults of ours."""

    def __init__(self, venue: Venue, report: Callable[[str, BaseException], None]) -> None:
        self._venue = venue
        self._report = report
        self.figures: dict[str, int] = {}
        self._known: dict[str, tuple[Any, Callable[..., Any]]] = {
            "status": (tuple[()], venue.writer_status),
            "checkpoint": (tuple[()], self._checkpoint),
            "posted": (tuple[()], venue.posted),
            "epoch_note": (tuple[int, bytes], venue.prover.note),
            "bundle": (tuple[bytes, int], venue.prover.bundle),
            "attest": (tuple[int, int, bytes, bytes], self._attest),
            "attestations": (tuple[int], venue.attested),
            "voucher": (tuple[int, int, int, int, bytes, bytes], venue.vouchers.countersigned),
            "report": (tuple[dict[str, int]], self._figures),
        }

    def answer(self, ask: f.Ask) -> f.Answer:
        """The answer, or its error; never raises."""
        try:
            return f.Answer(ask.id, self._call(ask.name, ask.args))
        except (NovateError, JournalError) as error:
            return f.Answer(ask.id, None, error.code, error.message, isinstance(error, Refused))
        except Exception as error:  # noqa: BLE001 - who asks gets a code, never a traceback
            self._report(f"link {ask.name[:40]}", error)
            return f.Answer(ask.id, None, "INTERNAL", "the operator failed on this; its log says why")

    def _call(self, name: str, args: list[Any]) -> Any:
        found = self._known.get(name)
        if found is None:
            raise Refused("BAD_PARAMETER", f"no question is named {name[:40]!r}; known: {', '.join(self._known)}")
        kind, function = found
        try:
            given = msgspec.convert(args, kind)
        except (msgspec.ValidationError, RecursionError) as error:
            raise Refused("BAD_PARAMETER", f"{name}: {error}") from None
        return function(*given)

    def _checkpoint(self) -> dict[str, Any]:
        found = self._venue.checkpoint()
        return {"size": found.size, "root": found.root, "note": found.note}

    def _attest(self, vault: int, epoch: int, header_hash: bytes, signature: bytes) -> dict[str, Any]:
        book = self._venue.attestations
        attestor = book.add(vault, epoch, header_hash, signature)
        return {"attestor": views.plain(attestor)} | book.view(vault, epoch)

    def _figures(self, figures: dict[str, int]) -> None:
        if len(figures) > _MOST_FIGURES:
            raise Refused("BAD_PARAMETER", f"{len(figures)} figures; report at most {_MOST_FIGURES}")
        self.figures = figures
