//! The software TEE from outside: an independent verifier, OpenSSL, and the file system.

mod collateral;
mod directory;
mod keys;
mod openssl;
mod quote;
mod support;
