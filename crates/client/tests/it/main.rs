//! Calls against a Coordinator that the tests play.
