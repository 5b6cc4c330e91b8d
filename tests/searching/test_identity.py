from __future__ import annotations

import pytest

from aznas_onnx.searching.identity import CandidateIdentifier, Identity
from aznas_onnx.spaces import Space, get
from aznas_onnx.spaces.registry import BUNDLED
from tests.searching.fakes import Digits, DigitSpace, UnorderedDigits


class SometimesUnordered(UnorderedDigits):
    """Tells the network of some genotypes only."""

    def canonical(self, genotype: Digits) -> str | None:
        return None if genotype[0] == 0 else super().canonical(genotype)


def test_by_genotype_or_by_network() -> None:
    by_genotype = CandidateIdentifier(UnorderedDigits(length=3), Identity.GENOTYPE)
    by_network = CandidateIdentifier(UnorderedDigits(length=3), Identity.NETWORK)
    assert by_genotype.of_text("312") == by_genotype.of((3, 1, 2), "312") == "312"
    assert by_network.of_text("312") == by_network.of((3, 1, 2), "312") == "123"


def test_a_genotype_without_a_canonical_text_is_itself() -> None:
    identifier = CandidateIdentifier(SometimesUnordered(length=3), Identity.NETWORK)
    assert [identifier.of_text(text) for text in ("021", "321")] == ["021", "123"]


@pytest.mark.parametrize("name", [record.name for record in BUNDLED])
def test_new_studies_go_by_network_where_the_space_tells(name: str) -> None:
    expected = {"nb101", "nb201", "nb-macro", "transnas-micro", "darts", "bert"}
    assert (Identity.of(get(name)) is Identity.NETWORK) is (name in expected)
    assert Identity.of(DigitSpace()) is Identity.GENOTYPE


def test_genotypes_of_one_benchmark_network_are_one_candidate() -> None:
    space: Space[object] = get("nb201")
    identifier = CandidateIdentifier(space, Identity.NETWORK)
    dead = "|nor_conv_1x1~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|none~2|"
    same = "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"
    other = "|none~0|+|none~0|none~1|+|avg_pool_3x3~0|none~1|none~2|"
    assert identifier.of_text(dead) == identifier.of_text(same) != identifier.of_text(other)
