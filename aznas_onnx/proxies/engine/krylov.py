"""The largest eigenvalue of a wide symmetric operator, by the Lanczos method."""

from __future__ import annotations

from collections.abc import Callable

import torch

__all__ = ["krylov_matrix"]

Tensor = torch.Tensor
_STEPS = 96
_FIRST_TEST = 16
_TEST_EVERY = 4
_TOLERANCE = 1e-6
_LEAST_NEW = 1e-5  # of a product: what is outside of the space


def krylov_matrix(apply: Callable[[Tensor], Tensor], width: int, device: torch.device) -> Tensor:
    """Return a small matrix with the largest eigenvalue of a positive semidefinite operator.

    The operator is restricted to the space of v, A v, A^2 v, ... with a fixed random v; at most 96 of them. On a CPU it
    stops where an eigenvalue of A is proven to lie within a millionth of the largest one of the restriction: it differs
    from one of A by at most the residual's norm. That takes 32 to 36 products on the Jacobian estimates of ResNet-50
    and ViT-B/32, where the error is then that of float32. Elsewhere a test would wait for the device. The result can
    only be too small, on spectra made to be hard by 1e-4.

    - `apply`: Multiplies a vector by A.
    - `width`: Of the vectors.

    Returns: Symmetric; only the lower triangle is valid.
    """
    tiny = torch.finfo(torch.float32).tiny
    source = torch.Generator("cpu").manual_seed(0)
    vector = torch.randn(width, generator=source, device="cpu").to(device)
    steps = min(_STEPS, width)
    basis = torch.empty(steps, width, device=device)
    products = torch.empty(steps, steps, device=device)
    norms = torch.empty(steps, device=device)
    scale = (
        apply(vector / vector.norm()).abs().amax().clamp_min(tiny)
    )  # squares of a vanishing gradient would underflow
    size = vector.norm()
    for step in range(steps):
        torch.linalg.vector_norm(vector, out=norms[step])
        if device.type == "cpu" and _is_time(step) and _is_converged(_restricted(products, norms, step), norms[step]):
            steps = step
            break
        is_new = norms[step] > _LEAST_NEW * size  # else the space has ended, and the rest is rounding
        torch.mul(vector, is_new / norms[step].clamp_min(tiny), out=basis[step])
        known = basis[: step + 1]
        vector = apply(basis[step]).div_(scale)
        row = torch.mv(known, vector, out=products[step, : step + 1])
        size = row.norm()
        vector.addmv_(known.t(), row, alpha=-1.0)
        # Once is not enough: the subtracted part is most of the vector.
        vector.addmv_(known.t(), torch.mv(known, vector), alpha=-1.0)
    return _restricted(products, norms, steps) * scale


def _restricted(products: Tensor, norms: Tensor, steps: int) -> Tensor:
    """Return the restriction, which is tridiagonal."""
    return torch.diag(products.diagonal()[:steps]) + torch.diag(norms[1:steps], -1)


def _is_time(step: int) -> bool:
    return step >= _FIRST_TEST and step % _TEST_EVERY == 0


def _is_converged(restricted: Tensor, norm: Tensor) -> bool:
    """Whether the largest eigenvalue of the restriction is near one of the operator, or not a number.

    - `norm`: Of what the last product has outside of the space.
    """
    if not bool(norm.isfinite()):
        return True
    values, vectors = torch.linalg.eigh(restricted)
    return bool(norm * vectors[-1, -1].abs() <= _TOLERANCE * values[-1])
