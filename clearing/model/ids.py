# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers with a meaning: limits, sides, order kinds, scopes, house accounts.

Plain ints and not enums, since the matching loop compares them a million times a second; the
names here are the only place where their values stand.
"""

from typing import Final

PPM: Final = 1_000_000
MAX_LOTS: Final = 2**53 - 1
MAX_PRICE_ATOMS: Final = 2**53 - 1
MAX_AMOUNT_ATOMS: Final = 2**63 - 1
# Leaves and outcomes are 64 bits wide: what a vault may hold, and open interest at mark, leave room
# for leverage, so that no figure of any account can pass them.
MAX_HOLDINGS_ATOMS: Final = 2**56
MAX_OPEN_NOTIONAL_ATOMS: Final = 2**60
MAX_TIME_US: Final = 2**63 - 1
DAY_US: Final = 86_400_000_000

BUY: Final = 0
SELL: Final = 1

LIMIT: Final = 0
MARKET: Final = 1

GTC: Final = 0
IOC: Final = 1
FOK: Final = 2
GTT: Final = 3

STP_NONE: Final = 0
STP_CANCEL_TAKER: Final = 1
STP_CANCEL_MAKER: Final = 2
STP_CANCEL_BOTH: Final = 3

SCOPE_TRADE: Final = 1
SCOPE_WITHDRAW: Final = 2
SCOPE_TRANSFER: Final = 4
SCOPE_ALL: Final = 7

KEY_ED25519: Final = 1
KEY_SECP256K1: Final = 2

# The house's accounts: sub-accounts of the treasury, numbered first.
FEES: Final = 0
INSURANCE_FUND: Final = 1
OPERATOR_CAPITAL: Final = 2
HOUSE_ACCOUNTS: Final = 3

INBOX_DEPOSIT: Final = 1

MAX_COMMANDS_PER_BATCH: Final = 50
MAX_ENVELOPE_BYTES: Final = 8_192
MAX_ENTRY_BYTES: Final = 65_535
NONCE_WINDOW: Final = 1_024
