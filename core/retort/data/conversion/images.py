"""Find the image that an annotation names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from retort.errors import DataError
from retort.images import SUFFIXES, size_of
from retort.review.formats.names import UPLOAD_PREFIX, targets


class ImageIndex:
    """All image files below a folder, by name."""

    def __init__(self, root: Path, allowed: Sequence[Path]) -> None:
        self._root = root
        self._allowed = tuple(folder.resolve() for folder in allowed)
        self._by_name: dict[str, list[Path]] = {}
        self.files = [path for path in sorted(root.rglob("*")) if self._is_image(path)]
        for path in self.files:
            self._by_name.setdefault(path.name, []).append(path)
            self._by_name.setdefault(path.stem, []).append(path)

    def find(self, name: str, near: Path, split: str, place: str) -> Path | None:
        """Return the image that *name* means at *place*, for an annotation file in *near*.

        Folders in *name* tell images of one name apart, then the folder of the annotations, then the split's name.

        Raises:
            DataError: it may be any of several images.

        """
        for variant in _variants(name):
            parts = [part for part in variant.split("/") if part not in {"", ".", ".."}]
            found = self._by_name.get(parts[-1], []) if parts else []
            if found:
                return self._best(found, parts, near, split, f"{place}: {name[:200]!r}")
        return None

    def _best(self, found: list[Path], parts: list[str], near: Path, split: str, told: str) -> Path:
        def closeness(path: Path) -> tuple[int, bool, bool]:
            folders = path.relative_to(self._root).parts[:-1]
            same = 0
            for mine, other in zip(reversed(folders), reversed(parts[:-1]), strict=False):
                if mine != other:
                    break
                same += 1
            of_split = any(split in folder.lower() for folder in folders)
            return same, near != self._root and path.is_relative_to(near), of_split

        ordered = sorted(found, key=closeness, reverse=True)
        if len(ordered) > 1 and closeness(ordered[0]) == closeness(ordered[1]):
            shown = " and ".join(path.relative_to(self._root).as_posix() for path in ordered[:2])
            raise DataError(
                f"{told} may be {shown}", hint="name the image with its folder, or give each a name of its own"
            )
        return self._checked(ordered[0])

    def _checked(self, path: Path) -> Path:
        resolved = path.resolve()
        if not any(resolved.is_relative_to(folder) for folder in (*self._allowed, self._root.resolve())):
            raise DataError(f"{path} leads out of its folder, to {resolved}", hint="copy the image into the folder")
        return path

    def _is_image(self, path: Path) -> bool:
        below = path.relative_to(self._root).parts
        plain = not any(part.startswith("._") or part == "__MACOSX" for part in below)
        return plain and path.suffix.lower() in SUFFIXES and path.is_file()


def _variants(name: str) -> Iterator[str]:
    """Yield the forms of a file's name that tools write for one image."""
    yield (plain := name.strip().replace("\\", "/"))
    for target in targets(name.strip()):
        other = target.replace("\\", "/")
        yield other
        folder, _, last = other.rpartition("/")
        if UPLOAD_PREFIX.match(last):
            yield f"{folder}/{UPLOAD_PREFIX.sub('', last)}"
    yield plain.partition("?")[0]


def shown_size(path: Path) -> tuple[int, int] | None:
    """Return width and height of an image as it is shown.

    None where it cannot be opened, or nothing here opens images.
    """
    try:
        return size_of(path)
    except DataError:
        return None
