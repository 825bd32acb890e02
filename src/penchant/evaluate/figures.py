"""Numbers as people read them in print: real minus signs, thin spaces, en dashes for ranges."""

from __future__ import annotations

import math

_THIN = "\u202f"  # narrow no-break space
_MINUS = "\u2212"


def number(value: float | None, digits: int = 3) -> str:
    """`digits` significant digits without exponent where that is short, an em dash for None."""
    if value is None:
        return "\u2014"
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else ("\u221e" if value > 0 else _MINUS + "\u221e")
    size = abs(value)
    if size != 0 and (size < 1e-3 or size >= 1e6):
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        power = int(exponent)
        return f"{mantissa}\u00b710{_superscript(power)}".replace("-", _MINUS)
    places = max(0, digits - 1 - (math.floor(math.log10(size)) if size else 0))
    return f"{value:,.{places}f}".replace(",", _THIN).replace("-", _MINUS)


def percent(rate: float) -> str:
    """A rate in [0, 1] as per cent with one decimal."""
    return f"{100 * rate:.1f}{_THIN}%"


def percent_range(low: float, high: float) -> str:
    """An interval of rates, `55.2\u201366.7 %`."""
    return f"{100 * low:.1f}\u2013{100 * high:.1f}{_THIN}%"


def count(value: int) -> str:
    """An integer with thin spaces between thousands."""
    return f"{value:,}".replace(",", _THIN)


def duration(seconds: float) -> str:
    """Seconds as the two largest units, `3 min 12 s`."""
    if seconds < 60:
        return f"{number(seconds)} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{count(whole // 3600)} h {whole % 3600 // 60} min"


def size(value: float) -> str:
    """Bytes in the largest decimal unit."""
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{number(value)} {unit}"
        value /= 1000
    return f"{number(value)} TB"


def _superscript(power: int) -> str:
    return str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
