"""Results made by hand, for tests of how results look."""

from __future__ import annotations

from typing import Any

from aznas_onnx.blocks.types import Block, BlockKind
from aznas_onnx.cli.render.score import ScoreReport
from aznas_onnx.costs import Costs, CountStatus, NodeCost
from aznas_onnx.inspection import InspectedBlock, InspectedNode, Inspection
from aznas_onnx.ranking import Ensemble, rank
from aznas_onnx.results import ProxyScores, ProxyValue, Status
from aznas_onnx.scoring import ScoreSettings
from aznas_onnx.verify import Comparison, Verification


def node_cost(
    node: str, operator: str, macs: int = 0, params: int = 0, size: int = 4096, status: str = "zero"
) -> NodeCost:
    return NodeCost(
        node=node, operator=operator, status=CountStatus(status), macs=macs, params=params, activation_bytes=size
    )


def inspection(*, with_unsupported: bool = False) -> Inspection:
    """A network of a stem, two residual blocks and a classifier."""
    stem = [node_cost("stem/conv", "Conv", 118_013_952, 9408, 3_211_264, "counted"), node_cost("stem/relu", "Relu")]
    first = [
        node_cost("layer1.0/conv1/Conv", "Conv", 115_605_504, 36_864, 802_816, "counted"),
        node_cost("layer1.0/relu", "Relu", size=802_816),
        node_cost("layer1.0/conv2/Conv", "Conv", 115_605_504, 36_864, 802_816, "counted"),
        node_cost("layer1.0/Add", "Add", size=802_816),
    ]
    second = [
        node_cost("layer2.0/conv1/Conv", "Conv", 57_802_752, 73_728, 401_408, "counted"),
        node_cost("layer2.0/Add", "Add", size=401_408),
    ]
    tail = [node_cost("fc", "Gemm", 512_000, 513_000, 4000, "counted")]
    if with_unsupported:
        tail.append(node_cost("fft", "DFT", status="unsupported"))
    groups = [
        (BlockKind.STEM, "stem", (64, 112, 112), stem, "the first feature map at half the resolution of the input"),
        (
            BlockKind.RESIDUAL,
            "layer1.0",
            (64, 56, 56),
            first,
            "two paths meet in the sum layer1.0/Add, one of them a skip",
        ),
        (
            BlockKind.RESIDUAL,
            "layer2.0",
            (128, 28, 28),
            second,
            "two paths meet in the sum layer2.0/Add, one of them a projection",
        ),
    ]
    blocks = tuple(
        InspectedBlock(
            block=Block(
                index=index,
                name=name,
                kind=kind,
                output=f"{name}_out",
                nodes=tuple(cost.node for cost in costs),
                channel_axis=1,
                reason=reason,
            ),
            shape=shape,
            channel_axis=0,
            costs=Costs(nodes=tuple(costs)),
        )
        for index, (kind, name, shape, costs, reason) in enumerate(groups)
    )
    every = [*stem, *first, *second, *tail]
    block_of = {cost.node: row.block.name for row in blocks for cost in row.costs.nodes}
    return Inspection(
        model="models/resnet_tiny.onnx",
        inputs={"image": (3, 224, 224)},
        batch_axes={"image": 0},
        sample_input="image",
        blocks=blocks,
        nodes=tuple(InspectedNode(cost=cost, shape=(64, 56, 56), block=block_of.get(cost.node)) for cost in every),
        costs=Costs(nodes=tuple(every)),
        outside=Costs(nodes=tuple(tail)),
        is_transformer=False,
        changes=("normalisation restored after 4 convolutions",),
        warnings=("input 'mask' (bool) carries no samples and is filled with true",),
    )


def scores(model: str, *, stderr: float | None = None, **changed: Any) -> ProxyScores:
    """Scores of a model that went well, but for what is changed."""
    proxies = {
        "expressivity": ProxyValue(mean=62.48123, stderr=stderr),
        "progressivity": ProxyValue(mean=-0.31251, stderr=stderr),
        "trainability": ProxyValue(mean=-1.20449, stderr=stderr),
        "macs": ProxyValue(mean=1_814_073_344.0),
    }
    values: dict[str, Any] = {
        "model": model,
        "status": Status.OK,
        "proxies": proxies,
        "macs": 1_814_073_344,
        "params": 11_689_512,
        "blocks": 10,
        "elapsed_s": 4.25,
    }
    return ProxyScores(**{**values, **changed})


def verification(*, agrees: bool) -> Verification:
    """A comparison with ONNX Runtime that went well, or did not."""
    logits = Comparison(output="logits", difference=2.3e-6 if agrees else 0.25, variation=0.31, tolerance=1e-3)
    return Verification(
        outputs=(logits,),
        batch_size=2,
        seed=0,
        precision="float32",
    )


def report(*, seeds: int = 1) -> ScoreReport:
    """Four models: two good ones, a transformer, and one that could not be read."""
    spread = None if seeds == 1 else 0.0142
    first = scores("models/resnet18.onnx", stderr=spread, changes=("normalisation restored after 20 convolutions",))
    dead = {**first.proxies, "trainability": ProxyValue(mean=None, reason="block 3 is exactly the identity")}
    second = scores(
        "models/a_network_with_quite_a_long_name_v2.onnx", stderr=spread, proxies=dead, changes=first.changes
    )
    none = ProxyValue(mean=None, reason="a transformer has none", applies=False)
    wide = {**first.proxies, "expressivity": ProxyValue(mean=71.5, stderr=spread), "progressivity": none}
    third = scores("models/vit.onnx", stderr=spread, proxies=wide, macs=17_564_000_000)
    failed = ProxyScores(
        model="models/broken.onnx", status=Status.FAILED, reason="models/broken.onnx: not an ONNX file"
    )
    everything = (first, failed, second, third)
    return ScoreReport(
        scores=everything,
        ranking=rank(everything),
        proxies=("expressivity", "progressivity", "trainability", "macs"),
        settings=ScoreSettings(seeds=seeds, device="cpu"),
        ensemble=Ensemble(),
    )
