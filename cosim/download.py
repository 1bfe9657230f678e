"""Official files from the network: https only, of bounded size, and kept only once they are verified."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cosim.errors import InputError
from cosim.text_files import reason

Opener = Callable[[str, float], Any]
"""Opens an address with a time-out in seconds."""

TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Remote:
    """An official file.

    Args:
        filename: Its name in the mirror's folder and in the cache.
        largest_bytes: Anything larger is not the official file.
        verify: Raises InputError where bytes are not the official file; given the bytes and where they came from.
    """

    filename: str
    largest_bytes: int
    verify: Callable[[bytes, str], object]


def download(file: Remote, mirrors: Sequence[str], opener: Opener) -> bytes:
    """The file from the first mirror that has it, verified.

    Raises:
        InputError: No mirror gave the official file; with what each of them gave.
    """
    refusals: list[str] = []
    for mirror in mirrors:
        address = f"{mirror}/{file.filename}"
        try:
            with opener(address, TIMEOUT_S) as answer:
                raw = answer.read(file.largest_bytes + 1)
            file.verify(raw, address)
            return raw
        except InputError as error:
            refusals.append(str(error))
        except (OSError, ValueError, http.client.HTTPException) as error:
            refusals.append(f"{address}: {reason(error)}")
    raise InputError(f"{file.filename} could not be fetched: {'; '.join(refusals)}", hint="is the network there?")


def open_https(address: str, timeout_s: float) -> Any:
    """An https address, opened; redirections must stay encrypted.

    Raises:
        InputError: An address of another kind.
    """
    if not address.startswith("https://"):
        raise InputError("expected an https address", place=address)
    return urllib.request.build_opener(HttpsOnly).open(address, timeout=timeout_s)


class HttpsOnly(urllib.request.HTTPRedirectHandler):
    """Follows a redirection only where it stays encrypted."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """The next request.

        Raises:
            URLError: It would not be https.
        """
        if not newurl.startswith("https://"):
            raise urllib.error.URLError(f"redirected to {newurl}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
