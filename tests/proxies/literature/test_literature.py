"""Each proxy of another paper against a textbook implementation on a torch module with the same weights and inputs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

import aznas_onnx as az
from aznas_onnx.graph import prepare
from aznas_onnx.initialise import Stream, generator
from aznas_onnx.proxies import PROXIES, Evidence, NetworkStatistic
from aznas_onnx.proxies import value as value_of_measurement
from aznas_onnx.proxies.engine.measure_statistics import measure
from aznas_onnx.proxies.engine.seeded_network import RandomNetwork, SeededNetwork, wide
from aznas_onnx.proxies.feed import Feed
from aznas_onnx.proxies.literature import LITERATURE
from aznas_onnx.proxies.literature.kernel import _condition, _gram, _published_condition
from aznas_onnx.proxies.literature.layer_weights import as_pytorch_makes_them, standard_normal
from aznas_onnx.timing import Clock
from tests.graph.builders import network, weights
from tests.proxies.literature import reference as textbook

BATCH = 6
SEED = 3


def network_of(model, batch_size=BATCH, **options) -> RandomNetwork:
    return RandomNetwork(
        prepare(model), is_transformer=False, batch_size=batch_size, device=torch.device("cpu"), **options
    )


def outcomes(model, names, seed=SEED, batch_size=BATCH, **options):
    proxies = PROXIES.resolve(names)
    wanted = {proxy.measurement.name: proxy.measurement for proxy in proxies}
    measured = measure(network_of(model, batch_size, **options), seed, wanted.values(), Clock(is_running=False))
    evidence = Evidence(blocks=(), macs=1, params=1, measured=measured)
    return {proxy.name: proxy.evaluate(evidence) for proxy in proxies}


def value(name: str, **options) -> float:
    outcome = outcomes(textbook.model(), [name], **options)[name]
    assert outcome.reason is None, outcome.reason
    return outcome.value


@pytest.fixture
def instance() -> SeededNetwork:
    return SeededNetwork(network_of(textbook.model()), SEED)


def module(instance: SeededNetwork, distribution=None) -> textbook.Reference:
    return textbook.Reference(instance.weights(instance.network.at(), distribution))


def batch(instance: SeededNetwork, number: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    samples = instance.feeds(instance.network.at(), number)["x"]
    return samples, instance.labels(textbook.CLASSES, BATCH, number)


def test_grad_norm(instance):
    assert value("grad_norm") == pytest.approx(textbook.grad_norm(module(instance), *batch(instance)), rel=1e-5)


def test_snip(instance):
    assert value("snip") == pytest.approx(textbook.snip(module(instance), *batch(instance)), rel=1e-5)


def test_grasp(instance):
    assert value("grasp") == pytest.approx(textbook.grasp(module(instance), *batch(instance)), rel=1e-4)


def test_synflow_is_without_normalisation_up_to_the_constant_under_its_root(instance):
    assert value("synflow") == pytest.approx(textbook.synflow(module(instance)), rel=5e-5)


def test_naswot(instance):
    # The first ReLU has one convolution behind it, and so have the others: each unit counts once.
    assert value("naswot") == pytest.approx(textbook.naswot(module(instance), batch(instance)[0]), rel=1e-9)


def test_a_unit_counts_once_for_each_layer_that_reads_it():
    body = "a = MatMul (x, w0) b = Relu (a) c = MatMul (b, w1) d = MatMul (b, w2) y = Add (c, d)"
    values = {"w0": weights(5, 7), "w1": weights(7, 3), "w2": weights(7, 3, seed=1)}
    model = network(body, {"x": ("n", 5)}, values)
    compiled = network_of(model, 4).at()
    instance = SeededNetwork(network_of(model, 4), SEED)
    first = next(name for name, weight in compiled.plan.items() if weight.shape == (5, 7))
    active = (instance.feeds(compiled)["x"] @ instance.weights(compiled)[first] > 0).numpy()
    kernel = 2.0 * (active[:, None] == active[None]).sum(axis=-1)
    found = outcomes(model, ["naswot", "te_nas_regions"], batch_size=4)
    assert found["naswot"].value == pytest.approx(np.linalg.slogdet(kernel)[1], rel=1e-9)
    assert found["te_nas_regions"].value == len({tuple(row) for row in active.tolist()})


@pytest.mark.parametrize(
    "switch", ["LeakyRelu <alpha = 0.1> (a)", "Clip (a, low, high)", "Elu (a)", "PRelu (a, slope)"]
)
def test_relu_like_units_are_those_that_a_sign_switches(switch):
    body = f"a = MatMul (x, w0) b = {switch} y = MatMul (b, w1)"
    values = {"w0": weights(5, 7), "w1": weights(7, 3), "slope": weights(7)}
    values |= {"low": np.float32(0), "high": np.float32(6)}
    assert math.isfinite(outcomes(network(body, {"x": ("n", 5)}, values), ["naswot"])["naswot"].value)


@pytest.mark.parametrize("unit", ["Sigmoid (a)", "Clip (a, low, high)"])
def test_other_units_are_no_switches(unit):
    body = f"a = MatMul (x, w0) b = {unit} y = MatMul (b, w1)"
    values = {"w0": weights(5, 7), "w1": weights(7, 3), "low": np.float32(-1), "high": np.float32(1)}
    outcome = outcomes(network(body, {"x": ("n", 5)}, values), ["naswot"])["naswot"]
    assert not outcome.applies
    assert outcome.reason == "it needs ReLU-like units, and the network has none"


def test_without_classes_a_loss_does_not_apply():
    model = network("y = Conv <pads = [1, 1, 1, 1]> (x, w0)", {"x": ("n", 3, 8, 8)}, {"w0": weights(4, 3, 3, 3)})
    outcome = outcomes(model, ["grad_norm"])["grad_norm"]
    assert not outcome.applies
    assert "(batch, classes)" in outcome.reason


def test_logits_are_what_enters_a_final_softmax():
    plain = "a = MatMul (x, w0) b = Relu (a) y = MatMul (b, w1)"
    soft = "a = MatMul (x, w0) b = Relu (a) c = MatMul (b, w1) y = Softmax (c)"
    values = {"w0": weights(5, 7), "w1": weights(7, 3)}
    names = ["synflow", "grad_norm", "jacov"]
    one = outcomes(network(plain, {"x": ("n", 5)}, values), names)
    other = outcomes(network(soft, {"x": ("n", 5)}, values), names)
    assert {name: outcome.value for name, outcome in one.items()} == {
        name: outcome.value for name, outcome in other.items()
    }


def test_a_file_for_one_batch_size_has_no_proxy_of_single_samples():
    model = textbook.model()
    prepared = prepare(model)
    from dataclasses import replace

    stuck = replace(prepared, fixed_batch="a constant says 6", inputs=replace(prepared.inputs, declared_batch=BATCH))
    network_ = RandomNetwork(stuck, is_transformer=False, batch_size=BATCH, device=torch.device("cpu"))
    measured = measure(network_, 0, [PROXIES["synflow"].measurement], Clock(is_running=False))
    assert "batch size 6 only" in measured["synaptic flow"].reason


def test_proxies_of_one_measurement_share_it(monkeypatch):
    from aznas_onnx.proxies.literature import gradients

    calls = []
    real = gradients._loss_gradients
    monkeypatch.setattr(gradients, "_loss_gradients", lambda *given: calls.append(given[1]) or real(*given))
    outcomes(textbook.model(), ["grad_norm", "snip", "zico"])
    assert calls == [0, 1]  # two batches for three proxies


def test_every_record_says_where_it_comes_from_and_what_it_costs():
    for proxy in LITERATURE:
        assert proxy.origin, proxy.name
        assert proxy.equation, proxy.name
        assert proxy.cost, proxy.name
        assert proxy.fidelity.startswith(("as published", "adapted")), proxy.name


def test_linear_regions_and_patterns(instance):
    samples, _ = batch(instance)
    assert value("te_nas_regions") == textbook.regions(module(instance), samples)
    assert value("swap") == textbook.swap(module(instance), samples)


def test_patterns_over_more_samples_than_one_word_holds():
    size = 60
    instance = SeededNetwork(network_of(textbook.model(), size), SEED)
    samples = instance.feeds(instance.network.at())["x"]
    found = outcomes(textbook.model(), ["swap", "naswot"], batch_size=size)
    assert found["swap"].value == textbook.swap(module(instance), samples)
    assert found["naswot"].value == pytest.approx(textbook.naswot(module(instance), samples), rel=1e-9)


def test_tangent_kernel(instance):
    reference = module(instance, as_pytorch_makes_them)
    expected = textbook.tangent_condition(reference, batch(instance)[0])
    assert value("te_nas_ntk") == pytest.approx(expected, rel=1e-3)


def test_tangent_kernel_as_published(instance):
    reference = module(instance, as_pytorch_makes_them)
    expected = textbook.published_condition(reference, batch(instance)[0])
    assert value("te_nas_ntk", as_published=True) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(
    ("kernel", "usual", "published"),
    [
        (torch.diag(torch.tensor([4.0, 2.0])), 2.0, 2.0),
        (torch.diag(torch.tensor([4.0, -0.5])), math.inf, -8.0),  # rounding did that
        (torch.diag(torch.tensor([4.0, 0.0])), math.inf, np.finfo(np.float64).max),
        (torch.zeros(2, 2), math.inf, 1e5),
        (torch.full((2, 2), math.inf), math.nan, 1e5),
    ],
)
def test_a_kernel_without_a_condition_number(kernel, usual, published):
    np.testing.assert_equal(_condition(kernel), usual)
    assert _published_condition(kernel) == pytest.approx(published)


def test_the_kernel_is_summed_layer_by_layer(monkeypatch):
    """No tensor has the gradients of all layers of all samples."""
    source = torch.Generator().manual_seed(1)
    shapes = ((3, 4), (7,), (2, 5))
    samples = [[torch.randn(shape, generator=source) for shape in shapes] for _ in range(6)]
    for one in samples:
        one.insert(1, None)  # a weight that the output does not depend on
    rows = [torch.cat([gradient.flatten() for gradient in one if gradient is not None]) for one in samples]
    expected = torch.stack(rows) @ torch.stack(rows).t()
    sizes, stack = [], torch.stack

    def watched(tensors):
        sizes.append(len(tensors) * tensors[0].numel())
        return stack(tensors)

    monkeypatch.setattr(torch, "stack", watched)
    found = _gram(samples, 4)
    assert sorted(sizes) == [6 * 7, 6 * 10, 6 * 12]
    assert samples == [[]] * 6
    torch.testing.assert_close(found, expected)


def test_zen(instance):
    expected = textbook.zen(module(instance, standard_normal), batch(instance)[0], batch(instance, 1)[0])
    assert value("zen") == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("as_published", [False, True])
def test_zen_counts_what_a_space_has_switched_off(as_published):
    """As the published code does, which goes over all modules; each edge that is off was run, too."""
    model = textbook.switched_off_model()
    instance = SeededNetwork(network_of(model), SEED)
    reference = textbook.SwitchedOff(instance.weights(instance.network.at(), standard_normal))
    expected = textbook.zen(reference, batch(instance)[0], batch(instance, 1)[0])
    assert [norm.running_var.mean().item() for norm in reference.norms][2] == pytest.approx(0.81)
    assert outcomes(model, ["zen"], as_published=as_published)["zen"].value == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["zen", "naswot", "grasp", "snip", "grad_norm", "gradsign", "synflow", "jacov"])
def test_other_proxies_have_one_form(name):
    assert value(name, as_published=True) == value(name)


def test_gradsign(instance):
    expected = textbook.gradsign(module(instance, as_pytorch_makes_them), *batch(instance))
    assert value("gradsign") == pytest.approx(expected, rel=0.01)  # a gradient of 1e-9 has either sign


def test_zico(instance):
    expected = textbook.zico(module(instance), [batch(instance), batch(instance, 1)])
    assert value("zico") == pytest.approx(expected, rel=1e-4)


def test_zico_as_published(instance):
    reference = module(instance, as_pytorch_makes_them)
    expected = textbook.zico(reference, [batch(instance), batch(instance, 1)])
    assert value("zico", as_published=True) == pytest.approx(expected, rel=1e-4)
    assert value("zico", as_published=True) != pytest.approx(value("zico"), rel=1e-2)


def test_the_option_of_scoring_reaches_the_proxies():
    options: Any = {"batch_size": BATCH, "seed": SEED, "device": "cpu", "as_published": True, "proxies": ["zico"]}
    assert az.score(textbook.model(), **options).proxies["zico"].mean == value("zico", as_published=True)


def test_zico_as_published_leaves_the_gradients_of_others_alone():
    both = outcomes(textbook.model(), ["zico", "snip"], as_published=True)
    assert both["snip"].value == value("snip")
    assert both["zico"].value == value("zico", as_published=True)


def test_proxies_are_fed_what_the_settings_say(instance):
    natural = SeededNetwork(network_of(textbook.model(), feed=Feed.of("natural")), SEED)
    samples, labels = batch(natural)
    assert not torch.equal(samples, batch(instance)[0])
    options = {"feed": Feed.of("natural")}
    assert value("snip", **options) == pytest.approx(textbook.snip(module(natural), samples, labels), rel=1e-5)
    assert value("grasp", **options) == pytest.approx(textbook.grasp(module(natural), samples, labels), rel=1e-4)
    weights = natural.weights(natural.network.at(), as_pytorch_makes_them)
    expected = textbook.tangent_condition(textbook.Reference(weights), samples)
    assert value("te_nas_ntk", **options) == pytest.approx(expected, rel=1e-3)
    noise = batch(instance, 1)[0]
    expected = textbook.zen(module(natural, standard_normal), samples, noise)
    assert value("zen", **options) == pytest.approx(expected, rel=1e-5)


def test_jacov(instance):
    assert value("jacov") == pytest.approx(textbook.jacov(module(instance), batch(instance)[0]), rel=1e-4)


def test_meco(instance):
    one = RandomNetwork(prepare(textbook.model()), is_transformer=False, batch_size=1, device=torch.device("cpu"))
    alone = SeededNetwork(one, SEED)
    # The average pool's output has one position: no correlation.
    expected = textbook.meco(module(instance), alone.feeds(one.at())["x"])
    assert value("meco") == pytest.approx(expected, rel=1e-5)


def test_near(instance):
    host = torch.device("cpu")

    def start(number: int, places: int) -> int:
        source = generator(SEED, Stream.POSITION, number, host)
        return int(torch.randint(places, (), generator=source, device=host))

    expected = textbook.near(module(instance), batch(instance)[0], start)
    assert value("near") == pytest.approx(expected, rel=1e-5)


def test_near_of_one_layer_is_the_effective_rank_of_its_output():
    model = network("y = MatMul (x, w)", {"x": ("n", 4)}, {"w": weights(4, 4)})
    compiled = network_of(model, 4).at()
    [name] = compiled.plan
    instance = SeededNetwork(network_of(model, 4), 0)
    drawn = instance.weights(compiled)[name].numpy()
    spectrum = np.linalg.svd(instance.feeds(compiled)["x"].numpy() @ drawn, compute_uv=False)
    shares = spectrum / spectrum.sum()
    expected = math.exp(-(shares * np.log(shares)).sum())
    assert outcomes(model, ["near"], 0, 4)["near"].value == pytest.approx(expected, rel=1e-5)


def test_vkdnw(instance):
    deciles = np.array(textbook.fisher_deciles(module(instance), batch(instance)[0]))
    shares = deciles / deciles.sum()
    entropy = float(-(shares * np.log(shares + 1e-10)).sum())
    found = outcomes(textbook.model(), ["vkdnw", "vkdnw_entropy"])
    assert found["vkdnw_entropy"].value == pytest.approx(entropy, rel=1e-3)
    assert found["vkdnw"].value == pytest.approx(4 + entropy, rel=1e-3)


OVERFLOWS = """
    a = Conv <pads = [1, 1, 1, 1]> (x, w0)
    b = Exp (a)
    c = Exp (b)
    d = Exp (c)
    e = Conv <pads = [1, 1, 1, 1]> (d, w1)
    f = Relu (e)
    g = GlobalAveragePool (f)
    h = Flatten (g)
    y = Gemm (h, w2)
"""


@pytest.mark.parametrize("name", ["near", "meco", "te_nas_ntk", "jacov", "vkdnw", "snip"])
def test_a_network_that_overflows_has_no_value_and_is_not_left_out(name):
    constants = {"w0": weights(8, 3, 3, 3), "w1": weights(8, 8, 3, 3), "w2": weights(8, 5)}
    outcome = outcomes(network(OVERFLOWS, {"x": ("n", 3, 8, 8)}, constants), [name])[name]
    assert outcome.applies
    assert not math.isfinite(outcome.value)
    assert outcome.reason


@pytest.mark.parametrize(
    ("error", "applies"),
    [
        (LinAlgError("the algorithm failed to converge"), True),
        (RuntimeError("the shapes do not match"), True),
        (RuntimeError("derivative for aten::f is not implemented"), False),
        (NotImplementedError("no kernel"), False),
    ],
)
def test_what_fails_on_numbers_ranks_lowest_and_what_torch_lacks_does_not_apply(error, applies):
    def fails(instance):
        raise error

    measurement = NetworkStatistic(name="own", run=fails)
    measured = measure(network_of(textbook.model()), SEED, [measurement], Clock(is_running=False))
    outcome = value_of_measurement("own", "x")(Evidence(blocks=(), macs=1, params=1, measured=measured))
    assert outcome.applies is applies
    assert "torch cannot compute it here" in outcome.reason


@pytest.mark.parametrize(("device", "where"), [("cpu", "cpu"), ("mps", "cpu"), ("cuda", "cuda")])
def test_double_precision_runs_on_a_device_that_has_it(device, where):
    """A stand-in for a tensor on a device that is not here: what is called on it, in which order."""

    class Tensor:
        def __init__(self, on):
            self.device = torch.device(on)

        def cpu(self):
            return Tensor("cpu")

        def double(self):
            if self.device.type == "mps":
                raise TypeError("the MPS framework doesn't support float64")
            return self

    tensor: Any = Tensor(device)
    assert wide(tensor).device.type == where


def test_no_measurement_asks_for_double_precision_in_another_way(repository):
    for path in (repository / "aznas_onnx" / "proxies" / "literature").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert ".double()" not in text, path.name
        assert ".to(torch.float64)" not in text, path.name
