"""Crop faces as FFHQ and CelebA-HQ are cropped (Karras et al. 2018), and put them back.

    aligned = align_face(photo, landmarks, 256)
    edited = ...                                    # a picture of the same face, of any size
    photo = paste_back(photo, edited, aligned.frame)

Coordinates are x and y in pixels; the middle of the first pixel is (0.5, 0.5).
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from fewshot_smis.data.images import UInt8, as_size
from stylegan.errors import DataError, ShapeError

Floats = NDArray[np.floating[Any]]

_BLUR = 0.02
"""Radius of the blur around a photograph, as a share of the crop's side."""

_SHARP_RIM = 0.1
"""Mirrored pixels blur more and more, and wholly at this share of the side from the photograph."""


class Frame(NamedTuple):
    """A square in a photograph that may be turned: where a face was cut out."""

    center: Floats  # [2]
    across: Floats  # [2], the unit vector along its upper edge, left to right
    half: float  # half its side

    @property
    def axes(self) -> Floats:
        """The unit vectors along its upper and its left edge, [2,2]."""
        return np.stack([self.across, np.array([-self.across[1], self.across[0]])])

    @property
    def corners(self) -> Floats:
        """Its corners in the photograph [4,2]: upper left, upper right, lower right, lower left."""
        return self.to_photo(np.array([[0, 0], [1, 0], [1, 1], [0, 1]]), 1)

    def to_crop(self, points: Floats, size: int) -> Floats:
        """Take `points` [...,2] of the photograph to a crop of `size` pixels."""
        placed: Floats = ((points - self.center) @ self.axes.T / (2 * self.half) + 0.5) * size
        return placed

    def to_photo(self, points: Floats, size: int) -> Floats:
        """Take `points` [...,2] of a crop of `size` pixels to the photograph."""
        placed: Floats = (points / size - 0.5) * (2 * self.half) @ self.axes + self.center
        return placed

    def to_json(self) -> dict[str, Any]:
        """Return what `read_frame` reads."""
        numbers = {"center": self.center.tolist(), "across": self.across.tolist()}
        return {**numbers, "half": float(self.half)}


class Aligned(NamedTuple):
    """A face cut out of a photograph, and where it was."""

    img: UInt8  # [size,size,3]
    frame: Frame


def read_frame(value: Any) -> Frame:
    """Return the frame of which `to_json` made `value`.

    Raises:
        DataError: It describes no frame.
    """
    try:
        center, across = (np.array(value[key], np.float64) for key in ("center", "across"))
        half = float(value["half"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"not the frame of a face: {error!r}; align the photograph anew") from error
    if center.shape != (2,) or across.shape != (2,) or not half > 0:
        raise DataError('the frame of a face is "center" [x, y], "across" [x, y], "half" > 0')
    return Frame(center, across / np.hypot(*across), half)


def face_frame(landmarks: Floats) -> Frame:
    """Return the square that FFHQ cuts out for a face, from its 68 `landmarks` [68,2].

    It is turned as the eyes and the mouth are, twice the distance of the eyes to each side, or
    1.8 times that from eyes to mouth, and sits a little below the eyes.

    Raises:
        ShapeError: `landmarks` is not [68,2].
        DataError: Eyes and mouth are at one place.
    """
    if landmarks.shape != (68, 2):
        raise ShapeError(f"faces are aligned by landmarks [68, 2], not {list(landmarks.shape)}")
    eye_left, eye_right = landmarks[36:42].mean(0), landmarks[42:48].mean(0)
    eyes, mouth = (eye_left + eye_right) / 2, (landmarks[48] + landmarks[54]) / 2
    eye_to_eye, eye_to_mouth = eye_right - eye_left, mouth - eyes
    across = eye_to_eye - np.array([-eye_to_mouth[1], eye_to_mouth[0]])
    if not np.hypot(*across) > 0:
        raise DataError("eyes and mouth are at one place, or no numbers; these are no landmarks")
    across /= np.hypot(*across)
    half = float(max(np.hypot(*eye_to_eye) * 2, np.hypot(*eye_to_mouth) * 1.8))
    return Frame(eyes + eye_to_mouth * 0.1, across, half)


def align_face(photo: UInt8, landmarks: Floats, size: int) -> Aligned:
    """Cut the face with `landmarks` [68,2] out of `photo` uint8 [H,W,3] at `size` x `size`.

    Raises:
        DataError: The face lies outside the photograph.
        ShapeError: `photo` is no picture, `landmarks` is not [68,2], or `size` is not positive.
    """
    frame = face_frame(landmarks)
    return Aligned(crop_frame(photo, frame, size), frame)


def crop_frame(photo: UInt8, frame: Frame, size: int) -> UInt8:
    """Cut `frame` out of `photo` uint8 [H,W,3]: uint8 [size,size,3].

    Beyond its borders the photograph is mirrored, and blurs into the distance.

    Raises:
        DataError: The frame lies outside the photograph.
        ShapeError: `photo` is no picture, or `size` is not positive.
    """
    _check_picture(photo)
    as_size(size)
    left, top, right, bottom = _box(frame)
    _inside(photo, (left, top, right, bottom))
    ground = _surroundings(photo, (left, top, right, bottom), 2 * frame.half)
    finer = max(int(np.ceil(2 * frame.half / size)), 1)  # samples a pixel, so that none is missed
    step = 2 * frame.half / (size * finer)
    matrix = _affine(frame.axes.T * step, frame.corners[0] - (left, top))
    crop = Image.fromarray(ground).transform(
        (size * finer, size * finer), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC
    )
    return np.array(crop.reduce(finer))


def paste_back(
    photo: UInt8, face: UInt8, frame: Frame, *, mask: Floats | None = None, feather: float = 0.1
) -> UInt8:
    """Put a `face` of any size [h,h,3] back into `frame` of `photo` [H,W,3], its edges softened.

    Args:
        photo: uint8; it stays as it is outside the frame.
        face: uint8, a picture of what the frame shows.
        frame: as `align_face` gave it.
        mask: [m,m] in [0, 1], over the same square: how much of the face is taken; all of it by
            default.
        feather: the share of the side over which the face fades towards the frame, in [0, 0.5].

    Returns:
        uint8 [H,W,3].

    Raises:
        DataError: The frame lies outside the photograph.
        ShapeError: `photo` or `face` is no picture, or `face` or `mask` is not square.
    """
    _check_picture(photo)
    _check_picture(face)
    for name, square in (("face", face), ("mask", face[..., 0] if mask is None else mask)):
        if square.shape[0] != square.shape[1] or square.ndim != (3 if name == "face" else 2):
            raise ShapeError(f"the {name} in a frame is square, not {list(square.shape)}")
    left, top, right, bottom = _inside(photo, _box(frame))
    count = min(len(face), max(round(2 * frame.half), 1))  # no finer than the photograph
    matrix = _affine(
        frame.axes * count / (2 * frame.half), frame.to_crop(np.array([left, top]), count)
    )

    def warp(image: Image.Image) -> Floats:
        image = image.resize((count, count), Image.Resampling.LANCZOS)
        placed = image.transform(
            (right - left, bottom - top), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC
        )
        return np.asarray(placed, dtype=np.float32)

    weight = _fade(count, feather)
    if mask is not None:
        soft = Image.fromarray(mask.astype(np.float32)).resize((count, count))
        weight = weight * np.asarray(soft)
    share = warp(Image.fromarray(weight.astype(np.float32))).clip(0, 1)[..., None]
    pasted = photo.copy()
    part = pasted[top:bottom, left:right]
    part[:] = np.rint(part + share * (warp(Image.fromarray(face)) - part))
    return pasted


Box = tuple[int, int, int, int]  # left, top, right, bottom


def _affine(matrix: Floats, offset: Floats) -> tuple[float, ...]:
    """Return what Pillow takes for the map p -> matrix p + offset from new to old pixels."""
    return tuple(np.column_stack([matrix, offset]).ravel().tolist())


def _box(frame: Frame) -> Box:
    """Return the box of whole pixels around a frame, with two to spare for the resampling."""
    low, high = frame.corners.min(0), frame.corners.max(0)
    left, top = (np.floor(low) - 2).astype(int).tolist()
    right, bottom = (np.ceil(high) + 2).astype(int).tolist()
    return left, top, right, bottom


def _inside(photo: UInt8, box: Box) -> Box:
    """Return the part of `box` that lies in the photograph.

    Raises:
        DataError: None does.
    """
    height, width = photo.shape[:2]
    left, top = max(box[0], 0), max(box[1], 0)
    right, bottom = min(box[2], width), min(box[3], height)
    if left >= right or top >= bottom:
        raise DataError(
            f"the face lies outside its photograph of {width} x {height} pixels; "
            "were the landmarks found in another picture?"
        )
    return left, top, right, bottom


def _surroundings(photo: UInt8, box: Box, side: float) -> UInt8:
    """Return `box` of `photo`, uint8 [bottom-top,right-left,3], mirrored and blurred outside."""
    height, width = photo.shape[:2]
    left, top, right, bottom = box
    low = max(-top, 0), max(-left, 0)
    high = max(bottom - height, 0), max(right - width, 0)
    if not any((*low, *high)):
        return photo[top:bottom, left:right]
    whole = np.pad(photo, ((low[0], high[0]), (low[1], high[1]), (0, 0)), mode="reflect")
    ground = whole[max(top, 0) :, max(left, 0) :][: bottom - top, : right - left]
    away = [  # pixels from the photograph, up or down and left or right
        np.maximum(np.maximum(-places, places - end + 1), 0)
        for places, end in ((np.arange(top, bottom), height), (np.arange(left, right), width))
    ]
    far = np.maximum(away[0][:, None], away[1][None, :])[..., None]
    blurred = np.asarray(
        Image.fromarray(ground).filter(ImageFilter.GaussianBlur(_BLUR * side)), np.float32
    )
    mixed = ground + (far / (_SHARP_RIM * side)).clip(0, 1) * (blurred - ground)
    return np.rint(mixed).astype(np.uint8)


def _fade(count: int, feather: float) -> Floats:
    """Return weights [count,count] that rise from 0 at the edge to 1, smoothly."""
    place = (np.arange(count) + 0.5) / count
    edge = np.minimum(place, 1 - place)
    rise = (np.minimum(edge[:, None], edge[None, :]) / max(feather, 0.5 / count)).clip(0, 1)
    smooth: Floats = rise**2 * (3 - 2 * rise)
    return smooth


def _check_picture(picture: UInt8) -> None:
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise ShapeError(f"a picture is uint8 [H,W,3], not {picture.dtype} {list(picture.shape)}")
