//! One file of the format.

use super::document::{self, Kind, Node};
use super::pattern::Pattern;

/// Longest file.
pub const MAX_BOM_BYTES: usize = 1 << 20;

/// A file is not a bill of materials.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BomError {
    /// Too long.
    #[error("expected at most {max} bytes, got {got}")]
    TooLong {
        /// The limit.
        max: usize,
        /// The length.
        got: usize,
    },
    /// Not text.
    #[error("expected UTF-8 text")]
    NotUtf8,
    /// Not YAML.
    #[error("line {line}: {reason}")]
    Syntax {
        /// Where.
        line: usize,
        /// What the parser says.
        reason: String,
    },
    /// Nested too deeply.
    #[error("line {line}: expected at most {max} levels")]
    Depth {
        /// Where.
        line: usize,
        /// The limit.
        max: usize,
    },
    /// Too many values.
    #[error("expected at most {max} values, got more")]
    TooManyValues {
        /// The limit.
        max: usize,
    },
    /// An alias, which can stand for very much.
    #[error("line {line}: aliases are not supported")]
    Alias {
        /// Where.
        line: usize,
    },
    /// A tag.
    #[error("line {line}: tags are not supported")]
    Tag {
        /// Where.
        line: usize,
    },
    /// A member twice.
    #[error("line {line}: member {name:?} stands twice in one object")]
    Duplicate {
        /// Where.
        line: usize,
        /// Its name.
        name: String,
    },
    /// A member that the format does not have.
    #[error("line {line}: {place} has no member {name:?}, expected one of {expected}")]
    Unknown {
        /// Where.
        line: usize,
        /// The object.
        place: &'static str,
        /// The member.
        name: String,
        /// What it has.
        expected: String,
    },
    /// A required member is missing.
    #[error("line {line}: {place} needs a member {name:?}")]
    Missing {
        /// Where.
        line: usize,
        /// The object.
        place: &'static str,
        /// The member.
        name: &'static str,
    },
    /// A value of another type.
    #[error("line {line}: {place}: expected {expected}, got {got}")]
    Type {
        /// Where.
        line: usize,
        /// The value.
        place: &'static str,
        /// Its type.
        expected: &'static str,
        /// What it is.
        got: &'static str,
    },
    /// A hash of another form.
    #[error("line {line}: hash: expected 64 upper-case hexadecimal digits, got {got:?}")]
    Hash {
        /// Where.
        line: usize,
        /// The text.
        got: String,
    },
    /// A path that does not lead into the image.
    #[error("line {line}: {place}: expected a path inside of the image without \"..\", got {got:?}")]
    Path {
        /// Where.
        line: usize,
        /// The member.
        place: &'static str,
        /// The path.
        got: String,
    },
    /// A pattern that is not understood.
    #[error("line {line}: excludes: expected a name or a path with *, ? and **, got {text:?}")]
    Pattern {
        /// Where.
        line: usize,
        /// The pattern.
        text: String,
    },
    /// A variable is not set.
    #[error("line {line}: environment variable {name} is not set")]
    Variable {
        /// Where.
        line: usize,
        /// The variable.
        name: String,
    },
    /// A `$` that begins no variable.
    #[error("line {line}: expected $NAME, ${{NAME}} or $$ (a dollar sign) in {text:?}")]
    VariableForm {
        /// Where.
        line: usize,
        /// The text.
        text: String,
    },
    /// A path becomes too long.
    #[error("line {line}: expected a path of at most {max} bytes after its variables are replaced")]
    ExpandedPath {
        /// Where.
        line: usize,
        /// The limit.
        max: usize,
    },
}

/// A text and its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) line: usize,
    pub(super) text: String,
}

/// A bill of materials as it is written; variables are not replaced yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bom {
    pub(super) includes: Vec<Text>,
    pub(super) excludes: Vec<Pattern>,
    pub(super) targets: Vec<Target>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) target: Text,
    pub(super) mkdirs: Vec<Text>,
    pub(super) links: Vec<Link>,
    pub(super) copy: Vec<Source>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) src: Text,
    pub(super) name: Text,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) line: usize,
    pub(super) from: Option<Text>,
    pub(super) dirs: Option<Vec<Text>>,
    pub(super) files: Option<Vec<File>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct File {
    pub(super) name: Text,
    pub(super) hash: Option<Text>,
    pub(super) autodep: bool,
    pub(super) rename: Option<Text>,
}

impl Bom {
    /// Reads a file.
    ///
    /// # Errors
    /// The first [`BomError`], with its line.
    pub fn parse(bytes: &[u8]) -> Result<Self, BomError> {
        if bytes.len() > MAX_BOM_BYTES {
            return Err(BomError::TooLong { max: MAX_BOM_BYTES, got: bytes.len() });
        }
        let text = std::str::from_utf8(bytes).map_err(|_| BomError::NotUtf8)?;
        let root = document::read(text)?;
        if root.kind == Kind::Null {
            return Ok(Self::default());
        }
        let mut members = Members::of(root, "the file", &["includes", "excludes", "targets"])?;
        let excludes = members.texts("excludes")?.unwrap_or_default();
        Ok(Self {
            includes: members.texts("includes")?.unwrap_or_default(),
            excludes: excludes.iter().map(|text| Pattern::parse(&text.text, text.line)).collect::<Result<_, _>>()?,
            targets: members.list("targets", Target::read)?.unwrap_or_default(),
        })
    }
}

impl Target {
    fn read(node: Node) -> Result<Self, BomError> {
        let mut members = Members::of(node, "a target", &["target", "mkdirs", "createlinks", "copy"])?;
        Ok(Self {
            target: members.required_text("target")?,
            mkdirs: members.texts("mkdirs")?.unwrap_or_default(),
            links: members.list("createlinks", Link::read)?.unwrap_or_default(),
            copy: members.list("copy", Source::read)?.unwrap_or_default(),
        })
    }
}

impl Link {
    fn read(node: Node) -> Result<Self, BomError> {
        let mut members = Members::of(node, "a link", &["src", "linkname"])?;
        Ok(Self { src: members.required_text("src")?, name: members.required_text("linkname")? })
    }
}

impl Source {
    fn read(node: Node) -> Result<Self, BomError> {
        let line = node.line;
        let mut members = Members::of(node, "a source", &["from", "dirs", "files"])?;
        let source = Self {
            line,
            from: members.text("from")?,
            dirs: members.texts("dirs")?,
            files: members.list("files", File::read)?,
        };
        // Without `dirs` and `files` all of `from` is meant.
        if source.from.is_none() && source.dirs.is_none() && source.files.is_none() {
            return Err(BomError::Missing { line, place: "a source without dirs and files", name: "from" });
        }
        Ok(source)
    }
}

impl File {
    fn read(node: Node) -> Result<Self, BomError> {
        if let Kind::Text { text, .. } = node.kind {
            let name = Text { line: node.line, text };
            return Ok(Self { name, hash: None, autodep: true, rename: None });
        }
        let mut members = Members::of(node, "a file", &["name", "hash", "autodep", "rename"])?;
        let hash = members.text("hash")?;
        if let Some(Text { line, text }) = &hash {
            let is_digit = |byte: u8| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte);
            if text.len() != 64 || !text.bytes().all(is_digit) {
                return Err(BomError::Hash { line: *line, got: text.clone() });
            }
        }
        Ok(Self {
            name: members.required_text("name")?,
            hash,
            autodep: members.flag("autodep")?.unwrap_or(true),
            rename: members.text("rename")?,
        })
    }
}

/// The members of an object, taken one after the other.
struct Members {
    line: usize,
    place: &'static str,
    members: Vec<(String, Node)>,
}

impl Members {
    fn of(node: Node, place: &'static str, known: &[&'static str]) -> Result<Self, BomError> {
        let line = node.line;
        let members = match node.kind {
            Kind::Object(members) => members,
            other => return Err(BomError::Type { line, place, expected: "an object", got: other.name() }),
        };
        match members.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            Some((name, node)) => {
                let (name, expected) = (name.clone(), known.join(", "));
                Err(BomError::Unknown { line: node.line, place, name, expected })
            }
            None => Ok(Self { line, place, members }),
        }
    }

    /// The member, if it is there and not null.
    fn take(&mut self, name: &str) -> Option<Node> {
        let at = self.members.iter().position(|(present, _)| present == name)?;
        Some(self.members.swap_remove(at).1).filter(|node| node.kind != Kind::Null)
    }

    fn text(&mut self, name: &'static str) -> Result<Option<Text>, BomError> {
        self.take(name).map(|node| text(node, name)).transpose()
    }

    fn required_text(&mut self, name: &'static str) -> Result<Text, BomError> {
        let (line, place) = (self.line, self.place);
        self.text(name)?.ok_or(BomError::Missing { line, place, name })
    }

    fn texts(&mut self, name: &'static str) -> Result<Option<Vec<Text>>, BomError> {
        self.list(name, |node| text(node, name))
    }

    fn list<T>(
        &mut self,
        name: &'static str,
        read: impl Fn(Node) -> Result<T, BomError>,
    ) -> Result<Option<Vec<T>>, BomError> {
        let Some(node) = self.take(name) else { return Ok(None) };
        match node.kind {
            Kind::List(elements) => elements.into_iter().map(read).collect::<Result<_, _>>().map(Some),
            other => Err(BomError::Type { line: node.line, place: name, expected: "a list", got: other.name() }),
        }
    }

    fn flag(&mut self, name: &'static str) -> Result<Option<bool>, BomError> {
        let Some(node) = self.take(name) else { return Ok(None) };
        match &node.kind {
            Kind::Text { text, is_plain: true } if matches!(text.as_str(), "true" | "True" | "TRUE") => Ok(Some(true)),
            Kind::Text { text, is_plain: true } if matches!(text.as_str(), "false" | "False" | "FALSE") => {
                Ok(Some(false))
            }
            other => Err(BomError::Type { line: node.line, place: name, expected: "true or false", got: other.name() }),
        }
    }
}

fn text(node: Node, place: &'static str) -> Result<Text, BomError> {
    match node.kind {
        Kind::Text { text, .. } if !text.is_empty() && !text.contains('\0') => Ok(Text { line: node.line, text }),
        other => Err(BomError::Type { line: node.line, place, expected: "a text", got: other.name() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the format's own documentation, in words of ours.
    const FULL: &str = "# a comment
includes:
  - base.yaml
excludes:
  - .git
targets:
  - target: /
    mkdirs: [bin, proc]
    createlinks:
      - src: ../hello
        linkname: hello_link
    copy:
      - from: .
        dirs:
          - demo
        files:
          - Makefile
          - name: Cargo.toml
            hash: DA665E483C11922D07239B1A04BEE0F0C7C1AB6D60AF041DDA7CE56D07AF723E
            autodep: false
            rename: Cargo.toml.backup
  - target: /etc
    copy:
      - dirs:
        # contents only
        - /etc/opt/
";

    #[test]
    fn every_member_is_read() {
        let bom = Bom::parse(FULL.as_bytes()).unwrap();
        assert_eq!(bom.includes[0].text, "base.yaml");
        assert_eq!(bom.excludes.len(), 1);
        let [root, etc] = bom.targets.as_slice() else { panic!("{:?}", bom.targets) };
        assert_eq!(root.mkdirs.len(), 2);
        assert_eq!((root.links[0].src.text.as_str(), root.links[0].name.line), ("../hello", 11));
        let files = root.copy[0].files.as_ref().unwrap();
        assert!(files[0].autodep && !files[1].autodep);
        assert_eq!(files[1].rename.as_ref().unwrap().text, "Cargo.toml.backup");
        assert_eq!(etc.copy[0].dirs.as_ref().unwrap()[0].text, "/etc/opt/");
    }

    #[test]
    fn an_empty_file_is_an_empty_bill() {
        for text in ["", "# nothing\n", "targets:\n", "~"] {
            assert_eq!(Bom::parse(text.as_bytes()).unwrap(), Bom::default(), "{text:?}");
        }
    }

    #[track_caller]
    fn check_refused(from: &str, to: &str, expected: &str) {
        assert!(FULL.contains(from), "the fixture has no {from:?}");
        let error = Bom::parse(FULL.replacen(from, to, 1).as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }

    // rules: INST-4
    #[test]
    fn mistakes_are_named_with_their_line() {
        check_refused(
            "excludes:",
            "exclude:",
            "line 4: the file has no member \"exclude\", expected one of includes, excludes, targets",
        );
        check_refused("mkdirs: [bin, proc]", "mkdirs: bin", "line 8: mkdirs: expected a list, got a text");
        check_refused("target: /etc", "mkdirs: [a]", "line 22: a target needs a member \"target\"");
        check_refused("autodep: false", "autodep: 'false'", "line 20: autodep: expected true or false, got a text");
        check_refused("autodep: false", "name: x", "line 20: member \"name\" stands twice in one object");
        check_refused("linkname", "link", "line 11: a link has no member \"link\", expected one of src, linkname");
        check_refused("- .git", "- '[a]'", "line 5: excludes: expected a name or a path with *, ? and **, got \"[a]\"");
        check_refused("- .git", "- [a]", "line 5: excludes: expected a text, got a list");
        check_refused("- .git", "- &a b\n  - *a", "line 6: aliases are not supported");
        check_refused("- .git", "- !!str a", "line 5: tags are not supported");
        check_refused(
            "DA665E48",
            "da665e48",
            &format!(
                "line 19: hash: expected 64 upper-case hexadecimal digits, got {:?}",
                "da665e483C11922D07239B1A04BEE0F0C7C1AB6D60AF041DDA7CE56D07AF723E"
            ),
        );
        check_refused(
            "- dirs:\n        # contents only\n        - /etc/opt/",
            "- {}",
            "line 24: a source without dirs and files needs a member \"from\"",
        );
    }

    #[test]
    fn limits_hold() {
        let deep = "[".repeat(40) + &"]".repeat(40);
        assert!(matches!(Bom::parse(deep.as_bytes()), Err(BomError::Depth { .. })));
        let wide = format!("includes: [{}]", "a,".repeat(200_000));
        assert!(matches!(Bom::parse(wide.as_bytes()), Err(BomError::TooManyValues { .. })));
        assert!(matches!(Bom::parse(&vec![b'#'; MAX_BOM_BYTES + 1]), Err(BomError::TooLong { .. })));
        assert_eq!(Bom::parse(b"\xff"), Err(BomError::NotUtf8));
        assert!(matches!(Bom::parse(b"a: 1\n---\nb: 2\n"), Err(BomError::Syntax { .. })));
        assert!(matches!(Bom::parse(b"a: [\n"), Err(BomError::Syntax { .. })));
    }
}
