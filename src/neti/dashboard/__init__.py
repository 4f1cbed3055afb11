"""The page that shows the whole fleet in a browser. See docs/design/dashboard.md.

Must never do: change anything, or show anything to who has no token.
"""
