"""What we write into a browser's jar: the session cookie, its hint, and old copies that go.

Lines of Set-Cookie and nothing else; when one may be written is answers.py's. Browsers delete by
name, Domain and Path together, so a copy is cleared exactly as the settings say it was set. Copies
of our own cookie on a parent domain are found without the settings: there are only as many parents
as the host has labels.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Self

from migrator.settings import OldCookie, Settings

_LONGEST_S: Final = 400 * 86_400  # browsers cut longer lives down (RFC 6265bis section 5.5)
_BOUND_PREFIXES: Final = (b"__Host-", b"__Http-", b"__Host-Http-")
_GONE: Final = b"; Max-Age=0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Jar:
    """The cookies of one app; built once from its settings.

    `own` deletes the listed copies of the session cookie, `old` those of every other listed name;
    `legacy` are the names under which issuers' tokens come.
    """

    name: bytes
    attributes: bytes
    hint: bytes | None
    hint_attributes: bytes
    own: tuple[bytes, ...]
    old: Mapping[bytes, tuple[bytes, ...]]
    legacy: frozenset[bytes]
    gone: Callable[[bytes, bytes | None, bytes], bytes]

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The jar that the settings describe."""
        cookie = settings.cookie
        secure = b"Secure; " if cookie.secure else b""
        same_site = cookie.same_site.capitalize().encode()
        name = cookie.effective_name.encode()

        def gone(name: bytes, domain: bytes | None, path: bytes) -> bytes:
            where = b"" if domain is None else b"Domain=%b; " % domain
            return b"%b=; Path=%b; %b%bSameSite=%b%b" % (
                name,
                path,
                where,
                secure,
                same_site,
                _GONE,
            )

        def line(old: OldCookie) -> bytes:
            domain = None if old.domain is None else old.domain.encode()
            return gone(old.name.encode(), domain, old.path.encode())

        listed: dict[bytes, tuple[bytes, ...]] = {}
        for old in cookie.clear:
            key = old.name.encode()
            listed[key] = (*listed.get(key, ()), line(old))
        domain = b"" if cookie.hint_domain is None else cookie.hint_domain.encode()
        where = b"Domain=%b; " % domain if domain else b""
        return cls(
            name=name,
            attributes=b"; Path=/; %bHttpOnly; SameSite=%b" % (secure, same_site),
            hint=None if cookie.hint is None else cookie.hint.encode(),
            hint_attributes=b"; Path=/; %b%bSameSite=%b" % (where, secure, same_site),
            own=listed.pop(name, ()),
            old=listed,
            legacy=frozenset(
                place.cookie.encode()
                for issuer in settings.issuers
                for place in issuer.transport
                if place.cookie is not None
            ),
            gone=gone,
        )

    def session(self, token: bytes, lasts_s: float | None) -> list[bytes]:
        """The session cookie, and its hint where there is one. None: as long as the browser."""
        age = _age(lasts_s)
        return [b"%b=%b%b%b" % (self.name, token, self.attributes, age), *self.hinted(lasts_s)]

    def hinted(self, lasts_s: float | None) -> list[bytes]:
        """The hint alone: it says that there is a session, and nothing else."""
        if self.hint is None:
            return []
        return [b"%b=1%b%b" % (self.hint, self.hint_attributes, _age(lasts_s))]

    def hinted_as(self, line: bytes) -> list[bytes]:
        """The hint beside a session cookie that the app itself sets or clears by `line`."""
        if self.hint is None:
            return []
        if not given(line):
            return self.unhinted()
        lasts = [part.strip() for part in line.split(b";")[1:]]
        ages = [part for part in lasts if part.lower().startswith((b"max-age=", b"expires="))]
        return [b"; ".join([b"%b=1%b" % (self.hint, self.hint_attributes), *ages])]

    def unhinted(self) -> list[bytes]:
        """The hint's end."""
        if self.hint is None:
            return []
        return [b"%b=%b%b" % (self.hint, self.hint_attributes, _GONE)]

    def ended(self) -> list[bytes]:
        """The end of the session cookie."""
        return [b"%b=%b%b" % (self.name, self.attributes, _GONE)]

    def copies(self, host: bytes | None) -> list[bytes]:
        """The end of every other cookie under our name that could reach `host`.

        The host itself is left out of the guesses: RFC 6265 has a browser take a Domain cookie and
        a host-only one of the same host for one, and the latter is the cookie in use.
        """
        if self.name.startswith(_BOUND_PREFIXES):
            return list(self.own)  # a browser holds no other
        guesses = (self.gone(self.name, parent, b"/") for parent in _parents(host))
        return list(dict.fromkeys([*self.own, *guesses]))

    def leftovers(self, names: Iterable[bytes]) -> list[bytes]:
        """The end of the listed copies of `names`."""
        return [line for name in sorted(names) for line in self.old.get(name, ())]


def name_of(line: bytes) -> bytes:
    """The name that a Set-Cookie line is about."""
    return line.partition(b";")[0].partition(b"=")[0].strip()


def given(line: bytes) -> bool:
    """Whether a Set-Cookie line gives a value: frameworks delete with an empty one."""
    value = line.partition(b";")[0].partition(b"=")[2].strip()
    return value not in {b"", b'""'}


def _age(lasts_s: float | None) -> bytes:
    return b"" if lasts_s is None else b"; Max-Age=%d" % max(0, min(int(lasts_s), _LONGEST_S))


def _parents(host: bytes | None) -> list[bytes]:
    """The domains above `host`; public suffixes among them are the browser's to ignore."""
    name = (host or b"").lower().partition(b":")[0].rstrip(b".")
    labels = name.split(b".")
    is_name = all(label.replace(b"-", b"").isalnum() for label in labels)
    if not is_name or labels[-1].isdigit():  # an address has no parents
        return []
    return [b".".join(labels[at:]) for at in range(1, len(labels) - 1)][-_MOST_PARENTS:]


_MOST_PARENTS: Final = 4
