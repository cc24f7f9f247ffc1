//! `marble-sim image`: what is in an instance.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};
use clap::Subcommand;
use marblerun_enclave_image::libraries;
use marblerun_linux::regular_file::read_bounded;

use super::{CommandResult, because};
use crate::encrypted_image::{self, PlainImage};
use crate::instance::ENCRYPTED_IMAGE;
use crate::outcome::Failure;
use crate::supervisor::say;

/// A key has 47 letters and a newline.
const MAX_KEY_LEN: usize = 256;

/// What `occlum build` writes for an image with key; the init stage reads it.
const IMAGE_CONFIG: &str = r#"{"image_type":"encrypted"}"#;

#[derive(Debug, Subcommand)]
pub(super) enum ImageCommand {
    /// Copies a program into the image, with its interpreter and shared libraries
    ///
    /// Example: marble-sim image add --instance hello ./hello_world --as /bin/hello_world
    Add {
        /// Directory with Occlum.json and image/
        #[arg(long, value_name = "DIR")]
        instance: PathBuf,
        /// The program
        file: PathBuf,
        /// Its path in the image, absolute
        #[arg(long = "as", value_name = "PATH")]
        target: PathBuf,
        /// Into the image of the init stage (initfs/) instead; its program is /bin/init
        #[arg(long)]
        init: bool,
    },
    /// Encrypts the image: image/ becomes the file image.encrypted
    ///
    /// The init stage must get the key, for example from a manifest: then nobody else can read the image. The removed
    /// files are not wiped from the disk.
    ///
    /// Example: marble-sim image encrypt --instance hello --image-key image.key
    Encrypt {
        /// Directory with Occlum.json and image/
        #[arg(long, value_name = "DIR")]
        instance: PathBuf,
        /// The key, as `generate-key` or `occlum gen-image-key` writes it
        #[arg(long, value_name = "FILE")]
        image_key: PathBuf,
    },
    /// Writes a new image key, as `occlum gen-image-key` does
    ///
    /// Example: marble-sim image generate-key image.key
    GenerateKey {
        /// File to make
        file: PathBuf,
    },
}

pub(super) fn run(command: ImageCommand) -> CommandResult {
    let done = match command {
        ImageCommand::Add { instance, file, target, init } => {
            let directory = instance.join(if init { "initfs" } else { "image" });
            // Instances have no init image of their own unless they are given one.
            let made = if init && instance.is_dir() { fs::create_dir_all(&directory) } else { Ok(()) };
            made.with_context(|| format!("cannot create {}", directory.display()))
                .and_then(|()| Ok(libraries::add_program(&directory, &file, &target)?))
        }
        ImageCommand::Encrypt { instance, image_key } => encrypt(&instance, &image_key),
        ImageCommand::GenerateKey { file } => generate_key(&file),
    };
    done.map(|()| ExitCode::SUCCESS).map_err(because(Failure::Configuration))
}

fn generate_key(file: &Path) -> anyhow::Result<()> {
    let key = encrypted_image::generate_key()?;
    let write = || {
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(file)?;
        file.write_all(key.as_bytes())
    };
    write().with_context(|| format!("image key {} cannot be written", file.display()))
}

fn encrypt(instance: &Path, key_file: &Path) -> anyhow::Result<()> {
    let key = read_key(key_file)?;
    let (image, sealed) = (instance.join("image"), instance.join(ENCRYPTED_IMAGE));
    if sealed.exists() {
        bail!("{} exists already: the image is encrypted", sealed.display());
    }
    let init = instance.join("initfs");
    if !init.join("bin/init").exists() {
        bail!(
            "expected the program {}, which gets the image key; put it there with `marble-sim image add --init`",
            init.join("bin/init").display()
        );
    }
    let bytes = PlainImage::pack(&image)?.encrypt(&key)?;
    let config = init.join("etc/image_config.json");
    write_whole(&config, IMAGE_CONFIG.as_bytes())?;
    write_whole(&sealed, &bytes)?;
    fs::remove_dir_all(&image).with_context(|| format!("cannot remove {}", image.display()))?;
    say(format_args!(
        "encrypted {} to {}; its measurement has changed: see marble-sim measure",
        image.display(),
        sealed.display()
    ));
    Ok(())
}

/// Writes a file so that it is there whole or not at all.
fn write_whole(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let write = || {
        fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
        let new = path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(new, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

fn read_key(path: &Path) -> anyhow::Result<[u8; marblerun_linux::occlum::IMAGE_KEY_LEN]> {
    let bytes = read_bounded(path, MAX_KEY_LEN)
        .with_context(|| format!("image key {} cannot be read", path.display()))?
        .ok_or_else(|| anyhow!("image key {}: expected a file, got nothing", path.display()))?;
    let form = || anyhow!("image key {}: expected 16 pairs of hex digits with \"-\" between them", path.display());
    let text = String::from_utf8(bytes).map_err(|_| form())?;
    encrypted_image::parse_key(&text).ok_or_else(form)
}
