# SPDX-License-Identifier: GPL-3.0-or-later
"""The pages' own encoders give the bytes that clearing.model and the vault's ABI give: commands, envelopes, typed
data, calldata. The vectors are made here, by the real code, and computed again in the browser."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from playwright.sync_api import Browser, Page
from starlette.applications import Starlette

from clearing.api.http.pages import page_routes
from clearing.chain.abi import interface, keccak
from clearing.model import commands as c
from clearing.model import ids
from clearing.model.codec import decode_envelope, encode
from clearing.model.errors import REJECTIONS
from clearing.model.signature import key_of, public_key_of, sign, sign_owner, typed_data, verify
from proofs import bundle as b
from tests.browser.material import offline
from tests.browser.sites import Tab, serving, tab
from tests.service.world import address_of, seed_of

DEPLOYMENT = bytes(range(32))
EDGES = [0, 1, 127, 128, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1]
_HELPERS = """
const bytes = (text) => Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
const hex = (data) => Array.from(data, (value) => value.toString(16).padStart(2, '0')).join('');
const revive = (value) => {
    if (Array.isArray(value)) return value.map(revive);
    if (value && typeof value === 'object') return 'int' in value ? BigInt(value.int) : bytes(value.bytes);
    return value;
};
"""


@pytest.fixture(scope="module")
def page(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A page of the venue's origin, under its policy: the verifier's, whose modules are used, too."""
    context: Any = SimpleNamespace(data_dir=tmp_path_factory.mktemp("data"))
    with serving(Starlette(routes=page_routes(context))) as url, tab(chromium, Tab) as made:
        made.page.goto(url + "/verify/")
        yield made.page


def compute(page: Page, module: str, body: str, given: object) -> Any:
    script = f"async (given) => {{ {_HELPERS} const M = await import('/assets/{module}'); {body} }}"
    return page.evaluate(script, given)


def plain(value: Any) -> Any:
    """A value for JSON: integers and bytes are marked."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return {"int": str(value)}
    return {"bytes": value.hex()} if isinstance(value, bytes) else [plain(item) for item in value]


def some_value(rng: random.Random, depth: int = 0) -> Any:
    kind = rng.randrange(7 if depth < 3 else 6)
    if kind == 0:
        return rng.choice(EDGES) - rng.randrange(2) * rng.choice([0, 1])
    if kind == 1:
        return -rng.choice([1, 31, 32, 33, 127, 128, 129, 2**15, 2**15 + 1, 2**31, 2**31 + 1, 2**63])
    if kind == 2:
        return rng.randbytes(rng.choice([0, 1, 31, 32, 33, 255, 256, 300, 65_536]))
    if kind == 3:
        return "é" * rng.choice([0, 1, 15, 16, 127, 128, 200, 40_000])
    if kind == 4:
        return rng.random() < 0.5
    if kind == 5:
        return None
    return [some_value(rng, depth + 1) for _ in range(rng.choice([0, 1, 3, 15, 16, 17]))]


@pytest.mark.slow
def test_msgpack_is_canonical(page: Page) -> None:
    """The same bytes as the model's codec, at every edge of every form."""
    rng = random.Random(7)
    values = [*EDGES, *(-edge for edge in EDGES if edge <= 2**63), *(some_value(rng) for _ in range(150)), [0] * 70_000]
    values = [value for value in values if not isinstance(value, int) or -(2**63) <= value < 2**64]
    found = compute(page, "signing/msgpack.js", "return given.map((one) => hex(M.encode(revive(one))));", plain(values))
    assert [bytes.fromhex(one) for one in found] == [encode(value) for value in values]


@pytest.mark.slow
def test_what_msgpack_cannot_say_is_an_error(page: Page) -> None:
    """A number that a float has rounded, or that does not fit, is never signed."""
    body = """
    const wrong = [2 ** 53, 1.5, 1n << 64n, -(1n << 63n) - 1n, {}, undefined];
    return wrong.map((one) => { try { return hex(M.encode(one)); } catch (error) { return error.name; } });"""
    assert compute(page, "signing/msgpack.js", body, None) == ["RangeError"] * 4 + ["TypeError"] * 2


def test_commands_are_the_models(page: Page) -> None:
    """A batch of every command that the page sends, with defaults written out."""
    deployment, big = DEPLOYMENT, 2**53 + 1
    order = c.PlaceOrder(3, ids.SELL, 123_456, 7, big, ids.LIMIT, ids.FOK, post_only=True)
    commands = (
        c.PlaceOrder(1, ids.BUY, 500_000_000, 2, 1_700_000_000_000_001), order,
        c.PlaceOrder(1, ids.BUY, 1, 1, 5, ids.MARKET, ids.IOC, reduce_only=True),
        c.CancelOrder(0, 99), c.CancelAll(), c.CancelAll(4), c.Withdraw(1, 2, 2**62),
    )  # fmt: skip
    body = """
    const batch = [
        M.placeOrder({ instrument: 1, side: 'buy', price: 500000000n, size: 2n, clientOrderId: 1700000000000001n }),
        M.placeOrder({ instrument: 3, side: 'sell', price: 123456n, size: 7n, clientOrderId: (1n << 53n) + 1n,
            tif: 'fok', postOnly: true }),
        M.placeOrder({ instrument: 1, side: 'buy', price: 1n, size: 1n, clientOrderId: 5n, kind: 'market', tif: 'ioc',
            reduceOnly: true }),
        M.cancelOrder(0n, 99), M.cancelAll(), M.cancelAll(4), M.withdraw(1, 2, 1n << 62n),
    ];
    return hex(M.memberBatch(bytes(given), 12, 1700000000000000n, 1n << 40n, batch));"""
    found = bytes.fromhex(compute(page, "signing/commands.js", body, deployment.hex()))
    assert found == encode(c.MemberBatch(deployment, 12, 1_700_000_000_000_000, 2**40, commands))


def test_a_session_key_signs_as_the_command_line(page: Page) -> None:
    """Ed25519 is deterministic: the browser's envelope is the model's, byte for byte; a key file goes both ways."""
    seed = seed_of("page session")
    body = """
    const C = await import('/assets/signing/commands.js');
    const key = await M.SessionKey.fromFile(given.seed + '\\n');
    const one = await key.sign(bytes(given.deployment), 7, [C.cancelAll()], 1700000000000000n);
    const two = await key.sign(bytes(given.deployment), 7, [C.cancelAll()], 1699999999000000n);
    return [hex(key.tagged), key.file(), hex(one), hex(two)];"""
    given = {"seed": seed.hex(), "deployment": DEPLOYMENT.hex()}
    tagged, file, one, two = compute(page, "signing/session.js", body, given)
    assert (bytes.fromhex(tagged), file) == (public_key_of(seed), seed.hex() + "\n")
    start = 1_700_000_000_000_000
    assert bytes.fromhex(one) == sign(c.MemberBatch(DEPLOYMENT, 7, start, start + 60_000_000, (c.CancelAll(),)), seed)
    envelope, decoded = decode_envelope(bytes.fromhex(two))
    verify(envelope, decoded)
    assert isinstance(decoded, c.MemberBatch)
    assert decoded.nonce == start + 1, "a clock that was set back gives no nonce that was used"


def test_a_new_key_is_random_and_good(page: Page) -> None:
    """Two keys differ, and a signature of each verifies against the venue's own rule."""
    body = """
    const made = [];
    for (let count = 0; count < 2; count += 1) {
        const key = await M.SessionKey.create();
        made.push([key.file(), hex(await key.sign(bytes(given), 1, [[2, 0]], 5n))]);
    }
    return made;"""
    (one, signed), (two, _) = compute(page, "signing/session.js", body, DEPLOYMENT.hex())
    assert one != two
    envelope, decoded = decode_envelope(bytes.fromhex(signed))
    verify(envelope, decoded)
    assert envelope.key == public_key_of(bytes.fromhex(one.strip()))


@pytest.mark.parametrize("text", ["", "12", "g" * 64, "1" * 66, "-----BEGIN PRIVATE KEY-----"])
def test_another_file_is_no_key(page: Page, text: str) -> None:
    """What is not 64 hex digits is refused, with what it should be."""
    body = "return M.SessionKey.fromFile(given).then(() => '', (error) => error.message);"
    assert "64 hex digits" in compute(page, "signing/session.js", body, text)


def test_typed_data_and_registration_are_the_models(page: Page) -> None:
    """What the wallet is asked to sign has the model's EIP-712 meaning; the envelope around it is the model's."""
    from clearing.model.signature import eth_account

    secret, owner = seed_of("page wallet"), address_of(seed_of("page wallet"))
    action = c.RegisterKey(owner, key_of(b"k" * 32), ids.SCOPE_TRADE | ids.SCOPE_WITHDRAW, 2**60, 2**50, b"s" * 32)
    wanted = sign_owner(DEPLOYMENT, action, secret)
    signature = decode_envelope(wanted)[0].signature
    body = """
    const action = { owner: bytes(given.owner), key: bytes(given.key), scope: 3, expiryUs: 1n << 60n, nonce: 1n << 50n,
        secret: bytes(given.secret) };
    const deployment = bytes(given.deployment);
    const signature = M.canonicalSignature(bytes(given.signature));
    const envelope = M.envelope(M.registerKey(deployment, action), M.walletKey(action.owner), signature);
    return [M.typedData(deployment, action), hex(envelope)];"""
    given = {
        "owner": owner.hex(), "key": action.key.hex(), "secret": action.secret.hex(), "deployment": DEPLOYMENT.hex(),
        "signature": signature.hex(),
    }  # fmt: skip
    typed, envelope = compute(page, "signing/commands.js", body, given)
    assert bytes.fromhex(envelope) == wanted
    messages = eth_account().messages
    typed["message"] = {name: int(text) if text.isdigit() else text for name, text in typed["message"].items()}
    ours, theirs = (messages.encode_typed_data(full_message=one) for one in (typed, typed_data(DEPLOYMENT, action)))
    assert ours == theirs


def test_signatures_take_the_one_form(page: Page) -> None:
    """A wallet may say v as 0 or 1, or a high s: both become what the venue takes."""
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    r, s = b"\x11" * 32, 12345
    low = r + s.to_bytes(32, "big")
    high = r + (order - s).to_bytes(32, "big")
    body = "return given.map((one) => hex(M.canonicalSignature(bytes(one))));"
    given = [low + b"\x00", low + b"\x1c", high + b"\x1b", high + b"\x01"]
    found = compute(page, "signing/commands.js", body, [one.hex() for one in given])
    assert [bytes.fromhex(one) for one in found] == [low + b"\x1b", low + b"\x1c", low + b"\x1c", low + b"\x1b"]


def test_calldata_is_the_contracts(page: Page) -> None:
    """The page's calldata is the ABI's for every call that it makes, and so is every selector and refusal."""
    abi, found = interface("Vault"), offline()
    owner = bytes.fromhex(found.exit.owner)
    leaf = (
        bytes.fromhex(found.header), found.exit.index, owner, [int(one) for one in found.exit.exits],
        [int(one) for one in found.exit.withdraw_acks], [bytes.fromhex(one) for one in found.exit.hashes],
        [int(one) for row in found.exit.sums for one in row],
    )  # fmt: skip
    body = """
    const bundle = Novate.decodeBundle(new TextEncoder().encode(given.bundle));
    const owner = '0x' + bundle.exit.owner;
    return { selectors: M.SELECTORS, reverts: Object.entries(M.REVERTS).map(([code, [name]]) => [code, name]), calls: [
        M.leafCall('claim', bundle), M.leafCall('escape', bundle),
        M.plainCall('forceWithdrawal(uint8,uint128,uint16)', 1, 10n ** 20n, 513), M.plainCall('forceExit(uint16)', 9),
        M.plainCall('freeze()'), M.plainCall('withdrawCredit(uint8,address)', 2, owner),
        M.plainCall('claimedOf(address,uint8)', owner, 1)] };"""
    made = compute(page, "signing/abi.js", body, {"bundle": b.encode(found).decode()})
    wanted = [
        abi.call("claim", *leaf), abi.call("escape", *leaf), abi.call("forceWithdrawal", 1, 10**20, 513),
        abi.call("forceExit", 9), abi.call("freeze"), abi.call("withdrawCredit", 2, owner),
        abi.call("claimedOf", owner, 1),
    ]  # fmt: skip
    assert [bytes.fromhex(one[2:]) for one in made["calls"]] == wanted
    for signature, selector in made["selectors"].items():
        assert keccak(signature.encode())[:4].hex() == selector, signature
    named = {code: abi.errors[bytes.fromhex(code)][0] for code, _ in made["reverts"]}
    assert named == dict(made["reverts"])


def test_rejections_are_the_models(page: Page) -> None:
    """The page explains every code of the model in the model's words."""
    assert compute(page, "signing/rejections.js", "return M.REJECTIONS;", None) == REJECTIONS


NUMBERS = [
    ("amount", ["0", 6], "0.00"), ("amount", ["1234567890", 6], "1,234.56789"), ("amount", ["-1", 6], "−0.000001"),
    ("amount", ["-1234500000", 6], "−1,234.50"), ("amount", [str(2**63), 6], "9,223,372,036,854.775808"),
    ("amount", ["12", 0], "12"), ("amount", [None], "–"), ("count", ["-1234567"], "−1,234,567"),
    ("duration", [59], "59 s"), ("duration", [3_725], "1 h 2 min"), ("duration", [90_061], "1 d 1 h"),
    ("duration", [-5], "0 s"), ("ppm", [12_345], "1.23 %"), ("moment", [0], "1970-01-01 00:00:00 UTC"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "arguments", "text"), NUMBERS)
def test_numbers_as_people_read_them(page: Page, name: str, arguments: list[Any], text: str) -> None:
    """Exact: no digit of an amount is lost, and zeros past the cents are left out."""
    assert compute(page, "shared/numbers.js", f"return M.{name}(...given);", arguments) == text


def test_amounts_are_read_exactly(page: Page) -> None:
    """Every amount that is shown is read back as the same atoms; what cannot be exact is refused."""
    rng = random.Random(3)
    values = [rng.randrange(10**k) for k in range(1, 19) for _ in range(5)]
    body = "return given.map((one) => String(M.parseAmount(M.amount(one, 6), 6)));"
    assert compute(page, "shared/numbers.js", body, [str(one) for one in values]) == [str(one) for one in values]
    wrong = ["", ".", "-1", "1e3", "0.0000001", "1.2.3", "٣", "0x10"]
    body = "return given.map((one) => { try { return String(M.parseAmount(one, 6)); } catch { return 'refused'; } });"
    assert compute(page, "shared/numbers.js", body, wrong) == ["refused"] * len(wrong)


def test_the_vendored_library_is_npms() -> None:
    """uPlot as it is served is the npm package that the lock pins, byte for byte, with its licence and version."""
    web = Path(__file__).resolve().parents[2] / "clearing/web"
    package = web / "node_modules/uplot"
    lock = msgspec.json.decode((web / "package-lock.json").read_bytes())["packages"]["node_modules/uplot"]
    assert f"| {lock['version']} |" in (web / "vendor/README.md").read_text()
    if not package.is_dir():
        pytest.skip("npm packages are not installed: run `npm ci` in clearing/web")
    assert json.loads((package / "package.json").read_text())["version"] == lock["version"]
    for name in ("dist/uPlot.iife.min.js", "dist/uPlot.min.css", "LICENSE"):
        assert (web / "vendor/uplot" / Path(name).name).read_bytes() == (package / name).read_bytes(), name
