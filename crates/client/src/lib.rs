//! Attested client for the client API.
