"""Naming instances that somebody has: by file, data set, result of sending, or their UIDs."""

from __future__ import annotations

from typing import Any

from dulcet.io.instances import examine
from dulcet.services.commitment import Reference

__all__ = ["reference"]


def reference(instance: Any) -> Reference:
    """The reference to a path, a data set, a result of `store`, or a pair of SOP class and instance UID.

    Raises InstanceError for a file that cannot be read or is no DICOM file.
    """
    if isinstance(instance, Reference):
        return instance
    if isinstance(instance, tuple):
        return Reference(*map(str, instance))
    if getattr(instance, "sop_instance_uid", ""):
        return Reference(instance.sop_class_uid, instance.sop_instance_uid)
    if getattr(instance, "SOPInstanceUID", ""):
        return Reference(str(instance.SOPClassUID), str(instance.SOPInstanceUID))
    examined = examine(instance)
    examined.close()
    return Reference(examined.sop_class_uid, examined.sop_instance_uid)
