"""Two user proxies in one file: one from block statistics, one with its own forward pass.

aznas score *.onnx --proxies az,examples/own_proxy.py:WIDENING,examples/own_proxy.py:SPREAD
aznas search --space mbv2 --flops 600M --proxies az,examples/own_proxy.py:SPREAD:0.5 --db run.db
aznas proxies examples/own_proxy.py:SPREAD

A test runs them through what every built-in proxy must keep to:

    from aznas_onnx.user_conformance import check_proxy
    check_proxy(SPREAD)
"""

from __future__ import annotations

import math

from aznas_onnx.proxies import Direction, Evidence, Need, NetworkStatistic, Outcome, Proxy, StatisticResult, value


def _widening(evidence: Evidence) -> Outcome:
    """Take the entropies of the first and last block from the pass that AZ-NAS makes anyway."""
    entropies = [block.entropy for block in evidence.blocks if block.entropy is not None]
    if len(entropies) < 2 or not all(map(math.isfinite, entropies)):
        return Outcome(value=math.nan, reason="two blocks with features that vary are needed")
    return Outcome(value=entropies[-1] - entropies[0])


WIDENING = Proxy(
    name="widening",
    description="expressivity that the last block has gained over the first",
    equation="s_L - s_1, s the entropy of AZ-NAS, Eq. 3",
    direction=Direction.HIGHER_IS_BETTER,
    needs=Need.FEATURES,
    evaluate=_widening,
    origin="an example",
    cost="that of expressivity, which it shares",
)


def _measure_spread(instance):  # an aznas_onnx.proxies.engine.seeded_network.Instance: a network with a seed
    """Run the network once; whatever is random about it comes from the instance."""
    import torch

    compiled = instance.network.at()  # at the batch size of the settings
    with torch.no_grad():
        logits = instance.logits(compiled, instance.weights(compiled), instance.feeds(compiled))
    return StatisticResult(values={"spread": logits.std(dim=0, correction=0).mean().item()})


SPREAD = Proxy(
    name="spread",
    description="how far the outputs of different samples lie apart",
    equation="mean over classes of the deviation over samples",
    direction=Direction.HIGHER_IS_BETTER,
    needs=Need.GRAPH,  # nothing of the pass of AZ-NAS: it has a measurement of its own
    measurement=NetworkStatistic(name="spread of outputs", run=_measure_spread),
    evaluate=value("spread of outputs", "spread"),
    origin="an example",
    requires="an output of shape (batch, classes)",
    cost="one forward pass",
)
