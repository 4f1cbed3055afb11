"""Makes keys. Importing the library takes some 11 MB, so it is not imported before it is needed.

Must never do: mathematics of its own.
"""

from neti.model.wireguard_key import PrivateKey, PublicKey


def new_key() -> PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    return PrivateKey(X25519PrivateKey.generate().private_bytes_raw())


def public_half(private: PrivateKey) -> PublicKey:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    whole = X25519PrivateKey.from_private_bytes(private.raw)
    return PublicKey(whole.public_key().public_bytes_raw())
