"""Pages are worked through with the stack that users' own tests have, and not with this project's."""

from overnight.testing.pytest import overnight  # noqa: F401 - the fixture, in place of that of tests/conftest.py
