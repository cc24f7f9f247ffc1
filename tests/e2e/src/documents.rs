//! What the documents show is what happens: their commands are executed in an empty directory, and their output compared.
//!
//! In a page that is listed below, each block of code says what it is:
//!
//! | Info string | Meaning |
//! |---|---|
//! | `console` | lines after `$ ` are commands, executed in order by one `bash`; what follows is their output |
//! | `console ignore: REASON` | shown only |
//! | `LANGUAGE file: NAME` | the content of a file, which is written |
//! | `text` | shown only |
//!
//! A command that ends in a backslash goes on in the next line. Standard output and standard error are compared together.
//! In the output that a page shows, `[..]` stands for any text within a line and a line `...` for any lines. Each command
//! must end with exit code 0; one that is meant to fail shows its code with `|| echo "exit code $?"`.
//!
//! The programs are in `PATH`, `$REPO` is this repository, `$HOME` is empty, and the page has a network of its own: all
//! ports are free, and nothing but itself can be reached. Processes in the background are killed in the end.
//!
//! A new page needs its path in [`PAGES`] and a test that follows it; pages are followed at the same time.

mod page;
mod session;

use std::fs;
use std::path::{Path, PathBuf};

use self::page::Page;
use self::session::Session;

/// The pages whose blocks are executed; no other may have console blocks.
const PAGES: &[&str] = &[
    "README.md",
    "docs/occlum.md",
    "docs/on-sgx.md",
    "docs/operating.md",
    "docs/simulator.md",
    "samples/README.md",
    "samples/occlum-arguments/README.md",
    "samples/occlum-encrypted-image/README.md",
    "samples/occlum-go/README.md",
    "samples/occlum-mutual-tls/README.md",
    "samples/occlum-python/README.md",
    "samples/occlum-redis/README.md",
];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

#[track_caller]
fn follow(path: &str) {
    assert!(PAGES.contains(&path), "{path} is not listed");
    let text = fs::read_to_string(repository().join(path)).unwrap();
    let page = Page::parse(path, &text).unwrap_or_else(|error| panic!("{error}"));
    Session::follow(&page).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn the_way_of_a_program_into_occlum_is_as_its_page_shows() {
    follow("docs/occlum.md");
}

// rules: DIST-5
#[test]
fn the_commands_of_the_readme_do_what_it_shows() {
    follow("README.md");
}

#[test]
fn the_commands_of_the_samples_do_what_their_page_shows() {
    follow("samples/README.md");
}

#[test]
fn an_encrypted_image_gets_its_key_as_its_page_shows() {
    follow("samples/occlum-encrypted-image/README.md");
}

#[test]
fn a_deployment_is_operated_as_its_page_shows() {
    follow("docs/operating.md");
}

// rules: DIST-4
#[test]
fn the_report_for_real_machines_works_where_the_simulator_stands_in() {
    follow("docs/on-sgx.md");
}

#[test]
fn a_program_with_many_arguments_and_a_large_environment_runs_as_its_page_shows() {
    follow("samples/occlum-arguments/README.md");
}

#[test]
fn a_go_program_runs_as_its_page_shows() {
    follow("samples/occlum-go/README.md");
}

#[test]
fn two_marbles_talk_over_mutual_tls_as_their_page_shows() {
    follow("samples/occlum-mutual-tls/README.md");
}

#[test]
fn a_python_program_runs_as_its_page_shows() {
    follow("samples/occlum-python/README.md");
}

#[test]
fn redis_gets_certificate_and_password_as_its_page_shows() {
    follow("samples/occlum-redis/README.md");
}

#[test]
fn the_simulator_looks_and_harms_as_its_page_shows() {
    follow("docs/simulator.md");
}

#[test]
fn only_listed_pages_have_console_blocks() {
    let mut folders = vec![repository()];
    let mut found = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
            if entry.file_type().unwrap().is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if name.ends_with(".md") && fs::read_to_string(&path).unwrap().contains("\n```console") {
                found += 1;
                let page = path.strip_prefix(repository()).unwrap().to_str().unwrap().to_owned();
                assert!(PAGES.contains(&page.as_str()), "{page} has console blocks and is not executed");
            }
        }
    }
    assert_eq!(found, PAGES.len(), "expected all listed pages to have console blocks");
}
