"""Clients and servers as bytes, on their way from one process to another; see parcel.pxd."""
