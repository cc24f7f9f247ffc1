//! ELF files for tests, made byte by byte.

/// A dynamic program or library under construction.
#[derive(Clone, Default)]
pub(crate) struct ElfFile {
    kind: u16,
    machine: u16,
    interpreter: Option<String>,
    needed: Vec<String>,
    soname: Option<String>,
    run_path: Option<String>,
    is_pie: bool,
    /// Library, version.
    required: Vec<(String, String)>,
    defined: Vec<String>,
    /// Function, and the version's place in `required`.
    imports: Vec<(String, Option<usize>)>,
    code: Vec<u8>,
    rodata: Vec<u8>,
    section_names: Vec<&'static str>,
}

/// Name, type, flags, place in the file, link, size of an entry.
type Section = (&'static str, u32, u64, (u64, u64), u32, u64);

const EHDR: usize = 64;
const PHDR: usize = 56;
const SHDR: usize = 64;

impl ElfFile {
    /// A program as Occlum loads it.
    pub(crate) fn program() -> Self {
        Self {
            kind: 3,
            machine: 62,
            interpreter: Some("/lib64/ld-linux-x86-64.so.2".to_owned()),
            is_pie: true,
            code: vec![0xc3],
            ..Self::default()
        }
    }

    /// A shared library.
    pub(crate) fn library(soname: &str) -> Self {
        Self { interpreter: None, is_pie: false, soname: Some(soname.to_owned()), ..Self::program() }
    }

    pub(crate) fn kind(self, kind: u16) -> Self {
        Self { kind, ..self }
    }

    pub(crate) fn machine(self, machine: u16) -> Self {
        Self { machine, ..self }
    }

    pub(crate) fn interpreter(self, path: Option<&str>) -> Self {
        Self { interpreter: path.map(str::to_owned), ..self }
    }

    pub(crate) fn needs(mut self, library: &str) -> Self {
        self.needed.push(library.to_owned());
        self
    }

    pub(crate) fn run_path(self, path: &str) -> Self {
        Self { run_path: Some(path.to_owned()), ..self }
    }

    pub(crate) fn requires(mut self, library: &str, version: &str) -> Self {
        self.required.push((library.to_owned(), version.to_owned()));
        self
    }

    pub(crate) fn defines(mut self, version: &str) -> Self {
        self.defined.push(version.to_owned());
        self
    }

    pub(crate) fn imports(mut self, function: &str) -> Self {
        self.imports.push((function.to_owned(), None));
        self
    }

    /// An import with the version that was required last.
    pub(crate) fn imports_versioned(mut self, function: &str) -> Self {
        self.imports.push((function.to_owned(), self.required.len().checked_sub(1)));
        self
    }

    pub(crate) fn code(self, code: &[u8]) -> Self {
        Self { code: code.to_vec(), ..self }
    }

    pub(crate) fn rodata(self, rodata: &[u8]) -> Self {
        Self { rodata: rodata.to_vec(), ..self }
    }

    pub(crate) fn section(mut self, name: &'static str) -> Self {
        self.section_names.push(name);
        self
    }

    /// The file. Everything is loaded at its place in the file.
    pub(crate) fn build(&self) -> Vec<u8> {
        let mut strings = Strings::default();
        let mut segments: Vec<[u64; 5]> = Vec::new(); // type, flags, offset, address, length
        let count = 2 + usize::from(self.interpreter.is_some());
        let mut file = vec![0; EHDR + count * PHDR];
        let mut put = |content: &[u8]| {
            while !file.len().is_multiple_of(16) {
                file.push(0);
            }
            let offset = file.len();
            file.extend(content);
            (offset as u64, content.len() as u64)
        };
        if let Some(path) = &self.interpreter {
            let (offset, len) = put(format!("{path}\0").as_bytes());
            segments.push([3, 4, offset, offset, len]);
        }
        let mut symbols = vec![0; 24];
        let mut versyms = vec![0; 2];
        for (name, version) in &self.imports {
            symbols.extend(strings.add(name).to_le_bytes());
            symbols.extend([0x12, 0, 0, 0]);
            symbols.extend([0; 16]);
            versyms.extend(version.map_or(1, |index| 2 + index as u16).to_le_bytes());
        }
        let mut verneed = Vec::new();
        for (index, (library, version)) in self.required.iter().enumerate() {
            let is_last = index + 1 == self.required.len();
            verneed.extend([1, 0, 1, 0]);
            verneed.extend(strings.add(library).to_le_bytes());
            verneed.extend(16_u32.to_le_bytes());
            verneed.extend(if is_last { 0_u32 } else { 32 }.to_le_bytes());
            verneed.extend([0, 0, 0, 0, 0, 0]);
            verneed.extend((2 + index as u16).to_le_bytes());
            verneed.extend(strings.add(version).to_le_bytes());
            verneed.extend(0_u32.to_le_bytes());
        }
        let mut verdef = Vec::new();
        for (index, version) in self.defined.iter().enumerate() {
            let is_last = index + 1 == self.defined.len();
            verdef.extend([1, 0, 0, 0]);
            verdef.extend((1 + index as u16).to_le_bytes());
            verdef.extend([1, 0, 0, 0, 0, 0]);
            verdef.extend(20_u32.to_le_bytes());
            verdef.extend(if is_last { 0_u32 } else { 28 }.to_le_bytes());
            verdef.extend(strings.add(version).to_le_bytes());
            verdef.extend(0_u32.to_le_bytes());
        }
        let mut dynamic: Vec<[u64; 2]> = Vec::new();
        for library in &self.needed {
            dynamic.push([1, strings.add(library).into()]);
        }
        if let Some(name) = &self.soname {
            dynamic.push([14, strings.add(name).into()]);
        }
        if let Some(path) = &self.run_path {
            dynamic.push([29, strings.add(path).into()]);
        }
        if self.is_pie {
            dynamic.push([0x6fff_fffb, 0x0800_0000]);
        }
        let strings = strings.0;
        let strings_at = put(&strings);
        dynamic.extend([[5, strings_at.0], [10, strings_at.1], [0, 0]]);
        let dynamic: Vec<u8> = dynamic.iter().flatten().flat_map(|word| word.to_le_bytes()).collect();
        let dynamic_at = put(&dynamic);
        segments.push([2, 6, dynamic_at.0, dynamic_at.0, dynamic_at.1]);
        let code_at = put(&self.code);
        let rodata_at = put(&self.rodata);
        let mut sections: Vec<Section> = vec![
            ("", 0, 0, (0, 0), 0, 0),
            (".dynstr", 3, 2, strings_at, 0, 0),
            (".dynsym", 11, 2, put(&symbols), 1, 24),
            (".text", 1, 6, code_at, 0, 0),
            (".rodata", 1, 2, rodata_at, 0, 0),
            (".gnu.version", 0x6fff_ffff, 2, put(&versyms), 2, 2),
        ];
        if !verneed.is_empty() {
            sections.push((".gnu.version_r", 0x6fff_fffe, 2, put(&verneed), 1, 0));
        }
        if !verdef.is_empty() {
            sections.push((".gnu.version_d", 0x6fff_fffd, 2, put(&verdef), 1, 0));
        }
        for name in &self.section_names {
            sections.push((name, 1, 2, rodata_at, 0, 0));
        }
        let mut names = Strings::default();
        for (name, ..) in &sections {
            names.add(name);
        }
        names.add(".shstrtab");
        let names_at = put(&names.0);
        sections.push((".shstrtab", 3, 0, names_at, 0, 0));
        let mut table = Vec::new();
        for (name, kind, flags, (offset, len), link, entry) in &sections {
            let address = if *flags == 0 { 0 } else { *offset };
            table.extend(names.add(name).to_le_bytes());
            table.extend(kind.to_le_bytes());
            for word in [*flags, address, *offset, *len] {
                table.extend(word.to_le_bytes());
            }
            table.extend(link.to_le_bytes());
            table.extend(0_u32.to_le_bytes());
            table.extend(1_u64.to_le_bytes());
            table.extend(entry.to_le_bytes());
        }
        let table_at = put(&table);
        let len = file.len() as u64;
        segments.push([1, 5, 0, 0, len]);
        let mut header = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        header.extend(self.kind.to_le_bytes());
        header.extend(self.machine.to_le_bytes());
        header.extend(1_u32.to_le_bytes());
        for word in [code_at.0, EHDR as u64, table_at.0] {
            header.extend(word.to_le_bytes());
        }
        header.extend(0_u32.to_le_bytes());
        for half in [EHDR, PHDR, segments.len(), SHDR, sections.len(), sections.len() - 1] {
            header.extend((half as u16).to_le_bytes());
        }
        for [kind, flags, offset, address, len] in segments {
            header.extend((kind as u32).to_le_bytes());
            header.extend((flags as u32).to_le_bytes());
            for word in [offset, address, address, len, len, 1] {
                header.extend(word.to_le_bytes());
            }
        }
        file[..header.len()].copy_from_slice(&header);
        file
    }
}

#[derive(Default)]
struct Strings(Vec<u8>);

impl Strings {
    /// The place of a string, which is added if it is not there.
    fn add(&mut self, text: &str) -> u32 {
        if self.0.is_empty() {
            self.0.push(0);
        }
        let wanted = [b"\0", text.as_bytes(), b"\0"].concat();
        let found = self.0.windows(wanted.len()).position(|window| window == wanted);
        let at = found.map_or(self.0.len(), |at| at + 1);
        if found.is_none() {
            self.0.extend(&wanted[1..]);
        }
        at as u32
    }
}
