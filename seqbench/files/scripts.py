"""Letters of all scripts: marks that belong to a letter, and scripts that put no spaces between words.

Python's ``\\w`` holds letters and digits but no combining marks, and of a Hindi, Thai, pointed Hebrew or vowelled
Arabic word every vowel sign is one (Unicode Standard Annex 29 keeps them with their letter). Chinese, Japanese, Thai,
Lao, Khmer and Burmese put no spaces between words; where words begin there only a dictionary knows, so each letter with
its marks stands for one.
"""

from __future__ import annotations

import functools
import itertools
import re
import sys
import unicodedata

__all__ = ["normal", "pattern", "spaceless"]

FIRST_MARK = "\u0300"  # below it, as in all of Latin-1, there are neither marks nor scripts without spaces
FURTHER = re.compile(f"[{FIRST_MARK}-{chr(sys.maxunicode)}]")
JOINERS = "\u200c\u200d"  # zero-width, within Persian and Indic words
SPACELESS = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f"  # Myanmar
    "\u1780-\u17ff"  # Khmer
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f"  # Hiragana and Katakana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"  # Han
)


def normal(text: str) -> str:
    """In Unicode's form NFC: one of the ways to write an accented letter is as good as the other."""
    return unicodedata.normalize("NFC", text)


def pattern(template: str, text: str) -> re.Pattern[str]:
    """``template`` as a regular expression that is right for ``text``.

    In it MARKS stands for combining marks within brackets, SPACELESS for letters of scripts without spaces. In a text
    that has neither both match nothing, which is much faster.
    """
    return _compiled(template, FURTHER.search(text) is not None)


def spaceless(text: str) -> bool:
    """Whether most letters of ``text`` are of scripts that put no spaces between words."""
    if not FURTHER.search(text):
        return False
    letters = sum(map(str.isalpha, text))
    return 2 * len(re.findall(f"[{SPACELESS}]", text)) > letters


@functools.cache
def _compiled(template: str, further: bool) -> re.Pattern[str]:
    marks, letters = (_marks(), SPACELESS) if further else ("\ud800", "\ud800")  # half a character, never in a text
    return re.compile(template.replace("MARKS", marks).replace("SPACELESS", letters))


@functools.cache
def _marks() -> str:
    """Ranges of all marks and joiners, as they stand within brackets."""
    points = [*range(ord(FIRST_MARK), 0x20000), *range(0xE0100, 0xE01F0)]  # the others are ideographs or unassigned
    marks = [point for point in points if unicodedata.category(chr(point))[0] == "M"]
    ranges = []
    for _, run in itertools.groupby(enumerate(marks), lambda pair: pair[1] - pair[0]):
        members = [point for _, point in run]
        ranges.append(f"{chr(members[0])}-{chr(members[-1])}")
    return "".join(ranges) + JOINERS
