"""Read and write CVAT for images 1.1 (XML, alone or zipped)."""

from __future__ import annotations

from collections import Counter
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from retort.documents import MOST_XML_DEPTH, check_tags
from retort.errors import DataError
from retort.review.formats import base
from retort.review.formats.base import Classes, ImageSet, ReadFile, add, box, file_name, read_file, sized
from retort.review.formats.names import image_of
from retort.review.models import Box, ReviewError

_OTHER_SHAPES = {"polygon", "polyline", "points", "ellipse", "cuboid", "mask", "skeleton"}
_HINT = "send what CVAT exports as 'CVAT for images 1.1'"


def write(image_set: ImageSet) -> bytes:
    """Return the image set as CVAT's XML."""
    labels = "".join(f"<label><name>{_text(name)}</name></label>" for name in image_set.classes)
    lines = ['<?xml version="1.0" encoding="utf-8"?>', "<annotations>", "  <version>1.1</version>"]
    lines.append(f"  <meta><task><labels>{labels}</labels></task></meta>")
    for number, picture in enumerate(image_set.pictures):
        size = f'width="{picture.width}" height="{picture.height}"'
        lines.append(f'  <image id="{number}" name={quoteattr(file_name(picture.image))} {size}>')
        for one in picture.boxes:
            corners = {"xtl": one.x1 * picture.width, "ytl": one.y1 * picture.height,
                       "xbr": one.x2 * picture.width, "ybr": one.y2 * picture.height}  # fmt: skip
            placed = " ".join(f'{name}="{value!r}"' for name, value in corners.items())
            lines.append(f'    <box label={quoteattr(one.name)} source="auto" occluded="0" {placed} z_order="0"></box>')
        lines.append("  </image>")
    return "\n".join([*lines, "</annotations>", ""]).encode()


def read(data: bytes, classes: Classes) -> ReadFile:
    """Return the boxes in CVAT's XML.

    Raises:
        ReviewError: it is none, or does not fit *classes*.

    """
    content = _unzipped(data) if base.is_zip(data) else data
    base.check_number(content.count(b"<box") + content.count(b"<image"))
    reader = _CvatReader(classes)
    reader.parse(content)
    return read_file(reader.found, reader.places, reader.ignored)


def _unzipped(data: bytes) -> bytes:
    files = base.unpack(data, {".xml"})
    if len(files) != 1:
        raise ReviewError(f"{len(files)} XML files in the archive, not one", hint=_HINT)
    return next(iter(files.values()))


class _CvatReader:
    """Takes the elements as they come; nothing in the file can name another file or grow while it is read."""

    def __init__(self, classes: Classes) -> None:
        self.found: dict[str, list[Box]] = {}
        self.places: dict[str, str] = {}
        self.ignored = Counter[str]()
        self._classes = classes
        self._image: dict[str, str] | None = None
        self._boxes: list[Box] = []
        self._root, self._root_line, self._depth = "", 1, 0
        self._parser = expat.ParserCreate()
        self._parser.StartDoctypeDeclHandler = self._refuse
        self._parser.StartElementHandler = self._begin
        self._parser.EndElementHandler = self._end

    def parse(self, data: bytes) -> None:
        try:
            check_tags(data)
            self._parser.Parse(data, True)  # noqa: FBT003 - that is its form
        except DataError as error:
            raise ReviewError(error.message, hint=error.hint) from error
        except (expat.ExpatError, LookupError, ValueError) as error:
            raise ReviewError(f"no XML that can be read: {error}", hint=_HINT) from error
        if self._root != "annotations":
            raise ReviewError(
                f"line {self._root_line}: the document is {self._root[:100]!r}, not 'annotations'", hint=_HINT
            )

    def _refuse(self, *_: object) -> None:
        """Entities are declared in a document type: without one there are none to blow up, or to lead elsewhere."""
        raise ReviewError(f"line {self._parser.CurrentLineNumber}: a document type is declared", hint=_HINT)

    def _begin(self, name: str, attributes: dict[str, str]) -> None:
        if not self._root:
            self._root, self._root_line = name, self._parser.CurrentLineNumber
        place = f"line {self._parser.CurrentLineNumber}"
        self._depth += 1
        if self._depth > MOST_XML_DEPTH:
            raise ReviewError(f"{place}: elements are nested too deeply", hint=_HINT)
        if name == "image":
            self._image, self._boxes = attributes, []
            image = image_of(attributes.get("name", ""))
            add(self.found, image, self._boxes, place)
            self.places[image] = place
        elif name in _OTHER_SHAPES or name == "track":
            raise ReviewError(f"{place}: a {name} is no box", hint="draw rectangles, and export images, not a video")
        elif name == "tag":
            self.ignored["tags of images"] += 1
        elif name == "box" and self._image is not None:
            self._boxes.append(self._box(self._image, attributes, place))

    def _end(self, name: str) -> None:
        self._depth -= 1
        if name == "image":
            self._image = None

    def _box(self, image: dict[str, str], attributes: dict[str, str], place: str) -> Box:
        try:
            width, height = sized(float(image["width"]), float(image["height"]), place)
            left, top, right, bottom = (float(attributes[name]) for name in ("xtl", "ytl", "xbr", "ybr"))
            turned = float(attributes.get("rotation", 0))
        except (KeyError, ValueError) as error:
            raise ReviewError(f"{place}: a number of the box or of its image is missing", hint=_HINT) from error
        if turned:
            raise ReviewError(f"{place}: the box is turned", hint="draw it upright")
        corners = (left / width, top / height, right / width, bottom / height)
        return box(attributes.get("label", ""), corners, self._classes, place)


def _text(value: str) -> str:
    return quoteattr(value)[1:-1]
