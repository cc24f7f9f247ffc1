//! The program that runs in the enclave before the application.

fn main() {}
