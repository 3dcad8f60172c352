"""The look of the page: colours that everybody can tell apart, light and dark, wide and narrow."""

CSS = """
:root{--back:#fff;--ink:#1a1d21;--soft:#59616b;--grid:#e4e7eb;--ours:#0b66b7;--peer:#9aa3ad;--peertext:#59616b;
--loss:#c2410c;--tie:#8a8f98;--shade:#f4f6f8}
@media(prefers-color-scheme:dark){:root{--back:#14171b;--ink:#e8eaed;--soft:#a3abb5;--grid:#2c3239;--ours:#56a8f5;
--peer:#707a86;--peertext:#a3abb5;--loss:#ff9148;--tie:#8a929c;--shade:#1c2127}}
*{box-sizing:border-box}html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--back);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:1220px;margin:0 auto;padding:28px 20px 72px}
h1{font-size:32px;line-height:1.2;letter-spacing:-.02em;margin:0 0 6px}
h2{font-size:22px;letter-spacing:-.01em;margin:56px 0 4px;scroll-margin-top:8px}h3{font-size:15px;margin:28px 0 4px}
p{margin:4px 0 12px;max-width:80ch}
.lead{color:var(--soft);margin:0 0 12px}.small{font-size:13px;font-weight:400;color:var(--soft)}
nav{display:flex;flex-wrap:wrap;gap:4px 20px;border-block:1px solid var(--grid);padding:8px 0;margin:14px 0}
a{color:var(--ours);text-decoration:none}a:hover{text-decoration:underline}
b.ours{color:var(--ours)}b.peer{color:var(--peertext)}b.behind{color:var(--loss)}code{font-size:12.5px;color:var(--soft)}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:13px;line-height:1.3}
td,th{padding:1px 0 1px 12px;text-align:right;font-weight:400;white-space:nowrap}
th:first-child,.l{text-align:left}th:first-child{padding-left:0}
thead th{color:var(--soft);font-size:12px}.wide{overflow-x:auto}
.probes{font-size:14px;margin:4px 0 12px}.probes td,.probes th{padding-left:24px}.probes th:first-child{padding-left:0}
details{border-top:1px solid var(--grid);padding:8px 0}summary{cursor:pointer}
.who li{margin:3px 0}ul{margin:6px 0;padding-left:20px}
.pair{display:flex;flex-wrap:wrap;gap:24px 36px}.pair figure{flex:1 1 480px;min-width:0;max-width:100%}
figure{margin:0}figcaption{font-weight:600;overflow-wrap:anywhere}
.panels figcaption{font-size:13px;font-weight:400;color:var(--ink)}
.panels{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(340px,100%),1fr));gap:14px 28px}
svg{display:block;width:100%;overflow:visible;font-variant-numeric:tabular-nums}
svg.plane,svg.panel{height:auto}
svg text{font-size:11.5px;fill:var(--ink);paint-order:stroke;stroke:var(--back);stroke-width:3px;stroke-linejoin:round}
svg text.small{font-size:11px;fill:var(--soft)}svg text.name{font-size:10.5px;fill:var(--soft)}
.big{margin:2px 0 8px}.name{white-space:nowrap}.big b{font-size:30px;letter-spacing:-.02em;margin-right:4px}
.tally{height:10px}.tally rect{height:10px}
.ahead,svg .ahead{fill:var(--ours);color:var(--ours)}.behind,svg .behind{fill:var(--loss);color:var(--loss)}
.undecided,svg .undecided{fill:var(--tie);color:var(--soft)}
.counts{display:flex;gap:20px;font-size:13px;margin:4px 0 10px}
.duels table{width:100%}.duels .chart{width:60%}.duels td:not(.chart),.duels th:not(:first-child){padding-left:10px}
.duels .all th,.duels .all td{border-bottom:1px solid var(--grid);font-weight:600;padding-bottom:4px}
.axis{height:18px}.axis text{text-anchor:middle;fill:var(--soft);font-size:11px}
.dots rect.g,.dots rect.one{width:1px;height:100%;fill:var(--grid)}.dots rect.one{fill:var(--ink)}
.dots rect.mean{width:3px;height:100%;fill:var(--ink);transform:translateX(-1.5px);opacity:.35}
.dots circle,.dots .behind rect{fill-opacity:.85;stroke:var(--back);stroke-width:.7}
.dots .behind rect{transform-box:fill-box;transform-origin:center;transform:translateX(-3.5px) rotate(45deg)}
.dots .undecided circle{fill:var(--back);stroke:var(--tie);stroke-width:2}
.chip{font-size:12.5px;margin-left:14px;white-space:nowrap}.case summary{line-height:1.7}
.case .small{margin:0 0 8px;max-width:none}.bars{margin:2px 0 10px;width:100%}
.bars .chart{width:17%;min-width:90px;padding:0 0 0 14px;height:20px}
.bars thead th[colspan]{text-align:left;padding:2px 0 0 14px;color:var(--ink);font-weight:600}
.bars thead th:first-child{color:var(--soft)}
.bar{height:20px;overflow:hidden}.bar rect{y:4px;height:12px;fill:var(--peer)}.ours .bar rect{fill:var(--ours)}
.bar rect.w,.ours .bar rect.w{y:9px;height:2px;fill:var(--ink);min-width:1px;opacity:.75}
.bar rect.l,.ours .bar rect.l{y:0;height:100%;width:1px;fill:var(--ink);opacity:.6}
.cold .bar rect:first-child{fill:none;stroke:var(--peer);stroke-width:2;stroke-dasharray:4 2}
.cold .ours .bar rect:first-child{stroke:var(--ours)}
.ours>th{color:var(--ours);font-weight:600}.best{font-weight:700}td.wrong{color:var(--loss)}td.wrong[colspan]{text-align:left;padding-left:14px}
.bars td.l{color:var(--soft);max-width:15em;overflow:hidden;text-overflow:ellipsis}
.bars tr:hover td,.bars tr:hover th,.duels tr:hover td,.duels tr:hover th{background:var(--shade)}
polyline{fill:none}.grid{stroke:var(--grid)}.axis{stroke:var(--soft)}.roof{stroke:var(--ink);stroke-dasharray:5 3}
.gap{stroke:var(--soft);opacity:.45}.lead{stroke:var(--grid)}
circle.ours{fill:var(--ours)}path.peer{fill:var(--peertext)}.faint{opacity:.45}
.plane text.who{fill:var(--soft)}.plane .ours text.who{fill:var(--ours);font-weight:600}
.series:hover circle,.series:hover path,.series:focus circle,.series:focus path{opacity:1;stroke:var(--loss);
stroke-width:2}.series:hover text,.series:focus text{font-weight:700}.series{outline:none}
.curve{stroke-width:1.6}.panel .series{color:var(--c)}.panel polyline.curve{stroke:var(--c)}
.panel circle,.panel .series text.name{fill:var(--c)}
.panel .series:hover .curve{stroke-width:3.5}
.c0{--c:#0b66b7}.c1{--c:#a3520a}.c2{--c:#59616b}.c3{--c:#12805c}.c4{--c:#a23b86}.c5{--c:#6d6a00}
@media(prefers-color-scheme:dark){.c0{--c:#56a8f5}.c1{--c:#f2a65a}.c2{--c:#a3abb5}.c3{--c:#45c39a}.c4{--c:#e38acb}
.c5{--c:#c9c23f}}
@media(max-width:600px){main{padding:16px 12px 48px}h1{font-size:26px}.pair figure{flex-basis:100%}.chip{margin-left:0;
margin-right:12px}.bars .x{display:none}.bars thead th[colspan]{padding-left:8px}.bars td,.bars th{padding-left:8px}
.plane text,.plane text.small{font-size:14px}.plane text.who{font-size:13px}.probes td,.probes th{padding-left:14px}
.plane>text.name{display:none}.counts{gap:12px}.duels .chart{width:44%}}
@media(max-width:400px){.axis text{font-size:9px}}
"""
