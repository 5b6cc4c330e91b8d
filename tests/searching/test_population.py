from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from aznas_onnx.ranking import rank
from aznas_onnx.results import ProxyScores, ProxyValue, Status
from aznas_onnx.searching import Cost, Proposal, Trial, TrialOrigin
from aznas_onnx.searching.population import Population

# Some without a value, some for which the proxy is not defined.
VALUE = st.one_of(
    st.sampled_from([0.0, 1.0, 2.5, 4.0]).map(lambda mean: ProxyValue(mean=mean)),
    st.just(ProxyValue(mean=None, reason="not finite")),
)
INAPPLICABLE = ProxyValue(mean=None, reason="not for transformers", applies=False)
PROXIES = st.fixed_dictionaries(
    {"expressivity": VALUE, "macs": VALUE}, optional={"trainability": VALUE, "progressivity": st.just(INAPPLICABLE)}
)


def trial(number: int, proxies: Any) -> Trial:
    proposal = Proposal(
        number=number, genotype=str(number), origin=TrialOrigin.SAMPLE, cost=Cost(macs=1, params=1, layers=1)
    )
    return Trial(proposal=proposal, status=Status.OK, reason=None, proxies=proxies, elapsed_s=0.0)


@given(st.lists(PROXIES, min_size=2, max_size=12), st.integers(1, 12))
def test_the_best_are_those_of_the_ranking_of_all(rows: list[Any], n: int) -> None:
    population = Population()
    for number, proxies in enumerate(rows):
        population.update([trial(number, proxies)])
    ranking = rank([ProxyScores(model="", status=Status.OK, proxies=proxies) for proxies in rows])
    rounded = {index: round(score, 12) for index, score in enumerate(ranking.az_score) if score is not None}
    expected = sorted(rounded, key=lambda index: (-rounded[index], index))
    assert population.best() == (expected[0], str(expected[0]))
    assert [number for number, _ in population.top(n)] == sorted(expected[:n])


def test_known_are_the_networks_of_the_trials() -> None:
    population = Population(identify=lambda genotype: str(int(genotype) % 2))
    population.update([trial(number, {"macs": ProxyValue(mean=1.0)}) for number in (0, 2, 4)])
    assert population.known == {"0"}
    population.update([trial(5, {"macs": ProxyValue(mean=1.0)})])
    assert population.known == {"0", "1"}


@given(st.lists(PROXIES, min_size=2, max_size=12))
def test_trials_at_once_or_one_by_one(rows: list[Any]) -> None:
    at_once, one_by_one = Population(), Population()
    trials = [trial(number, proxies) for number, proxies in enumerate(rows)]
    at_once.update(trials)
    for one in trials:
        one_by_one.update([one])
    assert at_once.top(3) == one_by_one.top(3)
    assert at_once.best() == one_by_one.best()
