"""The providers, by name. One line per provider; nothing else in this library knows which there are."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from overnight.errors import UnknownProviderError
from overnight.providers._anthropic_facts import AnthropicFacts
from overnight.providers._openai_facts import OpenAIFacts
from overnight.providers.anthropic import Anthropic
from overnight.providers.base import Provider, ProviderFacts
from overnight.providers.openai import OpenAI
from overnight.settings import Settings


@dataclass(frozen=True, kw_only=True)
class _Known:
    facts: ProviderFacts
    open: Callable[[Settings], Provider]


_PROVIDERS: Mapping[str, _Known] = {
    "openai": _Known(facts=OpenAIFacts(), open=OpenAI.from_settings),
    "anthropic": _Known(facts=AnthropicFacts(), open=Anthropic.from_settings),
}


def provider_names() -> Sequence[str]:
    """Every provider that there is an adapter for."""
    return tuple(_PROVIDERS)


def provider_facts(name: str) -> ProviderFacts:
    """What is to be known of a provider without its key: limits, endpoints, rendering, checking, parsing.

    Raises:
        UnknownProviderError: no adapter of this name.
    """
    return _known(name).facts


def open_provider(name: str, settings: Settings) -> Provider:
    """Connect to a provider; the caller closes it with `aclose`.

    Raises:
        UnknownProviderError: no adapter of this name.
        MissingKeyError: the settings hold no key for it.
    """
    return _known(name).open(settings)


def supports_batch(provider: str, model: str) -> bool:
    """Whether a provider takes batches for a model, as far as the model's name tells.

    Raises:
        UnknownProviderError: no adapter of this name.
    """
    return provider_facts(provider).supports_batch(model)


def _known(name: str) -> _Known:
    if name not in _PROVIDERS:
        raise UnknownProviderError("provider", name, f"There are {' and '.join(sorted(_PROVIDERS))}.")
    return _PROVIDERS[name]
