"""How every index store is opened."""

from __future__ import annotations

import pytest

from tests._entries import stream
from transforms import registry
from transforms.errors import ConfigurationError


class TestOpening:
    def test_opening_again_finds_what_was_stored(self, url: str) -> None:
        first = registry.index(url).open(url)
        first.insert(stream(0, 10))
        first.close()
        second = registry.index(url).open(url)
        second.ping()
        assert second.insert(stream(0, 12)) == 2
        second.close()

    def test_secrets_in_the_url_are_resolved(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        scheme, _, rest = url.partition("://")
        monkeypatch.setenv("PLACE", rest)
        registry.index(url).open(f"{scheme}://${{env:PLACE}}").close()
        with pytest.raises(ConfigurationError, match=r"^`index`: \$\{env:NOT_THERE\} does not exist; "):
            registry.index(url).open(f"{scheme}://${{env:NOT_THERE}}")
