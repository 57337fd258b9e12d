"""Which archives are read: real ones, with what an attacker or a careless tool would put into them."""

from __future__ import annotations

import stat
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from io import BytesIO
from random import Random

import pytest
from PIL import Image
from zip_files import in_zip64

from darkroom.errors import BadInput
from darkroom.media import archives
from darkroom.media.archives import Flaw, check_archive, read_archive, write_archive

Entry = tuple[str | zipfile.ZipInfo, bytes]
JPEG = b"\xff\xd8\xff\xe0 a picture of a fox"


def zipped(*entries: Entry, method: int = zipfile.ZIP_STORED) -> bytes:
    target = BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        for entry, content in entries:
            archive.writestr(entry, content)
    return target.getvalue()


def info(name: str, *, mode: int = stat.S_IFREG | 0o644) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = mode << 16
    return entry


def read(content: bytes) -> archives.Contents:
    return read_archive(BytesIO(content))


def refused(content: bytes) -> BadInput:
    with pytest.raises(BadInput) as caught:
        read(content)
    return caught.value


def flaws(content: bytes) -> dict[str, str]:
    return {flaw.name: flaw.reason for flaw in read(content).flaws}


def changed(content: bytes, before: bytes, after: bytes, *, times: int = -1) -> bytes:
    assert before in content and len(before) == len(after)
    return content.replace(before, after, times)


def test_pictures_come_with_the_captions_of_their_names_in_the_order_of_their_names() -> None:
    """Folders, what file managers leave behind and the order of packing do not matter."""
    contents = read(
        zipped(
            ("set/", b""),
            ("set/b.JPG", JPEG + b"b"),
            ("set/a.png", JPEG + b"a"),
            ("set/b.txt", "\ufeffa fox,\n in snow \n".encode()),
            ("__MACOSX/set/._a.png", b"resource fork"),
            ("set/.DS_Store", b"junk"),
            ("Thumbs.db", b"junk"),
        )
    )
    assert [(image.name, image.caption) for image in contents.images] == [
        ("set/a.png", None),
        ("set/b.JPG", "a fox,\n in snow"),
    ]
    assert contents.images[1].content == JPEG + b"b"
    assert contents.flaws == ()


def test_a_caption_of_the_same_name_in_another_folder_is_no_caption_of_it() -> None:
    """Two folders may both have a 1.jpg."""
    contents = read(zipped(("a/1.jpg", JPEG), ("b/1.jpg", JPEG + b"2"), ("b/1.txt", b"the second")))
    assert [image.caption for image in contents.images] == [None, "the second"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("/etc/cron.d/fox.jpg", "leads out"),
        ("../fox.jpg", "leads out"),
        ("a/../../fox.jpg", "leads out"),
        ("..\\fox.jpg", "leads out"),
        ("C:/fox.jpg", "leads out"),
        ("more.zip", "archive inside"),
        ("more.tar.gz", "archive inside"),
        ("a/.. /fox.jpg", "leads out"),
        ("\\\\host\\share\\fox.jpg", "leads out"),
        ("C:\\Users\\fox.jpg", "leads out"),
        ("../Thumbs.db", "leads out"),
        ("__MACOSX/../../fox.jpg", "leads out"),
    ],
)
def test_an_entry_that_has_no_place_there_is_named_with_the_reason(name: str, reason: str) -> None:
    """Nothing is unpacked to disk, so no path could do harm; but an archive that has such names means it."""
    found = flaws(zipped(("good.jpg", JPEG), (info(name), JPEG)))
    assert list(found) == [name]
    assert reason in found[name]


def test_a_name_that_goes_on_behind_a_nul_is_refused() -> None:
    """zipfile cuts it off, another reader does not."""
    content = changed(zipped(("fox_jpg.jpg", JPEG)), b"fox_jpg.jpg", b"fox.jpg\0jpg")
    assert "leads out" in flaws(content)["fox.jpg\0jpg"]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK])
def test_links_and_devices_are_refused(kind: int) -> None:
    """A link to a file of ours would be a picture of that, if anything followed it."""
    assert "link or a device" in flaws(zipped((info("fox.jpg", mode=kind | 0o777), b"/etc/passwd")))["fox.jpg"]


def test_a_link_that_calls_itself_a_folder_is_refused() -> None:
    """A name with a slash at its end is not looked at otherwise."""
    assert flaws(zipped((info("set/", mode=stat.S_IFLNK | 0o777), b"/")))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("notes.pdf", b"%PDF-1.7", "neither a JPEG"),
        ("film.mp4", b"\0\0\0\x18ftypisom\0\0\0\0isommp42", "neither a JPEG"),
        ("fox", b"a text without an ending", "neither a JPEG"),
        ("nothing", b"", "neither a JPEG"),
        ("setup.exe", b"MZ", "neither a JPEG"),
        ("fox.jpg", b"PK\x03\x04 an archive", "archive inside"),
        ("fox", b"Rar!\x1a\x07\0", "archive inside"),
    ],
)
def test_a_file_that_is_neither_picture_nor_caption_is_refused_by_name(name: str, content: bytes, reason: str) -> None:
    """By its bytes: its name may say anything, or nothing."""
    found = flaws(zipped(("good.jpg", JPEG), (name, content)))
    assert list(found) == [name]
    assert reason in found[name]


def test_all_that_is_wrong_is_told_at_once() -> None:
    """One look for whoever made the archive, not one for each file; and no picture of it is taken."""
    contents = read(zipped(("good.jpg", JPEG), ("notes.pdf", b"x"), ("more.zip", b"x"), (info("/fox.jpg"), JPEG)))
    assert {flaw.name for flaw in contents.flaws} == {"notes.pdf", "more.zip", "/fox.jpg"}
    assert contents.images == ()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_is_there_twice_is_refused() -> None:
    """Readers differ in which they take."""
    assert flaws(zipped(("fox.jpg", JPEG), ("fox.jpg", JPEG + b"2"))) == {"fox.jpg": "is there twice"}


def test_an_encrypted_entry_is_refused() -> None:
    """There is nobody to ask for the password."""
    content = zipped(("fox.jpg", JPEG))
    directory = content.index(b"PK\x01\x02")
    flagged = content[: directory + 8] + struct.pack("<H", 1) + content[directory + 10 :]
    assert flaws(flagged) == {"fox.jpg": "is encrypted"}


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_ways_of_packing_are_refused(method: int) -> None:
    """zipfile unpacks whole blocks of them at once, past any bound."""
    assert "another way" in flaws(zipped(("fox.jpg", JPEG), method=method))["fox.jpg"]


def test_captions_that_are_none_are_named() -> None:
    """Each with its own reason, and the pictures are still read."""
    contents = read(
        zipped(
            ("a.jpg", JPEG),
            ("a.txt", b"x" * 2001),
            ("b.jpg", JPEG),
            ("b.txt", b"F\x81chsin"),
            ("c.txt", b"of nobody"),
            ("d.jpg", JPEG),
            ("d.txt", b"a \0 fox"),
            ("e.jpg", JPEG),
            ("e.txt", b"x" * 2000),
        )
    )
    assert contents.flaws == (
        Flaw(name="a.txt", reason="is a caption of more than 2000 characters"),
        Flaw(name="b.txt", reason="is no text"),
        Flaw(name="d.txt", reason="is no text"),
    )
    assert [note.name for note in contents.notes] == ["c.txt"]
    assert len(contents.images) == 4


# -- other people's machines -----------------------------------------------------------------------------------------


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


def test_a_directory_in_zip64_is_bounded_too() -> None:
    """It says its length in another place."""
    content = in_zip64(zipped(("a.jpg", JPEG)), list_bytes=2**31)
    assert peak_bytes(lambda: refused(content)) < 5_000_000


def test_no_more_than_sixty_notes_are_listed() -> None:
    """An archive may have thousands of files that are passed over."""
    told = check_archive(BytesIO(zipped(("a.jpg", JPEG), *((f"._{n:03}.jpg", b"x") for n in range(300)))))
    assert (len(told), told[-1]) == (61, "And 240 more.")


# -- bombs -----------------------------------------------------------------------------------------------------------


def peak_bytes(action: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_an_entry_that_unpacks_to_a_hundred_times_its_size_is_refused_unread() -> None:
    """Pictures hardly shrink: what shrinks so is no picture."""
    bomb = zipped(("fox.jpg", bytes(10_000_000)), (info("noise.jpg"), noise(200_000)), method=zipfile.ZIP_DEFLATED)
    assert peak_bytes(lambda: flaws(bomb)) < 1_000_000
    assert flaws(bomb) == {"fox.jpg": "unpacks to more than 100 times its size"}


def test_an_archive_that_unpacks_to_too_much_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the sum of what its entries say."""
    monkeypatch.setattr(archives, "MOST_BYTES", 1000)
    error = refused(zipped(("a.jpg", bytes(600)), ("b.jpg", bytes(600))))
    assert (error.field, "Unpacked" in error.message) == ("archive", True)


def test_entries_that_share_their_bytes_are_refused() -> None:
    """Each in itself unpacks to 50 times its size, ninety of them to 4,500 times that of the archive."""
    single = zipped(("00.jpg", _half_bomb()), method=zipfile.ZIP_DEFLATED)
    directory = single.index(b"PK\x01\x02")
    end = single.index(b"PK\x05\x06")
    record = single[directory:end]
    records = b"".join(record.replace(b"00.jpg", f"{number:02}.jpg".encode()) for number in range(90))
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 90, 90, len(records), directory, 0)
    assert "100 times" in refused(single[:directory] + records + tail).message


def _half_bomb() -> bytes:
    """Of 1 MB; packed it takes a fiftieth."""
    return noise(19_000) + bytes(981_000)


def noise(size: int) -> bytes:
    return Random(size).randbytes(size)


@pytest.mark.parametrize("said", [1, 59_999, 60_001, 1_000_000])
def test_an_entry_that_lies_about_its_size_is_damaged(said: int) -> None:
    """It says less or more than there is."""
    content = zipped(("fox.jpg", noise(60_000)))
    assert "damaged" in refused(changed(content, struct.pack("<L", 60_000), struct.pack("<L", said))).message


def test_a_bomb_that_says_it_is_small_is_not_unpacked() -> None:
    """It stays within what it declares: 20 MB of it are never in memory."""
    bomb = zipped(("fox.jpg", bytes(20_000_000)), method=zipfile.ZIP_DEFLATED)
    lying = changed(bomb, struct.pack("<L", 20_000_000), struct.pack("<L", 1_000_000))
    assert peak_bytes(lambda: refused(lying)) < 3_000_000


def test_a_directory_of_a_million_entries_is_not_read() -> None:
    """The end record says where it begins and how long it is: that is believed only up to a bound."""
    record = struct.pack("<4s6H3L5H2L", b"PK\x01\x02", 20, 20, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0) + b"a.jpg"
    directory = record * 60_000
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, len(directory), 0, 0)
    content = directory + tail
    assert peak_bytes(lambda: refused(content)) < 5_000_000
    assert "200 entries" in refused(content).message


def test_more_entries_than_there_may_be_are_refused() -> None:
    """Two for each of a hundred pictures would be within it."""
    assert "200 entries" in refused(zipped(*((f"{n}.jpg", JPEG) for n in range(201)))).message
    assert len(read(zipped(*((f"{n}.jpg", JPEG) for n in range(200)))).images) == 200


@pytest.mark.parametrize(
    "content",
    [b"", b"PK", b"GIF89a", zipped(("fox.jpg", JPEG))[:-5], b"PK\x05\x06" + b"\xff" * 18, JPEG * 1000],
    ids=["empty", "short", "a picture", "cut short", "an end of nonsense", "long"],
)
def test_what_is_no_archive_is_refused(content: bytes) -> None:
    """In words, whatever zipfile makes of it."""
    assert "no zip archive" in refused(content).message


def test_a_damaged_entry_is_named() -> None:
    """Its checksum tells."""
    content = changed(zipped(("a.jpg", JPEG), ("b.jpg", b"another fox")), b"another fox", b"another box")
    error = refused(content)
    assert "b.jpg is damaged" in error.message


def test_names_are_shown_without_what_a_terminal_would_act_on() -> None:
    """And no longer than a line, though the archive's are."""
    content = zipped((info("\x1b[2J" + "x" * 300 + ".pdf"), b""))
    with pytest.raises(BadInput) as caught:
        check_archive(BytesIO(content), field="body")
    assert "?[2Jxxx" in caught.value.message
    assert len(caught.value.message) < 250
    assert caught.value.field == "body"


def test_a_check_reads_all_of_it() -> None:
    """What an upload is told is what a training would be told."""
    assert check_archive(BytesIO(zipped(("a.jpg", JPEG), ("Thumbs.db", b"x")))) == ["Thumbs.db was passed over."]
    with pytest.raises(BadInput):
        check_archive(BytesIO(changed(zipped(("a.jpg", JPEG)), b"fox", b"box")))


def test_the_same_files_make_the_same_bytes() -> None:
    """So a training that is ordered again is known by its hash; and the pictures are in it as they are."""
    files = [("001.jpg", JPEG), ("001.txt", b"a fox")]
    assert write_archive(files) == write_archive(files)
    assert [image.caption for image in read(write_archive(files)).images] == ["a fox"]
