"""Small black-box cases distilled from public reports, named by their ids (F01, F02, ...)."""
