"""Makes the fixtures of the canaries known to the tests of this folder."""

from tests.secrets.canaries import planted

__all__ = ["planted"]
