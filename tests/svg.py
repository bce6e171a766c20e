"""Reading an SVG of a graph back from its text."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from itertools import combinations

import numpy as np

NS = "{http://www.w3.org/2000/svg}"


class Picture:
    """What an SVG shows, read back from its text."""

    def __init__(self, svg: str) -> None:
        self.root = ET.fromstring(svg)
        self.nodes = [g for g in self.root.iter(f"{NS}g") if g.get("class", "").startswith("node")]
        self.edges = [p for p in self.root.iter(f"{NS}path") if p.get("class") == "edge"]
        self.width, self.height = float(self.root.get("width")), float(self.root.get("height"))

    def box(self, node: ET.Element) -> tuple[float, float, float, float]:
        rect = node.find(f"{NS}rect")
        x, y, w, h = (float(rect.get(k)) for k in ("x", "y", "width", "height"))
        return x, y, x + w, y + h

    def texts(self, node: ET.Element) -> list[str]:
        return [t.text for t in node.iter(f"{NS}text")]

    @property
    def titles(self) -> list[str]:
        return [self.texts(node)[0] for node in self.nodes]

    def tooltip(self, title: str) -> str:
        (node,) = [n for n in self.nodes if self.texts(n)[0] == title]
        return node.find(f"{NS}title").text


def points(edge: ET.Element) -> list[tuple[float, float]]:
    """Points along a path of M, C, H and V commands, curves in ten steps."""
    found = []
    x = y = 0.0
    for command, rest in re.findall(r"([MCHV])([^MCHV]*)", edge.get("d")):
        numbers = [float(n) for n in re.findall(r"-?[\d.]+", rest)]
        if command == "C":
            (x1, y1, x2, y2, x3, y3) = numbers
            for t in np.linspace(0.1, 1, 10):
                u = 1 - t
                found.append((
                    u**3 * x + 3 * u * u * t * x1 + 3 * u * t * t * x2 + t**3 * x3,
                    u**3 * y + 3 * u * u * t * y1 + 3 * u * t * t * y2 + t**3 * y3,
                ))  # fmt: skip
            x, y = x3, y3
        else:
            x = numbers[0] if command in "MH" else x
            y = {"M": numbers[-1], "V": numbers[0]}.get(command, y)
            found.append((x, y))
    return found


def check_picture(picture: Picture) -> None:
    """No box on another or outside; no edge through a box."""
    boxes = [picture.box(node) for node in picture.nodes]
    for (x0, y0, x1, y1), (u0, v0, u1, v1) in combinations(boxes, 2):
        assert x1 <= u0 or u1 <= x0 or y1 <= v0 or v1 <= y0
    for x0, y0, x1, y1 in boxes:
        assert x0 >= 0 and y0 >= 0 and x1 <= picture.width and y1 <= picture.height
    for edge in picture.edges:
        for x, y in points(edge):
            for x0, y0, x1, y1 in boxes:
                assert not (x0 + 0.2 < x < x1 - 0.2 and y0 + 0.2 < y < y1 - 0.2)
