"""Custom nodes that skip the predictable model calls of a sampler."""

try:
    from .nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS
except ImportError as error:
    if error.name is None or error.name.split(".")[0] != "adaptive_diffusion":
        raise
    raise ImportError(
        "Adaptive Diffusion's nodes need the Python package adaptive-diffusion: run "
        "`pip install adaptive-diffusion` with the Python that runs this program, and restart it"
    ) from error

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
