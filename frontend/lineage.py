"""Where the versions of a dataset came from, drawn: a box a version, a line from each to those that were made from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from datasets_app.models import DatasetVersion

BOX_WIDTH, BOX_HEIGHT = 176, 52
GAP_X, GAP_Y = 44, 16
MARGIN = 8
DRAWN_VERSIONS = 40
"""The newest ones; of more, a drawing would be no overview."""


@dataclass(frozen=True, kw_only=True)
class Box:
    """One version and the place of its box, in pixels."""

    version: DatasetVersion
    x: int
    y: int

    @property
    def how(self) -> str:
        """A few words on how it was made."""
        return made_by(self.version)

    @property
    def text_x(self) -> int:
        return self.x + 12

    @property
    def title_y(self) -> int:
        return self.y + 21

    @property
    def how_y(self) -> int:
        return self.y + 39


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """The drawing: boxes, the lines between them as SVG paths, and its size in pixels."""

    boxes: list[Box]
    lines: list[str]
    width: int
    height: int
    box_width: int = BOX_WIDTH
    box_height: int = BOX_HEIGHT

    @classmethod
    def of(cls, versions: Sequence[DatasetVersion]) -> Self:
        """Lay out the newest of ``versions`` (newest first): made from one another to the right, beside each other below."""
        drawn = sorted(versions[:DRAWN_VERSIONS], key=lambda version: version.number)
        places = _places(drawn)
        boxes = [
            Box(
                version=version,
                x=MARGIN + places[version.pk][0] * (BOX_WIDTH + GAP_X),
                y=MARGIN + places[version.pk][1] * (BOX_HEIGHT + GAP_Y),
            )
            for version in drawn
        ]
        box_of = {box.version.pk: box for box in boxes}
        lines = [_line(box_of[box.version.parent_id], box) for box in boxes if box.version.parent_id in box_of]
        width = max((box.x for box in boxes), default=0) + BOX_WIDTH + MARGIN
        height = max((box.y for box in boxes), default=0) + BOX_HEIGHT + MARGIN
        return cls(boxes=boxes, lines=lines, width=width, height=height)


def made_by(version: DatasetVersion) -> str:
    """Say in a few words how a version was made."""
    changes = version.changes
    if changes.get("columns"):
        return "columns mapped"
    codes = [fix["code"] for fix in changes.get("fixes", [])]
    if codes == ["near_duplicate"]:
        return "duplicates reviewed"
    if codes:
        return f"{len(codes)} fix{'es' if len(codes) > 1 else ''} applied"
    return "uploaded"


def _places(versions: Sequence[DatasetVersion]) -> dict[object, tuple[int, int]]:
    """Return column and lane of each version: the first that is made from one goes on in its lane, others get a new one."""
    places: dict[object, tuple[int, int]] = {}
    continued: set[object] = set()
    lanes = 0
    for version in versions:
        parent = places.get(version.parent_id)
        if parent is not None and version.parent_id not in continued:
            continued.add(version.parent_id)
            places[version.pk] = (parent[0] + 1, parent[1])
            continue
        places[version.pk] = (parent[0] + 1 if parent else 0, lanes)
        lanes += 1
    return places


def _line(start: Box, end: Box) -> str:
    left, right = start.x + BOX_WIDTH, end.x
    y0, y1 = start.y + BOX_HEIGHT // 2, end.y + BOX_HEIGHT // 2
    middle = (left + right) // 2
    return f"M{left} {y0}C{middle} {y0} {middle} {y1} {right} {y1}"
