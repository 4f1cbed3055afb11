"""Makes X25519 keys (RFC 7748) and their public halves, by OpenSSL.

An agent asks this at each start, so it asks the libcrypto that Python's ssl has loaded anyway. The
cryptography package would take 10 MB for as long as the agent runs; it is asked where a Python was
built with an OpenSSL that nobody else may call.

Must never do: mathematics of its own.
"""

import contextlib
import ctypes
import functools
import os

from neti.model.wireguard_key import KEY_BYTES, PrivateKey, PublicKey

_X25519 = 1034  # NID_X25519 of OpenSSL's obj_mac.h, from 1.1.0 on


def new_key() -> PrivateKey:
    """32 random bytes with the bits set as RFC 7748, section 5, decodes them: a WireGuard device
    says its key back in this form, and is compared with what it was given."""
    scalar = bytearray(os.urandom(KEY_BYTES))
    scalar[0] &= 248
    scalar[31] = scalar[31] & 127 | 64
    return PrivateKey(bytes(scalar))


def public_half(private: PrivateKey) -> PublicKey:
    return PublicKey(_by_openssl(private.raw) or _by_library(private.raw))


def _by_openssl(private: bytes) -> bytes | None:
    """See EVP_PKEY_new(3). None: its functions are not to be had, or failed."""
    library = _libcrypto()
    if library is None:
        return None
    key = library.EVP_PKEY_new_raw_private_key(_X25519, None, private, len(private))
    if not key:
        return None
    try:
        public = ctypes.create_string_buffer(KEY_BYTES)
        size = ctypes.c_size_t(KEY_BYTES)
        done = library.EVP_PKEY_get_raw_public_key(key, public, ctypes.byref(size))
    finally:
        library.EVP_PKEY_free(key)
    return public.raw if done == 1 and size.value == KEY_BYTES else None


def _by_library(private: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


@functools.cache
def _libcrypto() -> ctypes.CDLL | None:
    """Looked up through the ssl module, which is linked with it: its file's name differs from one
    distribution to the next."""
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import _ssl

        library = ctypes.CDLL(getattr(_ssl, "__file__", None))
        library.EVP_PKEY_new_raw_private_key.restype = ctypes.c_void_p
        library.EVP_PKEY_new_raw_private_key.argtypes = (
            ctypes.c_int,
            ctypes.c_void_p,
            ctypes.c_char_p,
            ctypes.c_size_t,
        )
        library.EVP_PKEY_get_raw_public_key.restype = ctypes.c_int
        library.EVP_PKEY_get_raw_public_key.argtypes = (
            ctypes.c_void_p,
            ctypes.c_char_p,
            ctypes.POINTER(ctypes.c_size_t),
        )
        library.EVP_PKEY_free.restype = None
        library.EVP_PKEY_free.argtypes = (ctypes.c_void_p,)
        return library
    return None
