# SPDX-License-Identifier: GPL-3.0-or-later
"""A process that signs as fast as it can, to be killed: `python -m tests.watch.signing FOLDER FIRST_EPOCH SEED`.

It tries several headers of every epoch in random order, as an attestor whose journal copy is replaced again and again,
and prints `epoch header signature` for each signature, after it exists.
"""

import random
import sys
from itertools import count
from pathlib import Path

from clearing.chain.wallet import Wallet, attestation_digest
from clearing.model.errors import NovateError
from clearing.watch.signer import SigningLog, attest
from proofs.hashing import sha256

KEY = b"\x61" * 32
PLACE = 31_337, b"\xab" * 20


def header(epoch: int, number: int) -> bytes:
    return sha256(b"header %d %d" % (epoch, number))


def main() -> None:
    folder, first, rng = Path(sys.argv[1]), int(sys.argv[2]), random.Random(sys.argv[3])
    wallet = Wallet(KEY)
    with SigningLog(folder) as log:
        wallet.sign_digest(attestation_digest(*PLACE, bytes(32)))  # imports what signing needs, before the clock runs
        print("open", flush=True)
        for epoch in count(first):
            for number in rng.choices(range(3), k=3):
                digest = header(epoch, number)
                try:
                    signature = attest(log, wallet, PLACE, epoch, 0, digest)
                except NovateError as error:
                    if error.code != "ALREADY_SIGNED_OTHER":
                        raise
                    continue
                print(epoch, digest.hex(), signature.hex(), flush=True)


if __name__ == "__main__":
    main()
