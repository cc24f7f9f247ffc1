//! The wire: protobuf messages and REST types.
