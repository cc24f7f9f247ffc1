use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::occlum_json::{OcclumJson, Size};

/// This test itself is a position-independent program with an interpreter; it stands for the premain and for the program.
fn this_test() -> PathBuf {
    std::env::current_exe().unwrap()
}

struct Site {
    directory: tempfile::TempDir,
    instance: PathBuf,
    program: PathBuf,
    arguments: [String; 2],
    libc: Libc,
}

impl Site {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self {
            instance: directory.path().join("instance"),
            directory,
            program: this_test(),
            arguments: ["one".to_owned(), "two \"words\"".to_owned()],
            libc: Libc::Host,
        }
    }

    fn instance(&self) -> &Path {
        &self.instance
    }

    fn image(&self, inside: &str) -> PathBuf {
        self.instance().join("image").join(inside)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.instance().join(name)).unwrap()
    }

    fn make<'a>(&'a self, change: impl FnOnce(&mut Request<'a>)) -> Result<Made, InitError> {
        let mut request = self.request();
        change(&mut request);
        make(&request)
    }

    fn request(&self) -> Request<'_> {
        Request {
            directory: &self.instance,
            source: Source::Program(&self.program),
            program: "/bin/hello",
            arguments: &self.arguments,
            premain: &self.program,
            libc: &self.libc,
            marble: "hello",
            root_sha256: Some([0xab; 32]),
            file_prefixes: None,
            variables: None,
            environment: &[],
            untrusted_names: &[],
            product_id: 7,
            version_number: 3,
            is_debuggable: false,
            is_persistent: false,
            wishes: Wishes::default(),
            force: false,
            dry_run: false,
        }
    }

    fn entries(&self) -> Vec<String> {
        let entries = fs::read_dir(self.directory.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

fn chain(error: &InitError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

// rules: INST-1
#[test]
fn an_instance_has_everything_that_a_marble_needs() {
    let site = Site::new();
    let made = site.make(|_| {}).unwrap();
    assert_eq!(made.outcome, Outcome::Created);
    for file in ["bin/hello", "bin/premain-libos", "lib64/ld-linux-x86-64.so.2", "etc/hosts", "etc/resolv.conf"] {
        assert!(site.image(file).is_file(), "{file}");
    }
    for directory in ["dev", "proc", "tmp", "host", "var/lib/marblerun", "opt/occlum/glibc/lib"] {
        assert!(site.image(directory).is_dir(), "{directory}");
    }
    let mode = |file: &str| site.image(file).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("bin/hello"), mode("etc/hosts"), mode("bin")), (0o755, 0o644, 0o755));
    assert_eq!(
        site.text("image/etc/marblerun/coordinator.json"),
        format!("{{\"RootSHA256\": \"{}\"}}\n", "ab".repeat(32))
    );
    assert_eq!(site.text("image/etc/marblerun/premain.json"), "{\"Programs\": [\"/bin/hello\"]}\n");

    let config = OcclumJson::parse(site.text("Occlum.json").as_bytes()).unwrap();
    assert_eq!(config.entry_points, [PREMAIN_PATH]);
    assert!(config.root_is_temporary());
    assert!(!config.metadata.debuggable);
    assert_eq!((config.metadata.product_id, config.metadata.version_number), (7, 3));
    assert_eq!(config.resource_limits.user_space_size, Size(made.sizes.user_space.value));
    let uuid_file = format!("EDG_MARBLE_UUID_FILE={UUID_FILE}");
    for entry in ["OCCLUM=yes", "EDG_MARBLE_TYPE=hello", uuid_file.as_str(), "MALLOC_ARENA_MAX=1"] {
        assert!(config.env.default.iter().any(|present| present == entry), "{entry}");
    }
    assert!(config.env.untrusted.iter().all(|name| name != "EDG_MARBLE_TYPE"));
    // Every member that `occlum build` wants, also those that our own reader does not know.
    let json: serde_json::Value = serde_json::from_str(&site.text("Occlum.json")).unwrap();
    for pointer in ["/metadata/enable_kss", "/metadata/family_id/high", "/metadata/ext_prod_id/low", "/feature"] {
        assert!(json.pointer(pointer).is_some(), "{pointer}");
    }
}

#[test]
fn the_manifest_fits_and_waits_for_the_measurement() {
    let site = Site::new();
    site.make(|request| request.is_debuggable = true).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&site.text("manifest.json")).unwrap();
    assert_eq!(manifest["Packages"]["hello"], serde_json::json!({"UniqueID": "0".repeat(64), "Debug": true}));
    let argv = serde_json::json!(["/bin/hello", "one", "two \"words\""]);
    assert_eq!(manifest["Marbles"]["hello"], serde_json::json!({"Package": "hello", "Parameters": {"Argv": argv}}));
    let config = OcclumJson::parse(site.text("Occlum.json").as_bytes()).unwrap();
    assert!(config.metadata.debuggable);
}

// rules: INST-3
#[test]
fn a_second_run_changes_nothing() {
    let site = Site::new();
    site.make(|_| {}).unwrap();
    let before = fs::metadata(site.instance()).unwrap().modified().unwrap();
    assert_eq!(site.make(|_| {}).unwrap().outcome, Outcome::Unchanged);
    assert_eq!(fs::metadata(site.instance()).unwrap().modified().unwrap(), before);
    assert_eq!(site.entries(), ["instance"]);
}

// rules: INST-3
#[test]
fn a_program_that_was_compiled_anew_takes_its_place_and_edits_of_the_manifest_stay() {
    let mut site = Site::new();
    let program = site.directory.path().join("app");
    fs::copy(this_test(), &program).unwrap();
    site.program = program.clone();
    let premain = this_test();
    site.make(|request| request.premain = &premain).unwrap();
    let edited = site.text("manifest.json").replace("\"Argv\"", "\"Env\": {\"A\": \"b\"}, \"Argv\"");
    fs::write(site.instance().join("manifest.json"), &edited).unwrap();
    let mut bytes = fs::read(&program).unwrap();
    bytes.extend(b"compiled anew");
    fs::write(&program, &bytes).unwrap();
    let dry = site.make(|request| (request.premain, request.dry_run) = (&premain, true)).unwrap();
    assert_eq!(dry.outcome, Outcome::Updated);
    assert_ne!(fs::read(site.image("bin/hello")).unwrap(), bytes);
    let made = site.make(|request| request.premain = &premain).unwrap();
    assert_eq!(
        (made.outcome, made.changes),
        (Outcome::Updated, vec!["image/bin/hello has another content".to_owned()])
    );
    assert_eq!(fs::read(site.image("bin/hello")).unwrap(), bytes);
    assert_eq!(site.text("manifest.json"), edited);
    assert_eq!(site.make(|request| request.premain = &premain).unwrap().outcome, Outcome::Unchanged);
    // The pin never goes because somebody forgot to name it again.
    fs::write(&program, fs::read(this_test()).unwrap()).unwrap();
    let forgotten = site.make(|request| (request.premain, request.root_sha256) = (&premain, None));
    assert!(matches!(forgotten, Err(InitError::Differs { .. })), "{forgotten:?}");
}

#[test]
fn other_arguments_of_the_program_reach_a_manifest_that_nobody_edited() {
    let mut site = Site::new();
    site.make(|_| {}).unwrap();
    site.arguments = ["other".to_owned(), "words".to_owned()];
    assert_eq!(site.make(|_| {}).unwrap().outcome, Outcome::Updated);
    assert!(site.text("manifest.json").contains("\"other\", \"words\""));
    fs::write(site.instance().join("manifest.json"), "{}").unwrap();
    site.arguments = ["more".to_owned(), "words".to_owned()];
    let made = site.make(|_| {}).unwrap();
    assert_eq!((made.outcome, made.remarks.last()), (Outcome::Unchanged, Some(&Remark::ManifestKept)));
    assert_eq!(site.text("manifest.json"), "{}");
}

/// Runs itself once more below a shell, because the umask is the whole process'.
#[test]
fn the_umask_of_the_process_does_not_change_the_image() {
    const INSIDE: &str = "MARBLERUN_TEST_UMASK";
    if std::env::var_os(INSIDE).is_none() {
        let name = "init::tests::the_umask_of_the_process_does_not_change_the_image";
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", "umask 077; exec \"$0\" --exact \"$1\""]).arg(this_test()).arg(name).env(INSIDE, "1");
        let output = shell.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return;
    }
    let site = Site::new();
    site.make(|_| {}).unwrap();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    for directory in ["", "bin", "var/lib/marblerun"] {
        assert_eq!(mode(&site.image(directory)), 0o755, "{directory:?}");
    }
    for file in ["Occlum.json", "manifest.json", "image/etc/hosts"] {
        assert_eq!(mode(&site.instance().join(file)), 0o644, "{file}");
    }
}

#[test]
fn another_wish_is_refused_without_force_and_made_with_it() {
    let site = Site::new();
    site.make(|_| {}).unwrap();
    let heap = |request: &mut Request<'_>| request.wishes.heap = Some(64 << 20);
    let error = site.make(heap).unwrap_err();
    assert!(error.to_string().ends_with("exists and differs: Occlum.json has another content"), "{error}");
    assert!(error.hint().unwrap().contains("--force"));
    let outcome = site.make(|request| {
        heap(request);
        request.force = true;
    });
    assert_eq!(outcome.unwrap().outcome, Outcome::Replaced);
    assert!(site.text("Occlum.json").contains("\"default_heap_size\": \"64MB\""));
    assert_eq!(site.entries(), ["instance"]);
}

#[test]
fn a_dry_run_makes_nothing() {
    let site = Site::new();
    assert_eq!(site.make(|request| request.dry_run = true).unwrap().outcome, Outcome::Created);
    assert_eq!(site.entries(), Vec::<String>::new());
}

#[test]
fn a_refused_program_leaves_nothing_behind() {
    let mut site = Site::new();
    site.program = "/etc/passwd".into();
    let error = site.make(|_| {}).unwrap_err();
    assert!(matches!(error, InitError::NotLoadable { .. }), "{error}");
    assert_eq!(site.entries(), Vec::<String>::new());
}

#[test]
fn what_should_be_known_is_said() {
    let site = Site::new();
    let ids = |made: Made| made.remarks.iter().map(|remark| remark.id()).collect::<Vec<_>>();
    assert_eq!(ids(site.make(|_| {}).unwrap()), ["host-libc"]);
    let all = site.make(|request| {
        request.root_sha256 = None;
        request.is_debuggable = true;
        request.is_persistent = true;
        request.force = true;
    });
    assert_eq!(ids(all.unwrap()), ["no-pin", "host-libc", "debuggable", "persistent"]);
    assert!(!site.image("etc/marblerun/coordinator.json").exists());
    let too_new = Remark::HostLibc { glibc: Some((2, 40)), needed: Some((2, 38)) }.text();
    assert!(too_new.contains("GLIBC_2.38, newer than any of them"), "{too_new}");
}

/// A C library of its own: this machine's, in another directory.
#[test]
fn libraries_of_a_named_c_library_go_where_its_loader_looks() {
    let mut site = Site::new();
    let libc = site.directory.path().join("libc");
    fs::create_dir(&libc).unwrap();
    let loader = dependencies::interpreter(&site.program).unwrap();
    for one in dependencies::dependencies(&site.program, &loader, &Libc::Host).unwrap() {
        fs::copy(&one.source, libc.join(one.source.file_name().unwrap())).unwrap();
    }
    // A loader is known to look where its file says.
    let loader = libc.join(loader.file_name().unwrap());
    fs::write(&loader, [fs::read(&loader).unwrap().as_slice(), b"\0/opt/occlum/glibc/lib/\0"].concat()).unwrap();
    site.libc = Libc::Directory(libc);
    let made = site.make(|_| {}).unwrap();
    assert_eq!(made.remarks, []);
    assert!(site.image("lib64/ld-linux-x86-64.so.2").is_file());
    assert!(site.image("opt/occlum/glibc/lib/libc.so.6").is_file());
    assert!(!site.image("lib/x86_64-linux-gnu").exists());
}

#[test]
fn a_named_c_library_without_loader_is_refused() {
    let mut site = Site::new();
    site.libc = Libc::Directory(site.directory.path().join("nothing"));
    let error = site.make(|_| {}).unwrap_err();
    assert!(matches!(error, InitError::NoLoader { .. }), "{error}");
}

#[test]
fn a_bill_of_materials_makes_an_image() {
    let site = Site::new();
    let bom = site.directory.path().join("app.yaml");
    let program = this_test();
    let text = format!(
        "targets:\n- target: /opt/app\n  copy:\n  - from: {}\n    files: [{{name: {}, rename: app}}]\n",
        program.parent().unwrap().display(),
        program.file_name().unwrap().to_string_lossy(),
    );
    fs::write(&bom, text).unwrap();
    let make = |program: &'static str| {
        let variable = |_: &str| None;
        let settings = Settings { bom: &bom, include_directories: &[], base: site.instance(), variable: &variable };
        let request = Request { source: Source::Bom(settings), program, ..site.request() };
        super::make(&request)
    };
    let made = make("/opt/app/app");
    assert_eq!(made.unwrap().without_libraries, Vec::<String>::new());
    assert!(site.image("opt/app/app").is_file());
    let error = make("/opt/app/other").unwrap_err();
    assert!(chain(&error).starts_with("/opt/app/other of the image cannot be read: "), "{error}");
}

#[test]
fn an_image_directory_is_copied() {
    let first = Site::new();
    first.make(|_| {}).unwrap();
    let image = first.image("");
    let site = Site::new();
    fs::write(image.join("etc/hosts"), "mine\n").unwrap();
    fs::set_permissions(image.join("root"), fs::Permissions::from_mode(0o700)).unwrap();
    site.make(|request| request.source = Source::Image(&image)).unwrap();
    assert_eq!(site.text("image/etc/hosts"), "mine\n");
    assert_eq!(site.image("root").metadata().unwrap().permissions().mode() & 0o777, 0o700);
}

/// Occlum starts the program that the first line names.
#[test]
fn a_script_is_sized_by_what_runs_it_and_a_library_is_no_program() {
    let first = Site::new();
    let made = first.make(|_| {}).unwrap();
    let image = first.image("");
    fs::write(image.join("bin/script"), "#!/bin/hello\nwords\n").unwrap();
    let site = Site::new();
    let of_script = site.make(|request| {
        request.source = Source::Image(&image);
        request.program = "/bin/script";
    });
    let of_program = made.sizes.user_space.need;
    assert!(of_script.unwrap().sizes.user_space.need.abs_diff(of_program) < 1 << 20);

    let library = first.image("lib/x86_64-linux-gnu/libresolv.so.2");
    fs::copy(library, image.join("bin/library")).unwrap();
    let error = site.make(|request| {
        request.source = Source::Image(&image);
        request.program = "/bin/library";
        request.force = true;
    });
    assert!(matches!(error, Err(InitError::NotDynamic { .. })), "{error:?}");
}

#[test]
fn the_host_cannot_set_a_variable_that_has_a_fixed_value() {
    let site = Site::new();
    let fixed = ["EDG_MARBLE_DNS_NAMES=server.example".to_owned()];
    site.make(|request| request.environment = &fixed).unwrap();
    let config = OcclumJson::parse(site.text("Occlum.json").as_bytes()).unwrap();
    assert!(config.env.default.contains(&fixed[0]));
    assert!(!config.env.untrusted.contains(&"EDG_MARBLE_DNS_NAMES".to_owned()));
    assert!(config.env.untrusted.contains(&"EDG_MARBLE_COORDINATOR_ADDR".to_owned()));
}

#[test]
fn lists_of_the_premain_and_of_the_environment_are_written() {
    let (environment, untrusted) = (["LANG=C".to_owned(), "OCCLUM=maybe".to_owned()], ["TZ".to_owned()]);
    let site = Site::new();
    site.make(|request| {
        request.file_prefixes = Some(vec!["/etc/hello".to_owned()]);
        request.variables = Some(vec!["HELLO_*".to_owned()]);
        request.environment = &environment;
        request.untrusted_names = &untrusted;
    })
    .unwrap();
    assert_eq!(
        site.text("image/etc/marblerun/premain.json"),
        "{\"Programs\": [\"/bin/hello\"], \"FilePrefixes\": [\"/etc/hello\"], \"Variables\": [\"HELLO_*\"]}\n"
    );
    let config = OcclumJson::parse(site.text("Occlum.json").as_bytes()).unwrap();
    assert!(config.env.default.contains(&"LANG=C".to_owned()));
    assert!(
        config.env.default.contains(&"OCCLUM=maybe".to_owned())
            && !config.env.default.contains(&"OCCLUM=yes".to_owned())
    );
    assert!(config.env.untrusted.contains(&"TZ".to_owned()));
}

#[test]
fn values_that_cannot_be_are_refused() {
    #[track_caller]
    fn check<'a>(site: &'a Site, change: impl FnOnce(&mut Request<'a>), what: &str) {
        match site.make(change) {
            Err(InitError::Value { what: got, .. }) => assert_eq!(got, what),
            other => panic!("{other:?}"),
        }
    }
    let bad = ["=x".to_owned(), "novalue".to_owned(), "A=\0".to_owned()];
    let site = Site::new();
    for program in ["bin/hello", "/bin/../hello", "/bin/", "/", PREMAIN_PATH] {
        check(&site, |request| request.program = program, "program in the image");
    }
    check(&site, |request| request.marble = "", "Marble");
    for entry in &bad {
        check(&site, |request| request.environment = std::slice::from_ref(entry), "environment");
    }
    check(&site, |request| request.untrusted_names = &bad[..1], "untrusted variable");
    check(&site, |request| request.arguments = &bad[2..], "argument");
    check(&site, |request| request.file_prefixes = Some(vec!["/a/../b".to_owned()]), "allowed files");
}

#[test]
fn a_program_that_starts_threads_gets_some() {
    let site = Site::new();
    let few = site.make(|request| {
        request.wishes.threads = Some(1);
        request.dry_run = true;
    });
    let default = site.make(|request| request.dry_run = true).unwrap();
    assert!(default.sizes.threads.need > few.unwrap().sizes.threads.need);
}
