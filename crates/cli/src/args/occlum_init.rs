//! `occlum init` and `occlum prepare`.

use std::path::PathBuf;

use clap::{Args, value_parser};
use marblerun_enclave_image::occlum_json::{Size, SizeError};

use crate::args::flags::FormatFlag;

/// Arguments of `occlum init`.
#[derive(Args, Debug)]
pub(crate) struct InitArguments {
    /// Instance directory to make. One that nobody edited follows a changed program, another one is refused.
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,

    #[command(flatten)]
    pub(crate) source: SourceArguments,

    /// Path of the program in the image. Default: /bin/ and the file's name; required with --bom and --image.
    #[arg(long = "as", value_name = "PATH")]
    pub(crate) inside: Option<String>,

    #[command(flatten)]
    pub(crate) marble: MarbleArguments,

    /// Files that the Coordinator may deliver: below this path only; may be repeated. Default: any.
    #[arg(long = "allow-files", value_name = "PATH")]
    pub(crate) file_prefixes: Vec<String>,

    /// Variables that the Coordinator may set: this name only, or names with this beginning (NAME*); may be repeated. Default:
    /// any.
    #[arg(long = "allow-variables", value_name = "NAME")]
    pub(crate) variables: Vec<String>,

    /// Variable with a fixed, measured value; may be repeated. Everybody can read it.
    #[arg(long = "env", value_name = "NAME=VALUE")]
    pub(crate) environment: Vec<String>,

    /// Variable that the host may set; may be repeated.
    #[arg(long = "untrusted-env", value_name = "NAME")]
    pub(crate) untrusted_names: Vec<String>,

    #[command(flatten)]
    pub(crate) enclave: EnclaveArguments,

    #[command(flatten)]
    pub(crate) sizes: SizeArguments,

    /// Replace Occlum.json, image and manifest.json of an existing directory. A manifest that differs is kept beside it.
    #[arg(long)]
    pub(crate) force: bool,

    /// Make nothing, only show what would be made.
    #[arg(long)]
    pub(crate) dry_run: bool,

    #[command(flatten)]
    pub(crate) format: FormatFlag,

    /// Arguments of the program, for the manifest.
    #[arg(last = true, value_name = "ARGUMENT")]
    pub(crate) arguments: Vec<String>,
}

/// What the image is made from.
#[derive(Args, Debug)]
#[command(next_help_heading = "Image")]
pub(crate) struct SourceArguments {
    /// Program of this machine. Its interpreter and libraries are found.
    #[arg(long, value_name = "FILE", required_unless_present_any = ["bom", "image"], conflicts_with_all = ["bom", "image"])]
    pub(crate) program: Option<PathBuf>,

    /// Bill of materials for the image (YAML), as Occlum's copy_bom takes it.
    #[arg(long, value_name = "FILE", conflicts_with = "image", requires = "inside")]
    pub(crate) bom: Option<PathBuf>,

    /// Directory that is an image already; it is copied.
    #[arg(long, value_name = "DIR", requires = "inside")]
    pub(crate) image: Option<PathBuf>,

    /// Where files that --bom includes are looked for, beside its own directory; may be repeated.
    #[arg(long, value_name = "DIR", requires = "bom")]
    pub(crate) include_dir: Vec<PathBuf>,

    /// What relative paths in --bom begin at. Default: the instance directory, as with copy_bom.
    #[arg(long, value_name = "DIR", requires = "bom")]
    pub(crate) bom_base: Option<PathBuf>,
}

/// What makes a program a Marble.
#[derive(Args, Debug)]
#[command(next_help_heading = "Marble")]
pub(crate) struct MarbleArguments {
    /// The Marble's type: its name in the manifest.
    ///
    /// Default: the program's file name; of a prepared instance the type that it has, or the directory's name.
    #[arg(long, value_name = "NAME")]
    pub(crate) marble: Option<String>,

    /// The premain. Default: premain-libos beside marblerun, in PATH, or in dist/.
    #[arg(long, value_name = "FILE")]
    pub(crate) premain: Option<PathBuf>,

    /// Directory of Occlum's patched C library, such as /opt/occlum/glibc/lib. Default: this machine's, for marble-sim.
    #[arg(long, value_name = "DIR")]
    pub(crate) libc_from: Option<PathBuf>,

    /// Root certificate of the only Coordinator that may configure this Marble (PEM or DER).
    #[arg(long, value_name = "FILE", conflicts_with = "pinned")]
    pub(crate) coordinator_root: Option<PathBuf>,

    /// Client API of that Coordinator: it is verified, and its root certificate pinned. `dev` is the one of `marblerun dev`.
    #[arg(id = "pinned", long = "coordinator", value_name = "dev|IP:PORT")]
    pub(crate) coordinator: Option<String>,
}

/// What goes into the enclave's signature.
#[derive(Args, Debug)]
#[command(next_help_heading = "Enclave")]
pub(crate) struct EnclaveArguments {
    /// Product ID (ISVPRODID).
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub(crate) product_id: u16,

    /// Security version (ISVSVN).
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub(crate) security_version: u16,

    /// Let the host debug the enclave: it can read everything then.
    #[arg(long)]
    pub(crate) debug: bool,

    /// Keep what the programs write in the image's directories. The host can bring back older states of it.
    #[arg(long)]
    pub(crate) persistent: bool,
}

/// Sizes.
#[derive(Args, Debug)]
#[command(next_help_heading = "Sizes (such as 64MB)")]
pub(crate) struct SizeArguments {
    /// Stack of each process (default_stack_size). Default: 4MB, or what the arguments and the environment need.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) stack: Option<u64>,

    /// Heap of each process (default_heap_size); a C library maps memory where it is full. Default: 8MB.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) heap: Option<u64>,

    /// What the program maps beyond its heap. Default: 16MB.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) mmap: Option<u64>,

    /// Threads of the program. Default: 8 if it can start any, else 1.
    #[arg(long, value_name = "NUMBER", value_parser = value_parser!(u32).range(1..=65_535))]
    pub(crate) threads: Option<u32>,

    /// Variables that the manifest adds, together. Default: 4KB.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) environment_bytes: Option<u64>,
}

/// Arguments of `occlum prepare`.
#[derive(Args, Debug)]
pub(crate) struct PrepareArguments {
    /// Instance directory: Occlum.json and image/.
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,

    #[command(flatten)]
    pub(crate) marble: MarbleArguments,

    /// The program's path in the image, for which the sizes are computed. Default: only the premain's need is.
    #[arg(long, value_name = "PATH")]
    pub(crate) program: Option<String>,

    /// Variables that the manifest adds, together. Default: 4KB.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) environment_bytes: Option<u64>,

    /// Change nothing, only show what would change.
    #[arg(long)]
    pub(crate) dry_run: bool,

    #[command(flatten)]
    pub(crate) format: FormatFlag,
}

/// A size in the form of `Occlum.json`; sizes of memory are whole pages.
fn size(text: &str) -> Result<u64, String> {
    const PAGE_BYTES: u64 = 4096;
    match text.parse::<Size>().map_err(|error: SizeError| error.to_string())?.0 {
        bytes if bytes > 0 && bytes.is_multiple_of(PAGE_BYTES) => Ok(bytes),
        _ => Err(format!("expected a multiple of 4KB, got {text:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_whole_pages() {
        assert_eq!(size("64MB"), Ok(64 << 20));
        assert_eq!(size("4KB"), Ok(4096));
        for text in ["", "64", "64mb", "0MB", "5000B"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
