"""How fast it is, measured from outside as a user would; `make bench` runs everything here."""
