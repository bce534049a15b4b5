"""Names as parts of keys: what they become, that no two meet, and that they keep to the store's contract."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from warmspare.errors import ConfigError
from warmspare.model.ids import PackId
from warmspare.model.keyparts import decode_name, encode_name
from warmspare.store import layout

ALLOWED = re.compile(r"[A-Za-z0-9_.=-]+")
names = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters=""), min_size=1, max_size=200)
troublesome = st.text("ab./=~ 2E\u00e4\U0001f600-_", min_size=1, max_size=260)


@pytest.mark.parametrize(
    ("name", "encoded"),
    [
        ("web01", "web01"),
        ("web 01", "web=2001"),
        ("a/b", "a=2Fb"),
        ("a=b", "a=3Db"),
        ("a~b", "a=7Eb"),
        (".", "=2E"),
        ("..", "=2E."),
        (".hidden", "=2Ehidden"),
        ("a.b.c.", "a.b.c."),
        ("größe", "gr=C3=B6=C3=9Fe"),
        ("5028a5e0-d1c9-4b1f-9a31-3b8cbd0f42a1", "5028a5e0-d1c9-4b1f-9a31-3b8cbd0f42a1"),
        ("x" * 150, "x" * 150),
        ("x" * 151, "x" * 100 + "=sha256-" + "40ae55fed8b81c3c50dda0f9e41b5cf8e2b50f4d"),
        ("x" * 99 + "/" * 60, "x" * 99 + "=sha256-"),
        ("x" * 98 + "/" * 60, "x" * 98 + "=sha256-"),
        ("x" * 97 + "/" * 60, "x" * 97 + "=2F=sha256-"),
    ],
)
def test_what_names_become(name: str, encoded: str) -> None:
    result = encode_name(name)
    if encoded.endswith("-") and "sha256" in encoded:
        assert re.fullmatch(re.escape(encoded) + "[0-9a-f]{40}", result)
    elif "sha256" in encoded:
        assert result.startswith(encoded.partition("=sha256-")[0] + "=sha256-") and len(result) == 148
    else:
        assert result == encoded
        assert decode_name(result) == name


@given(st.one_of(names, troublesome))
@example("a" * 300)
@example("\U0001f600" * 50)
def test_results_are_parts_of_keys(name: str) -> None:
    encoded = encode_name(name)
    assert ALLOWED.fullmatch(encoded) and len(encoded) <= 150 and not encoded.startswith(".")
    assert encode_name(name) == encoded
    assert layout.check_key(layout.pack_key(encoded, PackId("r" * 60, 999_999)))
    if "=sha256-" in encoded:
        assert decode_name(encoded) is None
        assert re.fullmatch(r"(?:[A-Za-z0-9_.-]|=[0-9A-F]{2})*=sha256-[0-9a-f]{40}", encoded)
    else:
        assert decode_name(encoded) == name


@given(st.one_of(names, troublesome), st.one_of(names, troublesome))
def test_no_two_names_meet(one: str, other: str) -> None:
    assert (encode_name(one) == encode_name(other)) is (one == other)


@given(st.text("ab./=~ 2E\u00e4", min_size=151, max_size=260))
def test_a_name_like_a_long_form_is_another(name: str) -> None:
    long_form = encode_name(name)
    for imitation in (long_form, long_form.replace("=sha256-", ".sha256-"), long_form.lower()):
        assert encode_name(imitation) != long_form


@given(st.text(max_size=160))
def test_decoding_never_invents(text: str) -> None:
    name = decode_name(text)
    assert name is None or encode_name(name) == text


@pytest.mark.parametrize("name", ["", "a\nb", "\0", "a\x7f", "a\x85", "\ud800", "ok\udfff"])
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        encode_name(name)
    assert str(caught.value).isascii() and str(caught.value).isprintable()
