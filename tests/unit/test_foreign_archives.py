"""Archives from other people's machines: their names, their captions, and what their programs leave behind."""

from __future__ import annotations

import zipfile
from io import BytesIO

import pytest
from PIL import Image
from zip_files import JPEG, changed, in_zip64, info, read, zipped

from darkroom.media import archives
from darkroom.media.archives import Flaw, check_archive


@pytest.mark.parametrize(
    "name",
    [
        *("._photo.jpg", "set/._photo.jpg", "__MACOSX/set/photo.jpg", ".DS_Store", "Icon\r"),
        *("Thumbs.db", "thumbs.db", "ehthumbs.db", "desktop.ini", "Desktop.ini", "Thumbs.db:encryptable"),
        *("photo.jpg:Zone.Identifier", "photo.jpg:com.apple.quarantine", "photo.jpgZone.Identifier"),
        *(".BridgeSort", ".gitkeep", ".gitignore", ".git/config", ".picasa.ini", "README.md", "README", "readme.txt"),
        *("LICENSE", "@eaDir/photo.jpg/SYNOPHOTO_THUMB_S.jpg", "set/@eaDir/x.jpg@SynoEAStream", "#recycle/old.jpg"),
        *("metadata.jsonl", "train/metadata.csv", "dataset_infos.json", "photo.xmp", "IMG_1.AAE", "photo.jpg.json"),
        *("set\\Thumbs.db", ".thumbnails/photo.jpg", "~$notes.docx"),
    ],
)
def test_what_programs_leave_behind_is_passed_over_and_listed(name: str) -> None:
    """Also where it is a picture by its name or its bytes, too large, or in a folder that is none of ours."""
    contents = read(zipped(("photo.jpg", JPEG), (info(name), JPEG + b" thumb")))
    assert [image.name for image in contents.images] == ["photo.jpg"]
    assert (contents.flaws, contents.notes) == ((), (Flaw(name=name, reason="was passed over"),))


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("images\\photo.jpg", "images/photo.jpg"),
        ("./images//photo.jpg", "images/photo.jpg"),
        ("Screenshot 2026-01-01 10:21:33.jpg", "Screenshot 2026-01-01 10_21_33.jpg"),
        ("what? <now> *.jpg", "what_ _now_ _.jpg"),
        ("cafe\u0301.jpg", "caf\u00e9.jpg"),
        ("a\tb\n.jpg", "a_b_.jpg"),
        ("photo", "photo"),
        ("photo.v2", "photo.v2"),
        ("PHOTO.JPG", "PHOTO.JPG"),
        ("photo.jfif", "photo.jfif"),
        ("photo.exe", "photo.exe"),
        ("readme.jpg", "readme.jpg"),
        ("two..dots.jpg", "two..dots.jpg"),
    ],
)
def test_a_picture_is_one_by_its_bytes_and_its_name_is_made_safe(given: str, name: str) -> None:
    """Windows' slashes, a Mac's letters, any ending or none."""
    (image,) = read(zipped((info(given), JPEG))).images
    assert image.name == name


def test_a_name_that_is_utf8_without_saying_so_is_read_as_that() -> None:
    """A Mac's own archiver writes them so; to the letter of the format they would be those of DOS."""
    content = zipped(("cafe.jpg", JPEG), ("cafe.txt", b"a house"))
    (image,) = read(changed(content, b"cafe", "caé".encode())).images
    assert (image.name, image.caption) == ("caé.jpg", "a house")
    (image,) = read(changed(content, b"cafe", b"caf\x82")).images
    assert image.name == "café.jpg"


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "BMP", "WEBP", "PNG"])
def test_every_kind_of_picture_is_one_without_an_ending(kind: str) -> None:
    """As cameras and scripts name them."""
    out = BytesIO()
    Image.effect_noise((20, 20), 50).save(out, kind)
    assert [image.name for image in read(zipped(("photo", out.getvalue()))).images] == ["photo"]


NO_MARK = "has no mark of its encoding: read as UTF-16-"
NO_PICTURE = "is the caption of no picture: none has its name; it was passed over"


@pytest.mark.parametrize(
    ("pictures", "captions", "given", "notes"),
    [
        (["IMG_1.JPG"], ["img_1.txt"], {"IMG_1.JPG": "img_1.txt"}, {}),
        (["img.jpg"], ["img.jpg.txt"], {"img.jpg": "img.jpg.txt"}, {}),
        (["img.jpg"], ["IMG.JPG.TXT"], {"img.jpg": "IMG.JPG.TXT"}, {}),
        (["img.jpg"], ["img.caption"], {"img.jpg": "img.caption"}, {}),
        (["caf\u00e9.jpg"], ["cafe\u0301.txt"], {"caf\u00e9.jpg": "caf\u00e9.txt"}, {}),
        (["CAFE\u0301.jpg"], ["caf\u00e9.txt"], {"CAF\u00c9.jpg": "caf\u00e9.txt"}, {}),
        (["photo"], ["photo.txt"], {"photo": "photo.txt"}, {}),
        (["photo.v2"], ["photo.v2.txt"], {"photo.v2": "photo.v2.txt"}, {}),
        (["10:21.jpg"], ["10_21.txt"], {"10_21.jpg": "10_21.txt"}, {}),
        (["set\\1.jpg"], ["set/1.txt"], {"set/1.jpg": "set/1.txt"}, {}),
        (["img.jpg", "IMG.jpg"], ["IMG.txt", "img.txt"], {"img.jpg": "img.txt", "IMG.jpg": "IMG.txt"}, {}),
        (
            ["same.jpg", "same.png"],
            ["same.txt"],
            {"same.jpg": "same.txt", "same.png": "same.txt"},
            {"same.txt": "is the caption of 2 pictures, and each has it: same.jpg, same.png"},
        ),
        (
            ["same.jpg", "same.png"],
            ["same.txt", "same.png.txt"],
            {"same.jpg": "same.txt", "same.png": "same.png.txt"},
            {},
        ),
        (
            ["one.jpg"],
            ["one.txt", "one.jpg.txt"],
            {"one.jpg": "one.jpg.txt"},
            {"one.txt": "was passed over: one.jpg has a caption whose name is nearer to its own"},
        ),
        (["one.jpg"], ["two.txt", "a/one.txt"], {}, {"two.txt": NO_PICTURE, "a/one.txt": NO_PICTURE}),
    ],
)
def test_captions_find_their_pictures(
    pictures: list[str], captions: list[str], given: dict[str, str], notes: dict[str, str]
) -> None:
    """In any case, in either normal form, with the picture's ending or without; what finds none is told."""
    entries = [(info(name), JPEG) for name in pictures]
    content = zipped(*entries, *((info(name), archives.safe(name).encode()) for name in captions))
    contents = read(content)
    assert contents.flaws == ()
    assert {image.name: image.caption for image in contents.images if image.caption} == given
    assert {note.name: note.reason for note in contents.notes} == notes


@pytest.mark.parametrize(
    ("content", "caption", "told"),
    [
        ("a café".encode(), "a café", None),
        ("a café".encode("utf-8-sig"), "a café", None),
        ("a café".encode("utf-16"), "a café", None),
        (b"\xfe\xff" + "a café".encode("utf-16-be"), "a café", None),
        ("a café 狐".encode("utf-32"), "a café 狐", None),
        (
            "a café in the rain".encode("utf-16-le"),
            "a café in the rain",
            f"{NO_MARK}LE",
        ),
        (
            "a café in the rain".encode("utf-16-be"),
            "a café in the rain",
            f"{NO_MARK}BE",
        ),
        ("a café, “cosy” – 5 €".encode("cp1252"), "a café, “cosy” – 5 €", "is not UTF-8: read as Windows-1252"),
        ("狐".encode("utf-16") * 2001, None, None),
        ("лиса".encode("utf-16-be"), None, None),
        ("красная лиса в снегу".encode("cp1251"), None, None),
        ("雪地里的狐狸".encode("gbk"), None, None),
        (b"a fox\x1b[31m", None, None),
        (b"a fox\r\n\x1a", "a fox", None),
        (b"", "", None),
    ],
)
def test_captions_are_read_in_the_encodings_of_editors(content: bytes, caption: str | None, told: str | None) -> None:
    """By their mark, or as what they can only be; a guess is told."""
    contents = read(zipped(("a.jpg", JPEG), ("a.txt", content)))
    if caption is None:
        assert [flaw.name for flaw in contents.flaws] == ["a.txt"]
        return
    assert contents.images[0].caption == caption
    assert [note.reason for note in contents.notes] == ([told] if told else [])


@pytest.mark.parametrize("before", [b"", b"#!/bin/sh\nexec unzip $0\n" * 40], ids=["as it is", "behind a program"])
@pytest.mark.parametrize("zip64", [False, True])
def test_an_archive_is_read_in_either_format_and_behind_anything(zip64: bool, before: bytes) -> None:
    """zip64, and self-extracting ones; their lists are bounded all the same."""
    content = zipped(("a.jpg", JPEG), ("a.txt", b"a fox"))
    content = before + (in_zip64(content) if zip64 else content)
    assert [(image.name, image.caption) for image in read(content).images] == [("a.jpg", "a fox")]


def test_a_streamed_archive_is_read() -> None:
    """Its entries say their sizes behind their bytes, in zip64's way."""

    class Stream(BytesIO):
        def seekable(self) -> bool:
            return False

    target = Stream()
    with zipfile.ZipFile(target, "w") as archive, archive.open("a.jpg", "w", force_zip64=True) as entry:
        entry.write(JPEG)
    assert [image.content for image in read(target.getvalue()).images] == [JPEG]


def test_no_more_than_sixty_notes_are_listed() -> None:
    """An archive may have thousands of files that are passed over."""
    told = check_archive(BytesIO(zipped(("a.jpg", JPEG), *((f"._{n:03}.jpg", b"x") for n in range(300)))))
    assert (len(told), told[-1]) == (61, "And 240 more.")
