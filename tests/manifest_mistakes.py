"""Manifests that are something else, were read as something else, or say a thing twice: with what they mean."""

from __future__ import annotations

from manifest_cases import FOX, MUG, fox, read, refused

NO_ROWS = [
    read("comments above", "# by me, in May\n# and again\nid,prompt\na,a fox\n", ("a", FOX), says="above line 3"),
    read("a header that is a comment", "#id,prompt\na,a fox\n", ("a", FOX)),
    read("Markdown", "| id | prompt |\n|:---|-------:|\n| a | a fox |\n", ("a", FOX)),
    read("psql", " id | prompt \n----+--------\n a  | a fox\n(1 row)\n", ("a", FOX)),
    read("mysql", "+----+--------+\n| id | prompt |\n+----+--------+\n| a  | a fox  |\n+----+--------+\n", ("a", FOX)),
    read("a database's end", "id\tprompt\na\ta fox\n\\.\n", ("a", FOX)),
    read(
        "lines in quotes", '"id,""prompt"""\n"a,""a fox, red"""\n', ("a", {"prompt": "a fox, red"}), says="as a whole"
    ),
    read("a column without a name", "id,prompt,,seed\na,a fox,red,7\n", ("a", fox(seed=7)), says="Column 3"),
    read(
        "rows in a cell", 'id,prompt\na,"a fox\nb,a mug"\n', ("a", {"prompt": "a fox\nb,a mug"}), says="look like rows"
    ),
    read("many commas", "prompt\n" + "a," * 1500 + "\n", (None, {"prompt": "a," * 1500})),
    refused("nothing in quotes", '""\n', (None, 1, "prompt"), says="does not name"),
    refused("many columns", "prompt," + "a," * 1500 + "\n", (None, 1, None), says="1,000 columns"),
    refused("a long cell", "prompt\na\nid," + "x" * 200_000 + "\n", (2, 3, "prompt"), says="4000"),
    refused("a long cell of two", "id,prompt\na," + "x" * 200_000 + "\n", (None, 2, None), says="131,072 characters"),
    refused("two delimiters", "id;prompt\na,a fox\n", (1, 2, None), (1, 2, "prompt"), says="“,”, and the header"),
]

OTHERS = [
    *[
        refused(kind, content, (None, line, None), says=says)
        for kind, content, line, says in (
            ("gzip", b"\x1f\x8b\x08\0", None, "compressed with gzip"),
            ("tar", b"m.csv".ljust(257, b"\0") + b"ustar", None, "a tar archive"),
            ("a picture", b"\x89PNG\r\n\x1a\n\0", None, "a PNG picture"),
            ("a film", b"\0\0\0\x18ftypmp42", None, "a film"),
            ("a PDF with a mark", b"\xef\xbb\xbf%PDF-1.7", None, "a PDF"),
            ("a page", "\ufeff<!DOCTYPE html><html>", None, "a web page"),
            ("YAML", "- prompt: a fox\n", 1, "YAML"),
            ("TOML", 'prompt = "a fox"\n', 1, "TOML"),
            ("fences", '```json\n[{"prompt": "a fox"}]\n```\n', 1, "Markdown"),
            ("a script", 'var rows = [{"prompt": "a fox"}];', 1, "before its JSON"),
        )
    ],
    read(
        "UTF-16 of other letters", "id,prompt\na,лиса в снегу\n".encode("utf-16-be"), ("a", {"prompt": "лиса в снегу"})
    ),
    read("UTF-32 without its mark", "id,prompt\na,a fox\n".encode("utf-32-le"), ("a", FOX)),
    *[
        refused(f"misread {page}", f"id,prompt\na,{text}\n".encode(page), (None, 2, None), says="not UTF-8")
        for page, text in (
            ("cp437", "schön"),
            ("cp1250", "żółta łódź"),
            ("iso8859-2", "příliš žluťoučký"),
            ("big5", "狐狸"),
            ("euc-kr", "여우"),
            ("cp1251", "лис да он"),
        )
    ],
]

AMBIGUOUS = [
    read("digits of other scripts", "prompt,seed,num_images\na fox,７.０,٢\n", (None, fox(seed=7, num_images=2))),
    read(
        "a wide size",
        "prompt,ｉｍａｇｅ＿ｓｉｚｅ\na fox,１０２４×７６８\n",
        (None, fox(image_size={"width": 1024, "height": 768})),
    ),
    read("a truth elsewhere", "prompt,enable_safety_checker\na fox,sí\n", (None, fox(enable_safety_checker=True))),
    refused(
        "no truth",
        "prompt,enable_safety_checker\na fox,maybe\n",
        (1, 2, "enable_safety_checker"),
        says="Use true or false",
    ),
    read("ids by case", "id,prompt\nA,a fox\na,a mug\n", ("A", FOX), ("a", MUG), says="upper and lower case"),
    refused("a truth for a number", '{"prompt": "a fox", "seed": true}', (1, 1, "seed"), says="Write the number"),
    refused("a name twice", '{"prompt": "a fox", "prompt": "a mug"}', (1, 1, None), says="gives prompt twice"),
    refused(
        "a name twice inside",
        '[{"prompt": "a fox", "arguments": {"loras": [{"path": "a", "path": "b"}]}}]',
        (1, None, None),
        says="gives path twice",
    ),
    read(
        "results of an API",
        '{"count": 1, "results": [{"prompt": "a fox"}]}',
        (None, FOX),
        says="beside it there was count",
    ),
    refused(
        "a row of its own", '{"seed": 1, "extras": [{"a": 1}]}', (1, 1, "prompt"), (1, 1, "extras"), says="required"
    ),
    refused(
        "cells without a column",
        '{"columns": ["prompt"], "data": [["a fox", 1]]}',
        (None, None, None),
        says="do not fit",
    ),
    refused("digits", '{"prompt": "a fox", "seed": ' + "1" * 5000 + "}", (1, 1, None), says="too many digits"),
    *[
        refused(f"JSON with {name}", text, (1, 1, None), says=says)
        for name, text, says in (
            ("a comma", '{"prompt": "a",}', "closing bracket"),
            ("a comment", '{"prompt": "a", // one\n}', "no comments"),
            ("single quotes", "{'prompt': 'a'}", "double quotes"),
            ("a line break", '{"prompt": "a\nb"}', "line break"),
        )
    ],
    refused(
        "many names",
        "[" + ",".join(f'{{"prompt": "a", "a{n}": 1}}' for n in range(1001)) + "]",
        (None, None, None),
        says="1,000 names",
    ),
]

MISTAKES = [*NO_ROWS, *OTHERS, *AMBIGUOUS]
