"""The pairs of cores that users test with as well."""

from dulcet.testing.pairs import *  # noqa: F403
