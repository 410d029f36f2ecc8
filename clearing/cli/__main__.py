# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m clearing.cli`."""

from clearing.cli.main import main

if __name__ == "__main__":
    main(prog_name="novate")
