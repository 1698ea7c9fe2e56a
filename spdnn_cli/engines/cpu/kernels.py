"""The CPU kernels: Numba, no Python objects, no GIL; `simd` says how sixteen lanes become vectors.

A *panel* holds the values of up to sixteen images: float32 (width, 16), lane w for one image. A
*workspace* is two rows of panels; each product reads one row and writes the other.

    apply_product     one sparse product of a layer, with bias and clip, on a panel
    run_panels        panels through layer after layer; finished images leave, panels are compacted
    run_shift_images  0/1 images, one at a time, through the leading layers whose output r depends
                      on the values r and r + t alone; what is left of them goes into panels
    fill_panels       images as they come, into panels
    run_shift_share, run_share   one thread's part of a run: the above, batch by batch

Integers are unsigned where they index, since Numba otherwise tests every index for being negative.
"""

from __future__ import annotations

import numpy as np
from numba import uint16, uint32, uint64

from spdnn_cli.engines.cpu.simd import (
    LANES,
    SHORTS,
    WORDS,
    add,
    add_shorts,
    any_short,
    clip,
    clip_shorts,
    greatest,
    least,
    load,
    load_counts,
    load_shorts,
    load_words,
    multiply_add,
    multiply_shorts,
    or_shorts,
    splat,
    splat_shorts,
    splat_words,
    store,
    store_counts,
    store_shorts,
    store_words,
    where_nonzero,
)
from spdnn_cli.jit import njit

PLANES = 5
"""Bit planes of a count of up to 31."""
IDLE = -1
"""The image of a lane that holds none."""

_LANES, _SHORTS, _WORDS = uint64(LANES), uint64(SHORTS), uint64(WORDS)
_ZERO, _ONE, _WORD = uint64(0), uint64(1), uint64(64)


@njit(nogil=True)
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


@njit(nogil=True)
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
    """values[r] = clip(sum of row r + bias[r]), or 0 if the sum is zero, for rows first..last-1.

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


@njit(nogil=True)
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
            panels = compact(values, side * half, stride, width, images, panels)
    return running, found


@njit(nogil=True)
def retire_lanes(images, panel, ends, ymax, is_final, tally, depth, survivors, found):
    """Free the lanes of a panel whose images are dead, or saturated for good.

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


@njit(nogil=True)
def count_running(images, panels):
    running = 0
    for k in range(panels * LANES):
        if images[k] != IDLE:
            running += 1
    return running


@njit(nogil=True)
def compact(values, start, stride, width, images, panels):
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


@njit(nogil=True)
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


@njit(nogil=True)
def run_shift_images(bits, first, last, program, tally, values, stride, images):
    """Images first..last-1 through a shift program; those that outlive it go into panels.

    All numbers are in units (`steps.fixed_point_unit`), so that uint16 holds every value exactly.

    Args:
        bits: uint64 (images, width / 64 * groups): the packed inputs. The first layer's sums are
            u_c = sum over g of bit c + g * width.
        program: (width, groups, rows, shifts, less, weight, ymax, unit): in layer k, row r below
            rows[k] is clip(values[r] + values[(r + shifts[k]) mod width] - less[k]); the first
            layer multiplies the sum by `weight` before. rows and shifts are uint64, less, weight,
            ymax and unit uint16.
        tally, values, stride, images: as for `run_panels`.

    Returns:
        panels in use
    """
    width, groups, rows, shifts, less, weight, ymax, unit = program
    words = uint64(width) // _WORD
    planes = np.empty((PLANES, words), np.uint64)
    counts = np.empty(_WORD, np.uint8)
    state = np.empty(4 * width, np.uint16)
    waiting = np.zeros((LANES, width), np.uint16)
    taken = 0
    for image in range(first, last):
        count_bits(bits, image, groups, words, planes)
        lives = first_shift_layer(planes, words, shifts[0], counts, weight, less[0], ymax, state)
        here, layer = _ZERO, 0
        tally[0, 0] += 1
        while lives and layer + 1 < len(rows):
            layer += 1
            tally[0, layer] += 1
            there = uint64(2) * uint64(width) - here
            lives = shift_layer(
                state, here, there, uint64(width), rows[layer], shifts[layer], less[layer], ymax
            )
            here = there
        if not lives:
            tally[1, layer] += 1
            continue
        images[taken] = image
        for row in range(rows[layer]):
            waiting[uint64(taken % LANES), row] = state[here + row]
        taken += 1
        if taken % LANES == 0:
            fill_panel(waiting, rows[layer], unit, values, (taken // LANES - 1) * stride)
    if taken % LANES > 0:
        fill_panel(waiting, rows[len(rows) - 1], unit, values, taken // LANES * stride)
    panels = (taken + LANES - 1) // LANES
    images[taken : panels * LANES] = IDLE
    return panels


@njit(nogil=True)
def fill_panel(waiting, rows, unit, values, start):
    """The uint16 rows of sixteen images, in units, as one panel: whole cache lines at a time."""
    scale = np.float32(unit)
    for row in range(rows):
        to = uint64(start) + row * _LANES
        for lane in range(_LANES):
            values[to + lane] = np.float32(waiting[lane, row]) / scale


@njit(nogil=True)
def run_shift_share(share, bits, shift_program, panel_program, room, ymax, final, tally, survivors):
    """One thread's share of 0/1 images: every `threads`-th batch, by a shift program, then panels.

    Args:
        share: (thread, threads, images of a batch, images in all).
        bits, shift_program: as for `run_shift_images`.
        panel_program: as for `run_panels`.
        room: (values, stride, images): the thread's panels, as for `run_panels`.
        ymax, final, tally, survivors: as for `run_panels`.

    Returns:
        (number of survivors, how many of them were still running when the program ended)
    """
    thread, threads, batch, total = share
    found = running = 0
    for first in range(thread * batch, total, threads * batch):
        last = min(first + batch, total)
        panels = run_shift_images(
            bits, first, last, shift_program, tally, room[0], room[1], room[2]
        )
        found, left = finish_batch(
            panel_program, room, panels, len(shift_program[2]), ymax, final, tally, survivors, found
        )
        running += left
    return found, running


@njit(nogil=True)
def run_share(share, features, neurons, panel_program, room, ymax, final, tally, survivors):
    """As `run_shift_share`, for inputs as `fill_panels` takes them: panels from the first layer."""
    thread, threads, batch, total = share
    values, stride, images = room
    found = running = 0
    for first in range(thread * batch, total, threads * batch):
        last = min(first + batch, total)
        panels = fill_panels(features, first, last, neurons, values, stride, images)
        found, left = finish_batch(
            panel_program, room, panels, 0, ymax, final, tally, survivors, found
        )
        running += left
    return found, running


@njit(nogil=True)
def finish_batch(program, room, panels, layer, ymax, final, tally, survivors, found):
    """Run a batch's panels from `layer` on; images still running at the end are survivors too."""
    values, stride, images = room
    running, found = run_panels(
        program, values, stride, panels, images, layer, ymax, final, tally, survivors, found
    )
    for k in range(panels * LANES):
        if images[k] != IDLE:
            survivors[found] = images[k]
            found += 1
    return found, running


@njit(nogil=True)
def count_bits(bits, image, groups, words, planes):
    """Add up the groups' bits, column by column, in bit planes: 256 or 64 counts an operation."""
    image, groups, words = uint64(image), uint64(groups), uint64(words)
    first = image * groups * words
    whole, none = words // _WORDS * _WORDS, splat_words(_ZERO)
    for word in range(_ZERO, whole, _WORDS):
        p0, p1, p2, p3, p4 = none, none, none, none, none
        for group in range(_ZERO, groups, uint64(2)):
            x = load_words(bits, first + group * words + word)
            y = none
            if group + _ONE < groups:
                y = load_words(bits, first + (group + _ONE) * words + word)
            p0, p1, p2, p3, p4 = _add_two(p0, p1, p2, p3, p4, x, y)
        store_words(planes, word, p0)
        store_words(planes, words + word, p1)
        store_words(planes, uint64(2) * words + word, p2)
        store_words(planes, uint64(3) * words + word, p3)
        store_words(planes, uint64(4) * words + word, p4)
    for word in range(whole, words):
        q0, q1, q2, q3, q4 = _ZERO, _ZERO, _ZERO, _ZERO, _ZERO
        for group in range(_ZERO, groups, uint64(2)):
            a = bits[image, group * words + word]
            b = bits[image, (group + _ONE) * words + word] if group + _ONE < groups else _ZERO
            q0, q1, q2, q3, q4 = _add_two(q0, q1, q2, q3, q4, a, b)
        planes[0, word], planes[1, word], planes[2, word] = q0, q1, q2
        planes[3, word], planes[4, word] = q3, q4


@njit(nogil=True, inline="always")
def _add_two(p0, p1, p2, p3, p4, x, y):
    """Five bit planes plus two more bits in each place: a full adder, then the carry runs up."""
    half = p0 ^ x
    carry = (p0 & x) | (half & y)
    p0 = half ^ y
    p1, carry = p1 ^ carry, p1 & carry
    p2, carry = p2 ^ carry, p2 & carry
    p3, carry = p3 ^ carry, p3 & carry
    return p0, p1, p2, p3, p4 | carry


@njit(nogil=True)
def first_shift_layer(planes, words, shift, counts, weight, less, ymax, state):
    """The first layer from the counts' bit planes: u_c + u_(c + shift) is added in bit planes too.

    Returns whether a value is not zero.
    """
    scale, offset, limit = splat_shorts(weight), splat_shorts(less), splat_shorts(ymax)
    any_value = splat_shorts(uint16(0))
    skip, turn = shift // _WORD, shift % _WORD
    for word in range(words):
        near = word + skip if word + skip < words else word + skip - words
        far = near + _ONE if near + _ONE < words else _ZERO
        carry = _ZERO
        s0, carry = _add_plane(planes, 0, word, near, far, turn, carry)
        s1, carry = _add_plane(planes, 1, word, near, far, turn, carry)
        s2, carry = _add_plane(planes, 2, word, near, far, turn, carry)
        s3, carry = _add_plane(planes, 3, word, near, far, turn, carry)
        s4, carry = _add_plane(planes, 4, word, near, far, turn, carry)
        store_counts(counts, _ZERO, s0, s1, s2, s3, s4, carry)
        for k in range(_ZERO, _WORD, _SHORTS):
            value = multiply_shorts(load_counts(counts, k), scale)
            value = clip_shorts(value, offset, limit)
            store_shorts(state, word * _WORD + k, value)
            any_value = or_shorts(any_value, value)
    return any_short(any_value)


@njit(nogil=True, inline="always")
def _add_plane(planes, p, word, near, far, turn, carry):
    """One bit plane of the counts plus the counts turned by the shift: sum and carry."""
    x = planes[p, word]
    y = planes[p, near] >> turn
    if turn > _ZERO:
        y |= planes[p, far] << (_WORD - turn)
    half = x ^ y
    return half ^ carry, (x & y) | (half & carry)


@njit(nogil=True)
def shift_layer(state, here, there, width, rows, shift, less, ymax):
    """One shift layer from state[here...] to state[there...]; whether a value is not zero.

    `width` and `rows` are multiples of 32; state[here...] has room for width + shift values.
    """
    for k in range(shift):
        state[here + width + k] = state[here + k]
    offset, limit = splat_shorts(less), splat_shorts(ymax)
    any_value = splat_shorts(uint16(0))
    for k in range(_ZERO, rows, _SHORTS):
        pair = add_shorts(load_shorts(state, here + k), load_shorts(state, here + k + shift))
        value = clip_shorts(pair, offset, limit)
        store_shorts(state, there + k, value)
        any_value = or_shorts(any_value, value)
    return any_short(any_value)


@njit(nogil=True)
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


@njit(nogil=True)
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
