"""The page's first part: every duel with the best rival, by group, losses like wins."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

from fastconv.bench import charts
from fastconv.bench.charts import Dot
from fastconv.bench.html_cases import SIGNS, counted, leader
from fastconv.bench.report import ALL, Document

_VERDICTS = ("ahead", "undecided", "behind")

Row = dict[str, Any]


def section(report: Document) -> Iterator[str]:
    """A panel for each number of threads and each cache, and what the other contestants of ours come to."""
    yield '<section id="summary"><h2>Against the best rival</h2>'
    first = leader(report)
    if first is None:
        yield "<p>Nobody else took part; <code>fastconv bench --peers all</code> asks everybody who is installed.</p>"
    else:
        yield f"<p>Time of the fastest rival of each case over the time of <b>{escape(first)}</b>: right of 1 fastconv "
        yield "is faster. A case is undecided when its 95 % interval holds 1.</p>"
        yield '<div class="pair">'
        for cache in report["caches"]:
            for threads in report["threads"]:
                yield from _panel(report, threads, cache, first)
        yield f"</div>{_others(report, first)}"
    yield "</section>"


def _panel(report: Document, threads: int, cache: str, first: str) -> Iterator[str]:
    key = (threads, cache, first)
    duels = [d for d in report["duels"] if (d["threads"], d["cache"], d["contestant"]) == key]
    groups = {g["group"]: g for g in report["groups"] if (g["threads"], g["cache"], g["contestant"]) == key}
    if not duels:
        return
    whole, title = groups[ALL], f"{counted(threads, 'thread')}, {cache} caches"
    scale = charts.ratio_scale([d["ratio"] for d in duels])
    group_of = {case["name"]: case["group"] for case in report["cases"]}
    rows = []
    for name in [ALL, *(name for name in groups if name != ALL)]:
        group = groups[name]
        found = [Dot(d["ratio"], d["verdict"], duel_text(d)) for d in duels if name in (ALL, group_of[d["case"]])]
        picture = charts.dots(found, group["geometric_mean"], scale, f"{name}: {_score(group)}")
        rows.append(f'<tr class="{"all" if name == ALL else "group"}"><th>{escape(name)}</th>'
                    f'<td class="chart">{picture}</td>'
                    f"<td>{ratio(group['geometric_mean'])}</td>"
                    f'<td title="{escape(group["worst_case"])}">{ratio(group["worst"])}</td>'
                    + "".join(f'<td class="{v}">{group[v] or "·"}</td>' for v in _VERDICTS) + "</tr>")  # fmt: skip
    axis = charts.ratio_axis(scale, "ratios, logarithmic")
    signs = "".join(f'<th class="{v}" title="{v}">{SIGNS[v]}</th>' for v in _VERDICTS)
    counts = "".join(f'<span class="{v}">{SIGNS[v]} {whole[v]} {v}</span>' for v in _VERDICTS)
    yield f'<figure class="duels"><figcaption>{title}</figcaption>'
    yield f'<p class="big"><b>{ratio(whole["geometric_mean"])}×</b> in the geometric mean of '
    yield f"{counted(whole['cases'], 'case')}, {ratio(whole['worst'])}× at worst: "
    yield f'<span class="name">{escape(whole["worst_case"])}</span></p>'
    yield f"{charts.tally([(v, whole[v]) for v in _VERDICTS], _score(whole))}"
    yield f'<p class="counts">{counts}</p>'
    yield f'<table><thead><tr><th></th><th class="chart">{axis}</th><th>mean</th><th>worst</th>{signs}</tr></thead>'
    yield f"{''.join(rows)}</table></figure>"


def _others(report: Document, first: str) -> str:
    """The other contestants of ours, one row each: what all their duels come to."""
    found = [g for g in report["groups"] if g["group"] == ALL and g["contestant"] != first]
    rows = "".join(
        f"<tr><th>{escape(g['contestant'])}</th><td>{g['threads']}</td><td>{g['cache']}</td><td>{g['cases']}</td>"
        f"<td>{ratio(g['geometric_mean'])}</td><td>{ratio(g['worst'])}</td>"
        + "".join(f'<td class="{v}">{g[v]}</td>' for v in _VERDICTS)
        + f'<td class="l">{escape(g["worst_case"])}</td></tr>'
        for g in sorted(found, key=lambda g: (g["cache"], g["threads"], -g["geometric_mean"]))
    )
    names = ("", "threads", "caches", "cases", "mean", "worst")
    heads = "".join(f"<th>{name}</th>" for name in names)
    heads += "".join(f'<th class="{v}">{v}</th>' for v in _VERDICTS) + '<th class="l">worst case</th>'
    return (
        "<details><summary>The other backends against the best rival of each case that they take</summary>"
        f'<div class="wide"><table><thead><tr>{heads}</tr></thead>{rows}</table></div></details>'
        if rows
        else ""
    )


def _score(group: Row) -> str:
    counts = ", ".join(f"{group[v]} {v}" for v in _VERDICTS)
    return f"mean {ratio(group['geometric_mean'])}, worst {ratio(group['worst'])}, {counts}"


def ratio(value: float) -> str:
    """A ratio to two digits behind the point, more where it is tiny."""
    return f"{value:.2f}" if value >= 0.095 else f"{value:.2g}"


def duel_text(duel: Row) -> str:
    """A duel as one line; no interval where the rounds were too few for one."""
    interval = f" [{ratio(duel['low'])}, {ratio(duel['high'])}]" if duel["high"] < 1e9 else ""
    return f"{duel['case']}: {duel['rival']} takes {ratio(duel['ratio'])}{interval} times as long, {duel['verdict']}"
