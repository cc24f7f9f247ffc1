//! `occlum init`: an instance directory for a program.
//!
//! JSON: `{"directory": text, "outcome": "created" | "unchanged" | "updated" | "replaced", "changes": [text], "dry_run": bool,
//! "marble": text, "program": text, "sizes": [{"member": text, "value": text, "amount": number, "need": number, "terms":
//! [{"what": text, "amount": number}], "note": text}], "remarks": [{"id": text, "text": text}], "without_libraries": [text]}`.

use std::path::Path;

use marblerun_enclave_image::copy_bom::Settings;
use marblerun_enclave_image::init::{self, Made, Outcome, PREMAIN_PATH, Request, Source, Wishes};
use marblerun_enclave_image::sizing::{Figure, Sizes};
use serde_json::{Value, json};

use super::marble;
use crate::args::Global;
use crate::args::occlum_init::InitArguments;
use crate::exit::ExitStatus;
use crate::failure::{Cause, Failure};
use crate::output::Output;

pub(crate) fn run(global: &Global, arguments: &InitArguments, output: &mut Output) -> Result<ExitStatus, Failure> {
    let program = inside(arguments)?;
    let name = program.rsplit('/').next().unwrap_or_default().to_owned();
    let marble_type = arguments.marble.marble.clone().unwrap_or(name);
    let premain = marble::premain(&arguments.marble)?;
    let libc = marble::libc(&arguments.marble);
    let root_sha256 = marble::root_sha256(global, &arguments.marble, output)?;
    let base = std::path::absolute(arguments.source.bom_base.as_ref().unwrap_or(&arguments.directory));
    let base = base.map_err(|source| Cause::Read { what: "directory", path: arguments.directory.clone(), source })?;
    // A variable that is no text is as good as none: it could not be part of a path in YAML.
    let variable = |name: &str| std::env::var(name).ok();
    let (enclave, sizes) = (&arguments.enclave, &arguments.sizes);
    let made = init::make(&Request {
        directory: &arguments.directory,
        source: source(arguments, &base, &variable)?,
        program: &program,
        arguments: &arguments.arguments,
        premain: &premain,
        libc: &libc,
        marble: &marble_type,
        root_sha256,
        file_prefixes: list(&arguments.file_prefixes),
        variables: list(&arguments.variables),
        environment: &arguments.environment,
        untrusted_names: &arguments.untrusted_names,
        product_id: enclave.product_id,
        version_number: enclave.security_version,
        is_debuggable: enclave.debug,
        is_persistent: enclave.persistent,
        wishes: Wishes {
            stack: sizes.stack,
            heap: sizes.heap,
            mmap: sizes.mmap,
            threads: sizes.threads,
            manifest_environment_bytes: sizes.environment_bytes,
        },
        force: arguments.force,
        dry_run: arguments.dry_run,
    })?;
    if output.is_json() {
        output.json(&to_json(arguments, &program, &marble_type, &made))?;
    } else {
        print(arguments, &program, &marble_type, &made, output)?;
    }
    Ok(ExitStatus::Success)
}

/// The program's path in the image.
fn inside(arguments: &InitArguments) -> Result<String, Failure> {
    if let Some(path) = &arguments.inside {
        return Ok(path.clone());
    }
    let file = arguments.source.program.as_deref().unwrap_or(Path::new(""));
    match file.file_name().and_then(|name| name.to_str()) {
        Some(name) => Ok(format!("/bin/{name}")),
        None => {
            Err(Cause::Flags("--program: expected a file with a name; name its place in the image with --as").into())
        }
    }
}

fn source<'a>(
    arguments: &'a InitArguments,
    base: &'a Path,
    variable: &'a dyn Fn(&str) -> Option<String>,
) -> Result<Source<'a>, Failure> {
    let source = &arguments.source;
    match (&source.program, &source.bom, &source.image) {
        (Some(program), None, None) => Ok(Source::Program(program)),
        (None, Some(bom), None) => {
            Ok(Source::Bom(Settings { bom, include_directories: &source.include_dir, base, variable }))
        }
        (None, None, Some(image)) => Ok(Source::Image(image)),
        _ => Err(Cause::Flags("expected one of --program, --bom and --image").into()),
    }
}

/// No entry means that nothing is restricted, which is another thing than an empty list.
fn list(entries: &[String]) -> Option<Vec<String>> {
    (!entries.is_empty()).then(|| entries.to_vec())
}

fn print(
    arguments: &InitArguments,
    program: &str,
    marble: &str,
    made: &Made,
    output: &mut Output,
) -> Result<(), Failure> {
    let directory = arguments.directory.display();
    print_sizes(&made.sizes, output)?;
    for remark in &made.remarks {
        output.warn(&remark.text())?;
    }
    for file in &made.without_libraries {
        output.warn(&format!("no libraries are added for {file}"))?;
    }
    for change in &made.changes {
        output.step(change)?;
    }
    let what = format!("{program} behind {PREMAIN_PATH}, as Marble {marble:?}");
    if arguments.dry_run {
        let would = match made.outcome {
            Outcome::Created => "would be made",
            Outcome::Unchanged => "would not change",
            Outcome::Updated => "would be updated",
            Outcome::Replaced => "would be replaced",
        };
        output.line(&format!("{directory} {would}: {what}"))?;
        return Ok(());
    }
    let done = match made.outcome {
        Outcome::Created => "Made",
        Outcome::Unchanged => "Nothing to change:",
        Outcome::Updated => "Updated",
        Outcome::Replaced => "Replaced",
    };
    output.line(&format!("{done} {directory}: {what}"))?;
    if matches!(made.outcome, Outcome::Created | Outcome::Replaced) {
        for line in next_steps(&arguments.directory) {
            output.step(&line)?;
        }
    }
    Ok(())
}

pub(super) fn print_sizes(sizes: &Sizes, output: &mut Output) -> Result<(), Failure> {
    for figure in sizes.figures() {
        print_figure(figure, output)?;
    }
    Ok(())
}

pub(super) fn print_figure(figure: &Figure, output: &mut Output) -> Result<(), Failure> {
    output.step(&format!("{} = {}", figure.member, figure.text()))?;
    for line in figure.explanation() {
        output.step(&format!("    {line}"))?;
    }
    Ok(())
}

/// `occlum build` needs an instance of `occlum new`, which brings the init image and the status file.
fn next_steps(directory: &Path) -> Vec<String> {
    let manifest = Path::new("..").join(directory).join("manifest.json");
    let (directory, manifest) = (directory.display(), manifest.display());
    [
        "Next, on this machine:".to_owned(),
        format!("    marblerun occlum check {directory}"),
        format!("    marblerun occlum run {directory}"),
        "On a machine with SGX and Occlum:".to_owned(),
        "    occlum new enclave && rm -r enclave/image enclave/Occlum.json".to_owned(),
        format!("    cp -a {directory}/image {directory}/Occlum.json enclave/"),
        "    cd enclave && occlum build --sign-key YOUR_KEY.pem".to_owned(),
        format!("    marblerun package-info . --into {manifest}"),
        format!("    occlum run {PREMAIN_PATH}"),
    ]
    .into()
}

fn to_json(arguments: &InitArguments, program: &str, marble: &str, made: &Made) -> Value {
    let outcome = match made.outcome {
        Outcome::Created => "created",
        Outcome::Unchanged => "unchanged",
        Outcome::Updated => "updated",
        Outcome::Replaced => "replaced",
    };
    let remarks = made.remarks.iter().map(|remark| json!({"id": remark.id(), "text": remark.text()}));
    json!({
        "directory": arguments.directory.display().to_string(),
        "outcome": outcome,
        "changes": made.changes,
        "dry_run": arguments.dry_run,
        "marble": marble,
        "program": program,
        "sizes": made.sizes.figures().map(figure_to_json),
        "remarks": remarks.collect::<Value>(),
        "without_libraries": made.without_libraries,
    })
}

pub(super) fn figure_to_json(figure: &Figure) -> Value {
    let terms = figure.terms.iter().map(|term| json!({"what": term.what, "amount": term.amount}));
    json!({
        "member": figure.member,
        "value": figure.text(),
        "amount": figure.value,
        "need": figure.need,
        "terms": terms.collect::<Value>(),
        "note": figure.note,
    })
}
