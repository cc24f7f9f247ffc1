//! A mock silicon vendor for development: roots, byte-exact quotes, collateral.
