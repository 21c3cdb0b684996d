//! What a Linux library asks the loader for, and how to change it without moving a byte.
//!
//! A library that names `liblapack-86b2c207.so.3` has room in its string table for any shorter
//! name. Overwriting that string and dropping table entries leaves every offset, segment and
//! relocation of the file as its linker made it, which no tool that grows the table can say.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail, ensure};
use object::{
    Endianness, Object as _, ObjectSymbol as _, U64Bytes,
    elf::{DT_NEEDED, DT_NULL, DT_RPATH, DT_RUNPATH, DT_SONAME, Dyn64, FileHeader64},
    read::elf::{Dyn as _, ElfFile64, FileHeader as _, SectionHeader as _, Sym as _},
};

type Header = FileHeader64<Endianness>;

/// What the dynamic section says.
#[derive(Debug, PartialEq, Eq)]
pub struct Dynamic {
    pub needed: Vec<String>,
    /// `DT_RPATH`, which also holds for what the library itself needs.
    pub rpath: Option<String>,
}

/// Reads a library's dynamic section.
pub fn dynamic(bytes: &[u8]) -> Result<Dynamic> {
    let table = Table::read(bytes)?;
    let strings = |tag| {
        let entries = table
            .entries
            .iter()
            .filter(move |entry| entry.0 == u64::from(tag));
        entries
            .map(|entry| table.string(bytes, entry.1))
            .collect::<Result<Vec<_>>>()
    };
    Ok(Dynamic {
        needed: strings(DT_NEEDED)?,
        rpath: strings(DT_RPATH)?.pop(),
    })
}

/// The symbols that a library exports.
pub fn exports(bytes: &[u8]) -> Result<BTreeSet<String>> {
    let file = ElfFile64::<Endianness>::parse(bytes)?;
    let defined = file
        .dynamic_symbols()
        .filter(object::ObjectSymbol::is_definition);
    defined
        .map(|symbol| Ok(symbol.name()?.to_owned()))
        .collect()
}

/// The symbols that a library needs of another one and that carry no version, so neither of libc
/// nor of the compilers' own libraries.
pub fn unversioned_imports(bytes: &[u8]) -> Result<BTreeSet<String>> {
    let header = Header::parse(bytes)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, bytes)?;
    let symbols = sections.symbols(endian, bytes, object::elf::SHT_DYNSYM)?;
    let versions = sections.versions(endian, bytes)?;
    let mut imports = BTreeSet::new();
    for (index, symbol) in symbols.enumerate() {
        if !symbol.is_undefined(endian) || symbol.is_weak() || symbol.st_name(endian) == 0 {
            continue;
        }
        let versioned = versions
            .as_ref()
            .is_some_and(|versions| !versions.version_index(endian, index).is_global());
        if !versioned {
            let name = symbols.symbol_name(endian, symbol)?;
            imports.insert(String::from_utf8_lossy(name).into_owned());
        }
    }
    Ok(imports)
}

/// Makes the library need `library` once in place of all that `replaces` holds true for, and look
/// in `rpath` first for what it and its dependencies need.
pub fn redirect(
    bytes: &mut [u8],
    replaces: impl Fn(&str) -> bool,
    library: &str,
    rpath: &str,
) -> Result<()> {
    let table = Table::read(bytes)?;
    let mut entries = Vec::new();
    let mut dropped = Vec::new();
    let (mut redirected, mut path_set) = (false, false);
    for &(tag, value) in &table.entries {
        let is = |other: u32| tag == u64::from(other);
        if is(DT_NEEDED) && replaces(&table.string(bytes, value)?) {
            if redirected {
                dropped.push((value, String::new()));
                continue;
            }
            redirected = true;
            dropped.push((value, library.to_owned()));
            entries.push((tag, value));
        } else if is(DT_RPATH) || is(DT_RUNPATH) {
            if path_set {
                continue;
            }
            path_set = true;
            dropped.push((value, rpath.to_owned()));
            entries.push((u64::from(DT_RPATH), value));
        } else {
            entries.push((tag, value));
        }
    }
    ensure!(
        redirected,
        "the library needs nothing that {library} replaces"
    );
    ensure!(
        path_set,
        "the library has no run path whose place {rpath} could take"
    );

    let shared = table.other_strings(bytes)?;
    for (value, text) in dropped {
        table.overwrite(bytes, value, &text, &shared)?;
    }
    table.write(bytes, &entries)
}

/// The dynamic section's entries (tag, value) and where it and its strings are in the file.
struct Table {
    entries: Vec<(u64, u64)>,
    offset: usize,
    capacity: usize,
    strings: usize,
    strings_len: usize,
    endian: Endianness,
}

impl Table {
    fn read(bytes: &[u8]) -> Result<Self> {
        let header = Header::parse(bytes).context("expected a 64-bit ELF file")?;
        let endian = header.endian()?;
        let sections = header.sections(endian, bytes)?;
        let (dynamic, link) = sections
            .dynamic(endian, bytes)?
            .context("expected a library with a dynamic section")?;
        let section = sections
            .iter()
            .find(|section| section.sh_type(endian) == object::elf::SHT_DYNAMIC)
            .context("expected a dynamic section")?;
        let strings = sections.section(link)?;
        let entries = dynamic
            .iter()
            .map(|entry| (entry.d_tag(endian), entry.d_val(endian)))
            .take_while(|entry| entry.0 != u64::from(DT_NULL))
            .collect();
        Ok(Self {
            entries,
            offset: usize::try_from(section.sh_offset(endian))?,
            capacity: dynamic.len(),
            strings: usize::try_from(strings.sh_offset(endian))?,
            strings_len: usize::try_from(strings.sh_size(endian))?,
            endian,
        })
    }

    /// The string's place in the file, without its terminating zero.
    fn range(&self, bytes: &[u8], value: u64) -> Result<std::ops::Range<usize>> {
        let table = bytes
            .get(self.strings..self.strings + self.strings_len)
            .context("the string table leaves the file")?;
        let start = usize::try_from(value)?;
        let length = table
            .get(start..)
            .and_then(|rest| rest.iter().position(|&byte| byte == 0))
            .context("a string leaves the string table")?;
        Ok(self.strings + start..self.strings + start + length)
    }

    fn string(&self, bytes: &[u8], value: u64) -> Result<String> {
        Ok(String::from_utf8(
            bytes[self.range(bytes, value)?].to_vec(),
        )?)
    }

    /// Where every string begins that anything but `DT_NEEDED` and the run path names.
    ///
    /// A linker may let one string be the tail of another, so these must not be written over.
    fn other_strings(&self, bytes: &[u8]) -> Result<BTreeSet<usize>> {
        let header = Header::parse(bytes)?;
        let sections = header.sections(self.endian, bytes)?;
        let endian = self.endian;
        let mut names = BTreeSet::new();
        let mut add = |name: u64| -> Result<()> {
            names.insert(self.strings + usize::try_from(name)?);
            Ok(())
        };
        for symbol in sections
            .symbols(endian, bytes, object::elf::SHT_DYNSYM)?
            .iter()
        {
            add(symbol.st_name(endian).into())?;
        }
        for &(tag, value) in &self.entries {
            if tag == u64::from(DT_SONAME) {
                add(value)?;
            }
        }
        if let Some((mut needs, _)) = sections.gnu_verneed(endian, bytes)? {
            while let Some((need, mut versions)) = needs.next()? {
                add(need.vn_file.get(endian).into())?;
                while let Some(version) = versions.next()? {
                    add(version.vna_name.get(endian).into())?;
                }
            }
        }
        if let Some((mut definitions, _)) = sections.gnu_verdef(endian, bytes)? {
            while let Some((_, mut names)) = definitions.next()? {
                while let Some(name) = names.next()? {
                    add(name.vda_name.get(endian).into())?;
                }
            }
        }
        Ok(names)
    }

    fn overwrite(
        &self,
        bytes: &mut [u8],
        value: u64,
        text: &str,
        shared: &BTreeSet<usize>,
    ) -> Result<()> {
        let range = self.range(bytes, value)?;
        let old = self.string(bytes, value)?;
        if text.len() > range.len() {
            bail!("\"{text}\" is longer than \"{old}\", whose place it was to take");
        }
        if shared.range(range.clone()).next().is_some() {
            bail!("\"{old}\" shares its place with another name, so \"{text}\" cannot take it");
        }
        bytes[range.clone()].fill(0);
        bytes[range.start..range.start + text.len()].copy_from_slice(text.as_bytes());
        Ok(())
    }

    fn write(&self, bytes: &mut [u8], entries: &[(u64, u64)]) -> Result<()> {
        let size = size_of::<Dyn64<Endianness>>();
        let table = bytes
            .get_mut(self.offset..self.offset + self.capacity * size)
            .context("the dynamic section leaves the file")?;
        table.fill(0);
        for (slot, &(tag, value)) in table.chunks_exact_mut(size).zip(entries) {
            let word = |value| U64Bytes::new(self.endian, value);
            slot[..size / 2].copy_from_slice(object::pod::bytes_of(&word(tag)));
            slot[size / 2..].copy_from_slice(object::pod::bytes_of(&word(value)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::*;

    /// A library that needs `libreference-one.so` and `libreference-two.so`, and its `dlopen`-able
    /// replacement, all made with the host's C compiler.
    struct Built(tempfile::TempDir);

    impl Built {
        fn new() -> Self {
            let built = Self(tempfile::tempdir().unwrap());
            built.library("libreference-one.so", "int one(void) { return 1; }", &[]);
            built.library("libreference-two.so", "int two(void) { return 2; }", &[]);
            built.library(
                "libboth.so",
                "int one(void) { return 10; } int two(void) { return 20; }",
                &[],
            );
            built.library(
                "libuser.so",
                "int one(void); int two(void); int answer(void) { return one() + two(); }",
                &[
                    "libreference-one.so",
                    "libreference-two.so",
                    "-Wl,-rpath,/a/long/run/path",
                ],
            );
            built
        }

        fn library(&self, name: &str, code: &str, needs: &[&str]) {
            let source = self.0.path().join(format!("{name}.c"));
            fs::write(&source, code).unwrap();
            let done = Command::new("cc")
                .current_dir(self.0.path())
                .args([
                    "-shared",
                    "-fPIC",
                    "-o",
                    name,
                    &format!("-Wl,-soname,{name}"),
                ])
                .arg(&source)
                .args(needs)
                .status()
                .unwrap();
            assert!(done.success());
        }

        fn read(&self, name: &str) -> Vec<u8> {
            fs::read(self.0.path().join(name)).unwrap()
        }

        /// What `answer()` returns to a program that loads the library.
        fn answer(&self) -> Option<i32> {
            let code = "int answer(void); int main(void) { return answer(); }";
            fs::write(self.0.path().join("main.c"), code).unwrap();
            let built = Command::new("cc")
                .current_dir(self.0.path())
                .args(["main.c", "-o", "main", "libuser.so", "-Wl,-rpath,$ORIGIN"])
                .arg("-Wl,--allow-shlib-undefined")
                .status()
                .unwrap();
            assert!(built.success());
            Command::new(self.0.path().join("main"))
                .status()
                .unwrap()
                .code()
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_redirected_library_loads_what_it_was_given() {
        let built = Built::new();
        let mut bytes = built.read("libuser.so");
        let length = bytes.len();
        redirect(
            &mut bytes,
            |name| name.starts_with("libreference"),
            "libboth.so",
            "$ORIGIN",
        )
        .unwrap();
        assert_eq!(bytes.len(), length);
        let after = dynamic(&bytes).unwrap();
        assert_eq!(after.needed.first().unwrap(), "libboth.so");
        assert!(
            !after
                .needed
                .iter()
                .any(|name| name.starts_with("libreference"))
        );
        assert_eq!(after.rpath.as_deref(), Some("$ORIGIN"));
        fs::write(built.0.path().join("libuser.so"), bytes).unwrap();
        for name in ["libreference-one.so", "libreference-two.so"] {
            fs::remove_file(built.0.path().join(name)).unwrap();
        }
        assert_eq!(built.answer(), Some(30));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_name_without_room_or_of_another_use_is_refused() {
        let built = Built::new();
        let refused = |library: &str, rpath: &str, prefix: &str| {
            let mut bytes = built.read("libuser.so");
            redirect(&mut bytes, |name| name.starts_with(prefix), library, rpath)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            refused("libmuch-longer-than-the-old.so", "$ORIGIN", "libreference"),
            "\"libmuch-longer-than-the-old.so\" is longer than \"libreference-one.so\", \
             whose place it was to take"
        );
        assert_eq!(
            refused("libboth.so", "$ORIGIN", "libabsent"),
            "the library needs nothing that libboth.so replaces"
        );
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn imports_and_exports_meet() {
        let built = Built::new();
        let imports = unversioned_imports(&built.read("libuser.so")).unwrap();
        assert!(
            imports.contains("one") && imports.contains("two"),
            "{imports:?}"
        );
        assert!(imports.is_subset(&exports(&built.read("libboth.so")).unwrap()));
        assert!(!imports.is_subset(&exports(&built.read("libreference-one.so")).unwrap()));
    }
}
