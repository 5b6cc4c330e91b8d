from __future__ import annotations

import pytest

from aznas_onnx.errors import SettingsError
from aznas_onnx.ranking import aggregate
from aznas_onnx.results import ProxyValue, Status
from aznas_onnx.searching import Budget, Cost, Limit, Proposal, Study, Trial, TrialOrigin, search
from tests.searching.fakes import DigitSpace, FakeScorer, settings


def study(*rows: tuple[float, float | None, int]) -> Study:
    """A study of candidates with two proxies and MACs; one whose first proxy is negative failed."""
    trials = []
    for number, (first, second, macs) in enumerate(rows):
        proposal = Proposal(
            number=number,
            genotype=f"g{number}",
            origin=TrialOrigin.SAMPLE,
            cost=Cost(macs=macs, params=macs, layers=1),
            tries=2,
        )
        status = Status.FAILED if first < 0 else Status.OK
        proxies = {
            "expressivity": ProxyValue(mean=first),
            "macs": ProxyValue(mean=second, reason=None if second is not None else "none"),
        }
        trials.append(
            Trial(
                proposal=proposal,
                status=status,
                reason="too big" if status is Status.FAILED else None,
                proxies={} if status is Status.FAILED else proxies,
                elapsed_s=0.0,
            )
        )
    return Study(settings=settings(), trials=tuple(trials))


ROWS = ((1.0, 5.0, 100), (2.0, None, 50), (-1.0, 0.0, 1), (3.0, 6.0, 300), (2.5, 5.5, 60))


def test_the_best_come_first_with_their_scores() -> None:
    best = study(*ROWS).best(10)
    assert [(one.trial.number, one.rank) for one in best] == [(3, 1), (4, 2), (0, 3), (1, 3)]
    expected = aggregate([[1.0, 5.0], [2.0, -1.0], [3.0, 6.0], [2.5, 5.5]])
    assert [one.az_score for one in best] == [expected[index] for index in (2, 3, 0, 1)]


def test_one_candidate_is_the_best_without_a_score() -> None:
    (best,) = study(ROWS[0]).best()
    assert (best.trial.number, best.rank, best.az_score) == (0, 1, None)


def test_an_empty_study_has_no_best() -> None:
    assert study().best() == ()
    assert study().pareto() == ()
    assert study().acceptance_rate == 0


def test_the_front_holds_what_no_cheaper_one_equals() -> None:
    assert [one.trial.number for one in study(*ROWS).pareto("macs")] == [1, 4, 3]
    assert [one.trial.number for one in study(*ROWS).pareto("layers")] == [3]


def test_counts_that_there_are_not_are_refused() -> None:
    with pytest.raises(SettingsError, match="no count 'seconds'"):
        study(*ROWS).pareto("seconds")
    with pytest.raises(SettingsError, match="space 'digits' has no paper_flops"):
        study(*ROWS).pareto("paper_flops")


def test_a_candidate_is_found_by_its_number() -> None:
    found = study(*ROWS).candidate(4)
    assert (found.trial.genotype, found.rank) == ("g4", 2)
    with pytest.raises(SettingsError, match="trial 2 was not scored: too big"):
        study(*ROWS).candidate(2)
    with pytest.raises(SettingsError, match="there is no trial 5; the study has 5, numbered from 0"):
        study(*ROWS).candidate(5)


def test_less_than_one_is_nothing_to_ask_for() -> None:
    with pytest.raises(SettingsError, match="best 0"):
        study(*ROWS).best(0)


def test_candidates_that_were_sampled_for_want_of_a_change() -> None:
    evolved = search(DigitSpace(length=1), iterations=10, scorer=FakeScorer(), max_tries=1000)
    assert evolved.sampled_instead == 0  # a change gives each of the ten digits
    limited = search(DigitSpace(), Budget(macs=Limit(None, 30_000)), iterations=4, scorer=FakeScorer(), max_tries=1000)
    assert limited.sampled_instead == 4  # the start has 40K, and a change takes 5K away
    assert limited.tries > 4 * 500
    at_random = search(DigitSpace(), iterations=4, strategy="random", scorer=FakeScorer())
    assert at_random.sampled_instead == 0


def test_the_acceptance_rate_counts_every_sampled_genotype() -> None:
    assert study(*ROWS).acceptance_rate == 0.5
