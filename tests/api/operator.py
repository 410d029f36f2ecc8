# SPDX-License-Identifier: GPL-3.0-or-later
"""An operator's run with the interface of `tests.api.plain`: `python -m tests.api.operator DATA_DIR PORT_FILE`."""

import os
import sys
from pathlib import Path

from clearing.model.errors import NovateError
from clearing.service.node import run_operator

if __name__ == "__main__":
    try:
        api = (sys.executable, "-m", "tests.api.plain")
        code = run_operator(Path(sys.argv[1]), port=int(sys.argv[3]), port_file=Path(sys.argv[2]), api=api)
    except NovateError as error:
        sys.exit(str(error))
    sys.stderr.flush()
    os._exit(code)
