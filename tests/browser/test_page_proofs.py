# SPDX-License-Identifier: GPL-3.0-or-later
"""The page and the Python verifier say the same of every bundle, honest or not; and of every tlog-proof."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from nacl.signing import SigningKey

from proofs import bundle as b
from proofs import checkpoint as notes
from proofs import tlogproof
from proofs.errors import CheckpointError, PolicyError, PolicyUnsatisfied, ProofError
from proofs.policy import Policy
from proofs.verify import Verdict, verify_bytes
from tests.browser.material import ENTRIES, LOG_KEY, ORIGIN, PUBLIC, SEED, WITNESSES, note, offline, tlog_proof
from tests.browser.viewer import Result, Viewer

pytestmark = pytest.mark.slow

VECTORS = Path(__file__).resolve().parents[1] / "vectors"
BUNDLE = offline()
DATA = b.encode(BUNDLE)
TREE = json.loads(DATA)


def by_python(verdict: Verdict) -> Result:
    """As the page lists it: (name, status, code)."""
    found = []
    for step in verdict.steps:
        code = step.detail.partition(":")[0] if step.status == "failed" else ""
        found.append((step.name, step.status, "CHAIN_NOT_ASKED" if step.status == "skipped" else code))
    return found


def assert_alike(viewer: Viewer, files: list[bytes]) -> list[Verdict]:
    verdicts = [verify_bytes(data) for data in files]
    for data, verdict, result in zip(files, verdicts, viewer.verify_many(files), strict=True):
        assert result == by_python(verdict), data[:3000]
    return verdicts


def test_honest_bundles_step_by_step(viewer: Viewer) -> None:
    """At the edges of the tree and of the values, with and without accounts and entries."""
    places = [(lanes, index, epochs) for lanes in (1, 2, 4) for index in (0, 2**19) for epochs in (1, 4)]
    bundles = [offline(*place) for place in places]
    bundles.append(msgspec.structs.replace(bundles[0], states=(), entries=()))
    verdicts = assert_alike(viewer, [b.encode(one) for one in bundles])
    assert all(verdict.ok and not verdict.complete for verdict in verdicts)


def nodes(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all values; of a list the first and the last."""
    yield path
    if isinstance(tree, dict):
        for name, value in tree.items():
            yield from nodes(value, (*path, name))
    elif isinstance(tree, list):
        for at in {0, len(tree) - 1} if tree else ():
            yield from nodes(tree[at], (*path, at))


def changes(value: Any) -> list[Any]:
    match value:
        case str():
            flipped = [value[:-1] + ("0" if value[-1:] != "0" else "1"), ("a" if value[:1] != "a" else "b") + value[1:]]
            return [
                *flipped,
                value + "0",
                value + "00",
                "",
                value.upper() + "A",
                " " + value,
                "-1",
                str(2**200),
                5,
                None,
                "\u202e",
            ]
        case int():
            return [value + 1, value - 1, -1, 2**32, 2**53 - 1, 2**53, 1.0, str(value), True]
        case list():
            return [value[:-1], [*value, *value[-1:]], value[::-1], [], {}]
        case _:
            return [{**value, "more": 1}, {name: value[name] for name in list(value)[1:]}, []]


def replaced(path: tuple[Any, ...], value: Any) -> bytes:
    if not path:
        return json.dumps(value).encode()
    copy = json.loads(DATA)
    at = copy
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return json.dumps(copy).encode()


def at_path(path: tuple[Any, ...]) -> Any:
    value: Any = TREE
    for key in path:
        value = value[key]
    return value


@pytest.mark.slow
def test_every_field_altered(viewer: Viewer) -> None:
    """Every field, in every way that JSON allows: both refuse it at the same step for the same reason. Unseen, as long
    as the chain is not asked, are only the header's fields that no step here reads, and the assets' names."""
    cases = [
        (path, new)
        for path in nodes(TREE)
        for new in changes(at_path(path))
        if new != at_path(path) or type(new) is not type(at_path(path))
    ]
    verdicts = assert_alike(viewer, [replaced(path, new) for path, new in cases])
    passed = {path[0] for (path, _), verdict in zip(cases, verdicts, strict=True) if path and verdict.ok}
    assert len(cases) > 400
    assert passed <= {"assets", "header", "states", "entries"}
    for (path, new), verdict in zip(cases, verdicts, strict=True):
        if verdict.ok and path[0] in ("states", "entries"):
            assert len(path) == 1 and isinstance(new, list), "a part may be left out, doubled or moved, never altered"


def test_every_bit_flip_is_refused(viewer: Viewer) -> None:
    """Bits of the file, sampled: refused by both, unless it is what only the chain or nobody knows (above)."""
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chosen = random.Random(seed)
    files = []
    for _ in range(250):
        at = chosen.randrange(len(DATA) * 8)
        files.append(DATA[: at // 8] + bytes([DATA[at // 8] ^ 1 << at % 8]) + DATA[at // 8 + 1 :])
    for data, verdict in zip(files, assert_alike(viewer, files), strict=True):
        if verdict.ok:
            assert msgspec.structs.replace(b.decode(data), assets=BUNDLE.assets, header=BUNDLE.header) == BUNDLE


HOSTILE = [
    b"", b"{", b"null", b"[]", b"{}", b"\xff", b"\xef\xbb\xbf" + DATA, DATA + b"x", DATA + DATA, b"[" * 100_000,
    b'{"a":' * 5_000, b'"' + b"a" * 300_000, b'"' + b"\\" * 300_001, DATA + b" \r\n\t",
    DATA.replace(b'"format"', b'"format": "novate-bundle/1", "format"', 1),
    DATA.replace(b"USDC", b"\\ud800"), DATA.replace(b"USDC", b"\\ud83d\\ude00"), DATA.replace(b"USDC", b"US\x00DC"),
    DATA.replace(b"USDC", b"US\\u202eDC"), DATA.replace(b"USDC", b"A" * 256), DATA.replace(b"USDC", b"A" * 255),
    DATA.replace(b"31337", b"31337.0"), DATA.replace(b"31337", b"3.1337e4"), DATA.replace(b"31337", b"031337"),
    DATA.replace(b'"exit"', b'"__proto__"'), DATA.replace(b'"states"', b'"constructor"'),
    DATA.replace(b"bundle/1", b"bundle/2"),
]  # fmt: skip


def test_hostile_files(viewer: Viewer) -> None:
    """What is no bundle for the one is none for the other, with the same code."""
    assert_alike(viewer, HOSTILE)


def test_a_file_of_another_size_is_not_even_read(viewer: Viewer) -> None:
    """Sizes are looked at first, for files and for pasted text."""
    viewer.page.evaluate("""() => {
        const made = new DataTransfer();
        made.items.add(new File([new Uint8Array(Novate.BUNDLE_MAX_BYTES + 1)], 'big.json'));
        const chooser = document.getElementById('bundle-file');
        chooser.files = made.files;
        chooser.dispatchEvent(new Event('change'));
    }""")
    assert viewer.shown().code == "FILE_TOO_LARGE"


# -- golden vectors, through the page's own functions


def test_hashing_vectors(viewer: Viewer) -> None:
    """The vectors that Python and Solidity share hold in the browser too."""
    vectors = json.loads((VECTORS / "hashing.json").read_text())
    script = """async (v) => {
        const N = Novate, raw = N.rawHex, big = (list) => list.map(BigInt), refused = [];
        const domain = await N.exitDomain(BigInt(v.exit_domain.chain_id), raw(v.exit_domain.vault));
        const found = { domain: N.hex(domain), leaves: [], headers: [] };
        for (const tree of v.exit_trees) for (const leaf of tree.leaves) {
            const given = { index: BigInt(leaf.index), owner: raw(leaf.owner), exits: big(leaf.exits),
                            withdraw_acks: big(leaf.withdraw_acks) };
            const lanes = Number(tree.lanes), flat = big(leaf.sibling_sums);
            const rows = leaf.siblings.map((_, at) => flat.slice(at * lanes, (at + 1) * lanes));
            const rest = [leaf.siblings.map(raw), rows, raw(tree.root), big(tree.sums), domain];
            found.leaves.push(N.hex(await N.verifyExit(given, ...rest)));
            given.exits[0] += 1n;
            await N.verifyExit(given, ...rest).catch((error) => refused.push(error.code));
        }
        for (const header of v.headers) {
            const read = N.decodeHeader(raw(header.encoded));
            const text = (value) => value instanceof Uint8Array ? N.hex(value)
                : Array.isArray(value) ? value.map(String) : String(value);
            const fields = Object.fromEntries(Object.keys(header.fields).map((name) => [name, text(read[name])]));
            found.headers.push([fields, N.hex(await N.sha256(read.bytes))]);
        }
        const f = v.state.fields, leaf = { owner: raw(f.owner), salt: raw(f.salt), details: raw(f.details) };
        const amounts = ['equity', 'deficit', 'margin_initial', 'margin_maintenance', 'stress_loss'];
        for (const name of ['account', 'sub', ...amounts]) leaf[name] = BigInt(f[name]);
        const hash = await N.stateLeafHash(leaf, raw(v.state.domain));
        await N.verifyState(leaf.account, hash, v.state.proof.map(raw), raw(v.state.root));
        return { ...found, state: N.hex(hash), refused };
    }"""
    found = viewer.page.evaluate(script, vectors)
    leaves = [leaf for tree in vectors["exit_trees"] for leaf in tree["leaves"]]
    assert found["domain"] == vectors["exit_domain"]["domain"]
    assert found["leaves"] == [leaf["hash"] for leaf in leaves]
    assert found["refused"] == ["EXIT_PROOF_INVALID"] * len(leaves)
    assert found["headers"] == [[header["fields"], header["hash"]] for header in vectors["headers"]]
    assert found["state"] == vectors["state"]["hash"]


def log_vectors() -> list[dict[str, Any]]:
    """Published inclusion proofs, whatever lies there: good ones and bad ones."""
    found = []
    for path in sorted((VECTORS / "tlog").rglob("*.json")):
        read = json.loads(path.read_text())
        found += [one for one in (read if isinstance(read, list) else [read]) if "leafIdx" in one and "treeSize" in one]
    return found


def test_published_inclusion_proofs(viewer: Viewer) -> None:
    """Vectors of other logs' authors: accepted and refused as they say."""
    vectors = log_vectors()
    script = """async (vectors) => {
        const raw = (text) => Novate.base64(text ?? '') ?? new Uint8Array();
        const found = [];
        for (const one of vectors) {
            const path = (one.proof ?? []).map(raw);
            found.push(await Novate.verifyInclusion(
                BigInt(one.leafIdx), BigInt(one.treeSize), raw(one.leafHash), path, raw(one.root),
            ).then(() => false, () => true));
        }
        return found;
    }"""
    assert len(vectors) >= 12
    assert {True, False} == {vector["wantErr"] for vector in vectors}
    assert viewer.page.evaluate(script, vectors) == [vector["wantErr"] for vector in vectors]


# -- tlog-proof


def code_by_python(proof: bytes, entry: bytes) -> str:
    """Why the Python verifier refuses; empty if it does not."""
    try:
        tlogproof.verify(proof.decode(), entry, lambda text: notes.verify(text, PUBLIC, ORIGIN))
    except ProofError as error:
        return error.code
    except UnicodeDecodeError:
        return "ENCODING_INVALID"
    return ""


def assert_proofs_alike(viewer: Viewer, cases: list[tuple[bytes, bytes]]) -> list[str]:
    """Levels by the page; Python accepts the same, and what it names is among what the page names."""
    levels = []
    for (proof, entry), (level, codes) in zip(
        cases, viewer.prove_many([(*case, LOG_KEY, "") for case in cases]), strict=True
    ):
        levels.append(level)
        code = code_by_python(proof, entry)
        assert code in codes if code else level == "ok", (proof, code, codes)
    return levels


def test_a_good_proof(viewer: Viewer) -> None:
    """With the log's key and all witnesses: every step is ok, and the page says so."""
    keys = "\n".join(one.key for one in WITNESSES)
    shown = viewer.entry(tlog_proof(extra=b"hi"), ENTRIES[7], LOG_KEY, keys)
    assert shown.level == "ok", shown
    names = ["proof", "entry", "checkpoint", *(f"witness {one.name}" for one in WITNESSES), "quorum"]
    assert [(name, status) for name, status, _ in shown.steps] == [(name, "ok") for name in names]


def test_every_entry_of_the_log(viewer: Viewer) -> None:
    """Every index of a log that is no full tree; and none with another's entry."""
    size = len(ENTRIES)
    assert assert_proofs_alike(viewer, [(tlog_proof(at), ENTRIES[at]) for at in range(size)]) == ["ok"] * size
    wrong = assert_proofs_alike(viewer, [(tlog_proof(at), ENTRIES[at - 1]) for at in range(size)])
    assert wrong == ["failed"] * size


def test_without_the_logs_key_nothing_is_good(viewer: Viewer) -> None:
    """Anyone can build a log: its signature must be of a key that the reader brings."""
    shown = viewer.entry(tlog_proof(), ENTRIES[7])
    assert (shown.level, shown.code, shown.status("checkpoint")) == ("open", "LOG_KEY_NOT_GIVEN", "skipped")


def test_wrong_keys_and_origins(viewer: Viewer) -> None:
    """Another key, another log's name, a witness's key in place of the log's: refused with a code."""
    stranger = notes.verifier_key(ORIGIN, notes.ED25519, bytes(SigningKey(b"x" * 32).verify_key))
    renamed = notes.verifier_key("other.example/log", notes.ED25519, PUBLIC)
    small = notes.verifier_key(ORIGIN, notes.ED25519, b"\x01" + bytes(31))
    cases = [
        (tlog_proof(), ENTRIES[7], stranger, ""),
        (tlog_proof(), ENTRIES[7], renamed, ""),
        (tlog_proof(text=note(origin="other.example/log")), ENTRIES[7], LOG_KEY, ""),
        (tlog_proof(text=note(seed=b"x" * 32)), ENTRIES[7], LOG_KEY, ""),
        (tlog_proof(), ENTRIES[7], WITNESSES[0].key, ""),
        (tlog_proof(), ENTRIES[7], LOG_KEY[:-2] + "AA", ""),
        (tlog_proof(), ENTRIES[7], "no key", ""),
        (tlog_proof(), ENTRIES[7], small, ""),
    ]
    for level, codes in viewer.prove_many(cases):
        assert level == "failed"
        assert "CHECKPOINT_INVALID" in codes


def test_a_signature_that_anyone_can_make_is_none(viewer: Viewer) -> None:
    """For a key of small order a signature of nothing passes in some libraries: here, as in libsodium, it does not."""
    key = b"\x01" + bytes(31)
    checkpoint = notes.parse(note()).checkpoint
    line = notes.signature_line(ORIGIN, notes.key_id(ORIGIN, notes.ED25519, key), key + bytes(32))
    text = checkpoint.body().decode() + "\n" + line
    with pytest.raises(CheckpointError):
        notes.verify(text, key, ORIGIN)
    given = (tlog_proof(text=text), ENTRIES[7], notes.verifier_key(ORIGIN, notes.ED25519, key), "")
    assert viewer.prove_many([given])[0][0] == "failed"


def test_every_bit_of_a_proof(viewer: Viewer) -> None:
    """Bits of proof, note and entry, sampled: all refused."""
    good, entry, chosen = tlog_proof(text=note(signers=())), ENTRIES[7], random.Random(7)
    cases = []
    for _ in range(200):
        at = chosen.randrange(len(good) * 8)
        cases.append((good[: at // 8] + bytes([good[at // 8] ^ 1 << at % 8]) + good[at // 8 + 1 :], entry))
    for at in range(len(entry)):
        cases += [(good, entry[:at] + bytes([entry[at] ^ 1 << bit]) + entry[at + 1 :]) for bit in (0, 5)]
    assert set(assert_proofs_alike(viewer, cases)) == {"failed"}


PROOF = tlog_proof()
MALFORMED = [
    b"", b"c2sp.org/tlog-proof@v1\n", PROOF.replace(b"@v1", b"@v2"), PROOF.replace(b"\n", b"\r\n"),
    PROOF.replace(b"index 7", b"index 07"), PROOF.replace(b"index 7", b"index -7"), PROOF.replace(b"index 7\n", b""),
    PROOF.replace(b"index 7", b"index 99999999999999999999"), PROOF.replace(b"index 7\n", b"index 7\nAAAA\n"),
    PROOF.replace(b"index 7\n", b"extra ?\nindex 7\n"), PROOF.replace(b"index 7\n", b"extra \nindex 7\n"),
    PROOF[:-1], b"x" * 300_000, PROOF + b"\xff",
]  # fmt: skip


def test_malformed_proofs(viewer: Viewer) -> None:
    """The one form that the standard has, or none."""
    assert assert_proofs_alike(viewer, [(data, ENTRIES[7]) for data in MALFORMED]) == ["failed"] * len(MALFORMED)


# -- witnesses

POLICY = "".join(f"witness w{at} {one.key}\n" for at, one in enumerate(WITNESSES))
KEYS = "\n".join(one.key for one in WITNESSES)


QUORUMS = [
    ((0, 1, 2), KEYS, "ok"),
    ((0, 1), KEYS, "failed"),
    ((0, 1), POLICY + "group g 2 w0 w1 w2\nquorum g\n", "ok"),
    ((2,), POLICY + "group g 2 w0 w1 w2\nquorum g\n", "failed"),
    ((2,), POLICY + "group g any w0 w1 w2\nquorum g\n", "ok"),
    ((0, 1), POLICY + "group g all w0 w1 w2\nquorum g\n", "failed"),
    ((1,), POLICY + "quorum w1\n", "ok"),
    ((0, 2), POLICY + "group a any w0 w1\ngroup b all a w2\nquorum b\n", "ok"),
    ((0, 1), POLICY + "group a any w0 w1\ngroup b all a w2\nquorum b\n", "failed"),
    ((), POLICY + "quorum none\n", "ok"),
    ((0,), f"# comment\n\n  log {LOG_KEY}\n\t{POLICY}quorum w0\n", "ok"),
]


def test_quorums(viewer: Viewer) -> None:
    """Enough witnesses, by a list of keys or by a policy; the log's key is given beside it."""
    notes_ = [note(tuple(WITNESSES[at] for at in signers)) for signers, _, _ in QUORUMS]
    cases = [(tlog_proof(text=text), ENTRIES[7], LOG_KEY, one[1]) for text, one in zip(notes_, QUORUMS, strict=True)]
    for (signers, witnesses, level), (found, codes) in zip(QUORUMS, viewer.prove_many(cases), strict=True):
        assert (found, "POLICY_UNSATISFIED" in codes) == (level, level == "failed"), (signers, witnesses)
    for text, (_, witnesses, level) in zip(notes_, QUORUMS, strict=True):
        if "quorum" in witnesses:  # Python reads policies only
            assert satisfied(witnesses, text) == (level == "ok")


def satisfied(policy: str, text: str) -> bool:
    try:
        Policy.parse(policy).check(text)
    except PolicyUnsatisfied:
        return False
    return True


def test_a_policys_log_is_trusted(viewer: Viewer) -> None:
    """A policy that names the log needs no other key."""
    cases = [(tlog_proof(), ENTRIES[7], "", f"log {LOG_KEY}\n{POLICY}quorum {quorum}\n") for quorum in ("w0", "none")]
    assert [level for level, _ in viewer.prove_many(cases)] == ["ok", "ok"]


def test_a_false_cosignature_spoils_the_proof(viewer: Viewer) -> None:
    """A line of a known witness that does not verify is no absent one: somebody forged it."""
    forged = WITNESSES[1].line(msgspec.structs.replace(notes.parse(note()).checkpoint, size=12))
    text = note(WITNESSES[:1]) + forged
    level, codes = viewer.prove_many(
        [(tlog_proof(text=text), ENTRIES[7], LOG_KEY, POLICY + "group g any w0 w1\nquorum g\n")]
    )[0]
    assert (level, "COSIGNATURE_INVALID" in codes) == ("failed", True)


BAD_POLICIES = [
    POLICY, POLICY + "quorum w9\n", POLICY + "quorum w0\nquorum w0\n", POLICY + POLICY + "quorum w0\n",
    POLICY + "group g 4 w0 w1 w2\nquorum g\n", POLICY + "group g 0 w0\nquorum g\n",
    POLICY + "group g any w0 w0\nquorum g\n", POLICY + "group g any none\nquorum g\n",
    POLICY + "group g any g\nquorum g\n", POLICY + "group w0 any w1\nquorum w0\n",
    POLICY + "group a any w0\ngroup b any w0\nquorum a\n", "quorum none\nnonsense\n",
    f"witness w {LOG_KEY}\nquorum w\n", f"log {WITNESSES[0].key}\nquorum none\n", KEYS + "\n" + WITNESSES[0].key,
    LOG_KEY, "two words", POLICY + "quorum w0\r\n", POLICY + "\x00quorum w0\n",
]  # fmt: skip


def test_a_policy_that_the_standard_does_not_allow(viewer: Viewer) -> None:
    """Refused as a whole, before anything is checked by it."""
    found = viewer.prove_many([(PROOF, ENTRIES[7], LOG_KEY, policy) for policy in BAD_POLICIES])
    assert found == [("failed", ["POLICY_INVALID"])] * len(BAD_POLICIES)
    for policy in BAD_POLICIES:
        with pytest.raises(PolicyError):
            Policy.parse(policy)


def test_a_browser_without_ed25519_says_so(viewer: Viewer) -> None:
    """Signatures are then not checked, and nothing that hangs on them is good."""
    viewer.page.evaluate("""() => {
        const real = SubtleCrypto.prototype.importKey;
        SubtleCrypto.prototype.importKey = function (format, key, algorithm, ...rest) {
            if (algorithm.name === 'Ed25519') return Promise.reject(new DOMException('no', 'NotSupportedError'));
            return real.call(this, format, key, algorithm, ...rest);
        };
    }""")
    shown = viewer.entry(tlog_proof(), ENTRIES[7], LOG_KEY, KEYS)
    assert (shown.level, shown.code) == ("open", "NO_ED25519")
    assert {status for name, status, _ in shown.steps if name not in ("proof", "entry")} == {"skipped"}
    viewer.page.click("#clear")
    assert viewer.balance(DATA).status("checkpoint") == "skipped"


def test_the_operators_key(viewer: Viewer) -> None:
    """A key that the reader brings must be the bundle's; in hex or as a verifier key."""
    for key, status in (
        (PUBLIC.hex(), "ok"),
        (LOG_KEY, "ok"),
        (bytes(SigningKey(b"x" * 32).verify_key).hex(), "failed"),
    ):
        assert viewer.balance(DATA, operator_key=key).status("checkpoint") == status
    assert viewer.balance(DATA, operator_key="12").code == "KEY_MALFORMED"
    assert SEED.hex() not in viewer.page.content()
