"""Leave out of a diff the files that may hold a secret: by their names, or by a line of theirs.

A line at the start of the diff, which `git apply` passes over, names each file and why it is left out.
"""

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from plumage.common import git
from plumage.common.redaction import find_secret
from plumage.common.text import escaped

SECRET_FILES = (
    ".env", ".env.*", "*.env", "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx", "*.ppk", "*.asc", "*.ovpn",
    "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", ".netrc", "_netrc", ".pgpass", ".my.cnf", ".pypirc", ".npmrc",
    "pip.conf", ".htpasswd", ".git-credentials", ".dockercfg", ".s3cfg", ".boto", "rclone.conf", "kaggle.json", ".vault-token",
    "credentials", "credentials.*", "secret", "secrets", "secret.*", "secrets.*", "client_secret*", "service*account*.json",
    "*.tfvars", "*.tfstate", "config.local",
)  # fmt: skip
"""Names, in lower case, of files that hold secrets. `config.local` is DVC's, of a remote."""
SECRET_FOLDERS = frozenset({".ssh", ".aws", ".gnupg", ".azure", ".docker", ".kube", "secrets"})
CODE_SUFFIXES = frozenset({".py", ".pyi", ".c", ".h", ".cpp", ".js", ".ts", ".sh", ".ipynb", ".md", ".rst"})
SECTION = re.compile(rb"^(?=diff --git )", re.MULTILINE)
HEADING = re.compile(r"^@@ .*? @@ ?")
"""What stands in a hunk's first line before a line of the file that Git takes for a heading."""
LEFT_OUT = re.compile(r"^# (.*) is left out: (.*)$", re.MULTILINE)


def without_secrets(diff: bytes, folder: Path) -> bytes:
    """The diff of files in the Git repository around `folder`, without those that may hold a secret, which it names."""
    start, *sections = SECTION.split(diff)
    kept, notes = [start], []
    for section in sections:
        name = _name(section)
        if reason := _reason(name, section, folder):
            notes.append(f"# {escaped(name)} is left out: {reason}\n")
        else:
            kept.append(section)
    return "".join(notes).encode() + b"".join(kept)


def left_out(diff: bytes) -> dict[str, str]:
    """The files that `without_secrets` left out of a diff, and why."""
    start = SECTION.split(diff)[0]
    return dict(LEFT_OUT.findall(start.decode("utf-8", "replace")))


def _reason(name: str, section: bytes, folder: Path) -> str | None:
    path = PurePosixPath(name)
    is_code = path.suffix.lower() in CODE_SUFFIXES
    known = any(fnmatchcase(path.name.lower(), pattern) for pattern in SECRET_FILES)
    if not is_code and (known or SECRET_FOLDERS.intersection(path.parts[:-1])):
        return "files of this name hold secrets"
    for line in _lines(name, section, folder):
        if what := find_secret(line, is_code):
            return f"a line looks like {what}"
    return None


def _lines(name: str, section: bytes, folder: Path) -> Iterator[str]:
    """The lines that a file's section would show: added, removed or near a change. Of a binary file, all there are now and were."""
    _, start, hunks = section.partition(b"\n@@ ")
    if start:
        for line in f"@@ {hunks.decode('utf-8', 'replace')}".split("\n"):
            yield HEADING.sub("", line) if line.startswith("@@") else line[1:]
    elif b"\nGIT binary patch\n" in section:  # compressed; UTF-16 is binary to Git
        for content in (_now(folder / name), git.committed(folder, name)):
            yield from content.replace(b"\0", b"").decode("latin-1").splitlines()


def _now(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def _name(section: bytes) -> str:
    """The path in `diff --git a/PATH b/PATH`, which Git quotes as in C if it has special characters."""
    line = section[len(b"diff --git ") :].partition(b"\n")[0]
    half = line[: (len(line) - 1) // 2]  # nothing is renamed: both are the same
    if half.startswith(b'"'):
        half = half[1:-1].decode("unicode_escape").encode("latin-1")
    return half.removeprefix(b"a/").decode("utf-8", "replace")
