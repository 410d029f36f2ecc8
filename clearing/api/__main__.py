# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m clearing.api DATA_DIR`."""

from clearing.api.process import main

if __name__ == "__main__":
    main()
