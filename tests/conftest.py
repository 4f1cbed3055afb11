"""What holds for every test of the tree."""

from hypothesis import settings

from neti.model import problems

problems.strict = True  # a code that nobody declared is an error, not a warning

# A busy machine makes any example slow, so no example is judged by the time that it took. A failing
# one is printed with the line that repeats it.
settings.register_profile("neti", deadline=None, print_blob=True)
settings.load_profile("neti")
