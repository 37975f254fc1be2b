"""DICOM Message Exchange (PS3.7): command sets, messages of all services, statuses, operations; no I/O, no clock."""
