"""The page that `nvc compare --output` writes: one HTML file with everything in it, for light and dark screens."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from html import escape
from typing import TYPE_CHECKING

from nvc_cli import plots
from nvc_cli.conditions import Conditions
from nvc_cli.crops import Crop
from nvc_cli.ledger import Sitting
from nvc_cli.results import NVC, NVC_ENHANCED, ClipResult, Delta, Mean, comparable, used_points

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CROP_WIDTH = 270  # CSS pixels, about; parts are enlarged by whole numbers

STYLE = """
:root { color-scheme: light dark; --ink: light-dark(#1b1e21, #e4e6e8); --paper: light-dark(#fff, #16181b);
  --soft: light-dark(#5c636a, #a3a9b0); --line: light-dark(#dde1e5, #33383d); --box: light-dark(#f3f5f7, #22262a);
  --good: light-dark(#1f7a3a, #69c98a); --bad: light-dark(#b3391b, #f0936f) }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 980px; padding: 2rem 1.5rem 4rem; font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper) }
h1 { font-size: 1.7rem; margin: 0 0 .3rem }
h2 { font-size: 1.3rem; margin: 3rem 0 .5rem; border-top: 1px solid var(--line); padding-top: 1rem }
h3 { font-size: 1.05rem; margin: 1.8rem 0 .4rem }
p { max-width: 50rem; margin: .5rem 0 }
.soft, figcaption { color: var(--soft); font-size: .9rem }
figure { margin: 1rem 0 }
figcaption { max-width: 50rem; margin-top: .4rem }
svg { display: block; max-width: 100%; height: auto }
svg text { font-family: system-ui, sans-serif !important }
.scroll { overflow-x: auto }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; margin: .6rem 0 }
th, td { padding: .25rem .65rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap }
th { font-weight: 600 }
th:first-child, td:first-child { text-align: left; padding-left: 0 }
tr.total td { font-weight: 600; border-top: 2px solid var(--line) }
.words td { text-align: left; white-space: normal; overflow-wrap: anywhere }
.words th { text-align: left; vertical-align: top }
.good { color: var(--good) }
.bad { color: var(--bad) }
code, pre { font: .85rem/1.45 ui-monospace, monospace }
pre { background: var(--box); padding: .7rem .9rem; border-radius: 6px; white-space: pre-wrap; overflow-wrap: anywhere }
.crops { display: flex; flex-wrap: wrap; gap: .9rem }
.crops figure { margin: 0; max-width: 100% }
.crops img { display: block; image-rendering: pixelated; max-width: 100%; height: auto; border-radius: 3px }
.crops figcaption { line-height: 1.35; margin-top: .25rem }
.crops b { color: var(--ink) }
details { margin: .6rem 0 }
summary { cursor: pointer }
"""


@dataclass(frozen=True)
class Page:
    """What a page shows. `crops` are by clip; `command` is the line that made it, or made it complete."""

    conditions: Conditions
    command: str
    codecs: Sequence[str]
    sittings: Sequence[Sitting]
    clips: Sequence[ClipResult]
    means: Sequence[Mean]
    crops: dict[str, list[Crop]]


def render(page: Page, rates: Figure) -> str:
    """The whole page as HTML. `rates` is the plot of rate against PSNR."""
    count = f"{len(page.clips)} clip{'' if len(page.clips) == 1 else 's'}"
    title = f"{', '.join(page.codecs)} on {count}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft">Measured by nvc compare, nvc {escape(page.conditions["versions"]["nvc"])}, {escape(_dates(page.sittings))}.</p>',
        "<h2>Rate and quality</h2>",
        _figure(plots.svg(rates), "Rate is the whole coded file, on a logarithmic axis; PSNR is (6 Y + U + V) / 8 per frame in 8-bit 4:2:0, averaged over frames. "
                "Better is up and left. Points off their line cost more than a better point and count in no BD-rate."),
        *_vmaf(page),
        "<h2>BD-rates</h2>",
        *_bd_rates(page),
        "<h2>Speed</h2>",
        _speeds(page),
        *(part for result in page.clips for part in _clip(page, result)),
        "<h2>How it was measured</h2>",
        *_method(page),
    ]
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title><style>{STYLE}</style>'
    body = "\n".join(parts)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{body}\n</body></html>\n'


# ---- sections -----------------------------------------------------------------------------------


def _vmaf(page: Page) -> list[str]:
    if not page.conditions["vmaf"]:
        return []
    figure = plots.rate_plot(page.clips, page.codecs, "vmaf_neg", "VMAF NEG")
    caption = (
        "VMAF v0.6.1 NEG, averaged over frames: the model that gives no credit for sharpening and the like. It was made for 1080p on a television; "
        "on smaller pictures the order of codecs means more than the values. The tables of the clips have the plain model's figure, too."
    )
    return [_figure(plots.svg(figure), caption)]


def _bd_rates(page: Page) -> list[str]:
    codecs = [c for c in page.codecs if c.startswith(NVC)] or list(page.codecs[:1])
    intro = ("<p>How many percent more bits than the anchor a codec needs at equal PSNR, over the range of PSNR that both reach on that clip; "
             "negative where it saves bits. Where no range is common there is no figure, and the mean leaves that clip out.</p>")
    parts = [intro]
    for codec in codecs:
        means = [m for m in page.means if m.codec == codec]
        if means:
            rows = [[_name(result), *(_percent(_find(result.bd_rate, m)) for m in means)] for result in page.clips]
            total = [f"mean of {len(page.clips)}", *(_percent(m.percent, m.clips if m.left_out else None) for m in means)]
            parts.append(_table([codec, *(f"against {m.anchor}" for m in means)], rows, total))
    rest = [m for m in page.means if m.codec not in codecs]
    if rest:
        rows = [[f"{escape(m.codec)} against {escape(m.anchor)}", _percent(m.percent), str(m.clips)] for m in rest]
        parts.append(f"<details><summary>Anchors against each other</summary>{_table(['means', 'BD-rate', 'clips'], rows)}</details>")
    return parts if page.means else ["<p>There is one codec only, so there is nothing to compare.</p>"]


def _speeds(page: Page) -> str:
    if len(page.sittings) > 1:
        return (f"<p>The points were measured in {len(page.sittings)} sittings, so there is no table of speeds: what else the machine did differs from one "
                "to the next. Rates and PSNR do not depend on it. The tables of the clips say which sitting each point is of.</p>")
    rows = []
    for codec in page.codecs:
        own = [(p, r) for r in page.clips for p in r.points if p.codec == codec]
        pixels = sum(r.frames * r.width * r.height for _, r in own)
        encode, decode = (sum(r.frames / speed(p) for p, r in own) for speed in (lambda p: p.encode_fps, lambda p: p.decode_fps))
        rows.append([escape(codec), f"{pixels / encode / 1e6:.3f}", f"{pixels / decode / 1e6:.3f}"])
    caption = (f"Million luma samples a second, over all points and clips, {_threads(page)} for each codec, reading and writing of raw video included, "
               "start of the program not.")
    load, cores = page.sittings[0].load, page.conditions["machine"]["cores"]
    if load is not None:
        caption += f" When it began, {load:g} processes wanted to run on {cores} cores (the load average of the minute before)."
    return _table(["", "encoding", "decoding"], rows) + f'<p class="soft">{caption}</p>'


def _clip(page: Page, result: ClipResult) -> list[str]:
    points = sorted(comparable(result.points), key=lambda p: page.codecs.index(p.codec))
    caption = ("Bits of each frame's packet, on a logarithmic axis, and PSNR of each decoded frame, at the measured rates that are nearest to each other. "
               "Bits of the file that belong to no frame are not in the upper plot.")
    if NVC_ENHANCED in page.codecs:
        caption += f" {NVC_ENHANCED} is the stream of {NVC}, decoded with the filter outside the loop."
    return [
        f"<h2>{escape(result.clip)}</h2>",
        f'<p class="soft">{result.width}x{result.height}, {float(Fraction(result.fps)):g} frames/s, {result.frames} frames</p>',
        "<h3>Frame by frame</h3>",
        _figure(plots.svg(plots.frame_plot(points, page.codecs)), caption),
        *(_crop(crop) for crop in page.crops.get(result.clip, [])),
        f"<details><summary>All points</summary>{_points(page, result)}</details>",
    ]


def _crop(crop: Crop) -> str:
    left, top, right, bottom = crop.box
    zoom = max(1, round(CROP_WIDTH / (right - left)))
    figures = []
    for panel in crop.panels:
        data = base64.b64encode(panel.png).decode()
        lines = [f"<b>{escape(panel.label)}</b>"]
        if panel.point:
            lines += [f"{panel.point.kbps:.1f} kbit/s", f"{panel.psnr_y:.2f} dB here, {panel.point.frame_psnr[crop.frame]:.2f} dB whole frame"]
        image = f'<img width="{zoom * (right - left)}" height="{zoom * (bottom - top)}" alt="{escape(panel.label)}" src="data:image/png;base64,{data}">'
        figures.append(f'<figure style="width: {zoom * (right - left)}px">{image}<figcaption>{"<br>".join(lines)}</figcaption></figure>')
    sentence = (f"Frame {crop.frame} is {escape(crop.reason)}. Shown is the part where its squared error in luma is largest, "
                f"{right - left}x{bottom - top} samples at ({left}, {top}), enlarged {zoom} times; PSNR here is that of its luma.")
    return f'<h3>Frame {crop.frame}</h3><div class="crops">{"".join(figures)}</div><p class="soft">{sentence}</p>'


def _points(page: Page, result: ClipResult) -> str:
    used, several = used_points(result.points), len(result.sittings) > 1
    beaten = len(used) < len(result.points)
    scores = page.conditions["vmaf"]
    head = ["codec", "qp/crf", "kbit/s", "PSNR dB", "Y", "U", "V", *(["VMAF", "VMAF NEG"] if scores else []), "encode fps", "decode fps"]
    head += (["sitting"] if several else []) + ([""] if beaten else [])
    rows = []
    for p in result.points:
        figures = [f"{p.quality:g}", f"{p.kbps:.2f}", *(f"{value:.2f}" for value in (p.psnr, p.psnr_y, p.psnr_u, p.psnr_v))]
        if scores:
            figures += [f"{p.vmaf:.2f}", f"{p.vmaf_neg:.2f}"]
        remarks = ([str(p.sitting + 1)] if several else []) + (["" if p in used else "costs more than a better point"] if beaten else [])
        rows.append([escape(p.codec), *figures, f"{p.encode_fps:.1f}", f"{p.decode_fps:.1f}", *remarks])
    warning = '<p class="soft">These points are of several sittings: their speeds are not comparable from one to the other.</p>' if several else ""
    return _table(head, rows) + warning


def _method(page: Page) -> list[str]:
    c = page.conditions
    machine, own = c["machine"], f"model {c['model']} (weights {c['weights']}), qps {', '.join(c['qps'])}"
    own += f", filter {c['filter']}, decision {c['decision'] or 'by effort'}, effort {c['effort']}, references {c['references']}"
    loads = [f", load average {s.load:g}" if s.load is not None else "" for s in page.sittings]
    rows = [
        ["frames", f"the first {c['frames']} of each clip at most, as raw 8-bit 4:2:0, one keyframe"],
        *([[NVC, escape(own)]] if c["qps"] else []),
        *([escape(name), f"{escape(summary)}<br><code>{escape(c['anchor_settings'][name])}</code>"] for name, summary in c["anchors"].items()),
        ["versions", escape(", ".join(f"{name} {value}" for name, value in c["versions"].items()))],
        ["machine", escape(f"{machine['processor']}, {machine['cores']} cores, {machine['system']}; {_threads(page)} for each codec")],
        ["sittings", "<br>".join(escape(f"{i}: {s.date}{load}") for i, (s, load) in enumerate(zip(page.sittings, loads), 1))],
        ["clips", "<br>".join(f"{escape(r.clip)} <code>{r.sha256[:16]}</code>" for r in page.clips) + "<br>SHA-256 of the raw frames, beginning"],
    ]
    body = "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in rows)
    return [f"<pre>{escape(page.command)}</pre>", f'<table class="words">{body}</table>',
            '<p class="soft">points.json beside this page has all figures, streams/ the coded files.</p>']


# ---- pieces -------------------------------------------------------------------------------------


def _figure(element: str, caption: str) -> str:
    return f"<figure>{element}<figcaption>{caption}</figcaption></figure>"


def _table(head: Iterable[str], rows: Iterable[Sequence[str]], total: Sequence[str] | None = None) -> str:
    """A table of cells that are HTML already, under headings that are not; `total` is a last row."""
    cells = ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows]
    if total:
        cells.append('<tr class="total">' + "".join(f"<td>{cell}</td>" for cell in total) + "</tr>")
    headings = "".join(f"<th>{escape(heading)}</th>" for heading in head)
    return f'<div class="scroll"><table><tr>{headings}</tr>{"".join(cells)}</table></div>'


def _percent(value: float | None, clips: int | None = None) -> str:
    """Coloured by what it means; `clips` says of how many it is a mean, where that is not of all."""
    if value is None:
        return "none"
    basis = f" (of {clips})" if clips is not None else ""
    return f'<span class="{"good" if value < 0 else "bad"}">{f"{value:+.1f}".replace("-", "−")} %</span>{basis}'


def _find(deltas: Sequence[Delta], pair: Mean) -> float | None:
    return next(d.percent for d in deltas if (d.codec, d.anchor) == (pair.codec, pair.anchor))


def _name(result: ClipResult) -> str:
    return f"{escape(result.clip)}, {result.width}x{result.height}"


def _threads(page: Page) -> str:
    threads = page.conditions["threads"]
    return f"{threads} thread{'' if threads == 1 else 's'}"


def _dates(sittings: Sequence[Sitting]) -> str:
    dates = list(dict.fromkeys(s.date[:10] for s in sittings))
    return " to ".join([dates[0], dates[-1]] if len(dates) > 1 else dates)
