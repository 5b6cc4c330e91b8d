"""What one pass over a network measures, as plain numbers: all that a proxy is computed from."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BlockEvidence", "Evidence", "Outcome"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockEvidence:
    """What was measured at one primary block.

    Attributes
    ----------
    name
        The block's name.
    entropy
        Entropy of the normalised eigenvalues of the feature covariance (Eq. 3), in nats; NaN where the features
        have none; None where it was not measured.
    is_singular
        Whether rounding made eigenvalues so negative that the published code's logarithm has no value.
    variance
        Sum of the eigenvalues: 0 for a constant feature map, not finite where activations overflowed.
    sigma
        Spectral norm of the block's estimated Jacobian (Eq. 10); None where it was not measured, which is always so
        at the first block.
    is_identity
        Whether the gradient came through the block unchanged.
    unmeasured
        Why `sigma` is None, in words for the user; empty at the first block.
    """

    name: str
    entropy: float | None = None
    is_singular: bool = False
    variance: float | None = None
    sigma: float | None = None
    is_identity: bool = False
    unmeasured: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known about one network under one seed.

    Attributes
    ----------
    blocks
        In dataflow order; entropies and sigmas only where a proxy needed them.
    macs, params
        Of one sample, and of the network.
    is_transformer
        Whether attention and MLP residuals make up the network.
    as_published
        Whether features with a singular covariance have no entropy, as in the published code, instead of a low one.
    """

    blocks: tuple[BlockEvidence, ...]
    macs: int
    params: int
    is_transformer: bool = False
    as_published: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One proxy of one network under one seed.

    Attributes
    ----------
    value
        Any float; not finite where the proxy has no value.
    reason
        Why it is not finite, in words for the user; None where it is.
    warnings
        What to doubt about a finite value.
    """

    value: float
    reason: str | None = None
    warnings: tuple[str, ...] = ()
