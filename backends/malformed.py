"""What decoding raises for bytes that are not the JSON they should be.

Not only `msgspec.DecodeError`: a text may be no UTF-8, and brackets may be nested deeper than
the decoder follows, which it says with a `RecursionError`.
"""

from __future__ import annotations

import msgspec

MALFORMED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
