"""What every face needs of the operating system: sockets, send trains, files to send, folders to keep files in."""
