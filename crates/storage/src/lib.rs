//! Where sealed records live.
