//! marble-sim: runs unmodified programs on plain Linux so that they see Occlum.
//!
//! **A test tool, not a security boundary.** A seccomp filter hands the few system calls that Occlum answers differently
//! to one supervisor thread; all others run at full speed in the kernel:
//!
//! ```text
//! marble-sim ── supervisor: uname, execve, ioctls of /dev/sgx ── software TEE: quotes, reports, seal keys
//!  └─ first process of the namespaces: private root, collects what ends
//!      └─ the program, under the filter
//! ```
//!
//! | Rule of Occlum | Where |
//! |---|---|
//! | `Occlum.json` | [`marblerun_enclave_image::occlum_json`] |
//! | entry points | [`marblerun_enclave_image::entry_points`] |
//! | environment | [`start`] |
//! | program loader: ELF, scripts, argument area | [`marblerun_enclave_image::elf`], [`marblerun_enclave_image::exec_rules`] |
//! | system calls that are refused | [`filter`] |
//! | `uname`, `execve`, ioctls: who asks, and the answer | [`calls`] |
//! | `/dev/sgx` | [`device`] |
//! | resource limits | [`limits`] |
//! | file system | [`root_fs`] |
//! | MRENCLAVE, MRSIGNER | [`measurement`] |
//! | init stage: system call 363, encrypted image | [`mount_root`], [`encrypted_image`] |
//! | exit codes | [`outcome`] |
//! | what the host gets to see: planted secrets | [`border`], [`canaries`] |
//! | what a hostile host does | [`hostile`] |
//!
//! Not reproduced: the shared address space, the cost of enclave transitions, emulated CPUID and RDTSC, Occlum's libc
//! (the host's is used unless the image brings its own loader), limits of memory and threads. `/dev/sgx` opens for
//! reading and writing, and EPID and the verification of quotes by the platform (ioctls 1, 2, 9, 10) always fail.

pub mod border;
pub mod calls;
pub mod canaries;
pub mod child;
pub mod cli;
pub mod device;
pub mod encrypted_image;
pub mod filter;
pub mod hostile;
pub mod instance;
pub mod isolation;
pub mod limits;
pub mod measurement;
pub mod mount_root;
pub mod orphans;
pub mod outcome;
pub mod root_fs;
pub mod run;
pub mod start;
pub mod supervisor;
pub mod watch;
