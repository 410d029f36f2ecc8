# SPDX-License-Identifier: GPL-3.0-or-later
"""`novate config show`: the configuration in force, and where each value came from."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from clearing.cli.options import SEVERAL, json_option
from clearing.cli.output import emit, reports_errors

F = TypeVar("F", bound=Callable[..., Any])

# What `operator run` and `config show` take alike: parameter, the configuration's name, the option.
RUN_OPTIONS: Final = {
    "host": ("host", "--host"),
    "port": ("port", "--port"),
    "private_port": ("private_port", "--private-port"),
    "rpcs": ("rpc_urls", "--rpc"),
    "epoch_seconds": ("epoch_seconds", "--epoch-seconds"),
    "log_json": ("log_json", "--log-json/--log-text"),
}


def run_options(command: F) -> F:
    """The options that override the configuration for one run."""
    for option in reversed(
        (
            click.option("--host", help="Address to listen on; from config.toml by default."),
            click.option("--port", type=int, help="Port; 0 chooses free ones, the private one too."),
            click.option("--private-port", type=int, help="Port for metrics, probes and the operator's figures."),
            click.option(
                "--rpc", "rpcs", multiple=True,
                help=f"Endpoint of a vault's chain, in genesis's order; {SEVERAL}; from config.toml by default. A URL "
                "with a key in it belongs there or into NOVATE_CONFIG_RPC_URL: other users can see arguments.",
            ),
            click.option("--epoch-seconds", type=int, help="How often to post an epoch."),
            click.option("--log-json/--log-text", default=None, help="JSON lines on standard error, or text."),
        )
    ):  # fmt: skip
        command = option(command)
    return command


def overrides(parameters: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """(values by the configuration's name, option of each) of what was given."""
    given = {RUN_OPTIONS[name]: value for name, value in parameters.items() if value is not None and value != ()}
    return {name: value for (name, _), value in given.items()}, dict(given.keys())


@click.group("config")
def config_group() -> None:
    """Show the operator's configuration."""


@config_group.command("show")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--origin", is_flag=True, help="Say of each value where it came from.")
@run_options
@json_option
@reports_errors
def show(directory: Path, origin: bool, as_json: bool, **parameters: Any) -> None:
    """Show what `operator run DIRECTORY` with the same options would run with; credentials are masked.

    Later ones win: defaults, DIRECTORY/config.toml, NOVATE_CONFIG_* in the environment, options.
    """
    from clearing.service.ops.origins import explain, plain, shown

    given, options = overrides(parameters)
    _, rows = explain(directory, given, options)
    data = {
        row.name: {"value": plain(row.value), "source": row.source, "where": row.where} if origin else plain(row.value)
        for row in rows
    }
    lines = [f"{row.name} = {shown(row.value)}" for row in rows]
    if origin:
        width = max(map(len, lines))
        sources = [row.where if row.source == "file" else f"{row.source} {row.where}".strip() for row in rows]
        lines = [f"{line.ljust(width)}  # {source}" for line, source in zip(lines, sources, strict=True)]
    emit(data, as_json, lines)
