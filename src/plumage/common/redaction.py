"""Hide passwords and tokens in text, and find them.

`redacted` is for text that is printed, logged or published: it rather hides too much. `find_secret` is for changes of files that
would be recorded: it names what a line gives away.
"""

import math
import os
import re
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from urllib.parse import quote

from plumage.common.variables import environment_variables

HIDDEN = "***"
NAMES = (
    r"(?:pass(?:word|wd|phrase|code)|secret(?!ar)|token|signature|credential|api[_-]?key|access[_-]?key|private[_-]?key|"
    r"account[_-]?key|encryption[_-]?key|connection[_-]?string)"
)
"""What settings with a secret are called, in any case and with anything around it."""
SHORT_NAMES = r"(?:key|sig|sas|pwd|pass|auth|authorization|code|jwt|session)"
"""More names of parameters with a secret, in an address."""
FORMATS = (
    r"\bgh[opusr]_\w{20,}|\bgithub_pat_\w{20,}|\bglpat-[\w-]{16,}|\bhf_[A-Za-z0-9]{20,}|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|"
    r"\bxox[a-z]-[\w-]{10,}|\bsk-[\w-]{20,}|\bAIza[\w-]{30,}|\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*|\bpypi-[\w-]{20,}|"
    r"\bnpm_[A-Za-z0-9]{30,}|\bKGAT_\w{20,}|\bdapi[0-9a-f]{32}"
)
"""Tokens that show by their form whose they are: GitHub, GitLab, Hugging Face, AWS, Slack, Google, PyPI, Kaggle, JWT, ..."""
WORD, LONG = r"[\w.-]{0,64}", r"{1,2048}"
"""The rest of a name, and the length of a value: bounded, or hostile text would take minutes."""
PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----(?:[^-]*-----END [A-Z0-9 ]{0,40}PRIVATE KEY-----)?"
)
HIDING: tuple[tuple[re.Pattern[str], str], ...] = (
    (PRIVATE_KEY, HIDDEN),
    # User and password before the host. A password may hold any sign, also one that should have been quoted.
    (re.compile(r"(\w://)(?:[^\s/:?#]{0,2048}:(?!\d*[/?#\s])\S{0,2048}|[^\s/?#]{0,2048})@"), rf"\1{HIDDEN}@"),
    (
        re.compile(rf"(?:(?<![\w/.+-])|(?<=//)|(?<=:/))(?!mailto:)[\w.+-]{LONG}:[^\s@/]{LONG}@(?=[\w.\[-])"),
        f"{HIDDEN}@",
    ),  # Git's user:token@host:path, and an address with a mistyped scheme
    (re.compile(rf"([?&;#]{WORD}(?:{NAMES}|{SHORT_NAMES}){WORD}=)[^\s&;'\"]+", re.IGNORECASE), rf"\1{HIDDEN}"),
    (
        re.compile(r"\b((?:proxy-)?authorization|(?:set-)?cookie)(['\"]?\s{0,9}[:=]).*", re.IGNORECASE),
        rf"\1\2 {HIDDEN}",
    ),
    (re.compile(r"\b(basic|bearer)\s+(?!auth|realm|token|scheme|user)[\w+/=.~-]{8,}", re.IGNORECASE), rf"\1 {HIDDEN}"),
    (
        re.compile(
            rf"({NAMES}{WORD}['\"]?\s{{0,9}}(?:=|:(?=\s{{0,9}}\S{{6}})(?=\s{{0,9}}\S{{0,99}}\d))\s{{0,9}})"
            r"(?:\"[^\"\n]*\"|'[^'\n]*'|[^\s,;&'\"]+)",
            re.IGNORECASE,
        ),
        rf"\1{HIDDEN}",
    ),
    (re.compile(rf"(\s--?{WORD}{NAMES}{WORD}\s{{1,9}})[^\s-]\S*", re.IGNORECASE), rf"\1{HIDDEN}"),
    (
        re.compile(
            r"(\bcurl\b.{0,200}\s(?:-u|--user)[\s=]{1,9}[^\s:]{1,200}:|\b(?:login\s{1,9}\S{1,200}\s{1,9})password\s{1,9})\S+",
            re.IGNORECASE,
        ),
        rf"\1{HIDDEN}",
    ),  # an option of curl, and a line of a netrc file
    (re.compile(FORMATS), HIDDEN),
)
"""What `redacted` replaces, in this order, before the queries of addresses."""
QUERY = re.compile(r"(\w://[^\s?#]{0,2048}[?#])(\S+)")
HARMLESS = re.compile(rf"(?!.*(?:{NAMES}|{SHORT_NAMES}))[\w.-]+=(?:\w{{0,4}}|false|download)", re.IGNORECASE)
"""Parameters that hold no secret: `download=1`, `raw=true`."""
ENDING = "'\"),.;:]}"
"""Signs after an address that rather belong to the sentence."""
ENVIRONMENT = (
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "SECRET",
    "TOKEN",
    "_KEY",
    "APIKEY",
    "_PWD",
    "CREDENTIALS",
    "CONNECTION_STRING",
)
"""Ends of the names of environment variables with a secret."""
MIN_LENGTH = 8
"""Shorter values of such variables are not looked for: they are words, too."""

PLACEHOLDER = re.compile(
    r"[<{$%*].*|\W*|(?-i:[A-Z_]+)|(?:none|null|true|false|x+|changeme|secret|password|str|bytes)\b.*", re.IGNORECASE
)
"""What stands for a secret in code and examples."""
ASSIGNED = re.compile(
    rf"(?:{NAMES}{WORD}|\bpwd|\bpass)['\"]?\]?\s{{0,9}}[:=]\s{{0,9}}(?:\"([^\"\s]+ ?[^\"\s]*)\"|'([^'\s]+ ?[^'\s]*)')",
    re.IGNORECASE,
)
SETTING = re.compile(
    rf"^\W{{0,99}}(?:export\s+)?(?:{WORD}{NAMES}{WORD}|(?:{WORD}[_.-])?(?:pwd|pass|(?:key|sig|sas|auth)(?=\W{{1,9}}\S{{0,999}}\d)))"
    r"\s{0,9}(?::|=(?!=))\s*([^\s'\"]\S{3,})\s*$",
    re.IGNORECASE,
)
FLAG = re.compile(
    rf"\s--?{WORD}{NAMES}{WORD}(?:=|\s{{1,9}})(\S+)|\bcurl\b.{{0,200}}\s(?:-u|--user)[\s=]{{1,9}}[^\s:]{{1,200}}:(\S+)|"
    r"\blogin\s{1,9}\S{1,200}\s{1,9}password\s{1,9}(\S+)",
    re.IGNORECASE,
)
"""An option of a command, or a line of a netrc file."""
PARAMETER = re.compile(rf"[?&;#](?:{WORD}{NAMES}{WORD}|{SHORT_NAMES})=([^\s&;'\"]+)", re.IGNORECASE)
LOGIN = re.compile(
    rf"\w://[^\s/:@?#]{{0,2048}}:(?!\d*[/?#\s'\"])([^\s@]{LONG})@|https?://([^\s/:@?#]{{8,2048}})@|"
    rf"(?<![\w/.:+-])(?!mailto:)[\w.+-]{LONG}:([^\s@/:]{LONG})@[\w.-]{LONG}:"
)
"""A password or token before a host, also in Git's `user:token@host:path`."""
HEADER = re.compile(
    r"\bauthorization\W{1,6}\w{1,40}\s{1,9}([\w+/=.~-]{4,})|\b(?:bearer|basic)\s{1,9}([\w+/=.~-]{8,})|"
    r"\bcookie\W{1,4}[\w-]{1,64}=([^\s;]{4,})",
    re.IGNORECASE,
)
VALUE = re.compile(r"[A-Za-z0-9+/_-]{20,}={0,2}")
HASH = re.compile(
    r"(?:md5|sha-?\d+|hash|digest|checksum|etag|commit|integrity|rev|revision|oid|index)\W{0,6}$", re.IGNORECASE
)
"""What stands before a value that is a hash, not a secret."""
COMMON_PAIR = re.compile(
    r"a[bcdilmnprst]|b[ail]|c[aehklot]|d[aei]|e[acdeflmnprstx]|f[fio]|g[er]|h[aeo]|i[acdeglmnostz]|ke|"
    r"l[aeilot]|m[aeimop]|n[acdegiost]|o[cdlmnprstuw]|p[aelor]|r[aceimost]|s[cehiopstu]|t[aehiorsy]|u[lnrst]|v[eio]",
    re.IGNORECASE,
)
"""The pairs of letters that are most common in the names of Python packages' code: three in four of all pairs there."""


def redacted(text: str) -> str:
    """`text` without passwords, tokens, signatures, what follows `?` in addresses, and the secrets in this environment."""
    for value in _environment_secrets():
        text = text.replace(value, HIDDEN)
    for pattern, replacement in HIDING:
        text = pattern.sub(replacement, text)
    return QUERY.sub(_without_values, text)


def _without_values(match: re.Match[str]) -> str:
    """An address with the values of its parameters hidden, but for harmless ones."""
    address, query = match[1], match[2].rstrip(ENDING)
    if address.endswith("#") and "=" not in query:
        return match[0]
    rest = match[2][len(query) :]
    return address + re.sub(r"[^&;]+", lambda part: _without_value(part[0]), query) + rest


def _without_value(parameter: str) -> str:
    if HARMLESS.fullmatch(parameter):
        return parameter
    name, equals, _ = parameter.partition("=")
    return f"{name}={HIDDEN}" if equals else HIDDEN


def find_secret(line: str, is_code: bool = False) -> str | None:
    """What kind of secret a line of a file seems to hold; None if none. `is_code`: unquoted values are expressions."""
    if PRIVATE_KEY.search(line):
        return "a private key"
    if re.search(FORMATS, line) or any(value in line for value in _environment_secrets()):
        return "a token"
    patterns = {
        "a login": LOGIN,
        "a token in an address": PARAMETER,
        "a header with a login": HEADER,
        "an option with a secret": FLAG,
        "a password or token": ASSIGNED,
    }
    if not is_code:
        patterns["a setting with a secret"] = SETTING
    for what, pattern in patterns.items():
        values = ("".join(filter(None, match.groups())) for match in pattern.finditer(line))
        if any(not PLACEHOLDER.fullmatch(value) for value in values):
            return what
    return (
        "a random value"
        if any(_is_random(match[0], line[max(0, match.start() - 40) : match.start()]) for match in VALUE.finditer(line))
        else None
    )


def _environment_secrets() -> list[str]:
    """The values of environment variables whose names say that they are secret, also as they are quoted in an address."""
    values = {
        value
        for name, value in environment_variables(lambda name: name.upper().endswith(ENVIRONMENT)).items()
        if len(value) >= MIN_LENGTH and not os.path.exists(value)  # noqa: PTH110  # any text
    }
    return sorted(values | {quote(value, safe="") for value in values}, key=len, reverse=True)


def _is_random(value: str, before: str) -> bool:
    """Whether `value`, of 20 letters and digits or more, looks drawn at random and is no hash, as the text `before` it tells.

    Random text changes between upper case, lower case and digits about every other character, and names do not; one in five
    of its pairs of letters is common in names, of a name's most are. Its characters have over 3.5 bits of entropy (3 for
    hexadecimal digits).
    """
    if HASH.search(before):
        return False
    kinds = [_kind(character) for character in value if character.isalnum()]
    changes = sum(one != other for one, other in pairwise(kinds)) / len(kinds) if kinds else 0.0
    entropy = -sum(count / len(value) * math.log2(count / len(value)) for count in Counter(value).values())
    if {"upper", "lower"} <= set(kinds):
        return entropy > 3.5 and (("digit" in kinds and changes > 0.4) or _common_pairs(value) < 0.4)
    return len(set(kinds)) == 2 and len(value) >= 24 and kinds.count("digit") > 2 and changes > 0.15 and entropy > 3.0


def _common_pairs(value: str) -> float:
    """How many of the pairs of letters in `value` are common in names, as a share; one that starts a camelCase word is not."""
    pairs = [one + other for one, other in pairwise(value) if one.isalpha() and other.isalpha()]
    common = sum(bool(COMMON_PAIR.match(pair)) and not (pair[0].islower() and pair[1].isupper()) for pair in pairs)
    return common / max(len(pairs), 1)


def _kind(character: str) -> str:
    kinds: dict[str, Callable[[str], bool]] = {"upper": str.isupper, "lower": str.islower}
    return next((name for name, fits in kinds.items() if fits(character)), "digit")
