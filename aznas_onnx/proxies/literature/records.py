"""The records of the proxies of other papers."""

from __future__ import annotations

from aznas_onnx.proxies.engine.statistic import NetworkStatistic, value
from aznas_onnx.proxies.proxy import Direction, Need, Proxy

__all__ = ["GROUPS", "LITERATURE"]

_HERE = "aznas_onnx.proxies.literature"
_LABELS = "an output of shape (batch, classes)"
_RANDOM = "samples and labels are random, where Table 1 is of images of CIFAR-10, which --feed can give"


def _proxy(
    name: str,
    description: str,
    *,
    origin: str,
    equation: str,
    measurement: NetworkStatistic,
    cost: str,
    requires: str = "",
    fidelity: str = "as published",
    key: str = "",
    direction: Direction = Direction.HIGHER_IS_BETTER,
) -> Proxy:
    return Proxy(
        name=name,
        description=description,
        origin=origin,
        equation=equation,
        direction=direction,
        needs=Need.GRAPH,
        measurement=measurement,
        evaluate=value(measurement.name, key or name),
        requires=requires,
        cost=cost,
        fidelity=fidelity,
    )


_SENSITIVITY = NetworkStatistic(name="loss gradients", run=f"{_HERE}.gradients:measure_sensitivity")
_SIGNAL = NetworkStatistic(name="loss gradients of two batches", run=f"{_HERE}.gradients:measure_signal_to_noise")
_CURVATURE = NetworkStatistic(name="curvature", run=f"{_HERE}.gradients:measure_curvature")
_FLOW = NetworkStatistic(name="synaptic flow", run=f"{_HERE}.gradients:measure_synaptic_flow")
_PATTERNS = NetworkStatistic(name="activation patterns", run=f"{_HERE}.patterns:measure_patterns")
_KERNEL = NetworkStatistic(name="tangent kernel", run=f"{_HERE}.kernel:measure_tangent_kernel")
_AGREEMENT = NetworkStatistic(name="gradient signs", run=f"{_HERE}.kernel:measure_agreement")
_ZEN = NetworkStatistic(name="perturbation", run=f"{_HERE}.zen:measure_zen")
_JACOBIAN = NetworkStatistic(name="input gradients", run=f"{_HERE}.gradients:measure_jacobian")
_CORRELATIONS = NetworkStatistic(name="channel correlations", run=f"{_HERE}.spectra:measure_correlations")
_RANKS = NetworkStatistic(name="effective ranks", run=f"{_HERE}.spectra:measure_ranks")
_FISHER = NetworkStatistic(name="Fisher information", run=f"{_HERE}.fisher:measure_fisher")

LITERATURE = (
    _proxy(
        "grad_norm",
        "norm of the gradient of a loss with random labels, over all parameters",
        origin="Abdelfattah et al., ICLR 2021",
        equation="||dL/dw||_2",
        measurement=_SENSITIVITY,
        requires=_LABELS,
        cost="one forward and one backward pass",
    ),
    _proxy(
        "snip",
        "how much removing each weight would change the loss, summed",
        origin="Lee et al., ICLR 2019; Abdelfattah et al., ICLR 2021",
        equation="sum |w * dL/dw| over the weights of convolutions and linear layers",
        measurement=_SENSITIVITY,
        requires=_LABELS,
        cost="that of grad_norm, which it shares",
        fidelity=f"adapted: {_RANDOM}",
    ),
    _proxy(
        "grasp",
        "how much removing each weight would change the gradient, summed",
        origin="Wang et al., ICLR 2020; Abdelfattah et al., ICLR 2021",
        equation="-sum w * (H dL/dw)",
        measurement=_CURVATURE,
        requires=f"{_LABELS}; operators that have a second derivative",
        cost="one forward, one backward, and one pass through both backwards",
        fidelity=f"adapted: {_RANDOM}",
    ),
    _proxy(
        "synflow",
        "what flows through all paths of the network, its weights made positive and an input of ones",
        origin="Tanaka et al., NeurIPS 2020; Abdelfattah et al., ICLR 2021",
        equation="sum |w * dR/dw|, R the sum of the outputs",
        measurement=_FLOW,
        requires=_LABELS,
        cost="one forward and one backward pass of one sample, in double precision",
        fidelity="as published: without BatchNormalization; other normalisations stay",
    ),
    _proxy(
        "naswot",
        "how differently the samples switch ReLU-like units on and off",
        origin="Mellor et al., ICML 2021",
        equation="ln |det K|, K_ij the number of units that samples i and j agree in",
        measurement=_PATTERNS,
        requires="ReLU-like units",
        cost="one forward pass",
        fidelity="as published; units count once for each layer that reads them",
    ),
    _proxy(
        "te_nas_ntk",
        "condition number of the neural tangent kernel",
        origin="TE-NAS: Chen et al., ICLR 2021",
        equation="largest over smallest eigenvalue of J J^T, J_i the gradient of sample i's summed outputs",
        measurement=_KERNEL,
        direction=Direction.LOWER_IS_BETTER,
        key="condition",
        requires=_LABELS,
        cost="one forward pass, and one backward pass for each sample",
        fidelity="adapted: random samples, where Table 1 is of images; --as-published: as there, every kernel has a "
        "number",
    ),
    _proxy(
        "te_nas_regions",
        "number of linear regions that the samples fall in",
        origin="TE-NAS: Chen et al., ICLR 2021",
        equation="number of distinct codes of activations",
        measurement=_PATTERNS,
        key="regions",
        requires="ReLU-like units",
        cost="that of naswot, which it shares",
        fidelity="as published in Table 1: the samples of the batch, which nearly always all differ; TE-NAS: 3,000 of "
        "3x3 pixels",
    ),
    _proxy(
        "zen",
        "how much the last feature map moves with the input, undoing normalisation",
        origin="ZenNAS: Lin et al., ICCV 2021",
        equation="ln E||f(x) - f(x + 0.01 e)||_1 + sum ln sqrt(mean variance) over BatchNormalization",
        measurement=_ZEN,
        requires="a feature map with positions",
        cost="two forward passes",
        fidelity="as published: standard normal weights, running variances after two passes, residuals kept, edges "
        "that a space switches off included",
    ),
    _proxy(
        "gradsign",
        "how far the gradients of single samples agree in sign",
        origin="Zhang and Jia, ICLR 2022",
        equation="sum over weights of |sum over samples of sign(dL_i/dw)|",
        measurement=_AGREEMENT,
        requires=f"{_LABELS}; a batch of one",
        cost="one forward and one backward pass for each sample, alone",
        fidelity=f"adapted: {_RANDOM}",
    ),
    _proxy(
        "zico",
        "mean over deviation of the gradient between batches, by layer",
        origin="Li et al., ICLR 2023",
        equation="sum over layers of ln(sum E|g| / sd(g)), over two batches",
        measurement=_SIGNAL,
        requires=_LABELS,
        cost="two forward and two backward passes, the first of which is grad_norm's",
        fidelity=f"adapted: {_RANDOM}; the project's initialisation (--as-published: PyTorch's)",
    ),
    _proxy(
        "jacov",
        "how alike the input gradients of different samples are",
        origin="Mellor et al., 2020 (first version); Abdelfattah et al., ICLR 2021",
        equation="-sum ln(v + k) + 1 / (v + k) over eigenvalues v of the samples' correlations, k = 1e-5",
        measurement=_JACOBIAN,
        requires=_LABELS,
        cost="one forward and one backward pass",
        fidelity="as published; random samples",
    ),
    _proxy(
        "vkdnw",
        "number of layers, and between equals how evenly the Fisher information of the weights is spread",
        origin="Tybl and Neumann, CVPR 2025",
        equation="layers + entropy of the normalised deciles of the eigenvalues of the Fisher information",
        measurement=_FISHER,
        key="layers_and_entropy",
        requires=_LABELS,
        cost="three forward passes, and one backward pass for each class (64 at most)",
        fidelity="as published (VKDNW_single); random samples; more than 64 classes are projected on 64 directions",
    ),
    _proxy(
        "vkdnw_entropy",
        "how evenly the Fisher information of the weights is spread",
        origin="Tybl and Neumann, CVPR 2025",
        equation="entropy of the normalised deciles of the eigenvalues of the Fisher information",
        measurement=_FISHER,
        key="entropy",
        requires=_LABELS,
        cost="that of vkdnw, which it shares",
        fidelity="as published (VKDNW); random samples; more than 64 classes are projected on 64 directions",
    ),
    _proxy(
        "swap",
        "number of distinct patterns in which units switch over the samples",
        origin="Peng et al., ICLR 2024",
        equation="number of distinct columns of the matrix of activations",
        measurement=_PATTERNS,
        requires="ReLU-like units",
        cost="that of naswot, which it shares",
        fidelity="as published, without regularisation (whose two constants are fitted to a space); random samples",
    ),
    _proxy(
        "meco",
        "smallest eigenvalue of the correlation of a feature map's channels, summed over maps",
        origin="Jiang et al., NeurIPS 2023",
        equation="sum of the smallest eigenvalue of P(f), P the Pearson correlation of channels",
        measurement=_CORRELATIONS,
        requires="feature maps with channels and two axes of positions; a batch of one",
        cost="one forward pass of one sample",
        fidelity="adapted: at the model's own resolution (published: 64 x 64); each map counts once",
    ),
    _proxy(
        "near",
        "effective rank of what enters and leaves the activations, summed over layers",
        origin="Husistein et al., ICLR 2025",
        equation="sum of exp(entropy of the normalised singular values) over square pieces of activations",
        measurement=_RANKS,
        requires="layers with weights",
        cost="one forward pass",
        fidelity="as published; random samples, one repetition a seed",
    ),
)
"""In the order of Table 1 of the AZ-NAS paper; then those that came before and after."""

GROUPS = {"te_nas": ("te_nas_ntk", "te_nas_regions")}
"""Proxies that a paper combines: TE-NAS adds the ranks of its two, which is the aggregation ``linear``."""
