"""Which thread adds up which row of a gather, and in which order: so that banks do not collide.

Shared memory has 32 banks of 4 bytes. `lanes` neighbouring threads read one value each at a time,
in one pass if no two values lie in one bank (value number % lanes). So rows are put in groups of
`lanes`, each of which reads all banks about equally often, and writes its sums to all of them; then
the terms of each row are ordered.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from spdnn_cli.jit import njit
from spdnn_cli.network.layers import Int32

CANDIDATES = 24
"""Rows that are looked at for each lane when a group is made."""
FEW_GROUPS = 32
SWEEPS = 4
"""Most groups between which rows are exchanged afterwards, and most rounds of exchanges."""


def lay_out(rows: Any, places: Int32, lanes: int, indices: Any, place_of_slot: Any) -> None:
    """Assign the rows of a gather to slots, and order their terms.

    Args:
        rows: uint16 (rows, terms): the values that each row adds up; at the end, as padding, the
            number of slots, which stands for a value that is zero.
        places: int32 (rows): where the sum of each row is to be written.
        lanes: threads whose accesses are one pass over the banks.
        indices: uint16 (slots, terms), filled here: the terms of each slot's row, in order; slots
            without a row stay as they are.
        place_of_slot: uint32 (slots), filled here: where a slot's sum is written; likewise.
    """
    zero = len(place_of_slot)
    by_lane = [np.flatnonzero(places % lanes == lane) for lane in range(lanes)]
    queue = np.full((lanes, max(map(len, by_lane))), -1, np.int64)
    for lane, members in enumerate(by_lane):
        queue[lane, : len(members)] = members
    groups = _make_groups(queue, rows, zero)
    if len(groups) <= FEW_GROUPS:  # the last ones of few had to take what was left
        _even_out_groups(groups, rows, zero)
    _order_terms(groups, rows, zero, indices)
    row_of_slot = groups.ravel()
    used = np.flatnonzero(row_of_slot >= 0)
    place_of_slot[used] = places[row_of_slot[used]]


@njit(nogil=True)
def _make_groups(queue, rows, zero):  # type: ignore[no-untyped-def]
    """Groups of rows, int64 (groups, lanes), -1 for none: one of each list in `queue`, of the next
    few the one with which the group reads all banks equally often."""
    lanes, groups = queue.shape
    terms = rows.shape[1]
    made = np.full((groups, lanes), -1, np.int64)
    load = np.zeros(lanes, np.int64)
    for group in range(groups):
        load[:] = 0
        for lane in range(lanes):
            best, least = -1, np.int64(1) << 60
            for place in range(group, min(group + CANDIDATES, groups)):
                row = queue[lane, place]
                if row < 0:
                    break
                cost = 0
                for term in range(terms):
                    if rows[row, term] != zero:
                        bank = rows[row, term] % lanes
                        load[bank] += 1
                        cost += 2 * load[bank] - 1  # the squares' sum grows by that
                for term in range(terms):
                    if rows[row, term] != zero:
                        load[rows[row, term] % lanes] -= 1
                if cost < least:
                    best, least = place, cost
            if best < 0:
                continue
            row = queue[lane, best]
            queue[lane, best], queue[lane, group] = queue[lane, group], row
            made[group, lane] = row
            for term in range(terms):
                if rows[row, term] != zero:
                    load[rows[row, term] % lanes] += 1
    return made


@njit(nogil=True)
def _even_out_groups(groups, rows, zero):  # type: ignore[no-untyped-def]
    """Exchange rows between groups, in place, as long as banks are then read more equally often.

    What is to shrink is the sum of the squares of all groups' reads of all banks.
    """
    count, lanes = groups.shape
    load = np.zeros((count, lanes), np.int64)
    for group in range(count):
        for lane in range(lanes):
            _count_banks(load[group], rows, groups[group, lane], zero, 1)
    for _ in range(SWEEPS):
        changed = False
        for one in range(count):
            for other in range(one + 1, count):
                for lane in range(lanes):
                    a, b = groups[one, lane], groups[other, lane]
                    if a < 0 or b < 0:
                        continue
                    before = _squares(load[one]) + _squares(load[other])
                    _exchange(load, one, other, rows, a, b, zero)
                    if _squares(load[one]) + _squares(load[other]) < before:
                        groups[one, lane], groups[other, lane] = b, a
                        changed = True
                    else:
                        _exchange(load, one, other, rows, b, a, zero)
        if not changed:
            break


@njit(nogil=True)
def _exchange(load, one, other, rows, a, b, zero):  # type: ignore[no-untyped-def]
    """Count row a in group `other` and row b in group `one`, and no longer the other way round."""
    _count_banks(load[one], rows, a, zero, -1)
    _count_banks(load[one], rows, b, zero, 1)
    _count_banks(load[other], rows, b, zero, -1)
    _count_banks(load[other], rows, a, zero, 1)


@njit(nogil=True)
def _count_banks(load, rows, row, zero, by):  # type: ignore[no-untyped-def]
    """Add `by` to a bank's load for each time that a row reads it; row -1: there is none."""
    if row < 0:
        return
    for term in range(rows.shape[1]):
        if rows[row, term] != zero:
            load[rows[row, term] % len(load)] += by


@njit(nogil=True)
def _squares(load):  # type: ignore[no-untyped-def]
    total = 0
    for reads in load:
        total += reads * reads
    return total


@njit(nogil=True)
def _order_terms(groups, rows, zero, indices):  # type: ignore[no-untyped-def]
    """Write the terms of each group's rows, ordered so that at each term the lanes read different
    banks, as far as that goes.

    Term after term, as many lanes as possible are matched with a bank of their own, banks that have
    most reads to come first. What cannot be spread then meets in the last few terms, not in all.
    """
    lanes, terms = groups.shape[1], rows.shape[1]
    value = np.empty((lanes, terms), np.int64)  # terms still to be placed, in no order
    bank = np.empty((lanes, terms), np.int64)  # of these; -1: of padding
    for group in range(len(groups)):
        value[:] = zero
        bank[:] = -1
        load = np.zeros(lanes, np.int64)
        for lane in range(lanes):
            row = groups[group, lane]
            if row >= 0:
                for term in range(terms):
                    value[lane, term] = rows[row, term]
                    if rows[row, term] != zero:
                        bank[lane, term] = rows[row, term] % lanes
            _count_banks(load, rows, row, zero, 1)
        for term in range(terms):
            last = terms - term - 1
            chosen = _match(bank[:, : last + 1], load)
            for lane in range(lanes):
                place = chosen[lane]
                indices[group * lanes + lane, term] = value[lane, place]
                if bank[lane, place] >= 0:
                    load[bank[lane, place]] -= 1
                value[lane, place] = value[lane, last]
                bank[lane, place] = bank[lane, last]


@njit(nogil=True)
def _match(bank, load):  # type: ignore[no-untyped-def]
    """For each lane the place of one of its terms, whose banks are given (lanes, terms): a largest
    matching of lanes and banks; a lane that finds none takes padding, or else the bank that is read
    least so far. load: reads of each bank."""
    lanes, terms = bank.shape
    chosen = np.full(lanes, -1, np.int64)
    reads = np.zeros(lanes, np.int64)
    tried = np.full(lanes, -1, np.int64)  # for which bank a lane was asked last
    for wanted in np.argsort(-load):
        if load[wanted] > 0 and _find_reader(wanted, wanted, bank, chosen, tried):
            reads[wanted] = 1
    for lane in range(lanes):
        if chosen[lane] >= 0:
            continue
        least = np.int64(1) << 60
        for place in range(terms):
            cost = reads[bank[lane, place]] if bank[lane, place] >= 0 else -1
            if cost < least:
                least, chosen[lane] = cost, place
        if least >= 0:
            reads[bank[lane, chosen[lane]]] += 1
    return chosen


@njit(nogil=True)
def _find_reader(wanted, turn, bank, chosen, tried):  # type: ignore[no-untyped-def]
    """Let a lane that has a term in the bank `wanted` read it. A lane that reads another bank must
    first find a reader for that bank (an augmenting path). Returns whether this succeeded."""
    lanes, terms = bank.shape
    for lane in range(lanes):
        if tried[lane] == turn:
            continue
        for place in range(terms):
            if bank[lane, place] != wanted:
                continue
            tried[lane] = turn
            before = chosen[lane]
            if before < 0 or _find_reader(bank[lane, before], turn, bank, chosen, tried):
                chosen[lane] = place
                return True
            break
    return False
