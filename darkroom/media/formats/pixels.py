"""The pixels of a picture as it is looked at: upright, in sRGB, eight bits for a colour, without what it carried."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from PIL import Image, ImageCms, ImageOps

# How a picture is written of which nothing is to be lost that can be seen.
FAITHFUL: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},  # colour at full resolution: at half of it letters have coloured edges
    "PNG": {"compress_level": 4},  # 9 % larger than at 6, in 40 % of the time
    "WEBP": {"quality": 95},
}
WRITTEN = frozenset({"L", "LA", "RGB", "RGBA"})
OF_65536 = 1 / 256


def plain(opened: Image.Image) -> Image.Image:
    """Return the picture as it is looked at: upright, in sRGB, without a palette or anything else that it carried."""
    profile = opened.info.get("icc_profile")
    transparent = opened.has_transparency_data and not is_deep_grey(opened)
    coloured = opened.convert("RGBA") if transparent else without_palette(opened)
    upright = ImageOps.exif_transpose(in_srgb(coloured, profile))
    upright.info.clear()
    return upright


def without_palette(image: Image.Image) -> Image.Image:
    """Return the picture in colours that can be averaged."""
    if is_deep_grey(image):
        return _eight_bits(image)
    if image.mode == "1":
        return image.convert("L")
    if image.mode == "P" or (image.mode == "RGB" and image.has_transparency_data):
        return image.convert("RGBA" if image.has_transparency_data else "RGB")
    if image.mode not in WRITTEN | {"CMYK"}:  # those of TIFF: Lab, YCbCr, palettes with alpha
        return image.convert("RGBA" if image.has_transparency_data else "RGB")
    return image


def is_deep_grey(image: Image.Image) -> bool:
    """Return whether the picture is grey of more than eight bits, which `convert` would cut off at 255."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert the picture to sRGB."""
    if profile and image.mode in ("RGB", "RGBA", "CMYK"):  # grey needs none
        try:
            given = ImageCms.getOpenProfile(BytesIO(profile))
            mode = "RGBA" if image.mode == "RGBA" else "RGB"
            converted = ImageCms.profileToProfile(image, given, ImageCms.createProfile("sRGB"), outputMode=mode)
            assert converted is not None  # only None where it works in place
            return converted
        except (ImageCms.PyCMSError, OSError):
            pass  # a profile that does not fit its picture: browsers pass over it as well
    return image.convert("RGB") if image.mode == "CMYK" else image


def _eight_bits(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        deep = image if image.mode == "I;16" else image.convert("I").convert("I;16")
        return deep.point(lambda value: value * OF_65536).convert("L")
    low, high = (float(each) for each in image.getextrema())  # type: ignore[arg-type]
    if image.mode == "I" and low >= 0 and high <= 0xFFFF:
        return image.point(lambda value: value * OF_65536).convert("L")
    # No range is given with them (TIFF of measuring instruments): from the darkest to the lightest there is.
    low, high = (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)
    scale = 255 / (high - low) if high > low else 0.0
    return image.point(lambda value: value * scale - low * scale).convert("L")
