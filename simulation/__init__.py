"""Whole fleets in one process, every order of events, every crash, repeatable by seed.

Real code inside, doubles outside. See docs/design/simulation.md. Must never do: read a real clock,
touch a real file or kernel, or draw from anything but the seed.
"""
