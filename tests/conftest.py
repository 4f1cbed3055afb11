"""What holds for every test."""

from neti import problems

problems.strict = True  # a code that nobody declared is an error, not a warning
