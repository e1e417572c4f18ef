"""From a `[[ledgers]]` table to what reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from migrator.control.ledgers import reading
from migrator.control.ledgers.callback import Callback
from migrator.control.ledgers.database import Database
from migrator.control.ledgers.keys import KeyList
from migrator.control.ledgers.poller import Poller
from migrator.control.ledgers.reading import SourceFailed
from migrator.control.ledgers.tables import TokenTable
from migrator.control.ledgers.users import UserTable
from migrator.stores.drivers import BlockingDriver
from migrator.stores.ledgers import Ledgers

if TYPE_CHECKING:
    from migrator.control.ledgers.callback import Asked
    from migrator.control.ledgers.reading import Source
    from migrator.core.interfaces import Cache
    from migrator.settings import Ledger, Settings

# No request waits for it; a page of a large ledger may take its time.
_BUDGET_S: Final = 15.0


def source_of(settings: Settings, ledger: Ledger, *, asked: Asked | None = None) -> Source:
    """What reads a ledger.

    Args:
        asked: the app's function, for a callback whose settings do not name it.

    Raises:
        SourceFailed: it cannot be read from here at all.
    """
    terms = reading.terms_of(settings, ledger)
    if ledger.kind == "users":
        database = Database(_database_url(settings, ledger))
        longest = reading.longest_of_realm(settings, terms.realm)
        return UserTable(ledger, database, terms, longest=longest)
    issuer = reading.issuer_of(settings, ledger)
    if ledger.kind == "callback":
        if asked is None and ledger.call is None:
            raise SourceFailed("only the app has its function")
        return Callback(ledger, issuer, terms, asked)
    if ledger.kind == "redis":
        return KeyList(ledger, issuer, _redis_url(settings, ledger), terms)
    return TokenTable(ledger, issuer, Database(_database_url(settings, ledger)), terms)


def _database_url(settings: Settings, ledger: Ledger) -> str:
    url = settings.database.url if ledger.url is None else ledger.url
    return url.get_secret_value()


def _redis_url(settings: Settings, ledger: Ledger) -> str:
    if ledger.url is not None:
        return ledger.url.get_secret_value()
    if settings.redis is None:
        raise SourceFailed("it has no url, and there is no [redis] either")
    return settings.redis.url.get_secret_value()


def poller_of(
    settings: Settings, ledger: Ledger, cache: Cache, *, asked: Asked | None = None
) -> Poller:
    """What has a ledger's turns, over a connection of its own.

    Raises:
        SourceFailed: it cannot be read from here at all.
    """
    source = source_of(settings, ledger, asked=asked)
    return Poller(ledger, source, ours(settings, cache))


def ours(settings: Settings, cache: Cache, *, rehearses: bool = False) -> Ledgers:
    """Our side of every ledger."""
    driver = BlockingDriver(settings.database.url.get_secret_value(), budget_s=_BUDGET_S, room=1)
    return Ledgers(driver, settings.database.schema, cache, rehearses=rehearses)
