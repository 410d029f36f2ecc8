# SPDX-License-Identifier: GPL-3.0-or-later
"""What somebody may do in a scenario: one sentence, one signed envelope.

members  deposit 50 | deposit 2 WBTC | withdraw 50 | withdraw 2 WBTC | transfer 5 to sub 1 | transfer 5 WBTC to sub 1
         buy 4 BTC at 99 as a1 [market] [post-only] [reduce-only] [IOC] [FOK] [for=10s] [stp-taker]
         sell 4 BTC at 90 as a2 once below 95 [market] [reduce-only] [oco=a1] [for=10s]
         cancel a1 | cancel all | cancel all BTC | cancel all in 10s | replace a1 with 3 at 98
         mode portfolio | pledge 50 | unpledge 50 | liquidate ann [witness=3] | bid 50% of ann for 100
         register [trade] [withdraw] [transfer] [for=10s] | revoke | ... signed until 5s
venue    wait 10s | price BTC 100 [vol=60%] [forward=101] [rate=5%] [by=0] [confidence=1] [dated=-5s] [chain=broken]
         prices BTC 100 101 - 250 [confidence=1] (one per publisher, - is silent) | funding | sweep | interest
         triggers | close epoch [7] | liquidate ann [witness=3] | resolve ann | deleverage ann in BTC
         settle BTC-C | list BTC-D call on BTC expiry 9d strike 100 | delist BTC-C | halt BTC | resume BTC
         move 5 from capital to insurance | propose ladder.target_ppm=120% after 1d | rotate operator | ...
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from clearing.core.margin import witness
from clearing.model import commands as c
from clearing.model import ids
from clearing.model import outcomes as o
from clearing.model.signature import public_key_of
from tests.core import venue as v
from tests.scenario.language import ScenarioError, atoms, changed, duration_us, part

if TYPE_CHECKING:
    from tests.scenario.stage import Stage

STP = {
    "stp-none": ids.STP_NONE,
    "stp-taker": ids.STP_CANCEL_TAKER,
    "stp-maker": ids.STP_CANCEL_MAKER,
    "stp-both": ids.STP_CANCEL_BOTH,
}
TIF = {"IOC": ids.IOC, "FOK": ids.FOK}
SCOPES = {"trade": ids.SCOPE_TRADE, "withdraw": ids.SCOPE_WITHDRAW, "transfer": ids.SCOPE_TRANSFER}
MODES = {"standard": ids.STANDARD, "portfolio": ids.PORTFOLIO}
_ORDER = re.compile(
    r"(?P<side>buy|sell) (?P<lots>\d+) (?P<market>[\w-]+) at (?P<price>[\d.,]+) as (?P<label>\w+)"
    r"(?: once (?P<way>above|below) (?P<trigger>[\d.,]+))?(?P<rest>(?: [\w=-]+)*)$"
)


# --- members -----------------------------------------------------------------------------------


def member(stage: Stage, who: str, sentence: str) -> list[o.Outcome]:
    """A sentence of somebody. Raises `Refused` when it is not admitted."""
    venue = stage.venue
    name, label, sub = who, "session", 0
    if "+" in who:
        name, label = who.split("+")
    if "/" in who:
        name, sub = who.split("/")[0], int(who.split("/")[1])
    match sentence.split():
        case ["deposit", amount, *asset]:
            stage.know(name)
            return venue.deposit(name, atoms(amount), asset=stage.lane(asset[0] if asset else "USD"))
        case ["register", *options]:
            scope = sum(SCOPES[word] for word in options if word in SCOPES) or ids.SCOPE_ALL
            lasts = [duration_us(w.removeprefix("for=")) for w in options if w.startswith("for=")]
            expiry = venue.now_us + lasts[0] if lasts else v.FOREVER
            return venue.register(name, scope, expiry, label)
        case ["revoke"]:
            return venue.revoke(name, label)
    command, expiry = _command(stage, sentence)
    number = stage.account(f"{name}/{sub}" if sub else name).number
    signer = "treasury" if number < ids.HOUSE_ACCOUNTS else name
    return venue.submit(venue.batch(signer, [command], number, expiry_us=expiry, label=label))


def _command(stage: Stage, sentence: str) -> tuple[c.MemberCommand, int]:
    """(command, expiry of its envelope)."""
    body, _, late = sentence.partition(" signed until ")
    expiry = stage.venue.now_us + duration_us(late) if late else v.FOREVER
    order = _ORDER.match(body)
    if order is not None:
        return (_trigger(stage, order) if order["way"] else _place(stage, order)), expiry
    words = body.split()
    match words:
        case ["cancel", *rest]:
            return _cancel(stage, rest), expiry
        case ["replace", label, "with", lots, "at", price]:
            return c.ReplaceOrder(stage.labels.get(label, 999), atoms(price), int(lots)), expiry
        case ["withdraw", amount, *asset]:
            return c.Withdraw(0, stage.lane(asset[0] if asset else "USD"), atoms(amount)), expiry
        case ["transfer", amount, "to", "sub", sub]:
            return c.Transfer(int(sub), atoms(amount)), expiry
        case ["transfer", amount, asset, "to", "sub", sub]:
            return c.Transfer(int(sub), atoms(amount), stage.lane(asset)), expiry
        case ["mode", mode]:
            return c.SetMarginMode(MODES[mode]), expiry
        case ["pledge", amount]:
            return c.PledgeDefaultFund(atoms(amount)), expiry
        case ["unpledge", amount]:
            return c.PledgeDefaultFund(-atoms(amount)), expiry
        case ["liquidate", name, *options]:
            return c.ProposeLiquidation(*_subject(stage, name, options)), expiry
        case ["bid", share, "of", name, "for", most]:
            number = stage.account(name).number
            return c.BidAuction(number, part(share, ids.PPM), atoms(most)), expiry
    raise ScenarioError(f"no such sentence: {sentence}")


def _cancel(stage: Stage, rest: list[str]) -> c.MemberCommand:
    match rest:
        case ["all"]:
            return c.CancelAll()
        case ["all", "in", time]:
            return c.ScheduleCancelAll(stage.venue.now_us + duration_us(time))
        case ["all", market]:
            return c.CancelAll(stage.market(market))
        case [label]:
            return c.CancelOrder(stage.labels.get(label, 999))
    raise ScenarioError(f"cancel what? {rest}")


def _options(order: re.Match[str], known: set[str]) -> tuple[list[str], dict[str, str]]:
    """(plain words, those with a value) after an order."""
    words = order["rest"].split()
    plain = [word for word in words if "=" not in word]
    valued = dict(word.split("=") for word in words if "=" in word)
    unknown = [word for word in [*plain, *valued] if word not in known]
    if unknown:
        raise ScenarioError(f"no such option: {unknown}")
    return plain, valued


def _place(stage: Stage, order: re.Match[str]) -> c.PlaceOrder:
    words, valued = _options(order, {"market", "post-only", "reduce-only", "for", *STP, *TIF})
    return stage.venue.order(
        ids.BUY if order["side"] == "buy" else ids.SELL,
        atoms(order["price"]),
        int(order["lots"]),
        stage.market(order["market"]),
        ids.MARKET if "market" in words else ids.LIMIT,
        ids.GTT if "for" in valued else next((TIF[w] for w in words if w in TIF), ids.GTC),
        "post-only" in words,
        "reduce-only" in words,
        next((STP[w] for w in words if w in STP), ids.STP_CANCEL_TAKER),
        stage.venue.now_us + duration_us(valued["for"]) if "for" in valued else 0,
        stage.labels.setdefault(order["label"], len(stage.labels) + 1),
    )


def _trigger(stage: Stage, order: re.Match[str]) -> c.PlaceTrigger:
    words, valued = _options(order, {"market", "reduce-only", "for", "oco"})
    return c.PlaceTrigger(
        stage.market(order["market"]),
        ids.BUY if order["side"] == "buy" else ids.SELL,
        atoms(order["trigger"]),
        order["way"] == "above",
        atoms(order["price"]),
        int(order["lots"]),
        stage.labels.setdefault(order["label"], len(stage.labels) + 1),
        ids.MARKET if "market" in words else ids.LIMIT,
        "reduce-only" in words,
        stage.labels.get(valued["oco"], 999) if "oco" in valued else 0,
        stage.venue.now_us + duration_us(valued["for"]) if "for" in valued else 0,
    )


# --- the venue ---------------------------------------------------------------------------------


def venue(stage: Stage, sentence: str) -> list[o.Outcome]:
    """A sentence of the clock, the publishers, the chain or the operator."""
    match sentence.split():
        case ["wait", time]:
            stage.venue.advance(duration_us(time))
            return []
        case ["price", market, price_text, *options]:
            return price(stage, market, price_text, options)
        case ["prices", market, *votes, option] if option.startswith("confidence="):
            return _votes(stage, market, votes, atoms(option.removeprefix("confidence=")))
        case ["prices", market, *votes]:
            return _votes(stage, market, votes, 1)
        case ["rotate", "operator", *keep]:
            return _rotate_operator(stage, bool(keep))
        case ["rotate", "publisher", number, *keep]:
            return _rotate_publisher(stage, int(number), bool(keep))
        case ["close", "epoch"]:
            stage.venue.close_epoch()
            return v.decode_outcomes(stage.venue.journal[-1].outcomes)
    return stage.venue.operator(_operator(stage, sentence))


def _operator(stage: Stage, sentence: str) -> c.OperatorCommand:
    match sentence.split():
        case ["funding"]:
            return c.FundingTick()
        case ["sweep"]:
            return c.ExpireOrders()
        case ["interest"]:
            return c.ChargeInterest()
        case ["triggers"]:
            return c.RunTriggers()
        case ["close", "epoch", number]:
            return c.CloseEpoch(int(number), ((1, bytes(32)),))
        case ["liquidate", name, *options]:
            return c.Liquidate(*_subject(stage, name, options))
        case ["resolve", name]:
            return c.ResolveDeficit(stage.account(name).number)
        case ["deleverage", name, "in", market]:
            return c.Deleverage(stage.account(name).number, stage.market(market))
        case ["move", amount, "from", source, "to", target]:
            return c.HouseTransfer(stage.account(source).number, stage.account(target).number, atoms(amount))
        case ["propose", *settings, "after", notice]:
            return _proposal(stage, settings, stage.venue.now_us + duration_us(notice))
    return _listing(stage, sentence)


def _listing(stage: Stage, sentence: str) -> c.OperatorCommand:
    match sentence.split():
        case ["settle", market]:
            return c.SettleExpiry(stage.market(market))
        case ["list", name, kind, "on", on, "expiry", expiry, *strike]:
            row = {"name": name, "kind": kind, "on": on, "expiry": expiry, "strike": strike[1] if strike else ""}
            stage.setting.instruments.append(stage.instrument(row))
            return c.ListInstrument(stage.setting.instruments[-1])
        case ["delist", market]:
            return c.DelistInstrument(stage.market(market))
        case ["halt", market]:
            return c.HaltMarket(stage.market(market), True, "the scenario says so")
        case ["resume", market]:
            return c.HaltMarket(stage.market(market), False, "the scenario says so")
    raise ScenarioError(f"no such sentence: {sentence}")


def _subject(stage: Stage, name: str, options: list[str]) -> tuple[int, int]:
    """(account, witness): the witness is what the account's own margin proves, unless one is given."""
    account = stage.account(name)
    for option in options:
        return account.number, int(option.removeprefix("witness="))
    return account.number, witness(account)[0]


def _proposal(stage: Stage, settings: list[str], effective_us: int) -> c.ProposeParams:
    params = changed(stage.venue.state.params, "version", str(stage.venue.state.params.version + 1))
    for setting in settings:
        name, _, text = setting.partition("=")
        params = changed(params, name, text)
    return c.ProposeParams(params, effective_us)


# --- publishers --------------------------------------------------------------------------------


def _votes(stage: Stage, market: str, votes: list[str], confidence: int) -> list[o.Outcome]:
    """One price per publisher, in their order; `-` says nothing."""
    if len(votes) != stage.setting.publishers:
        raise ScenarioError(f"{len(votes)} prices of {stage.setting.publishers} publishers")
    out: list[o.Outcome] = []
    for publisher, text in enumerate(votes):
        if text != "-":
            out += stage.venue.oracle({stage.under(market): atoms(text)}, publisher, confidence)
    return out


def price(stage: Stage, market: str, text: str, options: list[str]) -> list[o.Outcome]:
    """A vote of one publisher (`by`; the first, if anything but the price is special), or of all alike."""
    given = dict(option.split("=") for option in options)
    venue, under, value = stage.venue, stage.under(market), atoms(text)
    prices = {under: value}
    surfaces = _surfaces(stage, under, value, given)
    if not {"by", "dated", "chain", "confidence"} & given.keys():
        out: list[o.Outcome] = []
        for publisher in range(stage.setting.publishers):
            out += venue.oracle(prices, publisher, surfaces=surfaces)
        return out
    dated = venue.now_us + duration_us(given["dated"]) if "dated" in given else None
    prev = bytes([7]) * 32 if given.get("chain") == "broken" else None
    confidence = atoms(given.get("confidence", "0.000001"))
    return venue.oracle(prices, int(given.get("by", "0")), confidence, dated, prev, surfaces)


def _surfaces(stage: Stage, under: int, spot: int, given: dict[str, str]) -> tuple[c.Surface, ...]:
    """With `vol`: a flat surface for every expiry of the underlying that has not come; the forward is the price."""
    if "vol" not in given:
        return ()
    forward = atoms(given["forward"]) if "forward" in given else spot
    vol, rate = part(given["vol"], ids.UNIT), part(given.get("rate", "0"), ids.UNIT)
    return tuple(
        c.Surface(under, expiry_us, forward, 1, rate, ids.UNIT, ids.UNIT, (forward,), (vol,))
        for expiry_us in stage.venue.state.underlyings[under].expiries
        if expiry_us > stage.venue.now_us
    )


# --- keys --------------------------------------------------------------------------------------


def _rotate_operator(stage: Stage, keep_signing_with_the_old: bool) -> list[o.Outcome]:
    seed = v.seed_of("operator/next")
    out = stage.venue.operator(c.RotateOperator(public_key_of(seed), v.address_of("operator/next")))
    if not keep_signing_with_the_old:
        stage.venue.operator_seed = seed
    return out


def _rotate_publisher(stage: Stage, number: int, keep_signing_with_the_old: bool) -> list[o.Outcome]:
    seed = v.seed_of(f"publisher/{number}/next")
    out = stage.venue.operator(c.RotatePublisher(number, public_key_of(seed)))
    if not keep_signing_with_the_old and not v.codes(out):
        stage.venue.publisher_seeds[number] = seed
    return out
