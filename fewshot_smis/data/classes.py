"""The classes of a domain: names, colours, and whether maps fill the picture or mark it."""

import colorsys
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar

from fewshot_smis.data.files import read_json, write_json
from stylegan.errors import LabelError

Color = tuple[int, int, int]

IGNORE = 255
"""The id of an unknown pixel in a dense map. In sparse maps id 0 is unknown."""

MAX_CLASSES = 255
"""Ids go from 0 to 254, since IGNORE is no class."""

_KINDS = ("dense", "sparse")
_KEYS = ("kind", "classes")


def generic_colors(num: int) -> tuple[Color, ...]:
    """Return `num` different colours, RGB in [0, 255]; the first is black.

    Hues follow the golden ratio, so that neighbouring ids look unlike.
    """
    colors: list[Color] = [(0, 0, 0)]
    taken = {colors[0], (128, 128, 128)}
    step = 0
    while len(colors) < num:
        hue = (step * 0.618033988749895) % 1.0
        saturation, value = ((0.75, 0.95), (0.95, 0.65), (0.45, 0.85))[step // 12 % 3]
        red, green, blue = (round(255 * x) for x in colorsys.hsv_to_rgb(hue, saturation, value))
        if (red, green, blue) not in taken:
            colors.append((red, green, blue))
            taken.add((red, green, blue))
        step += 1
    return tuple(colors[:num])


@dataclass(frozen=True)
class Classes:
    """Names and colours of the classes, in the order of their ids.

    `colors` left out become generic ones. `sparse` classes have id 0 for unknown pixels, and
    their maps hold marks (landmarks, scribbles); dense maps give every pixel a class or IGNORE.

    Raises:
        LabelError: Too few or too many classes, names or colours that repeat or do not fit.
    """

    names: tuple[str, ...]
    colors: tuple[Color, ...] = ()
    sparse: bool = False

    CELEBAMASK: ClassVar["Classes"]

    def __post_init__(self) -> None:
        """Check the classes, filling in what was left out."""
        names = tuple(str(name) for name in self.names)
        given = self.colors or generic_colors(len(names))
        colors = tuple((int(r), int(g), int(b)) for r, g, b in given)
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "colors", colors)
        if not 2 <= len(names) <= MAX_CLASSES:
            raise LabelError(f"{len(names)} classes: there have to be 2 to {MAX_CLASSES}")
        if len(colors) != len(names):
            raise LabelError(f"{len(names)} class names but {len(colors)} colours; give one each")
        for what, values in (("name", names), ("colour", colors)):
            twice = [value for value in set(values) if values.count(value) > 1]
            if twice:
                raise LabelError(f"two classes have the {what} {twice[0]}; make them differ")
        if any(not 0 <= part <= 255 for color in colors for part in color):
            raise LabelError("a class colour is three numbers in [0, 255]")

    @property
    def num_classes(self) -> int:
        """The number of classes K, the unknown class of sparse maps included."""
        return len(self.names)

    @classmethod
    def generic(cls, num: int, sparse: bool = False) -> "Classes":
        """Return `num` classes without names of their own.

        >>> Classes.generic(3, sparse=True).names
        ('unknown', 'class 1', 'class 2')
        """
        first = "unknown" if sparse else "class 0"
        return cls((first, *(f"class {i}" for i in range(1, num))), sparse=sparse)

    def as_sparse(self) -> "Classes":
        """Return the classes of marks on these: id 0 is unknown, and what was class 0 comes last.

        Sparse classes are returned as they are.
        """
        if self.sparse:
            return self
        greys = ((grey, grey, grey) for grey in range(200, 0, -1))
        last = next(grey for grey in greys if grey not in self.colors)
        names = ("unknown", *self.names[1:], self.names[0])
        return Classes(names, (*self.colors, last), sparse=True)

    @classmethod
    def load(cls, path: Path | str) -> "Classes":
        """Read a classes.json: `{"kind": "dense", "classes": [{"name": ..., "color": [r, g, b]}]}`.

        The place in the list is the id. "kind" is "dense" or "sparse"; without it, dense. A
        class may be its name alone; without colours generic ones are used. A colour may also be
        "#rrggbb".

        Raises:
            DataError: The file cannot be read.
            LabelError: It does not describe classes; says which entry is wrong.
        """
        path = Path(path)
        value = read_json(path)
        try:
            return parse_classes(value)
        except LabelError as error:
            raise LabelError(f"{path}: {error}") from error

    def save(self, path: Path | str) -> None:
        """Write these classes as classes.json to `path`.

        Raises:
            DataError: The file cannot be written.
        """
        write_json(path, self.to_json())

    def to_json(self) -> dict[str, Any]:
        """Return what a classes.json holds."""
        both = zip(self.names, self.colors, strict=True)
        classes = [{"name": name, "color": list(color)} for name, color in both]
        return {"kind": "sparse" if self.sparse else "dense", "classes": classes}


def parse_classes(value: Any) -> Classes:
    """Return the classes that the content of a classes.json describes.

    Raises:
        LabelError: It does not describe classes; says which entry is wrong.
    """
    if isinstance(value, list):
        value = {"classes": value}
    if not isinstance(value, dict) or not isinstance(value.get("classes"), list):
        raise LabelError('should hold {"kind": "dense", "classes": [{"name": "background"}, ...]}')
    _refuse_unknown(value, _KEYS)
    kind = value.get("kind", "dense")
    if kind not in _KINDS:
        raise LabelError(f'"kind" is {kind!r}; it is "dense" or "sparse"')
    entries = [_entry(i, entry) for i, entry in enumerate(value["classes"])]
    colors = [color for _, color in entries if color is not None]
    if colors and len(colors) != len(entries):
        missing = next(name for name, color in entries if color is None)
        raise LabelError(f"class '{missing}' has no colour; give every class one, or none")
    return Classes(tuple(name for name, _ in entries), tuple(colors), kind == "sparse")


def _refuse_unknown(value: dict[str, Any], known: tuple[str, ...]) -> None:
    for key in value:
        if key not in known:
            close = get_close_matches(key, known, n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"it may hold {', '.join(known)}"
            raise LabelError(f"unknown key '{key}': {hint}")


def _entry(number: int, entry: Any) -> tuple[str, Color | None]:
    if isinstance(entry, str):
        return entry, None
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise LabelError(f'class {number} should be a name or {{"name": ..., "color": [r, g, b]}}')
    _refuse_unknown(entry, ("name", "color"))
    color = entry.get("color")
    return entry["name"], None if color is None else _color(number, color)


def _color(number: int, color: Any) -> Color:
    if isinstance(color, str) and len(color) == 7 and color.startswith("#"):
        try:
            red, green, blue = bytes.fromhex(color[1:])
        except ValueError:
            pass
        else:
            return red, green, blue
    if isinstance(color, list) and len(color) == 3 and all(type(x) is int for x in color):
        return color[0], color[1], color[2]
    raise LabelError(f'class {number}: the colour {color!r} is not [r, g, b] or "#rrggbb"')


def _celebamask() -> Classes:
    table = (
        "background 000000, skin cc0000, nose 4c9900, eye_glasses cccc00, left_eye 3333ff, "
        "right_eye cc00cc, left_brow 00ffff, right_brow ffcccc, left_ear 663300, right_ear ff0000, "
        "mouth 66cc00, upper_lip ffff00, lower_lip 000099, hair 0000cc, hat ff3399, "
        "ear_ring 00cccc, necklace 003300, neck ff9933, cloth 00cc00"
    )
    rows = [row.split() for row in table.split(", ")]
    colors = [tuple(bytes.fromhex(color)) for _, color in rows]
    return Classes(tuple(name for name, _ in rows), tuple((r, g, b) for r, g, b in colors))


Classes.CELEBAMASK = _celebamask()
