//! The file system: `mount`.

use super::super::finding::{Findings, Place, shown};
use super::super::json_tree::Json;
use super::super::rule::Rule;
use super::schema::{Kind, Member, Members, optional, required, wrong_type};

/// Smallest page cache in bytes.
const MIN_CACHE: u64 = 192 * 1024;
/// Smallest `ext2` disk in bytes.
const MIN_DISK: u64 = 5 << 30;
const PAGE: u64 = 4096;

const MOUNT: &[Member] = &[
    required("type", Kind::Text),
    required("target", Kind::Text),
    optional("source", Kind::Text),
    optional("options", Kind::Object),
];

const OPTIONS: &[Member] = &[
    optional("MAC", Kind::Text),
    optional("layers", Kind::Array),
    optional("temporary", Kind::Bool),
    optional("cache_size", Kind::Size),
    optional("disk_size", Kind::Size),
];

/// What the other families need of the mounts.
#[derive(Debug, Default)]
pub(in super::super) struct MountFacts {
    /// Place, target (normalised) and source of the `hostfs` mounts.
    pub(in super::super) host: Vec<(String, String, Option<String>)>,
    /// Targets of mounts with a memory of their own, in which files can be written and which are lost at the end.
    pub(in super::super) memory: Vec<String>,
    /// Targets of mounts that keep what is written and that are not the host's to read.
    pub(in super::super) disks: Vec<String>,
    /// Place of the writable layer of the root.
    pub(in super::super) writable_layer: Option<String>,
    /// True if that layer is empty at every start.
    pub(in super::super) is_temporary: bool,
}

struct Mount<'json> {
    place: String,
    kind: Option<&'json str>,
    target: Option<String>,
    source: Option<&'json str>,
    has_mac: bool,
    is_temporary: bool,
    layers: Option<&'json Json>,
}

/// Judges the mounts. `kernel_heap` limits the page caches.
pub(super) fn check(json: &Json, kernel_heap: Option<u64>, findings: &mut Findings) -> MountFacts {
    let Json::Array(items) = json else { return MountFacts::default() };
    let mut facts = MountFacts::default();
    let mut mounts: Vec<Mount<'_>> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let mount = read(item, format!("mount[{index}]"), kernel_heap, findings);
        if let Some(target) = &mount.target
            && target != "/"
            && mounts.iter().any(|other| other.target.as_ref() == Some(target))
        {
            let reason = format!("{target:?} is a target already");
            findings.add(Rule::MountTarget, Place::OcclumJson(format!("{}.target", mount.place)), reason);
        }
        mounts.push(mount);
    }
    for mount in &mounts {
        other_mount(mount, &mut facts, findings);
    }
    let roots: Vec<&Mount<'_>> = mounts.iter().filter(|mount| mount.target.as_deref() == Some("/")).collect();
    match roots.as_slice() {
        [root] if root.kind == Some("unionfs") => check_root(root, kernel_heap, &mut facts, findings),
        [root] => {
            let reason = format!("the mount at / has the type {}", shown(root.kind.unwrap_or_default()));
            findings.add(Rule::NoRoot, Place::OcclumJson(root.place.clone()), reason);
        }
        [] => findings.add(Rule::NoRoot, Place::OcclumJson("mount".to_owned()), "no mount has the target /"),
        [_, second, ..] => {
            let reason = format!("{} mounts have the target /", roots.len());
            findings.add(Rule::NoRoot, Place::OcclumJson(second.place.clone()), reason);
        }
    }
    facts
}

fn read<'json>(json: &'json Json, place: String, kernel_heap: Option<u64>, findings: &mut Findings) -> Mount<'json> {
    let members = Members::read(json, &place, MOUNT, findings);
    let options_place = format!("{place}.options");
    let options = match members.value("options") {
        Some(json) => Members::read(json, &options_place, OPTIONS, findings),
        None => Members::default(),
    };
    let kind = members.text("type");
    let target = members.text("target").and_then(|target| {
        let is_plain = target.starts_with('/') && target.split('/').all(|part| part != "..");
        if !is_plain {
            let reason = format!("expected an absolute path without \"..\", got {}", shown(target));
            findings.add(Rule::MountTarget, Place::OcclumJson(format!("{place}.target")), reason);
        }
        is_plain.then(|| normalized(target))
    });
    if let Some(cache) = options.size("cache_size") {
        let most = kernel_heap.unwrap_or(u64::MAX);
        if cache % PAGE != 0 || cache < MIN_CACHE || cache > most {
            let reason = format!("{cache} bytes: expected a multiple of {PAGE} from {MIN_CACHE} to {most}");
            findings.add(Rule::CacheSize, Place::OcclumJson(format!("{options_place}.cache_size")), reason);
        }
    }
    let is_temporary = options.flag("temporary") == Some(true);
    Mount {
        kind,
        target,
        source: members.text("source"),
        has_mac: options.value("MAC").is_some(),
        is_temporary,
        layers: options.value("layers"),
        place,
    }
    .checked(options.size("disk_size"), findings)
}

impl Mount<'_> {
    fn checked(self, disk_size: Option<u64>, findings: &mut Findings) -> Self {
        if self.kind == Some("ext2") && disk_size.is_none_or(|size| size < MIN_DISK) {
            let got = disk_size.map_or_else(|| "none".to_owned(), |size| format!("{size} bytes"));
            let place = Place::OcclumJson(format!("{}.options.disk_size", self.place));
            findings.add(Rule::DiskSize, place, format!("expected at least {MIN_DISK} bytes, got {got}"));
        }
        if self.has_mac && self.is_temporary {
            let place = Place::OcclumJson(format!("{}.options.temporary", self.place));
            findings.add(Rule::MacOutside, place, "a measured layer cannot be empty at every start");
        }
        self
    }
}

/// Whatever is not the root.
fn other_mount(mount: &Mount<'_>, facts: &mut MountFacts, findings: &mut Findings) {
    let (Some(kind), Some(target)) = (mount.kind, &mount.target) else { return };
    let place = || Place::OcclumJson(mount.place.clone());
    match kind {
        "hostfs" => {
            findings.add(Rule::HostFs, place(), format!("the host owns {target}"));
            facts.host.push((mount.place.clone(), target.clone(), mount.source.map(str::to_owned)));
        }
        "procfs" | "devfs" => {
            let usual = if kind == "procfs" { "/proc" } else { "/dev" };
            if target == usual {
                findings.add(Rule::MountRedundant, place(), format!("{target} is always there"));
            } else {
                let place = Place::OcclumJson(format!("{}.target", mount.place));
                findings.add(Rule::MountTarget, place, format!("expected {usual} for {kind}, got {target:?}"));
            }
        }
        "ramfs" => facts.memory.push(target.clone()),
        "sefs" | "ext2" if target != "/" => facts.disks.push(target.clone()),
        "sefs" | "ext2" => {}
        "unionfs" if target == "/" => {}
        "unionfs" => {
            let place = Place::OcclumJson(format!("{}.target", mount.place));
            findings.add(Rule::MountTarget, place, format!("expected / for unionfs, got {target:?}"));
        }
        other => {
            let place = Place::OcclumJson(format!("{}.type", mount.place));
            findings.add(Rule::MountType, place, format!("there is no mount of the type {}", shown(other)));
        }
    }
    if matches!(kind, "hostfs" | "sefs" | "ext2") && mount.source.is_none_or(str::is_empty) {
        let place = Place::OcclumJson(format!("{}.source", mount.place));
        findings.add(Rule::MountSource, place, format!("a mount of the type {kind} needs a source"));
    }
    if mount.has_mac {
        let place = Place::OcclumJson(format!("{}.options.MAC", mount.place));
        findings.add(Rule::MacOutside, place, "only a layer of the root is measured");
    }
}

fn check_root(root: &Mount<'_>, kernel_heap: Option<u64>, facts: &mut MountFacts, findings: &mut Findings) {
    let layers_place = format!("{}.options.layers", root.place);
    let Some(Json::Array(items)) = root.layers else {
        findings.add(Rule::RootLayers, Place::OcclumJson(layers_place), "there are no layers");
        return;
    };
    let layers: Vec<Mount<'_>> = items
        .iter()
        .enumerate()
        .map(|(index, item)| read(item, format!("{layers_place}[{index}]"), kernel_heap, findings))
        .collect();
    for (layer, item) in layers.iter().zip(items) {
        if !matches!(item, Json::Object(_)) {
            wrong_type(&layer.place, "an object", item, findings);
        }
        if layer.kind.is_some_and(|kind| kind != "sefs") || layer.target.as_deref().is_some_and(|target| target != "/")
        {
            let reason = format!(
                "expected an sefs at /, got {} at {}",
                shown(layer.kind.unwrap_or_default()),
                layer.target.as_deref().unwrap_or_default()
            );
            findings.add(Rule::RootLayers, Place::OcclumJson(layer.place.clone()), reason);
        }
    }
    let [lower, upper] = layers.as_slice() else {
        let reason = format!("expected two layers, got {}", layers.len());
        findings.add(Rule::RootLayers, Place::OcclumJson(layers_place), reason);
        return;
    };
    if !lower.has_mac {
        let reason = "the first layer has no member MAC, so the image would not be measured";
        findings.add(Rule::RootLayers, Place::OcclumJson(format!("{}.options", lower.place)), reason);
    }
    if upper.has_mac {
        let reason = "the second layer has a member MAC, so it could not be written";
        findings.add(Rule::RootLayers, Place::OcclumJson(format!("{}.options.MAC", upper.place)), reason);
    }
    let source = |mount: &Mount<'_>| {
        let relative = mount.source.filter(|source| !source.starts_with('/'));
        relative.map(|source| normalized(&format!("/{source}")))
    };
    if source(lower).as_deref() != Some("/build/mount/__ROOT") {
        let reason = format!("expected \"./build/mount/__ROOT\", got {}", shown(lower.source.unwrap_or_default()));
        findings.add(Rule::LayerSource, Place::OcclumJson(format!("{}.source", lower.place)), reason);
    }
    let is_in_run = source(upper).is_some_and(|source| source.starts_with("/run/") && !source.contains("/../"));
    if !is_in_run {
        let reason = format!("expected a directory below ./run, got {}", shown(upper.source.unwrap_or_default()));
        findings.add(Rule::LayerSource, Place::OcclumJson(format!("{}.source", upper.place)), reason);
    }
    facts.is_temporary = upper.is_temporary;
    facts.writable_layer = Some(upper.place.clone());
}

/// An absolute path without empty parts, `.` and the slash at its end.
pub(in super::super) fn normalized(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    format!("/{}", parts.join("/"))
}
