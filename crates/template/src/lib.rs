//! The Go text/template language over a small value model.
