"""The contract between hostler's daemon and its clients, the client library and the command line."""

__version__ = "0.1.0"
