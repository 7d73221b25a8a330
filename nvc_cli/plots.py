"""The plots of `nvc compare`, drawn once by matplotlib and written as SVG for the page and as PNG."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from nvc_cli.errors import NvcError
from nvc_cli.results import NVC, NVC_ENHANCED, ClipResult, Point, used_points

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OWN = {NVC: ("#e8590c", "o", "-"), NVC_ENHANCED: ("#e8590c", "o", "--")}  # colour, marker, line
COLORS = ("#1c7ed6", "#2b9348", "#a34fd1", "#c92a2a", "#0c8599", "#b08900", "#868e96", "#d6336c")  # of anchors
MARKERS = "Ds^vPX*<"
INK = "#1b1e21"  # of all that is neither curve nor paper; in a page it is the colour of the text around
GRID = "#8b8f9640"
PANEL = (4.4, 3.5)  # inches
COLUMNS = 2


def require_matplotlib(option: str) -> None:
    """NvcError if there is none; `option` is what asks for it."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise NvcError(f"the plots of {option} need matplotlib, which is not installed; pip install '.[compare]', or leave {option} away") from None


def rate_plot(results: Sequence[ClipResult], codecs: Sequence[str], quality: str = "psnr", label: str = "PSNR, dB") -> Figure:
    """A panel a clip: a quality of the points over their rate. Points that a better one costs less than are not joined to the curve."""
    columns = min(COLUMNS, len(results))
    rows = -(-len(results) // columns)
    with figure_of(columns * PANEL[0], rows * PANEL[1] + 0.5, rows, columns) as (figure, axes):
        for ax, result in zip(axes, results):
            ax.set_title(f"{result.clip}, {result.width}x{result.height}, {result.frames} frames")
            ax.set(xscale="log", xlabel="kbit/s", ylabel=label)
            for codec in codecs:
                curve = used_points(p for p in result.points if p.codec == codec)
                others = [p for p in result.points if p.codec == codec and p not in curve]
                style = _style(codec, codecs)
                ax.plot([p.kbps for p in curve], [getattr(p, quality) for p in curve], **style, label=codec)
                ax.plot([p.kbps for p in others], [getattr(p, quality) for p in others], **style | {"linestyle": ""})
            _plain_numbers(ax)
        for ax in axes[len(results) :]:
            ax.set_visible(False)
        _legend(figure, axes[0])
    return figure


def frame_plot(points: Sequence[Point], codecs: Sequence[str]) -> Figure:
    """Bytes and PSNR of every frame, of one point a codec."""
    with figure_of(9.5, 5.4, 2, 1, sharex=True) as (figure, (sizes, quality)):
        for point in points:
            style = _style(point.codec, codecs) | {"markersize": 3.5}
            sizes.plot([8 * size for size in point.frame_bytes], **style)
            quality.plot(point.frame_psnr, label=f"{point.codec}, {point.kbps:.1f} kbit/s", **style)
        sizes.set(yscale="log", ylabel="bits")
        quality.set(ylabel="PSNR, dB", xlabel="frame")
        _plain_numbers(sizes, "y")
        _whole_numbers(quality)
        figure.align_ylabels()
        _legend(figure, quality)
    return figure


def svg(figure: Figure, ink: bool = False) -> str:
    """The figure as an element for a page: it takes the font of the text around it, and its colour unless `ink` is to stay."""
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    element = re.sub(r"<metadata>.*?</metadata>", "", text.getvalue()[text.getvalue().index("<svg") :], flags=re.DOTALL)
    return re.sub(r'<g id="[^"]*"', "<g", element).replace(INK, INK if ink else "currentColor")


def png(figure: Figure) -> bytes:
    """The figure as a picture on white paper."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, facecolor="white")
    return buffer.getvalue()


@contextmanager
def figure_of(
    width: float, height: float, rows: int, columns: int, sharex: bool = False, heights: Sequence[float] | None = None
) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure of that size in inches, and its panels, to be drawn in the block; `heights` are those of its rows, in proportion."""
    import matplotlib
    from matplotlib.figure import Figure

    inked = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    style: Any = dict.fromkeys(inked, INK) | {
        "svg.fonttype": "none",
        "font.size": 9,
        "axes.titlesize": 10,
        "figure.constrained_layout.h_pad": 0.1,  # inches
        "axes.grid": True,
        "axes.grid.which": "both",
        "grid.color": GRID,
        "grid.linewidth": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, list(figure.subplots(rows, columns, sharex=sharex, squeeze=False, height_ratios=heights).flat)


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(5, len(labels)), frameon=False)


def _plain_numbers(axes: Axes, which: str = "x") -> None:
    """100, 200, 500 on a logarithmic axis, not powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _whole_numbers(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _style(codec: str, codecs: Sequence[str]) -> dict[str, Any]:
    """How a codec is drawn: nvc always in the same way, enhanced as dashes with hollow marks; anchors in their order."""
    anchors = [c for c in codecs if c not in OWN]
    i = anchors.index(codec) if codec in anchors else 0
    color, marker, line = OWN.get(codec, (COLORS[i % len(COLORS)], MARKERS[i % len(MARKERS)], "-"))
    hollow = {"markerfacecolor": "none"} if codec == NVC_ENHANCED else {}
    return {"color": color, "marker": marker, "linestyle": line, "linewidth": 1.4, "markersize": 4.5, **hollow}
