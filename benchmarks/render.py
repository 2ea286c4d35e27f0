"""Render tables and plots from the JSON lines: ``python -m benchmarks.render`` writes ``results/README.md``."""

from __future__ import annotations

import argparse
import json
import operator
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.cases import COURSE, FLOPS, GROWING, GROWTH, LARGE, OURS, PLAIN, TRAINING, WEIGHTS, Case
from benchmarks.record import RESULTS, read

Line = dict[str, Any]

KID_TARGETS = (200, 150, 100, 75, 50)
ACCURACY_TARGETS = (0.6, 0.75)
AXES = {"kid": "KID x 1000", "accuracy": "accuracy of the reference classifier"}


def main() -> None:
    """Read all results of a folder, and write its page and its plots."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.render", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder of the JSON lines")
    folder = parser.parse_args().results
    lines = read(*sorted(folder.glob("*.jsonl")))
    parts = [
        _machines(lines),
        *(_throughput(lines, table, [*TRAINING, *LARGE]) for table in (WEIGHTS, FLOPS, COURSE)),
        _throughput(lines, GROWTH, GROWING),
        _time_to_quality(lines, folder),
        _sampling(lines, folder),
        _embedding(lines),
        _runtimes(lines),
        _others(lines),
    ]
    text = "# Measured\n\nMade by `python -m benchmarks.render` from the JSON lines beside this page.\n\n"
    found = "\n".join(part for part in parts if part) or "Nothing yet.\n"
    (folder / "README.md").write_text(text + found, encoding="utf-8")


def _machines(lines: Sequence[Line]) -> str:
    """Return where everything was measured."""
    places = {(one["processor"], one["device"], one["cores"], one["threads"], one["commit"]) for one in lines}
    rows = [[*map(str, place[:4]), place[4][:12] + place[4][40:]] for place in sorted(places, key=str)]
    note = "What was measured differs from a commit with a +.\n" if any(row[4].endswith("+") for row in rows) else ""
    return _table(["processor", "device", "cores", "threads", "commit"], rows) + note if rows else ""


def _throughput(lines: Sequence[Line], table: str, chosen: Iterable[Case]) -> str:
    """Return a table of training throughput, each ratio beside the weights and FLOPs of both networks."""
    found = _grouped((one for one in lines if one["benchmark"] == "train"), lambda one: one["case"])
    parts = []
    for size, precision in sorted({(case["size"], case["precision"]) for case, _ in found}):
        members = [case.record(precision) for case in chosen if table in case.tables and case.size == size]
        rows = [(case, several) for case, several in found if case in members]
        if rows and table == COURSE:  # beside the default network, which has far fewer weights
            default = Case(OURS, OURS, size, PLAIN).record(precision)
            rows = [(case, several) for case, several in found if case == default] + rows
        ours = {case["batch"]: _rate(several) for case, several in rows if case["name"] == OURS}
        if rows:
            cells = [_throughput_row(case, several, ours.get(case["batch"])) for case, several in rows]
            parts.append(f"### {size} pixels, {precision}\n\n" + _table(THROUGHPUT_COLUMNS, cells))
    return f"## Training throughput: {table}\n\n" + "\n".join(parts) if parts else ""


THROUGHPUT_COLUMNS = [
    "library",
    "batch",
    "million weights",
    "GFLOPs an image, forwards / training",
    "images a second (each run)",
    "of the peak",
    "memory, MB",
    "captionless is faster by",
]


def _throughput_row(case: Line, several: Sequence[Line], ours: float | None) -> list[str]:
    figures, settings = several[0]["figures"], ", ".join(f"{name} {value}" for name, value in case["network"].items())
    runs = ", ".join(f"{one['figures']['images_per_second']:.1f}" for one in several)
    return [
        case["name"] + (f" ({settings})" if settings else ""),
        str(case["batch"]),
        f"{figures['weights'] / 1e6:.1f}",
        f"{figures['flops'] / 1e9:.2f} / {figures['train_flops'] / 1e9:.2f}",
        f"{_rate(several):.1f} ({runs})",
        f"{mean(one['figures']['share_of_peak'] for one in several):.0%}",
        f"{max(one['peak_memory'] for one in several) / 1e6:,.0f}",
        "" if case["name"] == OURS or ours is None else f"x {ours / _rate(several):.2f}",
    ]


def _rate(several: Sequence[Line]) -> float:
    return mean(one["figures"]["images_per_second"] for one in several)


def _time_to_quality(lines: Sequence[Line], folder: Path) -> str:
    """Return the seconds from the start of the process until each quality is reached, and plot quality over time."""
    judged = [one for one in lines if one["benchmark"] == "quality"]
    counts = {one["case"]["name"]: one["figures"] for one in lines if one["benchmark"] == "quality training"}
    rows = []
    for measure, targets, better in (("kid", KID_TARGETS, operator.le), ("accuracy", ACCURACY_TARGETS, operator.ge)):
        chosen = [one for one in judged if measure in one["figures"]]
        for name, several in _grouped(chosen, lambda one: one["case"]["name"]):
            network = f"{counts[name]['weights'] / 1e6:.1f} M weights, {counts[name]['flops'] / 1e9:.2f} GFLOPs"
            times = [f"{target:g}: {_first(several, measure, target, better)}" for target in targets]
            rows.append([name, network, AXES[measure], "; ".join(times)])
    plots = [_plot_quality(judged, measure, folder) for measure in AXES]
    text = "## Time to quality\n\nSeconds from the start of the process until a snapshot first reached each quality, "
    text += "one figure per seed; – means not within the training.\n\n"
    return text + _table(["library", "network", "measure", "reached after"], rows) + "".join(plots) if rows else ""


def _first(several: Sequence[Line], measure: str, target: float, better: Callable[[float, float], bool]) -> str:
    """Return for each seed the seconds after which a target was first reached."""
    found = []
    for _, run in _grouped(several, lambda one: one["seed"]):
        times = [one["figures"]["seconds"] for one in run if better(one["figures"][measure], target)]
        found.append(f"{min(times):.0f}" if times else "–")
    return ", ".join(found)


def _plot_quality(judged: Sequence[Line], measure: str, folder: Path) -> str:
    chosen = [one for one in judged if measure in one["figures"]]
    if not chosen:
        return ""
    figure, axes = _axes("minutes from the start of the process", AXES[measure])
    for index, (name, several) in enumerate(_grouped(chosen, lambda one: one["case"]["name"])):
        for seed, run in _grouped(several, lambda one: one["seed"]):
            points = sorted((one["figures"]["seconds"] / 60, one["figures"][measure]) for one in run)
            axes.plot(*zip(*points, strict=True), "o-", color=f"C{index}", label=name if seed == 0 else None)
    return _save(figure, axes, folder, f"time-to-{measure}.png")


def _sampling(lines: Sequence[Line], folder: Path) -> str:
    """Return the cost and quality of each sampler, and plot their Pareto curve."""
    found = _grouped((one for one in lines if one["benchmark"] == "sample"), lambda one: one["case"])
    default = {"model": "bundled", "sampler": "dpmpp-2m", "steps": 15}
    usual = next((_seconds(several) for case, several in found if default.items() <= case.items()), None)
    rows = []
    for case, several in found:
        figures = several[0]["figures"]
        network = f"{case['model']}, {case['size']} px, {figures['weights'] / 1e6:.1f} M weights"
        cost = [f"{figures['evaluations']:.1f}", f"{figures['flops_per_image'] / 1e9:,.0f}", f"{_seconds(several):.3f}"]
        ratio = f"x {_seconds(several) / usual:.2f}" if usual else ""
        quality = ", ".join(f"{one['figures']['kid']:.1f}" for one in several if "kid" in one["figures"]) or "–"
        rows.append([network, case["sampler"], str(case["steps"]), *cost, ratio, quality])
    judged = [(case, several) for case, several in found if "kid" in several[0]["figures"]]
    if not judged:
        return ""
    figure, axes = _axes("seconds an image", AXES["kid"])
    axes.set_xscale("log")
    for name, points in _grouped(judged, lambda one: f"{one[0]['model']}, {one[0]['sampler']}"):
        pairs = [(_seconds(several), mean(one["figures"]["kid"] for one in several)) for _, several in points]
        axes.plot(*zip(*sorted(pairs), strict=True), "o-", label=name)
    heads = ["model", "sampler", "steps", "evaluations of the network", "GFLOPs an image", "seconds an image"]
    heads += ["time of the default", f"KID x 1000 ({found[0][1][0]['figures']['images']} images)"]
    return f"## Sampling: quality against seconds\n\n{_table(heads, rows)}{_save(figure, axes, folder, 'sampling.png')}"


def _seconds(several: Sequence[Line]) -> float:
    return mean(one["figures"]["seconds_per_image"] for one in several)


def _embedding(lines: Sequence[Line]) -> str:
    found = _grouped((one for one in lines if one["benchmark"] == "embed"), lambda one: one["case"])
    rows = [
        [
            f"{case['images']:,}",
            case["run"],
            f"{_rate(several):,.0f}",
            f"{mean(one['cpu'] for one in several) / case['images'] * 1000:.1f}",
            f"{max(one['peak_memory'] for one in several) / 1e6:,.0f}",
        ]
        for case, several in found
    ]
    heads = ["images", "run", "images a second", "ms of CPU an image", "memory, MB"]
    return f"## From JPEG files to vectors\n\n{_table(heads, rows)}" if rows else ""


def _runtimes(lines: Sequence[Line]) -> str:
    found = _grouped((one for one in lines if one["benchmark"] == "runtimes"), lambda one: one["case"])
    rows = []
    for case, several in found:
        figures = several[0]["figures"]
        network = f"{figures['weights'] / 1e6:.1f} M weights, {figures['flops'] / 1e9:.2f} GFLOPs, {case['size']} px"
        difference = f"{figures['largest_difference']:.1e}"
        rows.append([network, str(case["batch"]), case["runtime"], f"{_rate(several):.1f}", difference])
    heads = ["network", "batch", "runtime", "images a second, one call", "largest difference between the two"]
    return f"## Our weights under other runtimes\n\n{_table(heads, rows)}" if rows else ""


def _others(lines: Sequence[Line]) -> str:
    """Return the benchmarks that have no table of their own, with all their figures."""
    known = ("train", "quality", "quality training", "sample", "embed", "runtimes")
    parts, heads = [], ["case", "figures", "seconds", "seconds of CPU", "memory, MB"]
    others = [one for one in lines if one["benchmark"] not in known]
    for name, several in _grouped(others, lambda one: one["benchmark"]):
        rows = []
        for one in several:
            usage = [f"{one['wall']:.2f}", f"{one['cpu']:.2f}", f"{one['peak_memory'] / 1e6:,.0f}"]
            rows.append([_values(one["case"]), _values(one["figures"]), *usage])
        parts.append(f"## {name}\n\n" + _table(heads, rows))
    return "\n".join(parts)


def _values(values: Line) -> str:
    shown = {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in values.items()}
    return ", ".join(f"{name} {value}" for name, value in shown.items())


def _grouped(items: Iterable[Any], key: Callable[[Any], Any]) -> list[tuple[Any, list[Any]]]:
    """Group items by a key, in order of first appearance."""
    groups: dict[str, list[Any]] = defaultdict(list)
    for item in items:
        groups[json.dumps(key(item))].append(item)
    return [(json.loads(name), several) for name, several in groups.items()]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines) + "\n"


def _axes(x: str, y: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot(xlabel=x, ylabel=y)
    return figure, axes


def _save(figure: Any, axes: Any, folder: Path, name: str) -> str:
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(folder / name, dpi=120)
    return f"\n![{name.removesuffix('.png')}]({name})\n"


if __name__ == "__main__":
    main()
