"""Pickles that hold nothing but plain data, as LiveCodeBench publishes its private tests.

A pickle is a program: a hostile one runs any command while it is loaded. This unpickler looks up
no class and no function, so that only numbers, texts, lists, tuples, sets and dicts can come out.
"""

import base64
import binascii
import io
import pickle
import zlib
from typing import Any, NoReturn

# The largest published test set unpacks to some hundred megabytes.
LARGEST = 2**30


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}; only plain data is read")

    def persistent_load(self, identifier: Any) -> NoReturn:
        raise pickle.UnpicklingError("it asks for an outside object; only plain data is read")


def load_packed(text: str) -> Any:
    """The data in base64 + zlib + pickle.

    Raises:
      ValueError: it is something else, unpacks to more than ``LARGEST`` bytes, or holds more than
        plain data.
    """
    try:
        inflate = zlib.decompressobj()
        data = inflate.decompress(base64.b64decode(text, validate=True), LARGEST)
        if inflate.unconsumed_tail:
            raise ValueError(f"it unpacks to more than {LARGEST} bytes")
        return _PlainUnpickler(io.BytesIO(data)).load()
    except (binascii.Error, zlib.error) as error:
        raise ValueError(f"not base64 of zlib ({error})") from None
    except ValueError:
        raise
    except Exception as error:  # a damaged pickle raises anything at all
        raise ValueError(f"not a pickle of plain data ({error})") from None
