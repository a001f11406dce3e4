"""These tests stand where a user stands: their client is the one that the plugin gives."""

from overnight.testing.pytest import overnight  # noqa: F401 - a fixture, in place of our own of the same name
