"""Read annotations in Pascal VOC XML."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NoReturn
from xml.parsers import expat

from retort.data.conversion.objects import AnnotatedSplit, ImageAnnotations, PixelBox, around, upright
from retort.data.description import is_name
from retort.data.text_files import read_bytes
from retort.documents import MOST_XML_DEPTH, check_tags
from retort.errors import DataError
from retort.review.models import Corners

LARGEST_BYTES = 16 << 20
"""Of one annotation file."""
FirstPixel = Literal[0, 1]
_ABOUT = frozenset({"filename", "folder", "source/database", "size/width", "size/height"})
"""Elements of an image that are read."""
_SIDES = ("xmin", "ymin", "xmax", "ymax")
_HINT = "an annotation with filename, size and objects, each with name and bndbox, is expected"


def read_voc(folder: Path, files: Iterable[tuple[str, Path]], first_pixel: FirstPixel | None = None) -> AnnotatedSplit:
    """Read the annotation *files* below *folder*.

    Each comes with the name of its image. Pixels are counted from *first_pixel*; None takes 1 where the files say that
    they are of a VOC challenge, whose boxes hold both corners, and else 0, as tools write them.

    Raises:
        DataError: a file is none; the message names file and line.

    """
    counted = Counter[str]()
    pages = [_VocReader(file, counted).read(stem) for stem, file in files]
    first = first_pixel if first_pixel is not None else _first_pixel(pages)
    images = tuple(page.image(first) for page in pages)
    classes = tuple(sorted({one.name for image in images for one in image.objects}))
    told = "the first pixel is 1, and boxes hold both corners" if first else "the first pixel is 0"
    return AnnotatedSplit(folder, classes, images, counted, (f"VOC coordinates are read so that {told}",))


@dataclass(frozen=True, slots=True)
class _VocPage:
    """Contents of one file, coordinates as they stand there."""

    stem: str
    file: Path
    filename: str
    size: tuple[float, float] | None
    objects: tuple[PixelBox, ...]
    of_challenge: bool
    size_line: int
    """Where the size stands, or the document begins."""

    def image(self, first_pixel: FirstPixel) -> ImageAnnotations:
        """Return the page with pixels counted from 0."""
        objects = tuple(
            one._replace(left=one.left - first_pixel, top=one.top - first_pixel) for one in self.objects
        )  # fmt: skip
        return ImageAnnotations(self.stem, self.size, objects, f"{self.file}:{self.size_line}", self.filename)


def _first_pixel(pages: Iterable[_VocPage]) -> FirstPixel:
    """Return 1 for data of a VOC challenge, in which no box begins before the first pixel."""
    found = list(pages)
    boxes = [one for page in found for one in page.objects]
    whole = all(side.is_integer() for one in boxes for side in one[1:])
    begun = all(min(one.left, one.top) >= 1 for one in boxes)
    return 1 if found and whole and begun and all(page.of_challenge for page in found) else 0


@dataclass(slots=True)
class _VocObject:
    line: int
    texts: dict[str, str] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    points: dict[str, float] = field(default_factory=dict)
    turned: float = 0.0


class _VocReader:
    """Takes the elements as they come; nothing in a file can name another or grow while it is read."""

    def __init__(self, file: Path, counted: Counter[str]) -> None:
        self._file, self._counted = file, counted
        self._path: list[str] = []
        self._text: list[str] = []
        self._size_line = 1
        self._about: dict[str, str] = {}
        self._attribute: dict[str, str] = {}
        self._object: _VocObject | None = None
        self._objects: list[PixelBox] = []
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._parser.StartElementHandler = self._begin
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text.append

    def read(self, stem: str) -> _VocPage:
        """Read the file of the image that goes by *stem*."""
        try:
            data = read_bytes(self._file, str(self._file), most_bytes=LARGEST_BYTES)
            check_tags(data)
            self._parser.Parse(data, True)  # noqa: FBT003 - that is its form
        except (expat.ExpatError, LookupError, ValueError) as error:
            raise DataError(f"{self._file}:{self._parser.CurrentLineNumber}: no XML: {error}", hint=_HINT) from error
        sides = [_number(self._about.get(f"size/{side}")) for side in ("width", "height")]
        of_challenge = "VOC20" in f"{self._about.get('source/database')} {self._about.get('folder')}"
        return _VocPage(
            stem=stem,
            file=self._file,
            filename=self._about.get("filename", ""),
            size=(sides[0], sides[1]) if all(math.isfinite(side) and side > 0 for side in sides) else None,
            objects=tuple(self._objects),
            of_challenge=of_challenge,
            size_line=self._size_line,
        )

    def _refuse(self, message: str, hint: str = _HINT, line: int | None = None) -> NoReturn:
        raise DataError(f"{self._file}:{line or self._parser.CurrentLineNumber}: {message}", hint=hint)

    def _doctype(self, *_: object) -> None:
        """Entities are declared in a document type: without one there are none to blow up, or to lead elsewhere."""
        self._refuse("a document type is declared", "remove it: entities are not read")

    def _begin(self, tag: str, _: dict[str, str]) -> None:
        name = tag.rpartition(":")[2]  # without the prefix of a namespace
        if not self._path and name != "annotation":
            self._refuse(f"the document is {name[:60]!r}, not 'annotation'")
        if len(self._path) >= MOST_XML_DEPTH:
            self._refuse("elements are nested too deeply")
        self._path.append(name)
        self._text.clear()
        if self._path == ["annotation", "object"]:
            self._object = _VocObject(self._parser.CurrentLineNumber)
        elif self._path == ["annotation", "size"]:
            self._size_line = self._parser.CurrentLineNumber

    def _end(self, _: str) -> None:
        text = "".join(self._text).strip()
        self._text.clear()
        place = "/".join(self._path[1:])
        name = self._path.pop()
        if self._object is None:
            if place in _ABOUT:
                self._about.setdefault(place, text)
        elif place == "object":
            self._add(self._object)
            self._object = None
        else:
            self._note(self._object, place.removeprefix("object/"), name, text)

    def _note(self, found: _VocObject, place: str, name: str, text: str) -> None:
        if place in {"name", "difficult"} or place.startswith(("bndbox/", "robndbox/")):
            if place in found.texts:
                self._refuse(f"an object has {place} twice")
            found.texts[place] = text
            found.lines[place] = self._parser.CurrentLineNumber
        elif place.startswith("polygon/"):
            found.points[name] = self._coordinate(text, place)
        elif place.startswith("attributes/attribute/"):
            self._attribute[name] = text
        elif place == "attributes/attribute":
            if self._attribute.get("name") == "rotation":
                found.turned = _number(self._attribute.get("value"))
            self._attribute.clear()

    def _add(self, found: _VocObject) -> None:
        name = found.texts.get("name", "")
        if not name:
            self._refuse("an object has no name", line=found.line)
        if not is_name(name):
            message = f"the name {name[:60]!r} is not a short printable text"
            self._refuse(message, "give the class another name", found.line)
        self._counted["difficult"] += found.texts.get("difficult", "").lower() in {"1", "true"}
        self._objects.append(PixelBox(name, *self._corners(found)))

    def _corners(self, found: _VocObject) -> Corners:
        if "robndbox/cx" in found.texts:
            self._counted["turned"] += 1
            x, y, wide, high, angle = (
                self._side(found, f"robndbox/{key}") for key in ("cx", "cy", "w", "h", "angle")
            )  # fmt: skip
            return upright((x - wide / 2, y - high / 2, x + wide / 2, y + high / 2), math.degrees(angle))
        if not any(f"bndbox/{side}" in found.texts for side in _SIDES) and found.points:
            self._counted["outline"] += 1
            return around(self._points(found))
        left, top, right, bottom = (self._side(found, f"bndbox/{side}") for side in _SIDES)
        if right < left or bottom < top:
            message = f"the box of {found.texts['name']!r} ends before it begins"
            self._refuse(message, "xmin lies left of xmax, and ymin above ymax", found.line)
        if math.isfinite(found.turned) and found.turned % 360 and right > left and bottom > top:
            self._counted["turned"] += 1
            return upright((left, top, right, bottom), found.turned)
        return left, top, right, bottom

    def _side(self, found: _VocObject, place: str) -> float:
        if place not in found.texts:
            self._refuse(f"the object {found.texts['name']!r} has no {place}", line=found.line)
        return self._coordinate(found.texts[place], place, found.lines[place])

    def _coordinate(self, text: str, place: str, line: int | None = None) -> float:
        value = _number(text)
        if not math.isfinite(value):
            self._refuse(f"{place} is {text[:40]!r}", "a number of pixels is expected", line)
        return value

    def _points(self, found: _VocObject) -> list[tuple[float, float]]:
        points = [
            (value, found.points[f"y{key[1:]}"])
            for key, value in found.points.items()
            if key.startswith("x") and f"y{key[1:]}" in found.points
        ]
        if len(points) < 2:
            self._refuse("a polygon has fewer than two points", line=found.line)
        return points


def _number(text: str | None) -> float:
    try:
        return float(text or "")
    except ValueError:
        return math.nan
