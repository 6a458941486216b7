"""What every broker must refuse, and how it says so."""

from __future__ import annotations

import pytest

from tests._brokers import (
    Site,
)
from transforms import registry
from transforms.errors import ConfigurationError


class TestRefusals:
    def test_a_missing_topic_is_one_clear_sentence(self, site: Site) -> None:
        reader = site.reader("no-such-topic")
        with pytest.raises(ConfigurationError, match="no-such-topic") as problem:
            reader.discover()
        reader.close()
        assert len(problem.value.problems) == 1
        publisher = site.publisher("no-such-topic")
        (sentence,) = publisher.destination().problems
        publisher.close()
        assert "no-such-topic" in sentence

    def test_refused_credentials_are_one_clear_sentence(self, site: Site) -> None:
        with site.guarded() as url:
            broker = registry.broker(url)
            with pytest.raises(ConfigurationError) as problem:
                broker.open_reader(url, site.wrong, group="g").discover()
            assert len(problem.value.problems) == 1
            assert "wrong-password" not in str(problem.value)
            with pytest.raises(ConfigurationError):
                look_up(url, site)

    def test_an_unknown_setting_is_refused_by_name(self, site: Site) -> None:
        url = site.url("t")
        with pytest.raises(ConfigurationError, match=r"no\.such\.setting"):
            registry.broker(url).open_reader(url, {"no.such.setting": "1"}, group="g")

    def test_a_named_topic_that_is_excluded_is_refused(self, site: Site) -> None:
        topic = site.topic()
        with pytest.raises(ConfigurationError, match=topic):
            site.reader(topic, exclude=[topic]).discover()


def look_up(url: str, site: Site) -> None:
    """A publisher says it by an exception or by a problem of its destination."""
    problems = registry.broker(url).open_publisher(url, site.wrong).destination().problems
    raise ConfigurationError(problems) if problems else AssertionError("nothing was refused")
