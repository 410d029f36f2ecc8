# SPDX-License-Identifier: GPL-3.0-or-later
"""`novate completion`: the script that lets a shell complete commands, options and paths.

The script is click's own: the shell asks `novate` what could follow, so it never lags behind the installed commands.
"""

import click
from click.shell_completion import get_completion_class

from clearing.cli.output import fail, reports_errors

_VARIABLE = "_NOVATE_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
@reports_errors
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that completes novate's commands, options and paths in SHELL.

    \b
    bash (4.4 or later), once in ~/.bashrc:
        source <(novate completion bash)
    zsh, once in ~/.zshrc after compinit:
        source <(novate completion zsh)
    fish:
        novate completion fish > ~/.config/fish/completions/novate.fish

    It calls `novate` under that name, so that must be on PATH.
    """
    kind = get_completion_class(shell)
    if kind is None:
        fail("UNKNOWN_SHELL", f"this version of click completes nothing for {shell}; upgrade click")
    # The class's own `source` starts bash to warn about old versions of it: not needed to write the script.
    script = kind(ctx.find_root().command, {}, "novate", _VARIABLE)
    click.echo(script.source_template % script.source_vars())
