"""Archives with what an attacker would put into them: nothing is read past its bounds."""

from __future__ import annotations

import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from random import Random

import pytest
from zip_files import JPEG, changed, flaws, in_zip64, info, refused, zipped

from darkroom.media import archives


def peak_bytes(action: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_an_entry_that_unpacks_to_a_hundred_times_its_size_is_refused_unread() -> None:
    """Pictures hardly shrink: what shrinks so is no picture."""
    bomb = zipped(("fox.jpg", bytes(10_000_000)), (info("noise.jpg"), noise(200_000)), method=zipfile.ZIP_DEFLATED)
    assert peak_bytes(lambda: flaws(bomb)) < 1_000_000
    assert flaws(bomb) == {"fox.jpg": "unpacks to more than 100 times its size"}


def test_an_archive_that_unpacks_to_too_much_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the sum of what its entries say."""
    monkeypatch.setattr(archives, "MOST_BYTES", 1000)
    error = refused(zipped(("a.jpg", bytes(600)), ("b.jpg", bytes(600))))
    assert (error.field, "Unpacked" in error.message) == ("archive", True)


def test_entries_that_share_their_bytes_are_refused() -> None:
    """Each in itself unpacks to 50 times its size, ninety of them to 4,500 times that of the archive."""
    single = zipped(("00.jpg", _half_bomb()), method=zipfile.ZIP_DEFLATED)
    directory = single.index(b"PK\x01\x02")
    end = single.index(b"PK\x05\x06")
    record = single[directory:end]
    records = b"".join(record.replace(b"00.jpg", f"{number:02}.jpg".encode()) for number in range(90))
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 90, 90, len(records), directory, 0)
    assert "100 times" in refused(single[:directory] + records + tail).message


def _half_bomb() -> bytes:
    """Of 1 MB; packed it takes a fiftieth."""
    return noise(19_000) + bytes(981_000)


def noise(size: int) -> bytes:
    return Random(size).randbytes(size)


@pytest.mark.parametrize("said", [1, 59_999, 60_001, 1_000_000])
def test_an_entry_that_lies_about_its_size_is_damaged(said: int) -> None:
    """It says less or more than there is."""
    content = zipped(("fox.jpg", noise(60_000)))
    assert "damaged" in refused(changed(content, struct.pack("<L", 60_000), struct.pack("<L", said))).message


def test_a_bomb_that_says_it_is_small_is_not_unpacked() -> None:
    """It stays within what it declares: 20 MB of it are never in memory."""
    bomb = zipped(("fox.jpg", bytes(20_000_000)), method=zipfile.ZIP_DEFLATED)
    lying = changed(bomb, struct.pack("<L", 20_000_000), struct.pack("<L", 1_000_000))
    assert peak_bytes(lambda: refused(lying)) < 3_000_000


def test_a_directory_of_a_million_entries_is_not_read() -> None:
    """The end record says where it begins and how long it is: that is believed only up to a bound."""
    record = struct.pack("<4s6H3L5H2L", b"PK\x01\x02", 20, 20, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0) + b"a.jpg"
    directory = record * 60_000
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, len(directory), 0, 0)
    content = directory + tail
    assert peak_bytes(lambda: refused(content)) < 5_000_000
    assert "200 entries" in refused(content).message


def test_a_directory_in_zip64_is_bounded_too() -> None:
    """It says its length in another place."""
    content = in_zip64(zipped(("a.jpg", JPEG)), list_bytes=2**31)
    assert peak_bytes(lambda: refused(content)) < 5_000_000
