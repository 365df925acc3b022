"""Networks, one module each: constructors that take plain numbers and know no configuration."""
