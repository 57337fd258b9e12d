"""Makes what any card's output schema speaks of: real files of the kinds it names, and values that fit it."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from .bench import Bench, Drawn, Made, Source
from .book import Entry
from .cards.card import Card
from .cards.shapes import Schema
from .filming import move_of
from .films import film
from .generating import FIXED_PICTURE, drawn_by, new_seed
from .kinds import archive, glb, srt, vtt
from .pictures import MEDIA_TYPES, Picture, draw
from .retouching import enlarge, opened
from .sizes import Arguments, size_of
from .speech import make_speech, make_wave, seconds_of
from .units import Measured, units_of
from .weights import palette_by_chance, weights

_FILM_EDGE = 320
_MAX_SECONDS = 60
_DEFAULT_SECONDS = 5.0
_SAID = "The quick brown fox jumps over the lazy dog, and nobody minds."
_BY_COMPONENT = {"Image": "png", "Video": "mp4", "Audio": "wav"}
# By a part of the field's name; the first that fits.
_BY_NAME = (
    ("mesh", "glb"),
    ("glb", "glb"),
    ("model", "glb"),
    ("lora", "safetensors"),
    ("weights", "safetensors"),
    ("config", "json"),
    ("srt", "srt"),
    ("subtitle", "srt"),
    ("vtt", "vtt"),
    ("archive", "zip"),
    ("zip", "zip"),
    ("video", "mp4"),
    ("audio", "wav"),
    ("image", "png"),
    ("mask", "png"),
)
_TYPES = {
    "mp4": "video/mp4",
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
    "glb": "model/gltf-binary",
    "srt": "application/x-subrip",
    "vtt": "text/vtt",
    "json": "application/json",
    "zip": "application/zip",
}
_OPAQUE = "application/octet-stream"
_IMAGES = {"jpg": "jpeg", "jpeg": "jpeg", "png": "png", "webp": "webp", "gif": "gif"}


@dataclass(kw_only=True)
class _Making:
    """One request's making. `sources`: the files it was given, by their field."""

    bench: Bench
    entry: Entry
    card: Card
    arguments: Arguments
    sources: Mapping[str, list[Source]]
    seed: int
    measured: Measured = field(default_factory=Measured)

    @property
    def text(self) -> str:
        """Return what is said in the input."""
        said = (self.arguments.get(name) for name in ("prompt", "text", "input", "script"))
        return next((each for each in said if isinstance(each, str) and each), self.card.title)

    @property
    def number_of_files(self) -> int:
        # `num_inference_steps` is no number of files.
        asked = (value for name, value in self.arguments.items() if name.startswith("num_") and "step" not in name)
        return next((value for value in asked if isinstance(value, int) and 1 <= value <= 16), 1)

    async def value(self, schema: Schema, name: str) -> Any:
        component = str(schema.get("$ref", "")).rpartition("/")[2]
        # In OpenAPI 3.0 nothing may stand beside a `$ref`, so one with an example is an `allOf` of it.
        if "allOf" in schema:
            component = component or str(schema["allOf"][0].get("$ref", "")).rpartition("/")[2]
        whole = self._whole(schema)
        if _is_file(whole):
            return await self._file(whole, component or str(whole.get("title", "")), name)
        if whole.get("type") == "object" or "properties" in whole:
            return await self._record(whole)
        if whole.get("type") == "array":
            return await self._list(whole, name)
        return self._plain(whole, name)

    def _whole(self, schema: Schema) -> Schema:
        """Return the schema with what it refers to; of several that may be, the first that is not null."""
        whole = self.card.resolve(schema)
        for word in ("anyOf", "oneOf"):
            if word in whole:
                chosen: Schema = next((each for each in whole[word] if each.get("type") != "null"), {})
                return {**self._whole(chosen), **{key: value for key, value in whole.items() if key != word}}
        if "allOf" in whole:
            parts = [self._whole(each) for each in whole["allOf"]]
            return {key: value for part in [*parts, whole] for key, value in part.items() if key != "allOf"}
        return whole

    async def _record(self, schema: Schema) -> dict[str, Any]:
        return {name: await self.value(each, name) for name, each in schema.get("properties", {}).items()}

    async def _list(self, schema: Schema, name: str) -> list[Any]:
        items = schema.get("items", {})
        # Lists like `has_nsfw_concepts` have a word on each file.
        wanted = self.number_of_files if _is_file(self._whole(items)) or name.startswith("has_") else 1
        wanted = max(wanted, schema.get("minItems", 0))
        return [await self.value(items, name) for _ in range(min(wanted, schema.get("maxItems", wanted)))]

    def _plain(self, schema: Schema, name: str) -> Any:
        if name == "seed":
            return self.seed
        if name == "has_nsfw_concepts":
            return self.entry.faults.flagged
        # What an answer repeats of its input, as FLUX does the prompt.
        if name in self.arguments and schema.get("type") == "string" and "enum" not in schema:
            return self.arguments[name]
        for word in ("const", "default"):
            if word in schema:
                return schema[word]
        for word in ("enum", "examples"):
            if schema.get(word):
                return schema[word][0]
        return self._of_type(schema)

    def _of_type(self, schema: Schema) -> Any:
        match schema.get("type"):
            case "boolean":
                return False
            case "integer" | "number":
                return schema.get("minimum", 0)
            case "string":
                return f"{_SAID} ({self.text[:80]})"
            case _:
                return None

    async def _file(self, schema: Schema, component: str, name: str) -> dict[str, Any]:
        kind = _kind(schema, component, name)
        if kind in _IMAGES:
            return await self._image(_IMAGES[kind])
        content, length = await self.bench.work(self._content, kind)
        self.measured.add(kind, seconds=length)
        return self.bench.publish_file(
            self.entry, content, content_type=_TYPES.get(kind, _OPAQUE), name=f"{name}.{kind}"
        )

    async def _image(self, by_schema: str) -> dict[str, Any]:
        asked = str(self.arguments.get("output_format", by_schema)).replace("jpg", "jpeg")
        drawn = await self._drawn(asked if asked in MEDIA_TYPES else "png")
        self.measured.add("image", width=drawn.width, height=drawn.height)
        return self.bench.publish_image(self.entry, drawn, inline=bool(self.arguments.get("sync_mode")))

    async def _drawn(self, image_format: str) -> Drawn:
        """Return the picture that was given, enlarged where a factor says so, or a new one."""
        given = next((each for name, each in self.sources.items() if "image" in name and each), None)
        factor = self.arguments.get("upscale_factor", self.arguments.get("scale"))
        if given and ("prompt" not in self.arguments or factor is not None):
            return await self.bench.work(enlarge, given[0], factor=float(factor or 1), format=image_format)
        return await drawn_by(self.bench, self._picture(image_format))

    def _picture(self, image_format: str) -> Picture:
        if self.bench.fixed_pictures:
            return FIXED_PICTURE
        width, height = size_of(self.arguments)
        number = self.measured.count("image")
        return Picture(prompt=self.text, seed=self.seed + number, width=width, height=height, format=image_format)

    def _content(self, kind: str) -> tuple[bytes, float]:
        """Return a file's bytes and, of what takes time, its seconds."""
        match kind:
            case "mp4":
                return self._film()
            case "mp3":
                return make_speech(self.text, voice_id=self._voice), seconds_of(self.text)
            case "wav":
                length = self._seconds() or seconds_of(self.text)
                return make_wave(self.text, voice_id=self._voice, seconds=length), length
            case "glb":
                return glb(self.text), 0
            case "safetensors":
                return weights(seed=f"{self.text}/{self.seed}", palette=palette_by_chance(self.text)), 0
            case "json":
                return json.dumps({"model": self.card.endpoint, "seed": self.seed}, indent=2).encode(), 0
            case "srt":
                return srt(self.text), 0
            case "vtt":
                return vtt(self.text), 0
            case "zip":
                return archive({"readme.txt": self.text.encode(), "sample.glb": glb(self.text)}), 0
            case _:
                return hashlib.sha256(f"{self.text}/{self.seed}".encode()).digest() * 8, 0

    def _film(self) -> tuple[bytes, float]:
        """Return the film that was given as it is, or one of a picture: small, and as long as was asked for."""
        films = [each for name, each in self.sources.items() if "video" in name and each]
        if films and not any("image" in name for name in self.sources):
            return films[0][0].content, _length(films[0][0].content) or _DEFAULT_SECONDS
        seconds = self._seconds() or _DEFAULT_SECONDS
        pictures = [each for name, each in self.sources.items() if "image" in name and each]
        picture = pictures[0][0].content if pictures else self._still()
        move = move_of("" if self.bench.fixed_pictures else self.text)
        return film(picture, seconds=seconds, move=move, longest_edge=_FILM_EDGE).content, seconds

    def _still(self) -> bytes:
        return draw(self._picture("jpeg"))

    def _seconds(self) -> float | None:
        """Return how long it is asked to be: `"5"`, `"8s"` and 6 are all in use."""
        for name in ("duration", "seconds_total", "seconds", "duration_seconds"):
            try:
                seconds = float(str(self.arguments[name]).removesuffix("s"))
            except (KeyError, ValueError):
                continue
            if seconds > 0:  # a number may be none: `"nan"`
                return min(seconds, _MAX_SECONDS)
        return None

    @property
    def _voice(self) -> str:
        return str(self.arguments.get("voice", "nobody"))


async def make(bench: Bench, entry: Entry, card: Card, arguments: Arguments) -> Made:
    """Make an answer by the card's own schema. Raise Rejection for a file that cannot be had."""
    making = _Making(
        bench=bench,
        entry=entry,
        card=card,
        arguments=arguments,
        sources=await _sources(bench, entry, arguments),
        seed=arguments.get("seed", new_seed()),
    )
    making.measured.characters = len(making.text)
    sounds = [each for name, given in making.sources.items() for each in given if "audio" in name or "video" in name]
    making.measured.input_seconds = sum([await bench.work(_length, sound.content) for sound in sounds])
    body = await making.value(card.schema_of_output, "output")
    return Made(body=body, billable_units=units_of(card, entry, arguments, making.measured))


async def _sources(bench: Bench, entry: Entry, arguments: Arguments) -> dict[str, list[Source]]:
    """Read every file that the input names. What is to be a picture has to be one."""
    found: dict[str, list[Source]] = {}
    for name, value in arguments.items():
        if name.endswith("_url") and isinstance(value, str):
            found[name] = [bench.read(entry, value, place=(name,))]
        elif name.endswith("_urls") and isinstance(value, list):
            found[name] = [bench.read(entry, each, place=(name, n)) for n, each in enumerate(value)]
    for name, sources in found.items():
        for source in sources if "image" in name else ():
            await bench.work(opened, source)
    return found


def _length(content: bytes) -> float:
    """Return the seconds of a sound or film, 0 of what is neither."""
    # Here, since PyAV takes 17 MB that a simulator of pictures does without.
    import av

    try:
        with av.open(io.BytesIO(content), "r") as opened_file:
            return (opened_file.duration or 0) / av.time_base
    except (av.FFmpegError, ValueError):
        return 0


def _is_file(schema: Schema) -> bool:
    # What fal's Image, Video, Audio and File have in common; a `url` alone may be any link.
    properties = schema.get("properties", {})
    return "url" in properties and ({"content_type", "file_name", "file_size"} & properties.keys() != set())


def _kind(schema: Schema, component: str, name: str) -> str:
    # A schema says little of a file: the name in an example tells its kind, else the component's, else the field's own.
    for each in schema.get("examples", ()):
        suffix = PurePosixPath(urlsplit(str(each.get("url", ""))).path).suffix if isinstance(each, Mapping) else ""
        if suffix:
            return suffix.removeprefix(".").lower()
    if component in _BY_COMPONENT:
        return _BY_COMPONENT[component]
    return next((kind for part, kind in _BY_NAME if part in name.lower()), "bin")  # bytes of no kind
