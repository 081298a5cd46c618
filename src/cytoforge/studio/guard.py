"""Who may ask the studio for what: one host, one person, requests of the page itself, and nothing beyond bounds.

A page of another site that the browser has open could send requests to 127.0.0.1, or have its own name resolved to it.
So a request needs the Host of the studio's address, the cookie that only its printed address gives, and, if it changes
anything, the page itself as its origin.
"""

import hmac
import secrets
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cytoforge.data.files import write_bytes

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
SAFE = ("GET", "HEAD")
MONTH = 30 * 24 * 3600  # s for which a browser is known


def token_of(path: Path) -> str:
    """Return the secret of a studio folder, made at its first opening; readable by its owner only."""
    if not path.exists():
        write_bytes(path, secrets.token_urlsafe(24).encode())
        path.chmod(0o600)
    return path.read_text()


def hosts_of(host: str, port: int) -> frozenset[str]:
    """Return the Host headers of the address that the studio listens on."""
    names = {host, f"[{host}]"} if ":" in host else {host}
    if host in ("127.0.0.1", "::1", "localhost"):
        names |= {"127.0.0.1", "localhost", "[::1]"}
    return frozenset(f"{name}:{port}" for name in names) | (frozenset(names) if port == 80 else frozenset())


class Guard:
    """ASGI middleware that turns away whatever the studio's own page in the user's own browser did not ask for."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str], token: str, cookie: str) -> None:
        """`hosts`: Host headers that are taken; `token`: the secret of the printed address; `cookie`: its name."""
        self.app, self.hosts, self.token, self.cookie = app, hosts, token, cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        answer = self._refusal(scope)
        await (answer or self.app)(scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if host not in self.hosts:
            return PlainTextResponse("The studio does not answer under this name.", 421)
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token")
        if given and scope["path"] == "/" and self._is_token(given[0]):
            answer = RedirectResponse("/", 303)
            answer.set_cookie(self.cookie, self.token, max_age=MONTH, httponly=True, samesite="strict")
            return answer
        if not self._is_token(_cookie(headers.get("cookie", ""), self.cookie)):
            return PlainTextResponse("Open the address that cytoforge studio has printed; it holds the key.", 403)
        if scope["method"] not in SAFE and not _same_origin(headers, host):
            return PlainTextResponse("Only the studio's own page may change anything.", 403)
        return None

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self.token.encode())


def _cookie(header: str, name: str) -> str:
    try:
        found = SimpleCookie(header).get(name)
    except CookieError:
        return ""
    return found.value if found else ""


def _same_origin(headers: Headers, host: str) -> bool:
    """Tell whether a request comes from a page of this host; browsers send Origin with all that change anything."""
    return headers.get("origin") in (f"http://{host}", f"https://{host}") and headers.get("x-cytoforge") == "studio"


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return sending
