"""Encryption of everything that goes to Temporal: arguments, results, summaries, failures.

Temporal stores what it is sent and shows it to whoever may look. With OVERNIGHT_CODEC_KEYS set, payloads are encrypted
before they leave the process and decrypted after they came back, so that the server holds ciphertext only. What
Temporal itself must read stays plain: workflow ids, task queues, activity types, search attributes.
"""

import base64
import binascii
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Self

from temporalio.api.common.v1 import Payload
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DataConverter, DefaultFailureConverterWithEncodedAttributes, PayloadCodec

from overnight.errors import CodecKeyError, ConfigurationError, MissingExtraError
from overnight.settings import Settings

ENCODING = b"binary/encrypted"
"""What Temporal's own samples call it, so that tools recognise a payload that they cannot read."""

_KEY_BYTES = 32
_NONCE_BYTES = 12
"""Random, which NIST SP 800-38D allows for 2^32 messages under one key: rotate keys long before."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Keyring:
    """AES-256 keys by their ids. The first one encrypts; all of them decrypt, so that keys can be rotated."""

    keys: Mapping[str, bytes]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `id:base64key,id:base64key`; make one with `openssl rand -base64 32`.

        Raises:
            ConfigurationError: it is not of this form. The text never quotes a key.
        """
        items = [item.strip() for item in text.split(",") if item.strip()]
        keys = dict(_key(number, item) for number, item in enumerate(items, start=1))
        if not keys or len(keys) < len(items):
            raise ConfigurationError("OVERNIGHT_CODEC_KEYS must be `id:base64key`, comma-separated, each id once.")
        return cls(keys=keys)

    @property
    def newest(self) -> str:
        """The id of the key that encrypts."""
        return next(iter(self.keys))


def _key(number: int, item: str) -> tuple[str, bytes]:
    name, _, encoded = item.partition(":")
    try:
        key = base64.b64decode(encoded.replace("-", "+").replace("_", "/"), validate=True)
    except binascii.Error:
        key = b""
    if not name or len(key) != _KEY_BYTES:
        raise ConfigurationError(
            f"Key number {number} of OVERNIGHT_CODEC_KEYS is not `id:base64key` with 32 bytes in base64. "
            f"Make one: openssl rand -base64 32"
        )
    return name, key


class EncryptionCodec(PayloadCodec):
    """AES-256-GCM over whole payloads, metadata included."""

    def __init__(self, keyring: Keyring) -> None:
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - an extra
        except ImportError:
            raise MissingExtraError("OVERNIGHT_CODEC_KEYS", "codec") from None
        self._newest = keyring.newest
        self._ciphers = {name: AESGCM(key) for name, key in keyring.keys.items()}

    async def encode(self, payloads: Iterable[Payload]) -> list[Payload]:
        """Encrypt."""
        return [self._sealed(payload) for payload in payloads]

    async def decode(self, payloads: Iterable[Payload]) -> list[Payload]:
        """Decrypt. What was never encrypted passes, so that the codec can be switched on with batches in flight.

        Raises:
            CodecKeyError: the key is not here, or the payload was tampered with.
        """
        return [self._opened(payload) if _is_sealed(payload) else payload for payload in payloads]

    def _sealed(self, payload: Payload) -> Payload:
        nonce = os.urandom(_NONCE_BYTES)
        name = self._newest.encode()
        sealed = self._ciphers[self._newest].encrypt(nonce, payload.SerializeToString(), name)
        return Payload(metadata={"encoding": ENCODING, "encryption-key-id": name}, data=nonce + sealed)

    def _opened(self, payload: Payload) -> Payload:
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - an extra

        name = payload.metadata.get("encryption-key-id", b"").decode(errors="replace")
        cipher = self._ciphers.get(name)
        if cipher is None:
            raise CodecKeyError(name)
        nonce, sealed = payload.data[:_NONCE_BYTES], payload.data[_NONCE_BYTES:]
        try:
            return Payload.FromString(cipher.decrypt(nonce, sealed, name.encode()))
        except (InvalidTag, ValueError):  # a nonce that was cut short is a ValueError
            raise CodecKeyError(name) from None


def _is_sealed(payload: Payload) -> bool:
    return payload.metadata.get("encoding") == ENCODING


def codec_from(settings: Settings) -> EncryptionCodec | None:
    """The codec that the settings ask for.

    Raises:
        ConfigurationError: the keys make no sense.
        MissingExtraError: the extra `codec` is not installed.
    """
    if settings.codec_keys is None:
        return None
    return EncryptionCodec(Keyring.parse(settings.codec_keys.get_secret_value()))


def data_converter(settings: Settings) -> DataConverter:
    """How values cross to Temporal: as pydantic's JSON, encrypted where keys are set. Failure texts too, which
    Temporal otherwise keeps outside of payloads.
    """
    codec = codec_from(settings)
    if codec is None:
        return pydantic_data_converter
    return replace(
        pydantic_data_converter,
        payload_codec=codec,
        failure_converter_class=DefaultFailureConverterWithEncodedAttributes,
    )
