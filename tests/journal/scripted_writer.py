# SPDX-License-Identifier: GPL-3.0-or-later
"""A writer whose every system call between two marks can be made its last; run under strace.

`scripted_writer.py create PATH`: create a journal. `scripted_writer.py write PATH`: open it and make
three commits, each acknowledged on standard output as `seq hash`.
"""

import os
import sys


def main() -> None:
    task, path = sys.argv[1:]
    from journal.store import Store

    os.getpgid(0)  # the mark: nothing else here makes this call
    if task == "create":
        store = Store.create(path, reserve_bytes=8192, grow_bytes=8192)
        os.write(1, b"created\n")
    else:
        store = Store.open(path, reserve_bytes=8192, grow_bytes=8192)
        head = store.head()
        for number in range(3):
            head = store.append([b"%d:%d" % (number, i) for i in range(200)], head)
            os.write(1, b"%d %s\n" % (head.next_seq, head.block_hash.hex().encode()))
    store.close()
    os.getpgid(0)


main()
