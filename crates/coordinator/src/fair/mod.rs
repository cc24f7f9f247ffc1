//! Sharing what a listener has between the addresses that ask for it.
//!
//! Anyone may connect, as often and as fast as the network carries. Whoever takes much must first of all be in their own
//! way: so places are counted by [`Source`], and where there are too few, the source that has most gives or waits.

mod connections;
mod source;
mod turns;

pub(crate) use connections::{Busy, Connections, Place, Requests};
pub(crate) use source::Source;
pub(crate) use turns::{Holding, Turns};
