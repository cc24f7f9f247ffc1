//! From a file and what it includes to an image.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File as HostFile;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};

use super::bom::{Bom, BomError, MAX_BOM_BYTES, Source, Target, Text};
use super::pattern::Pattern;
use super::variables::expand;
use crate::init::writer::{ImageWriter, Links, WriteError};

/// Most files that one file may include, repeated ones counted each time.
const MAX_INCLUDES: usize = 100;

/// Why an image cannot be filled.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum CopyBomError {
    /// A file is not a bill of materials.
    #[error("{}", path.display())]
    Bom {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: BomError,
    },
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// An included file is nowhere.
    #[error("{} line {line}: {name} is neither beside it nor in an include directory", path.display())]
    NotFound {
        /// The file that includes.
        path: PathBuf,
        /// Where.
        line: usize,
        /// What it includes.
        name: String,
    },
    /// Too many includes, probably in a circle.
    #[error("{}: expected at most {MAX_INCLUDES} included files, got more; perhaps they include each other", .0.display())]
    TooManyIncludes(PathBuf),
    /// A file's content is another than expected.
    #[error("{}: expected the SHA-256 {expected}, got {got}", path.display())]
    Hash {
        /// The file.
        path: PathBuf,
        /// What the bill says.
        expected: String,
        /// What it is.
        got: String,
    },
    /// The image cannot be filled.
    #[error("{} line {line}", bom.display())]
    Write {
        /// The bill.
        bom: PathBuf,
        /// Where.
        line: usize,
        /// Why.
        #[source]
        source: WriteError,
    },
}

/// Where things are looked for.
pub struct Settings<'a> {
    /// The first file.
    pub bom: &'a Path,
    /// Where included files are looked for, after the directory of the including file.
    pub include_directories: &'a [PathBuf],
    /// What relative paths of sources begin at: the instance directory, as in Occlum's tool. It need not exist.
    pub base: &'a Path,
    /// The environment.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Directory {
        inside: PathBuf,
    },
    Link {
        target: PathBuf,
        inside: PathBuf,
    },
    /// `name`: the directory's own, unless only its contents are copied. Patterns are compared with it, too.
    CopyDirectory {
        source: PathBuf,
        inside: PathBuf,
        name: Option<OsString>,
    },
    CopyFile {
        source: PathBuf,
        inside: PathBuf,
        hash: Option<String>,
        autodep: bool,
    },
}

#[derive(Clone, Debug)]
struct Part {
    bom: PathBuf,
    excludes: Vec<Pattern>,
    steps: Vec<(usize, Step)>,
}

/// Everything that a file and its includes ask for, in order.
#[derive(Clone, Debug)]
pub struct Plan {
    parts: Vec<Part>,
}

/// What was copied, for whoever looks for shared libraries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Files whose libraries are wanted: path inside, and the file on this machine.
    pub files: Vec<(PathBuf, PathBuf)>,
    /// Files of copied directories, as paths inside; their libraries are wanted where they can be found.
    pub of_directories: Vec<PathBuf>,
}

impl Plan {
    /// Reads the first file and all that it includes.
    ///
    /// The first file comes first, then what it includes, breadth first; of a file that is included several times the last
    /// place counts. A later step replaces what an earlier one made.
    ///
    /// # Errors
    /// [`CopyBomError`], with file and line.
    pub fn make(settings: &Settings<'_>) -> Result<Self, CopyBomError> {
        let parts = read_all(settings)?;
        let parts = parts
            .into_iter()
            .map(|(path, bom)| part(&path, bom, settings).map_err(|source| CopyBomError::Bom { path, source }));
        Ok(Self { parts: parts.collect::<Result<_, _>>()? })
    }

    /// Fills an image directory, which exists.
    ///
    /// # Errors
    /// [`CopyBomError`], with file and line; what was copied before stays.
    pub fn apply(&self, image: &Path) -> Result<Copied, CopyBomError> {
        let writer = ImageWriter::new(image);
        let mut copied = Copied::default();
        for part in &self.parts {
            for (line, step) in &part.steps {
                let error = |source| CopyBomError::Write { bom: part.bom.clone(), line: *line, source };
                match step {
                    Step::Directory { inside } => drop(writer.make_directory(inside).map_err(error)?),
                    Step::Link { target, inside } => writer.link(target, inside).map_err(error)?,
                    Step::CopyDirectory { source, inside, name } => {
                        let name = Path::new(name.as_deref().unwrap_or_default());
                        let is_excluded = |path: &Path, is_directory: bool| {
                            part.excludes.iter().any(|one| one.matches(&name.join(path), is_directory))
                        };
                        if is_excluded(Path::new(""), true) {
                            continue;
                        }
                        let files =
                            writer.copy_directory(source, inside, Links::FollowUnsafe, &is_excluded).map_err(error)?;
                        copied.of_directories.extend(files);
                    }
                    Step::CopyFile { source, inside, hash, autodep } => {
                        writer.copy_file(source, inside, None).map_err(error)?;
                        if let Some(expected) = hash {
                            // What was copied: the source may be another file by now.
                            let copy = writer.locate(inside, false).map_err(error)?;
                            check_hash(&copy, expected, source)?;
                        }
                        if *autodep {
                            copied.files.push((inside.clone(), source.clone()));
                        }
                    }
                }
            }
        }
        Ok(copied)
    }
}

fn read_all(settings: &Settings<'_>) -> Result<Vec<(PathBuf, Bom)>, CopyBomError> {
    let mut waiting = VecDeque::from([settings.bom.to_owned()]);
    let mut read: Vec<(PathBuf, Bom)> = Vec::new();
    let mut count = 0;
    while let Some(path) = waiting.pop_front() {
        count += 1;
        if count > MAX_INCLUDES {
            return Err(CopyBomError::TooManyIncludes(settings.bom.to_owned()));
        }
        let mut content = Vec::new();
        let file = HostFile::open(&path);
        let result = file.and_then(|file| file.take(MAX_BOM_BYTES as u64 + 1).read_to_end(&mut content));
        result.map_err(|source| CopyBomError::Read { path: path.clone(), source })?;
        let bom = Bom::parse(&content).map_err(|source| CopyBomError::Bom { path: path.clone(), source })?;
        for include in &bom.includes {
            waiting.push_back(find(include, &path, settings)?);
        }
        read.retain(|(present, _)| *present != path);
        read.push((path, bom));
    }
    Ok(read)
}

fn find(include: &Text, including: &Path, settings: &Settings<'_>) -> Result<PathBuf, CopyBomError> {
    let beside = including.parent().unwrap_or(Path::new(""));
    let mut places = std::iter::once(beside).chain(settings.include_directories.iter().map(PathBuf::as_path));
    places.find_map(|place| Some(place.join(&include.text)).filter(|path| path.is_file())).ok_or_else(|| {
        CopyBomError::NotFound { path: including.to_owned(), line: include.line, name: include.text.clone() }
    })
}

/// The steps of one file: directories, links, directories to copy, files to copy, as Occlum's tool orders them.
fn part(path: &Path, bom: Bom, settings: &Settings<'_>) -> Result<Part, BomError> {
    let mut steps: [Vec<(usize, Step)>; 4] = Default::default();
    for target in &bom.targets {
        add_target(target, settings, &mut steps)?;
    }
    Ok(Part { bom: path.to_owned(), excludes: bom.excludes, steps: steps.into_iter().flatten().collect() })
}

fn add_target(
    target: &Target,
    settings: &Settings<'_>,
    [directories, links, directory_copies, file_copies]: &mut [Vec<(usize, Step)>; 4],
) -> Result<(), BomError> {
    let text = |text: &Text| expand(&text.text, text.line, settings.variable);
    let root = inside(Path::new("/"), &text(&target.target)?, target.target.line, "target")?;
    directories.push((target.target.line, Step::Directory { inside: root.clone() }));
    for directory in &target.mkdirs {
        let inside = inside(&root, &text(directory)?, directory.line, "mkdirs")?;
        directories.push((directory.line, Step::Directory { inside }));
    }
    for link in &target.links {
        let inside = inside(&root, &text(&link.name)?, link.name.line, "linkname")?;
        links.push((link.name.line, Step::Link { target: text(&link.src)?.into(), inside }));
    }
    for source in &target.copy {
        let Source { line, from, dirs, files } = source;
        let from = match from {
            Some(from) => lexical(&settings.base.join(text(from)?)),
            None => settings.base.to_owned(),
        };
        for directory in dirs.iter().flatten() {
            let written = text(directory)?;
            let source = lexical(&from.join(&written));
            // As in rsync: a slash at the end means the contents.
            let name = (!written.ends_with('/')).then(|| source.file_name()).flatten().map(OsString::from);
            let inside = name.as_ref().map_or_else(|| root.clone(), |name| root.join(name));
            directory_copies.push((directory.line, Step::CopyDirectory { source, inside, name }));
        }
        for file in files.iter().flatten() {
            let source = lexical(&from.join(text(&file.name)?));
            let name = match &file.rename {
                Some(rename) => text(rename)?,
                None => source.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            };
            let inside = inside(&root, &name, file.name.line, "files")?;
            let hash = file.hash.as_ref().map(|hash| hash.text.clone());
            file_copies.push((file.name.line, Step::CopyFile { source, inside, hash, autodep: file.autodep }));
        }
        if dirs.is_none() && files.is_none() {
            directory_copies.push((*line, Step::CopyDirectory { source: from, inside: root.clone(), name: None }));
        }
    }
    Ok(())
}

/// `path` below `root`, both inside of the image.
fn inside(root: &Path, path: &str, line: usize, place: &'static str) -> Result<PathBuf, BomError> {
    let relative = Path::new(path.trim_start_matches('/'));
    let is_plain = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    // The root itself is a directory, but never a file or a link.
    let is_named = place == "target" || place == "mkdirs" || relative.file_name().is_some();
    if !relative.components().all(is_plain) || path.contains('\0') || !is_named {
        return Err(BomError::Path { line, place, got: path.to_owned() });
    }
    Ok(relative
        .components()
        .filter(|part| *part != Component::CurDir)
        .fold(root.to_owned(), |path, part| path.join(part)))
}

/// `path` without `.` and with `..` taken literally: the base need not exist yet.
fn lexical(path: &Path) -> PathBuf {
    let mut result = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if matches!(result.components().next_back(), Some(Component::Normal(_))) => {
                result.pop();
            }
            part => result.push(part),
        }
    }
    result
}

/// `source` is for the error.
fn check_hash(path: &Path, expected: &str, source: &Path) -> Result<(), CopyBomError> {
    let error = |error| CopyBomError::Read { path: path.to_owned(), source: error };
    let mut file = HostFile::open(path).map_err(error)?;
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer).map_err(error)? {
            0 => break,
            len => context.update(&buffer[..len]),
        }
    }
    let got: String = context.finish().as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    if got == expected {
        return Ok(());
    }
    Err(CopyBomError::Hash { path: source.to_owned(), expected: expected.to_owned(), got })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    struct Site {
        directory: tempfile::TempDir,
    }

    impl Site {
        fn new(files: &[(&str, &str)]) -> Self {
            let site = Self { directory: tempfile::tempdir().unwrap() };
            fs::create_dir(site.path("image")).unwrap();
            for (name, content) in files {
                let path = site.path(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, content).unwrap();
            }
            site
        }

        fn path(&self, name: &str) -> PathBuf {
            self.directory.path().join(name)
        }

        fn apply(&self) -> Result<Copied, CopyBomError> {
            let variable = |name: &str| (name == "NAME").then(|| "named".to_owned());
            let settings = Settings {
                bom: &self.path("app.yaml"),
                include_directories: &[self.path("includes")],
                base: &self.path("instance"),
                variable: &variable,
            };
            Plan::make(&settings)?.apply(&self.path("image"))
        }

        fn message(&self) -> String {
            let error = self.apply().unwrap_err();
            let mut text = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(error) = source {
                text = format!("{text}: {error}");
                source = error.source();
            }
            text.replace(self.directory.path().to_str().unwrap(), "SITE")
        }

        fn image(&self, name: &str) -> String {
            fs::read_to_string(self.path("image").join(name)).unwrap()
        }
    }

    // rules: INST-4
    #[test]
    fn an_image_is_filled_as_the_bill_says() {
        let bom = "excludes: ['*.o']\ntargets:\n- target: /opt/$NAME\n  mkdirs: [empty]\n  createlinks: [{src: ../x, linkname: \
                   l}]\n  copy:\n  - from: ../data\n    dirs: [d, e/]\n    files: [f, {name: f, rename: g, autodep: false}]\n- \
                   target: /all\n  copy: [{from: ../data/d}]\n";
        let site = Site::new(&[
            ("app.yaml", bom),
            ("data/d/1", "one"),
            ("data/d/1.o", "object"),
            ("data/e/2", "two"),
            ("data/f", "file"),
        ]);
        fs::set_permissions(site.path("data/f"), fs::Permissions::from_mode(0o750)).unwrap();
        let copied = site.apply().unwrap();
        assert_eq!(site.image("opt/named/d/1"), "one");
        assert_eq!(site.image("opt/named/2"), "two");
        assert_eq!(site.image("opt/named/f"), "file");
        assert_eq!(site.image("opt/named/g"), "file");
        assert_eq!(site.image("all/1"), "one");
        assert!(!site.path("image/opt/named/d/1.o").exists());
        assert!(site.path("image/opt/named/empty").is_dir());
        assert_eq!(fs::read_link(site.path("image/opt/named/l")).unwrap(), Path::new("../x"));
        assert_eq!(site.path("image/opt/named/f").metadata().unwrap().permissions().mode() & 0o777, 0o750);
        assert_eq!(copied.files, [(PathBuf::from("/opt/named/f"), site.path("data/f"))]);
        assert_eq!(copied.of_directories.len(), 3);
    }

    #[test]
    fn included_files_are_found_beside_and_in_directories_and_come_later() {
        let copy = |name: &str| {
            format!("targets: [{{target: /, copy: [{{from: .., files: [{{name: {name}, rename: x}}]}}]}}]\n")
        };
        let site = Site::new(&[
            ("app.yaml", &format!("includes: [beside.yaml, far.yaml]\n{}", copy("1"))),
            ("beside.yaml", &copy("2")),
            ("includes/far.yaml", &format!("includes: [../beside.yaml]\n{}", copy("3"))),
            ("1", "1"),
            ("2", "2"),
            ("3", "3"),
        ]);
        site.apply().unwrap();
        assert_eq!(site.image("x"), "2");
    }

    #[test]
    fn includes_in_a_circle_end() {
        let site = Site::new(&[("app.yaml", "includes: [b.yaml]\n"), ("b.yaml", "includes: [app.yaml, b.yaml]\n")]);
        assert!(matches!(site.apply(), Err(CopyBomError::TooManyIncludes(_))));
    }

    #[test]
    fn a_hash_must_match() {
        let hash = "2D711642B726B04401627CA9FBAC32F5C8530FB1903CC4DB02258717921A4881";
        let bom =
            |hash: &str| format!("targets: [{{target: /, copy: [{{from: .., files: [{{name: x, hash: {hash}}}]}}]}}]");
        Site::new(&[("app.yaml", &bom(hash)), ("x", "x")]).apply().unwrap();
        let other = Site::new(&[("app.yaml", &bom(hash)), ("x", "y")]);
        assert!(other.message().starts_with(&format!("SITE/x: expected the SHA-256 {hash}, got A1FCE43")));
    }

    #[test]
    fn a_hash_is_never_asked_of_a_pipe() {
        let bom =
            format!("targets: [{{target: /, copy: [{{from: .., files: [{{name: x, hash: {}}}]}}]}}]", "0".repeat(64));
        let site = Site::new(&[("app.yaml", &bom)]);
        assert!(std::process::Command::new("mkfifo").arg(site.path("x")).status().unwrap().success());
        assert!(site.message().contains("got a special file"), "{}", site.message());
    }

    #[test]
    fn excludes_see_the_directorys_own_name_as_rsync_does() {
        let bom = |excludes: &str, dirs: &str| {
            format!("excludes: {excludes}\ntargets: [{{target: /, copy: [{{from: ../data, dirs: {dirs}}}]}}]\n")
        };
        for (excludes, dirs, is_copied) in [
            ("[d]", "[d]", false),
            ("[d/]", "[d]", false),
            ("[/d/1]", "[d]", false),
            ("[/1]", "[d]", true),
            ("[d]", "[d/]", true),
            ("[/1]", "[d/]", false),
        ] {
            let site = Site::new(&[("app.yaml", &bom(excludes, dirs)), ("data/d/1", "one")]);
            site.apply().unwrap();
            let name = if dirs == "[d]" { "image/d/1" } else { "image/1" };
            assert_eq!(site.path(name).exists(), is_copied, "{excludes} {dirs}");
        }
    }

    #[test]
    fn mistakes_name_file_and_line() {
        #[track_caller]
        fn check(bom: &str, expected: &str) {
            assert_eq!(Site::new(&[("app.yaml", bom)]).message(), expected);
        }
        check("includes:\n- no.yaml", "SITE/app.yaml line 2: no.yaml is neither beside it nor in an include directory");
        check(
            "targets:\n- target: /../x",
            "SITE/app.yaml: line 2: target: expected a path inside of the image without \"..\", got \"/../x\"",
        );
        check(
            "targets:\n- target: /\n  createlinks: [{src: a, linkname: /}]",
            "SITE/app.yaml: line 3: linkname: expected a path inside of the image without \"..\", got \"/\"",
        );
        check("targets:\n- target: $NOPE", "SITE/app.yaml: line 2: environment variable NOPE is not set");
        check(
            "targets:\n- target: /\n  copy:\n  - files: [missing]",
            "SITE/app.yaml line 4: cannot read SITE/instance/missing: No such file or directory (os error 2)",
        );
    }
}
