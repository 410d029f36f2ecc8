# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes over the public wire: one struct per message. OpenAPI and AsyncAPI are made from them."""
