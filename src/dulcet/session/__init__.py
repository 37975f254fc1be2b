"""What two applications do on an association: sending many, retrieving, accepting, receiving.

Rule: no socket, file, thread, clock or event loop; a generator yields what it waits for, and a face performs it.
"""
