"""Clients and servers as bytes, on their way from one process to another; see parcel.pxd."""

from pgpool_core.compiled import use_bundle

use_bundle()
