"""What the folded kernels take: the shape of the shift kernel, the tables of the step kernel.

The structures of kernels/folded_shift.cu and kernels/folded_steps.cu, made from `steps.Step`s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from spdnn_cli.jit import njit
from spdnn_cli.network.layers import Features, Float32
from spdnn_cli.network.steps import Product, Step, fixed_point_unit, leading_shift_layers

MOST_SHIFT_LAYERS = 32

PRODUCT = np.dtype(
    [("rows", "i4"), ("terms", "i4"), ("start", "i8"), ("scale", "f4"), ("unused", "i4")]
)
STEP = np.dtype([("gather", PRODUCT), ("apply", PRODUCT), ("bias_start", "i8"), ("unused", "i8")])
LAYERS = np.dtype(
    [("near", "i4"), ("layers", "i4"), ("bias", "i2", 32), ("lanes", "i2", 32), ("ymax", "i2")],
    align=True,
)
"""The structures `Product` and `Step` of kernels/folded_steps.cu, `Layers` of folded_shift.cu."""


@dataclass(frozen=True, eq=False)
class ShiftShape:
    """The leading layers that kernels/folded_shift.cu can run.

    Attributes:
        shifts: of each layer.
        near: how many layers come before the first whose shift is whole lanes.
        bias: in units, of each layer. weight: of the first layer, in units. ymax: in units.
        unit: units in 1.
        rows: values of the last layer.
        groups, lanes, words: the kernel's macros.
    """

    shifts: tuple[int, ...]
    near: int
    bias: tuple[int, ...]
    weight: int
    ymax: int
    unit: int
    rows: int
    groups: int
    lanes: int
    words: int

    @property
    def layers(self) -> int:
        """Number of layers."""
        return len(self.shifts)

    @property
    def kernel(self) -> str:
        """The kernel's instance."""
        return f"shift_images<{','.join(map(str, self.shifts[: self.near]))}>"

    @property
    def macros(self) -> dict[str, int]:
        """What the kernel is compiled with."""
        shape = {"LANES": self.lanes, "WORDS": self.words, "GROUPS": self.groups}
        return shape | {"WEIGHT": self.weight}

    @property
    def constants(self) -> Any:
        """The kernel's `Layers`, as bytes."""
        constants = np.zeros(1, LAYERS)
        far = [0] * self.near + [shift // (32 * self.words) for shift in self.shifts[self.near :]]
        constants["near"], constants["layers"] = self.near, self.layers
        constants["bias"][0, : self.layers] = self.bias
        constants["lanes"][0, : self.layers] = far
        constants["ymax"] = self.ymax
        return constants.view(np.uint8)

    @classmethod
    def of(cls, steps: list[Step], features: Features, ymax: float) -> ShiftShape | None:
        """The longest leading part of `steps` that the kernel can run; None: there is none."""
        leading = leading_shift_layers(steps)[:MOST_SHIFT_LAYERS] if features.are_bits else []
        unit = fixed_point_unit(leading, ymax) if leading else None
        if unit is None or leading[0].gather is None or leading[0].apply.weight is None:
            return None
        width = leading[0].gather.rows
        groups, weight = features.neurons // width, round(leading[0].apply.weight * unit)
        lanes = min(32, width // 32)
        words = width // 32 // lanes if lanes else 0
        whole = 32 * lanes * words == width and lanes & (lanes - 1) == 0 and words in (1, 2, 4)
        if not whole or 2 * groups * weight > 255:
            return None
        shifts, near = _near_and_far([step.apply.shift or 0 for step in leading], 32 * words)
        rows = leading[len(shifts) - 1].apply.rows
        if rows % (32 * words):
            return None
        bias = tuple(round((step.uniform_bias or 0.0) * unit) for step in leading[: len(shifts)])
        return cls(shifts, near, bias, weight, round(ymax * unit), unit, rows, groups, lanes, words)


def _near_and_far(shifts: list[int], own: int) -> tuple[tuple[int, ...], int]:
    """The shifts that the kernel can run in their order, and how many of them are near.

    Near ones, below a lane's `own` values, come before far ones, which must be whole lanes. The
    first layer's shift may be any.
    """
    near = 1
    while near < len(shifts) and shifts[near] < own:
        near += 1
    last = near
    while last < len(shifts) and shifts[last] >= own and shifts[last] % own == 0:
        last += 1
    return tuple(shifts[:last]), near


def step_tables(steps: list[Step], images: int) -> list[Any]:
    """The arrays of `Program` in kernels/folded_steps.cu; structures as bytes."""
    indices, weights = [np.zeros(1, np.uint16)], [np.zeros(1, np.float32)]
    start, bias_start, table = 1, 0, np.zeros(len(steps), STEP)
    for k, step in enumerate(steps):
        for name, product in (("gather", step.gather), ("apply", step.apply)):
            if product is None:
                continue
            index, weight, scale = _ellpack(product, 32 // images)
            table[k][name] = (product.rows, len(index), start, scale, 0)
            indices.append(index.ravel())
            weights.append(weight.ravel())
            start += index.size
        table[k]["bias_start"] = bias_start
        bias_start += len(step.bias)
    shared = bool(np.all((table["apply"]["scale"] != 0) & (_gather_scales(table) != 0)))
    all_weights = weights[0] if shared else np.concatenate(weights)
    bias = np.concatenate([step.bias for step in steps])
    return [table.view(np.uint8), np.concatenate(indices), all_weights, bias]


def _gather_scales(table: Any) -> Any:
    """The gathers' shared weights; 1 where there is no gather."""
    return np.where(table["gather"]["rows"] > 0, table["gather"]["scale"], 1)


def _ellpack(product: Product, banks: int) -> tuple[Any, Float32, float]:
    """A product as (term, row) tables of indices and weights, and the weight that all terms share.

    Rows with fewer terms than the longest get terms of weight 0; the shared weight is then 0, which
    tells the kernel to read the weights. The terms of `banks` neighbouring rows are ordered so that
    they come from different banks of shared memory at a time, as far as that goes.
    """
    degrees = np.diff(product.offsets)
    longest = int(degrees.max(initial=0))
    index = np.zeros((longest, product.rows), np.uint16)
    weight = np.zeros((longest, product.rows), np.float32)
    rows = np.repeat(np.arange(product.rows), degrees)
    terms = np.arange(product.terms) - product.offsets[rows]
    index[terms, rows] = product.indices
    weight[terms, rows] = product.weights
    _spread_over_banks(index, weight, banks)
    regular = bool(np.all(degrees == longest))
    scale = product.weight if regular and product.weight is not None else 0.0
    return index, weight, scale


@njit(nogil=True)
def _spread_over_banks(index, weight, banks):  # type: ignore[no-untyped-def]
    """Reorder each row's terms, in place; greedy: a bank that this term's neighbours do not use,
    and of these the one with the most terms still to come."""
    terms, rows = index.shape
    for first in range(0, rows, banks):
        last = min(first + banks, rows)
        waiting = np.zeros(banks, np.int64)
        for term in range(terms):
            for row in range(first, last):
                waiting[index[term, row] % banks] += 1
        for term in range(terms):
            used = np.zeros(banks, np.int64)
            for turn in range(last - first):
                row = first + (turn + term) % (last - first)
                best = term
                for other in range(term, terms):
                    bank, so_far = index[other, row] % banks, index[best, row] % banks
                    if used[bank] < used[so_far] or (
                        used[bank] == used[so_far] and waiting[bank] > waiting[so_far]
                    ):
                        best = other
                index[term, row], index[best, row] = index[best, row], index[term, row]
                weight[term, row], weight[best, row] = weight[best, row], weight[term, row]
                used[index[term, row] % banks] += 1
                waiting[index[term, row] % banks] -= 1
