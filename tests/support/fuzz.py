"""Messages that nobody should send, the same for the same seed, and good ones to lie between them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import strategies as st

from fraudstream.schema import FIELD_NAMES

# A script that ran would set this on the page's window.
MARKER = "hostileRan"
RUN = f"window.{MARKER}=1"

HOSTILE_TEXTS = (
    # SQL
    "'; DROP TABLE clean_data; --",
    "Robert'); DELETE FROM dead_letters; --",
    "1 OR 1=1",
    '" OR ""="',
    "' UNION SELECT User, authentication_string FROM mysql.user -- ",
    "\\'; DROP TABLE alerts; #",
    "x\\",
    "%s %(name)s :name ? {0} ${1}",
    "/*!50000 DROP TABLE alerts */",
    # HTML and scripts
    f"<script>{RUN}</script>",
    f"<img src=x onerror={RUN}>",
    f'"><svg onload={RUN}>',
    f"'><body onload={RUN}>",
    f"</td></table><script>{RUN}</script>",
    f"</title></style></textarea><script>{RUN}</script>",
    "<iframe src=//injected.example.org></iframe>",
    "<a href='https://injected.example.org'>here</a>",
    f"javascript:{RUN}",
    "<b>bold</b><br><!--",
    "&lt;script&gt;&#60;b&#62;&amp;",
    "]]>",
    # Markdown, as Streamlit would read it
    f"[here](javascript:{RUN})",
    "![x](https://injected.example.org/x.png)",
    ":red[x] :material/delete: **bold** # Title",
    "https://injected.example.org/x",
    # spreadsheet formulas
    '=HYPERLINK("https://injected.example.org","here")',
    "=cmd|' /C calc'!A0",
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "+1+1",
    "-2+3+cmd|' /C calc'!A0",
    # templates, LaTeX, shells, paths
    "{{ 7*7 }}{% for x in [1] %}{{ x }}{% endfor %}",
    "{{ self.__init__.__globals__ }}",
    "${7*7}#{7*7}<%= 7*7 %>",
    r"$\int_0^1$ \input{/etc/passwd} \write18{id}",
    "`id` $(id) | id; id && id",
    "../../../../etc/passwd",
    # mail headers
    "x\r\nBcc: injected@example.org",
    "x\nSubject: injected\n\ninjected body",
    "x\r\nContent-Type: text/html\r\n\r\n<b>injected</b>",
    "=?utf-8?q?=0d=0aBcc:_injected@example.org?=",
    "injected@example.org, y",
    "%0d%0aBcc:injected@example.org",
    "x\r\n.\r\nMAIL FROM:<injected@example.org>",
    # characters that act on what is around them
    "\x1b[31mred\x07",
    "\u202egnp.exe",
    "a\x00b",
    "\ufeffx\u200b",
    "a\u2028b\u2029c\x85d",
    "Z\u0334\u0321a\u0335l\u0337g\u0336o\u0338",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467",
    # words that a reader may take for a value
    "NULL",
    "None",
    "undefined",
    "true",
    "NaN",
    "0",
    "__proto__",
)


@dataclass(frozen=True)
class Message:
    """One record to send."""

    key: bytes | None
    value: bytes | None


def good_messages(count: int, now: datetime) -> list[Message]:
    """Usual transactions `good-0`, `good-1`, …; `now` is in UTC."""
    messages = []
    for number in range(count):
        user = f"user-{number % 97}"
        fields = {
            "TransactionID": f"good-{number}",
            "UserID": user,
            "Amount": f"{number % 1_500}.{number % 100:02}",
            "Location": ("Cairo", "Giza", None)[number % 3],
            "Time": f"{now - timedelta(seconds=number):%Y-%m-%d %H:%M:%S}",
            "Device": ("iOS", "Web")[number % 2],
            "Merchant": ("Amazon", "Noon", "A new one")[number % 3],
        }
        messages.append(Message(user.encode(), json.dumps(fields).encode()))
    return messages


def hostile_messages(now: datetime) -> list[Message]:
    """A flagged, usable transaction for each hostile text, which stands in every field that may hold it.

    They are the newest of all, so that a page shows them first; each has a user of its own.
    """
    messages = []
    for number, text in enumerate(HOSTILE_TEXTS):
        name = text[:50]
        fields = {
            "TransactionID": f"{name} {number}",
            "UserID": f"{name} {number}",
            "Amount": 9_000 + number,
            "Location": f"{text} {number}",
            "Time": f"{now + timedelta(hours=12, seconds=number):%Y-%m-%d %H:%M:%S}",
            "Device": f"{text} {number}",
            "Merchant": f"{text} {number}",
        }
        messages.append(Message(f"{name} {number}".encode(), json.dumps(fields).encode()))
    return messages


def fuzzed_messages(count: int, seed: int, now: datetime) -> list[Message]:
    """`count` messages of every kind of damage, by far not all of them unusable."""
    fuzz = _Fuzz(random.Random(seed), now, _values(seed))
    kinds = [kind for kind, weight in _KINDS.items() for _ in range(weight)]
    chosen = fuzz.chance.choices(kinds, k=count)
    # Dear ones, in a number that is known beforehand.
    for number in range(count // 500):
        chosen[number] = _RARE[number % len(_RARE)]
    fuzz.chance.shuffle(chosen)
    return [Message(_key(fuzz), kind(fuzz)) for kind in chosen]


def huge_messages(count: int) -> list[Message]:
    """Messages of a megabyte each, and of two where a statement holds it with its quotes escaped."""
    return [Message(f"user-{number}".encode(), b'"' * 1_000_000) for number in range(count)]


@dataclass
class _Values:
    """What hypothesis thinks of as a text, a JSON value, bytes."""

    texts: list[str] = field(default_factory=list)
    documents: list[Any] = field(default_factory=list)
    binaries: list[bytes] = field(default_factory=list)


def _values(seed: int) -> _Values:
    values = _Values()
    scalars = (
        st.none() | st.booleans() | st.floats() | st.text(max_size=20)
        | st.integers(min_value=-(10**40), max_value=10**40)
    )  # fmt: skip
    documents = st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner)
    )

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=400, database=None, phases=[Phase.generate], deadline=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.text(max_size=70), documents, scalars, st.binary(max_size=200))
    def collect(text: str, document: Any, scalar: Any, binary: bytes) -> None:
        values.texts.append(text)
        values.documents += [document, scalar]
        values.binaries.append(binary)

    collect()
    return values


@dataclass
class _Fuzz:
    chance: random.Random
    now: datetime
    values: _Values
    made: int = 0

    def fields(self, **changed: Any) -> dict[str, Any]:
        """A usable transaction with an id of its own."""
        self.made += 1
        usual = {
            "TransactionID": f"fuzz-{self.made}",
            "UserID": f"U{self.chance.randrange(500)}",
            "Amount": f"{self.chance.randrange(300_000) / 100:.2f}",
            "Location": self.chance.choice(("Cairo", "giza", " Luxor ", None, "Elsewhere")),
            "Time": f"{self.now - timedelta(seconds=self.chance.randrange(10**6)):%Y-%m-%d %H:%M:%S}",
            "Device": self.chance.choice(("iOS", "ANDROID", "")),
            "Merchant": self.chance.choice(("Amazon", "local store", "A  new\tone")),
        }
        return {**usual, **changed}

    def message(self, **changed: Any) -> bytes:
        ascii_only = self.chance.random() < 0.5
        return json.dumps(self.fields(**changed), ensure_ascii=ascii_only).encode(errors="surrogatepass")

    def written(self, **texts: str) -> bytes:
        """A usable transaction with some values replaced by other JSON texts."""
        pairs = {name: json.dumps(value) for name, value in self.fields().items()} | texts
        return _object(pairs.items())

    def field(self) -> str:
        return self.chance.choice(FIELD_NAMES)

    def hostile(self) -> str:
        return self.chance.choice(HOSTILE_TEXTS)


def _object(pairs: Any) -> bytes:
    return ("{" + ", ".join(f'"{name}": {text}' for name, text in pairs) + "}").encode(errors="surrogatepass")


def _key(fuzz: _Fuzz) -> bytes:
    return fuzz.chance.choice(
        (b"user-1", b"", b"\x00", b"\xff\xfe", b"k" * 10_000, fuzz.hostile().encode(),
         fuzz.chance.choice(fuzz.values.binaries))
    )  # fmt: skip


def _damaged(fuzz: _Fuzz) -> bytes:
    """A few bytes of a usable message replaced, deleted, inserted, repeated, or with a bit turned."""
    value, chance = bytearray(fuzz.message()), fuzz.chance
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(value))
        match chance.randrange(5):
            case 0:
                value[place] = chance.choice(_TELLING_BYTES)
            case 1:
                del value[place]
            case 2:
                value.insert(place, chance.choice(_TELLING_BYTES))
            case 3:
                value[place] ^= 1 << chance.randrange(8)
            case 4:
                value[place:place] = value[place : place + chance.randrange(30)]
    return bytes(value)


_TELLING_BYTES = b'"{}[],:\\ 0123e-+.tnu/\x00\x1f\x7f\xc3\xed\xa0\xff\xef\xf4\x80'


def _cut_off(fuzz: _Fuzz) -> bytes:
    value = fuzz.message()
    return value[: fuzz.chance.randrange(len(value))]


def _spliced(fuzz: _Fuzz) -> bytes:
    """The beginning of one message and the end of another, or two in one."""
    first, second = fuzz.message(), fuzz.message()
    if fuzz.chance.random() < 0.3:
        return first + fuzz.chance.choice((b"", b"\n", b",", b" ", b"\x00")) + second
    return first[: fuzz.chance.randrange(len(first))] + second[fuzz.chance.randrange(len(second)) :]


def _any_value(fuzz: _Fuzz) -> bytes:
    """Any JSON value, and NaN or Infinity where hypothesis likes them, in one of the fields."""
    return fuzz.message(**{fuzz.field(): fuzz.chance.choice(fuzz.values.documents)})


def _any_text(fuzz: _Fuzz) -> bytes:
    return fuzz.message(**{fuzz.field(): fuzz.chance.choice(fuzz.values.texts)})


def _any_document(fuzz: _Fuzz) -> bytes:
    return json.dumps(fuzz.chance.choice(fuzz.values.documents)).encode()


def _any_bytes(fuzz: _Fuzz) -> bytes:
    return fuzz.chance.choice(fuzz.values.binaries)


def _hostile(fuzz: _Fuzz) -> bytes:
    """Usable, where the text has room: the store must keep it as it is."""
    name, text = fuzz.field(), fuzz.hostile()
    if name == "TransactionID":
        text = f"{text[:50]} {fuzz.made}"
    return fuzz.message(**{name: text})


def _odd_encoding(fuzz: _Fuzz) -> bytes:
    value, chance = fuzz.message(), fuzz.chance
    odd = chance.choice(
        (b"\xed\xa0\x80", b"\xed\xb0\x80", b"\xed\xa0\xbd\xed\xb8\x80", b"\xc0\x80", b"\xc1\xbf",
         b"\xe0\x80\xaf",
         b"\xf0\x80\x80\x80", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\x80", b"\xc3", b"\xe2\x82",
         b"\x00",
         rb"\ud800", rb"\udfff\ud800", rb"\ud83d\ude00", rb"\uD83D", rb"\u00", rb"\x41", rb"\u0000",
         b"\xef\xbb\xbf",
         "\U0001f600".encode(), "\U0010ffff".encode(), "\ufffe".encode())
    )  # fmt: skip
    match chance.randrange(6):
        case 0:
            return b"\xef\xbb\xbf" + value
        case 1:
            return value.decode(errors="replace").encode(
                chance.choice(("utf-16", "utf-16-le", "utf-32", "utf-8-sig"))
            )
        case _:
            quotes = [place for place, byte in enumerate(value) if byte == ord('"')]
            place = chance.choice(quotes) + 1
            return value[:place] + odd + value[place:]


def _odd_number(fuzz: _Fuzz) -> bytes:
    number = fuzz.chance.choice(
        ("1e400", "-1e400", "1e-400", "1e1000", "1E+99", "0e999", "-0", "-0.0", "-0e9", "NaN", "Infinity",
         "-Infinity",
         "1e5", "1.0E2", "0.005", "2000.005", "00", "01", "+1", ".5", "1.", "0x10", "1_000",
         "9223372036854775807",
         "9223372036854775808", "-9223372036854775809", "18446744073709551616",
         "340282366920938463463374607431768211456",
         "999999999999.99", "999999999999.994", "999999999999.995", "1" * 38, "1" * 39, "1" * 64, "1" * 65,
         "9" * 900, "9" * 1_001, "9" * 10_000, "0." + "9" * 62, "0." + "0" * 400 + "1", "1e" + "9" * 40)
    )  # fmt: skip
    name = fuzz.chance.choice((*FIELD_NAMES, "Amount", "Amount", "Amount", "Unknown"))
    return fuzz.written(**{name: number if fuzz.chance.random() < 0.6 else f'"{number}"'})


def _odd_amount(fuzz: _Fuzz) -> bytes:
    chance = fuzz.chance
    return fuzz.message(
        Amount="".join(
            chance.choices(
                "0123456789,.'_ eE+-\u00a0\u202f$\u0661", [*[4] * 10, *[1] * 13], k=chance.randint(1, 14)
            )
        )
    )


def _repeated_key(fuzz: _Fuzz) -> bytes:
    name = fuzz.field()
    again = name if fuzz.chance.random() < 0.7 else _escaped(name, fuzz)
    return fuzz.message()[:-1] + f', "{again}": {json.dumps(fuzz.fields()[name])}}}'.encode()


def _escaped_key(fuzz: _Fuzz) -> bytes:
    """A key that is written with escapes is the same key, whatever its value."""
    chosen = fuzz.field()
    value = fuzz.chance.choice(
        ('"2025-01-01 10:20:30"', "17", "0.10", "1e2", "true", "null", '"x"', "{}", "1E400")
    )
    pairs = {name: json.dumps(value) for name, value in fuzz.fields().items() if name != chosen}
    return _object({**pairs, _escaped(chosen, fuzz): value}.items())


def _escaped(name: str, fuzz: _Fuzz) -> str:
    place = fuzz.chance.randrange(len(name))
    code = f"{ord(name[place]):04x}"
    return f"{name[:place]}\\u{code if fuzz.chance.random() < 0.5 else code.upper()}{name[place + 1 :]}"


def _left_out(fuzz: _Fuzz) -> bytes:
    chance = fuzz.chance
    kept = {name: value for name, value in fuzz.fields().items() if chance.random() < 0.8}
    return json.dumps(kept).encode()


def _renamed(fuzz: _Fuzz) -> bytes:
    name = fuzz.field()
    other = fuzz.chance.choice(
        (name.lower(), name.upper(), f"{name} ", f" {name}", f"{name}\x00", "", fuzz.hostile())
    )
    return json.dumps(
        {(other if key == name else key): value for key, value in fuzz.fields().items()}
    ).encode()


def _odd_time(fuzz: _Fuzz) -> bytes:
    return fuzz.message(Time=_time_text(fuzz.chance))


def _time_text(chance: random.Random) -> str:
    """A date from the year 0 to 9999, in one of many forms; some days and hours do not exist."""
    mark, gap = chance.choice("---/."), chance.choice("  TTt_")
    year = chance.choice(
        (chance.randint(0, 9999), chance.randint(1998, 2030), 1, 1582, 1900, 2000, 2024, 9999)
    )
    month, day = chance.randint(0, 13), chance.choice((chance.randint(1, 28), chance.randint(0, 32), 29, 31))
    hour = chance.choice((chance.randint(0, 23), 0, 23, 24, 25))
    clock = f"{hour:02}:{chance.choice((0, 30, 59, 60)):02}"
    seconds = chance.choice(("", ":00", ":59", ":60", ":5", ":30"))
    fraction = chance.choice(("", "", "", ".5", ",123456789", ".", ".1234567890"))
    offset = chance.choice(("", "", "", "Z", "z", " Z", "+02:00", "-0330", "+18:00", "-18", "+18:01",
    "+99:99",
                            " Africa/Cairo", "+02:0", "−02:00", "+05:60"))  # fmt: skip
    forms = (
        f"{year:04}{mark}{month:02}{mark}{day:02}{gap}{clock}{seconds}{fraction}{offset}",
        f"{year:04}{mark}{month:02}{mark}{day:02}",
        f"{year}-{month}-{day} {clock}",
        f"{day:02}/{month:02}/{year:04} {clock}{seconds}",
        f"{year:04}{month:02}{day:02}T{clock.replace(':', '')}",
        f"{year:05}-{month:02}-{day:02} {clock}",
        f"-{year:04}-{month:02}-{day:02} {clock}",
        f"{year:04}-W{month:02}-{day % 7} {clock}",
        clock + seconds,
        str(year * 10_000_000),
        chance.choice(("now", "today", "epoch", "infinity", "yesterday", "2025-01-01 10:20:30 AM",
        "１９９９-01-01 00:00:00")),
    )  # fmt: skip
    return chance.choices(forms, [30, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1])[0]


def _nothing(fuzz: _Fuzz) -> bytes | None:
    return fuzz.chance.choice((None, None, b"", b" ", b"null", b"{}", b"[]", b'""', b"0", b"\x00"))


def _again(fuzz: _Fuzz) -> bytes:
    """An id that another of these messages has, too: equal in all values, or not."""
    transaction_id = f"again-{fuzz.chance.randrange(50)}"
    changed = {} if fuzz.chance.random() < 0.5 else {"Amount": fuzz.chance.randrange(3)}
    usual = {
        "UserID": "U1",
        "Amount": 1,
        "Time": "2025-01-01 00:00:00",
        "Location": None,
        "Device": "x",
        "Merchant": "y",
    }
    return fuzz.message(TransactionID=transaction_id, **{**usual, **changed})


def _deep(fuzz: _Fuzz) -> bytes:
    opening, closing = fuzz.chance.choice((("[", "]"), ('{"a":', "}")))
    nested = opening * 10_000 + "1" + (closing * 10_000 if fuzz.chance.random() < 0.7 else "")
    return nested.encode() if fuzz.chance.random() < 0.5 else fuzz.written(**{fuzz.field(): nested})


def _nearly_too_long(fuzz: _Fuzz) -> bytes:
    """Just short enough to be read: escapes, brackets, keys, digits or white space by the ten thousand."""
    filling = fuzz.chance.choice(
        ('"' + r"\n" * 32_000 + '"', '"' + r"\u0041" * 10_000 + '"', '"' + r"\"" * 32_000,
         " " * 64_000 + "1", "9" * 64_000,
         '"' + "x" * 64_000 + '"', '"' + " " * 64_000 + '"', "[" * 64_000, '"' + "1 " * 30_000 + '"',
         "1," * 30_000,
         '"' + "é" * 32_000 + '"', '1, "a": 1' * 6_000, ", ".join(f'"k{n}": 1' for n in range(5_000))[5:])
    )  # fmt: skip
    name = fuzz.chance.choice((*FIELD_NAMES, "Unknown"))
    return fuzz.written(**{name: filling})


def _huge(fuzz: _Fuzz) -> bytes:
    """About the most that a Kafka record may have: a megabyte in one text, number or row of brackets."""
    filling = fuzz.chance.choice(("x", "9", "[", "\\n", "é", "'", "\x00"))
    return fuzz.written(**{fuzz.field(): '"' + filling * (1_000_000 // len(filling.encode())) + '"'})


def _digits(fuzz: _Fuzz) -> bytes:
    return fuzz.written(Amount="9" * 100_000)


_KINDS: dict[Callable[[_Fuzz], bytes | None], int] = {
    _damaged: 25, _cut_off: 5, _spliced: 5, _any_value: 10, _any_text: 6, _any_document: 4, _any_bytes: 4,
    _hostile: 10,
    _odd_encoding: 6, _odd_number: 6, _odd_amount: 5, _repeated_key: 3, _escaped_key: 3, _left_out: 3,
    _renamed: 2,
    _odd_time: 10, _nothing: 2, _again: 2,
}  # fmt: skip
_RARE: Sequence[Callable[[_Fuzz], bytes]] = (_deep, _huge, _nearly_too_long, _deep, _nearly_too_long, _digits)


def utc_now() -> datetime:
    """Now, in whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)
