import pytest

from overnight.errors import MissingKeyError, UnknownProviderError
from overnight.providers import open_provider, provider_facts, provider_names
from overnight.providers.base import Provider, ProviderFacts
from overnight.settings import Settings


def settings(**keys: str) -> Settings:
    return Settings(_env_file=None, **({"openai_api_key": "", "anthropic_api_key": ""} | keys))


def test_each_provider_can_be_known_without_a_key() -> None:
    for name in provider_names():
        facts: ProviderFacts = provider_facts(name)
        assert facts.name == name
        assert facts.limits.max_entries > 0


@pytest.mark.parametrize("name", provider_names())
async def test_a_provider_opens_with_its_key(name: str) -> None:
    provider: Provider = open_provider(name, settings(**{f"{name}_api_key": " sk-x\n"}))
    assert provider.name == name
    await provider.aclose()


@pytest.mark.parametrize(("name", "variable"), [("openai", "OPENAI_API_KEY"), ("anthropic", "ANTHROPIC_API_KEY")])
def test_a_missing_key_is_named(name: str, variable: str) -> None:
    with pytest.raises(MissingKeyError, match=variable):
        open_provider(name, settings())


def test_an_unknown_provider_is_told_which_there_are() -> None:
    with pytest.raises(UnknownProviderError, match="anthropic and openai"):
        provider_facts("openia")
    with pytest.raises(UnknownProviderError):
        open_provider("openia", settings())
