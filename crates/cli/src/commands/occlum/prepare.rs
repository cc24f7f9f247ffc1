//! `occlum prepare`: an existing instance becomes a Marble with the smallest change.
//!
//! JSON: `{"directory": text, "changed": bool, "dry_run": bool, "diff": text, "files": [{"path": text, "change": "new" |
//! "replaced"}], "sizes": [as of `occlum init`], "pinned": bool}`. `changed` says whether there is something to change.

use marblerun_enclave_image::prepare::{self, Change, Preparation, Request};
use serde_json::{Value, json};

use super::init::{figure_to_json, print_figure};
use super::marble;
use crate::args::Global;
use crate::args::occlum_init::PrepareArguments;
use crate::exit::ExitStatus;
use crate::failure::Failure;
use crate::output::Output;

pub(crate) fn run(global: &Global, arguments: &PrepareArguments, output: &mut Output) -> Result<ExitStatus, Failure> {
    let premain = marble::premain(&arguments.marble)?;
    let libc = marble::libc(&arguments.marble);
    let preparation = prepare::plan(&Request {
        directory: &arguments.directory,
        premain: &premain,
        libc: &libc,
        marble: arguments.marble.marble.as_deref(),
        program: arguments.program.as_deref(),
        root_sha256: marble::root_sha256(global, &arguments.marble, output)?,
        manifest_environment_bytes: arguments.environment_bytes,
    })?;
    // Before anything changes: what is asked for only now cannot be found out from JSON.
    let json = output.is_json().then(|| to_json(arguments, &preparation));
    if json.is_none() {
        show(&preparation, output)?;
    }
    if !arguments.dry_run {
        preparation.apply()?;
    }
    match json {
        Some(json) => output.json(&json)?,
        None => output.line(&result(arguments, &preparation))?,
    }
    Ok(ExitStatus::Success)
}

/// The difference, before anything is done.
fn show(preparation: &Preparation, output: &mut Output) -> Result<(), Failure> {
    let diff = preparation.diff();
    if !diff.is_empty() {
        output.line(diff.trim_end_matches('\n'))?;
    }
    for file in preparation.files() {
        let mark = match file.change {
            Change::New => "new     ",
            Change::Replaced => "replaced",
        };
        output.line(&format!("{mark} {}", file.path))?;
    }
    for figure in preparation.raised() {
        print_figure(figure, output)?;
    }
    if !preparation.has_pin() {
        output.warn(
            "no Coordinator is pinned: whoever answers at EDG_MARBLE_COORDINATOR_ADDR configures this Marble, and the host \
             chooses that address; give --coordinator-root FILE or --coordinator IP:PORT",
        )?;
    }
    Ok(())
}

fn result(arguments: &PrepareArguments, preparation: &Preparation) -> String {
    let directory = arguments.directory.display();
    match (preparation.is_empty(), arguments.dry_run) {
        (true, _) => format!("{directory}: nothing to change"),
        (false, true) => format!("{directory} is as it was; without --dry-run this would change"),
        (false, false) => format!("Prepared {directory}: build it again with `occlum build`"),
    }
}

fn to_json(arguments: &PrepareArguments, preparation: &Preparation) -> Value {
    let files = preparation.files();
    let files = files.iter().map(|file| {
        let change = match file.change {
            Change::New => "new",
            Change::Replaced => "replaced",
        };
        json!({"path": file.path, "change": change})
    });
    json!({
        "directory": arguments.directory.display().to_string(),
        "changed": !preparation.is_empty(),
        "dry_run": arguments.dry_run,
        "diff": preparation.diff(),
        "files": files.collect::<Value>(),
        "sizes": preparation.raised().iter().map(figure_to_json).collect::<Value>(),
        "pinned": preparation.has_pin(),
    })
}
