"""How scores look, character for character."""

from __future__ import annotations

import dataclasses
import io

import pytest
from rich.console import Console

from aznas_onnx.cli.options import OutputFormat
from aznas_onnx.cli.render.score import render_profile, render_scores
from aznas_onnx.ranking import rank
from aznas_onnx.results import ProxyValue
from tests.cli.samples import report, scores


def rendered(output_format: OutputFormat = OutputFormat.TABLE, *, width: int = 120, seeds: int = 1) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=width, markup=False, highlight=False, emoji=False)
    render_scores(report(seeds=seeds), output_format, console)
    return stream.getvalue()


GOLDEN_80 = """\
                                  AZ  Expres-  Progres-   Train-
Rank  Model                    score   sivity    sivity  ability    MACs  Params
────────────────────────────────────────────────────────────────────────────────
   1  models/vit.onnx          -0.59   71.500       n/a   -1.204  17.56G  11.69M
                                       ±0.014             ±0.014
   2  models/resnet18.onnx     -1.28   62.481    -0.313   -1.204  1.814G  11.69M
                                       ±0.014    ±0.014   ±0.014
   3  models/a_network_with_   -2.20   62.481    -0.313     none  1.814G  11.69M
      quite_a_long_name_v2.o           ±0.014    ±0.014
      nnx
      models/broken.onnx      failed

Proxies: higher is better. AZ score: sum of ln(rank/m) over expressivity,
trainability, MACs; 0 is the best in all of them. MACs: multiply-adds of one
sample. Batch 64, 3 seeds, cpu. ±: standard error over seeds.
models/vit.onnx: no progressivity (a transformer has none)
models/resnet18.onnx, models/a_network_with_quite_a_long_name_v2.onnx:
normalisation restored after 20 convolutions
models/a_network_with_quite_a_long_name_v2.onnx: no trainability (block 3 is
exactly the identity)
"""

GOLDEN_120 = """\
Rank  Model                         AZ score  Expressivity  Progressivity  Trainability    MACs  Params  Blocks  Seconds
────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
   1  models/vit.onnx                  -0.59        71.500            n/a        -1.204  17.56G  11.69M      10      4.2
   2  models/resnet18.onnx             -1.28        62.481         -0.313        -1.204  1.814G  11.69M      10      4.2
   3  models/a_network_with_quite_     -2.20        62.481         -0.313          none  1.814G  11.69M      10      4.2
      a_long_name_v2.onnx
      models/broken.onnx              failed

Proxies: higher is better. AZ score: sum of ln(rank/m) over expressivity, trainability, MACs; 0 is the best in all of
them. MACs: multiply-adds of one sample. Batch 64, 1 seed, cpu.
models/vit.onnx: no progressivity (a transformer has none)
models/resnet18.onnx, models/a_network_with_quite_a_long_name_v2.onnx: normalisation restored after 20 convolutions
models/a_network_with_quite_a_long_name_v2.onnx: no trainability (block 3 is exactly the identity)
"""

GOLDEN_MARKDOWN = """\
| Rank | Model | AZ score | Expressivity | Progressivity | Trainability | MACs | Params | Blocks | Seconds |
| ---: | :--- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| 1 | `models/vit.onnx` | -0.59 | 71.500 | n/a | -1.204 | 17.56G | 11.69M | 10 | 4.2 |
| 2 | `models/resnet18.onnx` | -1.28 | 62.481 | -0.313 | -1.204 | 1.814G | 11.69M | 10 | 4.2 |
| 3 | `models/a_network_with_quite_a_long_name_v2.onnx` | -2.20 | 62.481 | -0.313 | none | 1.814G | 11.69M | 10 | 4.2 |
|  | `models/broken.onnx` | failed |  |  |  |  |  |  |  |

Proxies: higher is better. AZ score: sum of ln(rank/m) over expressivity, trainability, MACs; 0 is the best in all of them. MACs: multiply-adds of one sample. Batch 64, 1 seed, cpu.

models/vit.onnx: no progressivity (a transformer has none)

models/resnet18.onnx, models/a_network_with_quite_a_long_name_v2.onnx: normalisation restored after 20 convolutions

models/a_network_with_quite_a_long_name_v2.onnx: no trainability (block 3 is exactly the identity)
"""

GOLDEN_CSV = """\
model,status,rank,az_score,expressivity,progressivity,trainability,expressivity_stderr,progressivity_stderr,trainability_stderr,macs,params,blocks,seconds,reason
models/resnet18.onnx,ok,2,-1.2809338454620645,62.48123,-0.31251,-1.20449,0.0142,0.0142,0.0142,1814073344,11689512,10,4.25,
models/broken.onnx,failed,,,,,,,,,,,,0.0,models/broken.onnx: not an ONNX file
models/a_network_with_quite_a_long_name_v2.onnx,ok,3,-2.1972245773362196,62.48123,-0.31251,,0.0142,0.0142,,1814073344,11689512,10,4.25,
models/vit.onnx,ok,1,-0.5877866649021191,71.5,,-1.20449,0.0142,,0.0142,17564000000,11689512,10,4.25,
"""


def test_a_terminal_of_80_columns() -> None:
    assert rendered(width=80, seeds=3) == GOLDEN_80


def test_a_terminal_of_120_columns() -> None:
    assert rendered(width=120, seeds=1) == GOLDEN_120


def test_markdown() -> None:
    assert rendered(OutputFormat.MARKDOWN) == GOLDEN_MARKDOWN


def test_csv() -> None:
    assert rendered(OutputFormat.CSV, seeds=3) == GOLDEN_CSV


@pytest.mark.parametrize("width", [80, 99, 100, 117, 118, 120])
@pytest.mark.parametrize("seeds", [1, 3])
def test_names_of_a_sensible_length_stay_whole(width: int, seeds: int) -> None:
    assert "models/resnet18.onnx " in rendered(width=width, seeds=seeds)


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
@pytest.mark.parametrize("seeds", [1, 3])
def test_no_line_is_wider_than_the_terminal_and_no_number_is_cut(width: int, seeds: int) -> None:
    text = rendered(width=width, seeds=seeds)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert all(number in text for number in ("62.481", "71.500", "-1.204", "17.56G", "11.69M"))


def test_a_profile_adds_up_what_all_models_took() -> None:
    models = [dataclasses.replace(scores("a"), profile_s={"forward": 0.25, "backward": 0.5})] * 2
    stream = io.StringIO()
    render_profile(models, Console(file=stream, width=80))
    words = [line.split() for line in stream.getvalue().splitlines() if line.strip()]
    assert ["backward", "1000.0", "67%"] in words
    assert ["forward", "500.0", "33%"] in words
    assert words[-1] == ["all", "1500.0"]


@pytest.mark.parametrize(("width", "hidden"), [(80, True), (140, True), (250, False)])
def test_proxies_without_room_are_named_instead_of_crushed(width: int, hidden: bool) -> None:
    names = ("expressivity", "depth", "shortest_path", "mean_path", "spatial_depth", "layers", "paths", "bottleneck")
    values = {name: ProxyValue(mean=12.0) for name in names}
    one = dataclasses.replace(report(), scores=(scores("a.onnx", proxies=values),), proxies=names, ranking=rank([]))
    one = dataclasses.replace(one, ranking=rank(one.scores))
    stream = io.StringIO()
    render_scores(one, OutputFormat.TABLE, Console(file=stream, width=width, markup=False))
    text = " ".join(stream.getvalue().split())
    assert ("No room for" in text) == hidden
    assert "higher is better, but of shortest_path." in text
    assert " 12 " in text  # depth is a whole number
    shown = text[: text.index("Proxies:")]
    assert shown.count("12") == len(names) if not hidden else shown.count("12") >= 3
