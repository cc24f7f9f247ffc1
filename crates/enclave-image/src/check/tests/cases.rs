//! One change of the good instance for each rule.

use super::super::rule::{Rule, Severity};
use super::fixture::{Instance, SYSTEM_CALL, app, development_modulus, libc, many_system_calls, premain};
use crate::elf::test_file::ElfFile;

/// A change that breaks a rule.
pub(super) struct Case {
    pub(super) rule: Rule,
    /// Part of the reason.
    pub(super) reason: &'static str,
    pub(super) place: &'static str,
    /// If it is not the rule's usual one.
    pub(super) severity: Option<Severity>,
    /// Rules that are broken as well.
    pub(super) also: &'static [Rule],
    pub(super) change: fn(&mut Instance),
}

const fn case(rule: Rule, reason: &'static str, place: &'static str, change: fn(&mut Instance)) -> Case {
    Case { rule, reason, place, severity: None, also: &[], change }
}

const fn with(case: Case, also: &'static [Rule]) -> Case {
    Case { also, ..case }
}

const fn as_severity(case: Case, severity: Severity) -> Case {
    Case { severity: Some(severity), ..case }
}

/// What follows from a file that cannot be understood at all.
const NOTHING_KNOWN: &[Rule] =
    &[Rule::NoEntryPoint, Rule::NoMarbleType, Rule::NoCoordinatorAddress, Rule::NoMarbleVariable];

use Rule as R;

pub(super) const ALL: &[Case] = &[
    // Occlum.json
    with(case(R::Syntax, "EOF while parsing", "Occlum.json", |i| i.whole_config("{")), NOTHING_KNOWN),
    case(R::DuplicateKey, "occurs twice", "Occlum.json: feature.amx", |i| {
        i.config("\"amx\": 0", "\"amx\": 0, \"amx\": 0")
    }),
    case(R::UnknownKey, "no member \"autokey_policy\"", "Occlum.json: mount[1].options.autokey_policy", |i| {
        i.config("\"cache_size\"", "\"autokey_policy\": 1, \"cache_size\"");
    }),
    case(R::MissingKey, "no member \"default_mmap_size\"", "Occlum.json: process.default_mmap_size", |i| {
        i.config(", \"default_mmap_size\": \"32MB\"", "");
    }),
    case(R::OldTemplate, "no member \"feature\"", "Occlum.json: feature", |i| {
        i.config("\"feature\": {\"amx\": 0, \"pkru\": 2, \"io_uring\": 0},", "");
    }),
    case(R::WrongType, "expected true or false, got a string", "Occlum.json: metadata.enable_kss", |i| {
        i.config("\"enable_kss\": false", "\"enable_kss\": \"no\"");
    }),
    case(R::WrongType, "expected a string, got the number 3", "Occlum.json: env.untrusted[4]", |i| {
        i.config("\"EDG_LOG_FORMAT\"]", "\"EDG_LOG_FORMAT\", 3]");
    }),
    case(R::WrongType, "got the number -1", "Occlum.json: resource_limits.max_num_of_threads", |i| {
        i.config("\"max_num_of_threads\": 16", "\"max_num_of_threads\": -1");
    }),
    case(R::Size, "expected a size such as \"32MB\"", "Occlum.json: resource_limits.kernel_space_stack_size", |i| {
        i.config("\"1MB\"", "\"1 mb\"");
    }),
    case(R::Size, "99999999999TB", "Occlum.json: resource_limits.kernel_space_stack_size", |i| {
        i.config("\"1MB\"", "\"99999999999TB\"");
    }),
    case(R::IdRange, "up to 65535, got 65536", "Occlum.json: metadata.version_number", |i| {
        i.config("\"version_number\": 7", "\"version_number\": 65536");
    }),
    case(R::KssId, "got \"0xg\"", "Occlum.json: metadata.family_id.high", |i| {
        i.config("\"enable_kss\": false", "\"enable_kss\": true");
        i.config("\"0x0\"", "\"0xg\"");
    }),
    case(R::KssUnused, "\"0x1\" has no effect", "Occlum.json: metadata.family_id.high", |i| {
        i.config("\"0x0\"", "\"0x1\"")
    }),
    with(
        case(R::EntryPointPath, "got \"/bin/../premain-libos\"", "Occlum.json: entry_points[0]", |i| {
            i.config("/bin/premain-libos", "/bin/../premain-libos");
        }),
        &[R::NoEntryPoint],
    ),
    with(
        case(R::NoEntryPoint, "/bin/premain-libos is not below", "Occlum.json: entry_points", |i| {
            i.config("/bin/premain-libos", "/usr/bin");
        }),
        &[R::EntryPointBypass],
    ),
    case(R::EntryPointBypass, "can start /bin/app without", "Occlum.json: entry_points[0]", |i| {
        i.config("/bin/premain-libos", "/bin");
    }),
    case(R::EntryPointBypass, "/bin/tool is not in the image", "Occlum.json: entry_points[1]", |i| {
        i.config("\"/bin/premain-libos\"", "\"/bin/premain-libos\", \"/bin/tool\"");
    }),
    with(
        case(R::Debuggable, "nothing in it is secret", "Occlum.json: metadata.debuggable", |i| {
            i.config("\"debuggable\": false", "\"debuggable\": true");
            i.build(|structure| structure[928] = 2);
        }),
        &[R::PackageDebug],
    ),
    case(R::DisableLog, "may log errors to the host", "Occlum.json: metadata.disable_log", |i| {
        i.config("\"disable_log\": true", "\"disable_log\": false");
    }),
    case(R::MaxWithoutEdmm, "in place of user_space_size", "Occlum.json: resource_limits.user_space_max_size", |i| {
        i.config("\"user_space_size\"", "\"user_space_max_size\": \"512MB\", \"user_space_size\"");
    }),
    case(R::MaxWithoutEdmm, "has no effect", "Occlum.json: resource_limits.init_num_of_threads", |i| {
        i.config("\"max_num_of_threads\"", "\"init_num_of_threads\": 4, \"max_num_of_threads\"");
    }),
    with(
        case(
            R::MaxBelowSize,
            "less than kernel_space_heap_size",
            "Occlum.json: resource_limits.kernel_space_heap_max_size",
            |i| {
                i.config("\"user_space_size\"", "\"kernel_space_heap_max_size\": \"32MB\", \"user_space_size\"");
            },
        ),
        &[R::MaxWithoutEdmm],
    ),
    with(
        case(R::MaxBelowSize, "17 threads at the start", "Occlum.json: resource_limits.init_num_of_threads", |i| {
            i.config("\"max_num_of_threads\"", "\"init_num_of_threads\": 17, \"max_num_of_threads\"");
        }),
        &[R::MaxWithoutEdmm],
    ),
    case(R::Edmm, "needs EDMM", "Occlum.json: feature.enable_edmm", |i| {
        i.config("\"amx\": 0", "\"enable_edmm\": true")
    }),
    case(R::HyperOnly, "it is set", "Occlum.json: resource_limits.marshal_buffer_size", |i| {
        i.config("\"user_space_size\"", "\"marshal_buffer_size\": \"1MB\", \"user_space_size\"");
    }),
    case(R::FeatureRange, "expected 0, 1 or 2, got 3", "Occlum.json: feature.pkru", |i| {
        i.config("\"pkru\": 2", "\"pkru\": 3")
    }),
    with(
        case(R::FeatureRange, "at most 16, got 17", "Occlum.json: feature.io_uring", |i| {
            i.config("\"io_uring\": 0", "\"io_uring\": 17");
        }),
        &[R::FewThreads],
    ),
    case(R::FeatureHardware, "amx is 1", "Occlum.json: feature.amx", |i| i.config("\"amx\": 0", "\"amx\": 1")),
    with(
        case(R::NoRoot, "no mount has the target /", "Occlum.json: mount", |i| {
            i.config("\"target\": \"/\", \"type\": \"unionfs\"", "\"target\": \"/root\", \"type\": \"unionfs\"");
        }),
        &[R::MountTarget],
    ),
    case(R::NoRoot, "2 mounts have the target /", "Occlum.json: mount[1]", |i| {
        i.mount("{\"target\": \"/\", \"type\": \"ramfs\"}");
    }),
    case(R::RootLayers, "no member MAC", "Occlum.json: mount[0].options.layers[0].options", |i| {
        i.config("\"options\": {\"MAC\": \"\"}", "\"options\": {}");
    }),
    case(R::RootLayers, "has a member MAC", "Occlum.json: mount[0].options.layers[1].options.MAC", |i| {
        i.config("\"temporary\": true", "\"MAC\": \"\"");
    }),
    case(R::RootLayers, "expected an sefs at /, got \"ramfs\"", "Occlum.json: mount[0].options.layers[1]", |i| {
        i.config("\"type\": \"sefs\", \"source\": \"./run/mount", "\"type\": \"ramfs\", \"source\": \"./run/mount");
    }),
    case(R::LayerSource, "got \"./build/mount/ROOT\"", "Occlum.json: mount[0].options.layers[0].source", |i| {
        i.config("./build/mount/__ROOT", "./build/mount/ROOT");
    }),
    case(R::LayerSource, "below ./run, got \"/tmp\"", "Occlum.json: mount[0].options.layers[1].source", |i| {
        i.config("./run/mount/__ROOT", "/tmp");
    }),
    case(R::MacOutside, "only a layer of the root", "Occlum.json: mount[1].options.MAC", |i| {
        i.config("\"cache_size\"", "\"MAC\": \"\", \"cache_size\"");
    }),
    case(
        R::MacOutside,
        "cannot be empty at every start",
        "Occlum.json: mount[0].options.layers[0].options.temporary",
        |i| {
            i.config("{\"MAC\": \"\"}", "{\"MAC\": \"\", \"temporary\": true}");
        },
    ),
    case(R::MountType, "no mount of the type \"nfs\"", "Occlum.json: mount[1].type", |i| {
        i.mount("{\"target\": \"/n\", \"type\": \"nfs\"}");
    }),
    case(R::MountTarget, "got \"data\"", "Occlum.json: mount[1].target", |i| i.config("\"/data\"", "\"data\"")),
    case(R::MountTarget, "\"/data\" is a target already", "Occlum.json: mount[2].target", |i| {
        i.mount("{\"target\": \"/data/\", \"type\": \"ramfs\"}");
    }),
    case(R::MountSource, "a mount of the type sefs needs a source", "Occlum.json: mount[1].source", |i| {
        i.config("\"source\": \"./run/data\", ", "");
    }),
    with(
        case(R::MountSource, "\"./host\" is no directory of the host", "Occlum.json: mount[1].source", |i| {
            i.mount("{\"target\": \"/host\", \"type\": \"hostfs\", \"source\": \"./host\"}");
        }),
        &[R::HostFs],
    ),
    case(R::MountRedundant, "/dev is always there", "Occlum.json: mount[1]", |i| {
        i.mount("{\"target\": \"/dev\", \"type\": \"devfs\"}");
    }),
    case(R::HostFs, "the host owns /host", "Occlum.json: mount[1]", |i| i.host_mount("/host")),
    with(
        case(R::HostFsShadow, "the image has files at /etc/app", "Occlum.json: mount[1].target", |i| {
            i.host_mount("/etc/app")
        }),
        &[R::HostFs, R::SecretOnHost],
    ),
    case(R::CacheSize, "100 bytes", "Occlum.json: mount[1].options.cache_size", |i| {
        i.config("\"cache_size\": \"1MB\"", "\"cache_size\": \"100B\"")
    }),
    case(R::CacheSize, "134217728 bytes", "Occlum.json: mount[1].options.cache_size", |i| {
        i.config("\"cache_size\": \"1MB\"", "\"cache_size\": \"128MB\"");
    }),
    case(R::CacheSize, "1 bytes", "Occlum.json: mount[0].options.layers[1].options.cache_size", |i| {
        i.config("\"temporary\": true", "\"temporary\": true, \"cache_size\": \"1B\"");
    }),
    case(R::DiskSize, "got none", "Occlum.json: mount[1].options.disk_size", |i| {
        i.mount("{\"target\": \"/disk\", \"type\": \"ext2\", \"source\": \"./run/disk\"}");
    }),
    with(
        case(R::ShadowLayer, "keeps files over a measured image", "Occlum.json: mount[0].options.layers[1]", |i| {
            i.config("{\"temporary\": true}", "{}");
            i.remove("build");
        }),
        &[R::NotBuilt],
    ),
    // Files of the image
    case(R::NoImage, "no such directory", "image", |i| i.remove("image")),
    case(R::NoPremain, "no program below the entry points is a premain", "Occlum.json: entry_points", |i| {
        i.elf("image/bin/premain-libos", &app());
    }),
    case(R::ProgramMissing, "the image has no \"/bin/other\"", "manifest: Marbles.web.Parameters.Argv", |i| {
        i.manifest("/bin/app", "/bin/other");
    }),
    case(R::NotExecutable, "may not be executed", "image: /bin/app", |i| i.mode("image/bin/app", 0o644)),
    case(R::NotAProgram, "it is a directory", "image: /bin/app", |i| {
        i.remove("image/bin/app");
        i.directory_at("image/bin/app");
    }),
    case(R::NotAProgram, "another processor", "image: /bin/app", |i| i.elf("image/bin/app", &app().machine(183))),
    case(R::NotAProgram, "32-bit", "image: /bin/app", |i| {
        let mut file = app().machine(3).build();
        file[4] = 1;
        i.program("image/bin/app", file);
    }),
    case(R::NotAProgram, "no ELF file", "image: /bin/app", |i| i.program("image/bin/app", "echo\n")),
    case(R::NotAProgram, "damaged", "image: /bin/app", |i| i.program("image/bin/app", &app().build()[..100])),
    case(R::StaticProgram, "statically linked", "image: /bin/app", |i| {
        i.elf("image/bin/app", &app().interpreter(None))
    }),
    case(R::FixedAddress, "fixed address", "image: /bin/app", |i| i.elf("image/bin/app", &app().kind(2))),
    case(R::NoInterpreter, "\"/lib/ld-musl-x86_64.so.1\"", "image: /bin/app", |i| {
        i.elf("image/bin/app", &app().interpreter(Some("/lib/ld-musl-x86_64.so.1")));
    }),
    case(R::LibraryMissing, "needs libapp.so, which is in none of /lib64, /lib", "image: /bin/app", |i| {
        i.remove("image/lib/libapp.so");
    }),
    case(R::LibraryMissing, "needs libother.so", "image: /lib/libapp.so", |i| {
        i.elf("image/lib/libapp.so", &ElfFile::library("libapp.so").needs("libother.so"));
    }),
    case(R::LibraryMissing, "it is no library", "image: /lib/libapp.so", |i| i.write("image/lib/libapp.so", "text")),
    case(
        R::SymbolVersion,
        "needs GLIBC_2.36 (arc4random) of /lib/libc.so.6, which has at most GLIBC_2.34",
        "image: /bin/app",
        |i| {
            i.elf("image/bin/app", &app().requires("libc.so.6", "GLIBC_2.36").imports_versioned("arc4random"));
        },
    ),
    case(R::UnpatchedLibc, "40 system call instructions", "image: /lib/libc.so.6", |i| {
        i.elf("image/lib/libc.so.6", &libc().defines("GLIBC_2.34").code(&many_system_calls()));
    }),
    case(R::ScriptLine, "takes the whole first line", "image: /bin/app", |i| {
        i.program("image/bin/app", "#!/bin/other -e\n")
    }),
    case(R::ScriptLine, "within 127 bytes", "image: /bin/app", |i| {
        i.program("image/bin/app", format!("#!/{}\n", "x".repeat(200)));
    }),
    case(R::ScriptInterpreter, "the image has no \"/bin/sh\"", "image: /bin/app", |i| {
        i.program("image/bin/app", "#!/bin/sh\n")
    }),
    case(R::ScriptInterpreter, "below /host", "image: /bin/app", |i| i.program("image/bin/app", "#!/host/sh\n")),
    case(R::ScriptInterpreter, "is a script itself", "image: /bin/app", |i| i.program("image/bin/app", "#!/bin/app\n")),
    case(R::Fork, "uses fork", "image: /bin/app", |i| i.elf("image/bin/app", &app().imports("fork"))),
    case(R::Fork, "uses daemon", "image: /lib/libapp.so", |i| {
        i.elf("image/lib/libapp.so", &ElfFile::library("libapp.so").imports("daemon"));
    }),
    case(R::Spawn, "uses posix_spawn", "image: /bin/app", |i| i.elf("image/bin/app", &app().imports("posix_spawn"))),
    case(R::Spawn, "fork beside posix_spawn", "image: /bin/app", |i| {
        i.elf("image/bin/app", &app().imports("posix_spawnp").imports("fork"));
    }),
    as_severity(
        case(R::Spawn, "uses system, and the image has no /bin/sh", "image: /bin/app", |i| {
            i.elf("image/bin/app", &app().imports("system"));
        }),
        Severity::Warning,
    ),
    case(R::InlineSyscall, "a system call instruction at", "image: /lib/libapp.so", |i| {
        i.elf("image/lib/libapp.so", &ElfFile::library("libapp.so").code(&SYSTEM_CALL));
    }),
    case(R::PremainSyscall, "a system call instruction at", "image: /bin/premain-libos", |i| {
        i.elf("image/bin/premain-libos", &premain().code(&SYSTEM_CALL));
    }),
    case(R::GoProgram, "the Go compiler", "image: /bin/app", |i| {
        i.elf("image/bin/app", &app().section(".go.buildinfo").code(&SYSTEM_CALL));
    }),
    case(
        R::NameResolution,
        "lacks libnss_dns.so.2, libnss_files.so.2, libresolv.so.2",
        "image: /bin/premain-libos",
        |i| {
            i.elf("image/lib/libc.so.6", &libc());
        },
    ),
    case(R::SpecialFile, "a socket", "image: /etc/s", |i| i.socket("image/etc/s")),
    case(R::SpecialFile, "set-id", "image: /bin/app", |i| i.mode("image/bin/app", 0o4755)),
    case(R::KeyInImage, "a private key", "image: /etc/key.pem", |i| {
        i.write("image/etc/key.pem", "-----BEGIN EC PRIVATE KEY-----\n");
    }),
    case(R::KeyInImage, "a private key", "image: /etc/key.pem", |i| {
        i.write("image/etc/key.pem", "-----BEGIN PRIVATE KEY-----\r\n");
    }),
    // Variables
    case(R::EnvEntry, "the name \"OCCLUM\"", "Occlum.json: env.default[0]", |i| {
        i.config("\"OCCLUM=yes\"", "\"OCCLUM\"")
    }),
    case(R::EnvEntry, "got \"EDG_*\"", "Occlum.json: env.untrusted[4]", |i| {
        i.config("\"EDG_LOG_FORMAT\"]", "\"EDG_LOG_FORMAT\", \"EDG_*\"]");
    }),
    case(R::EnvDuplicate, "\"OCCLUM\" is in the list already", "Occlum.json: env.default[1]", |i| {
        i.config("\"OCCLUM=yes\"", "\"OCCLUM=yes\", \"OCCLUM=no\"");
    }),
    case(R::EnvDuplicate, "\"EDG_LOG_FORMAT\" is", "Occlum.json: env.untrusted[4]", |i| {
        i.config("\"EDG_LOG_FORMAT\"]", "\"EDG_LOG_FORMAT\", \"EDG_LOG_FORMAT\"]");
    }),
    case(R::NoMarbleType, "EDG_MARBLE_TYPE is in neither list", "Occlum.json: env.untrusted", |i| {
        i.config(", \"EDG_MARBLE_TYPE=web\"", "");
    }),
    case(R::NoCoordinatorAddress, "EDG_MARBLE_COORDINATOR_ADDR is in neither", "Occlum.json: env.untrusted", |i| {
        i.config("\"EDG_MARBLE_COORDINATOR_ADDR\", ", "");
    }),
    case(R::NoMarbleVariable, "EDG_MARBLE_DNS_NAMES is in neither", "Occlum.json: env.untrusted", |i| {
        i.config("\"EDG_MARBLE_DNS_NAMES\", ", "");
    }),
    case(R::MarbleValue, "EDG_MARBLE_ACTIVATION_TIMEOUT: expected", "Occlum.json: env.default[1]", |i| {
        i.config("\"OCCLUM=yes\"", "\"OCCLUM=yes\", \"EDG_MARBLE_ACTIVATION_TIMEOUT=soon\"");
    }),
    case(R::Simulation, "the host may set EDG_MARBLE_SIMULATION", "Occlum.json: env.untrusted[4]", |i| {
        i.config("\"EDG_LOG_FORMAT\"]", "\"EDG_LOG_FORMAT\", \"EDG_MARBLE_SIMULATION\"]");
    }),
    case(R::Simulation, "OE_SIMULATION is set", "Occlum.json: env.default[1]", |i| {
        i.config("\"OCCLUM=yes\"", "\"OCCLUM=yes\", \"OE_SIMULATION=1\"");
    }),
    case(R::DangerousVariable, "the host may set LD_PRELOAD", "Occlum.json: env.untrusted[4]", |i| {
        i.config("\"EDG_LOG_FORMAT\"]", "\"EDG_LOG_FORMAT\", \"LD_PRELOAD\"]");
    }),
    case(R::DangerousVariable, "the host may set https_proxy", "Occlum.json: env.untrusted[4]", |i| {
        i.config("\"EDG_LOG_FORMAT\"]", "\"EDG_LOG_FORMAT\", \"https_proxy\"]");
    }),
    case(R::DangerousVariable, "the host may set PHPRC", "Occlum.json: env.untrusted[4]", |i| {
        i.config("\"EDG_LOG_FORMAT\"]", "\"EDG_LOG_FORMAT\", \"PHPRC\"]");
    }),
    case(R::UntrustedDefault, "\"OCCLUM\" has a value in env.default", "Occlum.json: env.untrusted[4]", |i| {
        i.config("\"EDG_LOG_FORMAT\"]", "\"EDG_LOG_FORMAT\", \"OCCLUM\"]");
    }),
    case(R::UntrustedManifest, "the manifest sets \"APP_KEY\"", "Occlum.json: env.untrusted[4]", |i| {
        i.config("\"EDG_LOG_FORMAT\"]", "\"EDG_LOG_FORMAT\", \"APP_KEY\"]");
    }),
    case(R::SecretInDefault, "the value of \"DB_PASSWORD\"", "Occlum.json: env.default[1]", |i| {
        i.config("\"OCCLUM=yes\"", "\"OCCLUM=yes\", \"DB_PASSWORD=hunter2\"");
    }),
    case(R::Arenas, "MALLOC_ARENA_MAX is not set", "Occlum.json: env.default", |i| {
        i.config("\"MALLOC_ARENA_MAX=1\", ", "");
        i.elf("image/bin/app", &app().imports("pthread_create"));
    }),
    // Sizes
    case(R::UserSpace, "user_space_size is 64MB", "Occlum.json: resource_limits.user_space_size", |i| {
        i.config("\"128MB\"", "\"64MB\"")
    }),
    with(
        case(R::ProcessSizes, "stack and heap of one process, 208MB", "Occlum.json: process.default_heap_size", |i| {
            i.config("\"default_heap_size\": \"16MB\"", "\"default_heap_size\": \"200MB\"");
        }),
        &[R::UserSpace],
    ),
    with(
        case(R::ProcessSizes, "at least 4096 bytes, got 1024", "Occlum.json: process.default_stack_size", |i| {
            i.config("\"default_stack_size\": \"8MB\"", "\"default_stack_size\": \"1KB\"");
        }),
        &[R::ArgumentArea],
    ),
    case(R::AddressLimit, "heap and stack alone", "Occlum.json: process.default_mmap_size", |i| {
        i.config("\"32MB\"", "\"0B\"")
    }),
    case(R::ArgumentArea, "the area has 4096", "Occlum.json: process.default_stack_size", |i| {
        i.config("\"default_stack_size\": \"8MB\"", "\"default_stack_size\": \"1MB\"");
    }),
    case(R::ArgumentUserSpace, "the area has 32768", "Occlum.json: process.default_stack_size", |i| {
        i.manifest("{{ hex .Secrets.key }}", &"x".repeat(1 << 20));
    }),
    case(R::TooFewThreads, "at least 4, got 3", "Occlum.json: resource_limits.max_num_of_threads", |i| {
        i.config("\"max_num_of_threads\": 16", "\"max_num_of_threads\": 3");
    }),
    case(R::FewThreads, "got 4", "Occlum.json: resource_limits.max_num_of_threads", |i| {
        i.config("\"max_num_of_threads\": 16", "\"max_num_of_threads\": 4");
    }),
    // The manifest's entry
    case(R::NoPin, "no such file", "image: /etc/marblerun/coordinator.json", |i| {
        i.remove("image/etc/marblerun/coordinator.json")
    }),
    case(R::NoPin, "no such file", "initfs/etc/marblerun/coordinator.json", |i| i.elf("initfs/bin/init", &premain())),
    case(R::PinFile, "expected 64 hex digits", "image: /etc/marblerun/coordinator.json", |i| {
        i.write("image/etc/marblerun/coordinator.json", r#"{"RootSHA256": "9f86"}"#);
    }),
    case(R::RestrictionsFile, "premain.json", "image: /etc/marblerun/premain.json", |i| {
        i.write("image/etc/marblerun/premain.json", r#"{"Program": []}"#);
    }),
    case(R::Restricted, "the Coordinator sent \"/bin/app\"", "manifest: Marbles.web.Parameters.Argv", |i| {
        i.write("image/etc/marblerun/premain.json", r#"{"Programs": ["/bin/other"]}"#);
    }),
    case(R::Restricted, "sent \"APP_KEY\"", "manifest: Marbles.web.Parameters.Env.APP_KEY", |i| {
        i.write("image/etc/marblerun/premain.json", r#"{"Variables": []}"#);
    }),
    case(R::ManifestRefused, "", "manifest: Marbles.web.Package", |i| {
        i.manifest("\"Package\": \"web\"", "\"Package\": \"wob\"")
    }),
    case(R::MarbleTypeMismatch, "EDG_MARBLE_TYPE=db", "Occlum.json: env.default", |i| {
        i.config("EDG_MARBLE_TYPE=web", "EDG_MARBLE_TYPE=db");
    }),
    case(R::NoProgram, "it is empty", "manifest: Marbles.web.Parameters.Argv", |i| {
        i.manifest("[\"/bin/app\", \"--serve\"]", "[]");
        i.remove("image/etc/marblerun/premain.json");
    }),
    case(R::RelativeProgram, "got \"bin/app\"", "manifest: Marbles.web.Parameters.Argv", |i| {
        i.manifest("\"/bin/app\"", "\"bin/app\"");
        i.remove("image/etc/marblerun/premain.json");
    }),
    case(R::ProgramIsPremain, "is the premain", "manifest: Marbles.web.Parameters.Argv", |i| {
        i.manifest("/bin/app", "/bin/premain-libos");
        i.remove("image/etc/marblerun/premain.json");
    }),
    with(
        case(R::HostProgram, "lies in the hostfs mount /host", "manifest: Marbles.web.Parameters.Argv", |i| {
            i.host_mount("/host");
            i.manifest("/bin/app", "/host/app");
            i.remove("image/etc/marblerun/premain.json");
        }),
        &[R::HostFs, R::ProgramMissing],
    ),
    with(
        case(
            R::SecretOnHost,
            "a secret goes to the hostfs mount /host",
            "manifest: Marbles.web.Parameters.Files./host/key",
            |i| {
                i.host_mount("/host");
                i.manifest("/etc/app/key", "/host/key");
            },
        ),
        &[R::HostFs],
    ),
    case(
        R::FilePlace,
        "the image has a directory \"/etc/app\"",
        "manifest: Marbles.web.Parameters.Files./etc/app",
        |i| {
            i.manifest("/etc/app/key", "/etc/app");
        },
    ),
    case(R::FilePlace, "no place for files", "manifest: Marbles.web.Parameters.Files./proc/key", |i| {
        i.manifest("/etc/app/key", "/proc/key");
    }),
    case(R::TransparentTls, "it lists t", "manifest: Marbles.web.TLS", |i| {
        i.manifest("\"Package\": \"web\",", "\"Package\": \"web\", \"TLS\": [\"t\"],");
        i.manifest("\"Secrets\": {", "\"TLS\": {\"t\": {\"Incoming\": [{\"Port\": \"443\"}]}}, \"Secrets\": {");
    }),
    case(R::UuidFile, "the image has no directory \"/nowhere\"", "Occlum.json: env.default[1]", |i| {
        i.config("\"OCCLUM=yes\"", "\"OCCLUM=yes\", \"EDG_MARBLE_UUID_FILE=/nowhere/uuid\"");
    }),
    case(R::UuidFile, "is a directory", "Occlum.json: env.default[1]", |i| {
        i.config("\"OCCLUM=yes\"", "\"OCCLUM=yes\", \"EDG_MARBLE_UUID_FILE=/etc\"");
    }),
    case(R::UuidLost, "empty at every start", "Occlum.json: env.default[1]", |i| {
        i.config("\"OCCLUM=yes\"", "\"OCCLUM=yes\", \"EDG_MARBLE_UUID_FILE=/etc/uuid\"");
    }),
    with(
        case(R::PackageDebug, "the package says no", "manifest: Packages.web.Debug", |i| {
            i.config("\"debuggable\": false", "\"debuggable\": true");
            i.build(|structure| structure[928] = 2);
        }),
        &[R::Debuggable],
    ),
    case(R::DebugAllowed, "it is true", "manifest: Packages.web.Debug", |i| {
        i.manifest("\"UniqueID\"", "\"Debug\": true, \"UniqueID\"");
    }),
    with(
        case(R::PackageProperties, "wants 259", "manifest: Packages.web.ProductID", |i| {
            i.signer_package();
            i.manifest("258", "259");
        }),
        &[R::PackageOpen],
    ),
    with(
        case(R::PackageProperties, "at least 8", "manifest: Packages.web.SecurityVersion", |i| {
            i.signer_package();
            i.manifest("\"SecurityVersion\": 7", "\"SecurityVersion\": 8");
        }),
        &[R::PackageOpen],
    ),
    case(R::PackageOpen, "not given", "manifest: Packages.web.UniqueID", |i| i.signer_package()),
    case(R::PlaceholderId, "all zeros", "manifest: Packages.web.UniqueID", |i| {
        i.manifest("abababababababababababababababababababababababababababababababab", &"0".repeat(64));
    }),
    with(
        case(R::PublishedSignerId, "published with Occlum", "manifest: Packages.web.SignerID", |i| {
            i.other_signer("83D719E77DEACA1470F6BAF62A4D774303C899DB69020F9C70EE1DFC08C7CE9E");
        }),
        &[R::PackageOpen, R::SignerIdMismatch],
    ),
    // The built instance
    case(R::NotBuilt, "no such file", "build/lib/libocclum-libos.signed.so", |i| {
        i.remove("build/lib/libocclum-libos.signed.so");
    }),
    case(R::SignatureUnreadable, "not a 64-bit ELF file", "build/lib/libocclum-libos.signed.so", |i| {
        i.write("build/lib/libocclum-libos.signed.so", "ELF");
    }),
    case(R::PublishedKey, "the published development key", "build/lib/libocclum-libos.signed.so", |i| {
        i.build(|structure| structure[128..512].copy_from_slice(&development_modulus()));
    }),
    case(R::SimulationBuild, "the mode is \"SIM\"", ".sgx_mode", |i| i.write(".sgx_mode", "SIM\n")),
    case(R::HyperBuild, "the mode is HYPER", ".sgx_mode", |i| i.write(".sgx_mode", "HYPER\n")),
    case(R::StaleBuild, "it is 7, the instance was built with 6", "Occlum.json: metadata.version_number", |i| {
        i.build(|structure| structure[1026] = 6);
    }),
    case(R::StaleBuild, "it is 258, the instance was built with 259", "Occlum.json: metadata.product_id", |i| {
        i.build(|structure| structure[1024] = 3);
    }),
    case(R::StaleBuild, "it is false, the instance was built with true", "Occlum.json: metadata.debuggable", |i| {
        i.build(|structure| structure[928] = 2);
    }),
    case(R::UniqueIdMismatch, "the package wants abab", "manifest: Packages.web.UniqueID", |i| {
        i.build(|structure| structure[960] = 0);
    }),
    with(
        case(R::SignerIdMismatch, "the package wants 1111", "manifest: Packages.web.SignerID", |i| {
            i.other_signer(&"1".repeat(64));
        }),
        &[R::PackageOpen],
    ),
    case(R::ReadableImage, "not encrypted", "build/image_config.json", |i| {
        i.write("build/image_config.json", r#"{"image_type":"integrity-only"}"#);
    }),
];
