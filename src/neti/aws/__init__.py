"""Everything that Neti asks of AWS, and the only package that imports boto3 (``access``, lazily).

What AWS holds is read into frozen values; pure functions compare it with what should be and return
changes as inert, printable values; ``apply`` alone carries them out. See docs/design/aws.md.

Must never do: conclude anything from an error or an empty answer, or change anything that Neti did
not make.
"""
