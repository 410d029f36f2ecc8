# SPDX-License-Identifier: GPL-3.0-or-later
"""Recorded order flow, fed through the same door as everyone else's orders.

    source file -> decoder (dbn, lobster) -> events -> plan -> signed envelopes -> pipeline -> journal
                                                                                      |
                                                     compare <- outcomes -------------+

Rules:
- A decoder only reads: it yields source-neutral `events` and names file and line when it cannot.
- `plan` decides, from the source alone, which commands an event becomes; it never looks at outcomes,
  so that the recorded market is what is replayed and not an echo of our own book.
- Every command is signed by the member it is assigned to and takes the way of a live one: signature,
  nonce, margin, oracle age, journal. Nothing is inserted behind the sequencer's back.
- The same file and arguments give the same journal, byte for byte: keys, ids and times are derived
  from the file, and no clock or hash seed is read (the speed is reported apart).

The entry point is `clearing.ingest.driver.ingest(path, fmt, data_dir, *, members=50,
commands_per_signature=1, on_progress=None, limit=None) -> Summary`.
"""
