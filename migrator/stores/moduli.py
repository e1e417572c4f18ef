"""Whether an RSA modulus came from the generator of CVE-2017-15361 (ROCA).

Its primes are k * M + 65537**a mod M with M the product of small primes, so modulo each of these
the modulus is a power of 65537. A sound one is so for all of them once in 2**28 (Nemec et al.,
"The Return of Coppersmith's Attack", section 3.2).
"""

from functools import cache
from typing import Final

_GENERATOR: Final = 65_537
_LARGEST: Final = 167  # the 39 primes whose product every key size of the generator used


def is_roca(modulus: int) -> bool:
    """Whether `modulus` has the generator's fingerprint."""
    return all(modulus % prime in powers for prime, powers in _powers().items())


@cache
def _powers() -> dict[int, frozenset[int]]:
    primes = [
        number
        for number in range(3, _LARGEST + 1, 2)
        if all(number % divisor for divisor in range(3, number, 2))
    ]
    return {
        prime: frozenset(pow(_GENERATOR, power, prime) for power in range(prime))
        for prime in primes
    }
