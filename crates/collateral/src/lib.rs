//! Vendor collateral from bundles on disk.
