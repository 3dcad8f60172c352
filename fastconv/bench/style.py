"""The look of the page: two colours that everybody can tell apart, light and dark."""

CSS = """
:root{--back:#fff;--ink:#1b1f24;--soft:#6b7280;--grid:#e5e7eb;--ours:#1565c0;--peer:#9aa3ad;--loss:#d55e00;--roof:#111}
@media(prefers-color-scheme:dark){:root{--back:#14171b;--ink:#e6e8eb;--soft:#9aa3ad;--grid:#2b3138;--ours:#5aa9ff;
--peer:#6d7681;--loss:#ff9248;--roof:#d0d4d9}}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1120px;margin:0 auto;padding:24px 16px 64px}
h1{font-size:30px;margin:8px 0}h2{font-size:21px;margin:44px 0 6px}h3{font-size:16px;margin:20px 0 0}
.lead{font-size:16px;color:var(--soft);margin-top:0}.small,small{font-size:13px;color:var(--soft)}
b.ours{color:var(--ours)}b.peer{color:var(--peer)}
code{font-size:13px;color:var(--soft)}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;margin:8px 0}
td,th{padding:2px 12px 2px 0;text-align:right;font-weight:400}th:first-child{text-align:left}
tr:first-child th{color:var(--soft);font-size:13px}
details{border-top:1px solid var(--grid);padding:8px 0}summary{cursor:pointer}
.pair{display:flex;flex-wrap:wrap;gap:8px 24px}.pair figure{flex:1 1 460px;min-width:0}
.sparks{display:grid;grid-template-columns:repeat(auto-fill,minmax(220px,1fr));gap:12px 20px}
figure{margin:0}figcaption{font-size:13px;color:var(--soft);overflow-wrap:anywhere}
svg{display:block;width:100%;height:auto;font-variant-numeric:tabular-nums}
svg text{font-size:12px;fill:var(--ink)}svg text.small{font-size:11px;fill:var(--soft)}
svg text{paint-order:stroke;stroke:var(--back);stroke-width:3px;stroke-linejoin:round}
svg text.value{fill:var(--soft)}svg text.wrong{fill:var(--loss)}
rect{fill:var(--peer)}.ours rect{fill:var(--ours)}.ours text.label{font-weight:600}
line.grid{stroke:var(--grid)}line.one{stroke:var(--ink);stroke-width:1.2}
line.limit{stroke:var(--ink);stroke-dasharray:3 3}line.mean{stroke:var(--ink);stroke-width:3}
line.whisker{stroke:var(--ink);stroke-width:1.5;opacity:.55}
polyline{fill:none;stroke:var(--soft)}polyline.roof{stroke:var(--roof);stroke-width:1.2}
polyline.gap{stroke:var(--grid);stroke-width:2}
polyline.curve{stroke:var(--ours);stroke-width:1.5}
circle{fill:var(--peer);fill-opacity:.75}circle.ours,circle.ahead{fill:var(--ours)}circle.behind{fill:var(--loss)}
circle:hover,g:hover rect{opacity:.6}
@media(max-width:520px){h1{font-size:24px}main{padding:12px 10px 40px}}
"""
