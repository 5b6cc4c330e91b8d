"""How an inspection looks, character for character."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from aznas_onnx.cli.options import OutputFormat
from aznas_onnx.cli.render.inspect import render_inspection
from aznas_onnx.graph.ir.near_miss import NearMiss
from tests.cli.samples import inspection, verification

NEAR_MISSES = (
    NearMiss("it is a factor alone, without mean and shift: a layer scale", "BatchNormalization", "layer1.0/scale"),
    *(NearMiss("it has no bias", "folded BatchNormalization", f"layer2.0/conv{index}") for index in range(6)),
    NearMiss("it has one position", "folded BatchNormalization", "fc1"),
)


def rendered(output_format: OutputFormat = OutputFormat.TABLE, *, width: int = 120, **shown: bool) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=width, markup=False, highlight=False, emoji=False)
    render_inspection(
        replace(inspection(with_unsupported=shown.get("unsupported", False)), near_misses=NEAR_MISSES),
        output_format,
        console,
        show_nodes=shown.get("nodes", False),
        show_why=shown.get("why", False),
        verification=verification(agrees=shown["agrees"]) if "agrees" in shown else None,
    )
    return stream.getvalue()


GOLDEN_80 = """\
model        models/resnet_tiny.onnx
input        image: Nx3x224x224
NOT COUNTED  DFT (1 node): MACs unknown, so the totals are too low
MACs         407.5M multiply-adds for one sample
params       669.9K trainable
activations  6.90 MiB for one sample in float32
blocks       3 primary (1 stem, 2 residual)
verified     DIFFERS FROM ONNX Runtime: difference 2.5e-01 at 'logits' (1e-03
             counts as equal; two samples differ by 3.1e-01 of the largest
             output)
changed      normalisation restored after 4 convolutions

#  Block             Kind          Output    MACs  Params  Why
──────────────────────────────────────────────────────────────
0  stem              stem      64x112x112    118M  9.408K  a
1  layer1.0          residual    64x56x56  231.2M  73.73K  b
2  layer2.0          residual   128x28x28   57.8M  73.73K  c
   (outside blocks)                          512K    513K

a  the first feature map at half the resolution of the input
b  two paths meet in the sum layer1.0/Add, one of them a skip
c  two paths meet in the sum layer2.0/Add, one of them a projection

Operator  Nodes  MACs  Params  Activations
────────────────────────────────────────────────────────
Conv          4  407M  156.9K     4.98 MiB
Gemm          1  512K    513K     3.91 KiB
Add           2     0       0     1.15 MiB
DFT           1     ?       0     4.00 KiB  MACs unknown
Relu          2     0       0      788 KiB

Node                 Operator  Block       Output    MACs  Params
─────────────────────────────────────────────────────────────────
stem/conv            Conv      stem      64x56x56    118M  9.408K
stem/relu            Relu      stem      64x56x56       0       0
layer1.0/conv1/Conv  Conv      layer1.0  64x56x56  115.6M  36.86K
layer1.0/relu        Relu      layer1.0  64x56x56       0       0
layer1.0/conv2/Conv  Conv      layer1.0  64x56x56  115.6M  36.86K
layer1.0/Add         Add       layer1.0  64x56x56       0       0
layer2.0/conv1/Conv  Conv      layer2.0  64x56x56   57.8M  73.73K
layer2.0/Add         Add       layer2.0  64x56x56       0       0
fc                   Gemm                64x56x56    512K    513K
fft                  DFT                 64x56x56       ?       0
"""

GOLDEN_120 = """\
model        models/resnet_tiny.onnx
input        image: Nx3x224x224
MACs         407.5M multiply-adds for one sample
params       669.9K trainable
activations  6.90 MiB for one sample in float32
blocks       3 primary (1 stem, 2 residual)
changed      normalisation restored after 4 convolutions

#  Block             Kind          Output    MACs  Params  Why
──────────────────────────────────────────────────────────────
0  stem              stem      64x112x112    118M  9.408K  a
1  layer1.0          residual    64x56x56  231.2M  73.73K  b
2  layer2.0          residual   128x28x28   57.8M  73.73K  c
   (outside blocks)                          512K    513K

a  the first feature map at half the resolution of the input
b  two paths meet in the sum layer1.0/Add, one of them a skip
c  two paths meet in the sum layer2.0/Add, one of them a projection

Operator  Nodes  MACs  Params  Activations
─────────────────────────────────────────────
Conv          4  407M  156.9K     4.98 MiB
Gemm          1  512K    513K     3.91 KiB
Add           2     0       0     1.15 MiB
Relu          2     0       0      788 KiB
"""

GOLDEN_MARKDOWN = """\
- **model**: models/resnet_tiny.onnx
- **input**: image: Nx3x224x224
- **MACs**: 407.5M multiply-adds for one sample
- **params**: 669.9K trainable
- **activations**: 6.90 MiB for one sample in float32
- **blocks**: 3 primary (1 stem, 2 residual)
- **verified**: agrees with ONNX Runtime: difference 2.3e-06 at 'logits' (1e-03 counts as equal; two samples differ by 3.1e-01 of the largest output)
- **changed**: normalisation restored after 4 convolutions

| # | Block | Kind | Output | MACs | Params | Why |
| ---: | :--- | :--- | ---: | ---: | ---: | :--- |
| 0 | `stem` | stem | 64x112x112 | 118M | 9.408K | the first feature map at half the resolution of the input |
| 1 | `layer1.0` | residual | 64x56x56 | 231.2M | 73.73K | two paths meet in the sum layer1.0/Add, one of them a skip |
| 2 | `layer2.0` | residual | 128x28x28 | 57.8M | 73.73K | two paths meet in the sum layer2.0/Add, one of them a projection |
|  | `(outside blocks)` |  |  | 512K | 513K |  |

| Operator | Nodes | MACs | Params | Activations |  |
| :--- | ---: | ---: | ---: | ---: | :--- |
| `Conv` | 4 | 407M | 156.9K | 4.98 MiB |  |
| `Gemm` | 1 | 512K | 513K | 3.91 KiB |  |
| `Add` | 2 | 0 | 0 | 1.15 MiB |  |
| `Relu` | 2 | 0 | 0 | 788 KiB |  |
"""

GOLDEN_CSV = """\
index,name,kind,output,shape,macs,params,activation_bytes,reason
0,stem,stem,stem_out,64x112x112,118013952,9408,3215360,the first feature map at half the resolution of the input
1,layer1.0,residual,layer1.0_out,64x56x56,231211008,73728,3211264,"two paths meet in the sum layer1.0/Add, one of them a skip"
2,layer2.0,residual,layer2.0_out,128x28x28,57802752,73728,802816,"two paths meet in the sum layer2.0/Add, one of them a projection"
"""


def test_a_terminal_of_80_columns_with_everything_there_is_to_say() -> None:
    assert rendered(width=80, nodes=True, unsupported=True, agrees=False) == GOLDEN_80


def test_a_terminal_of_120_columns() -> None:
    assert rendered(width=120) == GOLDEN_120


def test_markdown() -> None:
    assert rendered(OutputFormat.MARKDOWN, agrees=True) == GOLDEN_MARKDOWN


def test_csv() -> None:
    assert rendered(OutputFormat.CSV) == GOLDEN_CSV


def test_csv_of_the_nodes() -> None:
    lines = rendered(OutputFormat.CSV, nodes=True).splitlines()
    assert lines[0] == "node,operator,block,status,shape,macs,params,activation_bytes"
    assert lines[1] == "stem/conv,Conv,stem,counted,64x56x56,118013952,9408,3211264"
    assert len(lines) == 1 + len(inspection().nodes)


def test_json_holds_exact_counts_that_add_up() -> None:
    document = json.loads(rendered(OutputFormat.JSON, nodes=True, unsupported=True, agrees=False))
    assert document["schema"] == "aznas.inspect/1"
    assert document["unsupported"] == {"DFT": 1}
    assert document["inputs"] == {"image": [3, 224, 224]}
    for count in ("macs", "params", "activation_bytes"):
        inside = sum(block[count] for block in document["blocks"])
        assert inside + document["outside_blocks"][count] == document[count]
        assert sum(operator[count] for operator in document["operators"]) == document[count]
        assert sum(node[count] for node in document["nodes"]) == document[count]


def test_json_of_a_block() -> None:
    block = json.loads(rendered(OutputFormat.JSON))["blocks"][1]
    assert block == {
        "index": 1,
        "name": "layer1.0",
        "kind": "residual",
        "reason": "two paths meet in the sum layer1.0/Add, one of them a skip",
        "output": "layer1.0_out",
        "shape": [64, 56, 56],
        "channel_axis": 0,
        "macs": 231_211_008,
        "params": 73_728,
        "activation_bytes": 3_211_264,
        "nodes": ["layer1.0/conv1/Conv", "layer1.0/relu", "layer1.0/conv2/Conv", "layer1.0/Add"],
    }


def test_json_leaves_out_unrequested_parts() -> None:
    document = json.loads(rendered(OutputFormat.JSON))
    assert document.keys().isdisjoint({"nodes", "verification", "why"})


WHY = """\
not recognised as BatchNormalization
  it is a factor alone, without mean and shift: a layer scale
    1 node: layer1.0/scale
not recognised as folded BatchNormalization
  it has no bias
    6 nodes: layer2.0/conv0, layer2.0/conv1, layer2.0/conv2, layer2.0/conv3 and 2 more
  it has one position
    1 node: fc1
"""


def test_why_a_pattern_was_not_recognised() -> None:
    assert rendered(why=True) == f"{rendered()}\n{WHY}"
    assert json.loads(rendered(OutputFormat.JSON, why=True))["why"] == [
        {"pattern": "BatchNormalization", "reason": NEAR_MISSES[0].reason, "nodes": ["layer1.0/scale"]},
        {
            "pattern": "folded BatchNormalization",
            "reason": "it has no bias",
            "nodes": [f"layer2.0/conv{index}" for index in range(6)],
        },
        {"pattern": "folded BatchNormalization", "reason": "it has one position", "nodes": ["fc1"]},
    ]
    assert rendered(OutputFormat.CSV, why=True).splitlines()[:2] == [
        "node,pattern,reason",
        'layer1.0/scale,BatchNormalization,"it is a factor alone, without mean and shift: a layer scale"',
    ]
    markdown = rendered(OutputFormat.MARKDOWN, why=True).splitlines()
    assert markdown[-5].startswith("| Not recognised as | Why | Nodes |")
    assert markdown[-2].startswith("| folded BatchNormalization | it has no bias | 6 nodes: layer2.0/conv0,")


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_no_line_is_wider_than_the_terminal_and_no_number_is_cut(width: int) -> None:
    text = rendered(width=width, nodes=True, why=True)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert all(number in text for number in ("231.2M", "73.73K", "64x112x112"))
