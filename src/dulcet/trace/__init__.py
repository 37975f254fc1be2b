"""Watching what two DICOM applications say to each other: a decoder, a proxy with faults, recordings, captures."""
