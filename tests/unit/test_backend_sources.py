"""What is shown of a URL."""

import pytest

from polydatum.backends.sources import shown_url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("redis://:secret@127.0.0.1", "redis://:***@127.0.0.1"),
        ("mongodb://ann:se@cret@127.0.0.1,127.0.0.2/shop", "mongodb://ann:***@127.0.0.1,127.0.0.2/shop"),
        ("postgresql://ann@127.0.0.1/shop?password=secret", "postgresql://ann@127.0.0.1/shop"),
        ("memory:///", "memory:///"),
    ],
)
def test_shown_url(url: str, shown: str) -> None:
    assert shown_url(url) == shown
