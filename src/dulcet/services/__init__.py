"""The services (PS3.4): what DIMSE operations mean.  Rule: knows neither sockets nor threads nor clocks nor files."""
