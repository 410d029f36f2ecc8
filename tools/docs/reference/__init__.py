# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/reference/: pages written from the code, so that they cannot say anything else than it does.

`python -m tools.docs.reference` writes them, `--check` says which are not what the code gives now. Each module makes
one page or a few and offers `pages() -> dict[str, str]`: file name and text.
"""
