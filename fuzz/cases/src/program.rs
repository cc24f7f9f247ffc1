//! What is read of an Occlum instance.

use std::io::Cursor;

use marblerun_enclave_image::copy_bom::Bom;
use marblerun_enclave_image::elf::{Image, examine};
use marblerun_enclave_image::exec_rules::check_image;
use marblerun_enclave_image::occlum_json::OcclumJson;
use marblerun_enclave_image::prepare::json_text::{Edits, Kind, parse};

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

/// A bill of materials for an image: it is understood, or refused with a line.
pub fn copy_bom(data: &[u8]) -> Verdict {
    Verdict::of(&Bom::parse(data))
}

/// `Occlum.json` as a text to edit: what is not edited keeps every byte, and the result can be parsed again.
pub fn occlum_json_edit(data: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(data) else { return Verdict::Refused };
    let parsed = parse(text);
    if let Ok(root) = &parsed {
        assert_eq!(Edits::default().apply(text), text);
        let mut edits = Edits::default();
        match &root.kind {
            Kind::Object(members) => {
                members.iter().for_each(|member| edits.replace(&member.value, "1"));
                edits.append_member(text, root, "added", "[]");
            }
            Kind::Array(_) => edits.append_elements(text, root, &["1".to_owned(), "2".to_owned()]),
            _ => edits.replace(root, "{}"),
        }
        let edited = edits.apply(text);
        assert!(parse(&edited).is_ok(), "{text:?} became {edited:?}");
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
