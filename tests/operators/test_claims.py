"""The claims of records against ONNX's reference implementation, where an operator runs without attributes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from aznas_onnx.operators import OPERATORS, Family, InputRole, Movement, Operator

KEEPS = (Movement.SAME, Movement.CASTS)
TESTED = [
    record
    for record in OPERATORS
    if not record.domain
    and record.inputs
    and set(record.inputs) <= {InputRole.DATA, InputRole.CONDITION, InputRole.SLOPE}
    and not record.random
    and record.family is not Family.SEQUENCE
    and onnx.defs.has(record.name)
]


def outputs(record: Operator, operands: list[npt.NDArray[np.generic]]) -> list[npt.NDArray[np.generic]]:
    names = [f"x{index}" for index in range(len(operands))]
    node = helper.make_node(record.name, names, ["y"])
    values = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in zip(names, operands, strict=True)
    ]
    graph = helper.make_graph([node], "g", values, [helper.make_empty_tensor_value_info("y")])
    version = min(onnx.defs.onnx_opset_version(), 23)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)])
    with np.errstate(all="ignore"):
        return [
            np.asarray(value) for value in ReferenceEvaluator(model).run(None, dict(zip(names, operands, strict=True)))
        ]


def changes_its_own_position_only(record: Operator, dtype: type[np.generic]) -> bool | None:
    """Whether one changed element of the data changes that element of the output alone; None where it does not run."""
    rng = np.random.default_rng(0)
    shape = (2, 3, 4, 5)
    operands = [
        rng.random(shape) < 0.5 if role is InputRole.CONDITION or dtype is np.bool_
        else (rng.uniform(0.1, 0.6, shape) if dtype is np.float32 else rng.integers(1, 5, shape)).astype(dtype)
        for role in record.inputs
    ]  # fmt: skip
    changed = [operand.copy() for operand in operands]
    index = max(at for at, role in enumerate(record.inputs) if role is InputRole.DATA)
    changed[index][1, 2, 3, 4] = np.asarray(0.95 if dtype is np.float32 else 7).astype(changed[index].dtype)
    try:
        before, after = outputs(record, operands)[0], outputs(record, changed)[0]
    except Exception:  # noqa: BLE001 (what the reference raises without attributes, or for another type)
        return None
    if before.shape != shape or after.shape != shape:
        return False
    same = (before == after) | ((before != before) & (after != after))
    same[1, 2, 3, 4] = True
    return bool(same.all())


@pytest.mark.parametrize("record", TESTED, ids=lambda record: record.name)
def test_an_operator_is_elementwise_where_its_record_says_so(record: Operator) -> None:
    found = [changes_its_own_position_only(record, dtype) for dtype in (np.float32, np.int64, np.bool_)]
    ran = [value for value in found if value is not None]
    if not ran:
        pytest.skip("it does not run without attributes")
    assert all(ran) == (record.elementwise or record.movement in KEEPS)
