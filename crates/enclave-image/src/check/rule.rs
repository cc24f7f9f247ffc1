//! The rules: their ids, how bad a breach is, why, and what to do.

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It does not work, or it does not protect.
    Error,
    /// Probably a mistake, or a weakness that somebody must have decided for.
    Warning,
    /// Works as written; worth knowing.
    Note,
}

impl Severity {
    /// `error`, `warning` or `note`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// What a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// `Occlum.json` by itself.
    Configuration,
    /// Programs, libraries and other files of the image.
    Programs,
    /// Variables.
    Environment,
    /// Sizes and threads.
    Memory,
    /// The manifest's entry, and what the image says about Coordinators.
    Manifest,
    /// The built instance and its signature.
    Signing,
}

impl Family {
    /// All families, in the order in which findings are shown.
    pub const ALL: [Self; 6] =
        [Self::Configuration, Self::Programs, Self::Environment, Self::Memory, Self::Manifest, Self::Signing];

    /// One word for a heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Configuration => "Configuration",
            Self::Programs => "Programs",
            Self::Environment => "Environment",
            Self::Memory => "Memory",
            Self::Manifest => "Manifest",
            Self::Signing => "Signing",
        }
    }
}

macro_rules! rules {
    ($($name:ident, $id:literal, $family:ident, $severity:ident $(if debuggable $relaxed:ident)?, $why:literal, $fix:literal;)*) => {
        /// One rule. Its id never changes its meaning.
        #[non_exhaustive]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Rule {
            $(#[doc = $why] $name,)*
        }

        impl Rule {
            /// All rules.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The stable id, such as `OCCLUM-NO-PIN`.
            pub fn id(self) -> &'static str {
                match self { $(Self::$name => $id),* }
            }

            /// What it is about.
            pub fn family(self) -> Family {
                match self { $(Self::$name => Family::$family),* }
            }

            /// How bad a breach is, in an instance that may not be debugged.
            pub fn severity(self) -> Severity {
                match self { $(Self::$name => Severity::$severity),* }
            }

            /// How bad a breach is in a debuggable instance, which keeps no secrets anyway.
            pub fn severity_if_debuggable(self) -> Severity {
                match self { $(Self::$name => [$(Severity::$relaxed,)? Severity::$severity][0]),* }
            }

            /// Why the rule exists; a sentence.
            pub fn why(self) -> &'static str {
                match self { $(Self::$name => $why),* }
            }

            /// What usually helps; a sentence.
            pub fn fix(self) -> &'static str {
                match self { $(Self::$name => $fix),* }
            }
        }
    };
}

rules! {
    // ---- Occlum.json by itself
    Syntax, "OCCLUM-SYNTAX", Configuration, Error,
        "Occlum.json must be a JSON object in UTF-8.", "Correct the text at the named position.";
    DuplicateKey, "OCCLUM-DUPLICATE-KEY", Configuration, Error,
        "Of a member that occurs twice, nobody can say which one counts.", "Remove one of them.";
    UnknownKey, "OCCLUM-UNKNOWN-KEY", Configuration, Error,
        "Occlum ignores unknown members silently, so a misspelt one has no effect.", "Correct the name or remove the member.";
    MissingKey, "OCCLUM-MISSING-KEY", Configuration, Error,
        "Occlum's build needs the member; some of them only fail at the start.", "Add the member.";
    OldTemplate, "OCCLUM-OLD-TEMPLATE", Configuration, Warning,
        "Newer versions of Occlum require the member `feature`; files made for older ones lack it.", "Add `\"feature\": {}`.";
    WrongType, "OCCLUM-WRONG-TYPE", Configuration, Error,
        "A member of another JSON type stops Occlum's build with a backtrace.", "Write the value in the expected form.";
    Size, "OCCLUM-SIZE", Configuration, Error,
        "A size is a decimal integer with one of the units KB, MB, GB, TB or B; Occlum's build ends without an error code at anything else.",
        "Write such as \"32MB\".";
    IdRange, "OCCLUM-ID-RANGE", Configuration, Error,
        "Product id and security version have 16 bits in SGX.", "Use a number up to 65535.";
    KssId, "OCCLUM-KSS-ID", Configuration, Error,
        "With KSS, family and extended product id are hexadecimal numbers of 64 bits each.", "Write such as \"0x1f\".";
    KssUnused, "OCCLUM-KSS-UNUSED", Configuration, Warning,
        "Without KSS, family and extended product id are zero, whatever is written.", "Set `enable_kss`, or set the ids to \"0x0\".";
    EntryPointPath, "OCCLUM-ENTRY-POINT-PATH", Configuration, Error,
        "An entry point is an absolute path without `..`.", "Write the path as the image has it, such as \"/bin/premain-libos\".";
    NoEntryPoint, "OCCLUM-NO-ENTRY-POINT", Configuration, Error,
        "The host can only start what lies below an entry point, so the premain must.", "Make the premain the only entry point.";
    EntryPointBypass, "OCCLUM-ENTRY-POINT-BYPASS", Configuration, Error if debuggable Warning,
        "The host may start anything below an entry point: whatever is not the premain runs without activation and still gets quotes of this enclave.",
        "Name the premain's file as the only entry point.";
    Debuggable, "OCCLUM-DEBUGGABLE", Configuration, Error,
        "The host can read and change the memory of a debuggable enclave.", "Set `metadata.debuggable` to false; for tests, let the manifest's package say `Debug: true`.";
    DisableLog, "OCCLUM-DISABLE-LOG", Configuration, Warning,
        "`disable_log: false` lets the LibOS write its log to the host even where the enclave may not be debugged.",
        "Remove the member or set it to true.";
    MaxWithoutEdmm, "OCCLUM-MAX-WITHOUT-EDMM", Configuration, Warning,
        "Without EDMM a maximum replaces the size that it belongs to, and an initial number of threads has no effect.",
        "Remove the member, or set `feature.enable_edmm`.";
    MaxBelowSize, "OCCLUM-MAX-BELOW-SIZE", Configuration, Error,
        "A maximum must not be below the size, or the threads at the start above the maximum.", "Raise the maximum.";
    Edmm, "OCCLUM-EDMM", Configuration, Note,
        "An instance for EDMM runs on SGX2 with Linux 6.0 or later only, and Occlum raises its maxima to 4096 threads, 1 GB of kernel heap and 16 GB of user space.",
        "Leave EDMM out where the machines differ.";
    HyperOnly, "OCCLUM-HYPER-ONLY", Configuration, Note,
        "`marshal_buffer_size` has an effect in HYPER builds only.", "Remove the member.";
    FeatureRange, "OCCLUM-FEATURE-RANGE", Configuration, Error,
        "`amx` and `pkru` are 0 (off), 1 (on) or 2 (on where the processor has it); `io_uring` is at most 16 rings.",
        "Use a value of that range.";
    FeatureHardware, "OCCLUM-FEATURE-HARDWARE", Configuration, Note,
        "With the value 1 the enclave starts only on processors that have the feature.", "Use 2 where the machines differ.";
    NoRoot, "OCCLUM-NO-ROOT", Configuration, Error,
        "There must be exactly one mount at `/`, of the type `unionfs`.", "Take the root of `occlum init`'s template.";
    RootLayers, "OCCLUM-ROOT-LAYERS", Configuration, Error,
        "The root consists of an `sefs` layer with the member `MAC`, the measured image, below an `sefs` layer without, the writable one; both at `/`.",
        "Take the layers of `occlum init`'s template.";
    LayerSource, "OCCLUM-LAYER-SOURCE", Configuration, Error,
        "`occlum build` writes the image to ./build/mount/__ROOT and puts its MAC into that layer; the writable layer lies in ./run.",
        "Write ./build/mount/__ROOT and ./run/mount/__ROOT.";
    MacOutside, "OCCLUM-MAC-OUTSIDE", Configuration, Error,
        "A `MAC` marks the measured layer of the root; it is filled in there only, and such a layer cannot be `temporary`.",
        "Remove the member.";
    MountType, "OCCLUM-MOUNT-TYPE", Configuration, Error,
        "Occlum knows the mounts unionfs, sefs, ext2, hostfs, ramfs, procfs and devfs.", "Correct the type.";
    MountTarget, "OCCLUM-MOUNT-TARGET", Configuration, Error,
        "A target is an absolute path without `..` that no other mount has.", "Correct the target.";
    MountSource, "OCCLUM-MOUNT-SOURCE", Configuration, Error,
        "`hostfs`, `sefs` and `ext2` need a source; that of `hostfs` must be a directory of the host.",
        "Name the source, relative to the instance directory, and create the directory.";
    MountRedundant, "OCCLUM-MOUNT-REDUNDANT", Configuration, Note,
        "Occlum always mounts /proc and /dev, and /dev brings /dev/sgx with it; guides that list them do no harm.", "Remove the mount.";
    HostFs, "OCCLUM-HOSTFS", Configuration, Warning,
        "The host reads and changes everything in a `hostfs` mount.", "Leave it out, or mount one directory that holds nothing secret and nothing that is believed.";
    HostFsShadow, "OCCLUM-HOSTFS-SHADOW", Configuration, Error,
        "A `hostfs` mount over a directory with measured files replaces them by those of the host.", "Mount it at a directory of its own, such as /host.";
    CacheSize, "OCCLUM-CACHE-SIZE", Configuration, Error,
        "A page cache is a multiple of 4096 bytes, at least 192KB and at most the kernel's heap.", "Use such a size, or raise `kernel_space_heap_size`.";
    DiskSize, "OCCLUM-DISK-SIZE", Configuration, Error,
        "An `ext2` disk needs a `disk_size` of at least 5GB.", "Add or raise it.";
    ShadowLayer, "OCCLUM-SHADOW-LAYER", Configuration, Warning,
        "The writable layer lies above the measured one, and every enclave of the same signer and product can write it: files there replace measured ones, and the host can bring back an old state.",
        "Set `temporary` in its options, or encrypt the image with a key from the manifest; use a signing key and a product id for this product alone.";

    // ---- Files of the image
    NoImage, "OCCLUM-NO-IMAGE", Programs, Error,
        "Without the directory image/ there is nothing to build, and nothing to look at.", "Run the check where the instance is made.";
    NoPremain, "OCCLUM-NO-PREMAIN", Programs, Error,
        "The premain gets the quote and the parameters; without it the instance is no Marble.", "`marblerun occlum prepare DIR` puts it into the image.";
    ProgramMissing, "OCCLUM-PROGRAM-MISSING", Programs, Error,
        "The manifest names a program that the image does not have.", "Copy it into the image, or correct the first of `Argv`.";
    NotExecutable, "OCCLUM-NOT-EXECUTABLE", Programs, Error,
        "A program is a regular file with execute permission.", "chmod 0755 the file in image/.";
    NotAProgram, "OCCLUM-NOT-A-PROGRAM", Programs, Error,
        "Occlum runs 64-bit ELF programs for x86-64, and scripts.", "Build the program for x86-64; a script needs #! in its first line.";
    StaticProgram, "OCCLUM-STATIC-PROGRAM", Programs, Error,
        "Occlum cannot load programs without an interpreter, statically linked ones.", "Link it dynamically (Rust: -C target-feature=-crt-static; Go: -buildmode=pie with an external linker).";
    FixedAddress, "OCCLUM-FIXED-ADDRESS", Programs, Error,
        "Occlum loads position-independent programs only.", "Compile with -fPIE and link with -pie.";
    NoInterpreter, "OCCLUM-NO-INTERPRETER", Programs, Error,
        "The loader that a program names must be in the image.", "Copy it to that path; `marblerun occlum init` does.";
    LibraryMissing, "OCCLUM-LIBRARY-MISSING", Programs, Error,
        "Every shared library that a program needs must lie where the image's loader looks.", "Copy it into a directory of the loader's list.";
    SymbolVersion, "OCCLUM-SYMBOL-VERSION", Programs, Error,
        "A program or library asks for symbols that the image's library is too old to have.", "Build on a system with the image's C library (glibc 2.31 or musl in Occlum's containers).";
    UnpatchedLibc, "OCCLUM-UNPATCHED-LIBC", Programs, Warning,
        "Occlum's own C library calls the LibOS directly; an unchanged one traps at each system call, cannot start threads and, in SIM builds, reaches the host's kernel.",
        "Build the image in Occlum's container; for the simulator it does not matter.";
    ScriptLine, "OCCLUM-SCRIPT-LINE", Programs, Error,
        "The first line of a script must end within 127 bytes, and all of it behind #! is taken as the path of the interpreter.",
        "Write the path alone, or name the interpreter in `Argv` and the script as its argument.";
    ScriptInterpreter, "OCCLUM-SCRIPT-INTERPRETER", Programs, Error,
        "The interpreter of a script must be a program of the image, not one below /host.", "Copy the interpreter with its libraries into the image.";
    Fork, "OCCLUM-FORK", Programs, Warning,
        "`fork` fails in Occlum (ENOSYS); `vfork` with `execve`, `posix_spawn`, `system` and `popen` work.", "Use posix_spawn, or a mode of the program without child processes.";
    Spawn, "OCCLUM-SPAWN", Programs, Note,
        "`posix_spawn` and `vfork` work; `vfork` stops all other threads until the child runs. `system` and `popen` need /bin/sh in the image.",
        "Count the child's memory and threads too.";
    InlineSyscall, "OCCLUM-INLINE-SYSCALL", Programs, Warning,
        "A system call instruction outside of the C library traps on hardware, which is slow, and in SIM builds reaches the host's kernel.",
        "Build it so that it calls the C library.";
    PremainSyscall, "OCCLUM-PREMAIN-SYSCALL", Programs, Error,
        "The premain must not make system calls itself: in a SIM build it would not even see that it runs in Occlum.", "Use the premain of the release.";
    GoProgram, "OCCLUM-GO-PROGRAM", Programs, Warning,
        "The Go runtime makes system calls itself and reserves much address space.", "Build it with Occlum's Go (occlum-go), and give it user space and threads.";
    NameResolution, "OCCLUM-NAME-RESOLUTION", Programs, Warning,
        "glibc before 2.34 loads libnss_dns, libnss_files and libresolv when it resolves names; nothing names them as needed.",
        "Copy them beside the C library.";
    SpecialFile, "OCCLUM-SPECIAL-FILE", Programs, Warning,
        "Sockets are left out of the image, devices and pipes cannot be in it, and set-id bits are neither kept nor measured.", "Remove the file or the bit.";
    KeyInImage, "OCCLUM-KEY-IN-IMAGE", Programs, Warning,
        "Whoever has the image directory, or a built image that is not encrypted, can read it.", "Deliver the key with the manifest.";

    // ---- Variables
    EnvEntry, "OCCLUM-ENV-ENTRY", Environment, Error,
        "`env.default` holds NAME=value and `env.untrusted` whole names; Occlum knows no patterns.", "Correct the entry.";
    EnvDuplicate, "OCCLUM-ENV-DUPLICATE", Environment, Warning,
        "A name that occurs twice reaches the program twice.", "Remove one.";
    NoMarbleType, "OCCLUM-NO-MARBLE-TYPE", Environment, Error,
        "The premain needs EDG_MARBLE_TYPE, and Occlum drops variables of the host that are not listed.",
        "Put EDG_MARBLE_TYPE=name into `env.default`, or the name into `env.untrusted`.";
    NoCoordinatorAddress, "OCCLUM-NO-COORDINATOR-ADDRESS", Environment, Error,
        "Without EDG_MARBLE_COORDINATOR_ADDR the premain only tries localhost:2001.", "Add the name to `env.untrusted`: what the host says there is not believed, if there is a pin.";
    NoMarbleVariable, "OCCLUM-NO-MARBLE-VARIABLE", Environment, Warning,
        "Occlum drops variables of the host that are not listed: the certificate's names and the place of the UUID cannot be set.",
        "Add EDG_MARBLE_DNS_NAMES and EDG_MARBLE_UUID_FILE to `env.untrusted`.";
    MarbleValue, "OCCLUM-MARBLE-VALUE", Environment, Error,
        "The premain refuses the value of the variable.", "Correct the value.";
    Simulation, "OCCLUM-SIMULATION", Environment, Error if debuggable Warning,
        "EDG_MARBLE_SIMULATION and OE_SIMULATION switch evidence off; the host must not be able to, and a measured 1 makes no sense.", "Remove the name.";
    DangerousVariable, "OCCLUM-DANGEROUS-VARIABLE", Environment, Error if debuggable Warning,
        "The host could change what the program runs, reads or trusts with this variable.", "Remove it from `env.untrusted`; a fixed value goes to `env.default` or the manifest.";
    UntrustedDefault, "OCCLUM-UNTRUSTED-DEFAULT", Environment, Warning,
        "The host replaces a measured value of this name.", "Remove the name from `env.untrusted` if the program trusts the value.";
    UntrustedManifest, "OCCLUM-UNTRUSTED-MANIFEST", Environment, Warning,
        "The manifest's value wins in the program, so listing the name is of no use; and the host decides where the manifest stops to set it.",
        "Remove the name from `env.untrusted`.";
    SecretInDefault, "OCCLUM-SECRET-IN-DEFAULT", Environment, Warning,
        "`env.default` is measured, but everybody who has the instance can read it.", "Deliver the secret with the manifest.";
    Arenas, "OCCLUM-ARENAS", Environment, Note,
        "glibc reserves 64 to 128 MB of user space for each arena of its allocator.", "Put MALLOC_ARENA_MAX=1 into `env.default`.";

    // ---- Sizes and threads
    UserSpace, "OCCLUM-USER-SPACE", Memory, Error,
        "While the premain becomes the program, user space holds both with stack, heap and code.", "Raise `resource_limits.user_space_size`, or lower `process.default_heap_size` and `default_stack_size`.";
    ProcessSizes, "OCCLUM-PROCESS-SIZES", Memory, Error,
        "The stack is at least a page, and stack and heap of one process must fit into user space.", "Correct the sizes.";
    AddressLimit, "OCCLUM-ADDRESS-LIMIT", Memory, Warning,
        "The address space limit is heap, stack and mmap size; Occlum refuses to change limits where it is not more than heap and stack.", "Raise `process.default_mmap_size`.";
    ArgumentArea, "OCCLUM-ARGUMENT-AREA", Memory, Warning,
        "Arguments, environment and their tables go into 1/256 of the stack; the premain raises the limit where it must, and the stack then takes more user space.",
        "Raise `process.default_stack_size` to 256 times the need, or deliver large values as files.";
    ArgumentUserSpace, "OCCLUM-ARGUMENT-USER-SPACE", Memory, Error,
        "The stack that the arguments and the environment need does not fit into user space.", "Raise `resource_limits.user_space_size`, or deliver large values as files.";
    TooFewThreads, "OCCLUM-TOO-FEW-THREADS", Memory, Error,
        "All threads of all processes and helpers of the LibOS share `max_num_of_threads`; premain and program need four.", "Raise it.";
    FewThreads, "OCCLUM-FEW-THREADS", Memory, Warning,
        "A program that starts threads or children fails where `max_num_of_threads` is used up.", "Raise it to what the program uses at most, and four more.";

    // ---- The manifest's entry
    NoPin, "OCCLUM-NO-PIN", Manifest, Error if debuggable Warning,
        "The address of the Coordinator comes from the host: without a pin a hostile one decides which program runs and gets what it wants from it.",
        "Write /etc/marblerun/coordinator.json into the image; `marblerun occlum prepare DIR --coordinator-root FILE` does.";
    PinFile, "OCCLUM-PIN-FILE", Manifest, Error,
        "The premain does not start with a pin that it cannot read.", "Write {\"RootSHA256\": \"64 hexadecimal digits\"}.";
    RestrictionsFile, "OCCLUM-RESTRICTIONS-FILE", Manifest, Error,
        "The premain does not start with restrictions that it cannot read.", "Correct /etc/marblerun/premain.json in the image.";
    Restricted, "OCCLUM-RESTRICTED", Manifest, Error,
        "The image's premain.json does not allow what the manifest's entry sets.", "Change the one or the other.";
    ManifestRefused, "OCCLUM-MANIFEST-REFUSED", Manifest, Error,
        "A Coordinator refuses the manifest.", "`marblerun manifest check` says all about it.";
    MarbleTypeMismatch, "OCCLUM-MARBLE-TYPE-MISMATCH", Manifest, Error,
        "The measured EDG_MARBLE_TYPE is not the entry's name.", "Make them equal.";
    NoProgram, "OCCLUM-NO-PROGRAM", Manifest, Error,
        "Without `Argv` the premain looks for ./marble.", "Name the program in `Parameters.Argv`.";
    RelativeProgram, "OCCLUM-RELATIVE-PROGRAM", Manifest, Warning,
        "A relative path is looked for in the working directory, /, and not in PATH.", "Write the absolute path.";
    ProgramIsPremain, "OCCLUM-PROGRAM-IS-PREMAIN", Manifest, Error,
        "The manifest would start the premain again and again.", "Name the program in `Parameters.Argv`.";
    HostProgram, "OCCLUM-HOST-PROGRAM", Manifest, Error,
        "A program in a `hostfs` mount is not measured: the host chooses what runs.", "Put the program into the image.";
    SecretOnHost, "OCCLUM-SECRET-ON-HOST", Manifest, Error,
        "A file in a `hostfs` mount is read by the host, with the secrets in it.", "Choose a path outside of the mount.";
    FilePlace, "OCCLUM-FILE-PLACE", Manifest, Error,
        "Files cannot be written below /proc and /dev, and not where the image has a directory.", "Choose another path.";
    TransparentTls, "OCCLUM-TRANSPARENT-TLS", Manifest, Error,
        "Transparent TLS is not available in Occlum; the premain refuses it.", "Remove the entry's `TLS`.";
    UuidFile, "OCCLUM-UUID-FILE", Manifest, Error,
        "The UUID's directory must exist and be writable; the premain creates the file only.", "Create the directory in the image, or choose another place.";
    UuidLost, "OCCLUM-UUID-LOST", Manifest, Note,
        "The UUID lies where it does not outlive a start, so every start is a new Marble with new keys and counts as an activation.",
        "Keep it in a `hostfs` mount of its own, it is not secret; or leave it so.";
    PackageDebug, "OCCLUM-PACKAGE-DEBUG", Manifest, Error,
        "The Coordinator refuses a debuggable enclave unless the package says `Debug: true`.", "Make `metadata.debuggable` and `Debug` equal.";
    DebugAllowed, "OCCLUM-DEBUG-ALLOWED", Manifest, Warning,
        "The package also admits debuggable enclaves, which keep no secrets.", "Remove `Debug` from the package.";
    PackageProperties, "OCCLUM-PACKAGE-PROPERTIES", Manifest, Error,
        "The Coordinator refuses an enclave whose product id or security version does not fit the package.", "Make package and `metadata` equal.";
    PackageOpen, "OCCLUM-PACKAGE-OPEN", Manifest, Note,
        "A package of a signer admits every image of this signer and product from its `SecurityVersion` on.",
        "Raise `SecurityVersion` with each fix, or name the `UniqueID` of `marblerun package-info DIR` instead.";
    PlaceholderId, "OCCLUM-PLACEHOLDER-ID", Manifest, Warning,
        "The package's `UniqueID` is the placeholder of 64 zeros.", "Build the instance, and take the value of `marblerun package-info DIR`.";
    PublishedSignerId, "OCCLUM-PUBLISHED-SIGNER-ID", Manifest, Error if debuggable Warning,
        "Everybody has the key of the package's `SignerID`, so everybody can sign an enclave that the package admits.", "Sign with a key of your own.";

    // ---- The built instance
    NotBuilt, "OCCLUM-NOT-BUILT", Signing, Note,
        "The instance is not built, so that measurement and signature cannot be compared.", "Run `occlum build --sign-key KEY`, and check again.";
    SignatureUnreadable, "OCCLUM-SIGNATURE-UNREADABLE", Signing, Error,
        "The built LibOS carries the signature of the instance.", "Build the instance again.";
    PublishedKey, "OCCLUM-PUBLISHED-KEY", Signing, Error if debuggable Warning,
        "The instance is signed with a published key: everybody can sign an enclave that opens its sealed files.", "Give your own key: `occlum build --sign-key KEY`.";
    SimulationBuild, "OCCLUM-SIMULATION-BUILD", Signing, Warning,
        "A SIM build gets no quotes and protects nothing; its measurement is not that of the build for hardware.", "Build with `--sgx-mode HW`.";
    HyperBuild, "OCCLUM-HYPER-BUILD", Signing, Error,
        "A HYPER build has no DCAP quotes, so the premain cannot activate.", "Build with `--sgx-mode HW`.";
    StaleBuild, "OCCLUM-STALE-BUILD", Signing, Error,
        "The signature says something else than Occlum.json: the instance was built before the file was changed.", "Build the instance again.";
    UniqueIdMismatch, "OCCLUM-UNIQUE-ID-MISMATCH", Signing, Error,
        "The Coordinator refuses an enclave that is not the package's.", "Take the `UniqueID` of `marblerun package-info DIR` into the manifest.";
    SignerIdMismatch, "OCCLUM-SIGNER-ID-MISMATCH", Signing, Error,
        "The Coordinator refuses an enclave of another signer than the package's.", "Sign with the right key, or correct the package's `SignerID`.";
    ReadableImage, "OCCLUM-READABLE-IMAGE", Signing, Note,
        "The image is integrity-protected only: who has it can read programs and data.", "Build with `--image-key` where they are secret.";
}
