from __future__ import annotations

import os
import signal
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from aznas_onnx.calibration import Calibration

# Before torch is imported: xdist runs one worker per core, and more threads than cores only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Before onnxruntime is imported, which some tests do themselves.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# A background job of a shell that is not interactive, as CI may be, ignores SIGINT, and so would the processes whose
# answer to Ctrl-C is tested.
if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile(
    "aznas", deadline=None, derandomize=True
)  # no wall-clock limits, and the same examples each time
settings.load_profile("aznas")

_NAMED = "torchvision:shufflenet_v2_x0_5@64"
_ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _no_terminal_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the width that xdist tells its workers: what a test prints must not depend on who runs it."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture(autouse=True)
def _own_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Give each test a cache folder that is not the user's; it is made by what stores something there."""
    monkeypatch.setenv("AZNAS_CACHE", str(tmp_path_factory.getbasetemp() / "cache" / str(uuid.uuid4())))


@pytest.fixture(autouse=True)
def _user_proxies() -> Iterator[None]:
    """Take the proxies that a test loads from files out of the registry, which the next test reads."""
    from aznas_onnx.proxies import PROXIES

    before = dict(PROXIES._proxies), dict(PROXIES._loaded)
    yield
    PROXIES._proxies, PROXIES._loaded = before


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the source tree."""
    return _ROOT


@pytest.fixture
def onnx2torch_registry() -> Iterator[Any]:
    """onnx2torch's registry, without what a test adds to it."""
    from onnx2torch.node_converters import registry

    before = dict(registry._CONVERTER_REGISTRY)
    yield registry
    registry._CONVERTER_REGISTRY.clear()
    registry._CONVERTER_REGISTRY.update(before)


@pytest.fixture(scope="session")
def zoo() -> Path:
    """The folder of the zoo graphs that the onnx package ships."""
    import onnx

    return Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data that the environment variable AZNAS_SHARED names; without it, tests skip."""
    folder = os.environ.get("AZNAS_SHARED")
    if not folder:
        pytest.skip("AZNAS_SHARED names no folder of reference data")
    return Path(folder)


@pytest.fixture(scope="session")
def _exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder with one exported network."""
    from aznas_onnx.zoo import exported

    folder = tmp_path_factory.mktemp("exports")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AZNAS_CACHE", str(folder))
        exported(_NAMED)
    return folder


@pytest.fixture
def named(_exports: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a network of torchvision that the cache has."""
    monkeypatch.setenv("AZNAS_CACHE", str(_exports))
    return _NAMED


@pytest.fixture(scope="session")
def imagenet() -> Calibration:
    """The calibration that ships."""
    from aznas_onnx.calibration import find_calibration  # late: it imports torch

    found = find_calibration("imagenet")
    assert found is not None
    return found
