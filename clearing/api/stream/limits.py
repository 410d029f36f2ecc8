# SPDX-License-Identifier: GPL-3.0-or-later
"""What one connection may use. Token buckets by key are clearing.api.http.limits'."""

from dataclasses import dataclass

from clearing.service.config import ApiConfig


@dataclass(frozen=True)
class Limits:
    """`queue_*`: what may wait to be sent to a client before it counts as slow; `calm_bytes`: below that much a
    snapshot is made. `submits_*`: envelopes of one connection; `key_*`: of one session key over all of them;
    `asks_*`: other frames of one connection, which are slowed down rather than refused. `under_way`: envelopes of a
    connection that wait for their results. `depth`: levels of a side of a book. `close_s`: for the client to take the
    closing frame; `drain_s`: at shutdown, for results under way, and for cancels."""

    queue_bytes: int = 1 << 20
    queue_frames: int = 1_000
    calm_bytes: int = 256 << 10
    calm_s: float = 10.0
    subscriptions: int = 200
    depth: int = 1_000
    bad_frames: int = 20
    connections: int = 10_000
    connections_per_address: int = 2_000
    submits_per_second: float = 2_000.0
    submits_burst: int = 4_000
    key_per_second: float = 1_000.0
    key_burst: int = 2_000
    asks_per_second: float = 200.0
    asks_burst: int = 500
    under_way: int = 5_000
    heartbeat_s: float = 1.0
    close_s: float = 10.0
    drain_s: float = 3.0


def limits_of(config: ApiConfig) -> Limits:
    """What the operator chose, and defaults for what is not to be chosen."""
    return Limits(
        connections=config.max_streams,
        connections_per_address=config.max_streams_per_address,
        submits_per_second=2 * config.commands_per_second,
        submits_burst=2 * config.commands_burst,
        key_per_second=config.commands_per_second,
        key_burst=config.commands_burst,
    )
