"""How fast the library is, beside other libraries and beside the bare operation: `make bench`."""
