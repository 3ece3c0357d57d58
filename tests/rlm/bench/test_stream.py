"""Draws in bulk: the same numbers everywhere, another piece for each block."""

from __future__ import annotations

import hashlib
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm.bench.tasks import stream as module
from rlm.bench.tasks.stream import Stream

seeds = st.integers(0, 2**64 - 1)


def test_blocks_never_change():
    stream = Stream("niah", 7)
    assert stream.block(5).tolist() == [50074, 14257, 20456, 56230, 54272]
    assert stream.block(5).tolist() == [27600, 22084, 56294, 22550, 9321]


def test_a_block_is_the_hash_of_its_key_in_little_endian():
    digest = hashlib.shake_256(b"('block', 0, 'niah', 7)").digest(200)
    expected = [digest[i] + 256 * digest[i + 1] for i in range(0, 200, 2)]
    assert Stream("niah", 7).block(100).tolist() == expected


def test_a_machine_of_the_other_byte_order_swaps(monkeypatch):
    here = Stream("niah", 7).block(100)
    other = {"little": "big", "big": "little"}[module.sys.byteorder]
    monkeypatch.setattr(module.sys, "byteorder", other)
    there = Stream("niah", 7).block(100)
    there.byteswap()
    assert there == here


@given(seeds, st.integers(0, 2000), st.integers(0, 2000))
def test_a_longer_block_begins_with_a_shorter_one(seed, short, more):
    block = Stream(seed).block(short + more)
    assert len(block) == short + more
    assert block.typecode == "H"
    assert block[:short] == Stream(seed).block(short)


@given(seeds)
def test_blocks_and_streams_differ(seed):
    stream = Stream(seed)
    blocks = [stream.block(16), stream.block(16), Stream(seed + 1).block(16)]
    assert len({block.tobytes() for block in blocks}) == 3


@given(seeds, st.integers(0, 100))
def test_a_block_leaves_single_draws_where_they_are(seed, count):
    plain, mixed = Stream(seed), Stream(seed)
    before = mixed.random()
    mixed.block(count)
    assert [before, mixed.random()] == [plain.random(), plain.random()]


def test_numbers_are_spread_evenly():
    """100,000 numbers in 16 bins: chi-squared with 15 degrees of freedom, p = 0.001 at 37.7."""
    bins = array("L", [0]) * 16
    for number in Stream("even").block(100_000):
        bins[number >> 12] += 1
    assert sum((seen - 6250) ** 2 / 6250 for seen in bins) < 37.7


def test_a_negative_count_is_refused():
    with pytest.raises(ValueError, match="a block of -1 numbers: count must be 0 or more"):
        Stream(1).block(-1)
