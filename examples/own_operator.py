"""Two operators of your own in one file: an activation, and one that multiplies by a weight.

aznas score net.onnx --operators examples/own_operator.py
aznas inspect net.onnx --operators examples/own_operator.py
aznas search --space my_space.py --operators examples/own_operator.py --workers 4 --db run.db

A program loads the file, or registers the records themselves:

    from aznas_onnx.operators import CUSTOM_OPERATORS
    CUSTOM_OPERATORS.load("examples/own_operator.py")
"""

from __future__ import annotations

import math

import torch

from aznas_onnx.operators import CustomOperator, Family, InputRole, Movement, Operator, zero


def _squareplus(node, context):  # an aznas_onnx Node, and what is known about the graph around it
    beta = node.attributes.get("beta", 4.0)
    return lambda x: (x + torch.sqrt(x * x + beta)) / 2


SQUAREPLUS = CustomOperator(
    record=Operator(
        name="Squareplus",
        domain="my.domain",
        family=Family.ACTIVATION,
        elementwise=True,
        movement=Movement.NONE,
        random=False,
        window=False,
        inputs=(InputRole.DATA,),
        macs=zero,
        differentiable=True,
        bounds=(0.0, math.inf),  # the least and the greatest result
        keeps_sign=True,  # results of nonnegative operands are nonnegative
        switch=False,  # it has no branch for each sign, as ReLU has
    ),
    convert=_squareplus,
)


def _mix(node, context):
    return lambda x, weight: torch.einsum("nchw,oc->nohw", x, weight)


def _mix_macs(node, shapes):
    """Count one product for each element of the input and each output channel, of the whole batch."""
    outputs, _ = shapes.shape(node.inputs[1])
    return math.prod(shapes.shape(node.inputs[0])) * outputs


CHANNEL_MIX = CustomOperator(
    record=Operator(
        name="ChannelMix",
        domain="my.domain",
        family=Family.CONVOLUTION,  # so that the weight is initialised as (outputs, inputs, ...)
        elementwise=False,
        movement=Movement.NONE,
        random=False,
        window=False,
        inputs=(InputRole.DATA, InputRole.WEIGHT),
        macs=_mix_macs,
        differentiable=True,
        bounds=(-math.inf, math.inf),
        keeps_sign=False,
        switch=False,
    ),
    convert=_mix,
)
