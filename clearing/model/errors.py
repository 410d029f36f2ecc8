# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors that a user can meet, each with a stable code.

Two families: `Refused` means that nothing was journalled (the envelope is malformed, not
authenticated, or a replay); a rejection *outcome* means that it was journalled and refused by
the reducer. `REJECTIONS` documents the codes of the second family and what to do about them.
"""


class NovateError(Exception):
    """Base of all errors with a stable `code` (UPPER_SNAKE) and a `message` that helps."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class Refused(NovateError):
    """The envelope was not admitted: it never reaches the journal and changed nothing."""


class InvariantViolation(NovateError):
    """The reducer's books do not balance. The sequencer stops before anything is posted."""


REJECTIONS: dict[str, str] = {
    "COMMAND_EXPIRED": "the envelope's expiry had passed; sign a new one with a later expiry_us",
    "OUT_OF_SCOPE": "the session key may not do this; register a key with the needed scope",
    "UNKNOWN_INSTRUMENT": "no such instrument, underlying or expiry; `novate market show` lists them",
    "UNKNOWN_ASSET": "no such vault or asset in this deployment",
    "INVALID_FIELD": "side, kind, tif, stp or a flag has an unknown value",
    "INVALID_SIZE": "size_lots must be a positive integer below 2^53",
    "INVALID_AMOUNT": "the amount must be a positive number of atoms below 2^63",
    "ORDER_TOO_LARGE": "size_lots exceeds the instrument's max_order_lots; split the order",
    "INVALID_PRICE": "price_atoms must be positive, below the limit, and a multiple of tick_atoms",
    "INVALID_EXPIRY": "a GTT order needs an expiry_us in the future; other orders must carry 0",
    "DUPLICATE_CLIENT_ORDER_ID": "an open order of this account has this id; choose another",
    "UNKNOWN_ORDER": "no open order of this account has this id; it may be filled or cancelled",
    "POST_ONLY_WOULD_CROSS": "the order would trade at once; lower the price or drop post_only",
    "REDUCE_ONLY_WOULD_INCREASE": "there is no opposite position to reduce",
    "FOK_NOT_FILLABLE": "the book cannot fill the whole size at this price",
    "INSUFFICIENT_MARGIN": "initial margin would not hold for every fill; deposit or reduce size",
    "NO_MARK_PRICE": "no oracle price has been journalled for this instrument yet",
    "ORACLE_STALE": "the oracle price is too old to trade on; retry after the next update",
    "TOO_MANY_ORDERS": "the account's limit of open orders is reached; cancel some",
    "TOO_MANY_LEVELS": "the book side holds its maximum of price levels; use an existing price",
    "TOO_MANY_ACCOUNTS": "the owner's limit of sub-accounts is reached",
    "INSUFFICIENT_BALANCE": "the free balance after initial margin is below the amount",
    "SAME_ACCOUNT": "source and target are the same account",
    "UNKNOWN_PUBLISHER": "no publisher has this index",
    "ORACLE_NOT_POSITIVE": "a price or confidence is zero or negative",
    "ORACLE_FUTURE": "the update is dated in the future",
    "ORACLE_TOO_OLD": "the update was too old when it arrived",
    "ORACLE_CHAIN_BROKEN": "prev_hash is not the hash of the publisher's previous update",
    "ORACLE_JUMP": "the price moved more than the permitted jump from the index",
    "INBOX_OUT_OF_ORDER": "inbox messages are consumed in index order",
    "FUNDING_NOT_DUE": "the funding interval has not passed",
    "EPOCH_OUT_OF_ORDER": "epochs are closed in order",
    "NOT_LIQUIDATABLE": "the account's equity is not below its maintenance margin",
    "UNKNOWN_ACCOUNT": "no such account",
    "KEY_LIMIT": "the owner has too many live keys; revoke some",
    "UNKNOWN_KEY": "this key is not registered",
    "PARAMS_VERSION": "a proposal's version is the current one plus one",
    "PARAMS_NOTICE": "effective_us is earlier than the notice period allows; choose a later time",
    "PARAMS_OUT_OF_BOUNDS": "the parameters break a hard bound; `novate params check` names it",
    "INVALID_INSTRUMENT": "the instrument breaks a hard bound or its underlying is unknown",
    "INSTRUMENT_EXISTS": "an instrument has this id or symbol already; choose another",
    "INSTRUMENT_IN_USE": "it has positions or open orders; delist it when they are gone or settled",
    "INSTRUMENT_EXPIRED": "the instrument has expired; its positions are being settled",
    "NOT_EXPIRED": "the instrument has not expired, or its settlement price is not final yet",
    "MARKET_HALTED": "the market is halted; orders can be cancelled; GET /v1/instruments says why",
    "TRIGGERS_PENDING": "fired triggers of this market go first; send the order again in a moment",
    "TRIGGER_ALREADY_REACHED": "the mark price is already beyond the trigger; place an order instead",
    "NO_TRIGGERS": "no fired trigger waits",
    "TOO_MANY_POSITIONS": "the account's limit of positions is reached; close some",
    "OUTSIDE_PRICE_BAND": "the price is too far from the index; choose one inside the band",
    "ORACLE_DIVERGED": "mark and index are too far apart; until they meet only orders that reduce or lead back",
    "ORACLE_CONFIDENCE": "the publishers disagree too much; retry when they agree",
    "ORACLE_OFF_TREND": "the price is beyond the permitted multiple of its slow mean",
    "INVALID_SURFACE": "the surface has unordered strikes, or a vol, rate or confidence out of bounds",
    "FALSE_WITNESS": "this scenario does not take the account's equity below maintenance",
    "LIQUIDATION_COOLING": "the account's next liquidation step is not due yet",
    "IN_LIQUIDATION": "the account is being liquidated or its book is on auction; wait until it is settled",
    "NO_AUCTION": "no book of this account is on offer",
    "AUCTION_PRICE": "the auction's price is above max_pay_atoms; it falls with time",
    "SHARE_TOO_SMALL": "the share moves no whole lot, or leaves an uneven rest; ask for a larger one",
    "PLEDGE_LOCKED": "the pledge is still locked; ask again when the lock has passed",
    "NOTHING_TO_RESOLVE": "there is no deficit, gain or position that this step could settle",
    "TRANCHE_NOT_EMPTY": "an earlier tranche of the waterfall still holds money; resolve the deficit first",
    "BORROW_CAP": "the venue's cap on borrowed money is reached",
    "INTEREST_NOT_DUE": "no borrower's interest is due",
    "VAULT_FROZEN": "this vault is frozen for good; choose another vault, or leave it with: novate exit",
    "VAULT_SHORT": "this vault holds less of the asset than that; withdraw the rest from another vault",
    "ESCAPE_UNSETTLED": "a frozen vault's payouts must be debited before anything else is paid or closed",
    "ESCAPE_MISMATCH": "the leaves or messages are not those of the escape header",
    "NOT_FROZEN": "this vault is not frozen",
    "NOTHING_FORCED": "no forced request of this account waits, or it waits for a fresh price",
    "EXIT_FORCED": "a forced exit of this account is under way; new orders are refused until it is done",
    "NOT_APPROVED": "the governor has not approved this; send its hash through the governor's inbox first",
    "HOUSE_LOCKED": "the house's tranches leave only by a governance message",
    "WINDING_DOWN": "the venue is winding down: its last epoch pays everyone everything; claim it on-chain",
    "NOT_WINDING_DOWN": "start the wind-down first",
    "INVALID_KEY": "the key is not 0x01 followed by 32 bytes, or already belongs to someone",
}
