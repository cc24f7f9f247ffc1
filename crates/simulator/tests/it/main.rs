//! Runs real programs in `marble-sim` and looks at what they see. Needs `cc` and `go`.

mod fixture;
mod identity;
mod isolation;
mod lifetime;
mod measurement;
mod start;
mod strict;
