"""The plots of a report, by matplotlib (the extra ``report``)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import numpy as np
import numpy.typing as npt

from aznas_onnx.errors import SettingsError
from aznas_onnx.evaluation.agreement import Agreement, Evaluation
from aznas_onnx.evaluation.run_comparison import RunComparison

__all__ = ["plot_ablation", "plot_correlation", "plot_cost", "plot_ranks", "require_matplotlib"]

Floats = npt.NDArray[np.float64]

P = ParamSpec("P")

_OURS, _GREY = "#2f6db3", "#666666"
_STYLE: Any = {
    "text.parse_math": False,  # a dollar in a name is a dollar
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _GREY,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "figure.constrained_layout.use": True,
}
_DPI = 110
_SHORTEST_S = 1e-4  # plotted for a time of zero, on a logarithmic axis
_MARKERS = "osD^vPX*"


def _styled(draw: Callable[P, None]) -> Callable[P, None]:
    """Plot with our style, without changing the global style."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> None:
        import matplotlib

        with matplotlib.rc_context(_STYLE):
            draw(*args, **kwargs)

    return drawn


def require_matplotlib() -> None:
    """Check that plots can be made, before there is any work that would be lost.

    Raises SettingsError if matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise SettingsError(
            "plots need matplotlib, which is not installed; `pip install 'aznas-onnx[report]'` brings it, "
            "and --no-plots does without"
        ) from error


@_styled
def plot_ranks(path: Path, scores: Floats, measured: Mapping[str, Floats], evaluation: Evaluation) -> None:
    """Plot each architecture's rank by score against its rank by measurement, one panel per column."""
    from scipy.stats import rankdata

    figure, axes = _panels(len(measured), width=3.1, height=3.2)
    for axis, (column, values) in zip(axes, measured.items(), strict=True):
        there = np.isfinite(values)
        n = max(1, int(there.sum()))
        x, y = (rankdata(side[there]) for side in (scores, values))
        size, alpha = max(2.0, min(14.0, 6000 / n)), max(0.4, min(0.8, 400 / n))
        axis.plot([1, n], [1, n], color=_GREY, linewidth=0.8, linestyle="--")
        axis.scatter(x, y, s=size, alpha=alpha, color=_OURS, linewidths=0)
        axis.set(
            title=f"{column}: τ = {_number(evaluation.overall.kendall[column].value)}",
            xlabel="rank by score",
            xticks=[1, n],
            xticklabels=["worst", "best"],
            yticks=[1, n],
            yticklabels=["worst", "best"] if axis is axes[0] else [],
            aspect="equal",
        )
    axes[0].set_ylabel("rank by measurement")
    _save(figure, path)


@_styled
def plot_correlation(path: Path, evaluation: Evaluation) -> None:
    """Draw Kendall's tau between the proxies as a heat map."""
    names = evaluation.proxies
    values = np.array([[np.nan if value is None else value for value in row] for row in evaluation.proxy_correlation])
    low = -1 if (values < 0).any() else 0
    size = 0.62 * len(names) + 1.3
    figure, (axis,) = _panels(1, width=size, height=size - 0.2)
    image = axis.imshow(values, cmap="RdBu_r" if low < 0 else "Blues", vmin=low, vmax=1)
    for (row, column), value in np.ndenumerate(values):
        color = "white" if abs(value) > 0.65 else "black"
        axis.text(column, row, _number(value, 2), ha="center", va="center", color=color)
    axis.set_xticks(range(len(names)), names, rotation=35, ha="right")
    axis.set_yticks(range(len(names)), names)
    axis.set_title(f"{evaluation.n:,} architectures")
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    figure.colorbar(image, ax=axis, shrink=0.75, label="Kendall's τ")
    _save(figure, path)


@_styled
def plot_ablation(path: Path, rows: Sequence[tuple[str, Agreement]]) -> None:
    """Draw Kendall's tau of each way to combine proxies."""
    columns = list(rows[0][1].kendall)
    figure, axes = _panels(len(columns), width=2.7, height=0.24 * len(rows) + 1.2, sharey=True)
    places = np.arange(len(rows))[::-1]
    for axis, column in zip(axes, columns, strict=True):
        estimates = [one.kendall[column] for _, one in rows]
        values = np.array([math.nan if estimate.value is None else estimate.value for estimate in estimates])
        axis.barh(places, values, height=0.66, color=_OURS, alpha=0.85, label="here")
        if all(estimate.low is not None for estimate in estimates):
            ends = np.array([(estimate.low, estimate.high) for estimate in estimates], dtype=float)
            axis.hlines(places, ends[:, 0], ends[:, 1], color="#173a63", linewidth=1.2, label="95 % interval")
        low = min([0.0, *values[np.isfinite(values)]])
        axis.set(title=column, xlabel="Kendall's τ", ylim=(-0.6, len(rows) - 0.4), xlim=(low, None))
        axis.grid(axis="x")
    axes[0].set_yticks(places, [name for name, _ in rows])
    _legend(figure, axes[0])
    _save(figure, path)


@_styled
def plot_cost(path: Path, labels: Sequence[str], comparison: RunComparison) -> None:
    """Plot Kendall's tau of each scores file against its seconds, one panel per column.

    A line through a mark is the interval of its difference from the first, whose tau is the dashed line.
    """
    columns = list(comparison.contenders[0].kendall)
    figure, axes = _panels(len(columns), width=3.1, height=3.1)
    seconds = [max(contender.seconds, _SHORTEST_S) for contender in comparison.contenders]
    for axis, column in zip(axes, columns, strict=True):
        first = comparison.contenders[0].kendall[column].value
        for number, (label, one) in enumerate(zip(labels, comparison.contenders, strict=True)):
            tau, difference = one.kendall[column].value, one.difference[column]
            if tau is None or first is None:
                continue
            marker = _MARKERS[number % len(_MARKERS)]
            axis.plot(seconds[number], tau, marker, color=f"C{number}", markersize=6, label=label, zorder=3)
            if number and difference.low is not None and difference.high is not None:
                ends = (first + difference.low, first + difference.high)
                axis.vlines(seconds[number], *ends, color=f"C{number}", linewidth=1.2, alpha=0.7)
        if first is not None:
            axis.axhline(first, color=_GREY, linewidth=0.8, linestyle="--")
        axis.set(title=column, xlabel="seconds an architecture", xscale="log")
        axis.set_xlim(min(seconds) / 1.6, max(seconds) * 1.6)
        _plain_seconds(axis, seconds)
        axis.margins(y=0.12)
        axis.grid()
    axes[0].set_ylabel("Kendall's τ")
    _legend(figure, axes[0])
    _save(figure, path)


def _legend(figure: Any, axis: Any) -> None:
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(len(labels), 5), frameon=False)


def _plain_seconds(axis: Any, seconds: Sequence[float]) -> None:
    """Mark 1, 2 and 5 of every decade in plain digits: the default marks one power of ten, if any."""
    from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

    decades = range(math.floor(math.log10(min(seconds))) - 1, math.ceil(math.log10(max(seconds))) + 2)
    ticks = [digit * 10.0**decade for decade in decades for digit in (1, 2, 5)]
    axis.xaxis.set_major_locator(FixedLocator(ticks))
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_minor_formatter(NullFormatter())


def _panels(count: int, *, width: float, height: float, sharey: bool = False) -> tuple[Any, Any]:
    """Return a figure of panels side by side, without a window or global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * count + 0.6, height))
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, count, squeeze=False, sharey=sharey)[0]


def _save(figure: Any, path: Path) -> None:
    try:
        figure.savefig(path, dpi=_DPI, metadata={"Software": None})  # the same bytes from the same numbers
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror or error}") from error


def _number(value: float | None, digits: int = 3) -> str:
    return "?" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"
