//! Types of the client API.
