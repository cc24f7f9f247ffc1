//! The Coordinator: listeners, wiring, configuration.

fn main() {}
