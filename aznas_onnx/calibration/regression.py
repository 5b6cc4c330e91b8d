"""Gaussian process regression of a measured value on traits, with recipes and families as random effects.

The covariance of two networks is

    4 linear (a . b) / p  +  smooth exp(-|a - b|^2 / (2 p length))  +  recipe [same recipe]  +  family [same family]

a and b are standardised and scaled traits, p is their number. Each measurement has independent noise. Networks of one
recipe share an effect, and so do networks of one family. An estimate is for a given recipe, and for a new family.

Source: Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, Algorithm 2.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from aznas_onnx.documents import JsonObject, finite

__all__ = ["Covariance", "Prediction", "Regression"]

Floats = npt.NDArray[np.float64]
Texts = npt.NDArray[np.str_]

_FARTHEST = 4.0  # standard deviations from the mean that a trait counts for
_STEPS = 16  # of an integral along a straight line


@dataclass(frozen=True, slots=True, kw_only=True)
class Covariance:
    """Variances of the parts of the covariance, in squared units of the value, and the length of the smooth part."""

    linear: float = 2.0
    smooth: float = 4.0
    length: float = 1.0
    recipe: float = 1.0
    family: float = 2.0
    noise: float = 0.8

    def as_json(self) -> JsonObject:
        """Return it as JSON values."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, data: JsonObject) -> Covariance:
        """Read back what :meth:`as_json` wrote."""
        return cls(**{name: finite(data[name]) for name in cls.__slots__})

    def of_traits(self, a: Floats, b: Floats) -> Floats:
        """Return the covariance that follows from standardised traits, (n_a, n_b)."""
        traits = a.shape[1]
        squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None] - 2 * a @ b.T
        smooth = self.smooth * np.exp(-np.maximum(squares, 0.0) / (2 * traits * self.length))
        found: Floats = 4 * self.linear * (a @ b.T) / traits + smooth
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """The joint distribution of the values of some networks.

    - `mean`: (n_networks,).
    - `covariance`: (n_networks, n_networks); with the noise of a measurement and a family of its own on the diagonal.
    """

    mean: Floats
    covariance: Floats

    @property
    def deviation(self) -> Floats:
        """(n_networks,): standard deviations."""
        found: Floats = np.sqrt(np.diag(self.covariance))
        return found


@dataclass(frozen=True, kw_only=True)
class Regression:
    """Measured networks, and what follows for others.

    - `traits`: (n_networks, n_traits).
    - `scales`: (n_traits,) how much a standard deviation of each counts.
    - `values`: (n_networks,).
    - `recipes`, `families`: (n_networks,).
    """

    traits: Floats
    scales: Floats
    values: Floats
    recipes: Texts
    families: Texts
    covariance: Covariance = field(default_factory=Covariance)

    def predict(self, traits: Floats, recipes: Sequence[str], families: Sequence[str] | None = None) -> Prediction:
        """Return the distribution of the values of other networks.

        - `traits`: (n_others, n_traits).
        - `recipes`: Of each.
        - `families`: Of each; by default each has one of its own. Two of one family have its effect in common.
        """
        others, theirs = self._standardised(traits), np.asarray(recipes)
        of_own = [f"own {number}" for number in range(len(theirs))]
        kin = np.asarray(of_own if families is None else families)
        known = self.covariance.of_traits(others, self._inputs)
        known += self.covariance.recipe * (theirs[:, None] == self.recipes[None])
        if families is not None:
            known += self.covariance.family * (kin[:, None] == self.families[None])
        prior = self.covariance.of_traits(others, others)
        prior += self.covariance.recipe * (theirs[:, None] == theirs[None])
        prior += self.covariance.family * (kin[:, None] == kin[None])
        explained = np.linalg.solve(self._factor, known.T)
        noise = self.covariance.noise * np.eye(len(theirs))
        return Prediction(
            mean=known @ self.inverse_values + self._centre, covariance=prior - explained.T @ explained + noise
        )

    def prior_variance(self, traits: Floats) -> float:
        """Return the variance that one network's traits have before anything is measured.

        - `traits`: (1, n_traits).
        """
        own = self._standardised(traits)
        return float(self.covariance.of_traits(own, own)[0, 0]) + self.covariance.recipe

    def terms(self, traits: Floats) -> Floats:
        """Return what each trait adds to a network's value beside the average network, (n_traits,).

        The terms add up to the difference: they are the gradient, integrated along the straight line from the average
        of the measured networks (Sundararajan et al., ICML 2017).

        - `traits`: (n_traits,).
        """
        end = self._standardised(traits[None])[0]
        places = (np.arange(_STEPS) + 0.5) / _STEPS
        gradients = np.array([self._gradient(place * end) for place in places])
        found: Floats = gradients.mean(axis=0) * end
        return found

    def _gradient(self, at: Floats) -> Floats:
        """Return the derivative of the predicted value by each standardised trait."""
        count = len(at)
        gaps = self._inputs - at
        smooth = self.covariance.smooth * np.exp(-(gaps**2).sum(axis=1) / (2 * count * self.covariance.length))
        curved = (self.inverse_values * smooth) @ gaps / (count * self.covariance.length)
        found: Floats = 4 * self.covariance.linear / count * (self.inverse_values @ self._inputs) + curved
        return found

    @cached_property
    def _centre(self) -> float:
        return float(self.values.mean())

    @cached_property
    def deviations(self) -> Floats:
        """(n_traits,): the standard deviation of each trait; above 0."""
        found: Floats = self.traits.std(axis=0) + 1e-9
        return found

    @cached_property
    def _averages(self) -> Floats:
        found: Floats = self.traits.mean(axis=0)
        return found

    @cached_property
    def _inputs(self) -> Floats:
        return self._standardised(self.traits)

    @cached_property
    def inverse(self) -> Floats:
        """(n_networks, n_networks): the inverse of the measurements' covariance."""
        half = np.linalg.inv(self._factor)
        found: Floats = half.T @ half
        return found

    @cached_property
    def inverse_values(self) -> Floats:
        """(n_networks,): the inverse covariance times the values less their mean."""
        found: Floats = self.inverse @ (self.values - self._centre)
        return found

    @cached_property
    def _factor(self) -> Floats:
        """The Cholesky factor of the measurements' covariance."""
        whole = self.covariance.of_traits(self._inputs, self._inputs)
        whole += self.covariance.recipe * (self.recipes[:, None] == self.recipes[None])
        whole += self.covariance.family * (self.families[:, None] == self.families[None])
        return np.asarray(np.linalg.cholesky(whole + self.covariance.noise * np.eye(len(whole))), dtype=np.float64)

    def _standardised(self, traits: Floats) -> Floats:
        scaled = np.clip((traits - self._averages) / self.deviations, -_FARTHEST, _FARTHEST)
        found: Floats = scaled * self._relative
        return found

    @cached_property
    def _relative(self) -> Floats:
        """(n_traits,): the scales, so that their squares have a mean of 1."""
        found: Floats = self.scales / np.sqrt((self.scales**2).mean())
        return found
