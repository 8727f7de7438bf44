"""The speed of an engine that an option names: a profile of the program, or a measurement of the user."""

from __future__ import annotations

from explore_async.errors import ConfigError
from explore_async.measuring.profile import measured_profile
from explore_async.serving.simulated.engine import Profile
from explore_async.serving.simulated.profiles import PROFILES
from explore_async.storage.places import local_place


def profile_of(name: str) -> Profile:
    """The profile of this name, or of the file that `bench --out` wrote. Raises ConfigError and DataError."""
    if name in PROFILES:
        return PROFILES[name]
    if name.endswith(".json"):
        return measured_profile(local_place(name))
    known = ", ".join(PROFILES)
    raise ConfigError(f"--profile {name}: no such profile; they are {known}. A file of `bench --out` ends in .json")
