# SPDX-License-Identifier: GPL-3.0-or-later
"""`novate doctor`: is this machine fit to run this venue, and what is to be done?"""

from pathlib import Path

import click

from clearing.cli.options import json_option
from clearing.cli.output import emit, fail, reports_errors


@click.command("doctor")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--no-chains", is_flag=True, help="Do not ask the chains' endpoints.")
@click.option("--quick", is_flag=True, help="Do not read the journal from its first byte.")
@click.option("--strict", is_flag=True, help="Exit 1 for warnings, too.")
@json_option
@reports_errors
def doctor(directory: Path, no_chains: bool, quick: bool, strict: bool, as_json: bool) -> None:
    """Check versions, configuration, disk, journal, keys, clock, ports and chains of DIRECTORY; change nothing.

    Works beside a running operator. Exits 1 when something is an error.
    """
    from clearing.service.ops.doctor import ERROR, OK, WARNING, Patient, examine

    marks = {OK: "ok     ", WARNING: "WARNING", ERROR: "ERROR  "}
    findings = []
    for found in examine(Patient(directory), not no_chains, not quick):
        findings.append(found)
        if not as_json:
            todo = f" -> {found.todo}" if found.todo else ""
            click.echo(f"{marks[found.level]}  {found.name}: {found.detail}{todo}")
    errors = sum(found.level == ERROR for found in findings)
    warnings = sum(found.level == WARNING for found in findings)
    if as_json:
        rows = [{"name": f.name, "level": f.level, "detail": f.detail, "todo": f.todo} for f in findings]
        emit({"ok": not errors, "errors": errors, "warnings": warnings, "findings": rows}, True)
    bad = [f for f in findings if f.level == ERROR or (strict and f.level == WARNING)]
    if bad:
        fail("UNFIT", f"{errors} errors, {warnings} warnings; the first: {bad[0].name}: {bad[0].detail}")
