"""The same architecture from several exporters becomes the same sequence of operators."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from aznas_onnx.graph import prepare, specialise

ALIKE = {
    "mobilenet_v2": 11,
    "resnet18": 7,
    "mobilenet_v3_small": 3,
    "deit_tiny": 4,
    "convnext_tiny": 2,
    "efficientnet_v2_s": 2,
    "visformer_tiny": 2,
    "gmlp_s16_224": 2,
    "regnetx_002": 2,
    "mnasnet0_5": 2,
    "efficientformer_l1": 2,
    "resnet50__": 2,
}
"""Architecture, and how many files of it there are."""

# A zoo file ends in a Softmax; that is a difference of the file, not of the architecture.
_OTHER_ENDING = ("zoo",)


@pytest.fixture(scope="module")
def real_models(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    archive = shared / "models" / "real_models.tar.xz"
    if not archive.is_file():
        pytest.skip("the archive of real models is not there")
    folder = tmp_path_factory.mktemp("real_models")
    with tarfile.open(archive) as content:
        for member in content:
            if member.isfile() and any(name.rstrip("_") in member.name for name in ALIKE):
                member.name = Path(member.name).name
                content.extract(member, folder, filter="data")
    yield folder
    shutil.rmtree(folder)  # pytest would keep a gigabyte


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ALIKE)
def test_the_same_operators(real_models: Path, architecture: str) -> None:
    files = [
        path for path in sorted(real_models.glob(f"*{architecture}*.onnx")) if not path.stem.endswith(_OTHER_ENDING)
    ]
    assert len(files) == ALIKE[architecture]
    found = {}
    for path in files:
        model = specialise(prepare(path), 2)
        found[path.stem] = sorted(node.operator for node in model.graph.nodes)
    first = next(iter(found.values()))
    assert {name: operators == first for name, operators in found.items()} == dict.fromkeys(found, True)
