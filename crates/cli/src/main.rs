//! The marblerun command line.

fn main() {}
