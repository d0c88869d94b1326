"""Uploaded pictures, decoded with suspicion."""

from __future__ import annotations

import struct
import warnings
from io import BytesIO

from PIL import Image, ImageOps, UnidentifiedImageError

from adaptive_diffusion.apps.server.errors import InvalidRequestError

__all__ = ["decode", "repaint_mask"]

_FORMATS = ("PNG", "JPEG", "WEBP")
_BROKEN = (OSError, SyntaxError, ValueError, struct.error, EOFError, Image.DecompressionBombWarning)


def decode(content: bytes, param: str, most_pixels: int) -> Image.Image:
    """A picture from PNG, JPEG or WebP; its size is checked before its pixels are decoded.

    Raises:
        InvalidRequestError: if it is too large or no such picture.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(BytesIO(content), formats=_FORMATS)
            if image.width * image.height > most_pixels:
                raise InvalidRequestError(
                    f"{param} has {image.width} x {image.height} pixels: "
                    f"at most {most_pixels} are taken",
                    param,
                )
            image.load()
            return ImageOps.exif_transpose(image)
    except UnidentifiedImageError:
        raise InvalidRequestError(f"{param} must be a PNG, JPEG or WebP picture", param) from None
    except (*_BROKEN, Image.DecompressionBombError) as error:
        raise InvalidRequestError(f"{param} can't be read: {error}", param) from error


def repaint_mask(mask: Image.Image, image: Image.Image) -> Image.Image:
    """White where the mask is transparent, as OpenAI has it: there the picture is made anew.

    Raises:
        InvalidRequestError: if the mask is not as large as the picture, or nowhere transparent.
    """
    if mask.size != image.size:
        raise InvalidRequestError(
            f"mask must have the size of image, {image.width} x {image.height}", "mask"
        )
    repaint = mask.convert("RGBA").getchannel("A").point(lambda alpha: 0 if alpha else 255)
    if repaint.getbbox() is None:
        raise InvalidRequestError("mask must be transparent where to paint anew", "mask")
    return repaint
