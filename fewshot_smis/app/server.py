"""The app over HTTP: the page's own files, and what the page asks for.

The bodies of requests are plain bytes: a map is a byte a pixel, an upload the file itself. What a
request wants beyond that stands in its query. Nothing a browser sends is ever used as a path.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fewshot_smis.app.desk import BusyError, Desk, SupersededError
from fewshot_smis.app.studio import Studio
from fewshot_smis.app.trainings import Trainings
from fewshot_smis.app.wire import (
    UPLOAD,
    TooLargeError,
    body_of,
    checked_picture,
    errand_json,
    ids_bytes,
    look_of,
    png_bytes,
    sight_json,
    strip,
    training_of,
    whole,
    written,
)
from fewshot_smis.codes import save_codes
from fewshot_smis.data.formats.palette import write_palette
from fewshot_smis.data.images import read_image
from fewshot_smis.data.remap import read_or_snap
from stylegan.errors import ConfigError, FewshotError

Item = TypeVar("Item")
Result = TypeVar("Result")

FIRST = "first"  # the name of the model that the app was started with
DECODED_AT_ONCE = 2  # uploads
PAGE = Path(__file__).parent / "page"
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' blob: data:; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


class Workshop(NamedTuple):
    """What the server offers: a model, those trained from the page, and the desk that draws."""

    first: Studio
    desk: Desk
    trainings: Trainings

    def studios(self) -> dict[str, Studio]:
        """Return every model by name."""
        return {FIRST: self.first, **self.trainings.studios()}


STATUS = (  # the first that fits
    (BusyError, 503),
    (TooLargeError, 413),
    (SupersededError, 409),
    (FewshotError, 400),
)


def build_app(workshop: Workshop, hosts: tuple[str, ...] = ("localhost", "127.0.0.1")) -> Starlette:
    """Return the app as ASGI; requests for other host names than `hosts` are refused."""
    routes = [
        Route("/", page("index.html")),
        *(Route(f"/{file.name}", page(file.name)) for file in sorted(PAGE.iterdir())),
        Route("/api/models", models),
        Route("/api/examples", examples),
        Route("/api/draw", draw, methods=["POST"]),
        Route("/api/code", code, methods=["POST"]),
        Route("/api/map", palette_map, methods=["POST"]),
        Route("/api/upload-map", upload_map, methods=["POST"]),
        Route("/api/photo", photo, methods=["POST"]),
        Route("/api/refine", refine, methods=["POST"]),
        Route("/api/sample", sample, methods=["POST"]),
        Route("/api/picture", picture, methods=["POST"]),
        Route("/api/trainings", trainings),
        Route("/api/trainings", train, methods=["POST"]),
        Route("/api/trainings/{name}/sheet", sheet),
        Route("/api/trainings/{name}/cancel", cancel_training, methods=["POST"]),
        Route("/api/trainings/{name}/resume", resume_training, methods=["POST"]),
        Route("/api/errands/{name}", errand),
        Route("/api/errands/{name}/cancel", cancel, methods=["POST"]),
    ]
    app = Starlette(
        routes=routes,
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False),
            Middleware(Guard),
        ],
        exception_handlers={FewshotError: told},
    )
    app.state.workshop = workshop
    app.state.decoding = asyncio.Semaphore(DECODED_AT_ONCE)
    return app


class Guard:
    """Refuse what another site's page could send, and say in each answer what a page may do."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, unless it is a POST of a kind that any site may send."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        kind = dict(scope["headers"]).get(b"content-type", b"")
        if scope["method"] == "POST" and kind != b"application/octet-stream":
            refused = JSONResponse({"error": "send application/octet-stream"}, 415, HEADERS)
            await refused(scope, receive, send)
            return

        async def told_more(message: Message) -> None:
            if message["type"] == "http.response.start":
                more = [(k.encode(), v.encode()) for k, v in HEADERS.items()]
                message["headers"] = [*message["headers"], *more]
            await send(message)

        await self.app(scope, receive, told_more)


async def told(_: Request, error: Exception) -> JSONResponse:
    """Turn an error into the sentence that the page shows."""
    status = next(number for kind, number in STATUS if isinstance(error, kind))
    headers = {"retry-after": "1"} if status == 503 else None
    return JSONResponse({"error": str(error)}, status, headers)


def page(name: str) -> Callable[[Request], Awaitable[Response]]:
    """Return the handler of one of the page's own files, read now."""
    content, kind = (PAGE / name).read_bytes(), KINDS[Path(name).suffix]

    async def handler(_: Request) -> Response:
        return Response(content, media_type=kind)

    return handler


async def models(request: Request) -> JSONResponse:
    """Return every model's name, classes and sizes."""
    studios = await asyncio.to_thread(workshop_of(request).studios)
    return JSONResponse({name: studio.about() for name, studio in studios.items()})


async def examples(request: Request) -> Response:
    """Return the example maps, one after the other, a byte a pixel."""
    return octets(ids_bytes(studio_of(request).examples()))


async def draw(request: Request) -> Response:
    """Draw a map; its pictures side by side in one PNG."""
    studio, look = studio_of(request), look_of(request.query_params)
    label = studio.check(await body_of(request, studio.side**2))
    drawing = await in_turn(request, studio.draw_all, (label, look))
    return Response(strip(drawing.pictures), media_type="image/png")


async def code(request: Request) -> Response:
    """Return the codes of a map's pictures as a file that `mix` and `synthesize --style` read."""
    studio, look = studio_of(request), look_of(request.query_params)
    label = studio.check(await body_of(request, studio.side**2))
    drawing = await in_turn(request, studio.draw_all, (label, look))
    names = ["own" if style is None else f"style-{style}" for style in look.styles]
    unique = [f"{i}-{name}" for i, name in enumerate(names)]
    return written("codes.safetensors", lambda path: save_codes(path, drawing.ws, unique))


async def palette_map(request: Request) -> Response:
    """Return a map as an indexed PNG in the colours of its classes."""
    studio = studio_of(request)
    label = studio.check(await body_of(request, studio.side**2))
    classes = studio.model.classes
    return written("map.png", lambda path: write_palette(path, label.numpy(), classes))


async def upload_map(request: Request) -> Response:
    """Read an uploaded map; each pixel becomes the class of its id or of the nearest colour."""
    studio = studio_of(request)
    ids = await decoded(request, partial(read_or_snap, UPLOAD, studio.model.classes))
    return octets(ids_bytes(studio.fit(torch.from_numpy(ids))))


async def photo(request: Request) -> JSONResponse:
    """Start to look for the code and the map of an uploaded photograph."""
    studio = studio_of(request)
    picture = await decoded(request, partial(read_image, UPLOAD))
    started = workshop_of(request).desk.send(studio.look_at(picture))
    return JSONResponse(errand_json(workshop_of(request).desk, started))


async def refine(request: Request) -> JSONResponse:
    """Start to fit the picture of a rough map to it."""
    studio, desk = studio_of(request), workshop_of(request).desk
    label = studio.check(await body_of(request, studio.side**2))
    return JSONResponse(errand_json(desk, desk.send(studio.refine(label))))


async def sample(request: Request) -> JSONResponse:
    """Draw a sample of the prior, and what the labeler says of it."""
    studio, seed = studio_of(request), whole(request.query_params, "seed")
    found = await in_turn(request, studio.samples, seed)
    return JSONResponse(sight_json(found))


async def errand(request: Request) -> JSONResponse:
    """Say how far an errand is, and what it gave."""
    desk = workshop_of(request).desk
    return JSONResponse(errand_json(desk, desk.errand(request.path_params["name"])))


async def cancel(request: Request) -> JSONResponse:
    """Stop an errand."""
    desk = workshop_of(request).desk
    found = desk.errand(request.path_params["name"])
    found.cancel()
    return JSONResponse(errand_json(desk, found))


async def picture(request: Request) -> Response:
    """Return an uploaded picture as trainings take it: its middle square, at the prior's size."""
    studio = studio_of(request)
    found = await decoded(request, partial(read_image, UPLOAD))
    return Response(png_bytes(studio.fit_picture(found)), media_type="image/png")


async def trainings(request: Request) -> JSONResponse:
    """Say how far every training is."""
    return JSONResponse(workshop_of(request).trainings.told())


async def train(request: Request) -> JSONResponse:
    """Begin to train on labelled pictures."""
    workshop = workshop_of(request)
    plan, shots = training_of(await body_of(request), workshop.first)
    started = await asyncio.to_thread(workshop.trainings.start, plan, shots)
    return JSONResponse(started.told())


async def sheet(request: Request) -> Response:
    """Return the newest sheet of a training."""
    path = workshop_of(request).trainings.get(request.path_params["name"]).sheet()
    if path is None:
        raise ConfigError("this training has drawn nothing yet; wait a little")
    return Response(path.read_bytes(), media_type="image/png")


async def cancel_training(request: Request) -> JSONResponse:
    """Stop a training; it can be resumed."""
    found = workshop_of(request).trainings.get(request.path_params["name"])
    workshop_of(request).trainings.cancel(found)
    return JSONResponse(found.told())


async def resume_training(request: Request) -> JSONResponse:
    """Go on with a training that was stopped or failed."""
    found = workshop_of(request).trainings.get(request.path_params["name"])
    workshop_of(request).trainings.resume(found)
    return JSONResponse(found.told())


def workshop_of(request: Request) -> Workshop:
    """Return what the server offers."""
    found: Workshop = request.app.state.workshop
    return found


def studio_of(request: Request) -> Studio:
    """Return the studio of the model that the query names.

    Raises:
        ConfigError: There is no such model.
    """
    workshop, name = workshop_of(request), request.query_params.get("model", "")
    if name == FIRST:
        return workshop.first
    if name not in (studios := workshop.studios()):
        raise ConfigError(f"there is no model '{name[:32]}'; reload the page")
    return studios[name]


async def in_turn(
    request: Request, work: Callable[[Sequence[Item]], Sequence[Result]], item: Item
) -> Result:
    """Let the desk do `work` on `item` when it is this user's turn."""
    user = request.query_params.get("user", "")[:64]
    return await asyncio.wrap_future(workshop_of(request).desk.draw(user, work, item))


async def decoded(request: Request, read: Callable[[bytes], Result]) -> Result:
    """Read an uploaded picture by `read`; few at a time, since they are large."""
    content = checked_picture(await body_of(request))
    async with request.app.state.decoding:
        return await asyncio.to_thread(read, content)


def octets(content: bytes) -> Response:
    """Answer with plain bytes."""
    return Response(content, media_type="application/octet-stream")
