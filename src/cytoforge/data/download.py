"""Fetching one published file over https, checked by its size and SHA-256. Nothing else uses the network."""

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPMessage
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from cytoforge.data.feature_files import Published
from cytoforge.errors import UserError

BLOCK = 2**20  # bytes
PATIENCE = 60  # seconds without an answer
Opener = Callable[[str], Any]
Report = Callable[[float], None]


class _SecureRedirects(urllib.request.HTTPRedirectHandler):
    """Follows an address to another one only over https."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        _check_secure(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_secure(address: str) -> None:
    if urlsplit(address).scheme != "https":
        raise UserError(f"{address}: is no https address, so nothing is fetched; fetch the file by other means")


def open_securely(address: str) -> Any:
    """Open an https address and return its stream of bytes; raises UserError for another address, also on the way."""
    _check_secure(address)
    opener = urllib.request.build_opener(_SecureRedirects)
    return opener.open(urllib.request.Request(address, headers={"User-Agent": "cytoforge"}), timeout=PATIENCE)


def fetch(published: Published, target: Path, remedy: str, report: Report, opener: Opener = open_securely) -> None:
    """Write a published file to `target`; no more than its size is ever read.

    `report` is told the share that is done. Raises UserError, ending in `remedy`, when the address cannot be reached,
    and when what comes has another size or SHA-256 than was published.
    """
    found = hashlib.sha256()
    try:
        with opener(published.address) as stream, target.open("wb") as file:
            size = 0
            while block := stream.read(min(BLOCK, published.size + 1 - size)):
                size += len(block)
                if size > published.size:
                    break
                found.update(block)
                file.write(block)
                report(size / published.size)
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        told = getattr(error, "reason", None) or error or type(error).__name__
        raise UserError(f"{published.address}: cannot be fetched ({told}); {remedy}") from error
    if size != published.size:
        more = "more than" if size > published.size else f"{size:,} of"
        raise UserError(f"{published.address}: gave {more} {published.size:,} bytes; try again, or {remedy}")
    if not found.hexdigest().startswith(published.sha256):
        raise UserError(
            f"{published.address}: gave a file with SHA-256 {found.hexdigest()}, not the {published.sha256} that was "
            f"published, so it is not kept; {remedy}"
        )
