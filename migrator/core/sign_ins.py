"""When so many log in that something was taken from them: the rule of soaks and of brownouts."""

from __future__ import annotations

# Below these a rate is noise: one family coming home looks like a wave of logins.
LEAST_MINUTES = 1.0
LEAST_SIGN_INS = 5
# What is usual is not known from less.
LEAST_BASELINE_MINUTES = 10.0


def usual(sign_ins: float, minutes: float | None) -> float | None:
    """Sign-ins a minute, by what was counted in so many `minutes`; None: too few to tell."""
    if minutes is None or minutes < LEAST_BASELINE_MINUTES:
        return None
    return sign_ins / minutes


def too_many(
    sign_ins: int, minutes: float, *, factor: float, baseline: float | None
) -> float | None:
    """The rate a minute, where it is over `factor` times the `baseline`; None: it is not."""
    if baseline is None or minutes < LEAST_MINUTES or sign_ins < LEAST_SIGN_INS:
        return None
    rate = sign_ins / minutes
    return rate if rate > factor * baseline else None
