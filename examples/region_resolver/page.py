"""The report as files: JSON for machines, one self-contained HTML page for people."""

from __future__ import annotations

import json
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Final

from .chart import drawing
from .live import MOVED, SHOWN, move_cells
from .moved import BOUND
from .report import Check, Report, Row

__all__ = ["page", "write_report"]

STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c2330; --soft: #667085; --paper: #ffffff; --card: #f5f6f8; --rule: #dfe3e8;
  --naive: #c2571a; --resilient: #0b7a75; --failed: #d92d20; --wrong: #7a2fd0; --fine: #a9d5b8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --soft: #98a2b3; --paper: #12161d; --card: #1a202a;
  --rule: #2b3340; --naive: #f0935a; --resilient: #45c4bc; --failed: #f0625a; --wrong: #b184f5; --fine: #2d5c43; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1120px; padding: 40px 20px 64px; background: var(--paper); color: var(--ink);
  font: 15px/1.55 system-ui, sans-serif; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 8px; letter-spacing: -.01em; }
h2 { font-size: 17px; margin: 40px 0 12px; }
p { margin: 0 0 12px; max-width: 75ch; color: var(--soft); }
.cards { display: grid; grid-template-columns: 1fr 1fr; gap: 16px; margin: 24px 0; }
.card { background: var(--card); border-radius: 12px; padding: 18px 20px; border-top: 4px solid var(--naive); }
.card.resilient { border-color: var(--resilient); }
.card b { display: block; font-size: 16px; } .card .numbers { display: flex; flex-wrap: wrap; gap: 4px 28px; }
.numbers div { color: var(--soft); } .numbers strong { font-size: 30px; color: var(--ink); margin-right: 6px; }
.numbers .bad strong { color: var(--failed); }
.scroll { overflow-x: auto; } svg { display: block; width: 100%; min-width: 760px; height: auto; }
svg text { font: 11px system-ui, sans-serif; fill: var(--soft); } svg .act { fill: var(--ink); }
svg text.naive { fill: var(--naive); font-weight: 600; }
svg text.resilient { fill: var(--resilient); font-weight: 600; }
.band { fill: transparent; } .band.even { fill: var(--card); } .grid { stroke: var(--rule); }
.failed { fill: var(--failed); } .wrong { fill: var(--wrong); } .fine { fill: var(--fine); }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; } .line.naive { stroke: var(--naive); }
.line.resilient { stroke: var(--resilient); }
.key { display: flex; flex-wrap: wrap; gap: 6px 20px; color: var(--soft); font-size: 13px; margin: 10px 0 0 64px; }
.key i { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: 6px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 14px; }
th, td { padding: 6px 8px; text-align: right; border-bottom: 1px solid var(--rule); white-space: nowrap; }
th { color: var(--soft); font-weight: 500; } th.side { text-align: center; border-bottom-width: 2px; }
th:first-child, td:first-child { text-align: left; } td small { color: var(--soft); display: block; }
td.first { border-left: 1px solid var(--rule); } td.hot { color: var(--failed); font-weight: 600; }
td.odd { color: var(--wrong); font-weight: 600; }
ul { list-style: none; padding: 0; } li { padding: 5px 0 5px 84px; position: relative; }
li b { position: absolute; left: 0; } .kept b { color: var(--resilient); } .broken b { color: var(--failed); }
@media (max-width: 640px) { .cards { grid-template-columns: 1fr; } }
"""
LEGEND: Final = (("fine", "right answer"), ("failed", "5xx"), ("wrong", "wrong region"), ("naive", "p99, naive"))
COLUMNS: Final = ("req", "5xx", "wrong", "p50 ms", "p99 ms", "loads")


def write_report(report: Report, folder: Path) -> list[Path]:
    """Write `report.json` and `index.html` into `folder`, which is made if need be; the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers, drawn = folder / "report.json", folder / "index.html"
    numbers.write_text(json.dumps({"ok": report.ok, **asdict(report)}, indent=1) + "\n", encoding="utf-8")
    drawn.write_text(page(report), encoding="utf-8")
    return [numbers, drawn]


def page(report: Report) -> str:
    """The whole page; refers to nothing outside itself."""
    title = "The cache failed. The router did not." if report.ok else "The router failed with its cache."
    legend = (*LEGEND, ("resilient", "p99, resilient"))
    key = "".join(f'<span><i style="background:var(--{kind})"></i>{words}</span>' for kind, words in legend)
    settings = report.settings
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{STYLE}</style></head><body>
<h1>{title}</h1>
<p>Two routers map a host name to its tenant's home region, on the same traffic: {settings.rate:g} requests a second
each, through one incident. The record they can both ask takes {settings.record_delay * 1000:.0f} ms; entries are fresh
for {settings.ttl:g} s. Seed {settings.seed}.</p>
<div class="cards">{_card(report, "naive", "plain client")}{_card(report, "resilient", "resilient_cache")}</div>
<h2>Answers, and the 99th percentile of latency</h2>
<div class="scroll">{drawing(report)}</div><div class="key">{key}
<span>In the act “nothing” nobody knows the answer: a 503 is right, a guess would not be.</span></div>
<h2>Act by act</h2><div class="scroll">{_table(report)}</div>{_moved(report)}{_skipped(report)}
<h2>Promises</h2><ul>{"".join(map(_promise, report.checks))}</ul>
</body></html>
"""


def _card(report: Report, name: str, with_what: str) -> str:
    told = [
        (sum(rows[name].requests for rows in report.rows.values()), "requests", False),
        (sum(rows[name].failed for act, rows in report.rows.items() if act != "nothing"), "5xx", True),
        (sum(rows[name].wrong for rows in report.rows.values()), "wrong regions", True),
    ]
    numbers = "".join(
        f'<div class="{"bad" if count and bad else ""}"><strong>{count}</strong>{escape(words)}</div>'
        for count, words, bad in told
    )
    return f'<div class="card {name}"><b>{name}: {with_what}</b><div class="numbers">{numbers}</div></div>'


def _table(report: Report) -> str:
    heads = "".join(f"<th>{column}</th>" for column in COLUMNS)
    lines = "".join(
        f"<tr><td>{escape(str(act['name']))}<small>{escape(str(act['says']))}</small></td>"
        + "".join(_cells(row) for row in map(report.rows[str(act["name"])].__getitem__, SHOWN))
        + "</tr>"
        for act in report.acts
    )
    sides = "".join(f'<th class="side" colspan="{len(COLUMNS)}">{name}</th>' for name in SHOWN)
    return f"<table><tr><th></th>{sides}</tr><tr><th>act</th>{heads}{heads}</tr>{lines}</table>"


def _moved(report: Report) -> str:
    if not report.moved:
        return ""
    heads = "".join(f"<th>{head}</th>" for head in MOVED)
    lines = "".join(
        "<tr>" + "".join(f"<td>{cell}</td>" for cell in move_cells(move)) + "</tr>" for move in report.moved
    )
    return f"""<h2>Three routers</h2>
<p>Answers with a region that the tenant had left, while the store, or the store and the one router that had been told,
were down. Promised: none from the one that was told, and none from the others later than {BOUND:g} s after the store
has confirmed what it was owed.</p><div class="scroll"><table><tr>{heads}</tr>{lines}</table></div>"""


def _cells(row: Row) -> str:
    hot, odd = ("hot" if row.failed else ""), ("odd" if row.wrong else "")
    return (
        f'<td class="first">{row.requests}</td><td class="{hot}">{row.failed}</td><td class="{odd}">{row.wrong}</td>'
        f"<td>{row.p50_ms:.1f}</td><td>{row.p99_ms:.1f}</td><td>{row.loads}</td>"
    )


def _skipped(report: Report) -> str:
    if not report.skipped:
        return ""
    return f"<p>Not played, as the store is not ours to kill: {escape(', '.join(report.skipped))}.</p>"


def _promise(check: Check) -> str:
    verdict = "kept" if check.kept else "broken"
    return f'<li class="{verdict}"><b>{verdict}</b>{escape(check.promise)}: {escape(check.seen)}</li>'
