//! A Marble against Coordinators of every kind, through real sockets.

mod activation;
mod coordinator;
mod pin;
