"""No test has a deadline: the machines are shared, and a slow one is no fault of the code."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("shared", deadline=None)
settings.load_profile("shared")
