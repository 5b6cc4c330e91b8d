from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from aznas_onnx.calibration import Covariance, Regression
from aznas_onnx.calibration.validation import leave_families_out, leave_out, pairs


@pytest.fixture
def regression() -> Regression:
    """40 networks of 8 families and 2 recipes, whose value is linear in two of three traits."""
    rng = np.random.default_rng(0)
    traits = rng.normal(size=(40, 3))
    recipes = np.array(["long" if number % 2 else "short" for number in range(40)])
    families = np.array([f"family {number % 8}" for number in range(40)])
    values = 70 + 2 * traits[:, 0] - traits[:, 1] + 3 * (recipes == "long") + 0.1 * rng.normal(size=40)
    return Regression(traits=traits, scales=np.ones(3), values=values, recipes=recipes, families=families)


def test_what_is_linear_is_found(regression: Regression) -> None:
    others = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    found = regression.predict(others, ["short"] * 4)
    assert found.mean - found.mean[0] == pytest.approx([0, 2, -1, 0], abs=0.4)
    longer = regression.predict(others, ["long"] * 4)
    assert longer.mean - found.mean == pytest.approx([3] * 4, abs=1.2)


def test_far_away_it_knows_less(regression: Regression) -> None:
    near, far = regression.predict(np.array([regression.traits[0], [9.0, 9.0, 9.0]]), ["short"] * 2).deviation
    assert near < far


def test_two_of_one_family_are_compared_with_less_doubt(regression: Regression) -> None:
    two = np.array([[0.0, 0.0, 0.0], [0.5, 0.0, 0.0]])

    def variance(families: list[str] | None) -> float:
        found = regression.predict(two, ["short"] * 2, families).covariance
        return float(found[0, 0] + found[1, 1] - 2 * found[0, 1])

    family = regression.covariance.family
    assert variance(None) - variance(["one", "one"]) == pytest.approx(2 * family)
    assert variance(["one", "other"]) == pytest.approx(variance(None))


def test_terms_add_up_to_the_difference_to_the_average(regression: Regression) -> None:
    network = np.array([1.5, -0.5, 0.25])
    average = regression.traits.mean(axis=0)
    means = regression.predict(np.array([network, average]), ["short"] * 2).mean
    terms = regression.terms(network)
    assert terms.sum() == pytest.approx(means[0] - means[1], abs=1e-3)
    assert abs(terms[2]) < min(abs(terms[0]), abs(terms[1]))


def test_leaving_out_is_fitting_without(regression: Regression) -> None:
    """The closed form equals a regression on the others; only the standardisation is that of all."""
    places = np.flatnonzero(regression.families == "family 3")
    found = leave_out(regression, list(places))
    others = np.setdiff1d(np.arange(40), places)
    fitted = replace(
        regression,
        traits=regression.traits[others],
        values=regression.values[others],
        recipes=regression.recipes[others],
        families=regression.families[others],
    )
    again = fitted.predict(
        regression.traits[places], list(regression.recipes[places]), list(regression.families[places])
    )
    assert found.mean == pytest.approx(again.mean, abs=0.3)
    assert leave_families_out(regression).mean[places] == pytest.approx(found.mean)


def test_pairs_are_of_one_recipe_and_far_enough_apart(regression: Regression) -> None:
    found = list(pairs(regression, 1.0))
    expected = sum(
        regression.recipes[a] == regression.recipes[b] and abs(regression.values[a] - regression.values[b]) >= 1
        for a in range(40)
        for b in range(a)
    )
    assert len(found) == expected
    assert np.mean([one.estimated * one.measured > 0 for one in found]) > 0.9
    assert {one.is_kin for one in found} == {True, False}


def test_variances_survive_json() -> None:
    covariance = Covariance(linear=3.0, noise=0.1)
    assert Covariance.from_json(covariance.as_json()) == covariance
