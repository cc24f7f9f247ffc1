//! The sizes of `Occlum.json`, computed from what runs, each with its sum.
//!
//! [`compute`] is pure: the same inputs give the same figures. The rules are those of Occlum's memory manager
//! (`vm/vm_manager.rs`, `vm/process_vm.rs`, `process/do_exec.rs`):
//!
//! - The segments of a program and of its interpreter, its heap and its stack are reserved when a process is made, each
//!   in a range of its own.
//! - The first mapping of a process reserves 32 MiB, in which later ones find room.
//! - `execve` builds the new process while the old one still exists.
//! - Arguments, environment and tables must fit into 1/256 of the stack, at least 4 KiB.
//!
//! What a program needs while it runs nobody can read from its file; that part is an input with a default.

mod explain;
mod loaded;

pub use explain::{Figure, Term, Unit};
pub use loaded::{Loaded, loaded_bytes, starts_threads};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Occlum's share of a stack for arguments and environment.
const STACK_PER_AREA: u64 = 256;
/// The least that this share is.
const MIN_AREA_BYTES: u64 = 4 * KIB;
/// What the first mapping of a process reserves.
const MAPPING_CHUNK_BYTES: u64 = 32 * MIB;
/// What the premain maps beside its libraries: its loader's and its C library's own mappings.
const PREMAIN_MAPPED_BYTES: u64 = MIB;
/// Part of the memory that stays unused between ranges.
const FRAGMENTATION_SHARE: u64 = 32;
/// Sizes of the user space are rounded up to this.
const USER_SPACE_STEP: u64 = 4 * MIB;

/// Occlum's own default, in its template.
const KERNEL_HEAP_BYTES: u64 = 32 * MIB;
/// Occlum's own default, in its template.
const KERNEL_STACK_BYTES: u64 = MIB;
/// Occlum's own default, in its template.
const DEFAULT_STACK_BYTES: u64 = 4 * MIB;
/// Enough for the premain and for small programs; a C library maps memory where its heap is full.
const DEFAULT_HEAP_BYTES: u64 = 8 * MIB;
/// What a program may map beyond its heap, if nobody says otherwise.
const DEFAULT_MMAP_BYTES: u64 = 16 * MIB;
/// Host threads of the LibOS itself: the one that made the enclave, and helpers.
const LIBOS_THREADS: u32 = 4;

/// The four `MARBLE_PREDEFINED_…` variables: four certificates in PEM of at most 1 KiB each, a private key of at most
/// 512 bytes, and the names.
const PREDEFINED_BYTES: u64 = 4 * KIB + 512 + 160;
/// How many variables they are.
const PREDEFINED_COUNT: u64 = 4;
/// Expected length of a value that the host sets.
const UNTRUSTED_VALUE_BYTES: u64 = 128;
/// Expected bytes of the variables that the manifest adds.
const DEFAULT_MANIFEST_ENVIRONMENT_BYTES: u64 = 4 * KIB;
/// Auxiliary vector, counts, terminators and alignment.
const TABLES_BYTES: u64 = 368;
/// A pointer and the end of a string.
const PER_STRING_BYTES: u64 = 9;

/// What the figures are computed from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inputs {
    /// The premain as it is loaded; all zero where the program starts without one.
    pub premain: Loaded,
    /// The program as it is loaded.
    pub program: Loaded,
    /// The program's arguments as the manifest gives them, its path first.
    pub arguments: Vec<String>,
    /// `NAME=value` of `env.default`.
    pub default_environment: Vec<String>,
    /// Names of `env.untrusted`.
    pub untrusted_names: Vec<String>,
    /// Bytes of the variables that the manifest adds; `None`: the default of 4 KiB.
    pub manifest_environment_bytes: Option<u64>,
    /// Wanted `default_stack_size`; `None`: what is needed, at least 4 MiB.
    pub stack: Option<u64>,
    /// Wanted `default_heap_size`; `None`: 8 MiB.
    pub heap: Option<u64>,
    /// What the program maps beyond heap, libraries and stacks; `None`: 16 MiB.
    pub mmap: Option<u64>,
    /// Threads of the program, the main one included; 0 counts as 1.
    pub threads: u32,
}

/// All figures, in the order of `Occlum.json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// `resource_limits.max_num_of_threads`.
    pub threads: Figure,
    /// `resource_limits.kernel_space_heap_size`.
    pub kernel_heap: Figure,
    /// `resource_limits.kernel_space_stack_size`.
    pub kernel_stack: Figure,
    /// `resource_limits.user_space_size`.
    pub user_space: Figure,
    /// `process.default_stack_size`.
    pub stack: Figure,
    /// `process.default_heap_size`.
    pub heap: Figure,
    /// `process.default_mmap_size`.
    pub mmap: Figure,
    /// The part of the stack for arguments and environment: the need, and what the stack has. Not a member of the file.
    pub argument_area: Figure,
}

impl Sizes {
    /// The figures, one after the other.
    pub fn figures(&self) -> [&Figure; 8] {
        [
            &self.user_space,
            &self.kernel_heap,
            &self.kernel_stack,
            &self.threads,
            &self.stack,
            &self.heap,
            &self.mmap,
            &self.argument_area,
        ]
    }
}

/// Bytes for arguments and environment of a process with a stack of `stack` bytes.
pub fn argument_area(stack: u64) -> u64 {
    (stack / STACK_PER_AREA).max(MIN_AREA_BYTES).min(stack)
}

/// Computes every figure.
///
/// `Figure::need` is the sum of its terms, `Figure::value` what to write: rounded up, and at least what was wanted. Whoever
/// judges an existing file gives its sizes as wishes and compares `need` with what the file has.
pub fn compute(inputs: &Inputs) -> Sizes {
    let area_terms = area_terms(inputs);
    let area_need = sum(&area_terms);
    let stack = stack(inputs, area_need);
    let heap_bytes = inputs.heap.unwrap_or(DEFAULT_HEAP_BYTES);
    let threads = inputs.threads.max(1);
    let (user_space_terms, note) = user_space_terms(inputs, stack.value, heap_bytes, threads);
    let user_space_need = sum(&user_space_terms);
    let mmap_terms = mmap_terms(inputs, stack.value, threads);
    let mmap_need = sum(&mmap_terms);
    let thread_terms = vec![
        Term::new("for the threads of the program", u64::from(threads)),
        Term::new("for the premain, which still exists at execve", 1),
        Term::new("for the LibOS", u64::from(LIBOS_THREADS)),
    ];
    Sizes {
        threads: Figure {
            member: "resource_limits.max_num_of_threads",
            unit: Unit::Count,
            need: sum(&thread_terms),
            value: sum(&thread_terms).next_multiple_of(4),
            terms: thread_terms,
            note: "over all processes; each takes a kernel stack; --threads changes it",
        },
        kernel_heap: constant(
            "resource_limits.kernel_space_heap_size",
            KERNEL_HEAP_BYTES,
            "Occlum's default for page cache, file system and kernel objects",
        ),
        kernel_stack: constant(
            "resource_limits.kernel_space_stack_size",
            KERNEL_STACK_BYTES,
            "Occlum's default, for each thread",
        ),
        user_space: Figure {
            member: "resource_limits.user_space_size",
            unit: Unit::Bytes,
            need: user_space_need,
            value: user_space_need.saturating_add(USER_SPACE_STEP - 1) / USER_SPACE_STEP * USER_SPACE_STEP,
            terms: user_space_terms,
            note,
        },
        heap: constant(
            "process.default_heap_size",
            heap_bytes,
            "reserved for each process, the premain too; a C library maps memory where it is full; --heap changes it",
        ),
        mmap: Figure {
            member: "process.default_mmap_size",
            unit: Unit::Bytes,
            need: mmap_need,
            value: round_up(mmap_need, MIB),
            terms: mmap_terms,
            note: "only enters RLIMIT_AS; --mmap changes it",
        },
        argument_area: Figure {
            member: "argument area",
            unit: Unit::Bytes,
            need: area_need,
            value: argument_area(stack.value),
            terms: area_terms,
            note: "1/256 of the stack, at least 4 KiB, for arguments, environment and tables of a new process; the premain \
                   raises the stack of the program where the manifest delivers more",
        },
        stack,
    }
}

fn constant(member: &'static str, value: u64, note: &'static str) -> Figure {
    Figure { member, unit: Unit::Bytes, need: value, value, terms: Vec::new(), note }
}

fn sum(terms: &[Term]) -> u64 {
    terms.iter().fold(0, |sum, term| sum.saturating_add(term.amount))
}

fn round_up(value: u64, step: u64) -> u64 {
    value.div_ceil(step).saturating_mul(step)
}

fn area_terms(inputs: &Inputs) -> Vec<Term> {
    let strings = |strings: &[String]| {
        strings.iter().fold(0_u64, |sum, text| sum.saturating_add(text.len() as u64 + PER_STRING_BYTES))
    };
    let untrusted = inputs.untrusted_names.len() as u64 * (1 + UNTRUSTED_VALUE_BYTES);
    vec![
        Term::new("arguments of the manifest", strings(&inputs.arguments)),
        Term::new("variables of env.default", strings(&inputs.default_environment)),
        Term::new(
            "variables of env.untrusted, with values of 128 bytes",
            strings(&inputs.untrusted_names).saturating_add(untrusted),
        ),
        Term::new(
            "certificates and key of the Marble, with names (MARBLE_PREDEFINED_…)",
            PREDEFINED_BYTES + PREDEFINED_COUNT * (PER_STRING_BYTES + 1),
        ),
        Term::new(
            "variables of the manifest (--environment-bytes)",
            inputs.manifest_environment_bytes.unwrap_or(DEFAULT_MANIFEST_ENVIRONMENT_BYTES),
        ),
        Term::new("tables", TABLES_BYTES),
    ]
}

fn stack(inputs: &Inputs, area_need: u64) -> Figure {
    let for_area = if area_need <= MIN_AREA_BYTES { 0 } else { area_need.saturating_mul(STACK_PER_AREA) };
    let for_area = round_up(for_area, MIB);
    let wanted = inputs.stack.unwrap_or(DEFAULT_STACK_BYTES);
    let terms = vec![if for_area > wanted {
        Term::new("256 times the argument area", for_area)
    } else {
        Term::new(if inputs.stack.is_some() { "as wanted" } else { "Occlum's default" }, wanted)
    }];
    Figure {
        member: "process.default_stack_size",
        unit: Unit::Bytes,
        need: for_area.max(MIN_AREA_BYTES),
        value: wanted.max(for_area),
        terms,
        note: "of the main thread, and of further threads with glibc; 1/256 of it holds arguments and environment; \
               --stack changes it",
    }
}

fn mmap_terms(inputs: &Inputs, stack: u64, threads: u32) -> Vec<Term> {
    vec![
        Term::new("libraries", inputs.program.libraries.max(inputs.premain.libraries)),
        Term::new("stacks of further threads", u64::from(threads - 1).saturating_mul(stack)),
        Term::new("what the program maps beyond its heap (--mmap)", inputs.mmap.unwrap_or(DEFAULT_MMAP_BYTES)),
    ]
}

/// The larger of two moments: `execve`, when premain and program exist together, and the program alone later.
fn user_space_terms(inputs: &Inputs, stack: u64, heap: u64, threads: u32) -> (Vec<Term>, &'static str) {
    let Inputs { premain, program, .. } = inputs;
    let of_program = [
        Term::new("program and its interpreter", program.program.saturating_add(program.interpreter)),
        Term::new("heap of the program", heap),
        Term::new("stack of the program", stack),
    ];
    let has_premain = premain.program > 0;
    let mut at_execve = Vec::new();
    if has_premain {
        let mapped = premain.libraries.saturating_add(PREMAIN_MAPPED_BYTES);
        at_execve.extend([
            Term::new("premain and its interpreter", premain.program.saturating_add(premain.interpreter)),
            Term::new("heap of the premain", heap),
            Term::new("stack of the premain", stack),
            Term::new(
                "libraries and mappings of the premain, in steps of 32 MiB",
                round_up(mapped, MAPPING_CHUNK_BYTES),
            ),
        ]);
        at_execve.extend(of_program.iter().cloned());
    }
    let mut running = of_program.to_vec();
    let mapped = mmap_terms(inputs, stack, threads);
    let mapped_bytes = sum(&mapped);
    let rest = round_up(mapped_bytes, MAPPING_CHUNK_BYTES).saturating_sub(mapped_bytes);
    running.extend(mapped);
    running.push(Term::new("unused of its mappings, which are reserved in steps of 32 MiB", rest));
    let (mut terms, note) = if sum(&at_execve) >= sum(&running) {
        (at_execve, "at execve, when premain and program exist together; the program alone needs less")
    } else {
        (running, "while the program runs; at execve less is needed")
    };
    let fragmentation = sum(&terms) / FRAGMENTATION_SHARE;
    terms.push(Term::new("unused between ranges (1/32)", fragmentation));
    (terms, note)
}

#[cfg(test)]
mod tests;
