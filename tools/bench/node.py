# SPDX-License-Identifier: GPL-3.0-or-later
"""A durable venue for benchmarks: real keys, a real journal on a real disk, the service's pipeline."""

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from clearing.core.reducer import Reducer
from clearing.model import codec, signature
from clearing.model import commands as c
from clearing.service.checkpoints import CheckpointSigner
from clearing.service.commit import Committer
from clearing.service.layout import KeyRing, write_key
from clearing.service.pipeline import Pipeline, Receipt
from journal import Store
from tools.bench import workload as w

MAP_BYTES = 1 << 36
BATCH = 1_000
SECP256K1 = hashlib.sha256(b"bench secp256k1").digest()


@contextmanager
def node(folder: Path, members: int, threads: int, reducer: Reducer | None = None) -> Iterator[Pipeline]:
    """A pipeline over an empty journal in a fresh directory below `folder`, removed afterwards; of a venue with
    so many members, or of `reducer`, whose operator has the same key."""
    with tempfile.TemporaryDirectory(prefix="node-", dir=folder) as name:
        keys = Path(name) / "keys"
        keys.mkdir()
        write_key(keys / "operator.ed25519", w.OPERATOR)
        with Store.create(Path(name) / "journal", map_bytes=MAP_BYTES) as store:
            reducer = reducer or w.venue(members, real_keys=True)
            signer = CheckpointSigner(reducer.state.genesis, KeyRing(keys), SECP256K1)
            pipeline = Pipeline(Committer(store, signer), reducer, threads=threads)
            try:
                yield pipeline
            finally:
                pipeline.close()


def batches(raw: Sequence[bytes], size: int = BATCH) -> list[Sequence[bytes]]:
    return [raw[at : at + size] for at in range(0, len(raw), size)]


def drive(pipeline: Pipeline, groups: list[Sequence[bytes]]) -> None:
    """Process full batches as the sequencer does: the next one's signatures are checked while this one is
    applied and synced. Each command must be journalled."""
    ahead = pipeline.begin(groups[0])
    for following in [*groups[1:], None]:
        begun, ahead = ahead, pipeline.begin(following) if following is not None else ahead
        refused = [result for result in pipeline.finish(begun, w.NOW) if not isinstance(result, Receipt)]
        assert not refused, refused[:3]


Decoded = tuple[c.Envelope, c.Body]


def decoded(raw: Sequence[bytes]) -> list[Decoded]:
    return [codec.decode_envelope(data) for data in raw]


def verify_all(items: Sequence[Decoded]) -> None:
    """Nothing but signatures, on one core."""
    verify = signature.verify
    for envelope, body in items:
        verify(envelope, body)


def verify_pooled(pool: ThreadPoolExecutor, threads: int, items: Sequence[Decoded]) -> None:
    """Nothing but signatures: everything is queued at once, so that no thread ever waits."""
    step = -(-BATCH // threads)
    list(pool.map(verify_all, [items[at : at + step] for at in range(0, len(items), step)]))
