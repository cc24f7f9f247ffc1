//! What is read of an Occlum instance.

use std::io::Cursor;

use marblerun_enclave_image::check::{Family, Severity, check};
use marblerun_enclave_image::copy_bom::Bom;
use marblerun_enclave_image::elf::{Image, Program, examine, inline_system_calls};
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

/// What a program needs of others, and its code: names are short, places lie in the file.
pub fn elf_program(data: &[u8]) -> Verdict {
    let parsed = Program::parse(data);
    if let Ok(program) = &parsed {
        let names = program.needed.iter().chain(&program.run_path).chain(&program.soname).chain(&program.interpreter);
        assert!(names.into_iter().all(|name| name.len() <= 4096));
        assert!(program.code.iter().all(|(_, range)| range.start < range.end && range.end <= data.len()));
        let _ = program.newest_glibc();
        assert!(inline_system_calls(program, data).len() <= data.len());
    }
    Verdict::of(&parsed)
}

/// `Occlum.json` as the check reads it: whatever it is, there are findings and no failure, each with all its texts.
pub fn occlum_check(data: &[u8]) -> Verdict {
    thread_local! {
        static INSTANCE: tempfile::TempDir = tempfile::tempdir().expect("the directory for temporary files is writable");
    }
    INSTANCE.with(|instance| {
        // The usual source of a host mount.
        std::fs::create_dir_all(instance.path().join("host")).expect("the new directory is writable");
        std::fs::write(instance.path().join("Occlum.json"), data).expect("a file can be written into a new directory");
        let findings = check(instance.path(), None).expect("there is a configuration of legal length");
        for finding in &findings {
            assert!(!finding.reason.is_empty() && !finding.fix.is_empty() && !finding.place.file().is_empty());
        }
        let is_wrong = |family, severity| family == Family::Configuration && severity == Severity::Error;
        match findings.iter().any(|finding| is_wrong(finding.rule.family(), finding.severity)) {
            true => Verdict::Refused,
            false => Verdict::Accepted,
        }
    })
}
