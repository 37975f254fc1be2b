"""What every face needs of the operating system: sockets, send buffers, files to send, folders to keep files in."""
