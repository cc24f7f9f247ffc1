//! ioctls of Occlum's `/dev/sgx`.
