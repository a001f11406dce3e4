"""What is read in larger pieces is the same, and so is what goes wrong."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from overnight.providers._transport import READ_BYTES, RECORD_BYTES, in_large_pieces

BODY = Random(7).randbytes(3_000_000)


def certificate(folder: Path) -> Path:
    """A key and its own certificate for this machine, in one file."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path = folder / "certificate.pem"
    path.write_bytes(key.private_bytes(*form) + signed.public_bytes(serialization.Encoding.PEM))
    return path


@asynccontextmanager
async def server(length: int, context: ssl.SSLContext | None) -> AsyncIterator[str]:
    """Answers everything with the body, and announces so many bytes of it."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % length + BODY)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "localhost", 0, ssl=context, limit=READ_BYTES) as listening:
        port = listening.sockets[0].getsockname()[1]
        yield f"{'https' if context else 'http'}://localhost:{port}"


async def downloaded(url: str) -> list[bytes]:
    async with httpx.AsyncClient(transport=in_large_pieces()) as client, client.stream("GET", url) as response:
        return [piece async for piece in response.aiter_bytes()]


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    path = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("overnight.providers._transport.getproxies", dict)


async def test_an_encrypted_download_is_the_same_in_pieces_larger_than_records(context: ssl.SSLContext) -> None:
    async with server(len(BODY), context) as url:
        pieces = await downloaded(url)
    assert b"".join(pieces) == BODY
    assert max(map(len, pieces)) > RECORD_BYTES


async def test_a_download_without_encryption_is_the_same() -> None:
    async with server(len(BODY), None) as url:
        assert b"".join(await downloaded(url)) == BODY


@pytest.mark.parametrize("encrypted", [True, False])
async def test_a_download_that_is_cut_is_an_error(context: ssl.SSLContext, encrypted: bool) -> None:  # noqa: FBT001
    async with server(len(BODY) + 1, context if encrypted else None) as url:
        with pytest.raises(httpx.RemoteProtocolError):
            await downloaded(url)


async def test_a_certificate_that_nobody_vouches_for_is_refused(
    context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    async with server(len(BODY), context) as url:
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await downloaded(url)


@pytest.mark.parametrize("proxies", [{"https": "http://proxy:1"}, {"all": "http://proxy:1"}])
def test_where_proxies_are_set_httpx_connects_as_it_always_does(
    proxies: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("overnight.providers._transport.getproxies", lambda: proxies)
    assert in_large_pieces() is None
