"""The CPU kernels: Numba, no Python objects, no GIL; `simd` says how sixteen lanes become vectors.

A *panel* holds the values of up to sixteen images: float32 (width, 16), lane w for one image. A
*workspace* is two rows of panels; each product reads one row and writes the other.

    apply_product     one sparse product of a layer, with bias and clip, on a panel
    run_panels        panels through layer after layer; finished images leave, panels close up
    run_shift_images  0/1 images, one at a time, through the leading layers whose output r depends
                      on the values r and r + t alone; what is left of them goes into panels
    fill_panels       images as they come, into panels

Integers are unsigned where they index, since Numba otherwise tests every index for being negative.
"""

from __future__ import annotations

import numpy as np
from numba import njit, uint32, uint64

from spdnn_cli.engines.simd import (
    LANES,
    add,
    clip,
    greatest,
    greatest_lane,
    least,
    least_lane,
    load,
    load_counts,
    multiply_add,
    splat,
    store,
    store_counts,
    where_nonzero,
)

PLANES = 6
"""Bit planes of a count: up to 63, the sum of two groups' counts of at most 31."""
MOST_GROUPS = 31
IDLE = -1
"""The image of a lane that holds none."""

_LANES = uint64(LANES)
_ZERO, _ONE, _WORD = uint64(0), uint64(1), uint64(64)


@njit(cache=True, nogil=True)
def sum_product(values, source, target, rows, offsets, start, indices, weights):
    """sums[r] = sum over the terms of row r of weight * value, on one panel.

    Args:
        values: float32: the workspace. source, target: where the panel's values and sums start.
        rows: number of rows. offsets: of the rows in `indices` and `weights`, from `start` on.
    """
    for row in range(uint64(rows)):
        total = splat(np.float32(0))
        for k in range(offsets[start + row], offsets[start + row + _ONE]):
            value = load(values, source + uint64(indices[k]) * _LANES)
            total = multiply_add(splat(weights[k]), value, total)
        store(values, target + row * _LANES, total)


@njit(cache=True, nogil=True)
def apply_product(
    values,
    source,
    target,
    first,
    last,
    offsets,
    start,
    indices,
    weights,
    bias,
    bias_start,
    ymax,
    ends,
):
    """values[r] = clip(sum of row r + bias[r]) where the sum is not zero, rows first..last-1.

    Leaves in `ends` (float32, 32) each lane's greatest value, then each lane's least.
    """
    zero, limit = splat(np.float32(0)), splat(ymax)
    top, low = zero, limit
    for row in range(uint64(first), uint64(last)):
        total = splat(np.float32(0))
        for k in range(offsets[start + row], offsets[start + row + _ONE]):
            value = load(values, source + uint64(indices[k]) * _LANES)
            total = multiply_add(splat(weights[k]), value, total)
        shifted = clip(add(total, splat(bias[bias_start + row])), zero, limit)
        value = where_nonzero(total, shifted)
        store(values, target + row * _LANES, value)
        top, low = greatest(top, value), least(low, value)
    store(ends, _ZERO, top)
    store(ends, _LANES, low)


@njit(cache=True, nogil=True)
def run_panels(
    program, values, stride, panels, images, layer, ymax, final, tally, survivors, found
):
    """Take panels through the layers of a program until all images finish or the program ends.

    Args:
        program: (layer_products, rows, starts, bias_starts, offsets, indices, weights, bias); see
            `cpu.PanelProgram`.
        values: float32 (2 * panels' capacity * stride): the workspace; the panels start in row 0.
        stride: floats between two panels.
        panels: panels in use.
        images: int32 (capacity * 16): the image of each lane, or IDLE.
        layer: the first layer to run.
        ymax: where values are clipped.
        final: bool (depth + 1): whether a saturated image is finished before that layer.
        tally: int64 (2, depth): images entering, and dying in, each layer; added to.
        survivors: int32: images found finished alive; `found` of them on entry.

    Returns:
        (images still running, number of survivors)
    """
    layer_products, rows, starts, bias_starts, offsets, indices, weights, bias = program
    half = uint64(len(values) // 2)
    side = _ZERO
    ends = np.empty(2 * LANES, np.float32)
    running = count_running(images, panels)
    for depth in range(layer, len(layer_products) - 1):
        if running == 0:
            break
        tally[0, depth] += running
        first, last = layer_products[depth], layer_products[depth + 1]
        for panel in range(panels):
            base = uint64(panel) * uint64(stride)
            here = side
            for p in range(first, last):
                source, target = base + here * half, base + (_ONE - here) * half
                if p + 1 < last:
                    sum_product(
                        values, source, target, rows[p], offsets, starts[p], indices, weights
                    )
                else:
                    apply_product(
                        values, source, target, _ZERO, rows[p], offsets, starts[p],
                        indices, weights, bias, bias_starts[p], ymax, ends,
                    )  # fmt: skip
                here = _ONE - here
            found = retire_lanes(
                images, panel, ends, ymax, final[depth + 1], tally, depth, survivors, found
            )
        running = count_running(images, panels)
        if (last - first) % 2 == 1:
            side = _ONE - side
        if 4 * running <= 3 * LANES * panels:
            width = rows[last - 1]
            panels = close_up(values, side * half, stride, width, images, panels)
    if side == _ONE and running > 0:
        values[: panels * stride] = values[half : half + uint64(panels * stride)]
    return running, found


@njit(cache=True, nogil=True)
def retire_lanes(images, panel, ends, ymax, is_final, tally, depth, survivors, found):
    """Free the lanes of a panel whose images are dead, or saturated where that is final.

    Returns the number of survivors found so far.
    """
    for lane in range(panel * LANES, (panel + 1) * LANES):
        if images[lane] == IDLE:
            continue
        top, low = ends[lane % LANES], ends[LANES + lane % LANES]
        if top == 0:
            tally[1, depth] += 1
            images[lane] = IDLE
        elif is_final and low == ymax:
            survivors[found] = images[lane]
            found += 1
            images[lane] = IDLE
    return found


@njit(cache=True, nogil=True)
def count_running(images, panels):
    running = 0
    for k in range(panels * LANES):
        if images[k] != IDLE:
            running += 1
    return running


@njit(cache=True, nogil=True)
def close_up(values, start, stride, width, images, panels):
    """Move the running images to the leading lanes; returns the number of panels now in use."""
    taken = 0
    for k in range(panels * LANES):
        if images[k] == IDLE:
            continue
        if k != taken:
            source = start + uint64(k // LANES) * uint64(stride) + uint64(k % LANES)
            target = start + uint64(taken // LANES) * uint64(stride) + uint64(taken % LANES)
            for c in range(uint64(width)):
                values[target + c * _LANES] = values[source + c * _LANES]
            images[taken] = images[k]
            images[k] = IDLE
        taken += 1
    return (taken + LANES - 1) // LANES


@njit(cache=True, nogil=True)
def fill_panels(features, first, last, neurons, values, stride, images):
    """Images first..last-1 into the leading lanes; `features` is uint8 (packed bits) or float32.

    The lanes of the last panel that stay idle get zeros.
    """
    bits = features.itemsize == 1
    count = last - first
    panels = (count + LANES - 1) // LANES
    for k in range(panels * LANES):
        images[k] = first + k if k < count else IDLE
        start = uint64(k // LANES) * uint64(stride) + uint64(k % LANES)
        for neuron in range(uint64(neurons)):
            value = np.float32(0)
            if k < count and bits:
                byte = uint32(features[first + k, neuron >> uint64(3)])
                value = np.float32((byte >> uint32(neuron & uint64(7))) & uint32(1))
            elif k < count:
                value = np.float32(features[first + k, neuron])
            values[start + neuron * _LANES] = value
    return panels


@njit(cache=True, nogil=True)
def run_shift_images(
    bits, first, last, groups, program, ymax, final, tally, values, stride, images, survivors
):
    """Images first..last-1 through a shift program; the running ones go into panels.

    Args:
        bits: uint64 (images, words * groups): the packed inputs. The first layer's sums are
            u_c = sum over g of bit c + g * width, for c below width = 64 * words.
        program: (rows uint64, shifts uint64, weights float32, bias float32), one entry a layer:
            values[r] = clip((values[r] + values[(r + shift) mod width]) * weight + bias), r < rows.
        ymax, final, tally, values, stride, images, survivors: as for `run_panels`.

    Returns:
        (panels in use, number of survivors)
    """
    rows, shifts, weights, bias = program
    words = uint64(bits.shape[1] // groups)
    width = words * _WORD
    planes = np.empty((PLANES, words), np.uint64)
    counts = np.empty(width, np.uint8)
    state = np.empty(4 * width, np.float32)
    here, there = _ZERO, uint64(2) * width
    taken, found = 0, 0
    for image in range(first, last):
        count_bits(bits, image, groups, words, planes)
        top, low = first_shift_layer(
            planes, words, shifts[0], counts, weights[0], bias[0], ymax, state
        )
        here, there, columns, layer, finished = _ZERO, uint64(2) * width, width, 0, False
        while True:
            tally[0, layer] += 1
            if top == 0:
                tally[1, layer] += 1
                finished = True
                break
            layer += 1
            if low == ymax and final[layer]:
                survivors[found] = image
                found += 1
                finished = True
                break
            if layer == len(rows):
                break
            top, low = shift_layer(
                state,
                here,
                there,
                columns,
                rows[layer],
                shifts[layer],
                weights[layer],
                bias[layer],
                ymax,
            )
            here, there, columns = there, here, rows[layer]
        if not finished:
            images[taken] = image
            start = uint64(taken // LANES) * uint64(stride) + uint64(taken % LANES)
            for c in range(columns):
                values[start + c * _LANES] = state[here + c]
            taken += 1
    panels = (taken + LANES - 1) // LANES
    images[taken : panels * LANES] = IDLE
    return panels, found


@njit(cache=True, nogil=True)
def count_bits(bits, image, groups, words, planes):
    """Add up the groups' bits, column by column, in bit planes: 64 counts an operation.

    Two groups go in at a time: a full adder, then the carry runs up the planes.
    """
    image, groups = uint64(image), uint64(groups)
    for word in range(words):
        p0, p1, p2, p3, p4 = _ZERO, _ZERO, _ZERO, _ZERO, _ZERO
        for group in range(_ZERO, groups, uint64(2)):
            x = bits[image, group * words + word]
            y = bits[image, (group + _ONE) * words + word] if group + _ONE < groups else _ZERO
            half = p0 ^ x
            carry = (p0 & x) | (half & y)
            p0 = half ^ y
            p1, carry = p1 ^ carry, p1 & carry
            p2, carry = p2 ^ carry, p2 & carry
            p3, carry = p3 ^ carry, p3 & carry
            p4 = p4 | carry
        planes[0, word], planes[1, word], planes[2, word] = p0, p1, p2
        planes[3, word], planes[4, word] = p3, p4


@njit(cache=True, nogil=True)
def first_shift_layer(planes, words, shift, counts, weight, bias, ymax, state):
    """The first layer from the counts' bit planes: u_c + u_(c + shift) is added in bit planes too.

    Returns the greatest and the least value.
    """
    zero, limit = splat(np.float32(0)), splat(ymax)
    scale, offset = splat(weight), splat(bias)
    top, low = zero, limit
    skip, turn = shift // _WORD, shift % _WORD
    for word in range(words):
        near, far = (word + skip) % words, (word + skip + _ONE) % words
        carry = _ZERO
        s0, carry = _add_plane(planes, 0, word, near, far, turn, carry)
        s1, carry = _add_plane(planes, 1, word, near, far, turn, carry)
        s2, carry = _add_plane(planes, 2, word, near, far, turn, carry)
        s3, carry = _add_plane(planes, 3, word, near, far, turn, carry)
        s4, carry = _add_plane(planes, 4, word, near, far, turn, carry)
        store_counts(counts, _ZERO, s0, s1, s2, s3, s4, carry)
        for k in range(_ZERO, _WORD, _LANES):
            value = multiply_add(load_counts(counts, k), scale, offset)
            value = clip(value, zero, limit)
            store(state, word * _WORD + k, value)
            top, low = greatest(top, value), least(low, value)
    return greatest_lane(top), least_lane(low)


@njit(cache=True, nogil=True, inline="always")
def _add_plane(planes, p, word, near, far, turn, carry):
    """One bit plane of the counts plus the counts turned by the shift: sum and carry."""
    x = planes[p, word]
    y = planes[p, near] >> turn
    if turn > _ZERO:
        y |= planes[p, far] << (_WORD - turn)
    half = x ^ y
    return half ^ carry, (x & y) | (half & carry)


@njit(cache=True, nogil=True)
def shift_layer(state, here, there, columns, rows, shift, weight, bias, ymax):
    """One shift layer from state[here...] to state[there...]; the greatest and the least value.

    `columns` and `rows` are multiples of 16; state[here...] has room for columns + shift values.
    """
    for k in range(shift):
        state[here + columns + k] = state[here + k]
    zero, limit = splat(np.float32(0)), splat(ymax)
    scale, offset = splat(weight), splat(bias)
    top, low = zero, limit
    for k in range(_ZERO, rows, _LANES):
        pair = add(load(state, here + k), load(state, here + k + shift))
        value = clip(multiply_add(pair, scale, offset), zero, limit)
        store(state, there + k, value)
        top, low = greatest(top, value), least(low, value)
    return greatest_lane(top), least_lane(low)


@njit(cache=True, nogil=True)
def apply_layer(
    values, source, target, stride, panels, rows, offsets, indices, weights, bias, ymax, tops
):
    """One plain layer on several panels, for a range of its rows.

    Args:
        values: float32: both sides of the panels. source, target: where the sides start.
        stride: floats between two panels.
        panels, rows: (first, last) of the panels and of the rows to do.
        offsets, indices, weights, bias: the layer, CSR. ymax: where values are clipped.
        tops: float32 (panels, 16): set to each lane's greatest value among these rows.
    """
    ends = np.empty(2 * LANES, np.float32)
    for panel in range(panels[0], panels[1]):
        base = uint64(panel) * uint64(stride)
        apply_product(
            values, source + base, target + base, rows[0], rows[1], offsets, _ZERO,
            indices, weights, bias, _ZERO, ymax, ends,
        )  # fmt: skip
        tops[panel] = ends[:LANES]


@njit(cache=True, nogil=True)
def gather_lanes(values, source, target, stride, width, lanes, first, last):
    """Fill panels first..last-1 of the target side with the lanes `lanes` of the source side.

    `lanes` is int64: lane k of the target side takes lane lanes[k] of the source side, counted
    through all panels; lanes beyond its end get zeros.
    """
    for k in range(first * LANES, last * LANES):
        to = target + uint64(k // LANES) * uint64(stride) + uint64(k % LANES)
        if k < len(lanes):
            lane = lanes[k]
            of = source + uint64(lane // LANES) * uint64(stride) + uint64(lane % LANES)
            for c in range(uint64(width)):
                values[to + c * _LANES] = values[of + c * _LANES]
        else:
            for c in range(uint64(width)):
                values[to + c * _LANES] = np.float32(0)
