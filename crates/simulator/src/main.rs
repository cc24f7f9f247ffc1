//! marble-sim: runs unmodified programs on plain Linux so that they see Occlum.

use marblerun_linux::wiping_alloc::WipingAllocator;

// Planted secrets are in many places of the search; none may stay in memory that is given back.
#[global_allocator]
static ALLOCATOR: WipingAllocator = WipingAllocator;

fn main() -> std::process::ExitCode {
    marblerun_simulator::cli::main()
}
