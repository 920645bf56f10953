"""Fetching, from servers that do what a test says, byte by byte."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading

import pytest
import trustme

from backends.base import RequestRefused
from backends.inprocess import image_fetch
from backends.inprocess.image_fetch import ImageFetcher
from backends.inprocess.image_hosts import ImageHosts
from backends.inprocess.image_parts import ImagePart

WHERE = "messages[0].content[0].image_url"


def answer(body=b"image", *headers, status="200 OK"):
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


class Server:
    """Answers each path with what `paths` has for it, and remembers what it was asked."""

    def __init__(self) -> None:
        self.paths: dict[str, bytes | None] = {}
        self.asked: list[bytes] = []
        self.port = 0
        self.gone = asyncio.Event()

    async def serve(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        self.asked.append(head)
        said = self.paths[head.split(b" ")[1].decode()]
        if said is None:
            await reader.read()
            self.gone.set()
        else:
            with contextlib.suppress(ConnectionError):
                writer.write(said)
                await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def running(tls=None):
    server = Server()
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        await listener.wait_closed()


@pytest.fixture
async def server():
    async with running() as one:
        yield one


def fetcher(*hosts, **options):
    return ImageFetcher(ImageHosts(hosts), **options)


async def fetch(server, path="/a.png", *, host="127.0.0.1", hosts=(), scheme="http", **options):
    hosts = hosts or (f"{host}:{server.port}",)
    url = f"{scheme}://{host}:{server.port}{path}"
    return await fetcher(*hosts, **options).fetch(ImagePart(WHERE, url))


async def refused(*args, code="failed_to_download_image", **options):
    with pytest.raises(RequestRefused) as caught:
        await fetch(*args, **options)
    error = caught.value
    assert (error.status, error.param, error.code) == (400, WHERE, code)
    return error.message


async def test_a_listed_host_is_asked_for_the_image_and_told_nothing_else(server):
    server.paths["/a.png?k=1"] = answer(b"\x89PNG")
    assert await fetch(server, "/a.png?k=1") == b"\x89PNG"
    (head,) = server.asked
    names = [line.split(b":")[0] for line in head.strip().split(b"\r\n")[1:]]
    assert names == [b"host", b"accept", b"accept-encoding", b"user-agent", b"connection"]
    assert f"host: 127.0.0.1:{server.port}".encode() in head


async def test_a_private_address_behind_a_wildcard_is_not_connected_to(server):
    message = await refused(server, hosts=(f"*:{server.port}",), code="invalid_image_url")
    assert "not a public one" in message
    assert not server.asked


async def test_a_name_that_leads_to_a_private_address_is_not_connected_to(server):
    """Also one that is only found out to do so when it is looked up."""
    hosts = (f"*:{server.port}",)
    await refused(server, host="localhost", hosts=hosts, code="invalid_image_url")
    await refused(server, host="2130706433", hosts=hosts, code="invalid_image_url")
    assert not server.asked


async def test_a_redirect_within_the_list_is_followed(server):
    server.paths["/a.png"] = answer(b"", "location: /b.png", status="302 Found")
    server.paths["/b.png"] = answer(b"there")
    assert await fetch(server) == b"there"


@pytest.mark.parametrize(
    "location", ["http://169.254.169.254/latest/meta-data", "file:///etc/passwd", "//evil.com/a"]
)
async def test_a_redirect_to_elsewhere_is_refused(server, location):
    server.paths["/a.png"] = answer(b"", f"location: {location}", status="301 Moved")
    await refused(server, code="invalid_image_url")


async def test_a_redirect_to_no_url_is_told(server):
    server.paths["/a.png"] = answer(b"", "location: http://user:key@[::1", status="302 Found")
    message = await refused(server)
    assert "not a valid one" in message
    assert "key" not in message


@pytest.mark.parametrize("host", ["a..example.com", "a" * 64 + ".example.com"])
async def test_a_name_that_cannot_be_one_is_told(host):
    fetcher = ImageFetcher(ImageHosts(["*.example.com"]))
    with pytest.raises(RequestRefused, match="not a valid one") as caught:
        await fetcher.fetch(ImagePart(WHERE, f"http://{host}/a.png"))
    assert (caught.value.status, caught.value.param) == (400, WHERE)


async def test_a_circle_of_redirects_ends(server):
    server.paths["/a.png"] = answer(b"", "location: /a.png", status="307 Temporary Redirect")
    assert "redirects" in await refused(server)
    assert len(server.asked) == 4


@pytest.mark.parametrize("status", ["404 Not Found", "500 Oh", "206 Partial Content", "304 Same"])
async def test_another_status_is_told(server, status):
    server.paths["/a.png"] = answer(b"no", status=status)
    assert status[:3] in await refused(server)


async def test_a_compressed_answer_is_refused(server):
    server.paths["/a.png"] = answer(b"x", "content-encoding: gzip")
    assert "compressed" in await refused(server)


async def test_the_size_is_bounded_while_it_is_read(server, monkeypatch):
    monkeypatch.setattr(image_fetch, "MAX_FILE", 1000)
    server.paths["/a.png"] = answer(b"x" * 100_000)
    await refused(server, code="image_file_too_large")
    server.paths["/a.png"] = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000
    await refused(server, code="image_file_too_large")


async def test_a_server_that_says_nothing_is_left(server):
    server.paths["/a.png"] = None
    assert "more than 0.2 s" in await refused(server, within=0.2)
    await asyncio.wait_for(server.gone.wait(), 5)


async def test_who_no_longer_waits_leaves_no_connection(server):
    server.paths["/a.png"] = None
    task = asyncio.create_task(fetch(server))
    while not server.asked:
        await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(server.gone.wait(), 5)


@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx", b"nonsense"]
)
async def test_a_broken_answer_is_refused(server, said):
    server.paths["/a.png"] = said
    await refused(server)


async def test_nobody_there(server):
    with pytest.raises(RequestRefused) as caught:
        await fetcher("127.0.0.1:1").fetch(ImagePart(WHERE, "http://127.0.0.1:1/key=secret"))
    assert caught.value.code == "failed_to_download_image"
    assert "secret" not in caught.value.message


async def test_an_unknown_host():
    with pytest.raises(RequestRefused) as caught:
        await fetcher("nowhere.invalid").fetch(ImagePart(WHERE, "http://nowhere.invalid/"))
    assert caught.value.code == "failed_to_download_image"


async def test_over_tls_the_name_is_what_the_certificate_must_say():
    authority = trustme.CA()
    there, here = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(there)
    authority.configure_trust(here)
    async with running(there) as server:
        server.paths["/a.png"] = answer(b"safe")
        assert await fetch(server, host="localhost", scheme="https", tls=here) == b"safe"
        message = await refused(server, host="127.0.0.1", scheme="https", tls=here)
        assert "not trusted" in message


async def test_a_resolver_that_is_dead_holds_no_thread_of_others(monkeypatch):
    answers, asked_by = threading.Event(), []

    def never(*args, **options):
        asked_by.append(threading.current_thread().name)
        answers.wait(20)
        raise socket.gaierror("no answer")

    monkeypatch.setattr(socket, "getaddrinfo", never)
    one = fetcher("example.com", within=0.05)
    part = ImagePart(WHERE, "https://example.com/a.png")
    try:
        for _ in range(2):
            failures = await asyncio.gather(
                *[one.fetch(part) for _ in range(6)], return_exceptions=True
            )
            assert all("it took more than" in str(failure) for failure in failures)
        assert len(asked_by) == 4, "those who came later have given up before their turn"
        assert all(name.startswith("image-names") for name in asked_by)
    finally:
        answers.set()


async def test_a_name_without_address_is_told_in_our_words(monkeypatch):
    def nowhere(*args, **options):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    with pytest.raises(RequestRefused) as caught:
        await fetcher("example.com").fetch(ImagePart(WHERE, "https://example.com/a.png"))
    assert caught.value.code == "failed_to_download_image"
    assert caught.value.message.endswith("from example.com: its name has no address")
