//! Figures of speed and size, each beside its limit and its floor. Started by `cargo xtask bench`.
//!
//! The floor of a figure is the work that it cannot avoid (cryptography, a flush), measured in the same run on the same
//! machine; the ratio to it says what the rest costs. A figure is a measurement and not a test: the program fails only
//! if something cannot be measured.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people at a terminal")]

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

mod activation;
mod commit;
mod connection;
mod coordinator;
mod deployment;
mod figure;
mod flood;
mod machine;
mod manifest;
mod occlum;
mod premain;
mod primitives;
mod process;
mod reading;
mod secrets;
mod surroundings;
mod timing;
mod verification;

use figure::{Figure, Group};
use surroundings::Surroundings;

/// One group of figures.
struct Part {
    name: &'static str,
    title: &'static str,
    measure: fn(&Surroundings) -> Result<Vec<Figure>>,
}

const PARTS: [Part; 10] = [
    Part { name: "verification", title: "Verification of a quote", measure: verification::measure },
    Part { name: "commit", title: "Sealed commit, flushed to disk", measure: commit::measure },
    Part { name: "premain", title: "Premain, at execve", measure: premain::measure },
    Part { name: "occlum", title: "An unmodified program as a Marble", measure: occlum::measure },
    Part { name: "coordinator", title: "Coordinator, idle with a manifest", measure: coordinator::measure },
    Part { name: "manifest", title: "Setting a manifest", measure: manifest::measure },
    Part { name: "reading", title: "Reading on kept connections", measure: reading::measure },
    Part { name: "secrets", title: "Uploading one secret", measure: secrets::measure },
    Part { name: "activation", title: "Activation with a new TLS connection", measure: activation::measure },
    Part { name: "flood", title: "Latency of others during floods of connections", measure: flood::measure },
];

fn main() -> ExitCode {
    match run(std::env::args().skip(1).collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Arguments: workspace, directory of the release build, file for the JSON, then names of parts (none means all).
fn run(arguments: Vec<String>) -> Result<()> {
    let [workspace, programs, json, names @ ..] = arguments.as_slice() else {
        bail!("expected WORKSPACE PROGRAMS JSON [PART..]; use `cargo xtask bench`")
    };
    if let Some(unknown) = names.iter().find(|name| PARTS.iter().all(|part| part.name != **name)) {
        let known: Vec<&str> = PARTS.iter().map(|part| part.name).collect();
        bail!("expected one of {}, got {unknown:?}", known.join(", "));
    }
    let surroundings = Surroundings::new(PathBuf::from(workspace), PathBuf::from(programs))?;
    let machine = machine::Machine::read()?;
    println!("{machine}\n");

    let mut groups = Vec::new();
    for part in PARTS.iter().filter(|part| names.is_empty() || names.iter().any(|name| name == part.name)) {
        let figures = (part.measure)(&surroundings).with_context(|| format!("bench {}", part.name))?;
        let group = Group { name: part.name, title: part.title, figures };
        println!("{group}");
        groups.push(group);
    }
    let text = serde_json::to_string_pretty(&figure::json(&machine, &groups))?;
    std::fs::write(json, text + "\n").with_context(|| format!("cannot write {json}"))?;
    println!("The same as JSON: {json}");
    Ok(())
}
