from __future__ import annotations

from typing import Any

import pytest

from aznas_onnx.errors import SettingsError
from aznas_onnx.results import Status
from aznas_onnx.searching import Budget, CountConvention, Limit, Proposal, Strategy, Trial, TrialOrigin
from aznas_onnx.searching.identity import Identity
from aznas_onnx.searching.population import Population
from aznas_onnx.searching.proposing import Exhausted, Proposer
from aznas_onnx.spaces import Space
from tests.searching.fakes import DigitSpace, FakeScorer, PaperDigits, UnorderedDigits, settings

TRIES = 500


def proposer(space: DigitSpace | None = None, max_tries: int = TRIES, **changes: Any) -> Proposer[Any]:
    return Proposer(space or DigitSpace(), settings(**changes), max_tries)


def proposed(one: Proposer[Any], number: int, population: Population, taken: tuple[str, ...] = ()) -> Proposal:
    proposal = one.propose(number, population, taken)
    assert isinstance(proposal, Proposal)
    return proposal


def scored(proposal: Proposal) -> Trial:
    scores = FakeScorer().score(proposal.genotype)
    return Trial(proposal=proposal, status=Status.OK, reason=None, proxies=scores.proxies, elapsed_s=0.0)


def grown(one: Proposer[Any], size: int) -> tuple[Population, list[Proposal]]:
    population, proposals = Population(identify=one.identifier.of_text), []
    for number in range(size):
        proposal = proposed(one, number, population)
        proposals.append(proposal)
        population.update([scored(proposal)])
    return population, proposals


def changed_places(a: str, b: str) -> int:
    return sum(x != y for x, y in zip(a, b, strict=True))


def test_the_published_schedule() -> None:
    _, proposals = grown(proposer(top_k=16), 40)
    assert [proposal.origin for proposal in proposals] == [TrialOrigin.START] * 10 + [TrialOrigin.HISTORY] * 6 + [
        TrialOrigin.TOP
    ] * 24
    for proposal in proposals[:10]:
        assert proposal.parent is None
        assert changed_places(proposal.genotype, "55555555") <= 1
    for proposal in proposals[10:]:
        assert proposal.parent is not None
        assert proposal.parent < proposal.number
        assert changed_places(proposal.genotype, proposals[proposal.parent].genotype) <= 2


def test_parents_are_among_the_best() -> None:
    one = proposer(top_k=12)
    population, _ = grown(one, 60)
    best = {number for number, _ in population.top(12)}
    parents = set()
    for number in range(60, 260):
        parent = proposed(one, number, population).parent
        assert parent is not None
        parents.add(parent)
    assert parents == best  # each of them, at random


def test_random_strategy_samples_from_the_space() -> None:
    _, proposals = grown(proposer(strategy=Strategy.RANDOM), 30)
    assert {(proposal.origin, proposal.parent) for proposal in proposals} == {(TrialOrigin.SAMPLE, None)}


def test_a_candidate_follows_from_seed_number_and_history_alone() -> None:
    population, proposals = grown(proposer(), 30)
    assert grown(proposer(), 30)[1] == proposals
    fresh = Population()
    fresh.update([scored(proposal) for proposal in proposals])
    assert proposed(proposer(), 30, fresh) == proposed(proposer(), 30, population)
    assert grown(proposer(seed=1), 30)[1] != proposals


def test_nothing_is_proposed_twice() -> None:
    space = DigitSpace(length=2)
    one = proposer(space, max_tries=5000)
    _, proposals = grown(one, 100)  # the whole space
    assert len({proposal.genotype for proposal in proposals}) == 100


def test_candidates_that_are_being_scored_are_not_proposed() -> None:
    one = proposer(DigitSpace(length=1))
    taken = tuple("012345678")
    assert proposed(one, 0, Population(), taken).genotype == "9"
    assert isinstance(one.propose(0, Population(), (*taken, "9")), Exhausted)


def test_a_network_is_proposed_once_whatever_its_genotypes() -> None:
    space = UnorderedDigits(length=2)
    one = proposer(space, max_tries=5000, identity=Identity.NETWORK)
    population, proposals = grown(one, 55)  # pairs of ten digits, in any order
    assert len({space.canonical(space.parse(proposal.genotype)) for proposal in proposals}) == 55
    assert any(proposal.genotype != "".join(sorted(proposal.genotype)) for proposal in proposals)
    found = one.propose(55, population)
    assert isinstance(found, Exhausted)
    assert found.reason.endswith("5,000 were networks that are scored already, so few or none are left")
    assert len({proposal.genotype for proposal in grown(proposer(space, max_tries=5000), 100)[1]}) == 100


def test_a_network_that_is_being_scored_is_not_proposed() -> None:
    one = proposer(UnorderedDigits(length=2), max_tries=5000, identity=Identity.NETWORK)
    taken = tuple(f"{high}{low}" for high in range(10) for low in range(high + 1) if (high, low) != (5, 4))
    assert sorted(proposed(one, 0, Population(), taken).genotype) == ["4", "5"]


@pytest.mark.parametrize("strategy", list(Strategy))
def test_candidates_keep_the_budget(strategy: Strategy) -> None:
    budget = Budget(macs=Limit(30_000, 44_000), params=Limit(None, 2500), layers=Limit(7, None))
    _, proposals = grown(proposer(budget=budget, strategy=strategy, max_tries=5000), 60)
    for proposal in proposals:
        assert 30_000 <= proposal.cost.macs <= 44_000
        assert proposal.cost.params <= 2500
        assert proposal.cost.layers >= 7
    assert sum(proposal.tries for proposal in proposals) > 60


def test_the_paper_convention_is_what_the_budget_limits() -> None:
    budget = Budget(macs=Limit(None, 20_000))
    _, proposals = grown(proposer(PaperDigits(), budget=budget, count=CountConvention.PAPER, max_tries=5000), 20)
    for proposal in proposals:
        assert proposal.cost.paper_flops is not None
        assert proposal.cost.paper_flops <= 20_000
        assert proposal.cost.macs >= 52_000


def test_a_space_without_the_papers_convention_says_so() -> None:
    with pytest.raises(SettingsError, match="the paper counts no FLOPs in space 'digits'; use --count graph"):
        proposer(count=CountConvention.PAPER)


def test_a_budget_that_admits_nothing_is_explained() -> None:
    budget = Budget(macs=Limit(73_000, None), params=Limit(None, 100))
    found = proposer(budget=budget).propose(0, Population())
    assert isinstance(found, Exhausted)
    assert found.reason.startswith(f"no new candidate of digits in {TRIES} tries: MACs at least 73K refused {TRIES} ")
    assert "(the nearest has " in found.reason


def test_where_the_neighbours_of_the_start_are_over_budget_the_space_is_sampled() -> None:
    budget = Budget(macs=Limit(50_000, None))  # one change adds at most 4,000 to the 40,000 of the start
    proposal = proposed(proposer(budget=budget, max_tries=5000), 0, Population())
    assert proposal.origin is TrialOrigin.SAMPLE
    assert proposal.tries > 2500


class UncountedDigits(DigitSpace):
    """Has no formula for its parameters, as most spaces of one's own; counting them is slow."""

    params = Space.params

    def _counts(self, genotype: object) -> tuple[int, int, int]:
        return (1, 10**6, 1)


@pytest.mark.parametrize(
    ("budget", "count", "tries"),
    [
        (Budget(params=Limit(None, 5)), CountConvention.GRAPH, "2,000"),
        (Budget(layers=Limit(99, None)), CountConvention.GRAPH, "20,000"),  # of which there is a formula
        (Budget(macs=Limit(None, 0), params=Limit(None, 5)), CountConvention.GRAPH, "2,000"),
    ],
)
def test_a_space_that_builds_networks_to_count_them_is_given_up_sooner(
    budget: Budget, count: CountConvention, tries: str
) -> None:
    one = Proposer(UncountedDigits(), settings(budget=budget, count=count))
    found = one.propose(0, Population())
    assert isinstance(found, Exhausted)
    assert found.reason.startswith(f"no new candidate of digits in {tries} tries")
    assert ("builds every network to count it" in found.reason) is (tries == "2,000")


def test_the_samples_for_one_candidate_can_be_watched() -> None:
    seen: list[int] = []
    found = proposer(budget=Budget(macs=Limit(73_000)), max_tries=30).propose(0, Population(), (), seen.append)
    assert isinstance(found, Exhausted)
    assert seen == list(range(1, 31))


def test_tries_are_counted() -> None:
    one = proposer(DigitSpace(length=1), strategy=Strategy.RANDOM)
    tries = [proposed(one, number, Population(), tuple("012345678")).tries for number in range(200)]
    assert min(tries) == 1
    assert 7 < sum(tries) / len(tries) < 13  # one in ten is new


def test_too_few_tries_are_refused() -> None:
    with pytest.raises(SettingsError, match="0 tries"):
        proposer(max_tries=0)
