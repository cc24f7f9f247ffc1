//! The software TEE from outside: an independent verifier, OpenSSL, and the file system.

#![allow(clippy::unwrap_used, reason = "a failing unwrap is a failing test, in shared fixtures too")]

mod collateral;
mod directory;
mod keys;
mod openssl;
mod quote;
mod service;
mod support;
mod verifier;
