"""The study's results as tables in Markdown and as plots."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from coding import DECISIONS, Run
from complexity import Costs
from reconstruction import Bound

from models.cycle import CYCLE
from nvc_cli.metrics import bd_rate

OFF = DECISIONS[0]
AUTO = "heuristic"


def table(head: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def percent(value: float | None) -> str:
    return "" if value is None else f"{value:+.2f} %"


def mean(values: Iterable[float]) -> float:
    values = list(values)
    return sum(values) / len(values)


class Study:
    """All runs of a study, and what follows from them.

    Args:
        runs: of all clips, decisions and qps, of equal length.
        kinds: of content, by clip.
        bounds: of the third part, of all clips and qps.
        long: one run with the filter off and one with the heuristic for every clip of the fifth part.
        costs: of the sixth part.
    """

    def __init__(self, runs: list[Run], kinds: dict[str, str], bounds: list[Bound], long: list[Run], costs: Costs):
        self.runs, self.kinds, self.bounds, self.long, self.costs = runs, kinds, bounds, long, costs
        self.clips = list(dict.fromkeys(run.clip for run in runs))
        self.decisions = list(dict.fromkeys(run.decision for run in runs))

    def curve(self, clip: str, decision: str, enhanced: bool) -> list[tuple[int, float]]:
        """Bytes and PSNR by qp."""
        return [(r.bytes, mean(r.enhanced if enhanced else r.psnr)) for r in self.runs if (r.clip, r.decision) == (clip, decision)]

    def saving(self, clip: str, decision: str, enhanced: bool = False) -> float:
        """BD-rate against neither filter, in percent."""
        return bd_rate(*zip(*self.curve(clip, OFF, False)), *zip(*self.curve(clip, decision, enhanced)))

    def filters(self) -> dict[str, dict[str, float]]:
        """Part 1: BD-rates of each filter and of both, by clip."""
        ways = {"in the loop": (AUTO, False), "out of the loop": (OFF, True), "both": (AUTO, True)}
        return {clip: {name: self.saving(clip, *way) for name, way in ways.items()} for clip in self.clips}

    def choices(self) -> dict[str, dict[str, object]]:
        """Part 2: each decision's BD-rates, time, and where the flag is set."""
        result = {}
        for decision in self.decisions:
            own = [run for run in self.runs if run.decision == decision]
            places = [[flag for run in own for flag in run.filtered[1 + k :: len(CYCLE)]] for k in range(len(CYCLE))]
            result[decision] = {
                "bd_rate": {clip: self.saving(clip, decision) for clip in self.clips},
                "encoding_seconds": sum(run.encoding for run in own),
                "filtered": mean(flag for run in own for flag in run.filtered[1:]),
                "filtered_by_place": [mean(flags) for flags in places],
            }
        return result

    def places(self) -> dict[str, dict[str, float]]:
        """Part 3: BD-rates of filtering the context, and of filtering the reconstruction with solved kernels, by clip."""
        return {
            clip: {
                "context": self.saving(clip, AUTO),
                "reconstruction, bound": bd_rate(
                    *zip(*self.curve(clip, OFF, False)), *zip(*((b.bytes, mean(b.psnr)) for b in self.bounds if b.clip == clip))
                ),
            }
            for clip in self.clips
        }

    def drift(self) -> list[tuple[str, list[float]]]:
        """Part 5: what the filter adds to the PSNR of each frame, by clip."""
        by_clip = {(run.clip, run.decision): run.psnr for run in self.long}
        clips = dict.fromkeys(run.clip for run in self.long)
        return [(clip, [on - off for on, off in zip(by_clip[clip, AUTO], by_clip[clip, OFF])]) for clip in clips]

    def results(self) -> dict[str, object]:
        """Everything that the tables show, for JSON."""
        return {
            "kinds": self.kinds,
            "filters": self.filters(),
            "decisions": self.choices(),
            "places": self.places() if self.bounds else {},
            "gain_by_frame": dict(self.drift()),
            "complexity": vars(self.costs),
        }

    def markdown(self, command: str, architectures: str) -> str:
        """All tables; that of architectures is another program's."""
        first = self.runs[0]
        qps = ", ".join(f"{qp:g}" for qp in sorted({run.qp for run in self.runs}))
        return "\n\n".join(
            (
                "# The two filters, measured",
                f"    {command}",
                f"{len(self.clips)} clips, {len(first.psnr)} frames, qps {qps}; BD-rates are against the filter off and no enhancement, with the same "
                "weights, which were trained with the filter on and off at random. Every stream was decoded, and every picture was the encoder's.",
                "## 1. Each filter's share",
                self._by_clip(self.filters()),
                "## 2. When the in-loop filter is on",
                self._choices(),
                *(self._places() if self.bounds else ()),
                "## 4. Architectures of the in-loop filter",
                architectures,
                "## 5. Errors over time",
                self._drift(),
                "## 6. Complexity",
                self._complexity(),
            )
        ) + "\n"

    def _by_clip(self, found: dict[str, dict[str, float]]) -> str:
        """BD-rates by clip, with means by kind of content and of all."""
        names = list(next(iter(found.values())))
        rows = [(clip, self.kinds[clip], *(percent(values[name]) for name in names)) for clip, values in found.items()]
        kinds = dict.fromkeys(self.kinds[clip] for clip in self.clips)
        for kind in kinds if len(kinds) > 1 else ():
            of_kind = [values for clip, values in found.items() if self.kinds[clip] == kind]
            rows.append((f"mean of {kind}", "", *(percent(mean(values[name] for values in of_kind)) for name in names)))
        rows.append((f"mean of {len(found)}", "", *(percent(mean(values[name] for values in found.values())) for name in names)))
        return table(("clip", "kind", *names), rows)

    def _places(self) -> tuple[str, str, str]:
        return (
            "## 3. In the loop: on the context, or on the reconstruction",
            "The context's filter with the heuristic, beside kernels of the reconstruction that are solved against the source in four classes of samples and whose "
            "bits are not counted: more than a stream could hold. Both are used in the frames in which they take away error.",
            self._by_clip(self.places()),
        )

    def _choices(self) -> str:
        found = self.choices()
        base = found[OFF]["encoding_seconds"]
        rows = []
        for decision, values in found.items():
            deltas = values["bd_rate"].values()
            places = " ".join(f"{100 * part:.0f}" for part in values["filtered_by_place"])
            rows.append((decision, percent(mean(deltas)), percent(max(deltas)), f"{values['encoding_seconds'] / base:.2f}", f"{100 * values['filtered']:.0f} %", places))
        head = ("decision", "mean BD-rate", "worst clip", "time of encoding", "P-frames filtered", "by place in the quality cycle, %")
        return table(head, rows)

    def _drift(self) -> str:
        quarters = 4
        rows = []
        for clip, gains in self.drift():
            size = len(gains) // quarters
            rows.append((clip, len(gains), *(f"{mean(gains[k * size : (k + 1) * size]):+.3f}" for k in range(quarters))))
        frames = max(len(run.psnr) for run in self.long)
        head = ("clip", "frames", *(f"{part} quarter" for part in ("first", "second", "third", "last")))
        return f"PSNR with the heuristic less that with the filter off, dB, {frames} frames or all there are, at qp {self.long[0].qp:g}.\n\n" + table(head, rows)

    def _complexity(self) -> str:
        costs = self.costs
        return "\n\n".join(
            (
                table(("network", "parameters"), [(name, f"{count:,}") for name, count in costs.parameters.items()]),
                table(("coding of", "kMAC/pixel"), [(name.replace("_", " "), f"{value:.1f}") for name, value in costs.operations.items()]),
                f"A P-frame of {costs.clip}, on one thread of the CPU, medians:",
                table(("part", "ms"), [(name, f"{value:.1f}") for name, value in costs.milliseconds.items()]),
            )
        )

    def plot(self, folder: Path) -> None:
        """Write filters.png, decisions.png and frames.png."""
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

        found = self.filters()
        figure, axes = pyplot.subplots(figsize=(10, 4), layout="constrained")
        names = list(next(iter(found.values())))
        for k, name in enumerate(names):
            axes.bar([place + 0.27 * (k - 1) for place in range(len(found))], [values[name] for values in found.values()], 0.25, label=name)
        axes.set_xticks(range(len(found)), list(found), rotation=20, ha="right")
        axes.set_ylabel("BD-rate, %")
        axes.legend()
        figure.savefig(folder / "filters.png", dpi=120)

        figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
        for decision, values in self.choices().items():
            axes.scatter(values["encoding_seconds"], mean(values["bd_rate"].values()))
            axes.annotate(decision, (values["encoding_seconds"], mean(values["bd_rate"].values())), xytext=(4, 4), textcoords="offset points")
        axes.set_xlabel("encoding, s of the processor")
        axes.set_ylabel("BD-rate, %")
        figure.savefig(folder / "decisions.png", dpi=120)

        figure, axes = pyplot.subplots(figsize=(10, 4), layout="constrained")
        for clip, gains in self.drift():
            axes.plot(gains, label=clip, linewidth=1)
        axes.axhline(0, color="black", linewidth=0.5)
        axes.set_xlabel("frame")
        axes.set_ylabel("gain by the in-loop filter, dB")
        axes.legend()
        figure.savefig(folder / "frames.png", dpi=120)
        pyplot.close("all")
