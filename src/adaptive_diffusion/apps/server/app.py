"""The routes of the images interface."""

from __future__ import annotations

import asyncio
import functools
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import CancelledError
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from fastapi_swagger import patch_fastapi
from PIL import Image
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from adaptive_diffusion.apps.server import images, uploads
from adaptive_diffusion.apps.server.answers import (
    Health,
    ModelEntry,
    ModelList,
    Root,
    errors,
    pictures_or_events,
    set_description,
)
from adaptive_diffusion.apps.server.engine import Engine
from adaptive_diffusion.apps.server.errors import (
    ApiError,
    InvalidRequestError,
    ModelNotFoundError,
    ShuttingDownError,
    TimeLimitError,
    error_body,
)
from adaptive_diffusion.apps.server.guards import ApiKey, BodyLimit, Counting
from adaptive_diffusion.apps.server.limits import Limits
from adaptive_diffusion.apps.server.metrics import Metrics
from adaptive_diffusion.apps.server.models import Drawn, Model, Picture
from adaptive_diffusion.apps.server.requests import Edit, Generation
from adaptive_diffusion.apps.server.retries import Retries, Work, request_key
from adaptive_diffusion.apps.sharing import editing_size
from adaptive_diffusion.version import __version__

__all__ = ["create_app"]

_logger = logging.getLogger(__name__)

_Event = dict[str, Any]

_NAME = "Adaptive Diffusion"
_SUMMARY = "OpenAI's images interface for diffusion models, in a fraction of the denoiser calls."
_GONE = 499  # the client has closed the connection: nobody reads this


def create_app(
    models: Sequence[Model],
    limits: Limits | None = None,
    api_key: str | None = None,
) -> FastAPI:
    """The server as an ASGI application.

    Args:
        models: to be served; the first is the default.
        limits: what may be asked for.
        api_key: that clients must have, if any.
    """
    limits = limits or Limits()
    metrics = Metrics()
    studio = _Studio(models, limits, metrics)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        studio.engine = Engine(models, limits, metrics)
        yield
        await run_in_threadpool(studio.engine.close)

    app = FastAPI(
        title=_NAME,
        version=__version__,
        lifespan=lifespan,
        docs_url=None,  # theirs fetch their scripts from elsewhere
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
    )
    patch_fastapi(app, redirect_from_root_to_docs=False)
    _add_routes(app, studio)
    set_description(app, _SUMMARY, has_key=api_key is not None)
    _add_error_handlers(app)
    app.add_middleware(BodyLimit, limits=limits)
    if api_key is not None:
        app.add_middleware(ApiKey, key=api_key)
    app.add_middleware(Counting, metrics=metrics)
    return app


class _Studio:
    """What the routes work with."""

    engine: Engine

    def __init__(self, models: Sequence[Model], limits: Limits, metrics: Metrics) -> None:
        self.models = {model.name: model for model in models}
        self.limits = limits
        self.metrics = metrics
        self.retries = Retries(limits.retry_seconds)
        self.started = int(time.time())

    def model(self, name: str | None) -> Model:
        if name is None:
            return next(iter(self.models.values()))
        if name not in self.models:
            served = ", ".join(self.models)
            raise ModelNotFoundError(f"no model {name!r}: this server has {served}", "model")
        return self.models[name]

    def pictures(self, request: Generation, **edit: Any) -> tuple[Model, list[Picture]]:
        """The pictures that a request asks for, once they are known to be possible."""
        request.check(self.limits)
        model = self.model(request.model)
        seed = random.randrange(2**32) if request.seed is None else request.seed
        choice = request.choose(model.choice, model.profiles)
        pictures = [
            Picture(
                request.prompt,
                seed + index,
                request.steps,
                choice,
                request.guidance,
                previews=request.partial_images,
                negative_prompt=request.negative_prompt,
                **{"size": request.width_height} | edit,
            )
            for index in range(request.n)
        ]
        model.check(pictures[0], self.limits)
        return model, pictures


def _add_routes(app: FastAPI, studio: _Studio) -> None:
    @app.post("/v1/images/generations", responses=pictures_or_events())
    async def generations(body: Generation, request: Request) -> Response:
        """Makes pictures from a prompt."""
        model, pictures = studio.pictures(body)
        return await _serve(studio, request, body, {}, model, pictures, "image_generation")

    @app.post("/v1/images/edits", openapi_extra=_edit_body(), responses=pictures_or_events())
    async def edits(request: Request) -> Response:
        """Changes a picture as the prompt says: all of it, or where the mask is transparent."""
        body, files = await _read_form(request)
        edit = await run_in_threadpool(_edit, studio, body, files)
        model, pictures = studio.pictures(body, **edit)
        return await _serve(studio, request, body, files, model, pictures, "image_edit")

    @app.get("/", response_model=Root)
    async def root() -> dict[str, Any]:
        """What this server is, and where to read on."""
        places = {"docs": "/docs", "openapi": "/openapi.json", "api": "/v1"}
        return {"name": _NAME, "version": __version__, "models": [*studio.models], **places}

    @app.get("/v1/models", response_model=ModelList, responses=errors(401))
    async def list_models() -> dict[str, Any]:
        """The models of this server."""
        described = [_describe(name, studio.started) for name in studio.models]
        return {"object": "list", "data": described}

    @app.get("/v1/models/{name:path}", response_model=ModelEntry, responses=errors(401, 404))
    async def get_model(name: str) -> dict[str, Any]:
        """One of the models."""
        return _describe(studio.model(name).name, studio.started)

    @app.get("/health", response_model=Health)
    async def health() -> dict[str, Any]:
        """Whether the server serves, and how much it has to do."""
        engine = studio.engine
        return {"status": "ok", "queued": engine.queued, "running": engine.running}

    @app.get("/metrics", response_class=PlainTextResponse, responses=errors(401))
    async def metrics() -> Response:
        """For Prometheus."""
        return Response(studio.metrics.text(), media_type="text/plain; version=0.0.4")


def _describe(name: str, created: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": "adaptive-diffusion"}


async def _serve(
    studio: _Studio,
    request: Request,
    body: Generation,
    files: dict[str, bytes],
    model: Model,
    pictures: list[Picture],
    kind: str,
) -> Response:
    if body.stream:
        events = _Events(studio, body, model, pictures, kind)
        return StreamingResponse(events.follow(), media_type="text/event-stream")
    key = request_key(request, body, files)
    work = studio.retries.take(key) or Work(pictures, studio.engine.submit(model, pictures))
    drawn = await _wait(work, request, studio.limits)
    if drawn is None:
        studio.retries.keep(key, work)
        return Response(status_code=_GONE)
    encoded = [
        await run_in_threadpool(images.encode, each.image, body, each.entries) for each in drawn
    ]
    answer = images.response(body, work.pictures, drawn, encoded)
    return JSONResponse(answer, headers=images.calls(drawn))


async def _wait(work: Work, request: Request, limits: Limits) -> list[Drawn] | None:
    """All pictures; None if the client goes before. In any other case no job is left to run on."""
    pictures = asyncio.gather(*(asyncio.wrap_future(job.result) for job in work.jobs))
    gone = asyncio.create_task(_disconnected(request))
    either: set[asyncio.Future[Any]] = {pictures, gone}
    for each in either:  # whatever becomes of it is looked at, so that nothing is logged of it
        each.add_done_callback(lambda done: done.cancelled() or done.exception())
    try:
        await asyncio.wait(either, timeout=limits.seconds, return_when=asyncio.FIRST_COMPLETED)
        if pictures.done():
            return pictures.result()
        if not gone.done():
            raise TimeLimitError("the time limit has passed: ask for fewer steps or pictures")
    except (asyncio.CancelledError, Exception) as error:
        work.cancel()
        raise _explain(error) from error
    finally:
        gone.cancel()
    return None


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class _Events:
    """The events of a streamed request. It is taken into the queue, or refused, when made."""

    def __init__(
        self, studio: _Studio, body: Generation, model: Model, pictures: list[Picture], kind: str
    ) -> None:
        self._body = body
        self._pictures = pictures
        self._kind = kind
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[_Event | Callable[[], _Event]] = asyncio.Queue()
        self._previews = [0] * len(pictures)
        self._remaining = len(pictures)
        self._jobs = studio.engine.submit(model, pictures, self)
        for index, job in enumerate(self._jobs):
            job.result.add_done_callback(functools.partial(self._on_done, index))

    async def follow(self) -> AsyncIterator[str]:
        """Steps and previews of all pictures, and each one when it is done."""
        try:
            while self._remaining:
                news = await self._events.get()
                yield images.event(await run_in_threadpool(news) if callable(news) else news)
            yield "data: [DONE]\n\n"
        except Exception as error:
            yield images.event({"type": "error", **_explain(error).body})
        finally:
            for job in self._jobs:
                job.cancel()

    def on_step(self, index: int, steps: int, computed: int) -> None:
        progress = {
            "type": f"{self._kind}.progress",
            "index": index,
            "step": steps,
            "nfe": computed,
            "steps": self._body.steps,
        }
        self._put(progress)

    def on_preview(self, index: int, preview: Image.Image) -> None:
        number = self._previews[index]
        self._previews[index] += 1
        self._put(lambda: images.partial(self._kind, index, number, self._body, preview))

    def _on_done(self, index: int, _: object) -> None:
        self._put(functools.partial(self._end, index))

    def _end(self, index: int) -> _Event:
        self._remaining -= 1
        drawn = self._jobs[index].result.result()
        return images.completed(self._kind, index, self._body, self._pictures[index], drawn)

    def _put(self, event: _Event | Callable[[], _Event]) -> None:
        """From any thread: an event, or what makes it; pictures are encoded when it is sent."""
        self._loop.call_soon_threadsafe(self._events.put_nowait, event)


def _explain(error: BaseException) -> ApiError:
    """The error as an answer; what was not foreseen is in the log already."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, (CancelledError, asyncio.CancelledError)):
        return ShuttingDownError("the server is shutting down")
    return ApiError(f"the picture could not be made: {type(error).__name__}: {error}")


async def _read_form(request: Request) -> tuple[Edit, dict[str, bytes]]:
    async with request.form(max_files=2, max_fields=len(Edit.model_fields)) as form:
        fields: dict[str, str] = {}
        files: dict[str, bytes] = {}
        for name, value in form.multi_items():
            param = name.removesuffix("[]")
            if param in fields or param in files:
                raise InvalidRequestError(f"{param} is given twice: one is taken", param)
            if isinstance(value, UploadFile):
                files[param] = await value.read()
            else:
                fields[param] = value
    for param in files:
        if param not in ("image", "mask"):
            raise InvalidRequestError(f"no file {param} is taken: send image and mask", param)
    try:
        return Edit.model_validate(fields), files
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from error


def _edit(studio: _Studio, body: Edit, files: dict[str, bytes]) -> dict[str, Any]:
    """What an edit's pictures have beside a generation's."""
    limits = studio.limits
    body.check(limits)
    pipe = studio.model(body.model).pipe
    if "image" not in files:
        raise InvalidRequestError("send the picture to be edited as the file image", "image")
    image, *masks = (
        uploads.decode(files[param], param, limits.upload_pixels)
        for param in ("image", "mask")
        if param in files
    )
    size = body.width_height or editing_size(pipe, image.size, limits.size)
    mask = uploads.repaint_mask(masks[0], image).resize(size) if masks else None
    image = image.convert("RGB").resize(size)
    return {"image": image, "mask": mask, "size": size, "strength": body.strength}


def _edit_body() -> dict[str, Any]:
    schema = Edit.model_json_schema()
    file = {"type": "string", "format": "binary"}
    schema["properties"] |= {"image": file, "mask": file}
    schema["required"] = [*schema["required"], "image"]
    return {
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}
    }


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(HTTPException)
    async def refuse(_: Request, error: HTTPException) -> JSONResponse:
        if isinstance(error, ApiError):
            body = error.body
        else:  # the framework's own: no such path, no such method, a broken body
            body = error_body(str(error.detail), "invalid_request_error")
        return JSONResponse(body, error.status_code, headers=dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def refuse_arguments(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = [part for part in first["loc"] if isinstance(part, str) and part != "body"]
        param = place[0] if place else None
        message = f"{param}: {first['msg']}" if param else str(first["msg"])
        if first["type"] == "extra_forbidden":
            message = f"no argument {param!r}: the page /docs shows all"
        return JSONResponse(error_body(message, "invalid_request_error", param), 400)

    @app.exception_handler(ClientDisconnect)
    async def leave(_: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=_GONE)

    @app.exception_handler(Exception)
    async def fail(_: Request, error: Exception) -> JSONResponse:
        _logger.error("a request failed", exc_info=error)
        return JSONResponse(_explain(error).body, 500)
