"""The keys that bridge JWTs are signed with: private keys and secrets, prepared once.

What verifies is keys.py's. A key that signs is never printed, and none leaves this process.
"""

from collections.abc import Collection
from typing import Final

from jwt.algorithms import get_default_algorithms
from jwt.exceptions import PyJWTError

from migrator.core.bridge import Signer
from migrator.core.errors import BadSettings, Problem
from migrator.stores.keyforms import KeySource

_ALGORITHMS: Final = get_default_algorithms()
_DO: Final = "give a private key in PEM, or a secret, that fits one of the issuer's algorithms"


def signer(source: KeySource, algorithms: Collection[str]) -> Signer:
    """The signer that `source` makes, for its own algorithm or the issuer's first that fits.

    Raises:
        BadSettings: it signs nothing.
    """
    for alg in (source.alg,) if source.alg else tuple(algorithms):
        is_secret = alg.startswith("HS")
        if is_secret != (source.form == "secret"):
            continue
        try:
            material = _ALGORITHMS[alg].prepare_key(source.value)
            _ALGORITHMS[alg].sign(b"probe", material)
        except (PyJWTError, ValueError, TypeError, AttributeError, KeyError):
            continue
        return Signer(alg, source.kid, material)
    why = f"{source.origin} signs with none of {', '.join(sorted(algorithms))}"
    raise BadSettings((Problem("key-cannot-sign", "bridge.key", why, _DO),))
