"""The DICOM Upper Layer (PS3.8): PDUs, the state machine, negotiation, framing.  No I/O, no clock, no threads."""
