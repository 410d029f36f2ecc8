# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers with a meaning: limits, sides, order kinds, scopes, house accounts.

Plain ints and not enums, since the matching loop compares them a million times a second; the
names here are the only place where their values stand.
"""

from typing import Final

PPM: Final = 1_000_000
# Volatility, interest rates, shocks, preset factors and confidence levels are ints of 1e-12.
UNIT: Final = 10**12
MAX_LOTS: Final = 2**53 - 1
MAX_PRICE_ATOMS: Final = 2**53 - 1
MAX_AMOUNT_ATOMS: Final = 2**63 - 1
# Leaves and outcomes are 64 bits wide: what a vault may hold, and open interest at mark, leave room
# for leverage, so that no figure of any account can pass them.
MAX_HOLDINGS_ATOMS: Final = 2**56
MAX_OPEN_NOTIONAL_ATOMS: Final = 2**60
MAX_TIME_US: Final = 2**63 - 1
DAY_US: Final = 86_400_000_000
YEAR_US: Final = 365 * DAY_US
# Assets of one vault, and vaults of a deployment: holdings of all lanes together stay far below 2^63 atoms.
MAX_LANES: Final = 4
MAX_VAULTS: Final = 4

BUY: Final = 0
SELL: Final = 1

PERPETUAL: Final = 0
FUTURE: Final = 1
OPTION: Final = 2

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

# How an account is margined: by position (standard), or over the scenarios of its underlying's preset.
STANDARD: Final = 0
PORTFOLIO: Final = 1

# The witness of a liquidation: no scenario (standard margin), or the basis contingency.
NO_SCENARIO: Final = -1
BASIS: Final = -2

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

# The default waterfall, in this order; each tranche is untouched until the one before it is zero.
TRANCHE_DEFAULTER: Final = 0
TRANCHE_INSURANCE: Final = 1
TRANCHE_OPERATOR: Final = 2
TRANCHE_DEFAULT_FUND: Final = 3
TRANCHE_GAINS: Final = 4
TRANCHE_ADL: Final = 5

INBOX_DEPOSIT: Final = 1
INBOX_FORCED_WITHDRAWAL: Final = 2
INBOX_FORCED_EXIT: Final = 3
INBOX_GOVERNANCE: Final = 4

MAX_COMMANDS_PER_BATCH: Final = 50
MAX_ENVELOPE_BYTES: Final = 8_192
MAX_ENTRY_BYTES: Final = 65_535
NONCE_WINDOW: Final = 1_024
