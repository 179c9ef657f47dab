"""polydatum.testing by itself."""

from __future__ import annotations

import pytest

import polydatum.testing
from polydatum import ConfigurationError, DataManager
from polydatum.testing import attach


def test_attach_needs_an_adapter() -> None:
    with pytest.raises(ConfigurationError, match="requests of the class object have no dal: install the adapter"):
        attach(object(), DataManager())


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        polydatum.testing.Nothing  # noqa: B018
