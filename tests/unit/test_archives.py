"""Which archives are read, and what is said of those that are not."""

from __future__ import annotations

import stat
import struct
import zipfile
from io import BytesIO

import pytest
from zip_files import JPEG, changed, flaws, info, read, refused, zipped

from darkroom.errors import BadInput, Refused
from darkroom.media.archives import Flaw, check_archive, write_archive
from darkroom.media.formats import Kind, verify


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


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"Rar!\x1a\x07\1\0", "a RAR archive"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
        (b"a.jpg".ljust(257, b"\0") + b"ustar\x0000", "a tar archive"),
        (b"\x1f\x8b\x08", "compressed with gzip"),
        (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    ],
)
def test_what_is_another_archive_is_called_that(content: bytes, kind: str) -> None:
    """And where it is uploaded, too."""
    assert f"no zip archive that can be read, but {kind}: make it anew" in refused(content.ljust(600, b"\0")).message
    with pytest.raises(Refused, match=f"not a zip archive, but {kind}"):
        verify(content.ljust(600, b"\0"), Kind.ARCHIVE)


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
