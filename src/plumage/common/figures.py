"""Shares and probabilities as people read them: no digit that the number of photos doesn't support, and 100% only for all."""

FEW = 100
"""With fewer photos, shares are whole percents: one photo more or less changes them by more than 1%."""

MANY = 1000
"""With as many, one photo more or less changes a share by less than 0.1 points."""


def share(value: float, photos: int) -> str:
    """A share of so many photos, or an end of its interval, as a percentage."""
    return _percent(value, 0 if photos < FEW else 1)


def probability(value: float) -> str:
    """A probability as a percentage with one decimal."""
    return _percent(value, 1)


def percentage(value: float) -> str:
    """A setting from 0 to 1, or what is compared with it, as a percentage with as many digits as it has, up to four: `2.5%`."""
    return f"{100 * value:.4g}%"


def difference(value: float, photos: int) -> str:
    """A difference of two shares of so many photos: `+1.5 points`."""
    return f"{100 * value:+.{1 if photos < MANY else 2}f} points"


def margin(value: float) -> str:
    """A tolerated difference of two shares: `1 point`, `2.5 points`."""
    points = f"{100 * value:.3g}"
    return f"{points} point{'s'[: points != '1']}"


def score(value: float, photos: int) -> str:
    """Any other metric of so many photos."""
    return f"{value:.{2 if photos < FEW else 3}f}"


def _percent(value: float, decimals: int) -> str:
    """As a percentage. What is between 0 and 1 is never shown as one of them: 0.9999 is >99.9%."""
    step = 10.0 ** -(decimals + 2)
    if 0 < value < 1:
        if round(value, decimals + 2) >= 1:
            return f">{1 - step:.{decimals}%}"
        if round(value, decimals + 2) <= 0:
            return f"<{step:.{decimals}%}"
    return f"{value:.{decimals}%}"
