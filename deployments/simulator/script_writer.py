"""Writes what a JSON schema asks for, as a language model would: about the prompt's topic and its brands.

No model: the words come from a stock of sentences. Fields are understood by their names, and everything that a schema
may demand (required, enum, lengths, ranges, `$ref`, `anyOf`) is obeyed, but for patterns.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Schema = Mapping[str, Any]

_LABELLED = re.compile(
    r"^\W*(topic|subject|theme|brand[s]?|side)\b[^:\n]{0,20}:\s*(.+?)\s*$", re.IGNORECASE | re.MULTILINE
)
_QUOTED = re.compile(r'["“«]([^"”»\n]{2,120})["”»]')
_PAIR = re.compile(r"\s*(?:,|;|/|\band\b|\bvs\.?(?=\s)|\bagainst\b)\s*", re.IGNORECASE)
_DEEPEST = 12  # a schema may refer to itself
_MOST_ITEMS = 4
_LONG = 400  # letters; what a text may have where its schema sets no bound

_SENTENCES = (
    "When it comes to {topic}, {brand} has the better answer, and everybody in this room knows it.",
    "With respect, {other} talks about {topic}; {brand} does something about it.",
    "Ask anyone who has tried both: {brand} makes {topic} a little more fun every day.",
    "{other} may be louder, but {brand} was there for {topic} first.",
    "Let me say one thing about {topic}: {brand} never cuts a corner.",
    "That is a fine speech from {other}. Now try it with a glass of honesty, as {brand} does.",
)
# As many as a debate of three rounds has lines, so that no round has the words of another.
_SHORT_SENTENCES = (
    "{brand} has the better answer!",
    "With respect: no. Try {brand}.",
    "Nobody does it like {brand}.",
    "And still, {brand} it is.",
    "I say it once more: {brand}!",
    "Then let them taste {brand}.",
)
_LOOKS = (
    "A cheerful round mascot of {brand}, bold colours, standing at a lectern, studio light, facing the camera",
    "A proud tall mascot of {brand}, sleek lines, arms crossed at a lectern, studio light, facing the camera",
)
_MOTION = "Both mascots gesture as they speak, the camera moves slowly from {brand} to {other}"


@dataclass(frozen=True, kw_only=True)
class Gist:
    topic: str
    brands: tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where in the document something is written: under which name, as which of its kind."""

    name: str = ""
    number: int = 0
    depth: int = 0


def gist_of(prompt: str) -> Gist:
    """By lines such as `Topic: …` and `Brands: A and B`; else by what stands in quotation marks."""
    topic = ""
    brands: list[str] = []
    for label, value in _LABELLED.findall(prompt):
        found = _unquoted(value)
        if label.lower() in ("topic", "subject", "theme"):
            topic = topic or found
        else:
            brands += [_unquoted(each) for each in _PAIR.split(value) if each.strip()]
    quoted = [each for each in _QUOTED.findall(prompt) if each not in (topic, *brands)]
    if not topic and len(quoted) > 2 - len(brands):
        topic = max(quoted, key=len)
        quoted.remove(topic)
    topic = topic or " ".join(prompt.split()[:8])
    both = [*brands, *quoted, "the first", "the second"]
    return Gist(topic=topic.rstrip(" .!?")[:120], brands=(both[0][:60], both[1][:60]))


def write(schema: Schema, prompt: str) -> Any:
    """Write a document that obeys the schema."""
    return _Writer(schema, gist_of(prompt)).document()


def speak(prompt: str) -> str:
    """Write a text, where no schema is given."""
    gist = gist_of(prompt)
    return " ".join(_sentence(gist, number) for number in range(3))


class _Writer:
    def __init__(self, schema: Schema, gist: Gist) -> None:
        self._root = schema
        self._gist = gist

    def document(self) -> Any:
        return self._value(self._root, _Place())

    def _value(self, schema: Schema, at: _Place) -> Any:
        schema = self._resolved(schema)
        if "const" in schema:
            return schema["const"]
        if options := schema.get("enum"):
            return options[at.number % len(options)]
        match _type_of(schema):
            case "object":
                return self._object(schema, at)
            case "array":
                return self._array(schema, at)
            case "integer":
                return int(_number(schema, at.name))
            case "number":
                return _number(schema, at.name)
            case "boolean":
                return True
            case "null":
                return None
            case _:
                return _fitted(self._text(at, most=schema.get("maxLength", _LONG)), schema)

    def _resolved(self, schema: Schema) -> Schema:
        for _ in range(_DEEPEST):
            if "$ref" in schema:
                schema = {**self._referred(schema["$ref"]), **{k: v for k, v in schema.items() if k != "$ref"}}
            elif "allOf" in schema:
                merged: dict[str, Any] = {k: v for k, v in schema.items() if k != "allOf"}
                for each in schema["allOf"]:
                    merged |= self._resolved(each)
                schema = merged
            elif options := schema.get("anyOf") or schema.get("oneOf"):
                schema = next((each for each in options if each.get("type") != "null"), options[0])
            else:
                break
        return schema

    def _referred(self, reference: str) -> Schema:
        found: Any = self._root
        for part in reference.removeprefix("#/").split("/"):
            found = found.get(part, {})
        return found if isinstance(found, Mapping) else {}

    def _object(self, schema: Schema, at: _Place) -> dict[str, Any]:
        if at.depth > _DEEPEST:
            return {}
        return {
            name: self._value(each, _Place(name=name, number=_number_of(name, at), depth=at.depth + 1))
            for name, each in schema.get("properties", {}).items()
        }

    def _array(self, schema: Schema, at: _Place) -> list[Any]:
        if at.depth > _DEEPEST:
            return []
        least, most = schema.get("minItems", 0), schema.get("maxItems", _MOST_ITEMS)
        count = max(least, min(most, 2 if _is_about_brands(at.name) else _MOST_ITEMS))
        items = schema.get("items") or {}
        name = at.name.removesuffix("s")
        return [self._value(items, _Place(name=name, number=n, depth=at.depth + 1)) for n in range(count)]

    def _text(self, at: _Place, *, most: int) -> str:
        name, gist = at.name.lower(), self._gist
        brand, other = gist.brands[at.number % 2], gist.brands[(at.number + 1) % 2]
        if "topic" in name or "subject" in name:
            return gist.topic
        if "title" in name or "headline" in name:
            return f"{gist.topic}: {gist.brands[0]} against {gist.brands[1]}"
        if name in ("a", "b") or any(word in name for word in ("speaker", "brand", "name", "side", "winner")):
            return brand
        if any(word in name for word in ("look", "mascot", "picture", "image", "appearance", "visual")):
            return _LOOKS[at.number % 2].format(brand=brand)
        if any(word in name for word in ("motion", "camera", "video", "film", "scene", "shot")):
            return _MOTION.format(brand=brand, other=other)
        return _sentence(gist, at.number, most=most)


def _number_of(name: str, at: _Place) -> int:
    """Which of the two a field is about: told by its name, else by where it stands. Of several pairs each its own."""
    if re.search(r"(^|_)(b|second|right|two|2)$", name.lower()):
        return 2 * at.number + 1
    if re.search(r"(^|_)(a|first|left|one|1)$", name.lower()):
        return 2 * at.number
    return at.number


def _is_about_brands(name: str) -> bool:
    return any(word in name.lower() for word in ("brand", "mascot", "side", "speaker"))


def _type_of(schema: Schema) -> str:
    found = schema.get("type")
    if isinstance(found, list):
        found = next((each for each in found if each != "null"), "null")
    return str(found or ("object" if "properties" in schema else "array" if "items" in schema else "string"))


def _number(schema: Schema, name: str) -> float:
    """Choose a usual number where the bounds allow it, else one between them."""
    wanted = 5 if "second" in name.lower() or "duration" in name.lower() else 3
    step = 1 if _type_of(schema) == "integer" else 0
    low = schema["exclusiveMinimum"] + step if "exclusiveMinimum" in schema else schema.get("minimum")
    high = schema["exclusiveMaximum"] - step if "exclusiveMaximum" in schema else schema.get("maximum")
    if (low is None or low < wanted) and (high is None or wanted < high):
        return wanted
    if high is None:
        return float((low or 0) + 1)
    if low is None:
        return float(high - 1)
    return float((low + high) // 2 if step else (low + high) / 2)


def _sentence(gist: Gist, number: int, *, most: int = _LONG) -> str:
    brand, other = gist.brands[number % 2], gist.brands[(number + 1) % 2]
    for stock in (_SENTENCES, _SHORT_SENTENCES):
        said = stock[number % len(stock)].format(topic=gist.topic, brand=brand, other=other)
        if len(said) <= most:
            break
    return said


def _fitted(text: str, schema: Schema) -> str:
    """As long as the schema wants it, ended at a word where there is room for one."""
    least, most = schema.get("minLength", 0), schema.get("maxLength", _LONG)
    while len(text) < least:
        text = f"{text} {text}" if text else "and so on"
    if len(text) <= most:
        return text
    cut = text[:most].rsplit(" ", 1)[0].rstrip(" ,;:")
    return cut if len(cut) >= least else text[:most]


def _unquoted(text: str) -> str:
    return text.strip().strip("\"“”«»'").strip()
