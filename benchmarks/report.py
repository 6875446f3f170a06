"""The report: Markdown that reads well on a screen too."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.batches import FACES
from benchmarks.comparison import Comparison
from benchmarks.layers import Profile
from benchmarks.other_faces import FACES as OTHER_FACES
from benchmarks.start_up import StartUp
from benchmarks.systems import DLIB, NUMBA, NUMPY, ONNX_RUNTIME, PREDICT
from benchmarks.timing import Ratio, Seconds, ratio, summarise
from benchmarks.workload import CROP_SIDE_PX, Workload

#: Whose time is divided by each system's, where they are measured.
_COMPARED = {NUMBA: "network / it", PREDICT: "predict / it", NUMPY: "NumPy / it"}


def table(header: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> str:
    """A Markdown table; the first columns are texts, the others numbers, set to the right."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    rule = ["-" * width for width in widths[:texts]]
    rule += ["-" * (width - 1) + ":" for width in widths[texts:]]
    lines = []
    for row in [header, rule, *rows]:
        cells = [
            cell.ljust(width) if column < texts else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def facts(values: Mapping[str, str]) -> str:
    """A list of what there is to know, by title."""
    return "\n".join(f"- {title}: {text}" for title, text in values.items())


def describe_model(work: Workload) -> str:
    _, height, width = work.weights.network.input_shape
    return (
        f"{work.shown_name}: {height}×{width} gray, "
        f"{work.multiply_adds / 1e6:.2f} million multiply-adds"
    )


def report_comparison(
    comparison: Comparison,
    differences: Mapping[str, str],
    left_out: Mapping[str, str],
    work: Workload,
    rounds: int,
) -> str:
    """Milliseconds for a face, ratios, arithmetic rates, how far each result is from NumPy's."""
    compared: list[str] = [name for name in (NUMBA, PREDICT) if name in comparison.chosen]
    compared = compared or [NUMPY]
    header = ["one face", "ms", "p10–p90", "best", *(_COMPARED[name] for name in compared)]
    header += ["GFLOP/s", "of peak", "differs, px"]
    rows = []
    for name, system in comparison.chosen.items():
        times = comparison.summary(name)
        row = [system.title, _ms(times.median)]
        row += [f"{_ms(times.low)}–{_ms(times.high)}", _ms(times.best)]
        row += [_ratio(comparison.ratio(other, name)) for other in compared]
        if system.has_own_model or name == PREDICT:
            row += ["", ""]
        else:
            share = comparison.share_of_peak(name, work.multiply_adds)
            row += [f"{2e-9 * work.multiply_adds / times.median:.1f}", _percent(share)]
        rows.append([*row, differences[system.title]])
    meaning = (
        f"{NUMBA} and the others: the network alone, on an image that is prepared already; "
        f"predict(gray_crop): a {CROP_SIDE_PX}×{CROP_SIDE_PX} uint8 crop, everything included. "
        f"ms: the median of {rounds} interleaved rounds. "
        f"{' and '.join(_COMPARED[name] for name in compared)}: our time over that of the row's "
        f"system; ratios and shares are the medians of the rounds', in brackets those of the best "
        f"times. Differs: the landmarks' largest distance from the NumPy backend's, checked "
        f"before timing."
    )
    return "\n\n".join(
        [table(header, rows), meaning, facts(_notes(comparison, differences, left_out))]
    )


def _notes(
    comparison: Comparison, differences: Mapping[str, str], left_out: Mapping[str, str]
) -> dict[str, str]:
    notes = {}
    if comparison.peak_flops is not None:
        notes["peak of the core, in the same rounds"] = (
            f"{statistics.median(comparison.peak_flops) * 1e-9:.0f} GFLOP/s "
            f"(best {comparison.peak_flops.max() * 1e-9:.0f}), float32 multiply-adds in registers"
        )
    for title, summary in comparison.slower.items():
        notes[f"slower, {title}"] = f"{_ms(summary.median)} ms; differs {differences[title]} px"
    for name, system in comparison.chosen.items():
        if system.has_own_model:
            notes[name] = (
                "a model of its own; differs: mean distance from the points placed by hand, "
                "in percent of the distance of the outer eye corners"
            )
    return notes | {f"left out, {name}": reason for name, reason in left_out.items()}


def report_other_faces(measured: Mapping[str, Seconds]) -> str:
    """Milliseconds for a face where each is another than the last; and over dlib's."""
    rows = []
    for name, seconds in measured.items():
        times = summarise(seconds)
        row = [name, _ms(times.median), f"{_ms(times.low)}–{_ms(times.high)}", _ms(times.best)]
        rows.append([*row, _ratio(ratio(seconds, measured[DLIB]))])
    header = [f"another of {OTHER_FACES} faces each time", "ms", "p10–p90", "best", "it / dlib's"]
    meaning = (
        "Crops of both demo photos, in boxes that differ in place and size: predict from gray "
        "crops as large as the boxes ask for, dlib's predictor on the photo and the box."
    )
    return "\n\n".join([table(header, rows), meaning])


def report_start_ups(measured: Mapping[str, Sequence[StartUp]]) -> str:
    """Milliseconds from a process's start to its first landmarks, and its memory.

    Both over ONNX Runtime's too, where that is measured.
    """
    rows = []
    compared = measured.get(ONNX_RUNTIME)
    for name, start_ups in measured.items():
        times = _start_seconds(start_ups)
        origin = start_ups[-1].origin
        row = [
            f"{name} ({without_folder(origin)})" if origin else name,
            f"{np.median(times) * 1e3:.0f}",
            f"{times.min() * 1e3:.0f}–{times.max() * 1e3:.0f}",
            _mib([start_up.resident_kib for start_up in start_ups]),
            _mib([start_up.peak_kib for start_up in start_ups]),
        ]
        if compared is not None:
            row += [_ratio(ratio(times, _start_seconds(compared)))]
            row += [_memory_ratio(start_ups, compared)]
        rows.append(row)
    repetitions = max(map(len, measured.values()))
    header = ["start to first landmarks", "ms", "min–max", "resident MiB", "peak MiB"]
    if compared is not None:
        header += ["it / ONNX Runtime", "resident / ONNX Runtime"]
    meaning = (
        f"A new process each, medians of {repetitions}, interleaved, files in the system's cache. "
        f"Ours predict from a gray crop, everything included; the others are imported, load the "
        f"network and run it on an image that is prepared already. Cold: with an empty folder for "
        f"compiled code; carried code is used with an empty one too. Memory: of the process "
        f"when it has predicted once."
    )
    return "\n\n".join([table(header, rows), meaning])


def _start_seconds(start_ups: Sequence[StartUp]) -> Seconds:
    return np.array([start_up.seconds for start_up in start_ups])


def _memory_ratio(start_ups: Sequence[StartUp], compared: Sequence[StartUp]) -> str:
    """The medians' ratio; unknown where one is."""
    ours, theirs = (
        [each.resident_kib for each in some if each.resident_kib is not None]
        for some in (start_ups, compared)
    )
    known = bool(ours and theirs)
    return f"{statistics.median(ours) / statistics.median(theirs):.2f}" if known else "unknown"


def report_batches(measured: Mapping[int, Seconds]) -> str:
    """Faces a second by the number of processors; "" where nothing was measured."""
    rows = []
    for count, seconds in measured.items():
        faces = FACES / seconds
        low, median, high = np.percentile(faces, [10, 50, 90])
        cores = f"{count} core" + ("s" if count > 1 else "")
        gain = _ratio(ratio(measured[min(measured)], seconds))
        rows.append([cores, f"{median:.0f}", f"{low:.0f}–{high:.0f}", f"{faces.max():.0f}", gain])
    header = [f"a batch of {FACES} faces", "faces/s", "p10–p90", "best", "times 1 core"]
    meaning = (
        "predict of a list of crops, a thread for each core; medians of interleaved rounds. "
        "Times 1 core: the median of the rounds' ratios, in brackets that of the best times."
    )
    return "\n\n".join([table(header, rows), meaning]) if rows else ""


def report_profile(profile: Profile) -> str:
    """Where the time of the compiled network goes."""
    total_s = sum(layer.seconds for layer in profile.layers)
    rows = [
        [
            layer.name,
            layer.what,
            *_times(layer.seconds, total_s),
            *_rates(layer.multiply_adds, layer.seconds, profile.peak_flops),
            f"{layer.bytes_touched / 1024:.0f}" if layer.bytes_touched else "",
        ]
        for layer in profile.layers
    ]
    multiply_adds = sum(layer.multiply_adds for layer in profile.layers)
    for name, seconds, count in (
        ("sum", total_s, multiply_adds),
        ("network in one call", profile.whole_s, multiply_adds),
        ("with the crop's resize", profile.crop_s, 0),
    ):
        rates = _rates(count, seconds, profile.peak_flops)
        rows.append([name, "", *_times(seconds, total_s), *rates, ""])
    header = ["layer", "what", "µs", "time", "M multiply-adds", "GFLOP/s", "of peak", "KiB"]
    meaning = (
        f"Medians. Each part of the plan is a call of its own from Python; what an empty call "
        f"takes ({profile.call_s * 1e6:.2f} µs) is taken off. Sizes are C×H×W. KiB: weights, "
        f"inputs and output, each once. Peak: {profile.peak_flops * 1e-9:.0f} GFLOP/s, in the "
        f"same rounds."
    )
    return "\n\n".join([table(header, rows, texts=2), meaning])


def without_folder(origin: str) -> str:
    """How the engine came to its code, as ``npshapenet.jit.origin`` says, but not where it lies."""
    return re.split(r":| in (?!memory)", origin)[0]


def _times(seconds: float, total_s: float) -> list[str]:
    return [f"{seconds * 1e6:.2f}", f"{seconds / total_s * 100:.1f} %"]


def _rates(multiply_adds: int, seconds: float, peak_flops: float) -> list[str]:
    """Millions of multiply-adds, GFLOP/s and the share of the peak; empty where there are none."""
    if not multiply_adds:
        return ["", "", ""]
    flops = 2 * multiply_adds / seconds
    share = f"{flops / peak_flops * 100:.0f} %"
    return [f"{multiply_adds / 1e6:.3f}", f"{flops * 1e-9:.0f}", share]


def _ms(seconds: float) -> str:
    """At least three digits that count."""
    ms = seconds * 1e3
    return f"{ms:.0f}" if ms >= 100 else f"{ms:#.3g}"


def _ratio(value: Ratio) -> str:
    return f"{value.median:#.2g} ({value.of_bests:#.2g})"


def _percent(value: Ratio | None) -> str:
    return "" if value is None else f"{value.median * 100:.0f} % ({value.of_bests * 100:.0f})"


def _mib(kib: Sequence[int | None]) -> str:
    known = [value for value in kib if value is not None]
    return f"{statistics.median(known) / 1024:.0f}" if known else "unknown"
