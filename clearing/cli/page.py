# SPDX-License-Identifier: GPL-3.0-or-later
"""`novate page`: the page that verifies proofs in a browser.

Rules: the page in clearing/web/verify works where it lies, from disk or from any web server. `--output` makes one
file of its parts, to keep and to hand on: the same scripts byte for byte, allowed by their hashes instead of by
their origin, so that the file is the same for everyone and its own hash says which page it is.
"""

import base64
import hashlib
import re
from pathlib import Path

import click

from clearing.cli.options import json_option
from clearing.cli.output import emit, note, reports_errors

FOLDER = Path(__file__).resolve().parent.parent / "web" / "verify"
_STYLE = '<link rel="stylesheet" href="style.css">'
_SCRIPT = re.compile(r'<script src="([\w/.]+)"></script>')


def single_file(folder: Path = FOLDER) -> bytes:
    """The page with its style and scripts inside. Raises `ValueError` when the parts cannot be put into one."""
    page = (folder / "index.html").read_text(encoding="utf-8")
    hashes: dict[str, list[str]] = {"script-src": [], "style-src": []}

    def inside(tag: str, policy: str, text: str) -> str:
        if f"</{tag}" in text:
            raise ValueError(f"a part holds </{tag} and would end itself")
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        hashes[policy].append(f"'sha256-{digest}'")
        return f"<{tag}>{text}</{tag}>"

    style = (folder / "style.css").read_text(encoding="utf-8")
    page = page.replace(_STYLE, inside("style", "style-src", style))
    page = _SCRIPT.sub(lambda tag: inside("script", "script-src", (folder / tag[1]).read_text(encoding="utf-8")), page)
    for policy, allowed in hashes.items():
        if f"{policy} 'self'" not in page or not allowed:
            raise ValueError(f"the page has no {policy} 'self' to replace, or nothing that it would allow")
        page = page.replace(f"{policy} 'self'", f"{policy} {' '.join(allowed)}", 1)
    return page.encode()


@click.command()
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write the page as one file.")
@json_option
@reports_errors
def page(output: Path | None, as_json: bool) -> None:
    """Where the page that verifies proof bundles and .tlog-proof files is; open it in a browser.

    With --output it is written as one file, and its SHA-256 is printed: keep both, and no web server can change
    the page under you.
    """
    if output is None:
        index = FOLDER / "index.html"
        emit({"path": str(index), "url": index.as_uri()}, as_json, [index.as_uri()])
        return
    data = single_file()
    output.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    url = output.resolve().as_uri()
    emit({"path": str(output), "url": url, "sha256": digest}, as_json, [f"{digest}  {output}"])
    note(f"open {url} in a browser")
