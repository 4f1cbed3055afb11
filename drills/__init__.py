"""Drills: each puts a promise of Neti to the test, with real packets, and ends in figures.

``python -m drills`` runs them. A drill is one file ``dNN_name.py`` with a TITLE and a function
``run(drill: Run) -> Rows``; nothing else has to know of it. See docs/drills.md.
"""
