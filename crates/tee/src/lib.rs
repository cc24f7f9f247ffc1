//! The TEE that this process runs in: evidence and seal keys.
