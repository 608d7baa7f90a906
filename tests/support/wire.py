"""One client connection that a test sends to byte by byte."""

import asyncio
from contextlib import asynccontextmanager

from support.plane import Answer, Plane, parse_answers

PATIENCE = 5.0


def request(
    target: str = "/", method: str = "GET", *, version: str = "1.1", host: str | None = "localhost", **headers
) -> bytes:
    """A request head; underscores in header names stand for hyphens, and None leaves a header out."""
    lines = {"Host": host, **{name.replace("_", "-"): value for name, value in headers.items()}}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value is not None)
    return f"{method} {target} HTTP/{version}\r\n{head}\r\n".encode("latin-1")


class Wire:
    """An open connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, method: str = "GET") -> Answer:
        """The next answer; fails when the connection ends first."""
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), PATIENCE)
        if head.startswith(b"HTTP/1.1 100 "):
            return Answer(100, {}, b"")
        length = 0
        if method != "HEAD":
            lines = head.decode("latin-1").lower().split("\r\n")
            length = next(int(line.partition(":")[2]) for line in lines if line.startswith("content-length:"))
        body = await asyncio.wait_for(self.reader.readexactly(length), PATIENCE)
        return parse_answers(head + body, [method])[0]

    async def ask(self, data: bytes, method: str = "GET") -> Answer:
        await self.send(data)
        return await self.answer(method)

    async def rest(self) -> bytes:
        """Everything until the server closes; what a reset took away is not in it."""
        received = b""
        try:
            async with asyncio.timeout(PATIENCE):
                while data := await self.reader.read(65536):
                    received += data
        except ConnectionError:
            pass
        return received

    async def is_open(self) -> bool:
        """Whether a request on this connection is still answered."""
        try:
            return (await self.ask(request())).status > 0
        except (ConnectionError, asyncio.IncompleteReadError):
            return False


@asynccontextmanager
async def wire(plane: Plane):
    """A connection to the plane."""
    reader, writer = await plane.connect()
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


async def until(condition, seconds: float = PATIENCE) -> None:
    """Return once `condition()` is true; fails after `seconds`."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)
