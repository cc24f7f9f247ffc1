//! What is read of an Occlum instance.

use std::io::Cursor;

use marblerun_enclave_image::elf::{Image, examine};
use marblerun_enclave_image::exec_rules::check_image;
use marblerun_enclave_image::occlum_json::OcclumJson;

use crate::Verdict;

/// `Occlum.json`: what is accepted has a form to be measured.
pub fn occlum_json(data: &[u8]) -> Verdict {
    let parsed = OcclumJson::parse(data);
    if let Ok(instance) = &parsed {
        assert!(!instance.internal_configuration().is_empty());
        let _ = instance.root_is_temporary();
    }
    Verdict::of(&parsed)
}

/// A program file: it is loadable, a script, or refused with the reason.
pub fn program_file(data: &[u8]) -> Verdict {
    let image = examine(Cursor::new(data)).expect("reading memory does not fail");
    if let Image::Dynamic { interpreter } = &image {
        assert!(interpreter.len() <= 4096, "an interpreter of {} bytes", interpreter.len());
    }
    Verdict::of(&check_image(&image))
}
