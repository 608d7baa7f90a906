"""The status page for a browser: static files of this package, read once at import."""

from importlib.resources import files
from typing import Final

from aiohttp import web

_TYPES: Final = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_PAGE: Final = {
    file.name: file.read_bytes()
    for file in files(__package__).joinpath("page").iterdir()
    if file.name.endswith(tuple(_TYPES))
}
# Scripts and styles come from here and from nowhere else; what a script puts into the page is text and no markup.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; "  # the icon, which shows the state
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)


def add_files(router: web.UrlDispatcher) -> None:
    """The routes of what the page is made of: `/page/NAME`."""
    for name in _PAGE:
        router.add_get(f"/page/{name}", _file)


def is_wanted(request: web.Request) -> bool:
    """Whether a browser asks: it alone says that it reads HTML."""
    return "text/html" in request.headers.get("Accept", "")


def page() -> web.Response:
    """The page itself."""
    return _response("index.html")


async def _file(request: web.Request) -> web.Response:
    return _response(request.path.rpartition("/")[2])


def _response(name: str) -> web.Response:
    kind = _TYPES[name[name.rindex(".") :]]
    headers = {"Content-Security-Policy": _POLICY, "Vary": "Accept"}
    return web.Response(body=_PAGE[name], content_type=kind, charset="utf-8", headers=headers)
