"""What a request for a file asks of it: a part, or nothing if it is the file that the asker has (RFC 9110)."""

from __future__ import annotations

import re

from darkroom.deployments.gateway.problems import Problem

# Eighteen digits are more than any file has bytes, and no work to read.
ONE_RANGE = re.compile(r"\s*bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", re.IGNORECASE | re.ASCII)
TAG = re.compile(r'(?:W/)?("[^"]*")')  # weak or not: If-None-Match compares weakly (RFC 9110, 13.1.2)


def has_it(if_none_match: str, tag: str) -> bool:
    """Return whether the asker has the file of that tag already."""
    return if_none_match.strip() == "*" or tag in TAG.findall(if_none_match)


def asked_part(asked: str, if_range: str, *, tag: str, size: int) -> tuple[int, int] | None:
    """Return from where up to where a part is asked for; None for the whole file.

    What is no range of bytes, or several, is answered with the whole, as is a range of another version of the file.
    Raise Problem for a part that is not in the file.
    """
    found = ONE_RANGE.fullmatch(asked)
    # RFC 9110, 14.2, lets any range be passed over. A date in If-Range is none of our tags, so it is another version.
    if found is None or found.groups() == ("", "") or (if_range and if_range.strip() != tag):
        return None
    first, last = found.groups()
    if first and last and int(last) < int(first):  # invalid, and so to be passed over (RFC 9110, 14.1.1)
        return None
    start = int(first) if first else max(0, size - int(last))  # `-500`: the last ones, or all there are
    stop = min(size, int(last) + 1) if first and last else size
    if start >= size:
        raise Problem(
            416,
            f"The file has {size} bytes, and none of those that were asked for.",
            field="Range",
            remedy="Ask for a part of it, or leave the header out.",
            headers={"Content-Range": f"bytes */{size}"},
        )
    return start, stop
