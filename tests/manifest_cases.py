"""Manifests as spreadsheets, databases, statisticians and programs write them, with what they mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

FOX, MUG = {"prompt": "a fox"}, {"prompt": "a mug"}


@dataclass(frozen=True, kw_only=True)
class Case:
    """`rows`: id and input of each. `problems`: row, line and column of each, where it is refused.

    `says`: what is in the warnings, or in the first problem and its remedy.
    """

    name: str
    content: bytes
    rows: Sequence[tuple[str | None, dict[str, Any]]] = ()
    problems: Sequence[tuple[int | None, int | None, str | None]] = ()
    says: str | None = None
    charset: str | None = None

    @property
    def content_type(self) -> str:
        declared = f"; charset={self.charset}" if self.charset else ""
        return ("application/x-ndjson" if self.content.lstrip()[:1] in (b"{", b"[") else "text/csv") + declared


def read(name: str, content: str | bytes, *rows: tuple[str | None, dict[str, Any]], **more: Any) -> Case:
    return Case(name=name, content=content if isinstance(content, bytes) else content.encode(), rows=rows, **more)


def refused(name: str, content: str | bytes, *places: tuple[int | None, int | None, str | None], says: str) -> Case:
    content = content if isinstance(content, bytes) else content.encode()
    return Case(name=name, content=content, problems=places, says=says)


def fox(**more: Any) -> dict[str, Any]:
    return {**FOX, **more}


GERMAN = {"prompt": "ein schöner Fuchs"}
QUOTED = '"","id","prompt","seed"\r\n"0","a","a fox","7.0"\r\n"1","b","a mug",""\r\n'

SPREADSHEETS = [
    read("Excel, sep=", "sep=;\r\nid;prompt;seed\r\na;a fox;7\r\n", ("a", fox(seed=7))),
    read("Excel, sep= in a file with more columns", "sep=;;\r\nid;prompt;\r\na;a fox;\r\n", ("a", FOX)),
    read("Excel, sep= a bar, with a mark", "\ufeffSEP=|\r\nid|prompt\r\na|a fox\r\n", ("a", FOX)),
    read(
        "Excel, Unicode Text",
        "id\tprompt\tseed\r\na\tein schöner Fuchs\t7\r\n".encode("utf-16"),
        ("a", GERMAN | {"seed": 7}),
    ),
    read("Excel, Unicode Text and sep=", "sep=\t\r\nid\tprompt\r\na\ta fox\r\n".encode("utf-16"), ("a", FOX)),
    read("UTF-16, big end first", b"\xfe\xff" + "id,prompt\na,a fox\n".encode("utf-16-be"), ("a", FOX)),
    read("UTF-16 without its mark", "id,prompt\na,a fox\n".encode("utf-16-le"), ("a", FOX)),
    read("UTF-32", "id,prompt\na,a fox\n".encode("utf-32"), ("a", FOX)),
    read("Excel, cp1252", "id,prompt\r\na,ein schöner Fuchs\r\n".encode("cp1252"), ("a", GERMAN), says="cp1252"),
    read("Excel on a Mac", "id,prompt\ra,ein schöner Fuchs\r".encode("mac_roman"), ("a", GERMAN), says="Mac Roman"),
    read(
        "a declared code page",
        "id,prompt\na,лиса\n".encode("cp1251"),
        ("a", {"prompt": "лиса"}),
        charset="windows-1251",
    ),
    read("a declaration that is wrong", "id,prompt\na,ein schöner Fuchs\n", ("a", GERMAN), charset="iso-8859-1"),
    refused("another code page", "id,prompt\na,Красная лиса\n".encode("cp1251"), (None, 2, None), says="not UTF-8"),
    read("a sample of letters", "id,prompt\na,äöüß\n".encode("cp1252"), ("a", {"prompt": "äöüß"}), says="cp1252"),
    refused(
        "damaged UTF-8", "id,prompt\na,schön\nb,".encode() + b"sch\xf6n\n", (None, 3, None), says="not on this line"
    ),
    refused("no code page", b"id,prompt\na,\x81\x8d\n", (None, 2, None), says="neither UTF-8 nor Windows-1252"),
    refused("UTF-16 cut short", "id,prompt\na,x\n".encode("utf-16")[:-1], (None, None, None), says="cut short"),
    refused("a workbook", b"PK\x03\x04\x14\x00\x06\x00", (None, None, None), says="Excel"),
    read("read as cp1252 on its way", "ï»¿id,prompt\na,ein schÃ¶ner Fuchs\n", ("a", GERMAN), says="undone"),
    read("German Excel", "id;prompt;guidance_scale\r\na;a fox;3,5\r\n", ("a", fox(guidance_scale=3.5))),
    read("German Sheets", 'id,prompt,guidance_scale\r\na,a fox,"3,5"\r\n', ("a", fox(guidance_scale=3.5))),
    read(
        "German Excel, Unicode Text", "id\tprompt\tguidance_scale\r\na\ta fox\t3,5\r\n", ("a", fox(guidance_scale=3.5))
    ),
    read("Numbers, its table's name", "Table 1\nid,prompt\na,a fox\n", ("a", FOX)),
    read("a title above", "Spring,,\n,,\nid,prompt,seed\na,a fox,7\n", ("a", fox(seed=7))),
    read("blank columns and rows", "id,prompt,,\r\na,a fox,,\r\n,,,\r\n ,,,\r\n", ("a", FOX)),
    read("one column and blank ones", "prompt,,\r\na fox,,\r\n", (None, FOX)),
    read(
        "line breaks in cells",
        'id,prompt\r\na,"a fox\r\nin snow"\r\nb,a mug\r\n',
        ("a", {"prompt": "a fox\nin snow"}),
        ("b", MUG),
    ),
    read("the end of a DOS text", "id,prompt\r\na,a fox\r\n\x1a", ("a", FOX)),
    read("zeros kept by a formula", 'id,prompt\r\n="007",a fox\r\n"=""008""",a mug\r\n', ("007", FOX), ("008", MUG)),
    refused(
        "errors of formulas", "id,prompt,seed\na,#N/A,7\nb,a fox,#REF!\n", (1, 2, "prompt"), (2, 3, "seed"), says="#N/A"
    ),
    read("an id that Excel made a date", "id,prompt\n1-Mar,a fox\n", ("1-Mar", FOX), says="row 1"),
]

QUOTES = [
    read("Sheets, tabs and no quotes", 'id\tprompt\na\t"Hi" said the fox\n', ("a", {"prompt": '"Hi" said the fox'})),
    refused("an open quote between tabs", 'id\tprompt\na\t"Hi\nb\ta "mug"\n', (None, 2, None), says="…⇥"),
    read(
        "smart quotes around a comma, and a cell fewer",
        "id,prompt,negative_prompt\na,“a fox, red”\n",
        ("a", {"prompt": "a fox, red"}),
        says="Line 2",
    ),
    read(
        "smart quotes in cells beside each other",
        "prompt,id\n“Hi” said the fox,the “a”\n",
        ("the “a”", {"prompt": "“Hi” said the fox"}),
    ),
    read(
        "files with marks, one after the other",
        '\ufeff"id","prompt"\n"a","a fox"\n\ufeff"id","prompt"\n"b","a mug"\n',
        ("a", FOX),
        ("b", MUG),
        says="Line 3",
    ),
    read("line ends written twice", "id,prompt\r\r\na,a fox\r\r\n", ("a", FOX)),
    read("single quotes", "'id','prompt'\n'a','a fox, red'\n", ("a", {"prompt": "a fox, red"})),
    read("an apostrophe", "id,prompt\na,the fox's\n", ("a", {"prompt": "the fox's"})),
    read("a quoted header", '\ufeff"id","prompt"\r\n"a","a fox"\r\n', ("a", FOX)),
    read("a quoted header, semicolons", '"id";"prompt"\r\n"a";"a fox"\r\n', ("a", FOX)),
    read("pandas, QUOTE_ALL", QUOTED, ("a", fox(seed=7)), ("b", MUG)),
    read("pandas, written twice", "Unnamed: 0,id,prompt\n0,a,a fox\n", ("a", FOX)),
    read("pandas, escapechar", 'id,prompt\na,"a \\"fox\\", red"\n', ("a", {"prompt": 'a "fox", red'})),
    read("R, write.csv", '"","id","prompt","seed"\n"1","a","a fox",NA\n', ("a", FOX)),
    read(
        "R, write.table",
        '"id" "prompt" "seed"\n"1" "a" "a fox" 7\n"2" "b" "a mug" NA\n',
        ("a", fox(seed=7)),
        ("b", MUG),
    ),
    read(
        "a database, COPY",
        "id,prompt,enable_safety_checker,seed\na,a fox,t,\\N\n",
        ("a", fox(enable_safety_checker=True)),
    ),
    read("a database, tabs", "id\tprompt\tseed\na\ta fox\tNULL\n", ("a", FOX)),
    read("bars", "id|prompt\na|a fox, red\n", ("a", {"prompt": "a fox, red"})),
    read("inches", 'id,prompt\na,12" ruler\n', ("a", {"prompt": '12" ruler'})),
    read(
        "a list of prompts",
        'prompt\r\na fox, in the snow\r\n"a mug, on oak"\r\n12" ruler\r\n"Hi" said the fox\r\n"never closed\r\n',
        *[
            (None, {"prompt": each})
            for each in ("a fox, in the snow", "a mug, on oak", '12" ruler', '"Hi" said the fox', '"never closed')
        ],
    ),
    read(
        "smart quotes around a comma",
        "id,prompt\r\na,“a fox, in the snow”\r\n",
        ("a", {"prompt": "a fox, in the snow"}),
        says="Line 2",
    ),
    read(
        "smart quotes throughout", "“id”,“prompt”\n“a”,“a fox, red”\n", ("a", {"prompt": "a fox, red"}), says="quotes"
    ),
    read("smart quotes in a text", "id,prompt\na,“Hi” said the fox\n", ("a", {"prompt": "“Hi” said the fox"})),
    read(
        "files one after the other", "id,prompt\na,a fox\nid,prompt\nb,a mug\n", ("a", FOX), ("b", MUG), says="Line 3"
    ),
    refused(
        "a tab in a cell",
        "id\tprompt\na\ta fox\twith a tab\n",
        (1, 2, None),
        says='It reads …⇥…⇥… and should read …⇥"…⇥…"',
    ),
    refused(
        "a comma in a cell", "id,prompt,seed\na,a fox, red,7\n", (1, 2, None), says='…,…,…,… and should read …,"…,…",…'
    ),
    refused("quotes in quotes", 'id,prompt\na,"12" ruler"\n', (None, 2, None), says='…,"…"…" and should read …,"…""…"'),
    refused(
        "numbers that may be ids", "id,prompt\n1,a mug, red\n2,a fox, red\n", (1, 2, None), (2, 3, None), says="3 cells"
    ),
]

VALUES = [
    read(
        "numbers that are whole",
        'id,prompt,seed,num_images\n007,a fox,7.0,1\n008,a mug,"7,00",2.00\n',
        ("007", fox(seed=7)),
        ("008", MUG | {"seed": 7, "num_images": 2}),
    ),
    read("a power of ten", "prompt,seed\na fox,7.00E+02\n", (None, fox(seed=700))),
    read(
        "a number that Excel cut",
        "prompt,seed\na fox,1.23457E+11\n",
        (None, fox(seed=123457000000)),
        says="seed of row 1",
    ),
    read("blanks around numbers", "prompt,seed\na fox,\u00a07\u202f\n", (None, fox(seed=7))),
    refused("thousands", 'id,prompt,seed\na,a fox,7\nb,a mug,"1,234"\n', (2, 3, "seed"), says="Write 1234"),
    refused("German thousands", "prompt;seed\na fox;1.234\n", (1, 2, "seed"), says="Write 1234"),
    refused("French thousands", "prompt;seed\na fox;1\u202f234\n", (1, 2, "seed"), says="Write 1234"),
    refused("Swiss thousands", "prompt,seed\na fox,1'234\n", (1, 2, "seed"), says="Write 1234"),
    refused(
        "thousands and cents",
        'prompt,guidance_scale\na fox,"1.234,50"\n',
        (1, 2, "guidance_scale"),
        says="Write 1234.50",
    ),
    refused("a seed that is not whole", "prompt,seed\na fox,7.5\n", (1, 2, "seed"), says="whole number"),
    read(
        "truth values",
        "prompt,enable_safety_checker\n"
        + "".join(f"a fox,{word}\n" for word in ("TRUE", "False", "WAHR", "FALSCH", "VRAI", "1.0", "n")),
        *[(None, fox(enable_safety_checker=each)) for each in (True, False, True, False, True, True, False)],
    ),
    read(
        "sizes",
        "prompt,Image size\na fox,Square HD\na fox,1024 px x 768 px\n",
        (None, fox(image_size="square_hd")),
        (None, fox(image_size={"width": 1024, "height": 768})),
    ),
]

NAMES = [
    read(
        "names as people write them",
        "Product ID,Prompt,Image size\r\na,a fox,square_hd\r\n",
        ("a", fox(image_size="square_hd")),
    ),
    read(
        "names with marks",
        '" ID ",Prompt*,Guidance-Scale,Num. images,Seed (optional)\na,a fox,3.5,2,7\n',
        ("a", fox(guidance_scale=3.5, num_images=2, seed=7)),
    ),
    read(
        "names of programs",
        '{"productId": 7, "Prompt": "a fox", "imageSize": "square_hd", "numImages": "2"}',
        ("7", fox(image_size="square_hd", num_images=2)),
    ),
    read("an id beside a product's", "id,Prompt,SKU\na,a fox,\n", ("a", FOX)),
    read("spaces without width", "\u200bid,prompt\u200b\r\n\u200ba\u200b,a\u00a0fox\ufeff\r\n", ("a", FOX)),
    read("joined emoji", "prompt\n👩\u200d🚀 with a fox\n", (None, {"prompt": "👩\u200d🚀 with a fox"})),
    read("letters in parts", "id,prompt\nu\u0308,scho\u0308n\n", ("ü", {"prompt": "schön"})),
    refused(
        "ids that differ by a space",
        "id,prompt\r\na,a fox\r\na ,a mug\r\n",
        (2, 3, "id"),
        says="of row 1 already, but for blanks",
    ),
    refused(
        "ids that differ by form", "id,prompt\nü,a fox\nu\u0308,a mug\n", (2, 3, "id"), says="of row 1 already, but for"
    ),
    refused(
        "names that mean the same",
        '{"prompt": "a fox", "Image size": "square_hd", "image_size": "square"}',
        (1, 1, "image_size"),
        says="given twice",
    ),
    refused("no name", "prompt,what is that column\na fox,1\n", (None, 1, None), says="column 2"),
]

JSON = [
    refused("rows that are none", '{"rows": ["a fox"]}', (1, None, None), says="not an object"),
    read("values one after the other", '{"prompt": "a fox"}{"prompt": "a mug"}', (None, FOX), (None, MUG)),
    read("jq", '{\n  "prompt": "a fox"\n}\n{\n  "prompt": "a mug"\n}\n', (None, FOX), (None, MUG)),
    read("pages", '[{"prompt": "a fox"}]\n[{"prompt": "a mug"}]\n', (None, FOX), (None, MUG)),
    read("commas between", '{"prompt": "a fox"},\r\n{"prompt": "a mug"},\r\n', (None, FOX), (None, MUG)),
    read("old line ends", '{"prompt": "a fox"}\r{"prompt": "a mug"}\r', (None, FOX), (None, MUG)),
    read("byte order marks", '\ufeff{"prompt": "a fox"}\n\ufeff{"prompt": "a mug"}\n', (None, FOX), (None, MUG)),
    read("UTF-16", '{"prompt": "a fox"}\n'.encode("utf-16"), (None, FOX)),
    read("cp1252", '{"prompt": "ein schöner Fuchs"}\n'.encode("cp1252"), (None, GERMAN), says="cp1252"),
    read(
        "an object with rows",
        '{\n  "rows": [\n    {\n      "id": "a",\n      "prompt": "a fox"\n    }\n  ]\n}',
        ("a", FOX),
    ),
    read(
        "pandas, columns",
        '{"id":{"0":"a","1":"b"},"prompt":{"0":"a fox","1":"a mug"},"seed":{"0":7.0,"1":null}}',
        ("a", fox(seed=7)),
        ("b", MUG),
    ),
    read("pandas, index", '{"0":{"id":"a","prompt":"a fox"},"1":{"id":"b","prompt":"a mug"}}', ("a", FOX), ("b", MUG)),
    read("pandas, split", '{"columns":["id","prompt"],"index":[0],"data":[["a","a fox"]]}', ("a", FOX)),
    read(
        "pandas, table",
        '{"schema":{"primaryKey":["index"]},"data":[{"index":0,"id":"a","prompt":"a fox"}]}',
        ("a", FOX),
    ),
    read(
        "numbers as text",
        '{"id": 1.0, "prompt": "a fox", "seed": "7", "num_images": "2", "enable_safety_checker": "TRUE"}\n',
        ("1", fox(seed=7, num_images=2, enable_safety_checker=True)),
    ),
    read(
        "empty text for a number",
        '{"prompt": "a fox", "seed": "", "arguments": {"guidance_scale": "3.5"}}',
        (None, fox(guidance_scale=3.5)),
    ),
    refused("thousands as text", '{"prompt": "a fox", "seed": "1,234"}', (1, 1, "seed"), says="Write 1234"),
    refused(
        "options in a file",
        '{"rows": [{"prompt": "a fox"}], "defaults": {"seed": 1}}',
        (None, None, None),
        says="defaults",
    ),
    refused("NaN", '{"prompt": "a mug"}\n{"prompt": "a fox", "seed": NaN}\n', (2, 2, None), says="write null"),
    refused(
        "two lines that are none",
        '{"prompt": "a"\n{"prompt": "b"}\n{"prompt": }\n',
        (1, 1, None),
        (3, 3, None),
        says="delimiter",
    ),
    refused(
        "deep",
        '{"prompt": "a fox", "arguments": ' + '{"a":' * 40 + "1" + "}" * 40 + "}\n",
        (1, 1, None),
        says="nested more than 32",
    ),
]

CASES = [*SPREADSHEETS, *QUOTES, *VALUES, *NAMES, *JSON]
