# SPDX-License-Identifier: GPL-3.0-or-later
"""The liquidation sweep: the worst loss of many accounts at once.

Rules:
- To the bit what `scan` says of each account alone, in whatever chunks the accounts come.
- The product of accounts x lots with the array is sparse and integer; static discount, skew and basis are
  per expiry, so it is taken expiry by expiry.
- An account that int64 cannot hold is scanned alone, on Python ints.
"""

from typing import Any

import numpy as np

from clearing.core.risk.array import Group, Int64s, RiskArray
from clearing.core.risk.fixed import scaled
from clearing.core.risk.scan import INT64, book_of, scan

# Accounts per pass: enough to drown numpy's overhead, little enough to stay in cache.
_CHUNK = 16_384
_MAX_LOTS = 1 << 54


def sweep(array: RiskArray, indptr: Int64s, rows: Int64s, lots: Int64s) -> Int64s:
    """Worst loss W (>= 0, atoms) per account, int64.

    The books come as a compressed sparse matrix: account i holds `lots[indptr[i]:indptr[i+1]]` of the
    array's `rows[...]`. Raises OverflowError if a W does not fit int64.
    """
    accounts = len(indptr) - 1
    worst = np.empty(accounts, dtype=np.int64)
    for begin in range(0, accounts, _CHUNK):
        end = min(begin + _CHUNK, accounts)
        first, last = int(indptr[begin]), int(indptr[end])
        worst[begin:end] = _chunk(array, indptr[begin : end + 1] - first, rows[first:last], lots[first:last])
    return worst


def _chunk(array: RiskArray, indptr: Int64s, rows: Int64s, lots: Int64s) -> Int64s:
    from scipy import sparse  # type: ignore[import-untyped]  # slow to import, and only the sweep needs it

    accounts = len(indptr) - 1
    limit = min(INT64 // (array.peak + 1), _MAX_LOTS)
    owner = np.repeat(np.arange(accounts, dtype=np.int64), np.diff(indptr))
    size = np.zeros(accounts, dtype=np.int64)
    np.add.at(size, owner, np.minimum(np.abs(lots), limit))
    large = size >= limit
    matrix = sparse.csr_matrix(
        (np.where(large[owner], 0, lots), rows, indptr), shape=(accounts, len(array.columns)), dtype=np.int64
    )
    total, basis = _products(array, matrix.tocsc(), accounts)
    worst: Int64s = -np.minimum(total.min(axis=1), basis)
    for account in np.flatnonzero(large).tolist():
        held = slice(int(indptr[account]), int(indptr[account + 1]))
        ids_held = [array.columns[row].instrument_id for row in rows[held].tolist()]
        worst[account] = scan(array, book_of(array, list(zip(ids_held, lots[held].tolist(), strict=True)))).loss
    return worst


def _products(array: RiskArray, by_column: Any, accounts: int) -> tuple[Int64s, Int64s]:
    """(P&L per account and scenario, basis per account); `by_column` is the accounts' CSC matrix."""
    width = array.width
    total = np.zeros((accounts, width), dtype=np.int64)
    basis = np.zeros(accounts, dtype=np.int64)
    for group in array.groups:
        part = by_column[:, group.start : group.stop]
        if part.nnz == 0:
            continue
        held = slice(group.start, group.stop)
        sums: Int64s = part @ array.pnl[held]
        gains = sums[:, :width]
        if array.worth is not None and (group.long_cut or group.short_cut):
            gains = gains - _cuts(group, part @ array.worth[held])
        for s in array.skews:
            gains[:, s] = -np.abs(gains[:, s])
        total += gains
        moved = np.maximum(np.maximum(-sums[:, width], -sums[:, width + 1]), 0)
        basis -= scaled(moved, [group.basis], up=True)
    return total, basis


def _cuts(group: Group, worth: Int64s) -> Int64s:
    size = np.abs(worth)
    if min(group.long_cut, group.short_cut) < 0:  # no valid preset gives value away; arithmetic stays exact
        wide = size.astype(object) * np.where(worth >= 0, group.long_cut, group.short_cut).astype(object)
        given: Int64s = (-(-wide >> 60)).astype(np.int64)
        return given
    result: Int64s = np.where(
        worth >= 0, scaled(size, [group.long_cut], up=True), scaled(size, [group.short_cut], up=True)
    )
    return result
