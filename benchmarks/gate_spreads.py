"""Spread of proxies within one space and budget: the scales of the gate's comparison.

    python benchmarks/gate_spreads.py [REFERENCE ...]

Prints, for each reference (default: all that come with the package), the robust standard deviation of each proxy on the
scale that the gate compares it on: the distance between the quartiles over 1.349. The constants of
`aznas_onnx/references/proxy_scales.py` are rounded from what the convolutional ones have; macs as it says there.
"""

from __future__ import annotations

import sys

import numpy as np

from aznas_onnx.gating.policy import COMPARED
from aznas_onnx.references import BUNDLED, find_reference
from aznas_onnx.references.proxy_scales import PROXY_SCALES

_QUARTILES_TO_DEVIATION = 1.349


def main() -> None:
    names = sys.argv[1:] or [bundled.name for bundled in BUNDLED]
    print(f"{'reference':<20}" + "".join(f"{name:>15}" for name in COMPARED))
    rows = []
    for name in names:
        reference_set = find_reference(name)
        row = []
        for proxy in COMPARED:
            spread = PROXY_SCALES[proxy]
            values = np.array(reference_set.column(proxy)) if proxy in reference_set.proxies else np.array([np.nan])
            scaled = [spread.scale(value) for value in values[np.isfinite(values)]]
            row.append(np.subtract(*np.percentile(scaled, [75, 25])) / _QUARTILES_TO_DEVIATION if scaled else np.nan)
        rows.append(row)
        print(f"{name:<20}" + "".join(f"{value:>15.3f}" for value in row))
    print(f"{'median':<20}" + "".join(f"{value:>15.3f}" for value in np.nanmedian(rows, axis=0)))
    print(f"{'used':<20}" + "".join(f"{spread.deviation:>15.3f}" for spread in map(PROXY_SCALES.__getitem__, COMPARED)))


if __name__ == "__main__":
    main()
