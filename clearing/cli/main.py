# SPDX-License-Identifier: GPL-3.0-or-later
"""Entry point: the command tree, each command loaded only when it runs."""

from importlib import import_module
from typing import Any

import click
from click.shell_completion import CompletionItem

_COMMANDS: dict[str, tuple[str, str, str]] = {
    "demo": (
        "clearing.cli.demo",
        "demo",
        "The whole story in one run: trade, verify, audit, walk away.",
    ),
    "init": ("clearing.cli.ops.init", "init", "Set a venue up: keys, vault, configuration, genesis."),
    "operator": ("clearing.cli.operator", "operator", "Set up and run the venue."),
    "config": ("clearing.cli.ops.config", "config_group", "Show the operator's configuration and its origins."),
    "doctor": ("clearing.cli.ops.doctor", "doctor", "Check an operator's machine, keys, chains and journal."),
    "vault": (
        "clearing.cli.vault",
        "vault",
        "Deploy the vault, or check one against the artifacts.",
    ),
    "deposit": ("clearing.cli.vault", "deposit", "Pay into the vault from a wallet."),
    "exit": (
        "clearing.cli.leave",
        "leave",
        "Leave with chain data alone, operator or not.",
    ),
    "claim": (
        "clearing.cli.leave",
        "claim",
        "Collect an acknowledged withdrawal from the vault.",
    ),
    "force": ("clearing.cli.force", "force", "Withdraw or close past an operator who does not listen."),
    "voucher": ("clearing.cli.voucher", "voucher", "Be paid early, from the operator's float."),
    "oracle": ("clearing.cli.oracle", "oracle", "Publish signed prices."),
    "key": ("clearing.cli.member", "key", "Create, register and revoke session keys."),
    "account": (
        "clearing.cli.member",
        "account",
        "Balances, positions and orders of an account.",
    ),
    "order": ("clearing.cli.member", "order", "Place and cancel orders."),
    "bot": ("clearing.cli.bot", "bot", "Example bots: a market maker and a taker, over the stream."),
    "margin": ("clearing.cli.margin", "margin", "Margin mode, default-fund pledges, auctions."),
    "keeper": ("clearing.cli.keeper", "keeper", "Watch a venue: propose liquidations, bid, epochs in stress."),
    "market": ("clearing.cli.markets", "market", "Markets: show, list, delist, halt and resume."),
    "params": ("clearing.cli.params", "params", "Governed parameters: show, check and propose."),
    "govern": ("clearing.cli.govern", "govern", "The holders' vote on parameters and the house's money."),
    "withdraw": (
        "clearing.cli.member",
        "withdraw",
        "Ask the operator to acknowledge a withdrawal.",
    ),
    "proof": ("clearing.cli.proof", "proof", "Fetch proof bundles."),
    "verify": ("clearing.cli.proof", "verify", "Verify a proof bundle, step by step."),
    "receipt": ("clearing.cli.receipt", "receipt", "Receipts: export, verify, dispute."),
    "fill": ("clearing.cli.fill", "fill", "Prove a single trade, and check such a proof."),
    "page": ("clearing.cli.page", "page", "The page that verifies proofs in a browser, as one file."),
    "audit": (
        "clearing.cli.audit",
        "audit",
        "Replay the journal against itself and the chain.",
    ),
    "attest": ("clearing.cli.attest", "attest", "Watch a venue: sign true epochs, veto false ones."),
    "journal": ("clearing.cli.mirror", "journal", "Check, publish and mirror the journal."),
    "witness": ("clearing.cli.witness", "witness", "Cosign checkpoints of logs, so that none shows two histories."),
    "risk": ("clearing.cli.risk", "risk", "Risk reports of an account or the venue, from the journal."),
    "stress": ("clearing.cli.stress", "stress", "Stress the venue: named scenarios, reverse stress."),
    "greeks": ("clearing.cli.greeks", "greeks", "Price an option and show its Greeks."),
    "ingest": (
        "clearing.cli.ingest",
        "ingest",
        "Feed recorded order flow through the sequencer.",
    ),
    "completion": ("clearing.cli.completion", "completion", "Complete commands in bash, zsh and fish."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when asked for, so that --help answers at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        from clearing.cli.extras import guarded

        module, attribute, _ = _COMMANDS[cmd_name]
        return guarded(getattr(import_module(module), attribute), (cmd_name,))

    def short_help_of(self, name: str) -> str:
        """What --help says about one of the commands."""
        return _COMMANDS[name][2]

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """As click does, but without loading every command to ask for its help."""
        names = [name for name in _COMMANDS if name.startswith(incomplete)]
        found = [CompletionItem(name, help=self.short_help_of(name)) for name in names]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry[2]) for name, entry in _COMMANDS.items()])


def _version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"novate {version('novate')}")
        ctx.exit()


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    callback=_version,
    expose_value=False,
    is_eager=True,
    help="Show the version.",
)
def main(**_: Any) -> None:
    """Novate: a clearinghouse for crypto derivatives that nobody has to trust.

    Exit codes: 0 ok, 1 error, 2 usage, 3 proof invalid, 4 could not check, 5 replay diverged.
    """
