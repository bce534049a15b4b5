"""The orders of versions that boot loaders have: RPM's (GRUB's blscfg), UAPI's (systemd-boot); reads no files."""

from __future__ import annotations

import re
from functools import cmp_to_key

_RPM = re.compile(r"([~^])|([0-9]+)|([A-Za-z]+)")
_UAPI_PREFIX = re.compile(r"[^0-9A-Za-z~\-^.]+")
_MOST = 512  # characters of a name; file systems allow 255


def rpm_order(one: str, other: str) -> int:
    """As rpmvercmp: below, at or above 0. Segments of digits are greater than those of letters, `~` comes before the
    end, `^` after it; all else only parts segments."""
    left, right = _RPM.findall(one[:_MOST]), _RPM.findall(other[:_MOST])
    for (mark, digits, letters), (other_mark, other_digits, other_letters) in zip(left, right, strict=False):
        if mark or other_mark:
            order = _mark(mark, other_mark)
        elif digits and other_digits:
            order = (int(digits) > int(other_digits)) - (int(digits) < int(other_digits))
        elif digits or other_digits:
            order = 1 if digits else -1
        else:
            order = (letters > other_letters) - (letters < other_letters)
        if order:
            return order
    if len(left) == len(right):
        return 0
    longer = 1 if len(left) > len(right) else -1
    following = (left if longer == 1 else right)[min(len(left), len(right))]
    return -longer if following[0] == "~" else longer


def _mark(mark: str, other: str) -> int:
    """`~` is less than anything, `^` than anything but `~`: here something follows on either side."""
    rank = {"~": 0, "^": 1, "": 2}
    return (rank[mark] > rank[other]) - (rank[mark] < rank[other])


def split_package(name: str) -> tuple[str, str, str]:
    """A name as blscfg takes it for name-version-release."""
    head, dash, release = name.rpartition("-")
    if not dash:
        return name, "", ""
    first, dash, version = head.rpartition("-")
    return (first, version, release) if dash else (head, release, "")


def _package_order(one: str, other: str) -> int:
    pairs = zip(split_package(one), split_package(other), strict=True)
    return next((order for left, right in pairs if (order := rpm_order(left, right))), 0)


package_key = cmp_to_key(_package_order)


def uapi_order(one: str, other: str) -> int:
    """As the UAPI group's version format, which systemd-boot follows: below, at or above 0."""
    left, right = one[:_MOST], other[:_MOST]
    while True:
        left, right = left[_skipped(left) :], right[_skipped(right) :]
        for mark in ("~", "", "-", "^", "."):
            if mark == "" and (not left or not right):
                return bool(left) - bool(right)
            if mark and left.startswith(mark) != right.startswith(mark):
                return right.startswith(mark) - left.startswith(mark)
            if mark and left.startswith(mark):
                left, right = left[1:], right[1:]
        kind = r"[0-9]*" if left[:1].isdecimal() or right[:1].isdecimal() else r"[A-Za-z]*"
        first, second = _leading(kind, left), _leading(kind, right)
        left, right = left[len(first) :], right[len(second) :]
        if kind == "[0-9]*":
            if not first or not second:
                return bool(first) - bool(second)
            order = (int(first) > int(second)) - (int(first) < int(second))
        else:
            order = (first > second) - (first < second)
        if order:
            return order


def _skipped(text: str) -> int:
    match = _UAPI_PREFIX.match(text)
    return match.end() if match else 0


def _leading(pattern: str, text: str) -> str:
    match = re.match(pattern, text, re.ASCII)
    return match[0] if match else ""


uapi_key = cmp_to_key(uapi_order)
