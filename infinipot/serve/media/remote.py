"""A file on a web server as a binary file, for a decoder that never sees an address. Runs in the decoding process.

Each connection, that of a redirect and of a seek too, goes to an address that was looked up and checked just before.
"""

import http.client
import io
import socket
import ssl
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urljoin

from infinipot.serve.media.addresses import DEFAULT_PORTS, AddressError, CameraAddressError, Rules, WebAddress, parse
from infinipot.video.heads import HEAD

_REDIRECTS = (301, 302, 303, 307, 308)
_MOST_REDIRECTS = 5
_CHUNK = 1 << 16
_IN_PARTS = "multipart/x-mixed-replace"  # the type of an answer of a camera: picture after picture
_AGENT = "infinipot"
_SHARE = 0.8  # of the time in which a picture has to come, for a copy
_TIMES = 4  # that a decoder, which goes back and forth, may read a file


class PinnedConnection(http.client.HTTPConnection):
    """A connection to one IP address, under the name of its host."""

    def __init__(self, address: WebAddress, ip: str, timeout: float) -> None:
        super().__init__(address.host, address.port, timeout=timeout)
        self._address, self._ip = address, ip
        self.default_port = DEFAULT_PORTS[address.scheme]  # which stands in no Host: signed addresses break by it

    def connect(self) -> None:
        plain = socket.create_connection((self._ip, self._address.port), self.timeout)
        if self._address.scheme == "https":
            context = ssl.create_default_context()
            plain = context.wrap_socket(plain, server_hostname=self._address.host, do_handshake_on_connect=False)
        self.sock = plain
        if isinstance(plain, ssl.SSLSocket):
            plain.do_handshake()

    def hang_up(self) -> None:
        """Ends it, from another thread: whoever waits for what comes next meets an end."""
        with suppress(OSError, AttributeError):  # it is not there yet, or no more
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)


class RemoteFile(io.RawIOBase):
    """A file on a remote server: read in order, or from any offset if the server sends ranges.

    Args:
        address: of http or https.
        rules: from where it may come.
        timeout: seconds for the server to connect, and to send more.
        most: bytes that are read at the most; None for a source without end.

    Attributes:
        size: in bytes; None where the server does not say.
    """

    def __init__(self, address: str, rules: Rules, timeout: float, most: int | None) -> None:
        self._address, self._rules, self._timeout, self._most = parse(address), rules, timeout, most
        self._position = self._read_bytes = 0
        self._ahead = b""
        self._response: http.client.HTTPResponse | None = None
        self._connection: PinnedConnection | None = None
        self.size: int | None = None
        self._ranged = False
        self._request(0)
        if most is not None and self.size is not None and self.size > most:
            raise AddressError(f"{self._address.shown} has {self.size:,} bytes; at most {most:,} are allowed")

    @property
    def name(self) -> str:
        """The address as it is shown."""
        return self._address.shown

    def without_end(self) -> None:
        """Is read for as long as it comes, without a bound."""
        self._most = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._ranged and self.size is not None

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size or 0}[whence]
        if (target := max(base + offset, 0)) != self._position:
            self._hang_up()
            self._position = target
        return target

    def readinto(self, buffer: Any) -> int:
        """Reads what comes, as much as fits; 0 at the end."""
        if self.size is not None and self._position >= self.size:
            return 0
        chunk = self._ahead[: len(buffer)] or self._receive(len(buffer))
        self._ahead = self._ahead[len(chunk) :]
        buffer[: len(chunk)] = chunk
        self._position += len(chunk)
        return len(chunk)

    def peek(self, most: int) -> bytes:
        """The first bytes of what cannot be sought in; later reads return them again."""
        while len(self._ahead) < most and (found := self._receive(most - len(self._ahead))):
            self._ahead += found
        return self._ahead

    def _receive(self, most: int) -> bytes:
        """The next bytes, up to so many; empty at the end."""
        if self._response is None:
            self._request(self._position)
        assert self._response is not None
        chunk = self._response.read1(most)
        self._read_bytes += len(chunk)
        if self._most is not None and self._read_bytes > _TIMES * self._most:
            raise AddressError(
                f"reading {self._address.shown} took more than {_TIMES} times the {self._most:,} bytes that are allowed"
            )
        return chunk

    def close(self) -> None:
        self._hang_up()
        super().close()

    def _hang_up(self) -> None:
        if self._response is not None:
            self._response.close()
        if self._connection is not None:
            self._connection.close()
        self._response = self._connection = None

    def _request(self, start: int) -> None:
        """Asks for what lies from `start` on, and follows redirects, each of which is checked."""
        address = self._address
        for _ in range(_MOST_REDIRECTS + 1):
            response = self._ask(address, start)
            if response.status in _REDIRECTS and (location := response.getheader("Location")):
                self._hang_up()
                address = parse(urljoin(address.shown, location))
                continue
            self._accept(response, start)
            return
        raise AddressError(f"{self._address.shown} redirects more than {_MOST_REDIRECTS} times")

    def _ask(self, address: WebAddress, start: int) -> http.client.HTTPResponse:
        last: OSError | None = None
        for ip in self._rules.resolve(address):
            self._connection = PinnedConnection(address, str(ip), self._timeout)
            headers = {"Range": f"bytes={start}-", "User-Agent": _AGENT, "Accept-Encoding": "identity"}
            try:
                self._connection.request("GET", address.path, headers=headers)
                self._response = self._connection.getresponse()
                return self._response
            except (OSError, http.client.HTTPException) as error:
                self._hang_up()
                last = error if isinstance(error, OSError) else OSError(type(error).__name__)
        why = getattr(last, "strerror", None) or type(last).__name__
        raise AddressError(f"{address.shown} cannot be reached ({why})")

    def _accept(self, response: http.client.HTTPResponse, start: int) -> None:
        if response.headers.get_content_type() == _IN_PARTS:
            self._hang_up()
            name = self._address.shown
            raise CameraAddressError(
                f"{name} is a camera's: pictures come there as they are taken; give it as a stream's source"
            )
        if response.status == 206:
            total = (response.getheader("Content-Range") or "").rpartition("/")[2]
            self._ranged, self.size = True, int(total) if total.isdigit() else None
        elif response.status == 200 and start == 0:
            length = response.getheader("Content-Length") or ""
            self.size = int(length) if length.isdigit() else None
        else:
            self._hang_up()
            raise AddressError(f"{self._address.shown} answers with status {response.status}")


def open_remote(
    address: str, rules: Rules, timeout: float, most: int, whole: Callable[[bytes], bool] = lambda head: False
) -> "io.BufferedReader | io.BufferedRandom | RemoteFile":
    """Opens what lies at an address.

    Args:
        address, rules, timeout, most: see `RemoteFile`.
        whole: whether what begins so is needed whole, though nobody says how long it is.

    Returns:
        What can be sought in where the server sends ranges; a copy of what it sends without; and as it comes, to be
        read once, what may have no end.

    Raises:
        AddressError: it is not fetched, or cannot be, or comes too slowly to be copied.
    """
    file = RemoteFile(address, rules, timeout, most)
    if file.seekable():
        return io.BufferedReader(file, _CHUNK)
    if file.size is None and not whole(file.peek(HEAD)):
        file.without_end()
        return file
    with file:
        return _copied(file, most, _SHARE * timeout)


def _copied(file: RemoteFile, most: int, seconds: float) -> io.BufferedRandom:
    """A copy without a name of what has so many bytes at the most, and comes in so many seconds."""
    copy, until = tempfile.TemporaryFile(), time.monotonic() + seconds  # noqa: SIM115  # whoever reads it closes it
    try:
        while part := file.read(_CHUNK):
            if copy.tell() + len(part) > most:
                raise AddressError(f"{file.name} has more than the {most:,} bytes that are allowed")
            if time.monotonic() > until:
                raise AddressError(f"{file.name} was not complete within {seconds:g} s")
            copy.write(part)
        copy.seek(0)
    except BaseException:
        copy.close()
        raise
    return copy
