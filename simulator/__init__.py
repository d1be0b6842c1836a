"""The providers and the DMS as their fact sheets describe them, with bad weather on request."""
