"""Draw the stored study of competitive plasticity: updates to the goal against cells. SVG on standard output.

python tests/benchmarks/plasticity_plot.py > docs/plasticity.svg
"""

from __future__ import annotations

import math

from apical.sw import plasticity_study as study

SERIES = {
    "plain": ("#555555", "plain"),
    "rule_1": ("#c2410c", "rule 1: the largest updates"),
    "rule_2": ("#0f766e", "rule 2: a plastic subnet"),
    "rule_3": ("#1d4ed8", "rule 3: both"),
    "lazy_rule_3": ("#a21caf", "rule 3, lazy"),
}
WIDTH, HEIGHT, LEFT, BOTTOM = 640, 400, 80, 50
X, Y = (80, 4000), (1e7, 1e10)


def place(cells: float, updates: float) -> tuple[float, float]:
    """Where a point is drawn; both axes are logarithmic."""
    across = math.log(cells / X[0]) / math.log(X[1] / X[0])
    up = math.log(updates / Y[0]) / math.log(Y[1] / Y[0])
    return LEFT + across * (WIDTH - LEFT - 200), (HEIGHT - BOTTOM) * (1 - up) + 10


def main() -> None:
    """Print the picture."""
    found = study.figures(study.stored())
    sizes = sorted({r["cells"] for r in study.stored()})
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT + 20}" font-family="sans-serif" '
        f'font-size="13"><rect width="100%" height="100%" fill="white"/>'
    ]
    for exponent in range(7, 11):
        x, y = place(X[0], 10.0**exponent)
        out.append(f'<line x1="{x}" y1="{y:.0f}" x2="{WIDTH - 200}" y2="{y:.0f}" stroke="#ddd"/>')
        out.append(f'<text x="{x - 8}" y="{y + 4:.0f}" text-anchor="end">1e{exponent}</text>')
    for cells in sizes:
        x, y = place(cells, Y[0])
        out.append(f'<text x="{x:.0f}" y="{y + 20:.0f}" text-anchor="middle">{cells}</text>')
    out.append(f'<text x="{(WIDTH - 120) / 2}" y="{HEIGHT + 10}" text-anchor="middle">hidden cells</text>')
    out.append(f'<text x="14" y="{HEIGHT / 2}" transform="rotate(-90 14 {HEIGHT / 2})" text-anchor="middle">'
               "updates until 95 % of the test digits are right</text>")  # fmt: skip
    for row, (name, (colour, title)) in enumerate(SERIES.items()):
        key = "plain_updates" if name == "plain" else f"updates_{name}"
        known = [(n, found.get(f"{key}_n{n}")) for n in sizes]
        points = [place(n, v) for n, v in known if v]
        line = " ".join(f"{x:.0f},{y:.0f}" for x, y in points)
        out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{x:.0f}" cy="{y:.0f}" r="3.5" fill="{colour}"/>' for x, y in points]
        y = 30 + 22 * row
        out.append(f'<rect x="{WIDTH - 188}" y="{y - 9}" width="14" height="4" fill="{colour}"/>')
        out.append(f'<text x="{WIDTH - 168}" y="{y}">{title}</text>')
    print("\n".join([*out, "</svg>"]))


if __name__ == "__main__":
    main()
