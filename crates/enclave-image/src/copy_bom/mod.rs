//! Occlum's `copy_bom` files: YAML that says what an image holds.
//!
//! [`Bom::parse`] reads one file, [`Plan::make`] one with everything that it includes, and [`Plan::apply`] fills an image
//! directory. The rules are those of Occlum's `tools/copy_bom`; what that tool only warns about (an unknown variable, a
//! misspelt member) is an error here, because an image that lacks a file is found out much later.
//!
//! ```yaml
//! includes: [base.yaml]
//! excludes: [.git]
//! targets:
//!   - target: /bin
//!     mkdirs: [tools]
//!     createlinks: [{src: ../bin/app, linkname: app-link}]
//!     copy:
//!       - from: ./target
//!         dirs: [data]
//!         files: [app, {name: other, hash: 64 HEX DIGITS, autodep: false, rename: another}]
//! ```

mod bom;
mod document;
mod pattern;
mod plan;
mod variables;

pub use bom::{Bom, BomError, MAX_BOM_BYTES};
pub use plan::{Copied, CopyBomError, Plan, Settings};
