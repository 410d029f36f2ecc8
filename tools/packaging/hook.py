# SPDX-License-Identifier: GPL-3.0-or-later
"""Build hook: writes the manual pages from the commands and puts them into the wheel under share/man/man1.

Rules: the pages are never kept in the repository, so they cannot be old; a build leaves nothing behind in the tree
that it built, and two builds of one tree with one SOURCE_DATE_EPOCH give the same bytes. An editable install has no
pages.
"""

import os
import shutil
import sys
import tempfile
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

# The build's own library: nothing else of the project imports it.
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = "share/man/man1"


class ManualPages(BuildHookInterface[Any]):
    """Adds novate.1 and a page for every command to a wheel."""

    PLUGIN_NAME = "custom"
    _written: str | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel" or version == "editable":
            return
        self._written = tempfile.mkdtemp(prefix="novate-man-")
        pages = _generator(Path(self.root)).write(Path(self._written), self.metadata.version, os.environ)
        for page in pages:
            build_data["shared_data"][str(page)] = f"{FOLDER}/{page.name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if self._written is not None:
            shutil.rmtree(self._written, ignore_errors=True)


def _generator(root: Path) -> ModuleType:
    """tools/packaging/man.py of the tree that is built, with that tree's commands and no other's."""
    sys.dont_write_bytecode = True  # nothing may appear beside the sources
    sys.path.insert(0, str(root))
    spec = spec_from_file_location("novate_manual_pages", root / "tools" / "packaging" / "man.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
