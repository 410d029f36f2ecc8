# SPDX-License-Identifier: GPL-3.0-or-later
"""The `novate` command. Stdout carries data, stderr progress and errors; modules load on demand."""
