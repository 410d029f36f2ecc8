# SPDX-License-Identifier: GPL-3.0-or-later
"""A node for tests that ask for a chain and not for a certain one: anvil where it is installed, as it is many times
quicker, or else the embedded EVM. Tests of the embedded EVM itself start it by name.
"""

import time
from collections.abc import Sequence
from typing import Protocol

from clearing.chain.embedded import CHAIN_ID, start_embedded
from clearing.chain.rpc import Rpc
from tests.chain.nodes import Anvil, anvil_installed, free_port


class ChainNode(Protocol):
    """What both are to a test."""

    @property
    def url(self) -> str: ...

    def stop(self) -> None: ...


def start_node(fund: Sequence[bytes] = (), chain_id: int = CHAIN_ID) -> ChainNode:
    """A fresh chain with the usual development accounts, and ether for each address of `fund`."""
    if not anvil_installed():
        return start_embedded(fund=fund, chain_id=chain_id, idle_exit_s=600)
    node = Anvil(free_port(), ("--chain-id", str(chain_id))).start()
    for address in fund:
        node.request("anvil_setBalance", "0x" + address.hex(), hex(10_000 * 10**18))
    return node


def catch_up(rpc: Rpc) -> None:
    """Bring the chain's clock to this machine's. anvil goes on from an old block's time after `evm_revert`, and an
    operator's close time may be only a minute ahead of the chain."""
    rpc.request("evm_mine")
    behind = int(time.time()) - rpc.time_s()
    if behind > 0:
        rpc.request("evm_increaseTime", behind)
        rpc.request("evm_mine")
