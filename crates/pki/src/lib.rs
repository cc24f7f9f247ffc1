//! Key pairs, certificate requests and the certificate profiles.
