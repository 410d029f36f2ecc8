# SPDX-License-Identifier: GPL-3.0-or-later
"""What an auditor finds wrong besides the journal itself: one sentence each, with a stable code."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One disagreement. `epoch` is 0 when it concerns no epoch, `vault` -1 when it concerns none. Codes: WRONG_VAULT,
    HEADER_DIFFERS, EPOCH_NOT_IN_JOURNAL, INBOX_DIFFERS, INSOLVENT, HOLDINGS_DIFFER, TOKENS_MISSING, FALSE_FREEZE,
    ESCAPE_DIFFERS, FREEZE_IGNORED; ENTRY_TIME, L1_BLOCK_DIFFERS (`times`); CHECKPOINT_DIFFERS, CHECKPOINT_UNSIGNED,
    POLICY_UNSATISFIED (`checkpoint`)."""

    code: str
    epoch: int
    message: str
    vault: int = 0

    def __str__(self) -> str:
        place = f"vault {self.vault}: " if self.vault >= 0 else ""
        return f"{self.code}: {place}{self.message}"
