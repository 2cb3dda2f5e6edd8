"""What a file is, told by its first bytes."""

import os
from typing import Union

LFS = b'version https://git-lfs.github.com/spec/'
KINDS = ((LFS, 'a git-lfs pointer'), (b'PK\x03\x04', 'a checkpoint'),  # torch's zip
         (b'\x89PNG', 'an image'), (b'\xff\xd8\xff', 'an image'), (b'\x1f\x8b', 'a gzip archive'),
         (b'BZh', 'a bzip2 archive'), (b'%PDF', 'a PDF'),
         *((start, 'a TIFF picture') for start in (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')),
         *((start, 'a JPEG 2000 picture') for start in (b'\0\0\0\x0cjP  ', b'\xffO\xffQ')),
         (b'GIF8', 'a GIF picture'), (b'8BPS', 'a Photoshop picture'))
PICTURE = 'picture'  # how the names of formats end that not every decoder reads
BRANDS = {b'avif': 'an AVIF picture', b'avis': 'an AVIF picture',
          **dict.fromkeys((b'heic', b'heix', b'hevc', b'heim', b'heis', b'mif1', b'msf1'),
                          'a HEIC picture')}


def kind_of_file(path: Union[str, os.PathLike]) -> str:
    """In words: 'a folder', 'empty', 'a text file', 'a git-lfs pointer', 'a checkpoint', ..."""
    if os.path.isdir(path):
        return 'a folder'
    with open(path, 'rb') as file:
        return kind_of_bytes(file.read(512))


def kind_of_bytes(head: bytes) -> str:
    """The same from the first bytes, at most 512."""
    if not head:
        return 'empty'
    for start, kind in KINDS:
        if head.startswith(start):
            return kind
    if head[4:8] == b'ftyp' and head[8:12] in BRANDS:
        return BRANDS[head[8:12]]
    if head[:4] == b'RIFF' and head[8:12] == b'WEBP':
        return 'a WebP picture'
    if is_utf_16(head):
        return 'UTF-16 text'
    if head[:1] == b'\x80' and head[1:2] in b'\x02\x03\x04\x05':  # pickle: torch before 1.6
        return 'a checkpoint'
    start = head.lstrip()[:15].lower()
    if start.startswith((b'<!doctype html', b'<html')):
        return 'an HTML page'
    try:
        # A letter may be cut at the end of what was read.
        text = head[:-3].decode() if len(head) == 512 else head.decode()
    except UnicodeDecodeError:
        return 'of an unknown format'
    if all(c.isprintable() or c in '\r\n\t\f' for c in text):
        return 'a json file' if start[:1] in (b'{', b'[') else 'a text file'
    return 'of an unknown format'


def is_utf_16(head: bytes) -> bool:
    """Whether the first bytes of a file are text as Windows programs write it."""
    if head[:2] in (b'\xff\xfe', b'\xfe\xff'):
        return True
    try:  # Without a byte order mark: Latin letters have a zero beside them.
        text = head[:len(head) & ~1].decode('utf-16-le')
    except UnicodeDecodeError:
        return False
    return head[1::2].count(0) * 2 > len(head) // 2 and all(
        c.isprintable() or c in '\r\n\t\f' for c in text)
