"""The plot of `nvc info`: bits, qp, PSNR and flags of a stream over time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nvc_cli.errors import NvcError
from nvc_cli.files import publish
from nvc_cli.plots import OWN, figure_of, png, require_matplotlib, svg
from nvc_cli.results import NVC

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from nvc_cli.listing import FrameRow, Listing

SUFFIXES = (".png", ".svg")
KEY_COLOR, FLAG_COLOR = "#1c7ed6", "#2b9348"


def check_suffix(target: str) -> None:
    """Raise NvcError for a file that is neither PNG nor SVG, and where there is no matplotlib."""
    if Path(target).suffix.lower() not in SUFFIXES:
        raise NvcError(f"cannot draw {target}: plots are .png or .svg; choose another name")
    require_matplotlib("--plot")


def draw(listing: Listing, target: str, overwrite: bool) -> None:
    """Write the plot of a stream. Raises NvcError if the stream has no frame, or the file cannot be written."""
    if not listing.rows:
        raise NvcError(f"{target} was not drawn, for want of a single frame; check the stream")
    figure = timeline(listing)
    content = png(figure) if Path(target).suffix.lower() == ".png" else svg(figure, ink=True).encode()
    with publish(target, overwrite) as file:
        file.write(content)


def timeline(listing: Listing) -> Figure:
    """A panel each for bits, qp, PSNR if it is known, and flags; time in seconds runs to the right."""
    rows = listing.rows
    known = any(row.psnr is not None for row in rows)
    heights = [3.0, 1.6, *([1.8] if known else []), 1.2]
    color = OWN[NVC][0]
    with figure_of(9.5, sum(heights), len(heights), 1, sharex=True, heights=heights) as (figure, panels):
        times, keyframes = [row.time for row in rows], [row for row in rows if row.type == "I"]
        bits, qp, *quality, flags = panels
        bits.vlines(times, 0, [8 * row.bytes for row in rows], color=color, linewidth=1.2, label="P-frame")
        bits.vlines([row.time for row in keyframes], 0, [8 * row.bytes for row in keyframes], color=KEY_COLOR, linewidth=1.8, label="keyframe")
        bits.set(ylabel="bits", ylim=(0, None), title=_title(listing))
        bits.legend(frameon=False, loc="upper right", ncols=2)
        qp.step(times, [row.qp for row in rows], color=color, linewidth=1.2, where="mid")
        qp.set(ylabel="qp")
        for panel in quality:
            panel.plot(times, [float("nan") if row.psnr is None else row.psnr for row in rows], color=color, linewidth=1.2)
            panel.set(ylabel="PSNR, dB")
        _flags(flags, rows, listing)
        figure.align_ylabels()
    return figure


def _flags(panel: Axes, rows: list[FrameRow], listing: Listing) -> None:
    """Bars where a filter is on."""
    names = ("enhance", "filter")
    width = float(1 / listing.header.fps)
    for line, name in enumerate(names):
        on = [(row.time - width / 2, width) for row in rows if getattr(row, name)]
        panel.broken_barh(on, (line - 0.35, 0.7), color=FLAG_COLOR)
    panel.set(yticks=range(len(names)), yticklabels=names, ylim=(-0.6, len(names) - 0.4), xlabel="seconds")
    panel.grid(visible=False, axis="y")


def _title(listing: Listing) -> str:
    header, totals = listing.header, listing.totals
    psnr = [row.psnr for row in listing.rows if row.psnr is not None]
    mean = f", {sum(psnr) / len(psnr):.2f} dB" if psnr else ""
    return f"{header.width}x{header.height}, {totals.frames} frames, {totals.kbps:.1f} kbit/s{mean}"
