"""Tags and filters of the pages: icons, status marks, and numbers with units and sensible digits."""

from __future__ import annotations

import math
from datetime import datetime

from django import template
from django.templatetags.static import static
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()

# Longest suffix first: the unit that a metric's name ends in is shown behind its number instead.
UNITS = {
    "_tokens_per_second": " tokens/s",
    "tokens_per_second": " tokens/s",
    "_per_second": "/s",
    "_seconds": " s",
    "_tokens": " tokens",
    "_percent": " %",
}


@register.simple_tag
def icon(name: str) -> SafeString:
    """Draw a symbol of the sprite; the word beside it speaks for it."""
    return format_html(
        '<svg class="icon" aria-hidden="true"><use href="{}#{}"></use></svg>', static("frontend/icons.svg"), name
    )


@register.simple_tag
def kind_icon(kind: str) -> SafeString:
    """Draw the shape of a port kind."""
    return icon(f"kind-{kind}")


@register.simple_tag
def status_mark(status: str) -> SafeString:
    """Draw a status as colour, icon and word."""
    return format_html('<span class="status" data-status="{}">{}{}</span>', status, icon(status), status)


@register.filter
def duration(seconds: float | None) -> str:
    """Write a time as ``0.4 s``, ``42 s``, ``2 min 05 s`` or ``3 h 07 min``."""
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{max(seconds, 0):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


@register.filter
def size(size_bytes: float | None) -> str:
    """Write a number of bytes as ``512 B`` or ``1.24 GB`` (powers of 1,000)."""
    if size_bytes is None:
        return "–"
    value, unit = float(size_bytes), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(value) < 999.5 or unit == "TB":
            break
        value /= 1000
    return f"{int(value)} B" if unit == "B" else f"{three_digits(value)} {unit}"


def three_digits(value: float) -> str:
    """Write ``value`` with three significant digits, thousands grouped, no exponent between 1e-4 and 1e9."""
    if not math.isfinite(value):
        return str(value)
    magnitude = abs(value)
    if magnitude >= 1000 and magnitude < 1e9:
        return f"{value:,.0f}"
    if magnitude != 0 and (magnitude < 1e-4 or magnitude >= 1e9):
        return f"{value:.2e}"
    digits = 2 if magnitude == 0 else max(0, 2 - math.floor(math.log10(magnitude)))
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if digits > 2 else text


@register.filter
def number(value: object) -> str:
    """Write any value of a report or metric: numbers with sensible digits, yes and no, a dash for nothing."""
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return three_digits(value)
    return str(value)


@register.filter
def measured(value: object, name: str) -> str:
    """Write a value with the unit that its name carries: ``peak_bytes`` as GB, ``step_seconds`` as seconds."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if name.endswith("_bytes"):
            return size(value)
        for suffix, unit in UNITS.items():
            if name.endswith(suffix):
                return f"{number(value)}{unit}"
    return number(value)


@register.filter
def label(name: str) -> str:
    """Turn a snake_case name into words, without the unit that ``measured`` writes."""
    if name == "tokens_per_second":
        return "speed"
    text = name.removesuffix("_bytes")
    for suffix in UNITS:
        if text.endswith(suffix) and suffix.startswith("_"):
            text = text.removesuffix(suffix)
            break
    return text.replace("_", " ")


@register.simple_tag
def ago(moment: datetime | None) -> SafeString | str:
    """Write an instant as ``5 min ago``; the page's script keeps it up to date, the title has the full time."""
    if moment is None:
        return "–"
    text = _coarse((timezone.now() - moment).total_seconds())
    return format_html(
        '<time datetime="{0}" title="{1} UTC" data-ago>{2}</time>', moment.isoformat(), f"{moment:%Y-%m-%d %H:%M:%S}", text
    )


def _coarse(seconds: float) -> str:
    for limit, unit, name in ((60, 1, "s"), (3600, 60, "min"), (86_400, 3600, "h"), (math.inf, 86_400, "d")):
        if seconds < limit:
            return f"{max(0, int(seconds // unit))} {name} ago"
    return ""


@register.simple_tag
def took(started_at: datetime | None, finished_at: datetime | None) -> SafeString | str:
    """Write how long something took, or has taken so far (then the page's script counts on)."""
    if started_at is None:
        return "–"
    if finished_at is not None:
        return duration((finished_at - started_at).total_seconds())
    so_far = duration(int((timezone.now() - started_at).total_seconds()))
    return format_html('<span data-since="{}">{}</span>', started_at.isoformat(), so_far)
