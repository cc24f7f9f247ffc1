//! The deployment's state and its transitions.
