"""The path template and the file names of messages in the lake."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from transforms._columns import column, headers
from transforms.errors import ConfigurationError
from transforms.lake import INTERNAL
from transforms.model import FILE_SCHEMA, Layout

__all__ = ["FIELDS", "Positions", "Template", "directories", "file_path", "template"]

FIELDS = ("topic", "partition", "date", "hour", "minute", "key", "header[NAME]")
"""Fields that a template may contain in braces."""

Positions = npt.NDArray[np.int64]

_NONE, _EMPTY = "__none__", "__empty__"
_CUT, _HASH = 100, 16
_TOKEN = re.compile(
    r"\{header\[(?P<header>.+?)\]\}|\{(?P<field>[^{}]*)\}|(?P<slash>/)|(?P<literal>[^{}/]+|.)", re.DOTALL
)
_UNSAFE = re.compile(rb"[^A-Za-z0-9._-]")
_UNSAFE_LITERAL = re.compile(r"[^A-Za-z0-9._=-]")
_CUT_ESCAPE = re.compile("%[0-9A-F]?$")
_MICROSECONDS = {"date": 86_400_000_000, "hour": 3_600_000_000, "minute": 60_000_000}
_LONGEST = {"partition": 11, "date": 13, "hour": 8, "minute": 8}
_LONGEST_COMPONENT = 255
# S3 keys have at most 1024 bytes; the rest is for the lake's own prefix and the file's name.
_LONGEST_DIRECTORY = 600


@dataclass(frozen=True)
class _Field:
    name: str
    header: str = ""

    @property
    def longest(self) -> int:
        return _LONGEST.get(self.name, _CUT + 1 + _HASH)


_Component = tuple["_Field | str", ...]
# What one field (or all of time) is in a batch: a code per row, None where all rows
# share the first; and for each code the text of each field.
_Dimension = tuple["Positions | None", list[dict[_Field, str]]]


@dataclass(frozen=True)
class Template:
    """A parsed path template such as ``{topic}/date={date}/hour={hour}``.

    Fields are ``topic partition date hour minute key header[NAME]``. Times are the message's publish time
    in UTC. If a header is repeated, the last one counts. In values, each byte outside
    ``[A-Za-z0-9._-]`` becomes ``%XX``; a value longer than 100 bytes is cut and followed by a
    hash; a missing one is ``__none__``, an empty one ``__empty__``. Where a path component begins with
    a value, a leading ``_`` or ``.`` is escaped too: readers of lakes hide such names.
    """

    text: str
    components: tuple[_Component, ...]

    @classmethod
    def parse(cls, text: str) -> Template:
        """Parse and validate a template.

        Raises:
            ConfigurationError: lists all problems of the template.
        """
        components = tuple(_components(text))
        problems = list(_problems(components))
        if problems:
            raise ConfigurationError(f"`path` {text!r}: {problem}" for problem in problems)
        return cls(text, components)

    def render(
        self, messages: pa.Table, topic: str, naming: int = Layout.naming
    ) -> list[tuple[str, Positions | None]]:
        """The directories of a batch and the rows of each.

        The same messages always yield the same directories.

        Args:
            messages: ``MESSAGE_SCHEMA`` columns.
            topic: value of ``{topic}``, the source's name.
            naming: of the :class:`transforms.model.Layout`.

        Returns:
            Distinct directories in the order of their first rows, each with its rows in ascending order,
            or None if it contains all rows.
        """
        if not len(messages):
            return []
        fields = {part for parts in self.components for part in parts if isinstance(part, _Field)}
        times = [field for field in fields if field.name in _MICROSECONDS]
        dimensions = [_times(messages, times)] if times else []
        dimensions += [_values(messages, topic, field) for field in fields.difference(times)]
        codes, groups = _combine(dimensions)
        return _by_directory([self._directory(texts, naming) for texts in groups], codes)

    def _directory(self, texts: dict[_Field, str], naming: int) -> str:
        rendered = ["".join(_rendered(part, texts) for part in parts) for parts in self.components]
        if rendered[0] == INTERNAL.rstrip("/"):
            rendered[0] = rendered[0].replace("_", "%5F")
        safe = [part.replace(".", "%2E") if part in {".", ".."} else part for part in rendered]
        return "/".join(map(_visible, self.components, safe) if naming > 1 else safe)


def _rendered(part: _Field | str, texts: dict[_Field, str]) -> str:
    return part if isinstance(part, str) else texts[part]


@functools.lru_cache(maxsize=64)
def template(path: str) -> Template:
    """A parsed template, cached; raises like :meth:`Template.parse`."""
    return Template.parse(path)


def directories(layout: Layout, messages: pa.Table, topic: str) -> list[str]:
    """The directories of a batch; see :meth:`Template.render`."""
    return [directory for directory, _ in template(layout.path).render(messages, topic, layout.naming)]


def file_path(directory: str, name: str, extension: str, naming: int = Layout.naming) -> str:
    """The path of a file in the lake.

    Args:
        directory: as rendered.
        name: stem of the name; escaped, and cut after 200 bytes like values of a template.
        extension: the format's name.
        naming: of the :class:`transforms.model.Layout`.
    """
    stem = _escape(name.encode(), 200)
    return f"{directory}/{_shown(stem) if naming > 1 else stem}.{extension}"


def _shown(name: str) -> str:
    """The name without a beginning that hides it, as :func:`_escape` would write it."""
    return f"%{ord(name[0]):02X}{name[1:]}" if name[0] in "._" else name


def _visible(parts: _Component, text: str) -> str:
    """A literal is what somebody chose to write, a value is not."""
    return _shown(text) if isinstance(parts[0], _Field) else text


def _components(text: str) -> Iterator[_Component]:
    parts: list[_Field | str] = []
    for token in _TOKEN.finditer(text):
        if token["slash"]:
            yield tuple(parts)
            parts = []
        elif token["literal"]:
            parts.append(token["literal"])
        else:
            parts.append(_Field("header", token["header"]) if token["header"] else _Field(token["field"]))
    yield tuple(parts)


def _problems(components: Sequence[_Component]) -> Iterator[str]:
    names: list[str] = []
    if components[0] == (INTERNAL.rstrip("/"),):
        yield f"{INTERNAL} is reserved for Persistor; choose another first component."
    for parts in components:
        yield from _field_problems(parts)
        yield from _literal_problems(parts)
        if _widest(parts) > _LONGEST_COMPONENT:
            yield "a path component can exceed 255 bytes; put a / between its fields."
        name = _hive_name(parts)
        if name is not None:
            yield from _hive_problems(name, names)
            names.append(name)
    if sum(map(_widest, components)) + len(components) > _LONGEST_DIRECTORY:
        yield f"the path can exceed {_LONGEST_DIRECTORY} bytes; use fewer fields."


def _field_problems(parts: _Component) -> Iterator[str]:
    known = {"topic", "key", *_LONGEST}
    for part in parts:
        if isinstance(part, _Field) and not part.header and part.name not in known:
            yield f"{{{part.name}}} is not a field; known are {', '.join(FIELDS)}."


def _literal_problems(parts: _Component) -> Iterator[str]:
    literal = "".join(part for part in parts if isinstance(part, str))
    if not parts:
        yield "an empty path component; remove the / at the beginning, at the end or next to another."
    if parts in {(".",), ("..",)}:
        yield f"{literal!r} is not a path component; remove it."
    if "{" in literal or "}" in literal:
        yield "an unpaired brace; write fields as {topic}."
    unsafe = sorted(set(_UNSAFE_LITERAL.findall(literal)) - {"{", "}"})
    if unsafe:
        yield f"{''.join(unsafe)!r} outside fields; use only letters, digits and . _ = - there."
    if literal.count("=") > 1:
        yield "more than one = in a path component; put a / between NAME=VALUE pairs."


def _hive_name(parts: _Component) -> str | None:
    before: list[str] = []
    for part in parts:
        if isinstance(part, _Field):
            before.append(f"{{{part.name}}}")
        elif "=" in part:
            return "".join([*before, part.partition("=")[0]])
        else:
            before.append(part)
    return None


def _hive_problems(name: str, names: Sequence[str]) -> Iterator[str]:
    if not name or "{" in name:
        yield f"{name}= is not a partition name; write a fixed name before the =."
    if name.lower() in FILE_SCHEMA.names:
        yield f"{name}= is a column of the files, so query engines would refuse it; use another name."
    if name.lower() in map(str.lower, names):
        yield f"{name}= appears twice; name each partition once."


def _widest(parts: _Component) -> int:
    escaped = (
        len("%5F") - 1 if parts and isinstance(parts[0], _Field) and parts[0].name not in _LONGEST else 0
    )
    return escaped + sum(len(part) if isinstance(part, str) else part.longest for part in parts)


def _times(messages: pa.Table, fields: Sequence[_Field]) -> _Dimension:
    unit = min(_MICROSECONDS[field.name] for field in fields)
    times = column(messages, "publish_time").cast(pa.int64())
    if not times.null_count:
        bounds = pc.min_max(times)
        bucket = bounds["min"].as_py() // unit
        if bucket == bounds["max"].as_py() // unit:
            return None, [_time_texts(bucket * unit, fields)]
    buckets = pa.array(pc.fill_null(times, 0).to_numpy() // unit, mask=_null_mask(times))
    encoded = buckets.dictionary_encode("encode")
    starts = pc.multiply(encoded.dictionary, unit).to_pylist()
    texts = [_time_texts(start, fields) for start in starts]
    return _codes(encoded), texts


def _time_texts(microseconds: int | None, fields: Sequence[_Field]) -> dict[_Field, str]:
    if microseconds is None:
        return dict.fromkeys(fields, _NONE)
    days, rest = divmod(microseconds, _MICROSECONDS["date"])
    texts = {
        "date": _escape(str(np.datetime64(days, "D")).encode()),
        "hour": f"{rest // _MICROSECONDS['hour']:02}",
        "minute": f"{rest // _MICROSECONDS['minute'] % 60:02}",
    }
    return {field: texts[field.name] for field in fields}


def _values(messages: pa.Table, topic: str, field: _Field) -> _Dimension:
    if field.name == "topic":
        return None, [{field: _escape(topic.encode())}]
    found = _last_header(messages, field.header) if field.header else column(messages, field.name)
    encoded = found.dictionary_encode("encode")
    texts = [{field: _text(value)} for value in encoded.dictionary.to_pylist()]
    return (None if len(texts) == 1 else _codes(encoded)), texts


def _last_header(messages: pa.Table, name: str) -> pa.Array:
    head = headers(messages)
    named = pc.equal(head.names.array, name.encode()).to_numpy(zero_copy_only=False).nonzero()[0]
    last = np.full(len(messages), -1)
    # For a repeated row NumPy keeps the last assigned value.
    last[head.rows()[named]] = named
    return head.values.array.take(pa.array(last, mask=last < 0))


def _text(value: bytes | int | None) -> str:
    if value is None:
        return _NONE
    return _escape(value if isinstance(value, bytes) else str(value).encode())


def _escape(value: bytes, longest: int = _CUT) -> str:
    if not value:
        return _EMPTY
    text = _UNSAFE.sub(lambda match: b"%%%02X" % match[0][0], value).decode()
    if len(text) > longest:
        digest = hashlib.sha256(value).hexdigest()[:_HASH]
        return f"{_CUT_ESCAPE.sub('', text[:longest])}-{digest}"
    return text.replace("_", "%5F") if text in {_NONE, _EMPTY} else text


def _combine(dimensions: Sequence[_Dimension]) -> tuple[Positions | None, list[dict[_Field, str]]]:
    """Combine all dimensions into one with the combinations that occur."""
    codes: Positions | None = None
    groups: list[dict[_Field, str]] = [{}]
    for more, texts in dimensions:
        if more is None:
            groups = [group | texts[0] for group in groups]
            continue
        pairs = more if codes is None else codes * len(texts) + more
        distinct, codes = np.unique(pairs, return_inverse=True)
        groups = [groups[pair // len(texts)] | texts[pair % len(texts)] for pair in distinct.tolist()]
    return codes, groups


def _by_directory(directories: Sequence[str], codes: Positions | None) -> list[tuple[str, Positions | None]]:
    distinct = {directory: number for number, directory in enumerate(dict.fromkeys(directories))}
    if codes is None or len(distinct) == 1:
        return [(directories[0], None)]
    owners = np.array([distinct[directory] for directory in directories])[codes]
    order = np.argsort(owners, kind="stable")
    rows = np.split(order, np.cumsum(np.bincount(owners))[:-1])
    grouped = sorted(zip(distinct, rows, strict=True), key=lambda group: int(group[1][0]))
    return [*grouped]


def _codes(encoded: pa.DictionaryArray) -> Positions:
    return encoded.indices.to_numpy().astype(np.int64)


def _null_mask(array: pa.Array) -> npt.NDArray[np.bool_]:
    return pc.is_null(array).to_numpy(zero_copy_only=False)
