from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable

import onnx
import pytest

from aznas_onnx.errors import ModelError
from aznas_onnx.graph import Limits, prepare
from aznas_onnx.inspection import inspect
from aznas_onnx.limits import copy, reading, spend, within
from tests.fuzz import directed


def test_a_reading_that_takes_its_time_names_the_node_where_it_is() -> None:
    model = directed.chain(1000)
    with pytest.raises(ModelError, match=r"more than 0 s .* has come to node 'Relu_\d+' .*--time-limit SECONDS"):
        inspect(model, limits=Limits(reading_s=0.0))
    assert len(inspect(model).nodes) == 1


def test_a_pass_without_a_budget_is_interrupted_in_the_main_thread() -> None:
    before = signal.getsignal(signal.SIGPROF)
    with pytest.raises(ModelError, match=r"reading it takes more than 0.05 s"), reading(Limits(reading_s=0.05)):
        _work_for_ever()
    assert signal.getsignal(signal.SIGPROF) is before
    assert signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)


def test_a_refusal_that_a_pass_takes_for_the_models_own_comes_again() -> None:
    with pytest.raises(ModelError, match="reading it takes"), reading(Limits(reading_s=0.01)):
        _swallow_and_go_on()


def test_work_of_other_threads_does_not_count_for_a_reading() -> None:
    with reading(Limits(reading_s=0.05)):
        other = threading.Thread(target=_work, args=(0.3,))
        other.start()
        other.join()
        spend(None, 10**9)
    assert not other.is_alive()


def _work(seconds: float) -> None:
    until_s = time.process_time() + seconds
    while time.process_time() < until_s:
        pass


def _work_for_ever() -> None:
    while True:
        time.process_time()


def _swallow_and_go_on() -> None:
    for _ in range(3):
        with contextlib.suppress(ModelError):
            _work_for_ever()
    while True:
        spend(None)


def test_other_threads_have_budgets_of_their_own() -> None:
    found: list[str] = []

    def read() -> None:
        try:
            with reading(Limits(reading_s=0.01)):
                while True:
                    spend(None, 100)
        except ModelError as error:
            found.append(str(error))

    thread = threading.Thread(target=read)
    with reading(Limits()):
        thread.start()
        thread.join()
        spend(None, 1000)
    assert len(found) == 1


def test_a_reading_inside_of_another_uses_its_budget() -> None:
    with pytest.raises(ModelError, match="more than 0 s"), reading(Limits(reading_s=0.0)):
        prepare(directed.chain(1000), limits=Limits(reading_s=60.0))


def test_nothing_is_spent_outside_of_a_reading() -> None:
    spend(None, 10**9)
    assert len(prepare(directed.chain(3)).graph.nodes) > 0


def test_the_time_of_a_command_bounds_reading_and_scoring() -> None:
    assert within(3.0) == Limits(reading_s=3.0, scoring_s=3.0)
    assert within(None, Limits(nodes=7)) == Limits(nodes=7)


def test_copies_add_up() -> None:
    class At:
        name, operator = "n", "Loop"

    with reading(Limits(copied_bytes=100)):
        copy(At(), 60)
        with pytest.raises(ModelError, match=r"node 'n' .Loop. is repeated until"):
            copy(At(), 60)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda: directed.loop_of_constants(400, 4000), "4,000 iterations; at most .* are unrolled"),
        (lambda: directed.loop_of_outputs(900, 20_000), "20,000 iterations; at most .* are unrolled"),
        (lambda: directed.loop_of_states(900, 9000), "9,000 iterations; at most .* are unrolled"),
        (lambda: directed.loop_of_wide_nodes(2000, 9000), "9,000 iterations; at most .* are unrolled"),
        (lambda: directed.loop_of_long_names(100_000, 900), "its names and tensors take more than"),
        (lambda: directed.loop_named_at_length(100_000, 900), "its names and tensors take more than"),
        (lambda: directed.loop_of_loops(300, 300), "unrolling node .* gives more than"),
        (lambda: directed.loop_of_nothing(900, 1900), "unrolling node .* gives more than"),
        (directed.loop_without_end, "4,611,686,018,427,387,904 iterations"),
        (lambda: directed.scan_of_inputs(500, 5000), "5,000 iterations; at most .* are unrolled"),
        (directed.functions_that_double, "inlining its functions gives more than 50,000 nodes, at node"),
        (lambda: directed.functions_that_double(40, overload=True), "inlining .* more than 50,000 nodes, at node"),
        (directed.functions_hidden_by_overload, "inlining its functions gives more than 50,000 nodes, at node"),
        (directed.functions_in_a_circle, r"calls itself|Cycle detected"),
        (lambda: directed.functions_called_deep(150), r"others in turn|call chain depth"),
        (lambda: directed.functions_of_weights(10_000, 20_000), "inlining its functions gives more than .* bytes"),
        (lambda: directed.functions_of_long_names(10_000, 20_000), "inlining its functions gives more than .* bytes"),
    ],
)
def test_what_multiplies_is_refused_before_it_does(build: Callable[[], onnx.ModelProto], reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        prepare(build(), limits=Limits(unrolled_nodes=2000))


def test_inputs_are_counted_without_initialisers() -> None:
    model = directed.many_inputs(30)
    with pytest.raises(ModelError, match="has 30 inputs, above the limit of 20"):
        prepare(model, limits=Limits(inputs=20))
    old = directed.separate_weights(30)
    old.graph.input.extend(
        onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        for tensor in old.graph.initializer
    )
    assert len(prepare(old, limits=Limits(inputs=20)).inputs.sample_shapes) == 1


def test_one_function_may_hold_more_than_copies_may_take() -> None:
    model = directed.functions_of_weights(10_000, 3)
    assert prepare(model, limits=Limits(copied_bytes=100_000)).graph.nodes
    with pytest.raises(ModelError, match="inlining its functions"):
        prepare(model, limits=Limits(copied_bytes=50_000))


def test_two_functions_of_one_name_are_refused() -> None:
    model = directed.functions_that_double(3)
    model.functions.append(model.functions[0])
    with pytest.raises(ModelError, match=r"same name, domain and overload|same implementation id"):
        prepare(model)


@pytest.mark.parametrize(
    "equation", ["....", "...a....", ".", "a.b", "....->", "abcd->....", "ab->cd->ef", "ab;cd", "a" * 5000, "1"]
)
@pytest.mark.parametrize("place", ["graph", "body", "function"])
def test_equations_that_native_code_never_ends_with_are_refused(equation: str, place: str) -> None:
    builders: dict[str, Callable[[str], onnx.ModelProto]] = {
        "graph": directed.einsum,
        "body": directed.einsum_in_body,
        "function": directed.einsum_in_function,
    }
    with pytest.raises(ModelError, match="has the equation"):
        prepare(builders[place](equation))


@pytest.mark.parametrize("equation", ["abcd->ab", "...cd->...dc", "a ... d -> ...d", "abcd", "...", "Ab...->..."])
def test_equations_that_mean_something_are_read(equation: str) -> None:
    assert prepare(directed.einsum(equation)).graph.nodes[-1].op_type in ("Einsum", "Transpose", "Identity", "Relu")
