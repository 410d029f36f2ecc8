# SPDX-License-Identifier: GPL-3.0-or-later
"""Configuration and keys: a typing error is an error, and the message says where."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clearing.model.errors import NovateError
from clearing.service import config
from clearing.service.config import Config, VaultConfig
from clearing.service.layout import Ed25519Key, KeyRing, create_keys, read_key, write_key

TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)
CONFIRMATIONS = st.integers(0, 10_000) | st.just("finalized")


@given(
    st.builds(
        Config,
        vaults=st.lists(
            st.builds(
                VaultConfig,
                rpc_urls=st.lists(TEXT, min_size=2, max_size=3).map(tuple),
                quorum=st.integers(1, 2),
                confirmations=CONFIRMATIONS,
                max_fee_gwei=st.floats(0, 10_000),
            ),
            max_size=3,
        ).map(tuple),
        confirmations=CONFIRMATIONS,
        host=TEXT,
        port=st.integers(0, 65_535),
        poll_seconds=st.floats(0.01, 3_600),
        checkpoint_secp256k1=st.booleans(),
        epoch_seconds=st.integers(0, 86_400),
    )
)
def test_what_is_rendered_is_what_is_read(chosen: Config) -> None:
    """Every valid configuration survives its file."""
    assert config.parse(config.render(chosen), "here") == chosen


@pytest.mark.parametrize(
    "text",
    [
        "port = 99999",
        'port = "80"',
        "prot = 80",
        "port = ",
        "epoch_seconds = -1",
        'confirmations = "soon"',
        "confirmations = true",
        "[[vaults]]\nconfirmations = -1",
        '[[vaults]]\nrpc_urls = "http://one"',
        '[[vaults]]\nrpc_urls = ["http://one"]\nquorum = 2',
        'rpc_url = "http://one"\n[[vaults]]\nrpc_urls = ["http://two"]',
    ],
)
def test_a_bad_file_names_itself(text: str) -> None:
    """Unknown names, wrong types, values out of range and broken TOML are CONFIG_INVALID with the path."""
    with pytest.raises(NovateError, match="the-file") as raised:
        config.parse(text, "the-file")
    assert raised.value.code == "CONFIG_INVALID"


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NovateError, match="operator init") as raised:
        config.load(tmp_path)
    assert raised.value.code == "CONFIG_NOT_FOUND"


def test_overrides_are_checked_like_the_file() -> None:
    assert config.override(Config(), {"port": 1}).port == 1
    with pytest.raises(NovateError):
        config.override(Config(), {"port": -1})


def test_keys_are_kept_and_found_by_their_public_half(tmp_path: Path) -> None:
    """Creating keys twice gives the same keys; a key added later (a rotation) is found without a restart."""
    keys = create_keys(tmp_path, 2)
    assert create_keys(tmp_path, 2) == keys
    ring = KeyRing(tmp_path / "keys")
    later = Ed25519Key(bytes(range(32)))
    with pytest.raises(NovateError) as raised:
        ring.ed25519(later.tagged)
    assert raised.value.code == "KEY_NOT_HELD"
    write_key(tmp_path / "keys" / "operator-2.ed25519", later.seed)
    assert ring.ed25519(later.tagged).seed == later.seed
    with pytest.raises(NovateError) as raised:
        write_key(tmp_path / "keys" / "operator-2.ed25519", bytes(32))
    assert raised.value.code == "KEY_FILE_EXISTS"
    (tmp_path / "keys" / "short").write_text("abc")
    (tmp_path / "keys" / "short").chmod(0o600)
    with pytest.raises(NovateError) as raised:
        read_key(tmp_path / "keys" / "short")
    assert raised.value.code == "KEY_FILE_MALFORMED"


def test_one_vault_needs_no_table_and_several_have_one_each() -> None:
    """The short form describes vault 0 and no other; endpoints given at the start replace the first vaults'."""
    short = config.parse('rpc_url = "http://one"\nconfirmations = 3', "here")
    assert short.vault(0) == VaultConfig(("http://one",), 3)
    assert short.vault(1) == VaultConfig()
    assert config.override(short, {"rpc_urls": ("http://two",)}).vault(0) == VaultConfig(("http://two",), 3)
    several = config.parse('rpc_url = "http://one, http://two,"', "here")
    assert several.vault(0).rpc_urls == ("http://one", "http://two"), "of one chain"
    assert config.override(short, {"rpc_urls": ("http://2,http://3,http://2",)}).vault(0).rpc_urls == (
        "http://2",
        "http://3",
    )
    pooled = config.override(short, {"rpc_urls": ("http://2,http://3", "http://4")})
    assert [vault.rpc_urls for vault in pooled.vaults] == [("http://2", "http://3"), ("http://4",)]
    both = config.override(short, {"rpc_urls": ("http://two", "http://three")})
    assert [both.vault(n).rpc_urls for n in range(2)] == [("http://two",), ("http://three",)]
    assert both.vault(0).confirmations == 3
    long = config.parse('[[vaults]]\nrpc_urls = ["http://one"]\n[[vaults]]\nrpc_urls = ["http://two"]', "here")
    again = config.override(long, {"rpc_urls": ("http://three",)})
    assert [again.vault(n).rpc_urls for n in range(2)] == [("http://three",), ("http://two",)]
