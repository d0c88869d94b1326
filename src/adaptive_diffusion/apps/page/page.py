"""The page as a whole."""

from __future__ import annotations

import logging
import socket
import webbrowser
from collections.abc import Callable

import gradio as gr
import uvicorn
from fastapi import FastAPI

from adaptive_diffusion.apps import addresses
from adaptive_diffusion.apps.page.batch_tab import batch_tab
from adaptive_diffusion.apps.page.edit_tab import edit_tab
from adaptive_diffusion.apps.page.generate_tab import generate_tab
from adaptive_diffusion.apps.page.models import Models
from adaptive_diffusion.apps.page.running import Runs
from adaptive_diffusion.apps.page.settings import Controls
from adaptive_diffusion.apps.page.video_tab import video_tab

__all__ = ["launch", "make_app"]

_CSS = """
.timeline { display: flex; gap: 1px; height: 14px; margin: 2px 0; }
.timeline i { flex: 1; border-radius: 1px; }
.timeline .computed { background: #1d4e89; }
.timeline .skipped { background: #b9d2ea; }
.timeline .to-come { background: var(--border-color-primary); opacity: 0.5; }
.run p { margin: 0 0 4px; font-variant-numeric: tabular-nums; min-height: 1.4em; }
.run .note { opacity: 0.75; font-size: 90%; }
.waiting { height: 14px; margin: 2px 0; overflow: hidden; background: var(--border-color-primary); }
.waiting i { display: block; width: 30%; height: 100%; background: #1d4e89;
  animation: waiting 1.5s ease-in-out infinite alternate; }
@keyframes waiting { from { margin-left: 0; } to { margin-left: 70%; } }
.shown .image-container { padding-top: 28px; }  /* its label covers nothing */
.shown .image-frame, .shown .image-frame img { width: 100%; object-fit: contain; }
@media (max-width: 800px) { #settings { order: 2; } }
"""

_KEYS = """
<script>
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const button of document.querySelectorAll("[id$='-cancel']"))
    if (button.offsetParent !== null) button.click();
});
</script>
"""

# fonts that are at hand: the page fetches nothing from elsewhere
_THEME = gr.themes.Default(
    primary_hue="blue",
    font=["system-ui", "sans-serif"],
    font_mono=["ui-monospace", "monospace"],
)


def make_app(models: Models) -> FastAPI:
    """The page for these models, as an ASGI application."""
    app = FastAPI(openapi_url=None)  # its /docs would fetch scripts from elsewhere
    return gr.mount_gradio_app(
        app, _page(models), "/", footer_links=[], theme=_THEME, css=_CSS, head=_KEYS
    )


def _page(models: Models) -> gr.Blocks:
    with gr.Blocks(title="Adaptive Diffusion", analytics_enabled=False) as page:
        gr.Markdown("## Adaptive Diffusion\nThe full run and the accelerated run, side by side.")
        with gr.Row():
            with gr.Column(scale=1, min_width=260, elem_id="settings"):
                controls = Controls(models)
                runs = Runs(models, controls)
            with gr.Column(scale=4), gr.Tabs():
                with gr.Tab("Generate"):
                    generated = generate_tab(models, runs, controls)
                with gr.Tab("Edit"):
                    edit_tab(models, runs, controls, generated)
                with gr.Tab("Video") as tab:
                    video_tab(models, runs, controls, tab)
                with gr.Tab("Batch"):
                    batch_tab(models, runs, controls)
        page.unload(runs.leave)
    return page


def launch(
    app: FastAPI, taken: socket.socket, announce: Callable[[str], None], *, open_browser: bool
) -> None:
    """Serves the page until SIGTERM or SIGINT.

    Args:
        taken: where it listens.
        announce: told of the address.
    """
    taken.listen()
    announce(addresses.url(taken))
    if open_browser:
        webbrowser.open(addresses.url(taken))
    # an open page keeps a connection, which is not waited for at the end
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
    _Server(config).run(sockets=[taken])


class _Server(uvicorn.Server):
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # of pages that are cut off
        await super().shutdown(sockets)
