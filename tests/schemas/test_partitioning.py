"""Keys go where Kafka's own clients would send them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import murmur2, partition_of


# From UtilsTest.testMurmur2 of Apache Kafka (clients), as signed 32-bit numbers.
@pytest.mark.parametrize(
    ("text", "signed"),
    [
        ("21", -973932308),
        ("foobar", -790332482),
        ("a-little-bit-long-string", -985981536),
        ("a-little-bit-longer-string", -1486304829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        ("abc", 479470107),
    ],
)
def test_murmur2_as_kafka_publishes_it(text: str, signed: int) -> None:
    assert murmur2(text.encode()) == signed % 2**32


@pytest.mark.parametrize(
    ("key", "partitions", "partition"),
    [("21", 4, 0), ("foobar", 4, 2), ("abc", 4, 3), ("abc", 10, 7), ("foobar", 1, 0), ("*", 4, 3)],
)
def test_partition_is_the_low_31_bits_modulo_the_count(key: str, partitions: int, partition: int) -> None:
    assert partition_of(key, partitions) == partition
    assert partition == (murmur2(key.encode()) & 0x7FFFFFFF) % partitions


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(1, 64))
def test_every_key_has_one_partition(key: str, partitions: int) -> None:
    assert 0 <= partition_of(key, partitions) < partitions
    assert partition_of(key, partitions) == partition_of.__wrapped__(key, partitions)
