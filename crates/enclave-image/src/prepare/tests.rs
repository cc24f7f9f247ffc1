use std::os::unix::fs::symlink;

use super::*;
use crate::elf::test_file::ElfFile;

/// Written by somebody with habits: tabs, an order of their own, members that nobody knows, numbers as they like them.
const OCCLUM_JSON: &str = "{
\t\"x-note\": [1.0, 1e3, 123456789012345678901234567890],
\t\"process\": {\"default_stack_size\": \"4MB\", \"default_heap_size\":\"32 MB\", \"default_mmap_size\": \"80MB\"},
\t\"resource_limits\": {
\t\t\"user_space_size\": \"300MB\",
\t\t\"kernel_space_heap_size\": \"32MB\", \"kernel_space_stack_size\": \"1MB\",
\t\t\"max_num_of_threads\": 32
\t},
\t\"entry_points\": [
\t\t\"/bin\"
\t],
\t\"env\": {
\t\t\"default\": [
\t\t\t\"OCCLUM=yes\"
\t\t],
\t\t\"untrusted\": [ \"EXAMPLE\" ]
\t},
\t\"metadata\": {\"product_id\": 0, \"version_number\": 0, \"debuggable\": true, \"enable_kss\": false, \"autokey_policy\": 1},
\t\"feature\": {},
\t\"mount\": [{\"target\": \"/\", \"type\": \"unionfs\", \"options\": {\"layers\": [
\t\t{\"target\": \"/\", \"type\": \"sefs\", \"source\": \"./build/mount/__ROOT\", \"options\": {\"MAC\": \"\"}},
\t\t{\"target\": \"/\", \"type\": \"sefs\", \"source\": \"./run/mount/__ROOT\"}]}}]
}";

struct Site {
    directory: tempfile::TempDir,
    premain: PathBuf,
}

impl Site {
    fn new() -> Self {
        let site = Self { directory: tempfile::tempdir().unwrap(), premain: std::env::current_exe().unwrap() };
        fs::create_dir_all(site.path("image/bin")).unwrap();
        fs::write(site.path("image/bin/app"), "the program").unwrap();
        fs::write(site.path(CONFIGURATION), OCCLUM_JSON).unwrap();
        site
    }

    fn instance(&self) -> PathBuf {
        self.directory.path().join("shop")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.instance().join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn plan(&self, change: impl FnOnce(&mut Request<'_>)) -> Result<Preparation, InitError> {
        let instance = self.instance();
        let mut request = Request {
            directory: &instance,
            premain: &self.premain,
            libc: &Libc::Host,
            marble: None,
            program: None,
            root_sha256: None,
            manifest_environment_bytes: None,
        };
        change(&mut request);
        plan(&request)
    }
}

// rules: INST-6
#[test]
fn an_instance_becomes_a_marble_and_a_second_run_changes_nothing() {
    let site = Site::new();
    let preparation = site.plan(|request| request.root_sha256 = Some([1; 32])).unwrap();
    assert!(!preparation.is_empty() && preparation.has_pin());
    preparation.apply().unwrap();
    let config = OcclumJson::parse(site.text(CONFIGURATION).as_bytes()).unwrap();
    assert_eq!(config.entry_points, [PREMAIN_PATH]);
    assert_eq!(
        config.env.default,
        ["OCCLUM=yes", "EDG_MARBLE_TYPE=shop", "EDG_MARBLE_UUID_FILE=/var/lib/marblerun/uuid"]
    );
    assert_eq!(config.env.untrusted[0], "EXAMPLE");
    assert_eq!(config.env.untrusted[1..], UNTRUSTED_NAMES);
    for file in ["bin/premain-libos", "lib64/ld-linux-x86-64.so.2", "etc/marblerun/coordinator.json"] {
        assert!(site.path("image").join(file).is_file(), "{file}");
    }
    assert!(site.path("image/var/lib/marblerun").is_dir());
    assert_eq!(site.text("image/bin/app"), "the program");

    for again in [site.plan(|request| request.root_sha256 = Some([1; 32])), site.plan(|_| {})] {
        let again = again.unwrap();
        assert!(again.is_empty(), "{} {:?}", again.diff(), again.files());
        assert!(again.files().is_empty() && again.diff().is_empty() && again.has_pin());
    }
}

// rules: INST-5
#[test]
fn everything_else_in_the_text_stays_as_it_was() {
    let site = Site::new();
    site.plan(|_| {}).unwrap().apply().unwrap();
    let expected = OCCLUM_JSON
        .replace("\"/bin\"", "\"/bin/premain-libos\"")
        .replace(
            "\"OCCLUM=yes\"",
            "\"OCCLUM=yes\",\n\t\t\t\"EDG_MARBLE_TYPE=shop\",\n\t\t\t\"EDG_MARBLE_UUID_FILE=/var/lib/marblerun/uuid\"",
        )
        .replace("\"EXAMPLE\"", &format!("\"EXAMPLE\", {}", UNTRUSTED_NAMES.map(quoted).join(", ")));
    assert_eq!(site.text(CONFIGURATION), expected);
}

#[test]
fn looking_changes_nothing_and_shows_everything() {
    let site = Site::new();
    let preparation = site.plan(|_| {}).unwrap();
    let diff = preparation.diff();
    for line in ["-\t\t\"/bin\"", "+\t\t\"/bin/premain-libos\"", "--- Occlum.json", "+++ Occlum.json (prepared)"] {
        assert!(diff.lines().any(|own| own == line), "{diff}");
    }
    let files = preparation.files();
    let new = |path: &str| FileChange { path: path.to_owned(), change: Change::New };
    for path in ["image/bin/premain-libos", "image/var/lib/marblerun/", "Occlum.json.before-marblerun"] {
        assert!(files.contains(&new(path)), "{files:?}");
    }
    assert_eq!(site.text(CONFIGURATION), OCCLUM_JSON);
    assert!(!site.path("image/bin/premain-libos").exists() && !site.path(BACKUP).exists());
    assert!(!preparation.has_pin());
}

// rules: INST-6
#[test]
fn the_first_configuration_is_kept_for_good() {
    let site = Site::new();
    site.plan(|_| {}).unwrap().apply().unwrap();
    assert_eq!(site.text(BACKUP), OCCLUM_JSON);
    site.plan(|request| request.marble = Some("other")).unwrap().apply().unwrap();
    assert_eq!(site.text(BACKUP), OCCLUM_JSON);
    assert!(site.text(CONFIGURATION).contains("\"EDG_MARBLE_TYPE=other\""));
    assert!(!site.text(CONFIGURATION).contains("EDG_MARBLE_TYPE=shop"));
}

#[test]
fn what_is_there_already_is_not_added() {
    let site = Site::new();
    let text = OCCLUM_JSON
        .replace("\"OCCLUM=yes\"", "\"EDG_MARBLE_UUID_FILE=/data/id\", \"EDG_MARBLE_TYPE=mine\"")
        .replace("\"EXAMPLE\"", "\"EDG_LOG_FORMAT\", \"EDG_MARBLE_DNS_NAMES\"");
    fs::write(site.path(CONFIGURATION), text).unwrap();
    fs::create_dir(site.path("image/data")).unwrap();
    let preparation = site.plan(|_| {}).unwrap();
    preparation.apply().unwrap();
    let config = OcclumJson::parse(site.text(CONFIGURATION).as_bytes()).unwrap();
    assert_eq!(config.env.default, ["EDG_MARBLE_UUID_FILE=/data/id", "EDG_MARBLE_TYPE=mine"]);
    assert_eq!(config.env.untrusted.len(), UNTRUSTED_NAMES.len());
    assert!(preparation.files().iter().all(|file| !file.path.ends_with('/')), "{:?}", preparation.files());
    // A type that the host chooses is the developer's decision.
    let text = OCCLUM_JSON.replace("\"EXAMPLE\"", "\"EDG_MARBLE_TYPE\"");
    fs::write(site.path(CONFIGURATION), text).unwrap();
    assert!(!site.plan(|_| {}).unwrap().new.contains("EDG_MARBLE_TYPE="));
}

#[test]
fn another_premain_and_another_pin_are_replaced() {
    let site = Site::new();
    site.plan(|request| request.root_sha256 = Some([1; 32])).unwrap().apply().unwrap();
    fs::write(site.path("image/bin/premain-libos"), "old").unwrap();
    let preparation = site.plan(|request| request.root_sha256 = Some([2; 32])).unwrap();
    let replaced = |path: &str| FileChange { path: path.to_owned(), change: Change::Replaced };
    assert_eq!(
        preparation.files(),
        [replaced("image/bin/premain-libos"), replaced("image/etc/marblerun/coordinator.json")]
    );
    preparation.apply().unwrap();
    assert!(site.text("image/etc/marblerun/coordinator.json").contains(&"02".repeat(32)));
}

#[test]
fn sizes_rise_only_where_they_are_too_small() {
    let site = Site::new();
    let text = OCCLUM_JSON
        .replace("\"300MB\"", "\"64MB\"")
        .replace("\"max_num_of_threads\": 32", "\"max_num_of_threads\": 2")
        .replace("\"4MB\"", "\"1MB\"");
    fs::write(site.path(CONFIGURATION), text).unwrap();
    let preparation = site.plan(|_| {}).unwrap();
    let members: Vec<_> = preparation.raised().iter().map(|figure| figure.member).collect();
    assert_eq!(
        members,
        ["resource_limits.max_num_of_threads", "resource_limits.user_space_size", "process.default_stack_size"]
    );
    preparation.apply().unwrap();
    let config = OcclumJson::parse(site.text(CONFIGURATION).as_bytes()).unwrap();
    assert_eq!(config.resource_limits.max_num_of_threads, 8);
    assert!(config.resource_limits.user_space_size.0 > 64 << 20);
    assert!(site.text(CONFIGURATION).contains("\"default_heap_size\":\"32 MB\""));
    assert!(site.plan(|_| {}).unwrap().is_empty());
}

/// The variables that are added count already in the first run.
// rules: INST-6
#[test]
fn a_stack_that_just_suffices_is_not_raised_by_a_second_run() {
    let site = Site::new();
    fs::write(site.path(CONFIGURATION), OCCLUM_JSON.replace("\"OCCLUM=yes\"", "")).unwrap();
    let plan = |bytes: u64| site.plan(|request| request.manifest_environment_bytes = Some(bytes)).unwrap();
    let (mut enough, mut too_much) = (0, 16 << 10);
    while too_much - enough > 1 {
        let middle = u64::midpoint(enough, too_much);
        let is_raised = plan(middle).raised().iter().any(|figure| figure.member == "process.default_stack_size");
        *(if is_raised { &mut too_much } else { &mut enough }) = middle;
    }
    plan(enough).apply().unwrap();
    assert!(plan(enough).is_empty(), "{}", plan(enough).diff());
}

#[test]
fn a_maximum_of_the_user_space_counts_instead_of_the_size() {
    let site = Site::new();
    let with_max =
        |max: &str| OCCLUM_JSON.replace("\"300MB\"", &format!("\"16MB\", \"user_space_max_size\": \"{max}\""));
    fs::write(site.path(CONFIGURATION), with_max("300MB")).unwrap();
    assert!(site.plan(|_| {}).unwrap().raised().is_empty());
    fs::write(site.path(CONFIGURATION), with_max("32MB")).unwrap();
    assert_eq!(site.plan(|_| {}).unwrap().raised()[0].member, "resource_limits.user_space_max_size");
    // With EDMM Occlum itself raises it, and the threads.
    let few = with_max("32MB").replace("\"max_num_of_threads\": 32", "\"max_num_of_threads\": 2");
    fs::write(site.path(CONFIGURATION), few.replace("\"feature\": {}", "\"feature\": {\"enable_edmm\": true}"))
        .unwrap();
    assert!(site.plan(|_| {}).unwrap().raised().is_empty());
}

// rules: INST-7
#[test]
fn links_of_the_image_do_not_lead_out_of_it() {
    let site = Site::new();
    let outside = site.directory.path().join("outside");
    fs::create_dir(&outside).unwrap();
    symlink(&outside, site.path("image/var")).unwrap();
    site.plan(|_| {}).unwrap().apply().unwrap();
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn a_configuration_that_changed_meanwhile_is_left_alone() {
    let site = Site::new();
    let preparation = site.plan(|_| {}).unwrap();
    fs::write(site.path(CONFIGURATION), OCCLUM_JSON.replace("32MB", "64MB")).unwrap();
    assert!(matches!(preparation.apply(), Err(InitError::ChangedMeanwhile(_))));
    assert!(!site.path("image/bin/premain-libos").exists());
}

#[test]
fn what_cannot_be_prepared_is_refused() {
    let site = Site::new();
    fs::write(site.path(CONFIGURATION), OCCLUM_JSON.replace("\"4MB\"", "\"4mb\"")).unwrap();
    assert!(matches!(site.plan(|_| {}), Err(InitError::Configuration { .. })));
    fs::write(site.path(CONFIGURATION), "x".repeat(2 << 20)).unwrap();
    assert!(matches!(site.plan(|_| {}), Err(InitError::Value { .. })));
    fs::write(site.path(CONFIGURATION), OCCLUM_JSON).unwrap();
    assert!(matches!(site.plan(|request| request.marble = Some("a/b")), Err(InitError::Value { .. })));
    let with_type = OCCLUM_JSON.replace("OCCLUM=yes", "EDG_MARBLE_TYPE=a");
    fs::write(site.path(CONFIGURATION), with_type).unwrap();
    assert!(matches!(site.plan(|request| request.marble = Some("a/b")), Err(InitError::Value { .. })));
    fs::write(site.path(CONFIGURATION), OCCLUM_JSON).unwrap();
    assert!(matches!(site.plan(|request| request.program = Some("/bin/missing")), Err(InitError::NotInImage { .. })));
    fs::remove_dir_all(site.path("image")).unwrap();
    assert!(matches!(site.plan(|_| {}), Err(InitError::Io { .. })));
}

/// Opening a pipe would wait for ever.
#[test]
fn a_pipe_is_refused_and_not_read() {
    let mut site = Site::new();
    let pipe = site.directory.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let premain = std::mem::replace(&mut site.premain, pipe.clone());
    assert!(matches!(site.plan(|_| {}), Err(InitError::Io { .. })));
    site.premain = premain;
    fs::remove_file(site.path(CONFIGURATION)).unwrap();
    symlink(&pipe, site.path(CONFIGURATION)).unwrap();
    assert!(matches!(site.plan(|_| {}), Err(InitError::Io { .. })));
}

#[test]
fn texts_that_only_look_like_json_are_refused_and_other_line_ends_stay() {
    let site = Site::new();
    for text in [
        format!("\u{feff}{OCCLUM_JSON}"),
        format!("// a comment\n{OCCLUM_JSON}"),
        OCCLUM_JSON.replace("\"feature\": {}", "\"feature\": {}, \"feature\": {}"),
        OCCLUM_JSON.replace("\"feature\": {}", "\"feature\": {}, \"\\u0065nv\": {}"),
        OCCLUM_JSON.replace("[1.0,", &format!("{}{},[1.0,", "[".repeat(100), "]".repeat(100))),
    ] {
        fs::write(site.path(CONFIGURATION), &text).unwrap();
        assert!(site.plan(|_| {}).is_err(), "{text}");
    }
    let text = OCCLUM_JSON.replace("\"entry_points\"", "\"entry\\u005fpoints\"").replace('\n', "\r\n");
    fs::write(site.path(CONFIGURATION), text).unwrap();
    site.plan(|_| {}).unwrap().apply().unwrap();
    let text = site.text(CONFIGURATION);
    assert!(text.contains("\"entry\\u005fpoints\": [\r\n\t\t\"/bin/premain-libos\"\r\n"), "{text}");
    assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
}

/// An image with a C library of its own, as `occlum new` makes it.
#[test]
fn the_images_own_c_library_decides_and_is_not_mixed() {
    let mut site = Site::new();
    for directory in ["image/lib64", "image/lib"] {
        fs::create_dir(site.path(directory)).unwrap();
    }
    let loader = ElfFile::library("ld-linux-x86-64.so.2").build();
    fs::write(site.path("image/lib64/ld-linux-x86-64.so.2"), loader).unwrap();
    let libc = ElfFile::library("libc.so.6").defines("GLIBC_2.31").build();
    fs::write(site.path("image/lib/libc.so.6"), &libc).unwrap();
    let premain = |glibc: &str| {
        ElfFile::program().needs("libc.so.6").requires("libc.so.6", glibc).imports_versioned("puts").build()
    };
    site.premain = site.directory.path().join("premain");
    fs::write(&site.premain, premain("GLIBC_2.30")).unwrap();
    let preparation = site.plan(|_| {}).unwrap();
    let added: Vec<_> = preparation.files().into_iter().map(|file| file.path).collect();
    assert_eq!(added, ["image/bin/premain-libos", "image/var/lib/marblerun/", BACKUP]);
    preparation.apply().unwrap();
    assert_eq!(fs::read(site.path("image/lib/libc.so.6")).unwrap(), libc);

    fs::write(&site.premain, premain("GLIBC_2.34")).unwrap();
    let error = site.plan(|_| {}).unwrap_err();
    assert!(matches!(error, InitError::OldGlibc { needed: (2, 34), present: (2, 31), .. }), "{error}");
}
