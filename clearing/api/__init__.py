# SPDX-License-Identifier: GPL-3.0-or-later
"""The public interface: a process of its own beside the sequencer's."""
