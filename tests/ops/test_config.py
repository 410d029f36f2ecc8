# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a value of the configuration comes from, and that no secret is shown or taken as an argument."""

import re
from pathlib import Path

import click
import msgspec
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from clearing.cli.main import main
from clearing.cli.ops.config import RUN_OPTIONS, config_group
from clearing.model.errors import NovateError
from clearing.service import config
from clearing.service.config import AlertConfig, ApiConfig, Config, VaultConfig
from clearing.service.ops.logs import MASK, masked
from clearing.service.ops.origins import explain, leaves, lines_of, shown

FILE = '''# a comment
port = 9_000
origin_free = """
not a = key
"""
"private_port" = 9001

[alerts]
gas_epochs = 7   # another

[[vaults]]
rpc_urls = [
  "http://one",   # port = 1
  "http://two",
]
[[vaults]]
quorum = 1
'''


def data_dir(path: Path, text: str) -> Path:
    (path / config.FILE_NAME).write_text(text)
    return path


def test_lines_are_the_parsers_and_not_guessed() -> None:
    """Comments, quoted keys, texts and lists of several lines, tables and tables in lists."""
    assert lines_of(FILE) == {
        "port": 2,
        "origin_free": 3,
        "private_port": 6,
        "alerts.gas_epochs": 9,
        "vaults.0.rpc_urls": 12,
        "vaults.1.quorum": 17,
    }


@given(st.integers(0, 65_535), st.lists(st.sampled_from(["", "# port = 1", "   "]), max_size=4))
def test_a_rendered_config_has_a_line_for_every_value(port: int, blanks: list[str]) -> None:
    """And the line holds that name."""
    text = "\n".join([*blanks, config.render(Config(port=port, vaults=(VaultConfig(("u",)), VaultConfig())))])
    lines = text.splitlines()
    for name, number in lines_of(text).items():
        assert lines[number - 1].startswith(f"{name.rsplit('.', 1)[-1]} = "), name


def test_the_later_source_wins_and_is_named(tmp_path: Path) -> None:
    """Default, file with its line, environment, option."""
    folder = data_dir(tmp_path, "port = 1\nhost = 'h'\nepoch_seconds = 5\n")
    environ = {"NOVATE_CONFIG_HOST": "e", "NOVATE_CONFIG_EPOCH_SECONDS": "6", "NOVATE_CONFIG_ALERTS_GAS_EPOCHS": "9"}
    found, rows = explain(folder, {"epoch_seconds": 7}, {"epoch_seconds": "--epoch-seconds"}, environ)
    told = {row.name: (row.value, row.source, row.where) for row in rows}
    assert told["port"] == (1, "file", f"{folder}/config.toml:1")
    assert told["host"] == ("e", "environment", "NOVATE_CONFIG_HOST")
    assert told["epoch_seconds"] == (7, "option", "--epoch-seconds")
    assert told["alerts.gas_epochs"] == (9, "environment", "NOVATE_CONFIG_ALERTS_GAS_EPOCHS")
    assert told["poll_seconds"] == (1.0, "default", "")
    assert (found.port, found.host, found.epoch_seconds, found.alerts.gas_epochs) == (1, "e", 7, 9)
    every = {*Config.__struct_fields__} - {"alerts", "api", "vaults"}
    every |= {f"alerts.{name}" for name in AlertConfig.__struct_fields__}
    every |= {f"api.{name}" for name in ApiConfig.__struct_fields__}
    assert set(told) == every


def test_an_endpoint_given_as_an_option_is_told_where_it_ends_up(tmp_path: Path) -> None:
    """In `rpc_url`, or in the vault that it replaces."""
    options = {"rpc_urls": "--rpc"}
    _, rows = explain(data_dir(tmp_path, 'rpc_url = "http://a"\n'), {"rpc_urls": ("http://b",)}, options, {})
    assert {row.name: row.source for row in rows}["rpc_url"] == "option"
    _, rows = explain(data_dir(tmp_path, FILE.replace('origin_free = """\nnot a = key\n"""', "")), {}, {}, {})
    assert {row.name: row.where[-3:] for row in rows if row.name.startswith("vaults.0")}["vaults.0.rpc_urls"] == ":10"


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("NOVATE_CONFIG_PRT", "1", "NOVATE_CONFIG_PRT"),
        ("NOVATE_CONFIG_VAULTS", "[]", "NOVATE_CONFIG_VAULTS"),
        ("NOVATE_CONFIG_PORT", "many", "NOVATE_CONFIG_PORT"),
        ("NOVATE_CONFIG_PORT", "70000", "0 to 65535"),
        ("NOVATE_CONFIG_LOG_LEVEL", "loud", "log_level"),
        ("NOVATE_CONFIG_ALERTS_FREE_PPM", "-1", "alerts.free_ppm"),
        ("NOVATE_CONFIG_API_PROXIES", "127.0.0.1, *", "api.proxies: '*'"),
    ],
)
def test_a_variable_that_names_nothing_or_holds_nonsense_is_an_error(
    tmp_path: Path, variable: str, value: str, says: str
) -> None:
    with pytest.raises(NovateError) as caught:
        config.load(data_dir(tmp_path, ""), {variable: value})
    assert caught.value.code == "CONFIG_INVALID" and says in caught.value.message


def test_the_two_ports_differ() -> None:
    """Otherwise the second one fails with a message about the first."""
    with pytest.raises(NovateError, match="private_port are both 9000"):
        config.parse("port = 9000\nprivate_port = 9000", "here")


@pytest.mark.parametrize(
    ("url", "secret"),
    [
        ("https://user:hunter2@node.example/", "hunter2"),
        ("https://mainnet.example/v3/0123456789abcdef0123456789abcdef", "0123456789abcdef0123456789abcdef"),
        ("wss://node.example/?apikey=AbCdEfGhIjKlMnOpQrStUvWx", "AbCdEfGhIjKlMnOpQrStUvWx"),
    ],
)
def test_credentials_in_urls_are_masked_wherever_they_are_shown(url: str, secret: str) -> None:
    """In `config show`, alone or in a list, and in the log's lines."""
    for text in (shown(url), shown([url, "http://plain"]), masked(f"no answer from {url}, retrying")):
        assert secret not in text and MASK in text
    assert masked("http://127.0.0.1:8545") == "http://127.0.0.1:8545"
    assert masked("0x" + "ab" * 32) == "0x" + "ab" * 32


def test_leaves_names_every_value_once() -> None:
    assert leaves({"a": 1, "b": {"c": [1, 2]}, "d": [{"e": 3}]}) == {"a": 1, "b.c": [1, 2], "d.0.e": 3}


def test_the_command_shows_what_a_run_with_the_same_options_would_have(tmp_path: Path) -> None:
    """As text and as JSON; a directory without a configuration is one line with a code."""
    folder = str(data_dir(tmp_path, 'rpc_url = "https://me:secret@node/"\nport = 9000\n'))
    environ = {"NOVATE_CONFIG_HOST": "::1"}

    def run(*arguments: str) -> Result:
        return CliRunner(env=environ).invoke(main, ["config", "show", *arguments])

    text = run(folder, "--origin", "--epoch-seconds", "9").output
    told = dict(line.split("  # ", 1) for line in re.sub(" +  #", "  #", text).splitlines())
    assert told["port = 9000"] == f"{folder}/config.toml:2"
    assert told['host = "::1"'] == "environment NOVATE_CONFIG_HOST"
    assert told["epoch_seconds = 9"] == "option --epoch-seconds"
    assert told["poll_seconds = 1.0"] == "default"
    assert "secret" not in text
    assert msgspec.json.decode(run(folder, "--json").output)["port"] == 9000
    nowhere = run(str(tmp_path / "none"))
    assert nowhere.exit_code == 1 and "CONFIG_NOT_FOUND" in nowhere.stderr


def test_show_and_run_take_the_same_options() -> None:
    """Otherwise the one would not tell what the other does."""
    group = main.get_command(click.Context(main), "operator")
    assert isinstance(group, click.Group)
    run = {option for parameter in group.commands["run"].params for option in parameter.opts}
    show = {option for parameter in config_group.commands["show"].params for option in parameter.opts}
    assert {name for _, name in RUN_OPTIONS.values()} - {"--log-json/--log-text"} <= run & show
    assert run - show == {"--port-file"}


# --- no secret on a command line ---

_SECRET = re.compile(r"secret|passphrase|password|private|seed|mnemonic|(^|-)key$|token$|wallet")
# What these name is public: ports, addresses, a public key, the seed of a story.
_PUBLIC = {"--private-port", "--token", "--operator-key", "--seed"}
# Here --key is a log's verifier key, which everybody should know.
_VERIFIERS = {f"novate {name}" for name in ("receipt verify", "receipt dispute", "fill verify", "journal mirror")}


def _parameters(group: click.Command, name: str = "novate") -> list[tuple[str, click.Parameter]]:
    found = [(name, parameter) for parameter in group.params]
    if isinstance(group, click.Group):
        context = click.Context(group)
        for inner in group.list_commands(context):
            command = group.get_command(context, inner)
            assert command is not None
            found += _parameters(command, f"{name} {inner}")
    return found


def test_no_command_takes_a_secret_as_an_argument() -> None:
    """Arguments are seen by every user of the machine and kept by the shell: a secret is a file's name, or a flag."""
    suspects = [
        (name, parameter)
        for name, parameter in _parameters(main)
        for option in parameter.opts
        if _SECRET.search(option) and option not in _PUBLIC
    ]
    assert len(suspects) > 20
    bad = [
        (name, parameter.opts)
        for name, parameter in suspects
        if not isinstance(parameter.type, click.Path)
        and not getattr(parameter, "is_flag", False)
        and not (name in _VERIFIERS and parameter.opts == ["--key"])
    ]
    assert bad == []
