# SPDX-License-Identifier: GPL-3.0-or-later
"""Witness policies (C2SP tlog-policy): what is a policy, what is none, and which checkpoints satisfy one."""

import contextlib
from hashlib import sha256
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from proofs import cosignature
from proofs.checkpoint import ED25519, Checkpoint, sign, verifier_key
from proofs.errors import CheckpointError, CosignatureError, PolicyError, PolicyUnsatisfied
from proofs.policy import MAX_POLICY_BYTES, Policy

ORIGIN = "venue.example/00ff/journal"
TIP = Checkpoint(ORIGIN, 17, sha256(b"root").digest())


def seed(name: str) -> bytes:
    return sha256(name.encode()).digest()


def log_key(name: str = "log", origin: str = ORIGIN) -> str:
    return verifier_key(origin, ED25519, bytes(SigningKey(seed(name)).verify_key))


def key(name: str) -> str:
    return cosignature.verifier_key(f"{name}.example", bytes(SigningKey(seed(name)).verify_key))


def line(name: str, time_s: int = 1_700_000_000) -> str:
    return cosignature.sign(TIP, f"{name}.example", seed(name), time_s)


def note(*names: str, log: str = "log", extra: str = "") -> str:
    return sign(TIP, seed(log), tuple(line(name) for name in names)) + extra


LOG = f"log {log_key()}\n"
XS, YS = ("X1", "X2", "X3"), ("Y1", "Y2", "Y3")
WITNESSES = "".join(f"witness {name} {key(name)}\n" for name in (*XS, *YS))
# Two houses with three witnesses each: two of the one, and any of the other.
HOUSES = f"""{LOG}
{WITNESSES}
group xs 2 X1 X2 X3
group ys any Y1 Y2 Y3

group both all xs ys
quorum both
"""


def good(policy: str, text: str) -> bool:
    try:
        Policy.parse(policy).check(text)
    except PolicyUnsatisfied:
        return False
    return True


def test_groups_of_groups_for_every_set_of_witnesses() -> None:
    """Two of the X and any of the Y, and the names of all who cosigned come back in the policy's order."""
    policy = Policy.parse(HOUSES)
    for count in range(7):
        for chosen in combinations((*XS, *YS), count):
            wanted = sum(name in XS for name in chosen) >= 2 and any(name in YS for name in chosen)
            text = note(*reversed(chosen))
            if wanted:
                assert policy.check(text) == chosen
            else:
                with pytest.raises(PolicyUnsatisfied, match="both is not met"):
                    policy.check(text)


@given(
    layout=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=3),
    signed=st.sets(st.integers(0, 11)),
    top=st.integers(1, 3),
)
def test_thresholds_count_members(layout: list[tuple[int, int]], signed: set[int], top: int) -> None:
    """k of n at two levels, against the definition counted by hand. Signatures are left out of it: 12 witnesses."""
    lines, number, met = [], 0, []
    for index, (size, wanted) in enumerate(layout):
        members = range(number, number + size)
        number += size
        wanted = min(wanted, size)
        lines.append(f"group g{index} {wanted} {' '.join(f'w{member}' for member in members)}")
        met.append(len(signed & set(members)) >= wanted)
    wanted = min(top, len(layout))
    lines.append(f"group top {wanted} {' '.join(f'g{index}' for index in range(len(layout)))}")
    policy = (
        "".join(f"witness w{member} {KEYS[member]}\n" for member in range(12)) + "\n".join(lines) + "\nquorum top\n"
    )
    assert good(policy, sign(TIP, seed("log"), tuple(LINES[n] for n in sorted(signed)))) == (sum(met) >= wanted)


KEYS = [key(f"w{number}") for number in range(12)]
LINES = [line(f"w{number}") for number in range(12)]


def test_what_is_missing_is_named() -> None:
    """Quorum, group, and who of it has not cosigned, so that a reader knows whom to ask."""
    with pytest.raises(PolicyUnsatisfied) as caught:
        Policy.parse(HOUSES).check(note("X2", "Y1"))
    assert caught.value.message == (
        "quorum both is not met (cosigned by X2, Y1): group both has 1 of 2; missing: xs; "
        "group xs has 1 of 2; missing: X1, X3"
    )
    with pytest.raises(PolicyUnsatisfied, match=r"no listed witness has cosigned.*witness X1 has not cosigned"):
        Policy.parse(WITNESSES + "quorum X1\n").check(note())


def test_a_quorum_of_none_asks_for_nobody_but_the_log() -> None:
    assert Policy.parse(LOG + "quorum none\n").check(note()) == ()
    assert Policy.parse(WITNESSES + "quorum none").check(note("Y2")) == ("Y2",)
    assert Policy.parse(WITNESSES + "quorum none").cosigned(note("Y2")) == {"Y2": 1_700_000_000}


def test_the_log_must_have_signed_when_logs_are_listed() -> None:
    """One of the listed keys of the note's origin; no key of another origin, and no other key of this one."""
    quorum = "quorum none\n"
    other = f"log {log_key('new key')} https://log.example/\n"
    assert good(LOG + other + quorum, note())
    assert good(LOG + other + quorum, note(log="new key"))
    for policy, text in (
        (LOG, note(log="stranger")),
        (f"log {log_key(origin='elsewhere.example')}\n", note()),
        (LOG, note().replace("\n17\n", "\n18\n")),
    ):
        with pytest.raises(PolicyUnsatisfied):
            Policy.parse(policy + quorum).check(text)
    assert good(quorum, note(log="stranger"))  # no logs listed: the log is known from elsewhere


def test_false_lines_of_listed_witnesses_spoil_the_note() -> None:
    """Those of unknown witnesses do not; text that is no note is said to be none."""
    policy = Policy.parse(WITNESSES + "quorum X1\n")
    forged = cosignature.sign(Checkpoint(ORIGIN, 18, TIP.root), "Y1.example", seed("Y1"), 5)
    unknown = cosignature.sign(Checkpoint(ORIGIN, 18, TIP.root), "Z.example", seed("Z"), 5)
    assert policy.check(note("X1", extra=unknown)) == ("X1",)
    with pytest.raises(CosignatureError, match=r"Y1\.example"):
        policy.check(note("X1", extra=forged))
    with pytest.raises(CheckpointError):
        policy.check("no note")


def test_one_witness_counts_once() -> None:
    """Several lines of one key are one witness; names in the policy are free, those on lines are the key's."""
    policy = WITNESSES + "group both 2 X1 X2\nquorum both\n"
    assert not good(policy, note("X1", "X1", extra=line("X1", 5)))
    assert Policy.parse(f"witness Ärger {key('X1')} https://w.example/p\nquorum Ärger\n").check(note("X1")) == (
        "Ärger",
    )


def test_what_the_syntax_allows() -> None:
    """Tabs, indentation, comments, blank lines, no newline at the end, thresholds in all three forms."""
    text = f"\n\t # a comment\n#another\n \t witness\ta  {key('X1')}\t \nwitness b {key('X2')} http://b\n"
    policy = Policy.parse(text + "group 2 2 a b\n  quorum\t2")
    assert [(one.name, one.url) for one in policy.witnesses] == [("a", ""), ("b", "http://b")]
    assert [(one.threshold, one.members) for one in policy.groups] == [(2, ("a", "b"))]
    for k, threshold in (("all", 2), ("any", 1), ("1", 1)):
        assert Policy.parse(text + f"group g {k} a b\nquorum g").groups[0].threshold == threshold


W = f"witness w {key('X1')}\nwitness v {key('X2')}\n"
NONSENSE = [
    ("", "no quorum"),
    (W, "no quorum"),
    (f"{W}quorum z", "line 3: no line before this one defines 'z'"),
    (f"quorum w\n{W}", "line 1: no line before"),
    (f"{W}quorum w\nquorum w", "line 4: there is a second quorum"),
    (f"{W}quorum", "line 3: it should be: quorum"),
    (f"{W}quorum w v", "line 3: it should be: quorum"),
    (f"{W}group g 3 w v\nquorum g", "line 3: threshold '3' is not all, any, or a number from 1 to 2"),
    (f"{W}group g 0 w v\nquorum g", "threshold '0'"),
    (f"{W}group g -1 w v\nquorum g", "threshold '-1'"),
    (f"{W}group g ¹ w v\nquorum g", "threshold '¹'"),
    (f"{W}group g {'9' * 5000} w\nquorum g", "threshold '999"),
    (f"{W}group g most w v\nquorum g", "threshold 'most'"),
    (f"{W}group g any\nquorum g", "line 3: it should be: group"),
    (f"{W}group g any w w\nquorum g", "w is a member already"),
    (f"{W}group g any w\ngroup h any w\nquorum g", "line 4: w is a member already"),
    (f"{W}group g any g\nquorum g", "defines 'g'"),
    (f"{W}group g any none\nquorum g", "defines 'none'"),
    (f"{W}group w any v\nquorum w", "the name w is taken"),
    (f"{W}group none any v\nquorum w", "the name none is reserved"),
    (f"witness none {key('X1')}\nquorum none", "the name none is reserved"),
    (f"{W}witness w {key('X3')}\nquorum w", "line 3: the name w is taken"),
    (f"{W}witness u {key('X1')}\nquorum w", "line 3: the key of witness u is listed twice"),
    (f"{LOG}{LOG}quorum none", "listed twice"),
    (
        f"{LOG}log {log_key(origin='other.example')}\nquorum none",
        "line 2: the key of log other.example is listed twice",
    ),
    (f"log {key('X1')}\nquorum none", "not an Ed25519 log's"),
    (f"witness w {log_key()}\nquorum w", "not an Ed25519 witness's"),
    ("witness w nonsense\nquorum w", "line 1: 'nonsense' is not a verifier key"),
    (f"witness w {key('X1')[:-4]}AAA=\nquorum w", "line 1"),
    (f"witness {key('X1')}\nquorum none", "line 1: it should be: witness"),
    (f"log {log_key()} http://a http://b\nquorum none", "line 1: it should be: log"),
    (f"{W}Quorum w", "line 3: 'Quorum' begins no line"),
    (f"{W}quorum w\r\n", "line 3: control character 0x0d; lines end in a newline alone"),
    (f"{W}quorum w\n# a \x00 comment", "line 4: control character 0x00"),
    (f"{W}quorum w\x7f", "control character 0x7f"),
    (f"{W}quorum\u00a0w", "begins no line"),
    ("#" * (MAX_POLICY_BYTES + 1), "more than"),
]


@pytest.mark.parametrize(("text", "says"), NONSENSE, ids=[f"{n}" for n in range(len(NONSENSE))])
def test_nonsense_is_refused_with_its_line(text: str, says: str) -> None:
    with pytest.raises(PolicyError) as caught:
        Policy.parse(text)
    assert says in caught.value.message
    assert caught.value.code == "POLICY_INVALID"


@given(st.text(max_size=200), st.sampled_from(["", W, HOUSES]))
def test_no_text_leads_anywhere_else(text: str, before: str) -> None:
    """Whatever is written, it is a policy or a `PolicyError`."""
    with contextlib.suppress(PolicyError):
        Policy.parse(before + text)


def test_as_many_as_the_standard_asks_for() -> None:
    """More than 32 logs, witnesses and groups, nested as deep as they can be."""
    many = range(40)
    text = "".join(f"log {log_key(str(n))}\nwitness w{n} {key(str(n))}\n" for n in many)
    text += "group g0 any w0\n" + "".join(f"group g{n} all g{n - 1} w{n}\n" for n in many[1:])
    policy = Policy.parse(text + "quorum g39\n")
    names = [str(n) for n in many]
    assert len(policy.check(note(*names, log="7"))) == 40
    with pytest.raises(PolicyUnsatisfied, match="missing: w0"):
        policy.check(note(*names[1:], log="7"))
