"""Images decoded under caps: every picture becomes RGB by documented repairs, or is refused with a remedy.

Repairs, each named in the returned list: EXIF rotation applied; first frame of an animation; transparency laid on
white; greyscale, palette, CMYK and other colour spaces converted to RGB; 16-bit brought to 8-bit. Refused: empty files,
web pages saved as pictures, anything but the formats below, truncated or corrupt data, more pixels than the cap, sides
below the minimum, floating-point pixels (they have no agreed range).
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from penchant.errors import MediaError

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 64_000_000
MAX_BYTES = 256 * 1024 * 1024
MIN_SIDE = 8
# Only decoders that a preference set needs: the rarer plug-ins (EPS calls Ghostscript) are attack surface.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
_MARKUP = (b"<!doctype", b"<html", b"<head", b"<?xml", b"<svg", b"{")
_SHOWN = {"image": "picture", "clip": "clip", "sound": "sound"}
_DEEP = "16-bit brought to 8-bit RGB"
_CORRUPT_REMEDY = "fetch the file again, or remove the row."


def decode_image(data: bytes, *, max_pixels: int = MAX_PIXELS, min_side: int = MIN_SIDE) -> tuple[Image, list[str]]:
    """Encoded bytes to an RGB image and the list of repairs that were made.

    Args:
        data: a JPEG, PNG, WebP, GIF, BMP or TIFF file.
        max_pixels: width x height above which the file is refused before any pixel is decoded.
        min_side: the smallest width or height accepted.

    Raises:
        MediaError: the reason and its remedy; no other exception leaves this function.
    """
    refuse_before_decoding(data)
    try:
        return _decode(data, max_pixels, min_side)
    except MediaError:
        raise
    # Codecs fed with hostile bytes raise almost anything (OSError, SyntaxError, struct.error, ...), all meaning this.
    except Exception as error:
        if "DecompressionBomb" in type(error).__name__:
            raise _too_large() from error
        truncated = "truncated" in str(error).lower() or isinstance(error, EOFError)
        problem = "the image is truncated." if truncated else "the image is corrupt."
        raise MediaError(problem, remedy=_CORRUPT_REMEDY) from error


def refuse_before_decoding(data: bytes, what: str = "image") -> None:
    """Raises MediaError for an empty file, one that is too large, or a web page; `what` it should have been."""
    if not data:
        raise MediaError(f"the {what} is empty (0 bytes).", remedy=_CORRUPT_REMEDY)
    if len(data) > MAX_BYTES:
        raise MediaError(f"the {what} file is too large.", remedy=f"re-encode it below {MAX_BYTES // 2**20} MiB.")
    if data[:64].lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_MARKUP):
        raise MediaError(
            f"the {what} is a text or web page.",
            remedy=f"the download was answered with an error page: fetch the {_SHOWN[what]} again, or remove the row.",
        )


def _too_large() -> MediaError:
    return MediaError("the image has too many pixels.", remedy="scale it down; the cap guards against bombs.")


def _decode(data: bytes, max_pixels: int, min_side: int) -> tuple[Image, list[str]]:
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise MediaError(
            "the file is not an image of a supported format.", remedy=f"convert it to one of {', '.join(FORMATS)}."
        ) from error
    # `open` has read the header only; nothing is decoded before the size is known to be harmless.
    if image.width * image.height > max_pixels:
        raise _too_large()
    if min(image.size) < min_side:
        raise MediaError("the image is too small.", remedy=f"each side must have at least {min_side} pixels.")
    repairs = []
    if getattr(image, "n_frames", 1) > 1:
        image.seek(0)
        repairs.append("first frame of an animation taken")
    image.load()
    # Pillow brings deep colour channels to 8 bits by itself; a repair all the same. Byte 24 is a PNG's bit depth.
    if data.startswith(b"\x89PNG") and data[24] == 16:
        repairs.append(_DEEP)
    if image.getexif().get(0x0112, 1) in range(2, 9):
        image = ImageOps.exif_transpose(image)
        repairs.append("EXIF rotation applied")
    image, repair = _to_rgb(image)
    return image, list(dict.fromkeys([*repairs, repair] if repair else repairs))


def _to_rgb(image: Image) -> tuple[Image, str | None]:
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        return _on_white(image), "transparency laid on white"
    if image.mode == "RGB":
        return image, None
    if image.mode.startswith("I"):
        return _to_8_bit(image), _DEEP
    if image.mode == "F":
        raise MediaError(
            "the image has floating-point pixels.", remedy="save it as 8-bit RGB; floats have no agreed range."
        )
    names = {"1": "greyscale", "L": "greyscale", "P": "palette"}
    return image.convert("RGB"), f"{names.get(image.mode, image.mode)} converted to RGB"


def _on_white(image: Image) -> Image:
    from PIL import Image

    rgba = image.convert("RGBA")
    canvas = Image.new("RGB", rgba.size, (255, 255, 255))
    canvas.paste(rgba, mask=rgba.getchannel("A"))
    return canvas


def _to_8_bit(image: Image) -> Image:
    import numpy as np
    from PIL import Image

    # The high byte; Pillow's own conversion would clip everything above 255 to white.
    pixels: Any = np.asarray(image)
    return Image.fromarray((np.clip(pixels, 0, 65535).astype(np.uint16) >> 8).astype(np.uint8)).convert("RGB")


def dhash(image: Image) -> int:
    """A 64-bit difference hash: in 8 x 8 cells, is the right neighbour brighter? Near pictures are few bits apart."""
    import numpy as np
    from PIL import Image

    grey: Any = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BILINEAR), dtype=np.int16)
    bits = (grey[:, 1:] > grey[:, :-1]).ravel()
    return int("".join("1" if bit else "0" for bit in bits), 2)


def hamming(a: int, b: int) -> int:
    """Number of differing bits of two hashes."""
    return (a ^ b).bit_count()
