"""The settings of [pgbouncer], a file for each thing that they are about; `model.Config` is all of them."""
