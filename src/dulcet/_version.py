"""The version and the implementation identity derived from it (PS3.7 Annex D.3.3.2): the one place that says them."""

from typing import Final

__all__ = ["IMPLEMENTATION_CLASS_UID", "IMPLEMENTATION_VERSION_NAME", "__version__"]

__version__ = "0.1.0"

IMPLEMENTATION_CLASS_UID: Final = "2.25.298461620775049960559828009231049061761"
"""Made once from a random UUID (PS3.5 Annex B.2); it names the implementation, not the release, so it never changes."""

IMPLEMENTATION_VERSION_NAME: Final = f"DULCET_{__version__}"
"""At most 16 characters (PS3.7 Table D.3-3)."""
