"""A predictor gives the same probabilities for a path, bytes or an image, and names a file that is not a photo."""

import io
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from time import sleep
from typing import Any

import numpy as np
import pytest
import torch
from damaged import exif as exif_block
from damaged import picture, saved
from PIL import Image

from plumage.data.loading.transforms import eval_view
from plumage.errors import ModelError, PhotoError
from plumage.models import create_model
from plumage.models.model_files import read_model
from plumage.models.preprocessing import Preprocessing
from plumage.models.saved_model import save_model
from plumage.serving import Predictor, load_predictor


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    model = create_model("efficientnet_lite0", 7)
    save_model(folder, model, list("abcdefg"), Preprocessing(size=32, crop_fraction=0.9))
    return load_predictor(folder)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    paths = [folder / f"{i}.png" for i in range(35)]
    for path in paths:
        Image.fromarray(rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(path)
    return paths


def test_path_bytes_and_image_give_the_same_prediction(predictor: Predictor, photos: list[Path]) -> None:
    path = photos[0]
    as_path, as_string, as_bytes, as_image = predictor.predict([path, str(path), path.read_bytes(), Image.open(path)])
    assert as_path == as_string == as_bytes == as_image


def test_a_single_photo_gives_its_own_answer(predictor: Predictor, photos: list[Path]) -> None:
    [answer] = predictor.predict(photos[:1])
    data = photos[0].read_bytes()
    for photo in (photos[0], str(photos[0]), data, Image.open(photos[0])):
        assert predictor.predict(photo) == answer
    assert predictor.predict(path for path in photos) == predictor.predict(photos)  # any iterable
    with pytest.raises(
        PhotoError, match="photo 0: is ndarray; takes a path, the bytes of a photo file, or a PIL image"
    ):
        predictor.predict(np.zeros((2, 40, 50, 3), np.uint8))  # type: ignore[call-overload]


def turned(photo: Image.Image) -> dict[str, Any]:
    exif = Image.Exif()
    exif[0x0112] = 6
    return {"exif": exif}


AS_FILES: dict[str, Callable[[Image.Image], bytes]] = {
    "large JPEG": lambda photo: saved(photo.resize((800, 600)), "JPEG"),
    "turned JPEG": lambda photo: saved(photo.resize((800, 600)), "JPEG", **turned(photo)),
    "CMYK JPEG": lambda photo: saved(photo.convert("CMYK").resize((800, 600)), "JPEG"),
    "MPO": lambda photo: saved(photo.resize((800, 600)), "MPO", save_all=True, append_images=[photo]),
    "16-bit PNG": lambda photo: saved(Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257), "PNG"),
    "RGBA": lambda photo: saved(with_alpha(photo), "PNG"),
    "LA": lambda photo: saved(with_alpha(photo).convert("LA"), "PNG"),
    "palette": lambda photo: saved(photo.quantize(64), "PNG"),
    "transparent palette": lambda photo: saved(photo.quantize(64), "PNG", transparency=bytes(range(0, 256, 4))),
    "1-bit": lambda photo: saved(photo.convert("1"), "PNG"),
    "turned TIFF": lambda photo: saved(photo, "TIFF", **turned(photo)),
    "animated GIF": lambda photo: saved(photo.quantize(64), "GIF", save_all=True, append_images=[photo.rotate(90).quantize(9)]),
    "animated WebP": lambda photo: saved(photo, "WEBP", save_all=True, append_images=[photo.rotate(90)]),
}  # fmt: skip


def with_alpha(photo: Image.Image) -> Image.Image:
    photo = photo.convert("RGBA")
    photo.putalpha(photo.convert("L"))
    return photo


@pytest.mark.parametrize("kind", AS_FILES)
def test_an_opened_image_gives_the_answer_of_its_file(predictor: Predictor, kind: str, tmp_path: Path) -> None:
    data = AS_FILES[kind](picture())
    file = tmp_path / "photo"
    file.write_bytes(data)
    opened = Image.open(file)
    from_file = predictor.predict(file)
    assert predictor.predict(opened) == from_file
    assert predictor.predict(opened) == from_file
    if "JPEG" not in kind and kind != "MPO":  # a JPEG that is loaded has all its pixels, of which a file's are reduced
        loaded = Image.open(io.BytesIO(data)).copy()
        assert predictor.predict(loaded) == from_file


def test_an_image_that_was_changed_is_answered_as_it_is_now(predictor: Predictor) -> None:
    photo = Image.open(io.BytesIO(saved(picture().resize((800, 600)), "JPEG")))
    before = predictor.predict(photo)
    photo.paste("white", (0, 0, 400, 600))
    assert predictor.predict(photo) != before


def test_a_named_pipe_that_nothing_writes_is_empty_and_one_in_use_is_read(predictor: Predictor, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(PhotoError, match="pipe: zero bytes"):
        predictor.predict(pipe)
    data = saved(picture(), "PNG")
    with ThreadPoolExecutor(1) as threads:
        writing = threads.submit(pipe.write_bytes, data)
        while not writing.running():
            sleep(0.01)
        sleep(0.1)
        assert predictor.predict(pipe) == predictor.predict(data)


def test_at_most_top_k_classes_are_returned_the_most_probable_first(predictor: Predictor, photos: list[Path]) -> None:
    [row] = predictor.probabilities(photos[:1])
    [top] = predictor.predict(photos[:1], top_k=3)
    assert [name for name, _ in top] == [predictor.classes[i] for i in np.argsort(-row)[:3]]
    assert [probability for _, probability in top] == sorted(row.tolist(), reverse=True)[:3]
    assert len(predictor.predict(photos[:1], top_k=50)[0]) == 7


def test_the_temperature_divides_the_logits(predictor: Predictor, photos: list[Path], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = create_model("efficientnet_lite0", 7)
    save_model(tmp_path, model, list("abcdefg"), Preprocessing(size=32, crop_fraction=0.9), temperature=2.0)
    plain, tempered = (np.log(made.probabilities(photos)) for made in (predictor, load_predictor(tmp_path)))
    spread = (plain - plain.mean(axis=1, keepdims=True)) / 2
    np.testing.assert_allclose(tempered - tempered.mean(axis=1, keepdims=True), spread, atol=1e-4)
    assert (tempered.argmax(axis=1) == plain.argmax(axis=1)).all()


def test_a_batch_gives_what_each_photo_gives_alone(predictor: Predictor, photos: list[Path]) -> None:
    together = predictor.probabilities(photos)
    some = [0, 31, 32, 34]
    alone = np.concatenate([predictor.probabilities([photos[i]]) for i in some])
    assert together.shape == (35, 7) and together.dtype == np.float32
    np.testing.assert_allclose(together[some], alone, rtol=1e-4)
    np.testing.assert_allclose(together.sum(axis=1), 1, rtol=1e-5)
    assert predictor.probabilities([]).shape == (0, 7)


def test_exif_orientation_is_applied(predictor: Predictor) -> None:
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 255, (30, 60, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise
    buffer = io.BytesIO()
    picture.transpose(Image.Transpose.ROTATE_90).save(buffer, "PNG", exif=exif)
    upright, lying, opened = predictor.probabilities([picture, buffer.getvalue(), Image.open(buffer)])
    np.testing.assert_allclose(upright, lying, rtol=1e-4)
    np.testing.assert_allclose(upright, opened, rtol=1e-4)


def test_a_file_that_is_not_a_photo_is_named(predictor: Predictor, photos: list[Path], tmp_path: Path) -> None:
    note = tmp_path / "note.jpg"
    note.write_text("no photo")
    absent = tmp_path / "absent.jpg"
    named: list[tuple[Path | bytes, str]] = [(note, "note.jpg"), (absent, "absent.jpg"), (tmp_path, tmp_path.name)]
    for bad, name in [*named, (b"x", "photo 1")]:
        with pytest.raises(PhotoError, match=name) as caught:
            predictor.predict([photos[0], bad])
        assert "\n" not in str(caught.value)


def test_a_photo_file_that_never_ends_is_refused(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plumage.inference.photos.MAX_BYTES", 1000)
    with pytest.raises(PhotoError, match=r"/dev/zero: too large \(takes at most 1,000 bytes\)"):
        predictor.predict([Path("/dev/zero")])


def test_a_photo_is_answered_or_named_whatever_its_metadata_holds(predictor: Predictor) -> None:
    lying = saved(picture(), "JPEG", exif=exif_block(6, "signed rational"))
    as_bytes, as_image = predictor.predict([lying, Image.open(io.BytesIO(lying))])
    assert as_bytes == as_image
    for bad in (lying[:-100], Image.open(io.BytesIO(lying[:-100])), "a\0b"):
        with pytest.raises(PhotoError, match="^(photo 1: truncated|a.b: embedded null byte)"):
            predictor.predict([lying, bad])


def test_a_folder_without_a_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"model\.json"):
        load_predictor(tmp_path)


def test_a_large_jpeg_is_decoded_smaller_with_nearly_the_same_view_of_it(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, columns = np.mgrid[:480, :640] / 640
    waves = np.sin(np.stack([9 * rows, 7 * columns, 8 * (rows + columns)], axis=-1) * 2 * np.pi)
    photo, sizes, views = Image.fromarray((128 + 90 * waves).astype(np.uint8)), [], []

    def seen(decoded: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
        sizes.append(decoded.shape[:2])
        views.append(eval_view(decoded, preprocessing))
        return views[-1]

    monkeypatch.setattr("plumage.inference.photos.eval_view", seen)
    predictor.probabilities([saved(photo, "JPEG", quality=95), photo])
    assert sizes == [(120, 160), (480, 640)]  # twice 32 / 0.9 is 72
    assert np.abs(views[0].astype(int) - views[1]).mean() < 2


def test_a_photo_of_more_pixels_than_allowed_is_refused(tmp_path: Path) -> None:
    save_model(tmp_path, create_model("efficientnet_lite0", 2), ["a", "b"], Preprocessing(size=32, crop_fraction=0.9))
    small = Predictor(read_model(tmp_path), max_pixels=5000)
    assert len(small.predict([saved(Image.new("RGB", (100, 50)), "PNG")])) == 1
    with pytest.raises(PhotoError, match=r"^photo 0: too large \(101 x 50 pixels; takes at most 5,000\)"):
        small.predict([saved(Image.new("RGB", (101, 50)), "PNG")])


def test_threads_decode_one_photo_at_a_time(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    busy = Lock()

    def decode_alone(*arguments: object, **options: object) -> np.ndarray:
        assert busy.acquire(blocking=False)
        sleep(0.01)
        busy.release()
        return np.zeros((40, 50, 3), np.uint8)

    monkeypatch.setattr("plumage.inference.photos.pixels", decode_alone)
    with ThreadPoolExecutor(4) as threads:
        assert len(list(threads.map(predictor.predict, [[b"photo"] * 3] * 8))) == 8


def test_logits_that_are_not_finite_are_an_error_and_no_answer(photos: list[Path], tmp_path: Path) -> None:
    model = create_model("efficientnet_lite0", 7)
    torch.nn.init.constant_(model.classifier.weight, 3e38)
    save_model(tmp_path, model, list("abcdefg"), Preprocessing(size=32, crop_fraction=0.9))
    with pytest.raises(ModelError, match="the model's logits are not finite"):
        load_predictor(tmp_path).predict(photos[:1])
