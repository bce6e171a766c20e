"""Where the boxes and edges of a layered drawing go: columns, order, heights, routes.

The method is that of Sugiyama, Tagawa and Toda (1981): longest-path columns, a bend point where
an edge passes a column, orders by barycentre and exchange of neighbours. Heights follow by
isotonic least squares.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

MARGIN = 16.0
GAP_X, GAP_Y = 40.0, 16.0
WIDEST_GAP = 110.0
"""Between columns whose edges have far to climb."""
BEND = 6.0
"""Height that is kept free for an edge that passes a column."""
SWEEPS = 12
FULL_EFFORT = 4_000
"""Above so many boxes and bends the order is that of the first walk: quick, but less tidy."""


@dataclass
class Drawing:
    """Positions in pixels.

    Attributes:
        boxes: x, y, width, height of every box.
        edges: source, target and argument number of every edge.
        routes: for each edge the points where it leaves and enters columns.
        width, height: of the whole.
    """

    boxes: list[tuple[float, float, float, float]]
    edges: list[tuple[int, int, int]]
    routes: list[list[tuple[float, float]]]
    width: float
    height: float


def columns_of(inputs: Sequence[Sequence[int]]) -> list[int]:
    """The column of each box: right of its furthest input; boxes without inputs next to their use.

    Example:
        >>> columns_of([(), (0,), (), (1, 2)])
        [0, 1, 1, 2]
    """
    columns: list[int] = []
    for sources in inputs:
        columns.append(1 + max((columns[i] for i in sources), default=-1))
    nearest: dict[int, int] = {}
    for i, sources in enumerate(inputs):
        for j in sources:
            nearest[j] = min(nearest.get(j, columns[i]), columns[i])
    return [
        max(nearest.get(i, 1) - 1, 0) if not sources else columns[i]
        for i, sources in enumerate(inputs)
    ]


def arrange(
    inputs: Sequence[Sequence[int]], sizes: Sequence[tuple[float, float]], down: bool = False
) -> Drawing:
    """Lay a graph out from left to right, or from top to bottom.

    Args:
        inputs: for every box the boxes it was computed from, all of them earlier in the list.
        sizes: width and height that every box needs; boxes of one column get equal widths.
        down: columns become rows.
    """
    if down:
        plan = arrange(inputs, [(height, width) for width, height in sizes])
        boxes = [(y, x, height, width) for x, y, width, height in plan.boxes]
        routes = [[(y, x) for x, y in route] for route in plan.routes]
        return Drawing(boxes, plan.edges, routes, plan.height, plan.width)
    grid = _Grid(inputs, sizes)
    if len(grid.column) <= FULL_EFFORT:
        grid.order_by_barycentre()
        grid.align()
    else:
        grid.stack()
    return grid.drawing()


class _Grid:
    """Boxes and bends (further items) in columns; `left` and `right` are neighbours there."""

    def __init__(
        self, inputs: Sequence[Sequence[int]], sizes: Sequence[tuple[float, float]]
    ) -> None:
        self.sizes = sizes
        self.column = columns_of(inputs)
        self.height = [h for _, h in sizes]
        self.edges = [
            (source, target, i)
            for target, sources in enumerate(inputs)
            for i, source in enumerate(sources)
        ]
        self.left: list[list[int]] = [[] for _ in sizes]
        self.right: list[list[int]] = [[] for _ in sizes]
        self.paths: list[list[int]] = []
        spans = sum(self.column[t] - self.column[s] - 1 for s, t, _ in self.edges)
        for source, target, _ in self.edges:
            path = [source]
            # Very many bends would take longer than they are worth: then edges go straight.
            if spans <= FULL_EFFORT:
                for column in range(self.column[source] + 1, self.column[target]):
                    path.append(self._bend(column))
            path.append(target)
            for a, b in pairwise(path):
                self.right[a].append(b)
                self.left[b].append(a)
            self.paths.append(path)
        self.rows = self._first_order(len(sizes) - 1)
        self.y = [0.0] * len(self.column)

    def _bend(self, column: int) -> int:
        self.column.append(column)
        self.height.append(BEND)
        self.left.append([])
        self.right.append([])
        return len(self.column) - 1

    def _first_order(self, root: int) -> list[list[int]]:
        """Columns filled in the order of a depth-first walk from the result."""
        rows: list[list[int]] = [[] for _ in range(max(self.column) + 1)]
        seen = [False] * len(self.column)
        stack = [root]
        while stack:
            item = stack.pop()
            if not seen[item]:
                seen[item] = True
                rows[self.column[item]].append(item)
                stack.extend(reversed(self.left[item]))
        return rows

    # ---- order ---------------------------------------------------------------------------------

    def order_by_barycentre(self) -> None:
        """Sort columns by the mean place of neighbours, back and forth; keep the best order."""
        best, fewest = [list(row) for row in self.rows], self.crossings()
        for sweep in range(SWEEPS):
            if not fewest:
                break
            to_right = sweep % 2 == 0
            neighbours = self.left if to_right else self.right
            place = self._places()
            for row in self.rows if to_right else reversed(self.rows):
                keys = {
                    item: _mean([place[n] for n in neighbours[item]], place[item]) for item in row
                }
                row.sort(key=keys.__getitem__)
                place.update((item, i) for i, item in enumerate(row))
            found = self.crossings()
            if found < fewest:
                best, fewest = [list(row) for row in self.rows], found
        self.rows = best
        if fewest:
            self._exchange()

    def _exchange(self) -> None:
        """Swap neighbours in a column as long as that saves crossings."""
        place = self._places()
        for _ in range(SWEEPS):
            better = False
            for row in self.rows:
                for i in range(len(row) - 1):
                    a, b = row[i], row[i + 1]
                    saved = 0
                    for side in (self.left, self.right):
                        at_a = [place[n] for n in side[a]]
                        at_b = [place[n] for n in side[b]]
                        saved += sum((x > y) - (x < y) for x in at_a for y in at_b)
                    if saved > 0:
                        row[i], row[i + 1] = b, a
                        place[a], place[b] = i + 1, i
                        better = True
            if not better:
                return

    def _places(self) -> dict[int, int]:
        return {item: i for row in self.rows for i, item in enumerate(row)}

    def crossings(self) -> int:
        """How many pairs of edges cross between neighbouring columns."""
        place = self._places()
        total = 0
        for row in self.rows:
            ends: list[int] = []
            for item in row:
                targets = sorted(place[n] for n in self.right[item])
                total += sum(len(ends) - bisect_right(ends, t) for t in targets)
                ends = sorted([*ends, *targets])
        return total

    # ---- heights -------------------------------------------------------------------------------

    def stack(self) -> None:
        """Put the items of every column one below the other."""
        for row in self.rows:
            top = 0.0
            for item in row:
                self.y[item] = top + self.height[item] / 2
                top += self.height[item] + GAP_Y

    def align(self) -> None:
        """Move items towards the mean height of their neighbours, keeping order and distance."""
        self.stack()
        boxes = len(self.sizes)
        for sweep in range(SWEEPS):
            to_right = sweep % 2 == 0
            last = sweep >= SWEEPS - 2
            for row in self.rows if to_right else reversed(self.rows):
                wanted, weights = [], []
                for item in row:
                    near = self.left[item] if to_right else self.right[item]
                    if last or not near:
                        near = self.left[item] + self.right[item]
                    pull = [self._pull(item, n, boxes) for n in near]
                    total = sum(pull)
                    middle = sum(p * self.y[n] for p, n in zip(pull, near, strict=True))
                    wanted.append(middle / total if total else self.y[item])
                    weights.append(total or 0.01)
                for item, y in zip(row, self._separated(row, wanted, weights), strict=True):
                    self.y[item] = y

    def _pull(self, a: int, b: int, boxes: int) -> float:
        """How strongly neighbours want to be level: long edges shall be straight, then chains of
        operations; what they take in on the way gives way."""
        if a >= boxes and b >= boxes:
            return 4.0
        return 1.0 if self.left[a] and self.left[b] else 0.1

    def _separated(
        self, row: Sequence[int], wanted: Sequence[float], weights: Sequence[float]
    ) -> list[float]:
        """The heights nearest to `wanted` (least squares) at which the items keep apart."""
        offsets = [0.0]
        for a, b in pairwise(row):
            offsets.append(offsets[-1] + (self.height[a] + self.height[b]) / 2 + GAP_Y)
        # Without the offsets heights must not fall: pool neighbours that violate this.
        pools: list[tuple[float, float, int]] = []
        for y, offset, weight in zip(wanted, offsets, weights, strict=True):
            pool = (y - offset, weight, 1)
            while pools and pools[-1][0] > pool[0]:
                value, w, n = pools.pop()
                total = w + pool[1]
                pool = ((value * w + pool[0] * pool[1]) / total, total, n + pool[2])
            pools.append(pool)
        flat = [value for value, _, n in pools for _ in range(n)]
        return [value + offset for value, offset in zip(flat, offsets, strict=True)]

    # ---- result --------------------------------------------------------------------------------

    def drawing(self) -> Drawing:
        """Pixels."""
        boxes = len(self.sizes)
        shift = MARGIN - min(y - h / 2 for y, h in zip(self.y, self.height, strict=True))
        widths = [max((self.sizes[i][0] for i in row if i < boxes), default=0) for row in self.rows]
        lefts, x = [], MARGIN
        for width, gap in zip(widths, [*self._gaps(), 0.0], strict=True):
            lefts.append(x)
            x += width + gap
        placed = [
            (lefts[self.column[i]], self.y[i] + shift - h / 2, widths[self.column[i]], h)
            for i, (_, h) in enumerate(self.sizes)
        ]
        ports = self._ports(placed, shift)
        routes = []
        for path, port in zip(self.paths, ports, strict=True):
            source, *bends, target = path
            left, top, width, height = placed[source]
            route = [(left + width, top + height / 2)]
            for bend in bends:
                column, y = self.column[bend], self.y[bend] + shift
                route += [(lefts[column], y), (lefts[column] + widths[column], y)]
            routes.append([*route, (placed[target][0], port)])
        bottom = max(y + h / 2 for y, h in zip(self.y, self.height, strict=True)) + shift
        return Drawing(placed, self.edges, routes, x + MARGIN, bottom + MARGIN)

    def _gaps(self) -> list[float]:
        """Distances between columns: wider where edges climb, so that none gets too steep."""
        climbs = [0.0] * (len(self.rows) - 1)
        for path in self.paths:
            for a, b in pairwise(path):
                column = self.column[b] - 1
                climbs[column] = max(climbs[column], abs(self.y[a] - self.y[b]))
        return [min(GAP_X + 0.12 * climb, WIDEST_GAP) for climb in climbs]

    def _ports(
        self, placed: Sequence[tuple[float, float, float, float]], shift: float
    ) -> list[float]:
        """Where each edge enters its target: from top to bottom as they come, so none cross."""
        coming: dict[int, list[tuple[float, int, int]]] = {}
        for i, (path, (_, target, argument)) in enumerate(zip(self.paths, self.edges, strict=True)):
            coming.setdefault(target, []).append((self.y[path[-2]] + shift, argument, i))
        ports = [0.0] * len(self.edges)
        for target, edges in coming.items():
            _, top, _, height = placed[target]
            for rank, (_, _, i) in enumerate(sorted(edges)):
                ports[i] = top + height * (rank + 1) / (len(edges) + 1)
        return ports


def _mean(values: Sequence[int], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise
