"""Draw docs/architecture.svg from the imports of the code.

    python docs/draw_architecture.py            # write the picture
    python docs/draw_architecture.py --check    # exit status 1 if its rooms or arrows are out of date

A room is a package of the library (or a module beside the packages). It stands one level above the highest room that it
imports. An arrow is an import; one that follows from two others is left out.
"""

from __future__ import annotations

import ast
import itertools
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from textwrap import wrap

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "architecture.svg"
BOX, GAP_X, GAP_Y, MARGIN = 196, 24, 54, 24
TITLE_PX, TEXT_PX = 20, 14  # line heights
WIDTH = 1120

Imports = Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Room:
    """A package, or a module beside the packages.

    Attributes
    ----------
    name : str
    lines : int
        Lines of its files, blank ones and docstrings included.
    summary : str
        First sentence of its docstring.
    is_package : bool
    """

    name: str
    lines: int
    summary: str
    is_package: bool

    @property
    def text(self) -> list[str]:
        return wrap(self.summary, 28) if self.is_package else []

    @property
    def height(self) -> int:
        return TITLE_PX + 10 + TEXT_PX * len(self.text)


@dataclass(frozen=True, slots=True)
class Box:
    """Where a room is drawn, in pixels; a waypoint of an arrow has no width."""

    x: float
    y: float
    width: float
    height: float


def modules(place: Path) -> list[Path]:
    return sorted(place.rglob("*.py")) if place.is_dir() else [place]


def read_room(name: str, place: Path) -> Room:
    head = place / "__init__.py" if place.is_dir() else place
    summary = (ast.get_docstring(ast.parse(head.read_bytes())) or "").split("\n\n")[0].replace("\n", " ")
    summary = re.split(r"(?<=[.;]) ", summary)[0].rstrip(".;")
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in modules(place))
    return Room(name, lines, summary.replace("`", ""), place.is_dir())


def imported(place: Path, prefix: str) -> Iterator[str]:
    """Yield the room of each import that begins with a prefix such as `aznas_onnx.`."""
    for path in modules(place):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.ImportFrom):
                names: Iterable[str] = (f"{node.module}.{alias.name}" for alias in node.names)
            elif isinstance(node, ast.Import):
                names = (alias.name for alias in node.names)
            else:
                continue
            yield from (name[len(prefix) :].split(".")[0] for name in names if name.startswith(prefix))


def read_rooms(places: Mapping[str, Path], prefix: str) -> tuple[dict[str, Room], Imports]:
    rooms = {name: read_room(name, place) for name, place in places.items()}
    return rooms, {name: frozenset(imported(place, prefix)) & rooms.keys() - {name} for name, place in places.items()}


def children(folder: Path) -> dict[str, Path]:
    packages = {path.parent.name: path.parent for path in folder.glob("*/__init__.py")}
    files = {path.stem: path for path in folder.glob("*.py") if not path.stem.startswith("__")}
    return dict(sorted({**packages, **files}.items()))


def foundation(rooms: Mapping[str, Room], imports: Imports) -> set[str]:
    """Return the modules that import nothing but one another: every room may import them."""
    found: set[str] = set()
    while more := {
        name for name in rooms if name not in found and not rooms[name].is_package and imports[name] <= found
    }:
        found |= more
    return found


def levels(imports: Imports) -> dict[str, int]:
    found: dict[str, int] = {}

    def level(name: str) -> int:
        if name not in found:
            found[name] = 1 + max((level(other) for other in imports[name]), default=-1)
        return found[name]

    for name in imports:
        level(name)
    return found


def reachable(imports: Imports, start: str) -> set[str]:
    found = set(imports[start])
    for other in imports[start]:
        found |= reachable(imports, other)
    return found


def reduced(imports: Imports) -> dict[str, frozenset[str]]:
    """Leave out each arrow that follows from others."""
    return {
        name: others - set().union(*(reachable(imports, other) for other in others)) for name, others in imports.items()
    }


def with_waypoints(imports: Imports) -> tuple[dict[str, frozenset[str]], dict[str, int]]:
    """Divide each arrow that spans several levels by one waypoint a level; return the arrows and every level."""
    at = levels(imports)
    arrows: dict[str, set[str]] = {name: set() for name in imports}
    for name, others in imports.items():
        for other in others:
            before = name
            for level in range(at[name] - 1, at[other], -1):
                waypoint = f"{name}>{other}@{level}"
                at[waypoint] = level
                arrows.setdefault(before, set()).add(waypoint)
                before = waypoint
            arrows.setdefault(before, set()).add(other)
    return {name: frozenset(others) for name, others in arrows.items()}, at


def rows_of(arrows: Imports, at: Mapping[str, int]) -> list[list[str]]:
    """Return the rooms and waypoints of each level, the highest first, each near those that it is joined to."""
    rows = [sorted(name for name in at if at[name] == level) for level in range(max(at.values()), -1, -1)]
    joined = {name: set(arrows.get(name, ())) for name in at}
    for name, others in arrows.items():
        for other in others:
            joined[other].add(name)
    best = rows
    for sweep in range(40):
        place = {name: (index + 0.5) / len(row) for row in rows for index, name in enumerate(row)}
        near = {name: [o for o in joined[name] if (at[o] > at[name]) == (sweep % 2 == 0)] or [name] for name in at}
        rows = [
            sorted(row, key=lambda name: (sum(place[o] for o in near[name]) / len(near[name]), name)) for row in rows
        ]
        best = min(best, rows, key=lambda candidate: crossings(candidate, arrows))
    return best


def crossings(rows: list[list[str]], arrows: Imports) -> int:
    """Count the pairs of arrows that cross between two neighbouring levels."""
    place = {name: index for row in rows for index, name in enumerate(row)}
    found = 0
    for row in rows:
        lines = [(place[name], place[other]) for name in row for other in arrows.get(name, ())]
        found += sum((a - c) * (b - d) < 0 for (a, b), (c, d) in itertools.combinations(lines, 2))
    return found


def box(room: Room, at: Box) -> str:
    x, y, height = at.x, at.y, at.height
    kind = "package" if room.is_package else "module"
    text = "".join(f'<tspan x="{x + 10:.0f}" dy="{TEXT_PX}">{escape(line)}</tspan>' for line in room.text)
    return (
        f'<rect class="{kind}" x="{x:.0f}" y="{y:.0f}" width="{BOX}" height="{height:.0f}" rx="6"/>'
        f'<text class="name" x="{x + 10:.0f}" y="{y + TITLE_PX:.0f}">{escape(room.name)}</text>'
        f'<text class="lines" x="{x + BOX - 10:.0f}" y="{y + TITLE_PX:.0f}">{room.lines:,}</text>'
        f'<text class="text" y="{y + TITLE_PX + 2:.0f}">{text}</text>'
    )


def place_boxes(rooms: Mapping[str, Room], rows: list[list[str]], top: float) -> tuple[dict[str, Box], float]:
    """Return where each room and waypoint lies, and the y below them all."""
    boxes: dict[str, Box] = {}
    y = top
    for row in rows:
        widths = [BOX if name in rooms else 0 for name in row]
        gap = min(3.0 * GAP_X, (WIDTH - 2 * MARGIN - sum(widths)) / max(1, len(row) - 1))
        x = (WIDTH - sum(widths) - gap * (len(row) - 1)) / 2
        height = max(rooms[name].height for name in row if name in rooms)
        for name, width in zip(row, widths, strict=True):
            boxes[name] = Box(x, y, width, rooms[name].height if name in rooms else height)
            x += width + gap
        y += height + GAP_Y
    return boxes, y - GAP_Y


def panel(rooms: Mapping[str, Room], imports: Imports, top: float) -> tuple[list[str], float]:
    """Draw rooms on levels, with their arrows; return the drawing and the y below it."""
    direct = reduced(imports)
    arrows, at = with_waypoints(direct)
    boxes, bottom = place_boxes(rooms, rows_of(arrows, at), top)

    def port(name: str, others: Iterable[str], other: str) -> float:
        """Return the x at which an arrow leaves or enters a room: its arrows are evenly spaced."""
        ordered = sorted(others, key=lambda one: (boxes[one].x, one))
        return boxes[name].x + boxes[name].width * (ordered.index(other) + 1) / (len(ordered) + 1)

    def segment(name: str, other: str) -> str:
        start, end = port(name, arrows[name], other), port(other, [n for n in arrows if other in arrows[n]], name)
        y0, y1 = boxes[name].y + boxes[name].height, boxes[other].y
        bend = (y1 - y0) / 2
        line = f"C{start:.0f} {y0 + bend:.0f} {end:.0f} {y1 - bend:.0f} {end:.0f} {y1:.0f}"
        return line if other in rooms else f"{line} L{end:.0f} {y1 + boxes[other].height:.0f}"

    lines = []
    for name, others in direct.items():
        for other in sorted(others):
            ways = [name, *(f"{name}>{other}@{level}" for level in range(at[name] - 1, at[other], -1)), other]
            start = port(name, arrows[name], ways[1])
            line = " ".join(segment(*pair) for pair in itertools.pairwise(ways))
            lines.append(
                f'<path class="arrow" data-arrow="{name}>{other}" marker-end="url(#head)" '
                f'd="M{start:.0f} {boxes[name].y + boxes[name].height:.0f} {line}"/>'
            )
    return [*lines, *(box(rooms[name], boxes[name]) for name in direct)], bottom


def heading(text: str, y: float) -> str:
    return f'<text class="heading" x="{MARGIN}" y="{y:.0f}">{escape(text)}</text>'


STYLE = """
text { font-family: Helvetica, Arial, sans-serif; fill: #1f2933; }
.background { fill: #ffffff; }
.heading { font-size: 18px; font-weight: bold; }
.name { font-size: 14px; font-weight: bold; }
.lines { font-size: 12px; text-anchor: end; fill: #52606d; }
.text { font-size: 12px; fill: #3e4c59; }
.package { fill: #e6f0fa; stroke: #2b6cb0; }
.module { fill: #f5f7fa; stroke: #9aa5b1; }
.arrow { fill: none; stroke: #7b8794; stroke-width: 1.2; }
"""


def draw() -> str:
    places = children(ROOT / "aznas_onnx") | {name: ROOT / name for name in ("cli", "spaces")}
    rooms, imports = read_rooms(places, "aznas_onnx.")
    base = foundation(rooms, imports)
    upper = {name: others - base for name, others in imports.items() if name not in base}
    inside, inside_imports = read_rooms(children(ROOT / "aznas_onnx" / "graph"), "aznas_onnx.graph.")

    total = sum(room.lines for room in rooms.values())
    parts = [heading(f"aznas-onnx: {total:,} lines. An arrow is an import; sizes are lines", 34)]
    drawn, y = panel(rooms, upper, 60)
    parts += drawn
    y += 40
    parts.append(heading("Modules below all rooms, which any of them may import", y))
    names = sorted(base)
    for place, name in enumerate(names):
        x = MARGIN + (place % 5) * (BOX + GAP_X)
        parts.append(box(rooms[name], Box(x, y + 16 + place // 5 * (TITLE_PX + 20), BOX, rooms[name].height)))
    y += 16 + (len(names) + 4) // 5 * (TITLE_PX + 20) + 40
    parts.append(heading("Inside graph/", y))
    drawn, y = panel(inside, inside_imports, y + 24)
    parts += drawn
    size = f'width="{WIDTH}" height="{y + MARGIN:.0f}" viewBox="0 0 {WIDTH} {y + MARGIN:.0f}"'
    head = (
        '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 z" fill="#7b8794"/></marker>'
    )
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size}>',
        f"<style>{STYLE}</style>",
        f"<defs>{head}</defs>",
        '<rect class="background" width="100%" height="100%"/>',
        *parts,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def shown(picture: str) -> tuple[set[str], set[str]]:
    """Return the rooms and the arrows that a picture shows."""
    return set(re.findall(r'class="name"[^>]*>([^<]*)<', picture)), set(re.findall(r'data-arrow="([^"]*)"', picture))


def main() -> int:
    picture = draw()
    if "--check" not in sys.argv[1:]:
        PICTURE.write_text(picture, encoding="utf-8")
        return 0
    stored = PICTURE.read_text(encoding="utf-8")
    for kind, now, before in zip(("rooms", "arrows"), shown(picture), shown(stored), strict=True):
        if now != before:
            changed = ", ".join(sorted(now ^ before))
            print(f"{PICTURE.name} shows other {kind} than the code has: {changed}. Run {Path(__file__).name}.")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
