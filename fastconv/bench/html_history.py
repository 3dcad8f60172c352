"""The page's last charts: what asv measured, commit by commit."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from html import escape

from fastconv.bench import planes
from fastconv.bench.history import Track
from fastconv.bench.planes import Curve
from fastconv.bench.scale import quantity

MOST_PANELS = 80
"""So many panels are drawn, those of the most commits first; beyond, a page is no longer looked at."""

SPREAD = "backend"
"""The parameter whose values share a panel, a curve each."""

SCALED = "seconds", "bytes"
"""Units that stand behind each number, made to fit it; others stand above the panel."""

Panel = tuple[str, str, tuple[tuple[str, str], ...]]  # place, benchmark, the parameters that all its curves have


def section(history: Sequence[Track]) -> Iterator[str]:
    """Small multiples: a panel for each benchmark and set of parameters, a curve for each backend."""
    yield '<section id="history"><h2>History</h2>'
    if not history:
        yield "<p>There are no results of asv here; <code>asv run main~5..main</code> makes them.</p></section>"
        return
    found: dict[Panel, list[Track]] = {}
    for track in history:
        shared = tuple(pair for pair in track.parameters if pair[0] != SPREAD)
        found.setdefault((track.place, track.benchmark, shared), []).append(track)
    longest = sorted(found, key=lambda key: -max(len(track.points) for track in found[key]))[:MOST_PANELS]
    commits = sorted({(point.date, point.commit) for track in history for point in track.points})
    rest = f" {len(found) - len(longest)} more panels are in asv's own pages." * (len(found) > len(longest))
    yield f"<p>{len(commits)} commits from {_day(commits[0][0])} to {_day(commits[-1][0])}, old to new, on "
    yield f"logarithmic axes; the newest value stands at the end. Point at a curve to see it alone.{rest}</p>"
    names = sorted({dict(track.parameters).get(SPREAD, "") for track in history} - {""})
    heading = ""
    for key in (key for key in found if key in set(longest)):
        place, benchmark, shared = key
        if heading != f"{benchmark}, {place}":
            yield "</div>" * bool(heading)
            heading = f"{benchmark}, {place}"
            yield f'<h3>{escape(benchmark)} <span class="small">on {escape(place)}</span></h3><div class="panels">'
        title = ", ".join(_parameter(*pair) for pair in shared) or benchmark.rpartition(".")[2]
        unit = found[key][0].unit
        title += f", {unit}" * (unit not in ("", *SCALED))
        yield f"<figure><figcaption>{escape(title)}</figcaption>{_panel(found[key], title, names)}</figure>"
    yield "</div></section>"


def _panel(tracks: Sequence[Track], title: str, names: Sequence[str]) -> str:
    order = sorted({(point.date, point.commit) for track in tracks for point in track.points})
    unit = tracks[0].unit if tracks[0].unit in SCALED else ""
    curves = []
    for track in tracks:
        at = {point.commit: point.value for point in track.points}
        name = dict(track.parameters).get(SPREAD, "")
        tips = tuple(
            f"{commit} of {_day(date)}: {name} {quantity(at[commit], unit)}" if commit in at else ""
            for date, commit in order
        )
        curves.append(Curve(name, names.index(name) if name else 0, tuple(at.get(commit) for _, commit in order), tips))
    return planes.panel(curves, unit, [commit for _, commit in order], f"history of {title}")


def _day(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).date().isoformat()


def _parameter(name: str, value: str) -> str:
    """A parameter as words; the name is left out where the value speaks for itself."""
    return f"{value} {name[:-1] if value == '1' else name}" if name == "threads" else value
