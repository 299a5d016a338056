"""Property tests that give the same verdict on every run, on machines of any load."""

from __future__ import annotations

from hypothesis import settings

# On a busy two-core machine single examples took over the default 200 ms.
settings.register_profile("steady", deadline=None, derandomize=True, database=None)
settings.load_profile("steady")
