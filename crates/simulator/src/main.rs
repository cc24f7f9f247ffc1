//! marble-sim: runs unmodified programs on plain Linux so that they see Occlum.

fn main() -> std::process::ExitCode {
    marblerun_simulator::cli::main()
}
