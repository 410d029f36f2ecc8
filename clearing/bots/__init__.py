# SPDX-License-Identifier: GPL-3.0-or-later
"""Example bots: a market maker and a taker, to be read, run and copied.

    clearing.bots.view     what a strategy sees of the world, as plain values
    clearing.bots.maker    `decide(quoting, view, last, ...)`: the maker's strategy, a pure function
    clearing.bots.taker    `decide(taking, view, draw, ...)`: the taker's
    clearing.bots.trader   feeds, session and guards of one account in one market: all that touches the network
    clearing.bots.run      the two loops that bring them together

Rules: a strategy reads no clock and opens nothing, so that what it would do can be computed and tested. Money and
prices are integers. An account that a bot trades with is the bot's alone, and so is its session key. Nothing here
imports more of this package than the client and the model, as a program of a user would.
"""
