"""Numbers that the paper publishes for NAS-Bench-201: Tables 1 and 4, Figure 3.

They are of all 15,625 cells, one seed each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aznas_onnx.ranking import Aggregation

__all__ = ["ABLATION", "CORRELATION", "PROXY_ORDER", "TABLE_1", "PaperRow", "paper_columns"]

PROXY_ORDER = ("expressivity", "progressivity", "trainability", "macs")
_E, _P, _T, _C = PROXY_ORDER

_DATA_SETS = ("cifar10", "cifar100", "imagenet16120")


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperRow:
    """A row of Table 4: Kendall's tau on CIFAR-10, CIFAR-100 and ImageNet16-120."""

    number: int
    proxies: tuple[str, ...]
    aggregation: Aggregation | None
    kendall: tuple[float, float, float]


_NONLINEAR, _LINEAR = Aggregation.LOG_RANK, Aggregation.LINEAR

# The columns of the check marks are lost in the text of the paper that we have. Rows 1-7 and 9-14 follow from their
# order and from Tables 1 and 5. Row 8 is trainability with complexity: the text calls the pair the least correlated
# one, and of the three pairs that are left only this one has such numbers.
ABLATION = (
    PaperRow(number=1, proxies=(_E,), aggregation=None, kendall=(0.569, 0.563, 0.506)),
    PaperRow(number=2, proxies=(_P,), aggregation=None, kendall=(0.521, 0.508, 0.489)),
    PaperRow(number=3, proxies=(_T,), aggregation=None, kendall=(0.349, 0.353, 0.407)),
    PaperRow(number=4, proxies=(_C,), aggregation=None, kendall=(0.578, 0.551, 0.517)),
    PaperRow(number=5, proxies=(_E, _P), aggregation=_NONLINEAR, kendall=(0.601, 0.590, 0.547)),
    PaperRow(number=6, proxies=(_E, _T), aggregation=_NONLINEAR, kendall=(0.635, 0.631, 0.639)),
    PaperRow(number=7, proxies=(_E, _C), aggregation=_NONLINEAR, kendall=(0.674, 0.653, 0.601)),
    PaperRow(number=8, proxies=(_T, _C), aggregation=_NONLINEAR, kendall=(0.629, 0.615, 0.644)),
    PaperRow(number=9, proxies=(_E, _P, _T), aggregation=_NONLINEAR, kendall=(0.679, 0.673, 0.669)),
    PaperRow(number=10, proxies=(_E, _P, _C), aggregation=_NONLINEAR, kendall=(0.683, 0.661, 0.616)),
    PaperRow(number=11, proxies=(_E, _T, _C), aggregation=_NONLINEAR, kendall=(0.731, 0.714, 0.708)),
    PaperRow(number=12, proxies=(_E, _T, _C), aggregation=_LINEAR, kendall=(0.706, 0.692, 0.678)),
    PaperRow(number=13, proxies=PROXY_ORDER, aggregation=_NONLINEAR, kendall=(0.741, 0.723, 0.710)),
    PaperRow(number=14, proxies=PROXY_ORDER, aggregation=_LINEAR, kendall=(0.697, 0.681, 0.663)),
)

TABLE_1 = {
    "AZ-NAS": ((0.741, 0.913, "93.53 ± 0.15"), (0.723, 0.900, "70.75 ± 0.48"), (0.710, 0.886, "45.43 ± 0.29")),
    "macs": ((0.578, 0.753, "93.50 ± 0.17"), (0.551, 0.727, "70.63 ± 0.29"), (0.517, 0.691, "41.91 ± 0.70")),
    "params": ((0.578, 0.753, "93.50 ± 0.17"), (0.552, 0.728, "70.63 ± 0.29"), (0.520, 0.691, "41.91 ± 0.70")),
}
"""Kendall's tau, Spearman's rho and accuracy of what is selected, on the three data sets."""

CORRELATION = (
    (1.00, 0.60, 0.17, 0.44),
    (0.60, 1.00, 0.22, 0.38),
    (0.17, 0.22, 1.00, 0.15),
    (0.44, 0.38, 0.15, 1.00),
)
"""Figure 3: Kendall's tau between the proxies on ImageNet16-120, in the order of `PROXY_ORDER`."""


def paper_columns(space: str, columns: Sequence[str]) -> dict[str, int]:
    """Return which measured columns the paper has numbers for, and at which place of its triples.

    Examples
    --------
    >>> paper_columns("nb201", ["cifar10", "ImageNet16-120", "latency"])
    {'cifar10': 0, 'ImageNet16-120': 2}
    >>> paper_columns("mbv2", ["cifar10"])
    {}
    """
    plain = {column: "".join(filter(str.isalnum, column.lower())) for column in columns}
    return {column: _DATA_SETS.index(name) for column, name in plain.items() if space == "nb201" and name in _DATA_SETS}
