"""What goes to Temporal, encrypted: it comes back as it was, or not at all."""

import base64
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.testclient import TestClient
from temporalio.api.common.v1 import Payload, Payloads

from overnight.cli.codec_server import serve_codec
from overnight.codec import EncryptionCodec, Keyring, codec_from, data_converter
from overnight.codec_server import MAX_BYTES, codec_app
from overnight.errors import CodecKeyError, ConfigurationError
from overnight.settings import Settings

OLD, NEW = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))
CODEC = EncryptionCodec(Keyring.parse(f"new:{NEW},old:{OLD}"))
ORIGIN = "http://localhost:8233"


def plain(text: str) -> Payload:
    return Payload(metadata={"encoding": b"json/plain"}, data=text.encode())


@given(data=st.binary(max_size=2_000), metadata=st.dictionaries(st.text(max_size=20), st.binary(max_size=50)))
async def test_what_was_encrypted_comes_back_as_it_was(data: bytes, metadata: dict[str, bytes]) -> None:
    payload = Payload(metadata=metadata, data=data)
    assert await CODEC.decode(await CODEC.encode([payload])) == [payload]


async def test_nothing_of_a_payload_can_be_read_in_its_ciphertext() -> None:
    (sealed,) = await CODEC.encode([plain('{"batch_id": "0192"}')])
    assert b"0192" not in sealed.SerializeToString()
    assert b"json" not in sealed.SerializeToString()


async def test_the_same_payload_never_looks_the_same_twice() -> None:
    first, second = await CODEC.encode([plain("1"), plain("1")])
    assert first.data != second.data


async def test_after_a_rotation_old_payloads_are_still_read_and_new_ones_have_the_new_key() -> None:
    before = EncryptionCodec(Keyring.parse(f"old:{OLD}"))
    (sealed,) = await before.encode([plain("1")])
    assert await CODEC.decode([sealed]) == [plain("1")]
    (resealed,) = await CODEC.encode([plain("1")])
    assert resealed.metadata["encryption-key-id"] == b"new"
    with pytest.raises(CodecKeyError, match=r"'new'.*OVERNIGHT_CODEC_KEYS"):
        await before.decode([resealed])


async def test_what_was_never_encrypted_passes() -> None:
    assert await CODEC.decode([plain("1")]) == [plain("1")]


@pytest.mark.parametrize("spoil", [lambda data: data[:-1] + b"x", lambda data: data[:5], lambda data: b""])
async def test_a_payload_that_was_tampered_with_is_refused(spoil: Any) -> None:
    (sealed,) = await CODEC.encode([plain("1")])
    sealed.data = spoil(sealed.data)
    with pytest.raises(CodecKeyError):
        await CODEC.decode([sealed])


async def test_a_payload_cannot_be_passed_off_as_another_keys() -> None:
    same = EncryptionCodec(Keyring.parse(f"a:{NEW},b:{NEW}"))
    (sealed,) = await same.encode([plain("1")])
    sealed.metadata["encryption-key-id"] = b"b"
    with pytest.raises(CodecKeyError):
        await same.decode([sealed])


@pytest.mark.parametrize("text", ["", ",", "new", f":{NEW}", "new:short", f"new:{NEW}x", f"a:{NEW},a:{OLD}"])
def test_keys_that_make_no_sense_are_refused_and_never_quoted(text: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        Keyring.parse(text)
    assert NEW not in str(raised.value)


def test_keys_show_in_no_repr() -> None:
    keyring = Keyring.parse(f"new:{NEW}")
    settings = Settings(codec_keys=SecretStr(f"new:{NEW}"))
    assert NEW not in repr(keyring) + repr(settings) + str(settings)
    assert repr(keyring.keys["new"]) not in repr(keyring)


def test_without_keys_nothing_is_encrypted() -> None:
    assert codec_from(Settings(codec_keys=None)) is None
    assert data_converter(Settings(codec_keys=None)).payload_codec is None


async def test_failure_texts_are_encrypted_too() -> None:
    from temporalio.api.failure.v1 import Failure

    failure = Failure()
    converter = data_converter(Settings(codec_keys=SecretStr(f"new:{NEW}")))
    await converter.encode_failure(RuntimeError("quotes a prompt"), failure)
    assert b"quotes a prompt" not in failure.SerializeToString()


# The codec server.


def client(app: Starlette) -> TestClient:
    return TestClient(app, base_url="http://localhost")


def server(token: str | None = None) -> TestClient:
    return client(codec_app(CODEC, ui_origins=[ORIGIN], hosts=["localhost"], token=token))


async def sealed_body() -> dict[str, Any]:
    return MessageToDict(Payloads(payloads=await CODEC.encode([plain('"hello"')])))


async def test_the_codec_server_decodes_what_the_ui_sends_and_encodes_it_again() -> None:
    decoded = server().post("/decode", json=await sealed_body(), headers={"origin": ORIGIN})
    assert base64.b64decode(decoded.json()["payloads"][0]["data"]) == b'"hello"'
    assert decoded.headers["access-control-allow-origin"] == ORIGIN
    encoded = server().post("/encode", json=decoded.json())
    assert b"hello" not in base64.b64decode(encoded.json()["payloads"][0]["data"])


async def test_another_page_than_the_ui_may_not_read_the_answers() -> None:
    answer = server().post("/decode", json=await sealed_body(), headers={"origin": "https://evil.example"})
    assert "access-control-allow-origin" not in answer.headers


async def test_a_foreign_name_that_points_here_is_refused() -> None:
    answer = server().post("/decode", json=await sealed_body(), headers={"host": "evil.example"})
    assert answer.status_code == 400


@pytest.mark.parametrize("shown", [{}, {"authorization": "Bearer wrong"}, {"authorization": "secret"}])
async def test_where_a_token_is_asked_for_nothing_is_decoded_without_it(shown: dict[str, str]) -> None:
    assert server("secret").post("/decode", json=await sealed_body(), headers=shown).status_code == 401
    right = {"authorization": "Bearer secret"}
    assert server("secret").post("/decode", json=await sealed_body(), headers=right).status_code == 200


@pytest.mark.parametrize("body", [b"nothing", b"[1]", b"{", b"\xff", b'{"payloads": 1}'])
def test_what_is_no_payloads_is_a_bad_request(body: bytes) -> None:
    assert server().post("/decode", content=body).status_code == 400


def test_a_body_without_end_is_cut_off() -> None:
    assert server().post("/decode", content=b" " * (MAX_BYTES + 1)).status_code == 413


async def test_a_payload_of_an_unknown_key_names_the_key() -> None:
    other = EncryptionCodec(Keyring.parse(f"gone:{OLD}"))
    body = MessageToDict(Payloads(payloads=await other.encode([plain("1")])))
    answer = server().post("/decode", json=body)
    assert (answer.status_code, "'gone'" in answer.text) == (422, True)


async def test_the_codec_server_listens_off_loopback_only_with_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OVERNIGHT_CODEC_SERVER_TOKEN", raising=False)
    with pytest.raises(ConfigurationError, match="OVERNIGHT_CODEC_SERVER_TOKEN"):
        await serve_codec(host="0.0.0.0", port=0, ui_origins=[], names=[])


async def test_the_codec_server_says_when_it_has_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OVERNIGHT_CODEC_KEYS", raising=False)
    with pytest.raises(ConfigurationError, match="OVERNIGHT_CODEC_KEYS"):
        await serve_codec(host="127.0.0.1", port=0, ui_origins=[], names=[])
