# SPDX-License-Identifier: GPL-3.0-or-later
"""A sequencer's process of its own, without anything in front of it: `python -m tests.api.sequencer DATA_DIR`.

It says "ready" on standard output when the link is open, and stops on SIGTERM as a node does. Its background stays
off: a ticker that finds something due would journal an entry that the test has not counted.
"""

import os
import sys
from pathlib import Path

from clearing.service.doorbell import Doorbell
from clearing.service.node import Node


def main() -> None:
    bell = Doorbell()
    bell.answer_signals()
    node = Node(Path(sys.argv[1]))
    print("ready", flush=True)
    bell.wait()
    node.close()
    os._exit(node.exit_code)


if __name__ == "__main__":
    main()
