"""Tokens that are good enough."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.errors import UsageError
from edge_sdk.sinks.http_guard import check_token


def test_sixteen_characters_that_a_url_takes_are_a_token() -> None:
    assert check_token("aZ09-._~aZ09-._~") == "aZ09-._~aZ09-._~"


def test_a_short_token_is_refused_with_the_command_that_makes_one_and_is_not_quoted() -> None:
    with pytest.raises(UsageError, match=r"16 characters or more, not 15; 'openssl rand -hex 16'") as caught:
        check_token("hunter2hunter2h")
    assert "hunter2" not in str(caught.value)


@given(odd=st.text(min_size=1).filter(lambda text: not all(c.isascii() and (c.isalnum() or c in "-._~") for c in text)))
def test_a_token_that_a_url_does_not_take_as_it_is_is_refused_and_not_quoted(odd: str) -> None:
    token = "hunter2hunter2hunter2" + odd
    with pytest.raises(UsageError, match="letters without accents, digits and") as caught:
        check_token(token)
    assert "hunter2" not in str(caught.value)
