# SPDX-License-Identifier: GPL-3.0-or-later
"""The pages that the operator serves. They are plain files; `files` hands them out."""
