"""The conformance suite of the importer: ONNX's own operator tests and the test data inside the onnx package.

    python benchmarks/conformance.py [-k TEXT] [--write docs/operators.md] [--verbose]

Every case goes the way a user's model goes: the graph room lowers and interprets it, the converter compiles it, and
the program's outputs are compared with the expected ones. A case ends as

- `passed`: every output has the expected shape, type and values;
- `refused`: an error says which operator or option is not supported (a clear answer, never a wrong one);
- `differs`: the values are not the expected ones. Each such case is listed in `EXPLAINED` with its reason;
- `failed`: anything else. There are none.

Inputs that are shapes in disguise (the second input of Reshape, say) are graph inputs in these tests, which no
network has: they become initialisers with the test's data. So that operators are computed by the converter and not
folded away, all other inputs stay inputs, integers too. Half-precision cases are computed in single precision, as
scoring does, and compared within the file's own precision.
"""

from __future__ import annotations

import argparse
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from aznas_onnx.convert import OPERATORS, compile_program
from aznas_onnx.convert.dtypes import carrier, is_float, to_tensor
from aznas_onnx.convert.via_onnx2torch import via_onnx2torch
from aznas_onnx.errors import AznasError, UnsupportedOperatorError
from aznas_onnx.graph.files.deserialize import deserialize
from aznas_onnx.graph.shapes.interpret import interpret
from aznas_onnx.limits import Limits

PASSED, REFUSED, DIFFERS, FAILED = "passed", "refused", "differs", "failed"

#: Inputs that are shapes, axes, bounds and the like, by operator.
CONSTANT_OPERANDS: dict[str, tuple[int, ...]] = {
    "AffineGrid": (1,),
    "CenterCropPad": (1,),
    "Col2Im": (1, 2),
    "Compress": (1,),
    "ConstantOfShape": (0,),
    "CumProd": (1,),
    "CumSum": (1,),
    "DFT": (1, 2),
    "Dropout": (1, 2),
    "Expand": (1,),
    "If": (0,),
    "Loop": (0, 1),
    "MaxUnpool": (2,),
    "NonMaxSuppression": (2, 3, 4),
    "OneHot": (1,),
    "Pad": (1, 3),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "STFT": (1, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Trilu": (1,),
    "Unsqueeze": (1,),
    "Upsample": (1,),
    **{f"Reduce{name}": (1,) for name in "Sum Mean Max Min Prod L1 L2 SumSquare LogSum LogSumExp".split()},
    **dict.fromkeys(("BlackmanWindow", "HammingWindow", "HannWindow"), (0,)),
    "MelWeightMatrix": (0, 1, 2, 3, 4),
}

#: Cases whose values differ on purpose, and why.
EXPLAINED: dict[str, str] = {
    **dict.fromkeys(
        (f"test_training_dropout{which}" for which in ("", "_mask", "_default", "_default_mask")),
        "Dropout is off by design: a proxy is a property of the network, not of one random mask",
    ),
    **dict.fromkeys(
        (f"test_optional_has_element_{kind}_input" for kind in ("optional", "tensor")),
        "an optional input is left out, and a warning says so: a network is scored without what it can do without",
    ),
}

#: Operators outside the claim: they do not compute on numbers, are no part of a network, or draw random ones.
NOT_FLOAT: dict[str, str] = {
    **dict.fromkeys(
        "StringConcat StringNormalizer StringSplit RegexFullMatch TfIdfVectorizer ImageDecoder".split(),
        "text and images",
    ),
    **dict.fromkeys(
        "SequenceAt SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength SequenceMap "
        "SplitToSequence ConcatFromSequence Optional OptionalGetElement OptionalHasElement".split(),
        "sequences and optional values",
    ),
    **dict.fromkeys(
        "QLinearConv QLinearMatMul ConvInteger MatMulInteger DynamicQuantizeLinear".split(), "integer arithmetic"
    ),
    **dict.fromkeys("Bernoulli Multinomial".split(), "random numbers"),
    **dict.fromkeys("If Loop Scan".split(), "control flow, which reading resolves where it is static"),
    **dict.fromkeys(
        "Adagrad Adam Momentum Gradient ArrayFeatureExtractor Binarizer LabelEncoder TreeEnsemble".split(),
        "optimisers and classical machine learning",
    ),
}

_PRECISION = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-20, "float64": 2.0**-40}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One test: a model with inputs and expected outputs, and the operator that it is about."""

    name: str
    suite: str
    operator: str
    model: onnx.ModelProto
    data_sets: Sequence[tuple[Sequence[Any], Sequence[Any]]]
    rtol: float = 1e-3
    atol: float = 1e-7


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a case ended, and why."""

    case: Case
    status: str
    reason: str = ""


# ---- the cases ----------------------------------------------------------------------------------------------------
@lru_cache(maxsize=1)
def operator_cases() -> tuple[Case, ...]:
    """Return ONNX's operator tests; a test of an operator written out as a function counts for that operator."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        collected = collect_testcases()
    about = {case.name: case.model.graph.node[0].op_type for case in collected if len(case.model.graph.node) == 1}
    cases = []
    for case in collected:
        nodes = case.model.graph.node
        base = case.name.split("_expanded")[0]
        operator = about.get(base) or about.get(case.name) or nodes[len(nodes) - 1].op_type
        cases.append(
            Case(
                name=case.name,
                suite="operator tests",
                operator=operator,
                model=case.model,
                data_sets=case.data_sets,
                rtol=case.rtol,
                atol=case.atol,
            )
        )
    return tuple(cases)


def data_cases() -> Iterator[Case]:
    """Yield the tests that the onnx package holds as files."""
    root = Path(onnx.__file__).parent / "backend" / "test" / "data"
    for suite in ("pytorch-converted", "pytorch-operator", "simple"):
        for folder in sorted((root / suite).iterdir()):
            model = onnx.load(folder / "model.onnx")
            sets = [
                (_read_all(part, "input", model.graph.input), _read_all(part, "output", model.graph.output))
                for part in sorted(folder.glob("test_data_set_*"))
            ]
            yield Case(name=folder.name, suite=suite, operator=_operators(model), model=model, data_sets=sets)
    for path in sorted((root / "light").glob("*.onnx")):
        model = onnx.load(path)
        expected = numpy_helper.to_array(onnx.load_tensor(f"{path.with_suffix('')}_output_0.pb"))
        constants = {tensor.name for tensor in model.graph.initializer}
        inputs = [_ramp(value) for value in model.graph.input if value.name not in constants]
        yield Case(
            name=path.stem, suite="light", operator=_operators(model), model=model, data_sets=[(inputs, [expected])]
        )


def _operators(model: onnx.ModelProto) -> str:
    return ", ".join(dict.fromkeys(node.op_type for node in model.graph.node))


def _ramp(value: onnx.ValueInfoProto) -> np.ndarray:
    """Make the input that the light models' expected outputs were computed for (onnx.backend.test.runner)."""
    shape = [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]
    count = int(np.prod(shape))
    return (np.arange(count).reshape(shape) / count).astype(np.float32)


def _read_all(folder: Path, kind: str, values: Sequence[onnx.ValueInfoProto]) -> list[Any]:
    arrays: list[Any] = []
    for index, value in enumerate(values):
        path = folder / f"{kind}_{index}.pb"
        if not path.exists():
            break
        is_tensor = value.type.HasField("tensor_type") or not value.type.WhichOneof("value")
        arrays.append(numpy_helper.to_array(onnx.load_tensor(path)) if is_tensor else [])
    return arrays


# ---- one case -----------------------------------------------------------------------------------------------------
def run_case(case: Case) -> Outcome:
    """Run all data sets of a case."""
    try:
        for inputs, expected in case.data_sets:
            difference = _run(case, [_array(value) for value in inputs], [_array(value) for value in expected])
            if difference:
                return Outcome(case=case, status=DIFFERS, reason=difference)
    except AznasError as error:
        # An error of torch or of a converter, caught and reworded for the user, is still a failure here.
        cause = type(error.__cause__).__module__
        clear = isinstance(error, UnsupportedOperatorError) or error.__cause__ is None or cause != "builtins"
        return Outcome(case=case, status=REFUSED if clear else FAILED, reason=str(error))
    except Exception as error:  # noqa: BLE001  # a case that breaks the importer is a finding, not the end of the suite
        return Outcome(case=case, status=FAILED, reason=f"{type(error).__name__}: {error}")
    return Outcome(case=case, status=PASSED)


def _array(value: Any) -> Any:
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return np.asarray(value) if isinstance(value, np.generic) else value


def _run(case: Case, inputs: list[Any], expected: list[Any]) -> str:
    """Return what is wrong with the outputs; empty where nothing is."""
    model, feeds = _with_constants(case, inputs)
    precise = any(isinstance(a, np.ndarray) and a.dtype == np.float64 for a in (*inputs, *expected))
    dtype = torch.float64 if precise else torch.float32
    graph = deserialize(model, None, case.name, Limits())
    shapes = {name: tuple(array.shape) for name, array in feeds.items() if isinstance(array, np.ndarray)}
    for value in graph.inputs:
        shapes.setdefault(value.name, ())
    graph, infos = interpret(graph, 1, shapes, Limits())
    program = compile_program(graph, infos, {}, device="cpu", dtype=dtype)
    tensors = {name: to_tensor(np.asarray(feeds[name]), torch.device("cpu"), dtype) for name in program.inputs}
    results = program.run({name: tensor for name, tensor in tensors.items() if tensor is not None})
    narrow = [a.dtype.name for a in (*inputs, *expected) if isinstance(a, np.ndarray) and "float16" in a.dtype.name]
    slack = max((_PRECISION[name] for name in narrow), default=0.0)
    if len(graph.outputs) != len(expected) or any(isinstance(wanted, list) for wanted in expected):
        raise UnsupportedOperatorError("an output is a sequence, which is left out")
    for name, wanted in zip(graph.outputs, expected, strict=True):
        problem = _compare(results[name], np.asarray(wanted), dtype, max(case.rtol, 4 * slack), case.atol, slack)
        if problem:
            return f"output {name!r}: {problem}"
    return ""


def _with_constants(case: Case, inputs: list[Any]) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Turn the inputs that are operands in disguise into initialisers; return the model and the other inputs."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    constants = {tensor.name for tensor in model.graph.initializer}
    values = dict(zip((v.name for v in model.graph.input if v.name not in constants), inputs, strict=False))
    names = _operand_names(case)
    feeds = {}
    for name, value in values.items():
        if name in names and isinstance(value, np.ndarray):
            model.graph.initializer.append(numpy_helper.from_array(value, name))
        else:
            feeds[name] = value
    return model, feeds


def _operand_names(case: Case) -> set[str]:
    names: set[str] = set()
    for node in case.model.graph.node:
        names.update(node.input[i] for i in CONSTANT_OPERANDS.get(node.op_type, ()) if i < len(node.input))
    if "expanded" in case.name:  # the inputs have the names that they have in the plain test
        for plain in operator_cases():
            if plain.name == case.name.split("_expanded")[0]:
                return names | _operand_names(plain)
    return names


def _compare(
    result: torch.Tensor, wanted: np.ndarray, dtype: torch.dtype, rtol: float, atol: float, slack: float
) -> str:
    if tuple(result.shape) != wanted.shape:
        return f"has shape {tuple(result.shape)}, expected {wanted.shape}"
    if result.dtype != carrier(wanted.dtype, dtype):
        return f"has dtype {result.dtype}, expected {wanted.dtype}"
    found = result.numpy()
    if not is_float(wanted.dtype):
        return "" if np.array_equal(found, wanted.astype(found.dtype)) else f"is {found}, expected {wanted}"
    reference = wanted.astype(np.float64)
    if wanted.dtype.name not in _PRECISION:  # eight bits or less: the same rounding, exactly
        same = np.array_equal(found, reference.astype(found.dtype), equal_nan=True)
        return "" if same else f"is {found}, expected {wanted}"
    finite = np.abs(reference[np.isfinite(reference)])
    # Where terms cancel, single precision is exact to a rounding error of the largest values only.
    atol = max(atol, max(slack, _PRECISION[str(found.dtype)]) * float(finite.max(initial=0.0)))
    if np.allclose(found, reference, rtol=rtol, atol=atol, equal_nan=True):
        return ""
    return f"differs by up to {np.nanmax(np.abs(found - reference)):.3g}"


# ---- the table ----------------------------------------------------------------------------------------------------
def run_all(cases: Iterable[Case]) -> list[Outcome]:
    """Run cases, one after the other, without gradients or warnings."""
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [run_case(case) for case in cases]


def is_claimed(outcome: Outcome) -> bool:
    """Whether a case is about numbers in a network, so that it counts for the share that passes."""
    operators = outcome.case.operator.split(", ")
    types = [value.type for value in outcome.case.model.graph.input]
    numbers = all(
        kind.HasField("tensor_type") and kind.tensor_type.elem_type != onnx.TensorProto.STRING for kind in types
    )
    return numbers and not any(name in NOT_FLOAT for name in operators)


def share_passed(outcomes: Iterable[Outcome]) -> float:
    """Return the share of the claimed cases that pass."""
    claimed = [outcome for outcome in outcomes if is_claimed(outcome)]
    return sum(outcome.status == PASSED for outcome in claimed) / len(claimed)


def write_table(outcomes: Sequence[Outcome]) -> str:
    """Return docs/operators.md."""
    lines = [*_introduction(outcomes), *_converted(outcomes), *_fallback(), *_OWN_OPERATORS]
    return "\n".join([*lines, *_refused(), *_not_passed(outcomes), ""])


def _introduction(outcomes: Sequence[Outcome]) -> list[str]:
    lines = [
        "# Operators",
        "",
        "Generated by `python benchmarks/conformance.py --write docs/operators.md`; do not edit.",
        "",
        f"Every operator of ONNX {onnx.__version__} (opset {onnx.defs.onnx_opset_version()}), and what happens to it.",
        "The cases are ONNX's own operator tests and the test data inside the `onnx` package, run through reading,",
        "shape inference and conversion. A case passes if all outputs have the expected shapes, types and values; it",
        "is refused if an error names the operator and what to do. An operator in a version newer than those listed",
        "is refused, because its meaning may have changed.",
        "",
        "| Suite | Cases | Passed | Refused | Differs | Failed |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for suite in dict.fromkeys(outcome.case.suite for outcome in outcomes):
        found = Counter(outcome.status for outcome in outcomes if outcome.case.suite == suite)
        counts = " | ".join(str(found[status]) for status in (PASSED, REFUSED, DIFFERS, FAILED))
        lines.append(f"| {suite} | {found.total()} | {counts} |")
    left_out = ", ".join(dict.fromkeys(NOT_FLOAT.values()))
    claimed = [outcome for outcome in outcomes if is_claimed(outcome)]
    lines += [
        "",
        f"Of the {len(claimed)} cases about numbers in a network, {share_passed(outcomes):.1%} pass. Left out are",
        f"{left_out}.",
        "No case gives a wrong answer silently: each one that differs is explained below.",
        "",
    ]
    return lines


def _converted(outcomes: Sequence[Outcome]) -> list[str]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for outcome in outcomes:
        for operator in outcome.case.operator.split(", "):
            counts[operator][outcome.status] += 1
    lines = [
        "## Converted",
        "",
        "Each converter gives a plain torch function without modules or state. Cases of several operators count for",
        "each of them.",
        "",
        "| Operator | Versions | Passed | Refused | Differs | Note |",
        "|---|---|---:|---:|---:|---|",
    ]
    for entry in sorted(OPERATORS.entries, key=lambda entry: (entry.op_type, entry.first)):
        if entry.converter is None:
            continue
        found = counts[entry.op_type]
        versions = f"{entry.first} to {entry.last}" if entry.first != entry.last else str(entry.first)
        lines.append(
            f"| {entry.op_type} | {versions} | {found[PASSED]} | {found[REFUSED]} | {found[DIFFERS]} | {entry.note} |"
        )
    return [*lines, ""]


def _fallback() -> list[str]:
    """Describe onnx2torch's converters of operators and versions that the table lacks."""
    found: dict[str, list[int]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        name, version = schema.name, schema.since_version
        if not schema.domain and OPERATORS.find(name, version) is None and via_onnx2torch(name, version) is not None:
            found.setdefault(name, []).append(version)
    rows = [f"| {name} | {', '.join(map(str, sorted(versions)))} |" for name, versions in sorted(found.items())]
    return [
        "## Converted by onnx2torch",
        "",
        "An operator, or a version of one, that the table above lacks goes to the converter that onnx2torch has for",
        "it, if any: those of this list, and those that `onnx2torch.node_converters.registry.add_converter` has",
        "registered in the process, for any domain and for refused operators, too. Its result is compared with ONNX",
        "Runtime's on random operands when a network is compiled, once for each set of attributes, shapes and types.",
        "If they differ, the network is refused with the names of node and operator. The warnings of a score name each",
        "operator that is converted so, and say whether it was compared.",
        "",
        "| Operator | Versions |",
        "|---|---|",
        *rows,
        "",
    ]


_OWN_OPERATORS = """\
## Your own operator, in one file

[`examples/own_operator.py`](../examples/own_operator.py) has two: an activation, and one that multiplies by a weight.

```
aznas score net.onnx --operators examples/own_operator.py
```

`score`, `inspect`, `gate`, `search`, `export`, `bench` and `reference` take `--operators FILE.py`, once for each file;
only named files are executed. The processes of `--workers` load it, too. A program calls
`aznas_onnx.operators.CUSTOM_OPERATORS.load("own_operator.py")`, or `.add(OPERATOR)` for one operator.

The file defines variables of type `aznas_onnx.operators.CustomOperator`, which holds two things:

- `record`, an `Operator` of the catalogue that all layers read: domain and name, family, how elements move, the role of
  each input, and the MAC rule: a function from the node and the shapes of its tensors to the multiply-adds of the whole
  batch, `zero`, or None where they are unknown; then counts name the operator as left out. The roles decide which
  constants are parameters and how they are initialised. A `WEIGHT` of the family `CONVOLUTION` is laid out as (outputs,
  inputs, ...), that of another family as the right operand of a MatMul. The last role holds for all further inputs; a
  constant behind a last `DATA` needs a role of its own. `bounds` and `keeps_sign` say which results can be negative,
  which decides whether a padding or the range of a quantisation is read as part of a layer; the units of a `switch` are
  counted by the proxies of activation patterns (naswot, swap, te_nas).
- `convert`, a function from a node and its context to a differentiable torch function of the tensors of its inputs. It
  is called on tensors without data or on zeros, too: ONNX does not know the shapes of such operators, and the results
  have them at any batch size. Where ONNX Runtime runs the operator, the results are compared as above.

A file may also call onnx2torch's `add_converter`. Such an operator needs no record: its multiply-adds are unknown,
matrices among its constants are initialised as weights, and vectors with ones.
""".split("\n")


def _refused() -> list[str]:
    refusals = [entry for entry in OPERATORS.entries if entry.converter is None]
    rows = [f"| {entry.op_type} | {entry.note} |" for entry in sorted(refusals, key=lambda entry: entry.op_type)]
    return ["## Refused", "", "| Operator | What to do |", "|---|---|", *rows, ""]


def _not_passed(outcomes: Sequence[Outcome]) -> list[str]:
    lines = ["## Cases that do not pass", "", "| Case | Status | Reason |", "|---|---|---|"]
    for outcome in outcomes:
        if outcome.status != PASSED:
            reason = EXPLAINED.get(outcome.case.name, outcome.reason).replace("|", "/").replace("\n", " ")
            lines.append(f"| {outcome.case.name} | {outcome.status} | {reason} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-k", metavar="TEXT", default="", help="only cases whose name contains TEXT")
    parser.add_argument("--write", metavar="FILE", type=Path, help="write the table of operators")
    parser.add_argument("--verbose", action="store_true", help="print every case that did not pass")
    options = parser.parse_args()
    cases = [*operator_cases(), *data_cases()]
    outcomes = run_all(case for case in cases if options.k in case.name)
    for outcome in outcomes:
        unexplained = outcome.status in (FAILED, DIFFERS) and outcome.case.name not in EXPLAINED
        if unexplained or (options.verbose and outcome.status != PASSED):
            print(f"{outcome.status:8} {outcome.case.operator:24.24} {outcome.case.name}: {outcome.reason[:260]}")
    print(
        dict(Counter(outcome.status for outcome in outcomes)), f"{share_passed(outcomes):.2%} of the claimed cases pass"
    )
    if options.write:
        options.write.write_text(write_table(outcomes), encoding="utf-8")


if __name__ == "__main__":
    main()
