//! Sealed record log and the key hierarchy below it.
