//! The Marble's side of activation.
